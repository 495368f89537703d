//! CEL rules that more than one field of the custom resources needs, and their messages. The API server prints the
//! field's path in front of a message, so no message repeats it.

use kube::core::Rule;

/// A label key: optional DNS prefix, then a name of at most 63 characters.
const LABEL_KEY: &str =
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// A label value.
const LABEL_VALUE: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
/// Text in which every word in braces is one that is filled in; other braces, such as those of JSON, are text. One
/// expression, as the API server reckons what a rule may cost at worst.
const TEMPLATE: &str = "^([^{]|[{]TOKEN[}]|[{][}]|([{][A-Za-z]*)+([^A-Za-z{}]|$|[{]TOKEN[}]|[{][}]))*$";
/// The words that are filled in.
const TOKEN: &str = "(input|output|scratch|models|scale|tile|overlap|frames|outWidth|outHeight|outShort)";

/// A path on a claim that names one file below its root, in one way only.
pub fn relative_path() -> Rule {
    Rule::new(r"bytes(self).size() <= 1024 && !self.matches(r'\p{Cc}') && self.split('/').all(part, !(part in ['', '.', '..']))")
        .message("must be relative to the claim: at most 1024 bytes, without empty parts, '.', '..' and control characters")
}

/// Name of a Kubernetes object that follows the rules of DNS subdomains.
pub fn object_name(kind: &str) -> Rule {
    Rule::new(r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message(format!("must be the name of a {kind}: lower-case letters, digits, '-' and '.'").as_str())
}

/// A quantity of memory as [`super::quantity::parse`] reads it.
pub fn memory() -> Rule {
    Rule::new("self.matches('^[1-9][0-9]*(Mi|Gi)$')")
        .message("must be a whole number of Mi or Gi, such as 512Mi or 16Gi")
}

/// As [`memory`], or none.
pub fn memory_or_zero() -> Rule {
    Rule::new("self.matches('^(0|[1-9][0-9]*(Mi|Gi))$')")
        .message("must be 0 or a whole number of Mi or Gi, such as 512Mi or 1Gi")
}

/// A duration of at most 1,000 hours: hours, minutes, seconds in this order, seconds with up to six decimals.
pub fn duration() -> Rule {
    Rule::new("self.matches('^[0-9]') && self.matches('^([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}([.][0-9]{1,6})?s)?$') && duration(self) <= duration('1000h')")
        .message("must be a duration of at most 1000h, such as 90s, 1h2m or 12.5s")
}

/// Labels that a node can have.
pub fn labels() -> Rule {
    Rule::new(format!("self.all(key, key.matches(r'{LABEL_KEY}') && self[key].matches(r'{LABEL_VALUE}'))"))
        .message("must be labels as nodes have them, such as nvidia.com/gpu.product: NVIDIA-L40S")
}

/// Reference of a container image.
pub fn image() -> Rule {
    Rule::new(r"self.matches(r'^[A-Za-z0-9][^\s\p{Cc}]*$')").message("must be an image, by tag or digest")
}

/// Tiles by scale. An overlap of more than half a tile would be worked out more often than it is used.
pub fn tiles() -> Rule {
    Rule::new("self.all(scale, scale in ['2', '3', '4'] && self[scale].matches('^[1-9][0-9]{0,4}/[0-9]{1,5}$') && int(self[scale].split('/')[1]) * 2 <= int(self[scale].split('/')[0]))")
        .message("must be size/overlap by scale, the overlap at most half the size, such as \"4\": 192/24")
}

/// Environment of an engine: sound names, and none that says which GPU or libraries it gets.
pub fn environment() -> Rule {
    Rule::new("self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$') && !name.matches('^(NVIDIA_|LD_|CUDA_VISIBLE_DEVICES$)'))")
        .message("names must be letters, digits and underscores; NVIDIA_*, CUDA_VISIBLE_DEVICES and LD_* are the operator's")
}

/// Words of a command line, with tokens.
pub fn words() -> Rule {
    template("self.all(text, text.matches('TEMPLATE'))")
}

/// Values of an environment, with tokens.
pub fn values() -> Rule {
    template("self.all(name, self[name].matches('TEMPLATE'))")
}

fn template(rule: &str) -> Rule {
    Rule::new(rule.replace("TEMPLATE", TEMPLATE).replace("TOKEN", TOKEN)).message(
        "a word in braces must be one of {input} {output} {scratch} {models} {scale} {tile} {overlap} {frames} {outWidth} {outHeight} {outShort}",
    )
}
