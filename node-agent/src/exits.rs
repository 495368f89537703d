//! Ends by choice: when the devices or the driver are gone for this container, only a new container gets them back.
//! At most one such end in five minutes, so that a node with a broken toolkit keeps a voice instead of crash-looping.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tracing::warn;
use video_upscale::api::report::State;

/// Shortest time between two ends by choice, seconds.
const APART: i64 = 300;

/// Exit code after the driver changed under the library.
pub const DRIVER_MISMATCH: u8 = 75;
/// Exit code after the devices were taken away.
pub const DEVICE_ACCESS_LOST: u8 = 76;

/// The exit code by which a state ends the agent, if it does.
pub const fn code(state: State) -> Option<u8> {
    match state {
        State::DriverMismatch => Some(DRIVER_MISMATCH),
        State::DeviceAccessLost => Some(DEVICE_ACCESS_LOST),
        _ => None,
    }
}

/// Remembers the last end by choice in a folder that outlives the container, not the pod.
#[derive(Clone, Debug)]
pub struct LastExit {
    file: Option<PathBuf>,
}

impl LastExit {
    /// Kept in `folder`; without one nothing is remembered and every end is allowed.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { file: folder.map(|folder| folder.join("last-exit")) }
    }

    /// Whether the agent may end by choice now.
    pub fn allows(&self, now: Timestamp) -> bool {
        let Some(text) = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok()) else {
            return true;
        };
        let Ok(last) = text.trim().parse::<Timestamp>() else { return true };
        now.as_second().saturating_sub(last.as_second()).saturating_abs() >= APART
    }

    /// Notes that it does.
    pub fn note(&self, now: Timestamp) {
        let Some(file) = &self.file else { return };
        if let Err(error) = fs::write(file, now.to_string()) {
            warn!(%error, file = %file.display(), "the time of this exit could not be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    #[test]
    fn at_most_one_end_by_choice_in_five_minutes() {
        let folder = tempfile::tempdir().unwrap();
        let exits = LastExit::new(Some(folder.path()));
        assert!(exits.allows(Now::at(0).wall));
        exits.note(Now::at(0).wall);
        assert!(!exits.allows(Now::at(299).wall));
        assert!(exits.allows(Now::at(300).wall));
    }

    #[test]
    fn a_spoilt_note_or_no_folder_forbids_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("last-exit"), "yesterday").unwrap();
        assert!(LastExit::new(Some(folder.path())).allows(Now::at(0).wall));
        assert!(LastExit::new(None).allows(Now::at(0).wall));
    }
}
