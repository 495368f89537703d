//! One verdict for every end, in the order of the evidence's strength.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::memory::judge_memory;
use super::{ContainerEnd, Decided, Deletion, Evidence, Judgement, Stage, Verdict};
use crate::api::conditions::FailureReason;
use crate::api::keys::Role;
use crate::api::quantity;
use crate::api::worker::Code;
use crate::controllers::video_upscale::oom_text::{Reading, read, threshold};

/// How long a verdict waits for a report sampled after the end; a busy node's reports are rate-limited.
pub const REPORT_PATIENCE: Duration = Duration::from_secs(75);

/// Judges the end of a pod. Total: an end that nothing explains is [`Verdict::Unknown`].
pub fn judge(evidence: &Evidence, now: Timestamp) -> Judgement {
    let finding = find(evidence);
    let patience = SignedDuration::try_from(REPORT_PATIENCE).unwrap_or(SignedDuration::ZERO);
    let until = evidence.seen_at.checked_add(patience).unwrap_or(Timestamp::MAX);
    if finding.report_could_change_it && !has_fresh_view(evidence) && now < until {
        return Judgement::WaitForReport { until };
    }
    Judgement::Decided(Decided { lost: may_still_run(evidence), ..finding.decided })
}

/// A verdict as it stands.
struct Finding {
    decided: Decided,
    report_could_change_it: bool,
}

fn find(evidence: &Evidence) -> Finding {
    if let Some(success) = success(evidence) {
        return settled(evidence, success, None, String::new());
    }
    let failed = evidence.containers.iter().find(|c| c.exit_code.is_some_and(|code| code != 0));
    let own = failed.filter(|container| container.stage != Stage::Engine);
    if let Some((container, code)) = own.and_then(|container| Some((container, container.code()?))) {
        return by_code(evidence, container, code);
    }
    if let Some(finding) = by_pod(evidence, failed) {
        return finding;
    }
    match failed {
        Some(container) if container.stage == Stage::Engine => engine(evidence, container),
        Some(container) if matches!(container.exit_code, Some(135 | 137)) => {
            let message = format!("{} was killed and nobody took the pod away: host memory", container.name);
            settled(evidence, Verdict::HostMemory, Some(container.stage), message)
        }
        Some(container) => {
            let message = format!(
                "{} ended with exit code {}, which is none of its own",
                container.name,
                container.exit_code.unwrap_or_default()
            );
            settled(evidence, Verdict::WorkerError, Some(container.stage), message)
        }
        None => {
            settled(evidence, Verdict::Unknown, None, "the pod ended and left no trace of why".to_owned())
        }
    }
}

fn success(evidence: &Evidence) -> Option<Verdict> {
    if evidence
        .containers
        .iter()
        .any(|container| container.code() == Some(Code::AlreadyDone) && container.stage != Stage::Engine)
    {
        return Some(Verdict::AlreadyDone);
    }
    let last = match evidence.role {
        Role::Probe => Stage::Probe,
        Role::Segment => Stage::Finish,
        Role::Merge => Stage::Merge,
    };
    let done =
        evidence.containers.iter().any(|container| container.stage == last && container.exit_code == Some(0));
    (done || evidence.pod.succeeded).then_some(Verdict::Succeeded)
}

/// A container of ours says itself how it ended.
fn by_code(evidence: &Evidence, container: &ContainerEnd, code: Code) -> Finding {
    let (verdict, failure) = match code {
        Code::Done | Code::AlreadyDone => (Verdict::AlreadyDone, None),
        Code::Usage | Code::Internal | Code::Io => (Verdict::WorkerError, None),
        Code::InvalidSource => (Verdict::Permanent, Some(FailureReason::InvalidSource)),
        Code::UnsupportedSource => (Verdict::Permanent, Some(FailureReason::UnsupportedSource)),
        Code::SourceNotFound => (Verdict::Permanent, Some(FailureReason::SourceNotFound)),
        Code::SourceChanged => (Verdict::Permanent, Some(FailureReason::SourceChanged)),
        Code::DoesNotFit => (Verdict::Permanent, Some(FailureReason::OutOfHostMemory)),
        Code::DestinationExists => (Verdict::Permanent, Some(FailureReason::DestinationExists)),
        Code::DestinationNotWritable => (Verdict::Permanent, Some(FailureReason::DestinationNotWritable)),
        Code::GpuBusy => (Verdict::GpuBusy, None),
        Code::GpuMismatch => (Verdict::GpuMismatch, None),
        Code::PinIgnored => (Verdict::PinIgnored, None),
        Code::GpuFault => (Verdict::GpuFault, None),
        Code::BadOutput => (Verdict::BadOutput, None),
        Code::OutOfSpace => (Verdict::OutOfSpace, None),
    };
    let message = container.end.as_ref().map_or_else(
        || format!("{} ended with exit code {}", container.name, code.exit_code()),
        |end| end.message.clone(),
    );
    let mut finding = settled(evidence, verdict, Some(container.stage), message);
    finding.decided.failure = failure;
    if let Some(figures) = container.end.as_ref().and_then(|end| end.prepare.as_ref()) {
        finding.decided.free = figures.free_bytes.or(finding.decided.free);
    }
    finding
}

/// The kubelet's or the runtime's word.
fn by_pod(evidence: &Evidence, failed: Option<&ContainerEnd>) -> Option<Finding> {
    let pod = &evidence.pod;
    let stage = failed.map(|container| container.stage).or_else(|| last_started(evidence));
    let because = |text: &str| {
        let detail = if pod.message.is_empty() { &pod.reason } else { &pod.message };
        if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") }
    };
    if pod.reason == "Evicted" && own_storage(&pod.message) {
        return Some(settled(
            evidence,
            Verdict::OutOfSpace,
            stage,
            because("evicted for its own scratch space"),
        ));
    }
    if pod.reason == "DeadlineExceeded" {
        let verdict = match stage {
            Some(Stage::Engine) => Verdict::EngineError,
            Some(_) => Verdict::WorkerError,
            None => Verdict::NotStarted,
        };
        return Some(settled(evidence, verdict, stage, because("the attempt took longer than its deadline")));
    }
    if pod.deletion == Deletion::OursNotStarted {
        return Some(settled(evidence, Verdict::NotStarted, None, because("the pod did not start in time")));
    }
    if let Some(container) = failed.filter(|container| could_not_start(container)) {
        let message = format!("{} could not be started: {}", container.name, one_line(container));
        return Some(settled(evidence, Verdict::NotStarted, Some(container.stage), message));
    }
    let over_limit = failed.filter(|container| container.reason == "OOMKilled" && pod.reason != "Evicted");
    if let Some(container) = over_limit {
        let message = format!("{} was killed at its memory limit", container.name);
        return Some(settled(evidence, Verdict::HostMemory, Some(container.stage), message));
    }
    if let Some(finding) = refused(evidence, failed) {
        return Some(finding);
    }
    let disrupted = disruption(evidence)?;
    // An engine that ended by itself before the pod was taken away still tells why.
    let by_itself = failed.is_some_and(|container| {
        container.stage == Stage::Engine
            && !killed(container)
            && read(&container.message, &evidence.failure) != Reading::NotOom
    });
    (!by_itself).then(|| settled(evidence, Verdict::Disrupted, stage, because(disrupted)))
}

/// The kubelet did not take the pod: it failed with a reason, and none of its containers ever ran.
fn refused(evidence: &Evidence, failed: Option<&ContainerEnd>) -> Option<Finding> {
    let pod = &evidence.pod;
    let ran = failed.is_some() || evidence.containers.iter().any(|container| container.started);
    if ran || !pod.failed || pod.reason.is_empty() || pod.node_gone || pod.disruption_target {
        return None;
    }
    let detail = if pod.message.is_empty() { &pod.reason } else { &pod.message };
    let mut finding =
        settled(evidence, Verdict::Disrupted, None, format!("the node refused the pod: {detail}"));
    finding.decided.refused = true;
    Some(finding)
}

/// Why the pod was taken away, if it was.
fn disruption(evidence: &Evidence) -> Option<&'static str> {
    let pod = &evidence.pod;
    if pod.node_gone {
        return Some("the node is gone");
    }
    let reason = pod.reason.as_str();
    if matches!(
        reason,
        "Evicted"
            | "Preempting"
            | "Preempted"
            | "Terminated"
            | "Shutdown"
            | "NodeShutdown"
            | "NodeAffinity"
            | "NodeLost"
            | "UnexpectedAdmissionError"
    ) || reason.starts_with("OutOf")
    {
        return Some("the node refused or evicted the pod");
    }
    if pod.disruption_target {
        return Some("the pod was preempted, evicted or drained");
    }
    match pod.deletion {
        Deletion::Ours => Some("the pod was taken back"),
        Deletion::Others => Some("the pod was deleted by somebody else"),
        Deletion::No | Deletion::OursNotStarted => pod.gone.then_some("the pod is gone"),
    }
}

/// The kubelet's words for a pod that used more than its own limits, not for a full node.
fn own_storage(message: &str) -> bool {
    [
        "ephemeral local storage usage exceeds",
        "exceeded its local ephemeral storage limit",
        "Usage of EmptyDir volume",
    ]
    .iter()
    .any(|words| message.contains(words))
}

fn could_not_start(container: &ContainerEnd) -> bool {
    matches!(
        container.reason.as_str(),
        "StartError" | "ContainerCannotRun" | "CreateContainerError" | "RunContainerError"
    )
}

fn killed(container: &ContainerEnd) -> bool {
    container.signal.is_some_and(|signal| signal > 0)
        || matches!(container.exit_code, Some(130 | 137 | 143))
        || container.reason == "ContainerStatusUnknown"
}

/// The engine ended by itself, or was killed and nobody says why.
fn engine(evidence: &Evidence, container: &ContainerEnd) -> Finding {
    let code = container.exit_code.unwrap_or_default();
    let stage = Some(Stage::Engine);
    let said = settled(evidence, Verdict::Permanent, stage, String::new());
    let permanent = |why: String| Finding {
        decided: Decided {
            failure: Some(FailureReason::EngineError),
            message: format!("the engine refused its input or arguments: {why}"),
            ..said.decided.clone()
        },
        report_could_change_it: false,
    };
    let fresh = evidence.after.as_ref().filter(|_| has_fresh_view(evidence));
    if let Some(fault) = fresh.and_then(|view| view.fault(evidence.engine_started_at())) {
        let message = format!("the GPU is at fault: {fault}");
        return settled(evidence, Verdict::GpuFault, stage, message);
    }
    if evidence.failure.permanent_exit_codes.contains(&code) {
        // An engine that finds no GPU says that its arguments are wrong, and a card may be lost after `prepare` saw it.
        let why = format!("exit code {code}; {}", one_line(container));
        return Finding { report_could_change_it: true, ..permanent(why) };
    }
    match read(&container.message, &evidence.failure) {
        Reading::Permanent(pattern) => permanent(format!("`{pattern}`")),
        Reading::Incompatible(pattern) => {
            let message = format!("the engine cannot run on this GPU model: `{pattern}`");
            settled(evidence, Verdict::Incompatible, stage, message)
        }
        Reading::NoSpace => settled(
            evidence,
            Verdict::OutOfSpace,
            stage,
            "the engine found no space left on its scratch volume".to_owned(),
        ),
        Reading::Host { requested } => {
            let bytes = requested.map_or_else(
                || "host memory".to_owned(),
                |bytes| format!("{} of host memory", quantity::display(bytes)),
            );
            settled(evidence, Verdict::HostMemory, stage, format!("the engine could not allocate {bytes}"))
        }
        Reading::Gpu(text) => {
            let memory = judge_memory(evidence, &text);
            Finding {
                report_could_change_it: !memory.decisive,
                decided: Decided {
                    verdict: memory.verdict,
                    message: memory.message(),
                    needed: memory.needed.or(evidence.need_bytes),
                    free: memory.free,
                    foreign: memory.foreign,
                    observed_need: memory.proved,
                    who: memory.who,
                    ..said.decided
                },
            }
        }
        Reading::NotOom => without_a_word(evidence, container, code),
    }
}

/// No word of memory in what the engine left.
fn without_a_word(evidence: &Evidence, container: &ContainerEnd, code: i32) -> Finding {
    let stage = Some(Stage::Engine);
    let finding = |verdict, message: String| Finding {
        report_could_change_it: true,
        ..settled(evidence, verdict, stage, message)
    };
    match code {
        // Nobody deleted or evicted the pod, so the kernel killed it for memory and the runtime missed it; a bus error
        // is a full shared memory file system.
        137 | 135 => settled(
            evidence,
            Verdict::HostMemory,
            stage,
            format!(
                "{} was killed (exit code {code}) and nobody took the pod away: host memory",
                container.name
            ),
        ),
        143 | 255 => finding(
            Verdict::Unknown,
            format!("{} ended with exit code {code} and left no reason", container.name),
        ),
        _ if container.reason == "ContainerStatusUnknown" => {
            finding(Verdict::Unknown, format!("the end of {} was not seen", container.name))
        }
        _ if container.message.trim().is_empty() => match crowded(evidence) {
            Some(who) => finding(
                Verdict::ForeignProcess,
                format!("{} ended with exit code {code} on a full GPU: {who}", container.name),
            ),
            None => finding(
                Verdict::EngineError,
                format!("{} ended with exit code {code} and wrote nothing", container.name),
            ),
        },
        _ => finding(
            Verdict::EngineError,
            format!("{} ended with exit code {code}: {}", container.name, one_line(container)),
        ),
    }
}

/// Whether the agent saw the card full around the end because of others, and who they were.
fn crowded(evidence: &Evidence) -> Option<String> {
    let witness = evidence.after.as_ref()?.witness(evidence, evidence.finished_at()?);
    let capacity = witness.capacity?;
    let used = witness.own_peak?.saturating_add(witness.foreign).saturating_add(witness.leaked);
    let full = used >= capacity.saturating_sub(capacity / 20);
    (witness.fresh && full && witness.foreign >= threshold(capacity)).then_some(witness.who)
}

/// The last line that says something.
fn one_line(container: &ContainerEnd) -> String {
    let lines = container.message.lines().rev().map(str::trim);
    let last = lines.clone().find(|line| !line.is_empty()).unwrap_or(&container.reason);
    last.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn last_started(evidence: &Evidence) -> Option<Stage> {
    evidence.containers.iter().rev().find(|container| container.started).map(|container| container.stage)
}

fn has_fresh_view(evidence: &Evidence) -> bool {
    match (&evidence.after, evidence.finished_at()) {
        (Some(view), Some(end)) => view.is_after(end),
        _ => false,
    }
}

/// Whether the GPU may still be in use although the pod is not there to ask.
fn may_still_run(evidence: &Evidence) -> bool {
    let vanished = evidence.pod.node_gone
        || (evidence.pod.gone && matches!(evidence.pod.deletion, Deletion::No | Deletion::Others));
    let ended = |stage: Stage| {
        let mut of_stage = evidence.containers.iter().filter(|container| container.stage == stage).peekable();
        of_stage.peek().is_some() && of_stage.all(|container| container.exit_code.is_some())
    };
    let finishing = evidence.containers.iter().any(|c| c.stage == Stage::Finish && c.started);
    evidence.role == Role::Segment && vanished && !finishing && !ended(Stage::Engine)
}

fn settled(evidence: &Evidence, verdict: Verdict, stage: Option<Stage>, message: String) -> Finding {
    let before = evidence.before.as_ref();
    Finding {
        decided: Decided {
            verdict,
            failure: None,
            stage,
            lost: false,
            refused: false,
            needed: evidence.need_bytes,
            free: before.map(|before| before.available),
            foreign: before.map(|before| before.foreign),
            who: String::new(),
            observed_need: None,
            message,
        },
        report_could_change_it: false,
    }
}
