//! Objects that the API server must take or refuse, and what it must say. One table for two judges: the rules alone
//! ([`super::offline`]) and a real API server ([`super::online`]).

use serde_json::{Value, json};

/// Which object a case starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The smallest VideoUpscale.
    Job,
    /// The chart's profile.
    Profile,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Taken,
    /// A CEL rule with this message refuses it.
    Rule(&'static str),
    /// The schema refuses it, saying this among other things.
    Schema(&'static str),
}

use Base::{Job, Profile};
use Verdict::{Rule, Schema, Taken};

/// A new object: pointers into the base object, and what is put there (`-` takes the field away).
pub type Case = (Base, &'static [(&'static str, &'static str)], Verdict);

const PATH: &str = "must be relative to the claim: at most 1024 bytes, without empty parts, '.', '..' and control characters";
const CLAIM: &str = "must be the name of a PersistentVolumeClaim: lower-case letters, digits, '-' and '.'";
const DURATION: &str = "must be a duration of at most 1000h, such as 90s, 1h2m or 12.5s";
const MEMORY: &str = "must be a whole number of Mi or Gi, such as 512Mi or 16Gi";
const MEMORY_OR_ZERO: &str = "must be 0 or a whole number of Mi or Gi, such as 512Mi or 1Gi";
const LABELS: &str = "must be labels as nodes have them, such as nvidia.com/gpu.product: NVIDIA-L40S";
const EXTENSION: &str = "must end with .mp4, .mov or .mkv";
const SOURCE: &str = "must not be the source";
const SHORT: &str =
    "metadata.name must be at most 50 characters without dots, as the names of its pods begin with it";
const ORDER: &str = "first must not come after last";
const TOKENS: &str = "a word in braces must be one of {input} {output} {scratch} {models} {scale} {tile} {overlap} {frames} {outWidth} {outHeight} {outShort}";
const ENVIRONMENT: &str = "names must be letters, digits and underscores; NVIDIA_*, CUDA_VISIBLE_DEVICES and LD_* are the operator's";
const IMAGE: &str = "must be an image, by tag or digest";
const MODELS: &str = "exactly one of image and claim must be set";
const MODELS_PATH: &str =
    "must be absolute, without empty parts, '.' and '..', and not below /scratch, /tmp, /dev, /proc or /sys";
const TILES: &str = "must be size/overlap by scale, the overlap at most half the size, such as \"4\": 192/24";
const UNCHANGEABLE: &str = "source, destination, scale, range, profile, segmentation, encode and input cannot be changed; delete this VideoUpscale and create another";

/// New objects.
pub const NEW: &[Case] = &[
    (Job, &[], Taken),
    // Names.
    (Job, &[("/metadata/name", r#""a23456789-123456789-123456789-123456789-123456789-z""#)], Rule(SHORT)),
    (Job, &[("/metadata/name", r#""a23456789-123456789-123456789-123456789-123456789z""#)], Taken),
    (Job, &[("/metadata/name", r#""a.b""#)], Rule(SHORT)),
    // Files.
    (Job, &[("/spec/source", "-")], Schema("spec.source: Required value")),
    (Job, &[("/spec/source/path", r#""/in/a.mp4""#)], Rule(PATH)),
    (Job, &[("/spec/source/path", r#""in/../../a.mp4""#)], Rule(PATH)),
    (Job, &[("/spec/source/path", r#""in/./a.mp4""#)], Rule(PATH)),
    (Job, &[("/spec/source/path", r#""in//a.mp4""#)], Rule(PATH)),
    (Job, &[("/spec/source/path", r#""in/""#)], Rule(PATH)),
    (Job, &[("/spec/source/path", r#""in/a\n.mp4""#)], Rule(PATH)),
    (Job, &[("/spec/source/path", r#""in/a\u0085.mp4""#)], Rule(PATH)),
    (Job, &[("/spec/source/path", r#""""#)], Schema("should be at least 1 chars long")),
    (Job, &[("/spec/source/path", r#""in/..a/..mp4""#)], Taken),
    (Job, &[("/spec/source/path", r#""in/Ferien – 東京 (1).mp4""#)], Taken),
    (Job, &[("/spec/source/claim/name", r#""Media""#)], Rule(CLAIM)),
    (Job, &[("/spec/source/claim/name", r#""../other""#)], Rule(CLAIM)),
    (Job, &[("/spec/source/claim/name", r#""media.v2""#)], Taken),
    (Job, &[("/spec/destination/path", r#""in/a.mp4""#)], Rule(SOURCE)),
    (
        Job,
        &[("/spec/destination/path", r#""in/a.mp4""#), ("/spec/destination/claim/name", r#""other""#)],
        Taken,
    ),
    (Job, &[("/spec/destination/path", r#""out/../a.mp4""#)], Rule(PATH)),
    (Job, &[("/spec/destination/path", r#""out/a.avi""#)], Rule(EXTENSION)),
    (Job, &[("/spec/destination/path", r#""out/a.MP4""#)], Rule(EXTENSION)),
    (Job, &[("/spec/destination/path", r#""out/.mp4""#)], Rule(EXTENSION)),
    (Job, &[("/spec/destination/path", r#""a.mov""#)], Taken),
    (Job, &[("/spec/destination/path", r#""out/a.b.mkv""#)], Taken),
    (
        Job,
        &[("/spec/destination/path", r#"".upscale/a.mp4""#)],
        Rule("must not lie in .upscale, where the parts of unfinished films are kept"),
    ),
    (Job, &[("/spec/destination/ifExists", r#""Overwrite""#)], Taken),
    (
        Job,
        &[("/spec/destination/ifExists", r#""overwrite""#)],
        Schema(r#"supported values: "Fail", "Overwrite""#),
    ),
    // What of the film, and how.
    (Job, &[("/spec/scale", "5")], Schema("should be less than or equal to 4")),
    (Job, &[("/spec/scale", "1")], Schema("should be greater than or equal to 2")),
    (Job, &[("/spec/scale", "2.5")], Schema("must be of type integer")),
    (Job, &[("/spec/scale", "3")], Taken),
    (Job, &[("/spec/scale", "null")], Taken),
    (Job, &[("/spec/range", r#"{"start": "90s"}"#)], Taken),
    (Job, &[("/spec/range", r#"{"start": "1h2m", "length": "12.5s"}"#)], Taken),
    (Job, &[("/spec/range", r#"{"start": "1000h"}"#)], Taken),
    (Job, &[("/spec/range", r#"{"start": "1000h0.000001s"}"#)], Rule(DURATION)),
    (Job, &[("/spec/range", r#"{"start": "2m1h"}"#)], Rule(DURATION)),
    (Job, &[("/spec/range", r#"{"start": "-5s"}"#)], Rule(DURATION)),
    (Job, &[("/spec/range", r#"{"start": "90"}"#)], Rule(DURATION)),
    (Job, &[("/spec/range", r#"{"start": "1.5m"}"#)], Rule(DURATION)),
    (Job, &[("/spec/range", r#"{"start": "500ms"}"#)], Rule(DURATION)),
    (Job, &[("/spec/range", r#"{"length": "99999h"}"#)], Rule(DURATION)),
    (Job, &[("/spec/range", r#"{"start": "0s", "length": "0m0.0s"}"#)], Rule("must be longer than nothing")),
    (
        Job,
        &[("/spec/profile", r#""FlashVSR""#)],
        Rule("must be the name of a UpscaleProfile: lower-case letters, digits, '-' and '.'"),
    ),
    (Job, &[("/spec/profile", r#""flashvsr""#)], Taken),
    (Job, &[("/spec/steps", r#"{"first": 3, "last": 3}"#)], Taken),
    (Job, &[("/spec/steps", r#"{"last": 0}"#)], Taken),
    (Job, &[("/spec/steps", r#"{"first": 4, "last": 3}"#)], Rule(ORDER)),
    (Job, &[("/spec/steps", r#"{"first": 16}"#)], Schema("should be less than or equal to 15")),
    (Job, &[("/spec/segmentation", r#"{"frames": 15}"#)], Schema("should be greater than or equal to 16")),
    (Job, &[("/spec/segmentation", r#"{"frames": 2000}"#)], Taken),
    (Job, &[("/spec/encode", r#"{"codec": "HEVC", "quality": 0, "preset": "Slow"}"#)], Taken),
    (Job, &[("/spec/encode", r#"{"codec": "AV1"}"#)], Schema(r#"supported values: "H264", "HEVC""#)),
    (Job, &[("/spec/encode", r#"{"codec": null}"#)], Taken),
    (Job, &[("/spec/encode", "null")], Taken),
    (Job, &[("/spec/encode", r#"{"quality": 41}"#)], Schema("should be less than or equal to 40")),
    (Job, &[("/spec/input", r#"{"videoStream": 32}"#)], Schema("should be less than or equal to 31")),
    (
        Job,
        &[(
            "/spec/input",
            r#"{"videoStream": 0, "deinterlace": "Field", "dropAlpha": true, "strict": true}"#,
        )],
        Taken,
    ),
    (Job, &[("/spec/verify", r#""Full""#)], Taken),
    (Job, &[("/spec/verify", r#""No""#)], Schema("Unsupported value")),
    // Memory.
    (
        Job,
        &[("/spec/degradation", r#"{"policy": "Never", "patienceSeconds": 0, "consistency": "Uniform"}"#)],
        Taken,
    ),
    (
        Job,
        &[("/spec/degradation", r#"{"patienceSeconds": 86401}"#)],
        Schema("should be less than or equal to 86400"),
    ),
    (Job, &[("/spec/gpu", r#"{"minFreeMemory": "16Gi", "headroom": "0"}"#)], Taken),
    (Job, &[("/spec/gpu", r#"{"minFreeMemory": "0"}"#)], Schema("should be at least 3 chars long")),
    (Job, &[("/spec/gpu", r#"{"minFreeMemory": "16G"}"#)], Rule(MEMORY)),
    (Job, &[("/spec/gpu", r#"{"minFreeMemory": "1.5Gi"}"#)], Rule(MEMORY)),
    (Job, &[("/spec/gpu", r#"{"minFreeMemory": "010Gi"}"#)], Rule(MEMORY)),
    (Job, &[("/spec/gpu", r#"{"minFreeMemory": "99999999Gi"}"#)], Schema("may not be more than 9")),
    (Job, &[("/spec/gpu", r#"{"headroom": "512Mi"}"#)], Taken),
    (Job, &[("/spec/gpu", r#"{"headroom": "00"}"#)], Rule(MEMORY_OR_ZERO)),
    (Job, &[("/spec/gpu", r#"{"headroom": "-1Gi"}"#)], Rule(MEMORY_OR_ZERO)),
    (
        Job,
        &[("/spec/gpu", r#"{"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S", "zone": ""}}"#)],
        Taken,
    ),
    (Job, &[("/spec/gpu", r#"{"nodeSelector": {"zone": "not a label"}}"#)], Rule(LABELS)),
    (Job, &[("/spec/gpu", r#"{"nodeSelector": {"a/b/c": "x"}}"#)], Rule(LABELS)),
    (Job, &[("/spec/gpu", r#"{"products": ["L40S", "A100"], "foreignProcesses": "Forbid"}"#)], Taken),
    (Job, &[("/spec/gpu", r#"{"products": [""]}"#)], Schema("should be at least 1 chars long")),
    (Job, &[("/spec/parallelism", "0")], Schema("should be greater than or equal to 1")),
    (Job, &[("/spec/parallelism", "1024")], Taken),
    (Job, &[("/spec/attemptsPerSegment", "21")], Schema("should be less than or equal to 20")),
    (Job, &[("/spec/activeDeadlineSeconds", "59")], Schema("should be greater than or equal to 60")),
    (Job, &[("/spec/ttlSecondsAfterFinished", "0")], Taken),
    (Job, &[("/spec/ttlSecondsAfterFinished", "-1")], Schema("should be greater than or equal to 0")),
    (Job, &[("/spec/image", r#""evil""#)], Schema("unknown field")),
    // Profiles.
    (Profile, &[], Taken),
    (
        Profile,
        &[("/metadata/name", r#""a23456789-123456789-123456789-123456789-123456789-123456789-123z""#)],
        Rule("metadata.name must be at most 63 characters"),
    ),
    (Profile, &[("/spec/scales", "[2, 5]")], Schema("should be less than or equal to 4")),
    (Profile, &[("/spec/scales", "[2, 2]")], Schema("Duplicate value")),
    (Profile, &[("/spec/scales", "[]")], Schema("should have at least 1 items")),
    (Profile, &[("/spec/engine/image", r#""an image""#)], Rule(IMAGE)),
    (Profile, &[("/spec/engine/image", r#""registry:5000/a/b@sha256:0123""#)], Taken),
    (Profile, &[("/spec/engine/command", r#"["run", "{frame}"]"#)], Rule(TOKENS)),
    (
        Profile,
        &[("/spec/engine/args", r#"["{input}{models}x{outShort}", "{\"a\": {}}", "{", "}{", "{{scale}"]"#)],
        Taken,
    ),
    (Profile, &[("/spec/engine/args", r#"["--in={Input}"]"#)], Rule(TOKENS)),
    (Profile, &[("/spec/engine/args", r#"["{{nothing}"]"#)], Rule(TOKENS)),
    (Profile, &[("/spec/engine/env", r#"{"A_1": "{tile}/{overlap}"}"#)], Taken),
    (Profile, &[("/spec/engine/env", r#"{"A": "{home}"}"#)], Rule(TOKENS)),
    (Profile, &[("/spec/engine/env", r#"{"NVIDIA_VISIBLE_DEVICES": "all"}"#)], Rule(ENVIRONMENT)),
    (Profile, &[("/spec/engine/env", r#"{"CUDA_VISIBLE_DEVICES": "0"}"#)], Rule(ENVIRONMENT)),
    (Profile, &[("/spec/engine/env", r#"{"LD_PRELOAD": "/x.so"}"#)], Rule(ENVIRONMENT)),
    (Profile, &[("/spec/engine/env", r#"{"1A": ""}"#)], Rule(ENVIRONMENT)),
    (Profile, &[("/spec/engine/env", r#"{"CUDA_VISIBLE_DEVICES_X": "", "MY_LD_PATH": ""}"#)], Taken),
    (Profile, &[("/spec/engine/user", "0")], Schema("should be greater than or equal to 1")),
    (Profile, &[("/spec/engine/models", r#"{"claim": "weights", "path": "/models"}"#)], Taken),
    (Profile, &[("/spec/engine/models", "-"), ("/spec/engine/args", r#"["{input}"]"#)], Taken),
    (Profile, &[("/spec/engine/models/claim", r#""weights""#)], Rule(MODELS)),
    (Profile, &[("/spec/engine/models", r#"{"path": "/models"}"#)], Rule(MODELS)),
    (Profile, &[("/spec/engine/models", r#"{"claim": "W", "path": "/models"}"#)], Rule(CLAIM)),
    (Profile, &[("/spec/engine/models/image", r#""an image""#)], Rule(IMAGE)),
    (Profile, &[("/spec/engine/models/path", r#""models""#)], Rule(MODELS_PATH)),
    (Profile, &[("/spec/engine/models/path", r#""/models/../etc""#)], Rule(MODELS_PATH)),
    (Profile, &[("/spec/engine/models/path", r#""/scratch/models""#)], Rule(MODELS_PATH)),
    (Profile, &[("/spec/engine/models/path", r#""/scratches""#)], Taken),
    (
        Profile,
        &[
            ("/spec/engine/priorityClassName", r#""low""#),
            ("/spec/engine/runtimeClassName", r#""nvidia""#),
            ("/spec/engine/pullSecrets", r#"["registry"]"#),
            ("/spec/engine/tolerations", r#"[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]"#),
            ("/spec/engine/capabilities", r#"["Compute", "Graphics"]"#),
        ],
        Taken,
    ),
    (
        Profile,
        &[("/spec/engine/priorityClassName", r#""Low""#)],
        Rule("must be the name of a PriorityClass: lower-case letters, digits, '-' and '.'"),
    ),
    (
        Profile,
        &[("/spec/engine/runtimeClassName", r#""Nvidia""#)],
        Rule("must be the name of a RuntimeClass: lower-case letters, digits, '-' and '.'"),
    ),
    (Profile, &[("/spec/engine/tolerations", r#"[{"operator": "Always"}]"#)], Schema("Unsupported value")),
    (Profile, &[("/spec/input/frames/remainder", "8")], Rule("remainder must be less than multiple")),
    (Profile, &[("/spec/input/frames/remainder", "7")], Taken),
    (Profile, &[("/spec/input/context/leastBefore", "25")], Rule("leastBefore must not be more than before")),
    (Profile, &[("/spec/output/path", r#""../out.mp4""#)], Rule(PATH)),
    (
        Profile,
        &[("/spec/output/badBorder", "9")],
        Rule("must be at most input.pad x each scale, as the padding is what is cut off"),
    ),
    (Profile, &[("/spec/output/badBorder", "8")], Taken),
    (
        Profile,
        &[("/spec/failure", r#"{"text": "Patterns"}"#)],
        Rule("text: Patterns needs patterns in outOfMemory"),
    ),
    (Profile, &[("/spec/failure", r#"{"text": "Patterns", "outOfMemory": ["no memory"]}"#)], Taken),
    (Profile, &[("/spec/failure/fragmentationEnv", r#"{"LD_PRELOAD": "x"}"#)], Rule(ENVIRONMENT)),
    (Profile, &[("/spec/failure/fragmentationEnv", r#"{"A": "{nothing}"}"#)], Rule(TOKENS)),
    (Profile, &[("/spec/steps", r#"{"first": 5, "last": 4}"#)], Rule(ORDER)),
    (Profile, &[("/spec/steps", r#"{"first": 10}"#)], Rule("must be steps of the ladder, counted from 0")),
    (Profile, &[("/spec/steps", r#"{"last": 9}"#)], Taken),
    (Profile, &[("/spec/ladder", "[]")], Schema("should have at least 1 items")),
    (Profile, &[("/spec/ladder/1/name", r#""full-2048""#)], Rule("each step must have a name of its own")),
    (Profile, &[("/spec/ladder/0/args", r#"["{steps}"]"#)], Rule(TOKENS)),
    (Profile, &[("/spec/ladder/0/tiles", r#"{"4": "512"}"#)], Rule(TILES)),
    (Profile, &[("/spec/ladder/0/tiles", r#"{"4": "512/257"}"#)], Rule(TILES)),
    (Profile, &[("/spec/ladder/0/tiles", r#"{"8": "512/32"}"#)], Rule(TILES)),
    (Profile, &[("/spec/ladder/0/tiles", r#"{"4": "512/256"}"#)], Taken),
    (Profile, &[("/spec/ladder/0/tiles", "-")], Taken),
    (Profile, &[("/spec/scales", "[2, 4]")], Rule("tiles must be of the scales offered")),
    (
        Profile,
        &[("/spec/ladder/0/tiles", r#"{"4": "500/48"}"#)],
        Rule("size x scale of each tile must be a multiple of tile.multiple"),
    ),
    (
        Profile,
        &[
            (
                "/spec/ladder",
                r#"[{"name": "one", "tiles": {"2": "512/64", "3": "384/48"}, "gpu": [{"fixedMiB": 1}]}]"#,
            ),
            ("/spec/steps", "{}"),
        ],
        Rule("each scale must be offered by a step of the ladder"),
    ),
    (Profile, &[("/spec/ladder/0/gpu", "[]")], Schema("should have at least 1 items")),
];

/// Changes of a VideoUpscale: what was put there, what is put there, and what must come of it.
pub const CHANGES: &[(&str, Option<&str>, Option<&str>, Verdict)] = &[
    ("/spec/source/path", Some(r#""in/a.mp4""#), Some(r#""in/b.mp4""#), Rule(UNCHANGEABLE)),
    ("/spec/destination/path", Some(r#""out/a.mp4""#), Some(r#""out/b.mp4""#), Rule(UNCHANGEABLE)),
    ("/spec/destination/ifExists", None, Some(r#""Overwrite""#), Rule(UNCHANGEABLE)),
    ("/spec/scale", Some("2"), Some("3"), Rule(UNCHANGEABLE)),
    ("/spec/scale", None, Some("2"), Rule(UNCHANGEABLE)),
    ("/spec/scale", Some("2"), None, Rule(UNCHANGEABLE)),
    ("/spec/range", Some(r#"{"start": "1s"}"#), Some(r#"{"start": "2s"}"#), Rule(UNCHANGEABLE)),
    ("/spec/range", None, Some(r#"{"start": "2s"}"#), Rule(UNCHANGEABLE)),
    ("/spec/profile", Some(r#""a""#), Some(r#""b""#), Rule(UNCHANGEABLE)),
    ("/spec/profile", Some(r#""a""#), None, Rule(UNCHANGEABLE)),
    ("/spec/segmentation", None, Some(r#"{"frames": 16}"#), Rule(UNCHANGEABLE)),
    ("/spec/encode", None, Some(r#"{"quality": 17}"#), Rule(UNCHANGEABLE)),
    ("/spec/encode", None, Some(r#"{"quality": 16}"#), Taken),
    ("/spec/input", None, Some(r#"{"strict": true}"#), Rule(UNCHANGEABLE)),
    ("/spec/suspend", None, Some("true"), Taken),
    ("/spec/steps", None, Some(r#"{"first": 3}"#), Taken),
    ("/spec/degradation", None, Some(r#"{"policy": "Never"}"#), Taken),
    ("/spec/verify", None, Some(r#""Cheap""#), Taken),
    ("/spec/gpu", None, Some(r#"{"headroom": "2Gi"}"#), Taken),
    ("/spec/parallelism", Some("4"), Some("5"), Taken),
    ("/spec/attemptsPerSegment", Some("4"), Some("5"), Taken),
    ("/spec/activeDeadlineSeconds", None, Some("3600"), Taken),
    ("/spec/ttlSecondsAfterFinished", Some("3600"), None, Taken),
];

/// The object that a kind's cases start from.
pub fn base(kind: Base) -> Value {
    match kind {
        Job => json!({
            "apiVersion": "upscale.video/v1alpha1",
            "kind": "VideoUpscale",
            "metadata": {"name": "holiday"},
            "spec": {
                "source": {"claim": {"name": "media"}, "path": "in/a.mp4"},
                "destination": {"claim": {"name": "media"}, "path": "out/a.mp4"},
            },
        }),
        Profile => json!({
            "apiVersion": "upscale.video/v1alpha1",
            "kind": "UpscaleProfile",
            "metadata": {"name": "flashvsr"},
            "spec": shipped(),
        }),
    }
}

/// The spec of the profile that the chart ships.
fn shipped() -> Value {
    let values: Value =
        serde_saphyr::from_str(include_str!("../../charts/video-upscale/values.yaml")).unwrap();
    values["profiles"]["flashvsr"]["spec"].clone()
}

/// Puts a value where the pointer says, or takes away what is there.
pub fn put(object: &mut Value, pointer: &str, value: Option<&str>) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let key = &key.replace("~1", "/");
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}"));
    match (parent, value.filter(|text| *text != "-")) {
        (Value::Array(items), Some(text)) if key == "+" => items.push(serde_json::from_str(text).unwrap()),
        (Value::Array(items), Some(text)) => {
            items[key.parse::<usize>().unwrap()] = serde_json::from_str(text).unwrap();
        }
        (Value::Object(fields), Some(text)) => {
            fields.insert(key.to_owned(), serde_json::from_str(text).unwrap());
        }
        (Value::Object(fields), None) => {
            fields.remove(key);
        }
        _ => panic!("nothing can be put at {pointer}"),
    }
}

/// The object of a case.
pub fn object((kind, changes, _): &Case) -> Value {
    let mut object = base(*kind);
    for (pointer, value) in *changes {
        put(&mut object, pointer, Some(value));
    }
    object
}
