//! What the agent costs: processor and memory of the real program over the simulated driver, calls to the driver, and
//! writes to the API server under loads on a virtual clock. Prints each figure with its bound and fails when one does
//! not hold: `cargo bench -p upscale-agent --bench agent`, with `-- process` or `-- writes` for one part.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods
)]

#[path = "../../tests/driver/bed.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod bed;
mod figure;
mod loads;
mod process;
mod writes;

use std::process::ExitCode;

use figure::Figures;
use loads::{Load, Turnover};

fn main() -> ExitCode {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let mut figures = Figures::default();
    if wanted("process") {
        process::measure(&mut figures);
    }
    if wanted("writes") {
        writes::on_a_flat_gpu(&mut figures);
        for (load, expected) in LOADS {
            writes::under(&load, expected, &mut figures);
        }
    }
    figures.verdict()
}

/// The loads, and the writes per second of 5,000 nodes that the policy was designed for under each.
const LOADS: [(Load, f64); 4] = [
    (Load { name: "steady, jobs of 1-8 h", turnover: Turnover::Minutes(60, 480), restless: false }, 31.0),
    (Load { name: "mixed, jobs of 10-120 min", turnover: Turnover::Minutes(10, 120), restless: false }, 61.0),
    (
        Load {
            name: "noisy, jobs of 10-120 min, memory jumps",
            turnover: Turnover::Minutes(10, 120),
            restless: true,
        },
        64.0,
    ),
    (
        Load { name: "heavy churn, jobs of 1-10 min", turnover: Turnover::Minutes(1, 10), restless: false },
        132.0,
    ),
];
