//! What must never be, whatever dies meanwhile: judged from pods and claims as the API server shows them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use video_upscale::api::keys;

/// Everything seen of a job's engines and of the fleet's claims.
#[derive(Default)]
pub struct Safety {
    /// By UID of the pod.
    engines: BTreeMap<String, Engine>,
    /// Holder by name of the Lease.
    claims: BTreeMap<String, String>,
    broken: BTreeSet<String>,
}

/// The engine of one pod.
struct Engine {
    pod: String,
    segment: String,
    gpu: String,
    /// Whether it runs or may still begin to.
    alive: bool,
    ran: Ran,
}

/// From the start of the first engine container to the end of the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ran {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Safety {
    /// Takes in a segment pod; pods of other roles, or without our labels, are passed over.
    pub fn see_pod(&mut self, pod: &Pod) {
        let Some(engine) = read(pod) else { return };
        if engine.alive {
            for other in self.engines.values().filter(|other| other.alive && other.gpu == engine.gpu) {
                if other.pod != engine.pod {
                    self.broken
                        .insert(format!("{} and {} could use {} at once", other.pod, engine.pod, engine.gpu));
                }
            }
        }
        self.engines.insert(pod.uid().unwrap_or_default(), engine);
    }

    /// Takes in that a pod is gone, at `now`.
    pub fn pod_gone(&mut self, pod: &Pod, now: Timestamp) {
        self.see_pod(pod);
        if let Some(engine) = self.engines.get_mut(&pod.uid().unwrap_or_default()) {
            engine.alive = false;
            engine.ran.to = engine.ran.to.or(Some(now));
        }
    }

    /// A new list of pods begins: what it does not show has gone.
    pub fn pods_anew(&mut self) {
        self.engines.values_mut().for_each(|engine| engine.alive = false);
    }

    /// Takes in a claim; other Leases are passed over.
    pub fn see_claim(&mut self, lease: &Lease) {
        let name = lease.name_any();
        if !name.starts_with("gpu-") {
            return;
        }
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let Some(holder) = holder.filter(|holder| !holder.is_empty()) else {
            self.claims.remove(&name);
            return;
        };
        for (other, _) in self.claims.iter().filter(|(other, its)| **other != name && **its == holder) {
            self.broken.insert(format!("{holder} holds both {other} and {name}"));
        }
        self.claims.insert(name, holder);
    }

    /// Takes in that a claim's Lease is gone.
    pub fn claim_gone(&mut self, lease: &Lease) {
        self.claims.remove(&lease.name_any());
    }

    /// A new list of claims begins.
    pub fn claims_anew(&mut self) {
        self.claims.clear();
    }

    /// What must not have been: two pods that could use one GPU, two claims of one pod, one segment upscaled twice at the
    /// same time.
    pub fn broken(&self) -> Vec<String> {
        let mut found: Vec<String> = self.broken.iter().cloned().collect();
        let engines: Vec<&Engine> = self.engines.values().collect();
        for (at, one) in engines.iter().enumerate() {
            for other in engines.iter().skip(at + 1).filter(|other| other.segment == one.segment) {
                if one.ran.overlaps(other.ran) {
                    found.push(format!(
                        "segment {} was upscaled by {} and {} at once",
                        one.segment, one.pod, other.pod
                    ));
                }
            }
        }
        found
    }
}

impl Ran {
    /// Whether both ran at some instant; times are whole seconds, so a common border is none.
    fn overlaps(self, other: Self) -> bool {
        let (Some(from), Some(other_from)) = (self.from, other.from) else { return false };
        self.to.is_none_or(|to| other_from < to) && other.to.is_none_or(|to| from < to)
    }
}

fn read(pod: &Pod) -> Option<Engine> {
    let labels = pod.metadata.labels.as_ref()?;
    if labels.get(keys::ROLE)? != keys::Role::Segment.as_str() {
        return None;
    }
    let status = pod.status.as_ref();
    let over = status.and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed");
    let shown = status.and_then(|s| s.init_container_statuses.as_ref()).into_iter().flatten();
    let (engines, before): (Vec<_>, Vec<_>) = shown.partition(|status| is_engine(&status.name));
    let wanted = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let wanted = wanted.filter(|container| is_engine(&container.name)).count();
    let failed = |status: &&ContainerStatus| exit_code(status).is_some_and(|code| code != 0);
    let failed = engines.iter().chain(&before).any(failed);
    let ended =
        failed || over || engines.iter().filter(|status| exit_code(status).is_some()).count() >= wanted;
    let ends = engines.iter().filter_map(|s| s.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    Some(Engine {
        pod: pod.name_any(),
        segment: labels.get(keys::SEGMENT)?.clone(),
        gpu: pod.annotations().get(keys::GPU_UUID)?.clone(),
        alive: !ended,
        ran: Ran {
            from: engines.iter().filter_map(|status| began(status)).min(),
            to: ends.map(|time| time.0).max().filter(|_| ended),
        },
    })
}

fn is_engine(container: &str) -> bool {
    container.starts_with("upscale")
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn began(status: &ContainerStatus) -> Option<Timestamp> {
    let state = status.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
    running.or(ended).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn second(second: i64) -> String {
        Timestamp::from_second(second).unwrap().to_string()
    }

    fn running(from: i64) -> Value {
        json!({"running": {"startedAt": second(from)}})
    }

    fn ended(from: i64, to: i64, code: i32) -> Value {
        json!({"terminated": {"startedAt": second(from), "finishedAt": second(to), "exitCode": code}})
    }

    fn pod(segment: u32, attempt: u32, gpu: &str, upscale: Value) -> Pod {
        let name = format!("{segment}-{attempt}");
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "uid": name,
                "labels": {keys::ROLE: "segment", keys::SEGMENT: segment.to_string()},
                "annotations": {keys::GPU_UUID: gpu},
            },
            "spec": {"containers": [], "initContainers": [{"name": "prepare"}, {"name": "upscale"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "upscale", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": upscale}]},
        }))
        .unwrap()
    }

    fn seen(pods: &[Pod]) -> Vec<String> {
        let mut safety = Safety::default();
        pods.iter().for_each(|pod| safety.see_pod(pod));
        safety.broken()
    }

    #[test]
    fn one_after_the_other_is_right() {
        let first = [pod(0, 0, "A", json!({})), pod(0, 0, "A", ended(1, 5, 0))];
        assert_eq!(
            seen(&[&first[..], &[pod(1, 0, "A", running(5)), pod(0, 1, "B", running(5))]].concat()),
            [""; 0]
        );
        assert_eq!(seen(&[pod(0, 0, "A", ended(1, 5, 1)), pod(0, 1, "A", running(5))]), [""; 0]);
    }

    #[test]
    fn two_pods_that_could_use_one_gpu_are_found() {
        let found = seen(&[pod(0, 0, "A", json!({})), pod(1, 0, "A", json!({}))]);
        assert_eq!(found, ["0-0 and 1-0 could use A at once"]);
    }

    #[test]
    fn a_segment_upscaled_twice_at_once_is_found_and_an_end_nobody_saw_is_the_pods() {
        let found = seen(&[pod(0, 0, "A", ended(1, 5, 0)), pod(0, 1, "B", ended(4, 9, 0))]);
        assert_eq!(found, ["segment 0 was upscaled by 0-0 and 0-1 at once"]);
        let mut safety = Safety::default();
        safety.pod_gone(&pod(0, 0, "A", running(1)), Timestamp::from_second(5).unwrap());
        safety.see_pod(&pod(0, 1, "A", running(6)));
        assert_eq!(safety.broken(), [""; 0]);
        safety.see_pod(&pod(0, 2, "B", running(4)));
        assert_eq!(safety.broken().len(), 2, "with both others");
    }

    #[test]
    fn two_claims_of_one_pod_are_found() {
        let lease = |name: &str, holder: Option<&str>| -> Lease {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"holderIdentity": holder}}))
                .unwrap()
        };
        let mut safety = Safety::default();
        safety.see_claim(&lease("gpu-a", Some("x")));
        safety.see_claim(&lease("gpu-a", None));
        safety.see_claim(&lease("gpu-b", Some("x")));
        assert_eq!(safety.broken(), [""; 0]);
        safety.see_claim(&lease("gpu-a", Some("x")));
        assert_eq!(safety.broken(), ["x holds both gpu-b and gpu-a"]);
    }
}
