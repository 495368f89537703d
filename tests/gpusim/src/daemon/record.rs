//! Writes the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::journal::{Entry, Event};
use crate::wire;

/// An open journal, or none.
#[derive(Debug, Default)]
pub struct Record(Option<File>);

impl Record {
    /// Appends to the file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Some(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    /// Writes one line, whole. A full disk loses lines of a test's log and nothing else, so it is not an error here.
    #[expect(clippy::disallowed_methods, reason = "the log says when things happened")]
    pub fn write(&mut self, event: Event) {
        let Some(file) = &mut self.0 else { return };
        let entry = Entry { at: jiff::Timestamp::now(), event };
        if let Err(error) = wire::encode(&entry).and_then(|line| file.write_all(&line)) {
            eprintln!("gpusim: journal: {error}");
        }
    }
}
