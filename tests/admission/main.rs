//! What is let in: objects by the rules of their definitions, and an agent's writes by the chart's admission policy.
//! The rules are tried without an API server, and all of it on a real one that `UPSCALE_TEST_KUBECONFIG` names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is a test's verdict"
)]

mod agent;
mod cases;
mod offline;
mod online;
#[path = "../rendered/mod.rs"]
mod rendered;
mod renderings;
mod server;
