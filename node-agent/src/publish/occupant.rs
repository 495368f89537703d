//! Whose agent a node is reported by. What stands there may be of a newer release, whose report this agent cannot read:
//! it is asked for no more than who wrote it and whether that agent lives.

use jiff::Timestamp;
use serde_json::Value;
use video_upscale::api::report::{Report, State};

use super::node::Annotations;
use crate::clock::Now;

/// A heartbeat this many periods old is dead: the limit from which readers do not count the GPUs either.
const DEAD_AFTER_PERIODS: i64 = 4;
/// Heartbeat period of a report that says none, and the longest that is believed, seconds.
const USUAL_PERIOD: i64 = 300;
const LONGEST_PERIOD: i64 = 3_600;
/// Longest name of a namespace.
const MAX_NAMESPACE: usize = 63;

/// Namespace of another release whose agent lives on this node, whatever version its report has. Annotations that name
/// no release have no owner.
pub fn occupant(standing: &Annotations, own: &Report, now: Now) -> Option<String> {
    let report: Value = serde_json::from_str(standing.report.as_deref()?).ok()?;
    let text = |key: &str| report.get(key).and_then(Value::as_str);
    let namespace = text("ns").filter(|namespace| *namespace != own.ns)?;
    let beat = standing.heartbeat.as_deref().map(Beat::of).unwrap_or_default();
    let state = beat.state.or_else(|| text("state").map(State::parse));
    let at = text("at").and_then(|at| at.parse().ok()).max(beat.at)?;
    let period = report.get("hb").and_then(Value::as_i64).unwrap_or(USUAL_PERIOD).clamp(1, LONGEST_PERIOD);
    let age = now.wall.as_second().saturating_sub(at.as_second()).saturating_abs();
    let alive = state != Some(State::Stopped) && age < period.saturating_mul(DEAD_AFTER_PERIODS);
    let told = || namespace.chars().filter(|c| !c.is_control()).take(MAX_NAMESPACE).collect();
    alive.then(told)
}

/// What a heartbeat of any version says of its agent's life.
#[derive(Default)]
struct Beat {
    at: Option<Timestamp>,
    state: Option<State>,
}

impl Beat {
    fn of(text: &str) -> Self {
        let of = |key: &str| text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Self { at: of("at").and_then(|at| at.parse().ok()), state: of("state").map(State::parse) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn owner(report_text: &str, heartbeat: Option<&str>, second: u64) -> Option<String> {
        let standing = Annotations {
            report: Some(report_text.to_owned()),
            heartbeat: heartbeat.map(str::to_owned),
            version: None,
        };
        occupant(&standing, &report(vec![]), Now::at(second))
    }

    #[test]
    fn a_report_of_any_version_has_an_owner_as_long_as_its_agent_lives() {
        let at = |second| Now::at(second).wall;
        let newer =
            format!(r#"{{"v":7,"ns":"others","hb":60,"at":"{}","state":"ok","cards":[]}}"#, at(1_000));
        let beat = |second: u64, state: &str| format!("v7 mood=3 at={} state={state}", at(second));
        let others = Some("others".to_owned());
        let table = [
            ("its own time", None, 1_239, others.clone()),
            ("four periods later", None, 1_240, None),
            ("a later heartbeat", Some(beat(1_200, "ok")), 1_439, others.clone()),
            ("four periods after that", Some(beat(1_200, "ok")), 1_440, None),
            ("an older heartbeat", Some(beat(0, "ok")), 1_239, others.clone()),
            ("a state of its own", Some(beat(1_200, "resting")), 1_300, others.clone()),
            ("stopped", Some(beat(1_200, "stopped")), 1_201, None),
            ("a heartbeat that is none", Some("?".to_owned()), 1_100, others),
        ];
        for (what, heartbeat, second, expected) in table {
            assert_eq!(owner(&newer, heartbeat.as_deref(), second), expected, "{what}");
        }
    }

    #[test]
    fn what_names_no_release_or_this_one_or_no_time_has_no_owner() {
        let at = Now::at(0).wall;
        for text in [
            String::new(),
            "nonsense".to_owned(),
            "[]".to_owned(),
            format!(r#"{{"v":1,"at":"{at}"}}"#),
            format!(r#"{{"ns":3,"at":"{at}"}}"#),
            format!(r#"{{"ns":"ops","at":"{at}"}}"#),
            r#"{"ns":"others"}"#.to_owned(),
        ] {
            assert_eq!(owner(&text, None, 0), None, "{text}");
        }
        let hostile = format!(r#"{{"ns":"o\n{}","hb":{},"at":"{at}"}}"#, "x".repeat(200), u64::MAX);
        assert_eq!(owner(&hostile, None, 60).map(|name| name.len()), Some(63));
        assert_eq!(owner(&hostile, None, 14_400), None, "no period is longer than an hour");
    }
}
