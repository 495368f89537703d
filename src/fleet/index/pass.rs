//! One pass: the board is brought up to what the index knows, decides, and jobs are told what changed for them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Fleet, Stale};
use crate::fleet::claim::{Claim, JobKey, lease_name};
use crate::fleet::demand::Outlook;
use crate::fleet::place::{Board, Placement};
use crate::fleet::pod::{PodFacts, PodStage};

/// A job is woken at most this often when nothing but counts changed in its outlook.
const COUNTS: SignedDuration = SignedDuration::from_secs(60);
/// Two readings of the clock that lie closer together are about one instant; a larger step back is a change of time.
const MOMENT: SignedDuration = SignedDuration::from_secs(60);
/// So many nodes to be brought up to date are never too many for doing it one by one.
const FEW: usize = 64;

/// What was last said to a job.
#[derive(Clone, Debug)]
pub(super) struct Told {
    outlook: Outlook,
    /// When the job was last woken for it, and with what.
    pub(super) woken: Timestamp,
    with: Outlook,
}

impl Fleet {
    /// One pass: GPUs for attempts, in the order in which they were given. Each is pending until
    /// [`Fleet::settled`].
    pub fn decide(&mut self, now: Timestamp) -> Vec<Placement> {
        let now = self.not_before(now);
        self.catch_up(now);
        let placements = self.board.place(now);
        for placement in &placements {
            let lease = lease_name(&placement.grant.gpu);
            self.pending.insert(lease.clone(), placement.clone());
            // The board has taken it over already.
            if let Some(booking) = self.booking(&lease) {
                let job = booking.attempt.job.clone();
                self.booked_by.entry(job).or_default().insert(lease.clone());
                self.booked_on.entry(placement.grant.node.clone()).or_default().insert(lease);
            }
            // The board takes room for a pod that is new; one of that name that is there already takes none.
            self.mark(&placement.grant.node);
        }
        placements
    }

    /// The same while a claim is being given back: `pod_uid` needs its GPU no more, so whoever is next may be given
    /// the very GPU. Answers that placement; the others wait for [`Fleet::undelivered`]. Until
    /// [`Fleet::given_back`] the claim counts as free.
    pub fn decide_for(&mut self, claim: &Claim, pod_uid: Option<&str>, now: Timestamp) -> Option<Placement> {
        let lease = lease_name(&claim.gpu);
        self.end_engine(pod_uid);
        // A claim that is not as it is known will not be written, so nobody can be promised the GPU.
        if self.claims.get(&lease).is_none_or(|known| **known != *claim) {
            return None;
        }
        self.rebook(&lease, |fleet| fleet.vacating.insert(lease.clone()));
        let mut placements = self.decide(now);
        let mine = placements.iter().position(|placement| lease_name(&placement.grant.gpu) == lease);
        let mine = mine.map(|at| placements.remove(at));
        self.undelivered.append(&mut placements);
        mine
    }

    /// Notes that the claim has been given back, or could not be.
    pub fn given_back(&mut self, gpu: &str) {
        let lease = lease_name(gpu);
        self.rebook(&lease, |fleet| fleet.vacating.remove(&lease));
    }

    /// Placements whose claims nobody writes yet.
    pub fn undelivered(&mut self) -> Vec<Placement> {
        std::mem::take(&mut self.undelivered)
    }

    /// Takes over that the engine of a pod has ended, which its watch may tell later.
    fn end_engine(&mut self, pod_uid: Option<&str>) {
        let pod = pod_uid.and_then(|uid| self.pods.get(uid));
        let Some(pod) = pod.filter(|pod| pod.stage == PodStage::MayUseGpu) else { return };
        let pod = PodFacts { stage: PodStage::NeedsNoGpu, ..PodFacts::clone(pod) };
        self.apply_pod(pod);
    }

    /// Notes that the claim of a placement has been written, or will not be. `lost`: somebody else has got the GPU, so
    /// the attempt is due again.
    pub fn settled(&mut self, placement: &Placement, lost: bool) {
        let lease = lease_name(&placement.grant.gpu);
        self.rebook(&lease, |fleet| fleet.pending.remove(&lease));
        if lost {
            self.board.unserve(&placement.attempt);
        }
    }

    /// When the passing of time alone changes the decision.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.board.next(now)
    }

    /// `now`, or the instant of the last pass if that read the clock a moment later.
    fn not_before(&self, now: Timestamp) -> Timestamp {
        let last = self.board.now();
        if last.duration_since(now) < MOMENT { now.max(last) } else { now }
    }

    fn catch_up(&mut self, now: Timestamp) {
        let due = if now < self.board.now() { None } else { Some(self.board.due(now)) };
        let stale = std::mem::replace(&mut self.stale, Stale::Nodes(BTreeSet::new()));
        let few = |nodes: &BTreeSet<String>| nodes.len() <= FEW.max(self.nodes.len() / 2);
        let done = match (stale, due) {
            (Stale::Nodes(mut nodes), Some(due)) => {
                nodes.extend(due);
                few(&nodes) && nodes.iter().all(|node| self.refresh(node, now))
            }
            _ => false,
        };
        if !done {
            self.board = Board::of(&self.snapshot(now), now);
        }
    }

    /// Brings one node on the board up to date; false if the board has to be made anew.
    fn refresh(&mut self, node: &str, now: Timestamp) -> bool {
        let Some(entry) = self.nodes.get(node) else { return !self.board.has_node(node) };
        let (spot, cards) = self.derive(entry, now);
        let Some(change) = self.board.change(spot, cards) else { return false };
        self.board.apply(change);
        true
    }

    /// Works out the outlooks of the jobs that have asked since the last time, or of all. Answers the jobs that have to
    /// look again: another step, another reason, or other counts than a minute ago.
    pub fn tell(&mut self, all: bool, now: Timestamp) -> BTreeSet<JobKey> {
        let asked = std::mem::take(&mut self.asked);
        let outlooks = if all {
            self.board.outlooks()
        } else {
            asked
                .into_iter()
                .filter_map(|job| self.board.outlook(&job).map(|outlook| (job, outlook)))
                .collect()
        };
        let mut woken = BTreeSet::new();
        for (job, outlook) in outlooks {
            let before = self.told.get_mut(&job);
            let silent = before.filter(|told| {
                let counts = now.duration_since(told.woken) < COUNTS || alike(&told.with, &outlook);
                same_kind(&told.with, &outlook) && counts
            });
            if let Some(told) = silent {
                told.outlook = outlook;
            } else {
                let with = outlook.clone();
                self.told.insert(job.clone(), Told { outlook, woken: now, with });
                woken.insert(job);
            }
        }
        woken
    }

    /// What was last said to a job.
    pub fn outlook(&self, job: &JobKey) -> Option<&Outlook> {
        self.told.get(job).map(|told| &told.outlook)
    }
}

/// Whether two outlooks mean the same to a job, whatever the counts.
fn same_kind(a: &Outlook, b: &Outlook) -> bool {
    (a.effective_step, a.lowered_by_patience, a.unplaced == 0, a.wait.need_bytes, a.wait.chief_cause())
        == (b.effective_step, b.lowered_by_patience, b.unplaced == 0, b.wait.need_bytes, b.wait.chief_cause())
}

/// Whether two outlooks differ in nothing but figures that move by themselves.
fn alike(a: &Outlook, b: &Outlook) -> bool {
    a.unplaced == b.unplaced && a.wait.causes == b.wait.causes && a.wait.unread == b.wait.unread
}
