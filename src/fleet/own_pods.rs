//! Pods as this process made them, so that their coming is no news to the jobs that made them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Pods kept at most; beyond that all are forgotten, and each costs a pass.
const MOST: usize = 10_000;

/// Versions with which pods were made, by UID, until they are heard of.
#[derive(Debug, Default)]
pub struct OwnPods(Mutex<BTreeMap<String, String>>);

impl OwnPods {
    /// This process has made that pod.
    pub fn made(&self, meta: &ObjectMeta) {
        let (Some(uid), Some(version)) = (meta.uid.clone(), meta.resource_version.clone()) else { return };
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MOST {
            made.clear();
        }
        made.insert(uid, version);
    }

    /// Takes in that a pod is heard of; whether that is more than that it was made here.
    pub fn hear_of(&self, meta: &ObjectMeta) -> bool {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = meta.uid.as_ref().and_then(|uid| made.remove(uid));
        version.is_none() || version != meta.resource_version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_since_it_was_made_is_news() {
        let pod = |uid: &str, version: &str| ObjectMeta {
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        let own = OwnPods::default();
        own.made(&pod("a", "5"));
        own.made(&pod("b", "6"));
        assert!(!own.hear_of(&pod("a", "5")));
        assert!(own.hear_of(&pod("a", "5")), "a new list tells of it again");
        assert!(own.hear_of(&pod("b", "9")), "its creation was missed");
        assert!(own.hear_of(&pod("c", "5")), "somebody else's");
        for number in 0..=MOST {
            own.made(&pod(&number.to_string(), "1"));
        }
        assert!(own.hear_of(&pod("0", "1")) && !own.hear_of(&pod(&MOST.to_string(), "1")));
    }
}
