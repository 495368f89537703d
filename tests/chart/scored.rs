//! Every rendering of the chart, and a job's pods, as kube-score sees them: nothing that it complains of, but for what has its reason here.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::rendered::{chart, helm, repository};
use super::{NAMESPACE, alternatives};

/// A complaint without cause.
struct Excuse {
    /// The end of its words.
    words: &'static str,
    /// Part of the object's name.
    object: &'static str,
    holds: Holds,
    /// Why it is none.
    why: &'static str,
}

/// For which values files of `ci/` an excuse holds.
enum Holds {
    Always,
    With(&'static str),
    Without(&'static str),
}

const fn always(words: &'static str, why: &'static str) -> Excuse {
    Excuse { words, object: "", holds: Holds::Always, why }
}

const fn of(object: &'static str, words: &'static str, why: &'static str) -> Excuse {
    Excuse { words, object, holds: Holds::Always, why }
}

const EXCUSED: &[Excuse] = &[
    always("CPU limit is not set", "a request shares already, and a limit would only throttle"),
    always(
        "Ephemeral Storage limit is not set",
        "root file systems are read-only, and the one volume has a limit",
    ),
    always("Ephemeral Storage request is not set", "nothing is stored but logs, which the kubelet bounds"),
    always(
        "ImagePullPolicy is not set to Always",
        "a tag is a version and never moves; who doubts it sets a digest",
    ),
    always(
        "does not have a host podAntiAffinity set",
        "topologySpreadConstraints keep the controllers apart",
    ),
    of("video-upscale-jobs", "selector doesn't match any pods", "it is for pods that the controller makes"),
    of(
        "video-upscale-pre-pull",
        "does not have a matching NetworkPolicy",
        "it sleeps; the node pulls the images",
    ),
    of("video-upscale-test", "does not have a matching NetworkPolicy", "it is there while somebody looks on"),
    of("(upscale-", "running with a low user ID", "the engine's, which its profile names"),
    Excuse {
        words: "does not have a matching NetworkPolicy",
        object: "",
        holds: Holds::Without("network-policy"),
        why: "off by default, as not every cluster has them",
    },
    Excuse {
        words: "running with a low user ID",
        object: "",
        holds: Holds::With("openshift"),
        why: "unset, as the namespace gives one of its own range",
    },
    Excuse {
        words: "running with a low group ID",
        object: "",
        holds: Holds::With("openshift"),
        why: "unset, as the namespace gives one of its own range",
    },
];

impl Excuse {
    fn is_for(&self, complaint: &str, source: &str) -> bool {
        let holds = match self.holds {
            Holds::Always => true,
            Holds::With(file) => source.contains(file),
            Holds::Without(file) => !source.contains(file),
        };
        holds && complaint.ends_with(self.words) && complaint.contains(self.object)
    }
}

/// Runs kube-score, the program that the variable `KUBE_SCORE` names or else the one on PATH, over manifests; its
/// complaints, one a line.
fn complaints(manifests: &[u8]) -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "the edge of the tests")]
    let program = std::env::var_os("KUBE_SCORE").unwrap_or_else(|| "kube-score".into());
    let mut scorer = Command::new(&program);
    scorer.args(["score", "--output-format", "ci", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = scorer.spawn().unwrap_or_else(|error| {
        panic!(
            "cannot run {}: {error}. Put kube-score on PATH or name it in the variable KUBE_SCORE; `cargo xtask test` does",
            program.display()
        )
    });
    child.stdin.take().unwrap().write_all(manifests).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("[OK] "), "it has judged nothing: {said}");
    said.lines()
        .filter(|line| line.starts_with("[CRITICAL]") || line.starts_with("[WARNING]"))
        .map(str::to_owned)
        .collect()
}

/// Finds the excuse of each complaint about manifests.
fn judge(source: &str, manifests: &[u8], used: &mut BTreeSet<usize>) {
    for complaint in complaints(manifests) {
        let excuse = EXCUSED.iter().position(|excuse| excuse.is_for(&complaint, source));
        used.insert(excuse.unwrap_or_else(|| panic!("{source}: {complaint}")));
    }
}

#[test]
fn every_complaint_has_its_excuse() {
    let mut used = BTreeSet::new();
    for values in std::iter::once(Vec::new()).chain(alternatives().into_iter().map(Vec::from)) {
        let chart = chart();
        let args = ["template", "video-upscale", chart.to_str().unwrap(), "--namespace", NAMESPACE]
            .map(str::to_owned);
        let output = helm(args.into_iter().chain(values.clone()));
        assert!(output.status.success(), "{values:?}");
        judge(&values.concat(), &output.stdout, &mut used);
    }
    for pod in ["probe", "segment", "pieces", "merge"] {
        let file = format!("src/controllers/video_upscale/pods/testdata/{pod}.json");
        judge(&file, &std::fs::read(repository().join(&file)).unwrap(), &mut used);
    }
    for Excuse { object, words, why, .. } in EXCUSED {
        println!("excused: {object} {words}: {why}");
    }
    let idle = EXCUSED.iter().enumerate().filter(|(index, _)| !used.contains(index));
    let idle: Vec<&str> = idle.map(|(_, excuse)| excuse.words).collect();
    assert!(idle.is_empty(), "nobody complains of {idle:?}");
}
