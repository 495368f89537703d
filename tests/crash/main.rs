//! The controller dies by kill -9 before, at and after every write that it makes for a job of four segments, one of
//! which is too large for the first step's tiles and one of which meets a neighbour. Real are the controller's program,
//! the API server, its scheduler, and the simulated driver with a process for each engine; nodes, agents and kubelets
//! are played, so that a run takes seconds and every write can be hit.
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
mod proxy;
mod run;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use futures::{StreamExt, stream};
use kube::Client;

use proxy::{Cut, Place};

/// Of the writes, one in so many is tried where not all are.
const SAMPLE: u32 = 7;
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
    if only.as_ref().is_some_and(|only| !only.starts_with("dead_") && !WHOLE.contains(only.as_str())) {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    let Some(kubeconfig) = std::env::var_os("UPSCALE_TEST_KUBECONFIG") else {
        println!("SKIPPED: UPSCALE_TEST_KUBECONFIG names no kubeconfig; `cargo xtask test` does");
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    };
    let full = std::env::var_os("UPSCALE_TEST_FULL").is_some();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = world::administrator(&kubeconfig).await;
        world::serve_our_kinds(&client).await;
        world::nodes_of_others_are_cordoned(&client).await;
        tested(&client, full, only.as_deref()).await
    })
}

async fn tested(client: &Client, full: bool, only: Option<&str>) -> ExitCode {
    let began = Instant::now();
    let whole = match run::run(client, None).await {
        Ok(figures) => figures,
        Err(why) => {
            println!("test {WHOLE} ... FAILED\n    {why}");
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
            return ExitCode::FAILURE;
        }
    };
    println!("test {WHOLE} ... ok ({} writes: {})", whole.writes(), whole.kinds());
    let step = if full || only.is_some() { 1 } else { SAMPLE };
    // A run of its own may write a little more than the first did.
    let last = whole.writes() + 5;
    let cuts: Vec<Cut> = (1..=last)
        .step_by(usize::try_from(step).unwrap())
        .flat_map(|write| Place::ALL.map(|place| Cut { write, place }))
        .filter(|cut| only.is_none_or(|only| format!("dead_{cut}").contains(only)))
        .collect();
    if step > 1 {
        println!("a sample: deaths at one write in {SAMPLE}; `cargo xtask test --full` tries all {last}");
    }
    let (mut passed, mut unreached, mut failed) = (1, 0, 0);
    let mut runs =
        stream::iter(cuts.into_iter().map(|cut| async move { (cut, run::run(client, Some(cut)).await) }))
            .buffer_unordered(ABREAST);
    while let Some((cut, outcome)) = runs.next().await {
        match outcome {
            Ok(figures) => {
                passed += 1;
                match figures.struck {
                    Some(write) => println!("test dead_{cut} ... ok ({write})"),
                    None => {
                        unreached += 1;
                        println!("test dead_{cut} ... ok (the run had only {} writes)", figures.writes());
                    }
                }
            }
            Err(why) => {
                failed += 1;
                println!("test dead_{cut} ... FAILED\n    {why}");
            }
        }
    }
    println!(
        "{} deaths in {:.0} s, {unreached} not reached",
        passed + failed - 1 - unreached,
        began.elapsed().as_secs_f32()
    );
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    // All deaths beyond the end of their run would prove nothing.
    if failed == 0 && unreached * 4 < passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
