//! What one GPU is asked in a round, and what is believed of the answers.

use crate::card::Card;
use crate::clock::Now;
use crate::gpu::Listed;
use crate::probe::{DriverVersion, Fault, Probe};
use crate::procfs::Proc;

/// Asks what is due.
pub fn ask<P: Probe>(card: &mut Card, probe: &mut P, proc: &Proc, version: Option<DriverVersion>, now: Now) {
    let index = card.identity.index;
    card.memory = probe.memory(index);
    card.health.answered(card.memory.as_ref().err());
    let mut changed = card.roster.check(proc, now);
    if changed {
        card.hurry();
    }
    if card.sweep_is_due(now) {
        let was_readable = card.roster_fault.is_none();
        match sweep(card, probe, proc, version, now) {
            Ok(moved) => {
                card.roster_fault = None;
                changed |= moved;
            }
            Err(fault) => card.roster_fault = Some(fault),
        }
        if was_readable && card.roster_fault.is_some() {
            card.hurry_signs();
        }
        card.swept(changed, now);
    }
    let releasing = card.is_releasing(now);
    if let Ok(memory) = &card.memory {
        // Memory of a process that has ended comes back over seconds: held as a peak, it would be missing for minutes.
        if changed || releasing {
            card.peak.restart(memory.used, now);
        } else {
            card.peak.observe(memory.used, now);
        }
        if card.take_signs_turn(now) {
            card.signs = probe.signs(index).or(&card.signs);
            card.health.signs(&card.signs, now);
        }
        let instances = card.signs.mig.unwrap_or(false).then(|| probe.instances(index).ok());
        card.instances = instances.flatten().unwrap_or_default();
    }
}

/// Reads the process lists. Clients of an MPS server are asked for only where one is seen.
fn sweep<P: Probe>(
    card: &mut Card,
    probe: &mut P,
    proc: &Proc,
    version: Option<DriverVersion>,
    now: Now,
) -> Result<bool, Fault> {
    if card.identity.hosts_vgpus {
        return Err(Fault::HostsVgpus);
    }
    let mut changed = false;
    loop {
        let mps = card.roster.has_mps();
        let listed = probe.processes(card.identity.index, mps)?;
        changed |= card.roster.sweep(believed(listed, card, proc, version), proc, now);
        if mps || !card.roster.has_mps() {
            return Ok(changed);
        }
    }
}

/// Some drivers translate the ids of processes for a nested namespace but not the query for their memory, and then
/// say 0 for each. Under confidential computing a process is told without its protected memory: a part of what it holds
/// is not what it holds, and the rest would look like a leak.
fn believed(listed: Vec<Listed>, card: &Card, proc: &Proc, version: Option<DriverVersion>) -> Vec<Listed> {
    let memory = card.memory.as_ref().ok();
    let plausible = |process: Listed| memory.map_or(process.clone(), |memory| process.plausible_on(memory));
    let mut listed: Vec<Listed> = listed.into_iter().map(plausible).collect();
    let translated = version.is_none_or(DriverVersion::translates_memory_queries);
    let untranslated =
        !proc.is_initial() && !translated && listed.iter().all(|process| process.bytes == Some(0));
    if card.identity.confidential || untranslated {
        listed.iter_mut().for_each(|process| process.bytes = None);
    }
    listed
}
