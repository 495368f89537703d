//! What is let in: objects by the rules of their definitions, and what agents, controller and tenants do by the chart's
//! rights and admission policies. The rules are tried without an API server, and all of it on a real one that
//! `UPSCALE_TEST_KUBECONFIG` names. `-- --nocapture` shows each attack and what stopped it. Also what such a server tells
//! people of our kinds.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is a test's verdict"
)]

mod agent;
mod author;
mod cases;
mod controller;
mod controller_attacks;
mod explained;
mod offline;
mod online;
mod release;
#[path = "../rendered/mod.rs"]
mod rendered;
mod renderings;
mod server;
mod tenant;
