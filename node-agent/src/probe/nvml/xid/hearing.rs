//! Which GPUs go unheard, from one registration to the next: pure.

use std::collections::BTreeSet;

/// What a registration of all GPUs came to, by UUID.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// In the set that is listened to.
    pub heard: BTreeSet<String>,
    /// Have events, but could not be taken in.
    pub unheard: BTreeSet<String>,
    /// Say that they have none.
    pub without: BTreeSet<String>,
}

/// The GPUs that are known to have events.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    known: BTreeSet<String>,
}

impl Hearing {
    /// Takes what a registration came to. Returns the GPUs whose events are missed from now on: also those that were
    /// heard once and cannot even be named now.
    pub fn registered(&mut self, found: Found) -> BTreeSet<String> {
        self.known.retain(|uuid| !found.without.contains(uuid));
        self.known.extend(found.unheard);
        self.known.extend(found.heard.iter().cloned());
        self.known.difference(&found.heard).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(uuids: &[&str]) -> BTreeSet<String> {
        uuids.iter().map(|uuid| (*uuid).to_owned()).collect()
    }

    #[test]
    fn a_gpu_that_cannot_be_heard_stays_unheard_until_it_is_or_has_no_events() {
        let mut hearing = Hearing::default();
        let mut step = |heard: &[&str], unheard: &[&str], without: &[&str]| {
            let found = Found { heard: set(heard), unheard: set(unheard), without: set(without) };
            hearing.registered(found)
        };
        assert_eq!(step(&["a"], &["b"], &["c"]), set(&["b"]), "refused from the start");
        assert_eq!(step(&["a"], &["b"], &["c"]), set(&["b"]), "and again");
        assert_eq!(step(&["b"], &[], &["c"]), set(&["a"]), "heard before, not to be named now");
        assert_eq!(step(&["b"], &[], &["c"]), set(&["a"]), "still");
        assert_eq!(step(&["a", "b"], &[], &["c"]), set(&[]));
        assert_eq!(step(&[], &["a"], &["b"]), set(&["a"]));
    }
}
