//! `cargo xtask test`: everything a change has to pass, in the order in which it fails soonest.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts and times of a test; an overflow is a failed test"
)]

mod agent;
mod bad_input;
mod cargo;
mod docs;
mod faults;
mod films;
mod kills;
mod releases;
mod rights;
mod scenarios;
mod settling;
mod standby;
mod tenant;
mod upgrade;

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};

use crate::bed::{self, Bed, UpOptions};
use cargo::{Group, Rank};

/// What to run.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The release run: 20 runs of the demo with a kill of the controllers instead of one with 3, 12 faults of nodes and
    /// GPUs instead of 3, the controller's death at every write instead of at a sample, 200 races of two controllers
    /// instead of 6, 100,000 cases of each property test instead of 2,000, every awkward film in every variant instead of
    /// some as they are, and the figures of a cluster of 10,000 GPUs instead of 320
    #[arg(long)]
    full: bool,
    /// Leave the bed up at the end, to look at what failed
    #[arg(long)]
    keep: bool,
    /// Run only the tests on the bed whose name contains this, nothing of cargo's
    #[arg(value_name = "NAME")]
    only: Option<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

/// Results so far.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: Vec<String>,
    skipped: u64,
    /// How many of all these were tests on the bed.
    on_the_bed: u64,
}

impl Tally {
    fn record(&mut self, name: &str, began: Instant, outcome: Result<()>) {
        let seconds = began.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok ({seconds:.1}s)");
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.1}s)\n    {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Takes in the tests of one call of cargo.
    fn count(&mut self, name: &str, counts: Result<cargo::Counts>) {
        match counts {
            Ok(counts) => {
                self.passed += counts.passed;
                self.skipped += counts.skipped;
                self.failed.extend(counts.failed);
            }
            Err(error) => self.record(name, Instant::now(), Err(error)),
        }
    }
}

/// Runs everything; fails if one test failed.
pub fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let mut tally = Tally::default();
    let stood = bed::stands()?;
    let stages = [cargo::format(), cargo::lint(), cargo::docs()];
    for stage in stages.into_iter().filter(|_| options.only.is_none()) {
        let started = Instant::now();
        tally.record(stage.name, started, stage.run().map(|_| ()));
    }
    let started = Instant::now();
    let bed = match Bed::up(&UpOptions { chart: false }) {
        Ok(bed) => {
            tally.record("bed::up", started, Ok(()));
            refuse_to_lose(&bed)?;
            on_the_bed(&bed, options, &mut tally)?;
            Some(bed)
        }
        Err(error) => {
            tally.record("bed::up", started, Err(error));
            if options.only.is_none() {
                tally.count("cargo test, what needs no bed", cargo::tests_without_bed().run());
            }
            None
        }
    };
    if options.keep {
        println!("the bed stays, as --keep says: `cargo xtask down` ends it");
    } else if stood {
        println!("the bed was there before and stays: `cargo xtask down` ends it");
    } else {
        let started = Instant::now();
        tally.record("bed::down_leaves_nothing", started, down_leaves_nothing());
    }
    if !tally.failed.is_empty() {
        println!("\nfailed:\n    {}", tally.failed.join("\n    "));
    }
    if let Some(bed) = &bed {
        bed.tell_untested();
    }
    println!("\nall of it in {:.0} s", began.elapsed().as_secs_f32());
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed.len(), tally.skipped);
    if let Some(only) = &options.only {
        println!("only tests on the bed with {only:?} in their name were run");
        ensure!(tally.on_the_bed > 0, "no test on the bed has {only:?} in its name");
    }
    ensure!(tally.failed.is_empty(), "{} tests failed", tally.failed.len());
    Ok(())
}

/// The tests take our kinds away, and with them every job on the bed.
fn refuse_to_lose(bed: &Bed) -> Result<()> {
    let jobs = bed.jobs_of_others()?;
    ensure!(
        jobs.is_empty(),
        "the tests would delete jobs that are on this bed: {}; delete them first, or end the bed with `cargo xtask down`",
        jobs.join(", ")
    );
    Ok(())
}

fn on_the_bed(bed: &Bed, options: &Options, tally: &mut Tally) -> Result<()> {
    // The definitions are tested on an API server that nobody else watches.
    bed.remove_chart()?;
    let computing = if options.only.is_none() { Some(of_cargo(bed, options, tally)?) } else { None };
    let outcome = on_nodes(bed, options, tally);
    if let Some(computing) = computing {
        tally.count(Group::Computing.name(), joined(computing));
    }
    outcome
}

/// A stage of cargo under way.
type Beside = thread::JoinHandle<Result<cargo::Counts>>;

fn joined(beside: Beside) -> Result<cargo::Counts> {
    beside.join().map_err(|_| anyhow!("the reader of its output panicked")).and_then(|ended| ended)
}

/// The tests of cargo. Those that compute and wait for nobody are still under way at the end: the tests on the bed mostly
/// wait.
fn of_cargo(bed: &Bed, options: &Options, tally: &mut Tally) -> Result<Beside> {
    let built = Instant::now();
    tally.record("cargo test --no-run", built, cargo::build(options.full).run().map(|_| ()));
    let tests = |group| cargo::tests(bed, group, options.full);
    let (timed, computing) = (tests(Group::Timed)?, tests(Group::Computing)?);
    // Some play kubelets of their own, so the real ones must not take their pods.
    bed.cordon(true)?;
    let timed = thread::spawn(move || timed.run_aside(Rank::Equal));
    tally.count(Group::AskTheServer.name(), tests(Group::AskTheServer).and_then(cargo::Stage::run));
    tally.count(Group::Timed.name(), joined(timed));
    println!("== the other tests of cargo run beside those on the bed; what they print comes after those");
    Ok(thread::spawn(move || computing.run_aside(Rank::Last)))
}

/// The tests that need the nodes and the chart.
fn on_nodes(bed: &Bed, options: &Options, tally: &mut Tally) -> Result<()> {
    bed.cordon(false)?;
    let started = Instant::now();
    let installed = bed.remove_chart().and_then(|()| bed.install_chart());
    let there = installed.is_ok();
    tally.record("bed::the_chart_installs_on_a_cluster_that_has_never_seen_our_kinds", started, installed);
    if !there {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new().context("start the async runtime")?;
    runtime.block_on(scenarios::all(bed, options, tally))
}

fn down_leaves_nothing() -> Result<()> {
    bed::down()?;
    let left = bed::residue()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
