//! A fresh bed, step by step. What has an effect on the machine is in the record before it is done.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use super::grade::Grade;
use super::pki::Authority;
use super::record::{Record, boot};
use super::{Bed, NODES, clearing, control_plane, gpus, network, node, runner};
use crate::images::Programs;

/// Clears what is left of an earlier bed and starts every process of a new one.
///
/// # Errors
/// When a step fails; the next call clears what this one has done.
pub fn anew(bed: &mut Bed, programs: &Programs, shape: String) -> Result<()> {
    clearing::machine(&bed.layout, &bed.processes, &bed.progress)?;
    clearing::storage(&bed.layout)?;
    let addresses = network::choose(&bed.layout, bed.grade)?;
    bed.record =
        Record { grade: Some(bed.grade), boot: boot()?, octet: addresses.octet, shape, ..Record::default() };
    if bed.grade == Grade::Full {
        let settings = node::KERNEL_SETTINGS
            .iter()
            .filter_map(|file| Some((file.into(), fs::read_to_string(file).ok()?)));
        bed.record.settings = settings.collect();
        bed.record.folders = node::missing_folders();
    }
    bed.save()?;
    for folder in &bed.record.folders {
        fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    for folder in [bed.layout.logs(), bed.layout.volumes()] {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    if bed.grade == Grade::Full {
        run_folder(bed)?;
        bed.processes.make(&NODES)?;
        bed.progress.say(format_args!("making network {} with {}", addresses.cluster(), NODES.join(" and ")));
        network::make(&bed.layout, addresses)?;
    }

    bed.progress.say("starting the simulated GPUs");
    gpus::start(bed, programs)?;
    bed.progress.say("starting the control plane");
    let authority = Authority::new(&bed.layout.pki())?;
    control_plane::start(bed, &authority)?;
    for (at, name) in NODES.iter().enumerate() {
        bed.progress.say(format_args!("starting {name}"));
        match bed.grade {
            Grade::Full => node::start(bed, &authority, at, name)?,
            Grade::Plain => runner::start(bed, &authority, programs, at, name)?,
        }
    }
    Ok(())
}

/// A folder that is a mount of its own, seen by nobody's copy: only such a one can hold mount namespaces.
fn run_folder(bed: &Bed) -> Result<()> {
    let run = &bed.layout.run;
    fs::create_dir_all(run).with_context(|| format!("create {}", run.display()))?;
    fs::set_permissions(run, fs::Permissions::from_mode(0o755)).context("open the run folder")?;
    mount_bind(run, run).with_context(|| format!("mount {}", run.display()))?;
    mount_change(run, MountPropagationFlags::PRIVATE)
        .with_context(|| format!("make {} private", run.display()))
}
