//! How a stage fails: with a word of the contract and one sentence for the user.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::ffmpeg::is_of_reading;
use crate::api::worker::Code;

/// Result of the worker's operations.
pub type Outcome<T> = Result<T, Failure>;

/// Why a stage ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A decision of ours: what was found does not allow to go on.
    #[error("{message}")]
    Stop {
        /// Word of the contract.
        code: Code,
        /// What happened, with which numbers, what to do.
        message: String,
    },
    /// An operation on a file failed.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried, `read`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// ffmpeg or ffprobe could not be started or did not succeed.
    #[error("{program} ({purpose}) {ended}: {said}")]
    Tool {
        /// `ffmpeg` or `ffprobe`.
        program: &'static str,
        /// What it was to do, `index the film`.
        purpose: &'static str,
        /// `ended with exit status: 1`.
        ended: String,
        /// First lines of its standard error, bounded.
        said: String,
    },
}

impl Failure {
    /// A decision of ours.
    pub fn stop(code: Code, message: impl fmt::Display) -> Self {
        Self::Stop { code, message: message.to_string() }
    }

    /// Word of the contract.
    pub fn code(&self) -> Code {
        match self {
            Self::Stop { code, .. } => *code,
            Self::File { source, .. } if is_full(source) => Code::OutOfSpace,
            Self::File { .. } => Code::Io,
            Self::Tool { said, .. } if says_full(said) => Code::OutOfSpace,
            Self::Tool { .. } => Code::Internal,
        }
    }
}

impl Failure {
    /// Whether a program refused what it was given: it was neither killed, nor kept from reading or writing by a volume.
    pub fn is_of_content(&self) -> bool {
        let Self::Tool { ended, said, .. } = self else { return false };
        !ended.contains("signal") && !is_of_reading(said) && !says_full(said)
    }
}

/// Turns an error of a file operation into a [`Failure`] that names the operation and the file.
pub fn on_file<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |source| Failure::File { operation, path: path.to_owned(), source }
}

/// Whether a volume or quota is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a program's words tell of a full volume.
fn says_full(said: &str) -> bool {
    said.contains("No space left on device") || said.contains("Disk quota exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_volume_is_told_from_other_errors() {
        let file = |kind: io::ErrorKind| on_file("write", Path::new("/x"))(io::Error::from(kind)).code();
        assert_eq!(file(io::ErrorKind::StorageFull), Code::OutOfSpace);
        assert_eq!(file(io::ErrorKind::QuotaExceeded), Code::OutOfSpace);
        assert_eq!(file(io::ErrorKind::PermissionDenied), Code::Io);
        let tool = |said: &str| Failure::Tool {
            program: "ffmpeg",
            purpose: "encode the part",
            ended: "ended".to_owned(),
            said: said.to_owned(),
        };
        assert_eq!(tool("av_interleaved_write_frame(): No space left on device").code(), Code::OutOfSpace);
        assert_eq!(tool("Invalid data").code(), Code::Internal);
    }
}
