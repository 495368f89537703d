//! Whether a GPU can be trusted: Xid numbers, memory errors, rows waiting for a reset, loss.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use video_upscale::api::report::Health;

use crate::clock::Now;
use crate::gpu::Signs;
use crate::probe::Fault;

/// How long a sign makes a GPU suspect.
const SUSPECT_FOR: Duration = Duration::from_secs(600);
/// How long a failed event wait does: until the next good minute.
const DEAF_FOR: Duration = Duration::from_secs(60);

/// What the event thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XidEvent {
    /// A GPU raised an Xid.
    Xid {
        /// Which GPU.
        uuid: String,
        /// The number.
        xid: u64,
    },
    /// What happens to some GPUs now is not heard.
    Deaf {
        /// Which GPUs.
        uuids: BTreeSet<String>,
    },
}

/// What an Xid number says of the card; see NVIDIA's "XID Errors" document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XidClass {
    /// The program's own fault.
    Program,
    /// The card may be at fault.
    Suspect,
    /// The card is at fault.
    Bad,
}

impl XidClass {
    /// Classifies a number; ones that are not known say nothing of the card.
    pub const fn of(xid: u64) -> Self {
        match xid {
            79 | 95 | 119 | 120 => Self::Bad,
            48 | 63 | 64 | 74 | 92 | 94 => Self::Suspect,
            _ => Self::Program,
        }
    }
}

/// Verdict over one GPU, from everything heard so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    suspect_until: Option<Duration>,
    bad: bool,
    reset_pending: bool,
    fault: Option<Health>,
    ecc_uncorrected: Option<u64>,
    last_xid: Option<(u64, Timestamp)>,
}

impl Record {
    /// An Xid of this GPU.
    pub fn xid(&mut self, xid: u64, now: Now) {
        let class = XidClass::of(xid);
        if class == XidClass::Program {
            return;
        }
        self.last_xid = Some((xid, now.wall));
        self.bad |= class == XidClass::Bad;
        self.suspect(now.up.saturating_add(SUSPECT_FOR));
    }

    /// Events of this GPU can no longer be heard.
    pub fn deaf(&mut self, now: Now) {
        self.suspect(now.up.saturating_add(DEAF_FOR));
    }

    /// The regular check.
    pub fn signs(&mut self, signs: &Signs, now: Now) {
        self.reset_pending = signs.reset_pending.unwrap_or(self.reset_pending);
        self.bad |= signs.remap_failed;
        let grew =
            matches!((self.ecc_uncorrected, signs.ecc_uncorrected), (Some(old), Some(new)) if new > old);
        if grew {
            self.suspect(now.up.saturating_add(SUSPECT_FOR));
        }
        self.ecc_uncorrected = signs.ecc_uncorrected.or(self.ecc_uncorrected);
    }

    /// How the last memory call ended.
    pub fn answered(&mut self, fault: Option<&Fault>) {
        self.fault = match fault {
            Some(Fault::GpuLost) => Some(Health::Lost),
            Some(Fault::ResetRequired) => Some(Health::ResetRequired),
            Some(Fault::NotSupported) => Some(Health::Unsupported),
            _ => None,
        };
    }

    /// The verdict at this moment, the gravest first.
    pub fn verdict(&self, now: Now) -> Health {
        match self.fault {
            Some(fault) => fault,
            None if self.bad => Health::Bad,
            None if self.reset_pending => Health::ResetRequired,
            None if self.suspect_until.is_some_and(|until| now.up < until) => Health::Suspect,
            None => Health::Ok,
        }
    }

    /// Last Xid that says something of the card, and when it came.
    pub const fn last_xid(&self) -> Option<(u64, Timestamp)> {
        self.last_xid
    }

    fn suspect(&mut self, until: Duration) {
        self.suspect_until = self.suspect_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(xid: u64, seconds: u64) -> Health {
        let mut record = Record::default();
        record.xid(xid, Now::at(0));
        record.verdict(Now::at(seconds))
    }

    #[test]
    fn a_programs_own_fault_says_nothing_of_the_card() {
        for xid in [13, 31, 43, 45, 68, 109, 9999] {
            assert_eq!(after(xid, 0), Health::Ok, "{xid}");
        }
    }

    #[test]
    fn suspicion_ends_after_ten_quiet_minutes_and_bad_never_by_itself() {
        for xid in [48, 63, 64, 74, 92, 94] {
            assert_eq!(after(xid, 599), Health::Suspect, "{xid}");
            assert_eq!(after(xid, 600), Health::Ok, "{xid}");
        }
        for xid in [79, 95, 119, 120] {
            assert_eq!(after(xid, 100_000), Health::Bad, "{xid}");
        }
    }

    #[test]
    fn only_a_growing_error_count_is_a_sign() {
        let mut record = Record::default();
        let signs = |count| Signs { ecc_uncorrected: Some(count), ..Signs::default() };
        record.signs(&signs(7), Now::at(0));
        assert_eq!(record.verdict(Now::at(0)), Health::Ok);
        record.signs(&signs(8), Now::at(60));
        assert_eq!(record.verdict(Now::at(60)), Health::Suspect);
    }

    #[test]
    fn a_lost_card_is_lost_until_it_answers_again() {
        let mut record = Record::default();
        record.answered(Some(&Fault::GpuLost));
        assert_eq!(record.verdict(Now::at(0)), Health::Lost);
        record.answered(None);
        assert_eq!(record.verdict(Now::at(2)), Health::Ok);
    }

    #[test]
    fn rows_that_wait_for_a_reset_ask_for_it() {
        let mut record = Record::default();
        record.signs(&Signs { reset_pending: Some(true), ..Signs::default() }, Now::at(0));
        assert_eq!(record.verdict(Now::at(0)), Health::ResetRequired);
        record.signs(&Signs::default(), Now::at(60));
        assert_eq!(record.verdict(Now::at(60)), Health::ResetRequired, "not told is not healed");
        record.signs(&Signs { remap_failed: true, ..Signs::default() }, Now::at(0));
        assert_eq!(record.verdict(Now::at(0)), Health::Bad);
    }
}
