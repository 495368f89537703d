//! The Lease: read as a [`Record`], and written as Kubernetes' own components write theirs, so that `kubectl get lease`
//! and other tools understand it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use super::candidate::{LENGTH, Record};

/// What stands on a Lease, whoever wrote it.
pub fn record(lease: &Lease) -> Record {
    let empty = LeaseSpec::default();
    let spec = lease.spec.as_ref().unwrap_or(&empty);
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.clone().filter(|holder| !holder.is_empty()),
        renewed: spec.renew_time.as_ref().map(|time| time.0),
        length: seconds.map(Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

/// A Lease that there was not before, held by nobody. It must not look like a claim of a GPU, which are Leases of the
/// same namespace.
pub fn fresh(name: &str, release: &str) -> Lease {
    let label = |key: &str, value: &str| (format!("app.kubernetes.io/{key}"), value.to_owned());
    let labels = BTreeMap::from([
        label("name", "video-upscale"),
        label("part-of", "video-upscale"),
        label("component", "controller"),
        label("instance", release),
    ]);
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    Lease { metadata, spec: None }
}

/// The Lease with a holder as of now; what somebody else has put on it stays.
pub fn held(before: Lease, me: &str, now: Timestamp) -> Lease {
    let known = record(&before);
    let mut spec = before.spec.unwrap_or_default();
    if known.holder.as_deref() != Some(me) {
        // The first holder of a Lease is no change.
        let changes = i32::from(spec.acquire_time.is_some());
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(known.transitions.saturating_add(changes));
        spec.holder_identity = Some(me.to_owned());
    }
    spec.renew_time = Some(MicroTime(now));
    spec.lease_duration_seconds = i32::try_from(LENGTH.as_secs()).ok();
    Lease { spec: Some(spec), ..before }
}

/// The Lease without holder.
pub fn released(before: Lease, now: Timestamp) -> Lease {
    let mut spec = before.spec.unwrap_or_default();
    spec.holder_identity = None;
    spec.renew_time = Some(MicroTime(now));
    Lease { spec: Some(spec), ..before }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_holders_are_counted() {
        let first = held(fresh("up-controller", "up"), "a", at(7));
        let read = record(&first);
        let told = (read.holder.as_deref(), read.renewed, read.length, read.transitions);
        assert_eq!(told, (Some("a"), Some(at(7)), Some(LENGTH), 0));
        let renewed = held(first, "a", at(9));
        let spec = renewed.spec.clone().unwrap();
        assert_eq!((spec.acquire_time.unwrap().0, record(&renewed).transitions), (at(7), 0));
        let free = released(renewed, at(10));
        assert_eq!((record(&free).holder, record(&free).transitions), (None, 0));
        let second = held(free, "b", at(11));
        assert_eq!((record(&second).holder.as_deref(), record(&second).transitions), (Some("b"), 1));
    }

    #[test]
    fn whatever_stands_there_is_read() {
        assert_eq!(record(&Lease::default()), Record::default());
        let odd = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(-1),
            lease_transitions: Some(i32::MAX),
            ..LeaseSpec::default()
        };
        let odd = Lease { spec: Some(odd), ..Lease::default() };
        let read = record(&odd);
        assert_eq!((read.holder, read.length, read.transitions), (None, None, i32::MAX));
        assert_eq!(record(&held(odd, "a", at(0))).transitions, i32::MAX);
    }
}
