//! One job as placement sees it: which segments hold a GPU, which are due, and how far its list has been served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ladder::Ladder;
use crate::fleet::claim::JobKey;
use crate::fleet::demand::{Demand, Wanted};
use crate::fleet::snapshot::Asked;

/// One job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: JobKey,
    /// Segments that hold a GPU, with how many each.
    held: BTreeMap<u32, u32>,
    /// What it asks for, if it does.
    pub(super) ask: Option<Ask>,
}

/// What a job asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) asked: Asked,
    /// How it sees the GPUs.
    pub(super) class: usize,
    /// Where it stands.
    pub(super) ladder: Ladder,
    /// The best step that any due segment may use.
    pub(super) first_step: u32,
    lines: Vec<Line>,
    /// Each due segment with its line and where it stands there, by segment.
    sites: Vec<(u32, u32, u32)>,
}

/// Due segments that may use the same steps and cards.
#[derive(Clone, Debug)]
struct Line {
    kind: (u32, Option<u32>, bool),
    /// Where they stand in the demand's list.
    places: Vec<u32>,
    /// How many of these hold a GPU or have been served, from the first on.
    served: usize,
    /// Whether nothing is left for them in this pass.
    dry: bool,
}

impl Job {
    pub(super) fn new(key: JobKey) -> Self {
        Self { key, held: BTreeMap::new(), ask: None }
    }

    /// How many of its segments hold a GPU.
    pub(super) fn holds(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// Notes that a segment has one GPU more; whether it had none.
    pub(super) fn hold(&mut self, segment: u32) -> bool {
        let count = self.held.entry(segment).or_default();
        *count = count.saturating_add(1);
        *count == 1
    }

    /// Notes that a segment has one GPU less; whether it has none now.
    pub(super) fn let_go(&mut self, segment: u32) -> bool {
        let Some(count) = self.held.get_mut(&segment) else { return false };
        *count = count.saturating_sub(1);
        let gone = *count == 0;
        if gone {
            self.held.remove(&segment);
            self.reopen(segment);
        }
        gone
    }

    /// Whether nothing is known of it any more.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.ask.is_none()
    }

    /// Takes note that an attempt has got a GPU, so that an unchanged demand does not give it a second one.
    pub(super) fn serve(&mut self, attempt: (u32, u32)) {
        if let Some(ask) = &mut self.ask {
            ask.asked.served.insert(attempt);
        }
    }

    /// Takes that back.
    pub(super) fn unserve(&mut self, attempt: (u32, u32)) {
        if let Some(ask) = &mut self.ask {
            ask.asked.served.remove(&attempt);
        }
        self.reopen(attempt.0);
    }

    /// A segment that may be due again is looked at again; the others are not.
    fn reopen(&mut self, segment: u32) {
        let Some(Ask { asked, lines, sites, .. }) = &mut self.ask else { return };
        let first = sites.partition_point(|(known, ..)| *known < segment);
        let here = sites.get(first..).unwrap_or_default().iter().take_while(|(known, ..)| *known == segment);
        for (_, line, position) in here {
            let Some(line) = lines.get_mut(*line as usize) else { continue };
            let position = *position as usize;
            let wanted = line.places.get(position).and_then(|place| asked.demand.wanted.get(*place as usize));
            if position < line.served
                && wanted.is_some_and(|wanted| !is_served(wanted, &self.held, &asked.served))
            {
                line.served = position;
            }
        }
    }

    /// Begins a pass: nothing is dry.
    pub(super) fn refill(&mut self) {
        for line in self.ask.iter_mut().flat_map(|ask| &mut ask.lines) {
            line.dry = false;
        }
    }

    /// The next due segment that has no GPU and for whose like something may be left, with the number of its line.
    pub(super) fn next(&mut self) -> Option<(usize, u32)> {
        let held = &self.held;
        let ask = self.ask.as_mut()?;
        let (demand, served) = (&ask.asked.demand, &ask.asked.served);
        let mut first: Option<(u32, usize)> = None;
        for (number, line) in ask.lines.iter_mut().enumerate().filter(|(_, line)| !line.dry) {
            while let Some(place) = line.places.get(line.served) {
                if demand.wanted.get(*place as usize).is_some_and(|wanted| !is_served(wanted, held, served)) {
                    first = first.into_iter().chain([(*place, number)]).min();
                    break;
                }
                line.served = line.served.saturating_add(1);
            }
        }
        first.map(|(place, line)| (line, place))
    }

    /// Notes that nothing is left for segments of that line in this pass.
    pub(super) fn run_dry(&mut self, line: usize) {
        if let Some(line) = self.ask.as_mut().and_then(|ask| ask.lines.get_mut(line)) {
            line.dry = true;
        }
    }

    /// How many due segments have no GPU.
    pub(super) fn unplaced(&self) -> u32 {
        let Some(ask) = &self.ask else { return 0 };
        let wanted = ask.asked.demand.wanted.iter();
        let open = wanted.filter(|wanted| !is_served(wanted, &self.held, &ask.asked.served)).count();
        u32::try_from(open).unwrap_or(u32::MAX)
    }
}

impl Ask {
    pub(super) fn new(asked: Asked, class: usize) -> Self {
        let wanted = &asked.demand.wanted;
        let mut lines: Vec<Line> = Vec::new();
        for (place, wanted) in (0_u32..).zip(wanted.iter()) {
            let kind = (wanted.first_step, wanted.keep, wanted.largest_only);
            match lines.iter_mut().find(|line| line.kind == kind) {
                Some(line) => line.places.push(place),
                None => lines.push(Line { kind, places: vec![place], served: 0, dry: false }),
            }
        }
        let mut sites: Vec<(u32, u32, u32)> = Vec::with_capacity(wanted.len());
        for (number, line) in (0_u32..).zip(&lines) {
            let places = (0_u32..).zip(&line.places);
            let segments = places.filter_map(|(at, place)| Some((wanted.get(*place as usize)?.segment, at)));
            sites.extend(segments.map(|(segment, position)| (segment, number, position)));
        }
        sites.sort_unstable();
        let first_step = wanted.iter().map(|wanted| wanted.first_step).min().unwrap_or(0);
        Self { asked, class, ladder: Ladder::default(), first_step, lines, sites }
    }

    pub(super) fn demand(&self) -> &Arc<Demand> {
        &self.asked.demand
    }
}

fn is_served(wanted: &Wanted, held: &BTreeMap<u32, u32>, served: &BTreeSet<(u32, u32)>) -> bool {
    held.contains_key(&wanted.segment) || served.contains(&(wanted.segment, wanted.attempt))
}
