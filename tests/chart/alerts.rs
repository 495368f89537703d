//! The alert rules as the chart renders them, played by promtool: each fires in a world that it is made for, no minute too
//! early, and is silent in a world that just misses it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::one;
use super::surroundings::with_file;

/// A series, and its values minute by minute in promtool's words: `0x20` is 0 and 20 times more, `0+3x20` grows by 3.
type Series = (&'static str, &'static str);

/// An alert in two worlds.
struct Case {
    alert: &'static str,
    /// The minute from which on its condition holds in the first world.
    since: u32,
    fires: &'static [Series],
    /// What stands in its summary for `{{ $value }}`.
    value: &'static str,
    /// Labels that it has beside its severity.
    labels: &'static [(&'static str, &'static str)],
    /// The second world.
    silent: &'static [Series],
}

const CASES: &[Case] = &[
    Case {
        alert: "UpscaleControllerDown",
        since: 11,
        fires: &[("upscale_controller_build_info{version='1'}", "1x10 stale _x20")],
        value: "",
        labels: &[],
        // One of two is gone.
        silent: &[
            ("upscale_controller_build_info{pod='a'}", "1x10 stale _x20"),
            ("upscale_controller_build_info{pod='b'}", "1x40"),
        ],
    },
    Case {
        alert: "UpscaleNoLeader",
        since: 11,
        // Of two releases one has no leader.
        fires: &[
            ("upscale_leader{namespace='one',pod='a'}", "1x10 0x20"),
            ("upscale_leader{namespace='one',pod='b'}", "0x30"),
            ("upscale_leader{namespace='two',pod='a'}", "1x30"),
        ],
        value: "",
        labels: &[("namespace", "one")],
        // The lead goes from one to the other.
        silent: &[
            ("upscale_leader{namespace='one',pod='a'}", "1x10 0x20"),
            ("upscale_leader{namespace='one',pod='b'}", "0x10 1x20"),
        ],
    },
    Case {
        alert: "UpscaleControllerPanics",
        since: 11,
        fires: &[("upscale_reconcile_panics_total{pod='a'}", "0x10 1x20")],
        value: "",
        labels: &[("pod", "a")],
        // The counter begins anew with the process.
        silent: &[("upscale_reconcile_panics_total{pod='a'}", "0x10 stale 0x20")],
    },
    Case {
        alert: "UpscaleNoGpuReport",
        since: 11,
        fires: &[("upscale_gpus{state='free'}", "4x10 0x20"), ("upscale_gpus{state='excluded'}", "0x30")],
        value: "",
        labels: &[],
        // What is not used is reported.
        silent: &[("upscale_gpus{state='free'}", "4x10 0x20"), ("upscale_gpus{state='excluded'}", "4x30")],
    },
    Case {
        alert: "UpscaleReportsStale",
        since: 11,
        fires: &[("upscale_gpus{state='stale'}", "0x10 2x20"), ("upscale_gpus{state='free'}", "8x30")],
        value: "2",
        labels: &[],
        // It comes and goes.
        silent: &[("upscale_gpus{state='stale'}", "0x10 2x10 0x1 2x20")],
    },
    Case {
        alert: "UpscaleJobStuck",
        since: 11,
        // Only the leader of two controllers tells of jobs and GPUs.
        fires: &[
            ("upscale_jobs{pod='a',status='WaitingForGpu'}", "0x10 3x80"),
            ("upscale_jobs{pod='a',status='Running'}", "5x90"),
            ("upscale_gpus{pod='a',state='free'}", "1x90"),
        ],
        value: "3",
        labels: &[],
        silent: &[
            ("upscale_jobs{pod='a',status='WaitingForGpu'}", "0x10 3x80"),
            ("upscale_gpus{pod='a',state='free'}", "0x90"),
            ("upscale_gpus{pod='a',state='foreign'}", "4x90"),
        ],
    },
    Case {
        alert: "UpscaleOomRateHigh",
        since: 1,
        fires: &[
            ("upscale_out_of_memory_total{verdict='OwnDemand'}", "0+2x120"),
            ("upscale_out_of_memory_total{verdict='ForeignProcess'}", "0+1x120"),
            ("upscale_segment_attempts_total{verdict='Succeeded'}", "0+7x120"),
            ("upscale_segment_attempts_total{verdict='OwnDemand'}", "0+2x120"),
            ("upscale_segment_attempts_total{verdict='ForeignProcess'}", "0+1x120"),
        ],
        value: "",
        labels: &[],
        // A fifth is not more than a fifth.
        silent: &[
            ("upscale_out_of_memory_total{verdict='OwnDemand'}", "0+2x120"),
            ("upscale_segment_attempts_total{verdict='Succeeded'}", "0+8x120"),
            ("upscale_segment_attempts_total{verdict='OwnDemand'}", "0+2x120"),
        ],
    },
    Case {
        alert: "UpscaleForeignMemoryHigh",
        since: 11,
        fires: &[("upscale_gpus{state='free'}", "3x90"), ("upscale_gpus{state='foreign'}", "0x10 4x80")],
        value: "",
        labels: &[],
        // Half is not more than half.
        silent: &[("upscale_gpus{state='free'}", "4x90"), ("upscale_gpus{state='foreign'}", "0x10 4x80")],
    },
    Case {
        alert: "UpscaleGpuUnhealthy",
        since: 11,
        fires: &[("upscale_gpus{state='unhealthy'}", "0x10 1x20"), ("upscale_gpus{state='free'}", "7x30")],
        value: "1",
        labels: &[],
        silent: &[("upscale_gpus{state='unhealthy'}", "0x30"), ("upscale_gpus{state='quarantined'}", "1x30")],
    },
    Case {
        alert: "UpscaleGpuQuarantined",
        since: 11,
        fires: &[("upscale_gpus{state='quarantined'}", "0x10 1x80")],
        value: "1",
        labels: &[],
        // It lifts itself.
        silent: &[("upscale_gpus{state='quarantined'}", "0x10 1x55 0x20")],
    },
    Case {
        alert: "UpscaleApiErrors",
        since: 1,
        fires: &[
            ("upscale_api_requests_total{code='200',verb='get'}", "0+25x90"),
            ("upscale_api_requests_total{code='503',verb='get'}", "0+1x90"),
            ("upscale_api_requests_total{code='429',verb='patch'}", "0+1x90"),
            ("upscale_api_requests_total{code='none',verb='get'}", "0+1x90"),
        ],
        value: "",
        labels: &[],
        // Conflicts and what is not there are answers.
        silent: &[
            ("upscale_api_requests_total{code='200',verb='get'}", "0+10x90"),
            ("upscale_api_requests_total{code='404',verb='get'}", "0+20x90"),
            ("upscale_api_requests_total{code='409',verb='update'}", "0+20x90"),
            ("upscale_api_requests_total{code='503',verb='get'}", "0+1x90"),
        ],
    },
];

/// The group of rules as the chart's users get it.
fn group() -> Value {
    let objects = with_file("monitoring");
    one(&objects, "PrometheusRule", "video-upscale-alerts")["spec"].clone()
}

/// Runs promtool: the program that the variable `PROMTOOL` names, else the one on PATH. It has to be content.
fn promtool(folder: &Path, args: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "the edge of the tests")]
    let program = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let output = Command::new(&program).args(args).current_dir(folder).output().unwrap_or_else(|error| {
        panic!(
            "cannot run {}: {error}. Put Prometheus' promtool on PATH or name it in the variable PROMTOOL; \
             `cargo xtask test` does",
            program.display()
        )
    });
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn promtool_finds_no_fault_in_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules"), group().to_string()).unwrap();
    let said = promtool(folder.path(), &["check", "rules", "--lint=all", "--lint-fatal", "rules"]);
    assert!(said.contains(&format!("{} rules found", CASES.len())), "{said}");
}

#[test]
fn each_alert_fires_in_its_time_and_not_without_its_cause() {
    let group = group();
    let rules: BTreeMap<&str, &Value> = group["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["alert"].as_str().unwrap(), rule))
        .collect();
    let cases: BTreeSet<&str> = CASES.iter().map(|case| case.alert).collect();
    assert_eq!(cases, rules.keys().copied().collect(), "each alert has its two worlds");
    let worlds: Vec<Value> = CASES.iter().flat_map(|case| worlds(case, rules[case.alert])).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules"), group.to_string()).unwrap();
    let tests = json!({"rule_files": ["rules"], "evaluation_interval": "1m", "tests": worlds});
    std::fs::write(folder.path().join("tests"), tests.to_string()).unwrap();
    promtool(folder.path(), &["test", "rules", "tests"]);
}

/// Both worlds of a case, in promtool's form.
fn worlds(case: &Case, rule: &Value) -> [Value; 2] {
    let due = case.since + minutes(rule["for"].as_str().unwrap());
    let mut labels = rule["labels"].clone();
    for (name, value) in case.labels {
        labels[*name] = json!(value);
    }
    let mut annotations = rule["annotations"].clone();
    let summary = annotations["summary"].as_str().unwrap().replace("{{ $value }}", case.value);
    annotations["summary"] = summary.into();
    let fired = json!([{"exp_labels": labels, "exp_annotations": annotations}]);
    let asked = |minute: u32, expected: Value| json!({"eval_time": format!("{minute}m"), "alertname": case.alert, "exp_alerts": expected});
    let world = |series: &[Series], questions: Value| {
        let series: Vec<Value> =
            series.iter().map(|(series, values)| json!({"series": series, "values": values})).collect();
        json!({"interval": "1m", "input_series": series, "alert_rule_test": questions})
    };
    [
        world(case.fires, json!([asked(due - 1, json!([])), asked(due, fired)])),
        world(case.silent, json!([asked(due, json!([])), asked(due + 5, json!([]))])),
    ]
}

/// A duration of a rule.
fn minutes(text: &str) -> u32 {
    let (number, unit) = text.split_at(text.len() - 1);
    number.parse::<u32>().unwrap() * if unit == "h" { 60 } else { 1 }
}
