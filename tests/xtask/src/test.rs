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
mod settling;
mod standby;
mod tenant;
mod upgrade;

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::bed::{self, Bed, Grade, UpOptions};
use crate::demo;
use cargo::{Group, Rank};
use tenant::Tenant;

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
    runtime.block_on(scenarios(bed, options, tally))
}

/// Tests on the bed, by how their names begin, that ask for nothing that a plain bed does not have.
const WITHOUT_CONTAINERS: [&str; 4] = ["demo::", "bad_input::", "standby::", "kills::"];

fn runs_on(grade: Grade, name: &str) -> bool {
    grade == Grade::Full || WITHOUT_CONTAINERS.iter().any(|begin| name.starts_with(begin))
}

/// The tests on the bed: one after the other, or side by side where neither sees what the other does.
struct Scenarios<'a> {
    options: &'a Options,
    grade: Grade,
    tally: Mutex<&'a mut Tally>,
}

impl Scenarios<'_> {
    /// Runs a test if it is wanted; nothing of it happens before.
    async fn test(&self, name: &str, test: impl Future<Output = Result<()>>) {
        if !self.options.wants(name) {
            return;
        }
        let tally = || self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if !runs_on(self.grade, name) {
            println!("test {name} ... SKIPPED: it needs containers");
            tally().skipped += 1;
            return;
        }
        let began = Instant::now();
        let outcome = guarded(test).await;
        let mut tally = tally();
        tally.on_the_bed += 1;
        tally.record(name, began, outcome);
    }
}

/// Each with a tenant of its own, who leaves in any case.
macro_rules! bad_inputs {
    ($bed:expr, $client:expr, $scenarios:expr, [$($test:ident),+ $(,)?]) => {
        $(
            let name = stringify!($test);
            let namespace = name.replace('_', "-").chars().take(40).collect::<String>();
            let namespace = namespace.trim_end_matches('-');
            $scenarios.test(&format!("bad_input::{name}"), async {
                let outcome = guarded(async {
                    Tenant::leave($bed, $client, namespace).await?;
                    let tenant = Tenant::arrive($bed, $client.clone(), namespace).await?;
                    bad_input::$test(tenant).await
                })
                .await;
                outcome.and(Tenant::leave($bed, $client, namespace).await)
            })
            .await;
        )+
    };
}

macro_rules! on_the_bed {
    ($module:ident, $bed:expr, $client:expr, $scenarios:expr, [$($test:ident),+ $(,)?]) => {
        $($scenarios
            .test(concat!(stringify!($module), "::", stringify!($test)), $module::$test($bed, $client))
            .await;)+
    };
}

async fn scenarios(bed: &Bed, options: &Options, tally: &mut Tally) -> Result<()> {
    let client = bed.client().await?;
    let since = bed.audit_end();
    let all = Scenarios { options, grade: bed.grade(), tally: Mutex::new(tally) };
    all.test("demo::a_film_comes_out_past_a_neighbour_and_an_out_of_memory_end", async {
        demo::scenario(bed, &demo::Options::default()).await.map(|_| ())
    })
    .await;
    // What these tenants get wrong is seen before any GPU is looked for.
    let bad_inputs = || async {
        bad_inputs!(
            bed,
            &client,
            all,
            [
                a_missing_source_is_named,
                a_source_that_is_no_film_is_refused,
                a_failed_job_goes_when_its_time_is_up,
                a_missing_claim_needs_the_user,
                an_existing_destination_is_not_overwritten,
                a_spec_against_the_rules_is_refused_at_once,
                a_missing_profile_is_named,
                a_scale_that_is_not_offered_is_named,
                a_quota_that_refuses_pods_is_named,
            ]
        );
    };
    let faults = || async {
        on_the_bed!(
            faults,
            bed,
            &client,
            all,
            [a_black_picture_is_refused, an_ignored_pin_is_noticed, leaked_memory_is_nobodys_fault]
        );
    };
    side_by_side(bad_inputs, faults);
    let elsewhere = || async {
        bad_inputs!(bed, &client, all, [a_volume_in_use_elsewhere_is_named]);
    };
    let small = || async {
        bad_inputs!(bed, &client, all, [cards_that_are_too_small_are_counted]);
    };
    side_by_side(elsewhere, small);
    bad_inputs!(
        bed,
        &client,
        all,
        [cordoned_nodes_are_named, full_nodes_are_named, missing_reports_are_named]
    );
    all.test(
        "chart::an_upgrade_keeps_what_was_learnt_and_the_jobs",
        upgrade::keeps_what_was_learnt_and_the_jobs(bed, &client),
    )
    .await;
    // What befalls single cards is told whether another release is there or not, and its job is tried again.
    let second = || async {
        on_the_bed!(releases, bed, &client, all, [the_second_stands_back_and_names_the_first]);
    };
    let agents = || async {
        on_the_bed!(
            agent,
            bed,
            &client,
            all,
            [
                memory_that_a_host_process_takes_is_told_within_ten_seconds,
                every_process_is_told_with_its_owner,
                a_lost_card_an_xid_and_a_reload_are_told_within_fifteen_seconds,
            ]
        );
    };
    side_by_side(second, agents);
    // While one node's driver hangs the films come out on the other.
    let (hangs, hung) = watch::channel(false);
    let hang = || {
        all.test(
            "agent::a_driver_that_hangs_ends_liveness_and_no_metrics",
            agent::a_driver_that_hangs_ends_liveness_and_no_metrics(bed, &client, hangs),
        )
    };
    let films = || async {
        // Without a hang the sender is gone, and there is nothing to wait for.
        let mut hung = hung;
        hung.wait_for(|told| *told).await.map(|_| ()).unwrap_or_default();
        for kind in films::KINDS {
            all.test(&format!("films::{kind}"), films::run(bed, &client, &kind)).await;
        }
    };
    side_by_side(hang, films);
    if options.full || options.only.is_some() {
        on_the_bed!(
            faults,
            bed,
            &client,
            all,
            [
                an_engine_that_crashes_moves,
                a_swapped_gpu_is_noticed,
                an_invisible_gpu_is_noticed,
                a_card_taken_behind_a_silent_agent_is_left,
                a_neighbour_behind_a_silent_agent_is_blamed,
                a_lost_card_is_left,
                an_engine_without_host_memory_works_in_pieces,
                an_evicted_pod_comes_back,
                a_lost_nodes_pod_comes_back_elsewhere,
            ]
        );
    }
    on_the_bed!(standby, bed, &client, all, [acts_within_twenty_seconds_of_a_death]);
    for deaths in kills::plan(options.full) {
        all.test(&format!("kills::{deaths}"), kills::run(bed, &client, &deaths)).await;
    }
    if options.only.is_none() {
        let rights = async { rights::all_are_used_and_no_other_is_wanted(bed, &client, since?).await };
        all.test("chart::all_rights_are_used_and_no_other_is_wanted", rights).await;
    }
    on_the_bed!(docs, bed, &client, all, [every_command_works_and_removal_leaves_nothing]);
    all.test("bed::up_heals_what_an_interrupted_test_has_left", settling::heals(bed, &client)).await;
    Ok(())
}

/// Runs two rows of tests at once, each on a thread of its own: what blocks in one does not hold up the other.
fn side_by_side<A: Future<Output = ()>, B: Future<Output = ()>>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B,
) {
    let runtime = Handle::current();
    tokio::task::block_in_place(|| {
        thread::scope(|scope| {
            let one = scope.spawn(|| runtime.block_on(one()));
            runtime.block_on(other());
            one.join().unwrap_or_else(|panic| resume_unwind(panic));
        });
    });
}

/// A test that panics has failed; the others go on.
async fn guarded(test: impl Future<Output = Result<()>>) -> Result<()> {
    match AssertUnwindSafe(test).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(anyhow!("panicked: {text}"))
        }
    }
}

fn down_leaves_nothing() -> Result<()> {
    bed::down()?;
    let left = bed::residue()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bed_leaves_no_test_out() {
        for name in ["demo::a_film", "faults::an_ignored_pin_is_noticed", "agent::x"] {
            assert!(runs_on(Grade::Full, name));
            assert_eq!(runs_on(Grade::Plain, name), name.starts_with("demo::"), "{name}");
        }
    }
}
