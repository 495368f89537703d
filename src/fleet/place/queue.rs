//! Whose turn it is: the namespace that holds the fewest GPUs, then its oldest job.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use jiff::Timestamp;

use crate::fleet::claim::JobKey;

/// Namespaces with their jobs and what they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Spaces {
    all: BTreeMap<String, Space>,
}

/// A namespace.
#[derive(Clone, Debug, Default)]
struct Space {
    /// Segments of its jobs that hold a GPU.
    held: u32,
    /// Jobs that ask for GPUs, oldest first.
    jobs: BTreeMap<(Timestamp, JobKey), usize>,
}

impl Spaces {
    /// A job asks.
    pub(super) fn add(&mut self, created: Timestamp, key: &JobKey, job: usize) {
        let space = self.all.entry(key.namespace.clone()).or_default();
        space.jobs.insert((created, key.clone()), job);
    }

    /// A job asks no more.
    pub(super) fn remove(&mut self, created: Timestamp, key: &JobKey) {
        self.change(&key.namespace, |space| {
            space.jobs.remove(&(created, key.clone()));
        });
    }

    /// A namespace has one GPU more.
    pub(super) fn more(&mut self, namespace: &str) {
        if !self.all.contains_key(namespace) {
            self.all.insert(namespace.to_owned(), Space::default());
        }
        self.change(namespace, |space| space.held = space.held.saturating_add(1));
    }

    /// A namespace has one GPU less.
    pub(super) fn less(&mut self, namespace: &str) {
        self.change(namespace, |space| space.held = space.held.saturating_sub(1));
    }

    fn change(&mut self, namespace: &str, change: impl FnOnce(&mut Space)) {
        if let Some(space) = self.all.get_mut(namespace) {
            change(space);
            if space.held == 0 && space.jobs.is_empty() {
                self.all.remove(namespace);
            }
        }
    }

    /// The order of one pass, for those jobs that `may` be given something.
    pub(super) fn queue(&self, may: impl Fn(usize) -> bool) -> Queue {
        let mut queue = Queue::default();
        for space in self.all.values() {
            // Last in, first out: the oldest comes last.
            let jobs: Vec<usize> = space.jobs.values().rev().copied().filter(|job| may(*job)).collect();
            if !jobs.is_empty() {
                queue.order.push(Reverse((space.held, queue.jobs.len())));
                queue.jobs.push(jobs);
            }
        }
        queue
    }
}

/// Whose turn it is in one pass.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// GPUs held and number of the namespace, fewest first; names are in the order of the numbers.
    order: BinaryHeap<Reverse<(u32, usize)>>,
    /// Jobs of each namespace, the oldest last.
    jobs: Vec<Vec<usize>>,
}

impl Queue {
    /// The job whose turn it is.
    pub(super) fn next(&self) -> Option<usize> {
        let Reverse((_, space)) = self.order.peek()?;
        self.jobs.get(*space)?.last().copied()
    }

    /// That job has got a GPU.
    pub(super) fn served(&mut self) {
        if let Some(Reverse((held, space))) = self.order.pop() {
            self.order.push(Reverse((held.saturating_add(1), space)));
        }
    }

    /// That job can be given no more.
    pub(super) fn done(&mut self) {
        let Some(Reverse((held, space))) = self.order.pop() else { return };
        let Some(jobs) = self.jobs.get_mut(space) else { return };
        jobs.pop();
        if !jobs.is_empty() {
            self.order.push(Reverse((held, space)));
        }
    }
}
