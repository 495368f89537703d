//! Whose turn it is: the namespace that holds the fewest GPUs, then its oldest job.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::fleet::snapshot::Snapshot;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Queue<'a> {
    /// GPUs held and name, fewest first; each with at least one job left.
    order: BTreeSet<(u32, &'a str)>,
    /// Indexes of the jobs of a namespace, oldest first.
    jobs: BTreeMap<&'a str, VecDeque<usize>>,
}

impl<'a> Queue<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut held: BTreeMap<&str, u32> = BTreeMap::new();
        for (job, segments) in &snapshot.holdings {
            let sum = held.entry(job.namespace.as_str()).or_default();
            *sum = sum.saturating_add(u32::try_from(segments.len()).unwrap_or(u32::MAX));
        }
        let mut by_age: Vec<usize> = (0..snapshot.asked.len()).collect();
        by_age.sort_by_key(|index| {
            snapshot.asked.get(*index).map(|asked| (asked.demand.created, &asked.demand.job))
        });
        let mut jobs: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
        for index in by_age {
            let Some(asked) = snapshot.asked.get(index) else { continue };
            jobs.entry(asked.demand.job.namespace.as_str()).or_default().push_back(index);
        }
        let order = jobs.keys().map(|name| (held.get(name).copied().unwrap_or(0), *name)).collect();
        Self { order, jobs }
    }

    /// The job whose turn it is, as an index into [`Snapshot::asked`].
    pub(super) fn next(&self) -> Option<usize> {
        let (_, name) = self.order.first()?;
        self.jobs.get(name)?.front().copied()
    }

    /// That job has got a GPU.
    pub(super) fn served(&mut self) {
        if let Some((held, name)) = self.order.pop_first() {
            self.order.insert((held.saturating_add(1), name));
        }
    }

    /// That job can be given no more.
    pub(super) fn done(&mut self) {
        let Some((held, name)) = self.order.pop_first() else { return };
        let Some(jobs) = self.jobs.get_mut(name) else { return };
        jobs.pop_front();
        if !jobs.is_empty() {
            self.order.insert((held, name));
        }
    }
}
