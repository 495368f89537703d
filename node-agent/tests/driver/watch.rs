//! The agent's observer over the real library, round by round.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gpusim::script::{Rule, Script};
use prometheus_client::registry::Registry;
use upscale_agent::{Calls, Clock, FreeMemory, Head, Now, NvmlProbe, Observer, Proc, XidEvent, build};
use video_upscale::api::report::{Report, State};

use crate::bed::{Bed, eventually};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Free memory of the idle cards.
pub const FREE: [u64; 2] = [(16_376 - 300) * MIB, 5_192 * MIB];

/// The sampler's work, with the time in the test's hand.
pub struct Watch {
    observer: Observer<NvmlProbe>,
    xids: Receiver<XidEvent>,
    /// What free memory can be.
    free: Vec<u64>,
}

impl Watch {
    pub fn over(library: &Path) -> Self {
        let (heard, xids) = channel();
        let calls = Calls::register(&mut Registry::default(), Clock::start());
        let probe = NvmlProbe::new(Some(library.to_owned()), calls, heard);
        Self { observer: Observer::new(probe, Proc::open("/proc", None)), xids, free: FREE.to_vec() }
    }

    /// Another amount of free memory that is true of a card.
    pub fn free_may_be(&mut self, bytes: u64) {
        self.free.push(bytes);
    }

    /// A round at that second; whatever the driver says, no value is made up.
    pub fn round(&mut self, second: u64) -> Report {
        let heard: Vec<XidEvent> = self.xids.try_iter().collect();
        self.told(&heard, second)
    }

    /// A round after the next event.
    pub fn round_after_event(&mut self, second: u64) -> Report {
        let event = self.next_event(Duration::from_secs(20)).unwrap();
        self.told(&[event], second)
    }

    /// The next event, if one comes within `limit`.
    pub fn next_event(&self, limit: Duration) -> Option<XidEvent> {
        self.xids.recv_timeout(limit).ok()
    }

    fn told(&mut self, heard: &[XidEvent], second: u64) -> Report {
        let up = Duration::from_secs(second);
        let start: jiff::Timestamp = "2026-11-23T07:50:11Z".parse().unwrap();
        let snapshot = self.observer.round(heard, Now { up, wall: start.saturating_add(up).unwrap() });
        let head = Head { ns: "ops".to_owned(), inst: "0123abcd".to_owned(), hb: 300 };
        let report = build(&snapshot, snapshot.state, &head, FreeMemory::Measured);
        for gpu in &report.gpus {
            assert!(gpu.free.is_none_or(|free| self.free.contains(&free)), "free of {gpu:?}");
            assert!(gpu.una.is_none_or(|bytes| bytes <= 16 * GIB), "unattributed of {gpu:?}");
            assert!(gpu.free.is_some() || gpu.why.is_some(), "unknown without a reason: {gpu:?}");
        }
        report
    }

    /// Rounds from `second` on until the view is no longer well; what it is then, and how many rounds it took.
    pub fn until_unwell(&mut self, second: u64) -> (Report, usize) {
        let mut rounds = (second..second + 2_000).step_by(2).map(|second| self.round(second)).enumerate();
        let (before, report) = rounds.find(|(_, report)| report.state != State::Ok).unwrap();
        (report, before)
    }
}

/// From now on calls are answered by these rules, and logged.
pub fn rules(bed: &Bed, rules: Vec<Rule>) {
    bed.plays(&Script { rules, log: true, ..Script::default() });
}

/// Waits until the library is asked for events.
pub fn wait_until_events_are_heard(bed: &Bed) {
    eventually("events are waited for", || bed.calls().iter().any(|call| call == "nvmlEventSetWait_v2"));
}
