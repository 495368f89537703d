//! The end of a bed, and what tells whether there is one.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result, ensure};

use super::grade::{Grade, Machine};
use super::layout::Layout;
use super::process_set::ProcessSet;
use super::record::Record;
use super::{clearing, lock};
use crate::progress::Progress;

/// Takes the bed of this checkout down, in whatever state it is; its volumes go, too. The cache stays.
///
/// # Errors
/// When something cannot be ended or removed.
pub fn down() -> Result<()> {
    let progress = Progress::default();
    let layout = Layout::find()?;
    let _lock = lock(&layout, &progress)?;
    let processes = processes_of(&layout)?;
    progress.say("ending the bed");
    clearing::machine(&layout, &processes, &progress)?;
    clearing::remove(&layout.state)?;
    let left = clearing::residue(&layout, &processes)?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    progress.say("nothing is left of it but the cache of tools and images");
    Ok(())
}

/// Whether this checkout has a bed, in whatever state: one whose volumes would go with it.
///
/// # Errors
/// When its folder cannot be read.
pub fn stands() -> Result<bool> {
    let volumes = Layout::find()?.volumes();
    match fs::read_dir(&volumes) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("list {}", volumes.display())),
    }
}

/// What a bed of this checkout has on the machine now: processes, mounts, interfaces, control groups, folders.
///
/// # Errors
/// When the machine's state cannot be read.
pub fn residue() -> Result<Vec<String>> {
    let layout = Layout::find()?;
    clearing::residue(&layout, &processes_of(&layout)?)
}

/// The processes of the bed that stands, or of the one that would.
fn processes_of(layout: &Layout) -> Result<ProcessSet> {
    let grade = Record::read(&layout.record()).ok().flatten().and_then(|record| record.grade);
    ProcessSet::of(grade.unwrap_or_else(|| Grade::of(Machine::look())), layout)
}
