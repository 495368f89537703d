//! What came of the demo: for people, as JSON, and the assertions on its story.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use gpusim::journal;
use jiff::Timestamp;
use serde::Serialize;
use video_upscale::api::video_upscale::VideoUpscaleStatus;

use super::attempts::{Attempt, Attempts};
use super::film::{Facts, Film};
use crate::bed::Bed;

/// Name under which the engine's program was started.
const ENGINE: &str = "infer-video";

/// The outcome, in the form of `--json`.
#[derive(Serialize)]
pub struct Outcome {
    /// The film that went in.
    pub source: Facts,
    /// The film that came out.
    pub result: Facts,
    /// How many segments.
    pub segments: i32,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// How often two of our engines were on one GPU at once, by the driver's own log.
    pub double_bookings: usize,
    /// How long it took.
    pub wall_seconds: u64,
    #[serde(skip)]
    seen: Attempts,
}

impl Outcome {
    /// Puts together what was seen of a job that was made at `since`.
    pub fn new(
        bed: &Bed,
        since: Timestamp,
        source: &Film,
        result: &Film,
        status: &VideoUpscaleStatus,
        seen: Attempts,
    ) -> Result<Self> {
        let (mut double_bookings, mut engines) = (0, 0);
        for node in bed.nodes() {
            let path = bed.journal(node);
            let mut entries = journal::read(&path).with_context(|| format!("read {}", path.display()))?;
            entries.retain(|entry| entry.at >= since);
            let holds = journal::holds(&entries);
            double_bookings += journal::overlaps(&holds, |hold| hold.who.comm == ENGINE).len();
            engines += holds.iter().filter(|hold| hold.who.comm == ENGINE).count();
        }
        ensure!(engines > 0, "the drivers' logs name no engine {ENGINE}: they prove nothing");
        Ok(Self {
            source: source.facts(),
            result: result.facts(),
            segments: status.segments.map_or(0, |s| s.total),
            attempts: seen.all().cloned().map(judged).collect(),
            double_bookings,
            wall_seconds: 0,
            seen,
        })
    }

    /// Prints it.
    pub fn print(&self) {
        let (source, result) = (&self.source, &self.result);
        println!("\n{} pictures of {}x{} went in", source.frames, source.width, source.height);
        println!(
            "{} pictures of {}x{} came out, each at its own time",
            result.frames, result.width, result.height
        );
        if source.audio_sha256.is_some() {
            println!("the sound is the same, packet by packet");
        }
        let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
        for attempt in &self.attempts {
            *verdicts.entry(attempt.verdict.as_str()).or_default() += 1;
        }
        let words = verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect::<Vec<_>>();
        println!("{} segments, {} attempts: {}", self.segments, self.attempts.len(), words.join(", "));
        println!(
            "most engines at one instant: {} on {:?}",
            self.seen.busiest.len(),
            self.seen.busiest_nodes()
        );
        println!("two engines on one GPU at once: {}", self.double_bookings);
        println!("wall time: {} s", self.wall_seconds);
    }

    /// Fails if a GPU or a segment was worked on twice at once.
    pub fn verify_safety(&self) -> Result<()> {
        ensure!(self.double_bookings == 0, "{} times two engines were on one GPU", self.double_bookings);
        let broken = self.seen.safety.broken();
        ensure!(broken.is_empty(), "{}", broken.join("; "));
        Ok(())
    }

    /// Fails unless the story was told: both kinds of end, each answered as it must be, many at once.
    pub fn verify_story(&self) -> Result<()> {
        ensure!(self.segments >= 8, "only {} segments", self.segments);
        ensure!(self.seen.busiest.len() >= 3, "only {} engines at one instant", self.seen.busiest.len());
        ensure!(self.seen.busiest_nodes().len() == 2, "engines ran only on {:?}", self.seen.busiest_nodes());
        let lower = |attempt: &&Attempt| self.seen.next(attempt).is_some_and(|next| next.step > attempt.step);
        ensure!(
            self.seen.with_verdict("OwnDemand").any(|attempt| lower(&attempt)),
            "no out-of-memory end of our own came back at a lower step"
        );
        let moved = |attempt: &&Attempt| {
            self.seen.next(attempt).is_some_and(|next| next.step == attempt.step && next.gpu != attempt.gpu)
        };
        ensure!(
            self.seen.with_verdict("ForeignProcess").any(|attempt| moved(&attempt)),
            "no neighbour's out-of-memory end came back at the same step on another GPU"
        );
        Ok(())
    }

    /// Fails unless each accident has been told of and was followed by another attempt.
    pub fn verify_accidents(&self) -> Result<()> {
        for verdict in super::accidents::VERDICTS {
            let again = self.seen.with_verdict(verdict).any(|attempt| self.seen.next(attempt).is_some());
            ensure!(again, "no attempt ended as {verdict} and came back");
        }
        Ok(())
    }
}

/// An attempt of which neither pod nor status told the end has left no evidence, and has that verdict.
fn judged(attempt: Attempt) -> Attempt {
    let verdict = if attempt.verdict.is_empty() { "Unknown".to_owned() } else { attempt.verdict.clone() };
    Attempt { verdict, ..attempt }
}
