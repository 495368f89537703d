//! The thread that owns the driver. Its calls block, hold locks and may hang, so nobody else makes them and nobody
//! waits for it: the last [`Snapshot`] lies in a watch channel, and its age tells a hang.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use video_upscale::api::report::State;

use crate::clock::{Clock, Now};
use crate::health::XidEvent;
use crate::metrics::Xids;
use crate::observer::{Observer, Snapshot};
use crate::probe::Probe;

/// Time between two rounds.
pub const PERIOD: Duration = Duration::from_secs(2);
/// Age of the last snapshot from which the driver counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);
/// Age from which the agent counts as dead, so that the kubelet restarts it.
pub const DEAD_AFTER: Duration = Duration::from_secs(120);

/// Starts the thread. It is never joined, as it may never come back from the driver.
pub fn start<P: Probe + Send + 'static>(
    mut observer: Observer<P>,
    xids: Receiver<XidEvent>,
    counts: Xids,
    clock: Clock,
    snapshots: watch::Sender<Option<Snapshot>>,
) -> std::io::Result<()> {
    let rounds = move || {
        let mut heard = Vec::new();
        while !snapshots.is_closed() {
            let snapshot = observer.round(&heard, clock.now());
            snapshots.send_replace(Some(snapshot));
            heard = listen(&xids, clock, clock.now().up.saturating_add(PERIOD));
            counts.heard(&heard);
        }
    };
    thread::Builder::new().name("nvml".to_owned()).spawn(rounds).map(drop)
}

/// Waits for the next round; an Xid ends the wait early. The observer keeps a sender, so the channel stays open.
fn listen(xids: &Receiver<XidEvent>, clock: Clock, until: Duration) -> Vec<XidEvent> {
    match xids.recv_timeout(until.saturating_sub(clock.now().up)) {
        Ok(first) => std::iter::once(first).chain(xids.try_iter()).collect(),
        Err(RecvTimeoutError::Timeout) => Vec::new(),
        Err(RecvTimeoutError::Disconnected) => {
            thread::park_timeout(until.saturating_sub(clock.now().up));
            Vec::new()
        }
    }
}

/// The state to be told: that of the snapshot, unless it is so old that the driver must be stuck.
pub fn state(snapshot: &Snapshot, now: Now) -> State {
    if age(snapshot, now) >= STUCK_AFTER { State::NvmlStuck } else { snapshot.state }
}

/// Age of a snapshot.
pub fn age(snapshot: &Snapshot, now: Now) -> Duration {
    now.up.saturating_sub(snapshot.taken.up)
}
