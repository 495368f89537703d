//! What the API server is told of a pod. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its exit code; 128 and the signal's number for one that a signal ended.
    pub code: i32,
    /// Its last words.
    pub message: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

/// How far a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not begun.
    Waits {
        /// In a kubelet's word.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// It runs.
    Runs {
        /// Since when.
        since: Timestamp,
    },
    /// It has ended.
    Ended(End),
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// How far it is.
    pub state: State,
    /// Whether it answers.
    pub ready: bool,
    /// How often it was begun again.
    pub restarts: i32,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Containers that come first.
    pub inits: Vec<Container>,
    /// The others.
    pub mains: Vec<Container>,
    /// Whether its volumes are there.
    pub volumes: bool,
    /// Its address.
    pub address: String,
    /// Address of its node.
    pub node: String,
    /// When the runner took it in.
    pub since: Timestamp,
    /// Whether containers that end are begun again.
    pub again: bool,
    scheduled: Option<PodCondition>,
}

impl Shown {
    /// A pod that has just come.
    pub fn new(pod: &Pod, address: &str, node: &str, since: Timestamp) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let waits = |reason| State::Waits { reason, message: String::new() };
        let first = if spec.init_containers.iter().flatten().next().is_some() {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        let container = |container: &k8s_openapi::api::core::v1::Container, reason| Container {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: waits(reason),
            ready: false,
            restarts: 0,
        };
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        Self {
            inits: spec.init_containers.iter().flatten().map(|it| container(it, "PodInitializing")).collect(),
            mains: spec.containers.iter().map(|it| container(it, first)).collect(),
            volumes: false,
            address: address.to_owned(),
            node: node.to_owned(),
            since,
            again: spec.restart_policy.as_deref() == Some("Always"),
            scheduled: conditions.into_iter().find(|condition| condition.type_ == "PodScheduled").cloned(),
        }
    }

    /// The container of that name.
    pub fn container(&mut self, name: &str) -> Option<&mut Container> {
        self.inits.iter_mut().chain(&mut self.mains).find(|container| container.name == name)
    }

    fn phase(&self) -> &'static str {
        let code = |container: &Container| match &container.state {
            State::Ended(end) => Some(end.code),
            _ => None,
        };
        let failed = |container: &Container| code(container).is_some_and(|code| code != 0);
        let over = self.mains.iter().all(|container| code(container).is_some());
        if self.inits.iter().any(failed) || (over && !self.again && self.mains.iter().any(failed)) {
            "Failed"
        } else if over && !self.again {
            "Succeeded"
        } else if self.mains.iter().all(|container| matches!(container.state, State::Waits { .. })) {
            "Pending"
        } else {
            "Running"
        }
    }

    /// The status at `now`.
    pub fn status(&self, now: Timestamp) -> Value {
        let initialized = self.inits.iter().all(|it| matches!(&it.state, State::Ended(end) if end.code == 0));
        let ready = self.mains.iter().all(|it| it.ready);
        let mut conditions: Vec<Value> =
            self.scheduled.iter().filter_map(|condition| serde_json::to_value(condition).ok()).collect();
        for (kind, holds) in [
            ("PodReadyToStartContainers", self.volumes),
            ("Initialized", initialized),
            ("Ready", ready),
            ("ContainersReady", ready),
        ] {
            let holds = if holds { "True" } else { "False" };
            conditions.push(json!({"type": kind, "status": holds, "lastTransitionTime": whole(now)}));
        }
        json!({
            "phase": self.phase(), "conditions": conditions, "startTime": whole(self.since),
            "hostIP": self.node, "hostIPs": [{"ip": self.node}],
            "podIP": self.address, "podIPs": [{"ip": self.address}],
            "initContainerStatuses": self.inits.iter().map(one).collect::<Vec<_>>(),
            "containerStatuses": self.mains.iter().map(one).collect::<Vec<_>>(),
        })
    }
}

fn one(container: &Container) -> Value {
    let state = match &container.state {
        State::Waits { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        State::Runs { since } => json!({"running": {"startedAt": whole(*since)}}),
        State::Ended(end) => json!({"terminated": {
            "exitCode": end.code, "reason": if end.code == 0 { "Completed" } else { "Error" },
            "message": end.message, "startedAt": whole(end.began), "finishedAt": whole(end.ended),
        }}),
    };
    let started = matches!(container.state, State::Runs { .. });
    json!({"name": container.name, "image": container.image, "imageID": "", "ready": container.ready,
        "restartCount": container.restarts, "started": started, "state": state})
}

/// Kubernetes keeps whole seconds.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(policy: &str) -> Shown {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "restartPolicy": policy,
            "initContainers": [{"name": "prepare"}, {"name": "upscale"}], "containers": [{"name": "finish"}],
        }}))
        .unwrap();
        Shown::new(&pod, "127.1.1.2", "127.1.1.1", Timestamp::UNIX_EPOCH)
    }

    fn ended(code: i32) -> State {
        let at = Timestamp::UNIX_EPOCH;
        State::Ended(End { code, message: String::new(), began: at, ended: at })
    }

    fn phase_after(policy: &str, states: &[(&str, State)]) -> &'static str {
        let mut shown = shown(policy);
        for (name, state) in states {
            shown.container(name).unwrap().state = state.clone();
        }
        shown.phase()
    }

    #[test]
    fn a_pods_phase_follows_from_its_containers() {
        let runs = State::Runs { since: Timestamp::UNIX_EPOCH };
        assert_eq!(phase_after("Never", &[("prepare", runs.clone())]), "Pending");
        assert_eq!(phase_after("Never", &[("prepare", ended(75))]), "Failed");
        let done = [("prepare", ended(0)), ("upscale", ended(0))];
        let then = |state: &State| [done.as_slice(), &[("finish", state.clone())]].concat();
        assert_eq!(phase_after("Never", &then(&runs)), "Running");
        assert_eq!(phase_after("Never", &then(&ended(0))), "Succeeded");
        assert_eq!(phase_after("Never", &then(&ended(80))), "Failed");
        assert_eq!(phase_after("Always", &then(&ended(1))), "Running", "it is begun again");
    }
}
