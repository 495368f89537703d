//! What became of each attempt, read like anybody could: from pods, their annotations, and the job's status.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};
use serde::Serialize;
use video_upscale::api::keys;
use video_upscale::api::video_upscale::VideoUpscaleStatus;
use video_upscale::api::worker::Code;
use video_upscale::fleet::claim::SeenBefore;

use super::safety::Safety;

/// How the names of the engine's containers begin.
const ENGINE: &str = "upscale";

/// One attempt, as the JSON of the demo has it.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// Segment.
    pub segment: u32,
    /// Attempt.
    pub attempt: u32,
    /// Node.
    pub node: String,
    /// UUID of the GPU.
    pub gpu: String,
    /// Ladder step.
    pub step: u32,
    /// In how many pieces the engine worked.
    #[serde(skip)]
    pub pieces: usize,
    /// Bytes it was reckoned to need.
    pub need_bytes: u64,
    /// Free bytes as reported when it was placed.
    pub free_bytes: u64,
    /// Free bytes as reckoned when it was placed.
    pub available_bytes: u64,
    /// `Succeeded`, or whose fault the end was; empty while unknown.
    pub verdict: String,
    /// When the pod was created.
    pub started: Option<Timestamp>,
    /// When its last container ended.
    pub ended: Option<Timestamp>,
}

/// Everything seen of a job's attempts.
#[derive(Default)]
pub struct Attempts {
    seen: BTreeMap<(u32, u32), Attempt>,
    running: BTreeMap<(u32, u32), String>,
    /// The instant with the most `upscale` containers running: their nodes, one entry each.
    pub busiest: Vec<String>,
    /// What must never be.
    pub safety: Safety,
}

impl Attempts {
    /// Takes in a segment pod; pods of other roles, or without our labels, are passed over.
    pub fn see_pod(&mut self, pod: &Pod) {
        self.safety.see_pod(pod);
        let Some(attempt) = read(pod) else { return };
        let key = (attempt.segment, attempt.attempt);
        if upscale_runs(pod) {
            self.running.insert(key, attempt.node.clone());
        } else {
            self.running.remove(&key);
        }
        if self.running.len() > self.busiest.len() {
            self.busiest = self.running.values().cloned().collect();
        }
        let verdict = self.seen.get(&key).map(|old| old.verdict.clone()).filter(|v| !v.is_empty());
        self.seen.insert(key, Attempt { verdict: verdict.unwrap_or(attempt.verdict.clone()), ..attempt });
    }

    /// Forgets that a pod runs, once it is gone.
    pub fn pod_gone(&mut self, pod: &Pod) {
        self.see_pod(pod);
        self.safety.pod_gone(pod, Timestamp::now());
        if let Some(attempt) = read(pod) {
            self.running.remove(&(attempt.segment, attempt.attempt));
        }
    }

    /// Takes in the verdicts that the status tells.
    pub fn see_status(&mut self, status: &VideoUpscaleStatus) {
        for end in status.out_of_memory.iter().flat_map(|o| &o.recent) {
            if let (Ok(segment), Ok(attempt)) = (u32::try_from(end.segment), u32::try_from(end.attempt)) {
                self.judge(segment, attempt, &end.verdict);
            }
        }
        for entry in &status.tried {
            if let Some((segment, attempt, verdict)) = last_verdict(entry) {
                self.judge(segment, attempt, verdict);
            }
        }
    }

    fn judge(&mut self, segment: u32, attempt: u32, verdict: &str) {
        if let Some(known) = self.seen.get_mut(&(segment, attempt)).filter(|known| known.verdict.is_empty()) {
            known.verdict = verdict.to_owned();
        }
    }

    /// All attempts, by segment and attempt.
    pub fn all(&self) -> impl Iterator<Item = &Attempt> {
        self.seen.values()
    }

    /// Attempts that ended with that verdict.
    pub fn with_verdict<'a>(&'a self, verdict: &'a str) -> impl Iterator<Item = &'a Attempt> {
        self.all().filter(move |attempt| attempt.verdict == verdict)
    }

    /// The attempt that followed.
    pub fn next(&self, attempt: &Attempt) -> Option<&Attempt> {
        self.seen.get(&(attempt.segment, attempt.attempt + 1))
    }

    /// Nodes on which `upscale` ran at the busiest instant.
    pub fn busiest_nodes(&self) -> BTreeSet<&str> {
        self.busiest.iter().map(String::as_str).collect()
    }
}

/// The verdict at the end of `segment:made/counted/step/pieces/flags/verdict`, and the attempt it is about.
fn last_verdict(entry: &str) -> Option<(u32, u32, &str)> {
    let (segment, rest) = entry.split_once(':')?;
    let made: u32 = rest.split('/').next()?.parse().ok()?;
    let verdict = rest.split('/').nth(5).filter(|verdict| !verdict.is_empty())?;
    Some((segment.parse().ok()?, made.checked_sub(1)?, verdict))
}

fn read(pod: &Pod) -> Option<Attempt> {
    let labels = pod.metadata.labels.as_ref()?;
    if labels.get(keys::ROLE)? != keys::Role::Segment.as_str() {
        return None;
    }
    let annotations = pod.metadata.annotations.as_ref()?;
    let seen: SeenBefore = serde_json::from_str(annotations.get(keys::SEEN_BEFORE)?).ok()?;
    let number = |text: Option<&String>| text.and_then(|t| t.parse().ok());
    let statuses = statuses(pod);
    let ended = statuses.iter().filter_map(|s| terminated(s)?.finished_at.as_ref().map(|t| t.0)).max();
    let finished = pod
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .is_some_and(|p| p == "Succeeded" || p == "Failed");
    Some(Attempt {
        segment: number(labels.get(keys::SEGMENT))?,
        attempt: number(labels.get(keys::ATTEMPT))?,
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default(),
        gpu: annotations.get(keys::GPU_UUID)?.clone(),
        step: number(annotations.get(keys::STEP))?,
        pieces: pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).filter(is_engine).count(),
        need_bytes: annotations.get(keys::NEED)?.parse().ok()?,
        free_bytes: seen.free,
        available_bytes: seen.available,
        verdict: if succeeded(&statuses) { "Succeeded".to_owned() } else { String::new() },
        started: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
        ended: ended.filter(|_| finished),
    })
}

fn statuses(pod: &Pod) -> Vec<&ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    init.into_iter().chain(main).flatten().collect()
}

fn terminated(status: &ContainerStatus) -> Option<&k8s_openapi::api::core::v1::ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn succeeded(statuses: &[&ContainerStatus]) -> bool {
    statuses.iter().any(|status| {
        let code = terminated(status).map(|t| t.exit_code);
        (status.name == "finish" && code == Some(0))
            || (status.name == "prepare" && code == Some(i32::from(Code::AlreadyDone.exit_code())))
    })
}

fn is_engine(container: &&Container) -> bool {
    container.name.starts_with(ENGINE)
}

fn upscale_runs(pod: &Pod) -> bool {
    let runs = |state: &ContainerState| state.running.is_some();
    statuses(pod).iter().any(|s| s.name.starts_with(ENGINE) && s.state.as_ref().is_some_and(runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_of_the_last_attempt_is_read_from_the_status() {
        assert_eq!(last_verdict("4:2/1/5/1//OwnDemand"), Some((4, 1, "OwnDemand")));
        assert_eq!(last_verdict("4:1/0/2/1//"), None);
        assert_eq!(last_verdict("4:0/0/2/1//Unknown"), None);
        assert_eq!(last_verdict("garbage"), None);
    }
}
