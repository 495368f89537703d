//! Claims as Leases. Reading is total: whatever stands on a Lease becomes a claim, and one that cannot be understood
//! is quarantined, never free.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::ObjectMeta;

use super::{AttemptId, Claim, Grant, JobKey, Mark};
use crate::api::keys;

/// Cause of the quarantine of a Lease that cannot be understood.
const UNREADABLE: &str = "unreadable claim";
/// Longest cause that is written, characters.
const MAX_CAUSE: usize = 200;

/// Name of the Lease of a GPU: its UUID in lower case.
pub fn lease_name(gpu: &str) -> String {
    gpu.to_ascii_lowercase()
}

impl Claim {
    /// The claim of a GPU that has no Lease yet.
    pub fn unclaimed(gpu: &str) -> Self {
        Self {
            gpu: gpu.to_owned(),
            holder: None,
            grant: None,
            actor: String::new(),
            last_pod_uid: None,
            quarantined: None,
            out: None,
            resource_version: String::new(),
        }
    }

    /// Whether an attempt may be given the GPU.
    pub fn is_free(&self) -> bool {
        self.holder.is_none() && self.quarantined.is_none() && self.out.is_none()
    }

    /// Whether the Lease could not be understood.
    pub fn is_unreadable(&self) -> bool {
        self.quarantined.as_ref().is_some_and(|mark| mark.cause.starts_with(UNREADABLE))
    }

    /// Reads a Lease.
    pub fn of_lease(lease: &Lease) -> Self {
        let empty = BTreeMap::new();
        let notes = lease.metadata.annotations.as_ref().unwrap_or(&empty);
        let note = |key: &str| notes.get(key).cloned();
        let name = lease.metadata.name.clone().unwrap_or_default();
        let mut claim = Self {
            actor: note(keys::ACTOR).unwrap_or_default(),
            last_pod_uid: note(keys::LAST_POD_UID).filter(|uid| !uid.is_empty()),
            quarantined: notes.get(keys::QUARANTINED).map(|text| Mark::parse(text)),
            out: notes.get(keys::OUT).map(|text| Mark::parse(text)),
            resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
            ..Self::unclaimed(&name)
        };
        let identity =
            lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if identity.is_empty() {
            return claim;
        }
        match held(identity, &name, notes) {
            Some((holder, grant)) => {
                claim.gpu.clone_from(&grant.gpu);
                claim.holder = Some(holder);
                claim.grant = Some(grant);
            }
            None => {
                let cause = format!("{UNREADABLE}, held by {}", cut(identity));
                claim.quarantined = Some(Mark { cause, at: Timestamp::UNIX_EPOCH });
            }
        }
        claim
    }

    /// The Lease to write, in that namespace. A claim without resource version is created, any other replaces what
    /// has that version.
    pub fn to_lease(&self, namespace: &str) -> Lease {
        let mut notes = BTreeMap::from([(keys::ACTOR, self.actor.clone())]);
        if let Some(holder) = &self.holder {
            notes.insert(keys::JOB_NAMESPACE, holder.job.namespace.clone());
            notes.insert(keys::JOB_NAME, holder.job.name.clone());
            notes.insert(keys::JOB_UID, holder.job.uid.clone());
            notes.insert(keys::SEGMENT, holder.segment.to_string());
            notes.insert(keys::ATTEMPT, holder.attempt.to_string());
        }
        if let Some(grant) = &self.grant {
            notes.insert(keys::NODE, grant.node.clone());
            notes.insert(keys::PLANNED_BYTES, grant.need_bytes.to_string());
            // A grant is plain data: writing it as JSON cannot fail.
            notes.insert(keys::GRANT, serde_json::to_string(grant).unwrap_or_default());
        }
        let marks = [(keys::QUARANTINED, &self.quarantined), (keys::OUT, &self.out)];
        notes.extend(marks.into_iter().filter_map(|(key, mark)| Some((key, mark.as_ref()?.to_string()))));
        notes.extend(self.last_pod_uid.clone().map(|uid| (keys::LAST_POD_UID, uid)));
        Lease {
            metadata: ObjectMeta {
                name: Some(lease_name(&self.gpu)),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    keys::MANAGED_BY.to_owned(),
                )])),
                annotations: Some(notes.into_iter().map(|(key, text)| (key.to_owned(), text)).collect()),
                resource_version: Some(self.resource_version.clone()).filter(|version| !version.is_empty()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: self.holder.as_ref().map(AttemptId::pod_name),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Holder and grant, if all that is written of them is there and agrees.
fn held(identity: &str, name: &str, notes: &BTreeMap<String, String>) -> Option<(AttemptId, Grant)> {
    let note = |key: &str| notes.get(key).cloned();
    let holder = AttemptId {
        job: JobKey {
            namespace: note(keys::JOB_NAMESPACE)?,
            name: note(keys::JOB_NAME)?,
            uid: note(keys::JOB_UID)?,
        },
        segment: notes.get(keys::SEGMENT)?.parse().ok()?,
        attempt: notes.get(keys::ATTEMPT)?.parse().ok()?,
    };
    let grant: Grant = serde_json::from_str(notes.get(keys::GRANT)?).ok()?;
    (holder.pod_name() == identity && lease_name(&grant.gpu) == name).then_some((holder, grant))
}

impl Mark {
    fn parse(text: &str) -> Self {
        let read = text.rsplit_once('@').and_then(|(cause, at)| Some((cause, at.parse().ok()?)));
        match read {
            Some((cause, at)) => Self { cause: cut(cause), at },
            None => Self { cause: cut(text), at: Timestamp::UNIX_EPOCH },
        }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", cut(&self.cause), self.at)
    }
}

/// One bounded line.
fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CAUSE).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::claim::SeenBefore;

    fn claimed() -> Claim {
        let job = JobKey { namespace: "media".into(), name: "holiday".into(), uid: "9b1deb4d-3b7d".into() };
        Claim {
            holder: Some(AttemptId { job, segment: 7, attempt: 2 }),
            grant: Some(Grant {
                gpu: "GPU-5A1C".into(),
                gpu_index: 1,
                gpu_model: "NVIDIA L40S".into(),
                node: "node-a".into(),
                step: 2,
                need_bytes: 12 << 30,
                seen: SeenBefore {
                    free: 1,
                    available: 2,
                    foreign: 3,
                    total: 4,
                    seq: 5,
                    inst: "c1f0a9e2".into(),
                },
            }),
            actor: "a1".into(),
            last_pod_uid: Some("p0".into()),
            quarantined: Some(Mark {
                cause: "lost pod @ node-a".into(),
                at: Timestamp::from_second(1_800_000_000).unwrap(),
            }),
            out: Some(Mark { cause: "GpuFault".into(), at: Timestamp::UNIX_EPOCH }),
            resource_version: "12".into(),
            ..Claim::unclaimed("GPU-5A1C")
        }
    }

    #[test]
    fn claims_come_back_from_their_lease() {
        let free = Claim { resource_version: "3".into(), ..Claim::unclaimed("gpu-5a1c") };
        for claim in [claimed(), free] {
            assert_eq!(Claim::of_lease(&claim.to_lease("ns")), claim);
        }
    }

    #[test]
    fn a_lease_without_version_asks_to_be_created() {
        let lease = Claim::unclaimed("GPU-A").to_lease("ns");
        assert_eq!((lease.metadata.name.as_deref(), lease.metadata.resource_version), (Some("gpu-a"), None));
    }

    #[test]
    fn a_held_lease_that_cannot_be_understood_is_never_free() {
        let whole = claimed().to_lease("ns");
        for key in
            [keys::JOB_NAMESPACE, keys::JOB_NAME, keys::JOB_UID, keys::SEGMENT, keys::ATTEMPT, keys::GRANT]
        {
            for text in [None, Some("\u{0}garbage"), Some("-1"), Some("{}")] {
                let mut lease = whole.clone();
                let notes = lease.metadata.annotations.as_mut().unwrap();
                notes.remove(keys::QUARANTINED);
                notes.remove(keys::OUT);
                notes.remove(key);
                notes.extend(text.map(|text| (key.to_owned(), text.to_owned())));
                let claim = Claim::of_lease(&lease);
                assert!(!claim.is_free(), "{key} {text:?}");
                // A namespace is free text: another one is another job, and no garbage.
                assert!(claim.is_unreadable() || key == keys::JOB_NAMESPACE, "{key} {text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_on_a_lease_is_read(identity in "\\PC{0,20}", key in 0_usize..4, text in "\\PC{0,40}") {
            let key = [keys::QUARANTINED, keys::OUT, keys::GRANT, keys::ATTEMPT][key];
            let mut lease = claimed().to_lease("ns");
            lease.spec.as_mut().unwrap().holder_identity = Some(identity.clone());
            lease.metadata.annotations.as_mut().unwrap().insert(key.to_owned(), text);
            prop_assert!(!Claim::of_lease(&lease).is_free());
        }
    }
}
