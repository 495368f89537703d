//! A test that is killed leaves the bed as it spoilt it; the next `up` puts it right.

use anyhow::{Context, Result, ensure};
use gpusim::card::Gpu;
use gpusim::control::{Command, Health, PinMode, Spoil};
use gpusim::journal::{self, Event};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use video_upscale::api::keys;

use super::tenant::Tenant;
use crate::bed::{Bed, UpOptions};

const LEFT_MIB: u64 = 1_024;
const NODE: &str = "node-b";

/// Spoils everything that tests spoil, then calls `up` as a user does.
pub async fn heals(bed: &Bed, client: &Client) -> Result<()> {
    Tenant::leave(bed, client, "left").await?;
    let tenant = Tenant::arrive(bed, client.clone(), "left").await?;
    tenant.without_agents().await?;
    bed.cordon(true)?;
    bed.exclude(|_| true)?;
    bed.hog_process(NODE, "0", LEFT_MIB)?;
    let mut driver = bed.control(NODE)?;
    driver.run(&Command::Pin { mode: PinMode::Swap })?;
    driver.run(&Command::Engine { gpu: Gpu::Index(1), spoil: Spoil::Crash, runs: None })?;
    driver.run(&Command::Leak { gpu: Gpu::Index(2), mib: LEFT_MIB })?;
    driver.run(&Command::Need { gpu: Gpu::Index(3), percent: 300 })?;
    driver.run(&Command::Lose { gpu: Gpu::Index(4), back: false })?;
    bed.hold_driver(NODE, true)?;

    let bed = Bed::up(&UpOptions::default())?;
    for gpu in bed.gpus()? {
        let well = gpu.health == Health::Ok && gpu.need_percent == 100 && gpu.unowned == 0;
        ensure!(well && gpu.holders.is_empty(), "not as it was: {gpu:?}");
    }
    let log = journal::read(&bed.journal(NODE)).context("read the driver's journal")?;
    let commands = || {
        log.iter().rev().filter_map(|entry| match &entry.event {
            Event::Command { command } => Some(command),
            _ => None,
        })
    };
    let pin = commands().find(|command| matches!(command, Command::Pin { .. }));
    ensure!(pin == Some(&Command::Pin { mode: PinMode::Honour }), "GPUs are still pinned wrongly: {pin:?}");
    let spoilt = Gpu::Uuid(bed.gpu(NODE, "1")?.uuid);
    let engine = commands().find(|command| matches!(command, Command::Engine { gpu, .. } if *gpu == spoilt));
    ensure!(
        engine.is_some_and(|engine| matches!(engine, Command::Engine { spoil: Spoil::None, .. })),
        "{engine:?}"
    );

    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ListParams::default()).await?.items {
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        ensure!(!cordoned, "{} is still cordoned", node.name_any());
        let excludes = node.annotations().contains_key(keys::EXCLUDE_GPUS);
        ensure!(!excludes, "{} still keeps its GPUs out", node.name_any());
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    ensure!(namespaces.get_opt(&tenant.namespace).await?.is_none(), "the tenant is still there");
    ensure!(!tenant.volume().exists(), "the tenant's volume is still there");
    tenant.reports().await.context("find the agents back")
}
