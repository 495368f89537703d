//! How much two reports differ, for somebody who places work by them: pure.

use std::collections::BTreeSet;

use video_upscale::api::report::{Attribution, Gpu, Health, Kind, Report, State};

const GIB: u64 = 1 << 30;
/// Use above what is published that makes a reader too optimistic; or this part of the total, if larger.
const UP: u64 = GIB;
/// Part of the total: one in fifty.
const UP_PART: u64 = 50;
/// Use below what is published; only an opportunity is lost.
const DOWN: u64 = 2 * GIB;
/// Use above what is published that cannot wait.
const UP_URGENT: u64 = 2 * GIB;

/// How pressing a difference is; the order is the urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing but number and time differ.
    None,
    /// Something differs that changes no decision; goes with the next heartbeat.
    Slight,
    /// A decision might be another one.
    Material,
    /// Readers are far too optimistic.
    Urgent,
    /// A pod's process ended: a verdict waits for this.
    Ended,
    /// A GPU or the agent's whole view went bad: told at once.
    Voiced,
}

impl Change {
    /// From what is published to what is true now.
    pub fn between(published: &Report, current: &Report) -> Self {
        if without_count(published) == without_count(current) {
            return Self::None;
        }
        let node = if current.state != published.state {
            if current.state == State::Ok { Self::Material } else { Self::Voiced }
        } else if about(current) != about(published) {
            Self::Material
        } else {
            Self::Slight
        };
        let gone = published.gpus.iter().any(|old| current.gpus.iter().all(|new| new.id != old.id));
        let gpus = current.gpus.iter().map(|new| match published.gpus.iter().find(|old| old.id == new.id) {
            Some(old) => of_gpu(old, new),
            None => Self::Material,
        });
        let gone = if gone { Self::Material } else { Self::Slight };
        gpus.chain([node, gone]).max().unwrap_or(Self::Slight)
    }
}

fn about(report: &Report) -> (&str, &str, &str, Attribution) {
    (&report.drv, &report.life, &report.ns, report.attr)
}

fn of_gpu(old: &Gpu, new: &Gpu) -> Change {
    let grave = matches!(new.h, Health::Bad | Health::Lost | Health::ResetRequired);
    if new.h != old.h {
        return match (grave, new.h) {
            (true, _) => Change::Voiced,
            (false, Health::Ok) => Change::Material,
            (false, _) => Change::Urgent,
        };
    }
    if ended_pods(new).difference(&ended_pods(old)).next().is_some() {
        return Change::Ended;
    }
    if of_the_card(old) != of_the_card(new) {
        return Change::Material;
    }
    let memory = match (old.free, new.free) {
        (None, None) => Change::Slight,
        (Some(old_free), Some(free)) => {
            let up = old_free.saturating_sub(free);
            let threshold = UP.max(new.tot.unwrap_or(0) / UP_PART);
            match () {
                () if up >= UP_URGENT => Change::Urgent,
                () if up >= threshold || free.saturating_sub(old_free) >= DOWN => Change::Material,
                () => Change::Slight,
            }
        }
        _ => Change::Material,
    };
    let unexplained = old.una.unwrap_or(0).abs_diff(new.una.unwrap_or(0)) >= UP;
    let others = if unexplained || live(old) != live(new) { Change::Material } else { Change::Slight };
    memory.max(others)
}

/// What is told of a GPU beside its use. Of MIG instances only which there are: their use is for people.
fn of_the_card(gpu: &Gpu) -> impl PartialEq + use<'_> {
    let instances: Vec<_> = gpu.mis.iter().map(|instance| (&instance.id, instance.tot)).collect();
    let modes = (gpu.mig, instances, gpu.cm);
    let figures = (gpu.i, gpu.tot, gpu.rsv, gpu.procs.is_some());
    (modes, figures, gpu.xat, gpu.leak, &gpu.why)
}

/// The forgetting of an ended process is no change, its end is. An id that is used again by another pod is another
/// process.
fn ended_pods(gpu: &Gpu) -> BTreeSet<(u32, Option<&str>)> {
    let listed = gpu.procs.iter().flat_map(|processes| &processes.top);
    let ended = listed.filter(|process| process.ended() && process.k == Kind::Pod);
    ended.map(|process| (process.p, process.u.as_deref())).collect()
}

fn live(gpu: &Gpu) -> BTreeSet<(u32, Kind, Option<&str>)> {
    let listed = gpu.procs.iter().flat_map(|processes| &processes.top);
    let live = listed.filter(|process| !process.ended());
    live.map(|process| (process.p, process.k, process.u.as_deref())).collect()
}

fn without_count(report: &Report) -> Report {
    let mut report = report.clone();
    report.seq = 0;
    report.at = jiff::Timestamp::UNIX_EPOCH;
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{ended, gpu, process, report};
    use video_upscale::api::report::{Instance, Process};

    const CARD: u64 = 48 * GIB;

    #[test]
    fn every_kind_of_difference_has_its_weight() {
        let with = |edit: &dyn Fn(&mut Gpu)| {
            let mut card = gpu(0, CARD, 20 * GIB);
            card.procs.get_or_insert_default().top = vec![process(7, Some(GIB))];
            edit(&mut card);
            report(vec![card])
        };
        let base = with(&|_| {});
        let top = |card: &mut Gpu, list| card.procs.get_or_insert_default().top = list;
        let table: [(&str, Report, Change); 18] = [
            ("nothing", base.clone(), Change::None),
            ("a little more used", with(&|card| card.free = Some(20 * GIB - 1)), Change::Slight),
            ("1 GiB more used", with(&|card| card.free = Some(19 * GIB)), Change::Material),
            ("2 GiB more used", with(&|card| card.free = Some(18 * GIB)), Change::Urgent),
            ("less than 2 GiB back", with(&|card| card.free = Some(22 * GIB - 1)), Change::Slight),
            ("2 GiB back", with(&|card| card.free = Some(22 * GIB)), Change::Material),
            ("1 GiB without a process", with(&|card| card.una = Some(GIB)), Change::Material),
            ("unknown", with(&|card| card.free = None), Change::Material),
            ("suspect", with(&|card| card.h = Health::Suspect), Change::Urgent),
            ("lost", with(&|card| card.h = Health::Lost), Change::Voiced),
            ("MIG", with(&|card| card.mig = true), Change::Material),
            ("another MIG instance", with(&|card| card.mis = vec![instance("MIG-1", 0)]), Change::Material),
            ("a leak", with(&|card| card.leak = true), Change::Material),
            ("another place", with(&|card| card.i = 1), Change::Material),
            ("another process", with(&|card| top(card, vec![process(8, Some(GIB))])), Change::Material),
            ("a pod's end", with(&|card| top(card, vec![ended(7)])), Change::Ended),
            ("larger peak", with(&|card| top(card, vec![process(7, Some(2 * GIB))])), Change::Slight),
            ("no GPU", report(vec![]), Change::Material),
        ];
        for (what, current, change) in table {
            assert_eq!(Change::between(&base, &current), change, "{what}");
        }
        let mut stuck = base.clone();
        stuck.state = State::NvmlStuck;
        assert_eq!(Change::between(&base, &stuck), Change::Voiced);
        assert_eq!(Change::between(&stuck, &base), Change::Material);
    }

    fn instance(id: &str, free: u64) -> Instance {
        Instance { id: id.to_owned(), tot: Some(5 * GIB), free: Some(free) }
    }

    #[test]
    fn the_use_of_a_mig_instance_is_no_news() {
        let with = |free| report(vec![Gpu { mis: vec![instance("MIG-1", free)], ..gpu(0, CARD, GIB) }]);
        assert_eq!(Change::between(&with(4 * GIB), &with(GIB)), Change::Slight);
    }

    #[test]
    fn an_id_that_ends_again_in_another_pod_is_another_end() {
        let with = |top| {
            let mut card = gpu(0, CARD, GIB);
            card.procs.get_or_insert_default().top = top;
            report(vec![card])
        };
        let other = Process { u: Some("99999999-1111-4222-8333-444444444444".to_owned()), ..ended(7) };
        assert_eq!(Change::between(&with(vec![ended(7)]), &with(vec![ended(7), other])), Change::Ended);
    }

    #[test]
    fn that_an_ended_process_is_forgotten_is_no_news() {
        let mut before = gpu(0, CARD, GIB);
        before.procs.get_or_insert_default().top = vec![ended(7)];
        let mut after = before.clone();
        after.procs.get_or_insert_default().top.clear();
        assert_eq!(Change::between(&report(vec![before]), &report(vec![after])), Change::Slight);
    }
}
