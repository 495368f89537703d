//! Which claims this process has written a moment ago, so that nobody else undoes them yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::fleet::claim::{Claim, lease_name};

/// For how long a write keeps others away: they leave a claim alone for three times as long, and a pod's create may take
/// as long again.
const FRESH: Duration = Duration::from_secs(10);
/// Writes remembered before old ones are looked for.
const MANY: usize = 1024;

/// The last own write of each Lease: its version, and when.
#[derive(Debug, Default)]
pub(in crate::fleet) struct OwnWrites {
    by_lease: Mutex<HashMap<String, (String, Duration)>>,
}

impl OwnWrites {
    /// Notes a claim as this process has just written it; `up`: how long the process has run.
    pub(in crate::fleet) fn note(&self, claim: &Claim, up: Duration) {
        let mut writes = self.by_lease.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() >= MANY {
            writes.retain(|_, (_, at)| up.saturating_sub(*at) <= FRESH);
        }
        writes.insert(lease_name(&claim.gpu), (claim.resource_version.clone(), up));
    }

    /// Whether this process wrote the claim as it is, and so lately that nobody undoes it while its pod is made.
    pub(in crate::fleet) fn is_fresh(&self, claim: &Claim, up: Duration) -> bool {
        let writes = self.by_lease.lock().unwrap_or_else(PoisonError::into_inner);
        writes.get(&lease_name(&claim.gpu)).is_some_and(|(version, at)| {
            *version == claim.resource_version && up.saturating_sub(*at) <= FRESH
        })
    }
}
