//! How far this process has heard of objects of one kind, or of one object, so that no read brings it back to an earlier time.
//!
//! A read that is "not older than" a version comes out of the API server's memory at once. One without a version has to be
//! the newest: the server asks etcd how far all kinds together are, and waits until etcd has told it that nothing of this
//! kind is missing, which beside writes of other kinds takes up to 100 ms (consistent reads from the cache, KEP-2340;
//! `tests/scale` measures both). That versions of one kind are numbers that grow is promised since Kubernetes 1.35
//! (KEP-5504), and so before.

use std::sync::atomic::{AtomicU64, Ordering};

/// The largest version that was heard of.
#[derive(Debug, Default)]
pub struct Horizon(AtomicU64);

impl Horizon {
    /// An object, or a list, of that version was heard of. What is no number is no horizon.
    pub fn heard_of(&self, version: Option<&str>) {
        if let Some(version) = number(version) {
            self.0.fetch_max(version, Ordering::AcqRel);
        }
    }

    /// The version; `None` if nothing was heard of.
    pub fn version(&self) -> Option<String> {
        let version = self.0.load(Ordering::Acquire);
        (version > 0).then(|| version.to_string())
    }

    /// Whether something of that version is as new. What is no number is not.
    pub fn is_reached_by(&self, version: Option<&str>) -> bool {
        number(version).is_some_and(|version| version >= self.0.load(Ordering::Acquire))
    }

    /// An API server knows nothing so new: it lags, or its store was restored from an earlier time.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Release);
    }
}

fn number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_grows_until_it_is_forgotten() {
        let horizon = Horizon::default();
        assert_eq!(horizon.version(), None);
        for (heard, version) in
            [(Some("9"), "9"), (Some("10"), "10"), (Some("3"), "10"), (None, "10"), (Some("x"), "10")]
        {
            horizon.heard_of(heard);
            assert_eq!(horizon.version().as_deref(), Some(version), "{heard:?}");
            assert!(horizon.is_reached_by(Some(version)) && horizon.is_reached_by(Some("11")));
            assert!(!["2", "x", ""].into_iter().any(|older| horizon.is_reached_by(Some(older))));
        }
        horizon.forget();
        assert_eq!(horizon.version(), None);
        horizon.heard_of(Some("4"));
        assert_eq!(horizon.version().as_deref(), Some("4"));
    }
}
