//! Why due segments have no GPU, as one word and one line with numbers:
//! `0 of 14 GPUs fit 13.1Gi + 1.0Gi headroom: 6 run VideoUpscales, 7 lack free memory (best: 8.2Gi on gpu-b #3), 1 is lost`

use std::collections::{BTreeMap, BTreeSet};

use crate::api::conditions::{MAX_MESSAGE, ScheduledReason};
use crate::api::quantity::display;
use crate::fleet::demand::{Cause, GpuRequirements, Wait};

/// The word for a cause.
const fn reason_of(cause: Cause) -> ScheduledReason {
    match cause {
        Cause::OtherRelease => ScheduledReason::OtherRelease,
        Cause::Stale => ScheduledReason::ReportStale,
        Cause::Unhealthy => ScheduledReason::GpuUnhealthy,
        Cause::Excluded | Cause::NotMatching | Cause::Incompatible => ScheduledReason::NoGpuMatches,
        Cause::NodeUnschedulable => ScheduledReason::NodeUnschedulable,
        Cause::VolumeNotHere => ScheduledReason::VolumeNotHere,
        Cause::ImagePull => ScheduledReason::ImagePull,
        Cause::NodeFull => ScheduledReason::NodeFull,
        Cause::ForeignProcesses => ScheduledReason::ForeignProcesses,
        Cause::Ours
        | Cause::Quarantined
        | Cause::CoolingDown
        | Cause::TooSmall
        | Cause::NotEnoughFree
        | Cause::Fits => ScheduledReason::NotEnoughFreeMemory,
    }
}

/// Whether a GPU with that cause could become the job's if it were idle: the others are out of the question whatever
/// happens, and do not say what the job waits for.
const fn in_question(cause: Cause) -> bool {
    !matches!(cause, Cause::OtherRelease | Cause::Excluded | Cause::NotMatching | Cause::Incompatible)
}

/// The word for a wait: the one cause, if one covers more than half of the GPUs in question, else
/// [`ScheduledReason::Mixed`].
pub fn reason(wait: &Wait) -> ScheduledReason {
    if wait.looked_at == 0 {
        return ScheduledReason::ReportMissing;
    }
    let any = wait.causes.keys().any(|cause| in_question(*cause));
    let mut counts: BTreeMap<ScheduledReason, u32> = BTreeMap::new();
    for (cause, count) in wait.causes.iter().filter(|(cause, _)| !any || in_question(**cause)) {
        let sum = counts.entry(reason_of(*cause)).or_default();
        *sum = sum.saturating_add(*count);
    }
    let all = counts.values().fold(0u32, |sum, count| sum.saturating_add(*count));
    let dominant = counts.iter().find(|(_, count)| count.saturating_mul(2) > all);
    dominant.map_or(ScheduledReason::Mixed, |(reason, _)| *reason)
}

/// The line for a wait.
pub fn message(wait: &Wait, wanted: &GpuRequirements) -> String {
    let text = match reason(wait) {
        ScheduledReason::ReportMissing if wait.unread.nodes > 0 => {
            "no node has a usable GPU report".to_owned()
        }
        ScheduledReason::ReportMissing => {
            "no node has a GPU report; is the agent DaemonSet running, and are there GPU nodes?".to_owned()
        }
        ScheduledReason::NoGpuMatches if !wanted.products.is_empty() || !wanted.node_selector.is_empty() => {
            no_match(wait, wanted)
        }
        _ => counted(wait),
    };
    match &wait.unread.first {
        Some((node, why)) if wait.unread.nodes == 1 => cut(format!("{text}; {node} is left out: {why}")),
        Some((node, why)) => {
            cut(format!("{text}; {} nodes are left out, {node} as {why}", wait.unread.nodes))
        }
        None => cut(text),
    }
}

fn no_match(wait: &Wait, wanted: &GpuRequirements) -> String {
    let there: Vec<String> = wait.products.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    let mut asked = Vec::new();
    if !wanted.products.is_empty() {
        asked.push(format!("products [{}]", wanted.products.join(", ")));
    }
    if !wanted.node_selector.is_empty() {
        let labels: Vec<String> =
            wanted.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        asked.push(format!("nodes with {}", labels.join(", ")));
    }
    format!("no GPU matches {}; there are {}", asked.join(" and "), there.join(", "))
}

fn counted(wait: &Wait) -> String {
    let fit = wait.causes.get(&Cause::Fits).copied().unwrap_or(0);
    let parts: Vec<String> = wait
        .causes
        .iter()
        .filter(|(cause, _)| **cause != Cause::Fits)
        .map(|(c, n)| part(wait, *c, *n))
        .collect();
    format!(
        "{fit} of {} GPUs fit {} + {} headroom: {}",
        wait.looked_at,
        display(wait.need_bytes),
        display(wait.headroom_bytes),
        parts.join(", ")
    )
}

fn part(wait: &Wait, cause: Cause, n: u32) -> String {
    let (is, lacks, runs) = if n == 1 { ("is", "lacks", "runs") } else { ("are", "lack", "run") };
    let best = |text: String| match &wait.best {
        Some((node, index, bytes)) => format!("{text} (best: {} on {node} #{index})", display(*bytes)),
        None => text,
    };
    match cause {
        Cause::OtherRelease => {
            format!("{n} {is} another release's (in {})", listed(&wait.other_releases))
        }
        Cause::Stale => format!("{n} {is} without a fresh report ({})", listed(&wait.stale_nodes)),
        Cause::Unhealthy => format!("{n} {is} unhealthy"),
        Cause::Excluded => format!("{n} {is} excluded"),
        Cause::NotMatching => format!("{n} {} not match", if n == 1 { "does" } else { "do" }),
        Cause::Incompatible => format!("{n} cannot run the engine"),
        Cause::NodeUnschedulable => format!("{n} {is} on nodes that take no pods"),
        Cause::VolumeNotHere => format!("{n} cannot mount the volumes"),
        Cause::Ours => format!("{n} {runs} VideoUpscales"),
        Cause::Quarantined => format!("{n} {is} held until memory is back"),
        Cause::CoolingDown => format!("{n} {} down", if n == 1 { "cools" } else { "cool" }),
        Cause::ImagePull => format!("{n} cannot pull the image"),
        Cause::NodeFull => format!("{n} {is} on full nodes"),
        Cause::ForeignProcesses => format!("{n} {runs} foreign processes"),
        Cause::TooSmall if wait.causes.contains_key(&Cause::NotEnoughFree) => format!("{n} {is} too small"),
        Cause::TooSmall => best(format!("{n} {is} too small")),
        Cause::NotEnoughFree => best(format!("{n} {lacks} free memory")),
        Cause::Fits => String::new(),
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn cut(text: String) -> String {
    if text.chars().count() <= MAX_MESSAGE {
        return text;
    }
    let kept: String = text.chars().take(MAX_MESSAGE.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::quantity::GIB;
    use crate::fleet::demand::Unread;

    fn wait(causes: &[(Cause, u32)]) -> Wait {
        Wait {
            looked_at: causes.iter().map(|(_, count)| count).sum(),
            causes: causes.iter().copied().collect(),
            need_bytes: 14_066_000_000,
            headroom_bytes: GIB,
            best: Some(("gpu-b".into(), 3, 8_804_000_000)),
            products: [("L40S".to_owned(), 8), ("RTX A4000".to_owned(), 6)].into(),
            stale_nodes: ["gpu-a".to_owned()].into(),
            other_releases: ["upscale-system".to_owned()].into(),
            unread: Unread::default(),
        }
    }

    #[test]
    fn one_cause_dominates_or_the_wait_is_mixed() {
        use Cause as C;
        use ScheduledReason as R;
        for (causes, expected) in [
            (&[][..], R::ReportMissing),
            (&[(C::Ours, 6), (C::NotEnoughFree, 7), (C::Unhealthy, 1)], R::NotEnoughFreeMemory),
            (&[(C::TooSmall, 10)], R::NotEnoughFreeMemory),
            (&[(C::NotMatching, 9), (C::Stale, 1)], R::ReportStale),
            (&[(C::NotMatching, 9), (C::Excluded, 1)], R::NoGpuMatches),
            (&[(C::NodeUnschedulable, 10)], R::NodeUnschedulable),
            (&[(C::NodeFull, 3), (C::VolumeNotHere, 3)], R::Mixed),
            (&[(C::VolumeNotHere, 10)], R::VolumeNotHere),
            (&[(C::OtherRelease, 2)], R::OtherRelease),
            (&[(C::ForeignProcesses, 4), (C::TooSmall, 1)], R::ForeignProcesses),
        ] {
            assert_eq!(reason(&wait(causes)), expected, "{causes:?}");
        }
    }

    #[test]
    fn messages_have_the_documented_grammar() {
        let none = GpuRequirements::default();
        let busy = wait(&[(Cause::Ours, 6), (Cause::NotEnoughFree, 7), (Cause::Unhealthy, 1)]);
        assert_eq!(
            message(&busy, &none),
            "0 of 14 GPUs fit 13.1Gi + 1.0Gi headroom: 1 is unhealthy, 6 run VideoUpscales, 7 lack free memory \
             (best: 8.2Gi on gpu-b #3)"
        );
        let products = GpuRequirements { products: vec!["H100".into()], ..GpuRequirements::default() };
        assert_eq!(
            message(&wait(&[(Cause::NotMatching, 14)]), &products),
            "no GPU matches products [H100]; there are L40S (8), RTX A4000 (6)"
        );
        assert_eq!(
            message(&wait(&[(Cause::OtherRelease, 10)]), &none),
            "0 of 10 GPUs fit 13.1Gi + 1.0Gi headroom: 10 are another release's (in upscale-system)"
        );
        assert!(message(&wait(&[]), &none).starts_with("no node has a GPU report"));
    }

    #[test]
    fn nodes_with_reports_that_cannot_be_used_are_named_with_what_is_wrong() {
        let why = "the report has schema version 2; this reader knows 1".to_owned();
        let unread = |nodes| Unread { nodes, first: Some(("gpu-a".to_owned(), why.clone())) };
        let none = GpuRequirements::default();
        assert_eq!(
            message(&Wait { unread: unread(1), ..wait(&[]) }, &none),
            "no node has a usable GPU report; gpu-a is left out: the report has schema version 2; this reader knows 1"
        );
        let some = Wait { unread: unread(3), ..wait(&[(Cause::Ours, 2)]) };
        assert_eq!(reason(&some), ScheduledReason::NotEnoughFreeMemory);
        assert_eq!(
            message(&some, &none),
            "0 of 2 GPUs fit 13.1Gi + 1.0Gi headroom: 2 run VideoUpscales; 3 nodes are left out, gpu-a as the report \
             has schema version 2; this reader knows 1"
        );
    }

    #[test]
    fn messages_are_bounded() {
        let products = GpuRequirements { products: vec!["x".repeat(900)], ..GpuRequirements::default() };
        let text = message(&wait(&[(Cause::NotMatching, 1)]), &products);
        assert_eq!(text.chars().count(), MAX_MESSAGE);
    }
}
