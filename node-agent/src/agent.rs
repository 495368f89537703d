//! The loop that joins sampler and publisher, until a signal, or a state that only a new container can mend.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};
use video_upscale::api::report::{Report, State};

use crate::board::Board;
use crate::clock::Clock;
use crate::exits::{self, LastExit};
use crate::observer::Snapshot;
use crate::publish::Publisher;
use crate::report::{FreeMemory, Head, build};
use crate::sampler;

/// Longest wait for the last words.
const FAREWELL: Duration = Duration::from_secs(3);

/// Everything the loop works with.
pub struct Agent {
    /// Snapshots of the sampler.
    pub snapshots: watch::Receiver<Option<Snapshot>>,
    /// Where they go.
    pub publisher: Publisher,
    /// Shared with the HTTP server.
    pub board: Board,
    /// Clock of all parts.
    pub clock: Clock,
    /// What stands in every report.
    pub head: Head,
    /// Last end by choice.
    pub exits: LastExit,
}

impl Agent {
    /// Runs; returns the exit code.
    pub async fn run(mut self) -> std::io::Result<u8> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut told = State::Ok;
        let mut due = self.clock.now().up;
        loop {
            if stopped(&mut self.snapshots, due, self.clock, &mut terminate, &mut interrupt).await {
                if let Some(last) = self.report(Some(State::Stopped)) {
                    self.publisher.farewell(&last, FAREWELL).await;
                }
                info!("stopped");
                return Ok(0);
            }
            let Some(current) = self.report(None) else {
                due = self.clock.now().up.saturating_add(sampler::PERIOD);
                continue;
            };
            if current.state != told {
                self.tell(current.state);
                told = current.state;
            }
            if let Some(code) = exits::code(current.state)
                && self.exits.allows(self.clock.now().wall)
            {
                self.exits.note(self.clock.now().wall);
                self.publisher.farewell(&current, FAREWELL).await;
                error!(state = %current.state, code, "ending, so that a new container gets driver and devices anew");
                return Ok(code);
            }
            due = self.publisher.offer(&current).await;
            let bad = self.publisher.verdicts().bad().map(str::to_owned).collect();
            self.board.show(self.publisher.standing(), self.publisher.published(), bad);
        }
    }

    fn report(&self, state: Option<State>) -> Option<Report> {
        let now = self.clock.now();
        let snapshot = self.board.view(now)?;
        let state = state.unwrap_or_else(|| sampler::state(&snapshot, now));
        Some(build(&snapshot, state, &self.head, FreeMemory::Held))
    }

    fn tell(&self, state: State) {
        let trouble = self.board.snapshot().and_then(|snapshot| snapshot.trouble).unwrap_or_default();
        if state == State::Ok {
            info!(%state, "the GPUs can be read");
        } else {
            warn!(%state, trouble, "the GPUs cannot be read");
        }
    }
}

/// Waits for the next snapshot, for `due`, or for the age at which a silent driver counts as stuck, whichever comes
/// first. Returns whether the agent is to stop.
async fn stopped(
    snapshots: &mut watch::Receiver<Option<Snapshot>>,
    due: Duration,
    clock: Clock,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) -> bool {
    // A report that is due soon must not wait for a driver that hangs; looking twice a period costs nothing.
    let pause = due.saturating_sub(clock.now().up).min(sampler::PERIOD);
    tokio::select! {
        biased;
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        _ = tokio::time::timeout(pause, snapshots.changed()) => false,
    }
}
