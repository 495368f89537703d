//! Verdicts that outlive the agent. A card that was found bad is bad until the driver's next life: neither a restart
//! of the agent nor a driver that cannot be asked for the moment makes it well. The report on the agent's own Node is
//! where it is kept; it is read back before the first write.

use std::collections::BTreeMap;

use video_upscale::api::report::{Gpu, Health, Report};

use crate::health::XidClass;

/// Told as the reason of unknown values of a card that is remembered and cannot be asked.
const NOT_LISTED: &str = "NotListed";

/// Cards that were found bad or lost in one life of the driver.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    life: String,
    grave: BTreeMap<String, Gpu>,
}

impl Verdicts {
    /// Takes over what the Node says, if it was found in the life that is known now, or if none is known yet.
    pub fn recall(&mut self, report: &Report) {
        if report.life.is_empty() || (!self.life.is_empty() && self.life != report.life) {
            return;
        }
        self.life.clone_from(&report.life);
        for gpu in report.gpus.iter().filter(|gpu| is_grave(gpu)) {
            self.grave.entry(gpu.id.clone()).or_insert_with(|| remembered(gpu));
        }
    }

    /// The report with everything that is remembered; remembers what is new in it.
    pub fn applied(&mut self, mut report: Report) -> Report {
        if !report.life.is_empty() && report.life != self.life {
            self.grave.clear();
            self.life.clone_from(&report.life);
        }
        report.life.clone_from(&self.life);
        for gpu in &mut report.gpus {
            if let Some(known) = self.grave.get(&gpu.id).filter(|known| is_bad(known)) {
                (gpu.xid, gpu.xat) = (gpu.xid.or(known.xid), gpu.xat.or(known.xat));
                gpu.h = at_least_bad(gpu.h);
            }
            if is_grave(gpu) {
                self.grave.insert(gpu.id.clone(), remembered(gpu));
            } else {
                self.grave.remove(&gpu.id);
            }
        }
        let missing = self.grave.values().filter(|known| report.gpus.iter().all(|gpu| gpu.id != known.id));
        let missing: Vec<Gpu> = missing.cloned().collect();
        report.gpus.extend(missing);
        report.gpus.sort_by_key(|gpu| gpu.i);
        report
    }

    /// UUIDs of the cards that count as bad whatever they answer now.
    pub fn bad(&self) -> impl Iterator<Item = &str> {
        self.grave.values().filter(|gpu| is_bad(gpu)).map(|gpu| gpu.id.as_str())
    }
}

/// The verdict over a card that is remembered as bad.
pub const fn at_least_bad(now: Health) -> Health {
    match now {
        Health::Ok | Health::Suspect | Health::ResetRequired => Health::Bad,
        Health::Bad | Health::Lost | Health::Unsupported => now,
    }
}

fn is_bad(gpu: &Gpu) -> bool {
    gpu.h == Health::Bad || gpu.xid.is_some_and(|xid| XidClass::of(xid) == XidClass::Bad)
}

fn is_grave(gpu: &Gpu) -> bool {
    gpu.h == Health::Lost || is_bad(gpu)
}

/// Who it is and why it is not to be used; what was measured is not known any more.
fn remembered(gpu: &Gpu) -> Gpu {
    Gpu {
        rsv: None,
        free: None,
        una: None,
        procs: None,
        why: Some(gpu.why.clone().unwrap_or_else(|| NOT_LISTED.to_owned())),
        ..gpu.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{gpu, report};

    const GIB: u64 = 1 << 30;

    fn card(index: u32, health: Health, xid: Option<u64>) -> Gpu {
        Gpu { h: health, xid, ..gpu(index, 48 * GIB, GIB) }
    }

    fn with(life: &str, gpus: Vec<Gpu>) -> Report {
        Report { life: life.to_owned(), ..report(gpus) }
    }

    fn health(report: &Report) -> Vec<(u32, Health, Option<u64>)> {
        report.gpus.iter().map(|gpu| (gpu.i, gpu.h, gpu.xid)).collect()
    }

    fn restarted(before: &Report) -> Verdicts {
        let mut verdicts = Verdicts::default();
        verdicts.recall(before);
        verdicts
    }

    #[test]
    fn what_a_restart_keeps_and_what_it_does_not() {
        let well = || with("aaaaaaaa", vec![card(0, Health::Ok, None)]);
        let table = [
            ("bad by an Xid", Health::Bad, Some(79), Health::Bad),
            ("bad by its rows", Health::Bad, None, Health::Bad),
            ("lost, with an Xid", Health::Lost, Some(79), Health::Bad),
            ("lost, and there again", Health::Lost, None, Health::Ok),
            ("a suspect is looked at anew", Health::Suspect, Some(48), Health::Ok),
        ];
        for (what, before, xid, after) in table {
            let mut verdicts = restarted(&with("aaaaaaaa", vec![card(0, before, xid)]));
            let now = verdicts.applied(well());
            assert_eq!((now.gpus[0].h, now.gpus[0].free), (after, Some(GIB)), "{what}");
        }
        let mut another = restarted(&with("bbbbbbbb", vec![card(0, Health::Bad, Some(79))]));
        assert_eq!(another.applied(well()).gpus[0].h, Health::Ok, "another life of the driver");
        let mut untold = restarted(&with("", vec![card(0, Health::Bad, Some(79))]));
        assert_eq!(untold.applied(well()).gpus[0].h, Health::Ok, "a report that names no life");
    }

    #[test]
    fn a_card_that_cannot_be_asked_stays_listed_as_it_was() {
        let before = vec![card(0, Health::Ok, None), card(1, Health::Bad, Some(79))];
        let mut verdicts = restarted(&with("aaaaaaaa", before));
        let without_driver = verdicts.applied(with("", vec![]));
        assert_eq!(health(&without_driver), [(1, Health::Bad, Some(79))]);
        assert_eq!((without_driver.gpus[0].free, without_driver.life.as_str()), (None, "aaaaaaaa"));
        assert_eq!(without_driver.gpus[0].why.as_deref(), Some(NOT_LISTED));
        // The report without a driver is all that the next restart finds.
        let mut verdicts = restarted(&without_driver);
        let again = verdicts.applied(with("aaaaaaaa", vec![card(0, Health::Ok, None)]));
        assert_eq!(health(&again), [(0, Health::Ok, None), (1, Health::Bad, Some(79))]);
    }

    #[test]
    fn the_next_life_of_the_driver_ends_all_verdicts() {
        let mut verdicts = Verdicts::default();
        verdicts.applied(with("aaaaaaaa", vec![card(0, Health::Bad, Some(79))]));
        assert_eq!(verdicts.bad().count(), 1);
        let same = verdicts.applied(with("aaaaaaaa", vec![card(0, Health::Ok, None)]));
        assert_eq!(same.gpus[0].h, Health::Bad);
        let next = verdicts.applied(with("bbbbbbbb", vec![card(0, Health::Ok, None)]));
        assert_eq!((next.gpus[0].h, verdicts.bad().count()), (Health::Ok, 0));
    }

    #[test]
    fn what_the_node_says_does_not_undo_what_was_seen_since() {
        let mut verdicts = Verdicts::default();
        verdicts.applied(with("aaaaaaaa", vec![card(0, Health::Bad, Some(95))]));
        verdicts.recall(&with("aaaaaaaa", vec![card(0, Health::Ok, None), card(1, Health::Bad, Some(79))]));
        let now =
            verdicts.applied(with("aaaaaaaa", vec![card(0, Health::Ok, None), card(1, Health::Ok, None)]));
        assert_eq!(health(&now), [(0, Health::Bad, Some(95)), (1, Health::Bad, Some(79))]);
    }
}
