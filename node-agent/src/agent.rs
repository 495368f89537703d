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
        let mut stop = Stop::listen()?;
        let mut told = State::Ok;
        let mut due = self.clock.now().up;
        loop {
            // A report that is due soon must not wait for a driver that hangs; looking twice a period costs nothing.
            let pause = due.saturating_sub(self.clock.now().up).min(sampler::PERIOD);
            tokio::select! {
                biased;
                () = stop.told() => return Ok(self.stopped().await),
                _ = tokio::time::timeout(pause, sampled(&mut self.snapshots)) => {}
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
            let snapshots = self.snapshots.clone();
            due = tokio::select! {
                biased;
                // What ends the agent waits for no answer of a slow server: the last words are another write.
                () = stop.told() => return Ok(self.stopped().await),
                () = ends(snapshots, current.state) => self.clock.now().up,
                due = self.publisher.offer(&current) => due,
            };
            let bad = self.publisher.verdicts().bad().map(str::to_owned).collect();
            self.board.show(self.publisher.standing(), self.publisher.published(), bad);
        }
    }

    /// Says good-bye; the exit code.
    async fn stopped(&mut self) -> u8 {
        if let Some(last) = self.report(Some(State::Stopped)) {
            self.publisher.farewell(&last, FAREWELL).await;
        }
        info!("stopped");
        0
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

/// The signals that end the agent.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits until one of them comes.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for the next snapshot; for ever if the driver's thread has ended, as then none will come.
async fn sampled(snapshots: &mut watch::Receiver<Option<Snapshot>>) {
    if snapshots.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits for a snapshot of a state other than `known` that ends the agent.
async fn ends(mut snapshots: watch::Receiver<Option<Snapshot>>, known: State) {
    loop {
        sampled(&mut snapshots).await;
        let state = snapshots.borrow().as_ref().map(|snapshot| snapshot.state);
        if state.is_some_and(|state| state != known && exits::code(state).is_some()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
