//! The controller dies by kill -9 before, at and after every write that it makes for a job of four segments, one of
//! which is too large for the first step's tiles and one of which meets a neighbour. Real are the controller's program,
//! the API server, its scheduler, and the simulated driver with a process for each engine; nodes, agents and kubelets
//! are played, so that a run takes seconds and every write can be hit. And two controllers race for the same job.
//!
//! `UPSCALE_TEST_KUBECONFIG` names an administrator of a cluster for tests on whose nodes no pod is placed: they have
//! to be cordoned. `UPSCALE_TEST_FULL=1` tries every write, else every [`SAMPLE`]th is tried.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a panic is a test's verdict, and a test is its own edge"
)]

mod agent;
mod engine;
mod kubelet;
#[path = "../played/mod.rs"]
mod played;
mod proxy;
mod run;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kube::Client;

use played::cluster;
use proxy::{Cut, Place, Trick};

/// Of the writes, one in so many is tried where not all are.
const SAMPLE: u32 = 7;
/// Races of two controllers, in all and in the sample.
const RACES: u32 = 200;
const RACES_OF_SAMPLE: u32 = 6;
/// The run without a death, which tells how many writes there are to die at.
const WHOLE: &str = "without_a_death_the_job_ends_right";
/// Runs side by side.
const ABREAST: usize = 6;

fn main() -> ExitCode {
    if let Some(code) = engine::main_of_child() {
        return code;
    }
    // As other test programs: run what has this in its name.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if only.as_ref().is_some_and(|only| {
        !["dead_", "race_", WHOLE]
            .iter()
            .any(|name| name.starts_with(only.as_str()) || only.starts_with(name))
    }) {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    let Some(kubeconfig) = cluster::kubeconfig() else {
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    };
    let full = std::env::var_os("UPSCALE_TEST_FULL").is_some();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = cluster::administrator(&kubeconfig).await;
        cluster::serve_our_kinds(&client).await;
        cluster::nodes_of_others_are_cordoned(&client).await;
        tested(&client, full, only.as_deref()).await
    })
}

/// Whether a test is wanted by its name.
fn wanted(only: Option<&str>, name: &str) -> bool {
    only.is_none_or(|only| name.contains(only))
}

async fn tested(client: &Client, full: bool, only: Option<&str>) -> ExitCode {
    let began = Instant::now();
    let whole = match run::run(client, &[None]).await {
        Ok(figures) => figures,
        Err(why) => {
            println!("test {WHOLE} ... FAILED\n    {why}");
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
            return ExitCode::FAILURE;
        }
    };
    println!("test {WHOLE} ... ok ({} writes: {})", whole.writes(), whole.kinds());
    let every = full || only.is_some();
    let deaths = deaths(&whole, if every { 1 } else { SAMPLE });
    let races = (0..if every { RACES } else { RACES_OF_SAMPLE }).map(race);
    let cases: Vec<Case> = deaths.chain(races).filter(|case| wanted(only, &case.name)).collect();
    if !every {
        println!(
            "a sample: one write in {SAMPLE} and {RACES_OF_SAMPLE} races; UPSCALE_TEST_FULL=1 tries all"
        );
    }
    let (mut passed, mut unreached, mut failed) = (1, 0, 0);
    let mut runs = stream::iter(cases)
        .map(|case| async move { (run::run(client, &case.tricks).await, case) })
        .buffer_unordered(ABREAST);
    while let Some((outcome, case)) = runs.next().await {
        let tricked = case.tricks.iter().any(Option::is_some);
        match outcome {
            Ok(figures) => {
                passed += 1;
                let missed = tricked && figures.struck.is_none();
                unreached += u32::from(missed);
                let writes = figures.writes();
                let what = figures.struck.unwrap_or_else(|| "nothing was done to it".to_owned());
                println!("test {} ... ok ({what}; {} writes)", case.name, writes);
            }
            Err(why) => {
                failed += 1;
                println!("test {} ... FAILED\n    {why}", case.name);
            }
        }
    }
    println!(
        "{} runs in {:.0} s; {unreached} ended before their write",
        passed + failed,
        began.elapsed().as_secs_f32()
    );
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    // Deaths beyond the end of their runs would prove nothing.
    if failed == 0 && unreached * 3 < passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A run with tricks.
struct Case {
    name: String,
    tricks: Vec<Option<Trick>>,
}

/// One controller that dies, at every n-th write. A run may write a little more than the first did.
fn deaths(whole: &run::Figures, every: u32) -> impl Iterator<Item = Case> + use<> {
    let writes = (1..=whole.writes() + 5).step_by(usize::try_from(every).unwrap());
    writes
        .flat_map(|write| Place::ALL.map(|place| Trick::Die(Cut { write, place })))
        .map(|trick| Case { name: trick.to_string(), tricks: vec![Some(trick)] })
}

/// Two controllers that both work, without an election. Of three races one is left to chance; in the others a create
/// of one controller is late, up to a time when the other has long undone the claim, or is refused after the other has
/// made the pod.
fn race(seed: u32) -> Case {
    let create = seed / 3 % 6 + 1;
    let late = [1, 12, 34, 50][usize::try_from(seed / 18 % 4).unwrap()];
    let trick = match seed % 3 {
        0 => None,
        1 => Some(Trick::Stall { create, length: Duration::from_secs(late) }),
        _ => Some(Trick::RefuseOnceMade { create }),
    };
    let what = trick.map_or_else(|| "by_chance".to_owned(), |trick| trick.to_string());
    Case { name: format!("race_{seed}_{what}"), tricks: vec![trick, None] }
}
