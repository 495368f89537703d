//! Puts right what an interrupted test or demo, or `cargo xtask gpu`, has left on a bed that runs: held programs, cordoned
//! nodes, GPUs that are spoilt or out, agents without a node, other releases, and tenants who never left.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use gpusim::card::Gpu;
use gpusim::control::{Command, DriverAction, PinMode, Spoil, ViewMode};
use rustix::process::Signal;
use serde_json::json;
use video_upscale::api::keys;
use video_upscale::api::report::{Health, Report};

use super::{Bed, NODES, OPERATOR_NAMESPACE, clearing};
use crate::gpu::HOG;

/// Marks everything of a test's tenant: namespace, volumes, profiles. Its value is the namespace.
pub const TENANT: &str = "bed.upscale.video/tenant";
/// Begins the name of every tenant's namespace.
pub const TENANT_PREFIX: &str = "t-";
/// Marks jobs that demo and tests make in a namespace that is not a tenant's.
pub const MADE_FOR: &str = "bed.upscale.video/made-for";
/// Its value on jobs that nobody looks at afterwards.
pub const TEST: &str = "test";
/// A node selector that no node has: agents with it have nowhere to be.
pub const NOWHERE: &str = "tests.upscale.video/nowhere";

impl Bed {
    /// Brings everything that tests change back to how `up` makes it. On a bed that is as it should be it changes nothing,
    /// but that foreign processes on the GPUs end.
    ///
    /// # Errors
    /// When a driver or the API server does not answer, or something does not go in its time.
    pub(super) fn settle(&mut self) -> Result<()> {
        for node in NODES {
            // First of all: whoever asks a driver that stands still waits for ever.
            self.hold_driver(node, false)?;
            self.hold_kubelet(node, false)?;
            self.out_of_service(node, false)?;
        }
        for program in ["upscale-agent", "upscale-controller"] {
            self.signal(program, Signal::CONT)?;
        }
        self.cordon(false)?;
        self.foreign_processes_end()?;
        for node in NODES {
            self.settle_driver(node).with_context(|| format!("settle the GPUs of {node}"))?;
        }
        self.exclude(|_| false)?;
        self.releases_of_tests_leave()?;
        self.agents_are_at_home()?;
        self.tenants_leave()
    }

    fn foreign_processes_end(&mut self) -> Result<()> {
        self.kubectl(&["delete", "pods", "-A", "-l", HOG, "--grace-period=1", "--wait"])?;
        let mut record = self.record.clone();
        self.end_hogs_in(&mut record, "hog-")?;
        self.record = record;
        self.save()
    }

    fn settle_driver(&self, node: &str) -> Result<()> {
        let mut driver = self.control(node)?;
        driver.run(&Command::Driver { action: DriverAction::Load, version: None })?;
        driver.run(&Command::Pin { mode: PinMode::Honour })?;
        driver.run(&Command::View { mode: ViewMode::Translated })?;
        for card in driver.list()? {
            let gpu: Gpu = card.uuid.parse()?;
            for command in [
                Command::Lose { gpu: gpu.clone(), back: true },
                Command::LeakOnExit { gpu: gpu.clone(), off: true },
                Command::SlowRelease { gpu: gpu.clone(), millis: 0 },
                Command::Leak { gpu: gpu.clone(), mib: 0 },
                Command::Engine { gpu: gpu.clone(), spoil: Spoil::None, runs: None },
                Command::Need { gpu, percent: 100 },
            ] {
                driver.run(&command)?;
            }
        }
        if self.has_a_broken_card(node)? {
            // The agent forgets a hardware fault, and that of a lost card, only when the driver is loaded again.
            driver.run(&Command::Driver { action: DriverAction::Reload, version: None })?;
        }
        Ok(())
    }

    /// Whether the agent of a node says that a card is lost, or broken until a reset.
    fn has_a_broken_card(&self, node: &str) -> Result<bool> {
        let path = format!("jsonpath={{.metadata.annotations.{}}}", keys::REPORT.replace('.', r"\."));
        let text = self.kubectl(&["get", "node", node, "-o", &path])?;
        let gpus = serde_json::from_str::<Report>(&text).map(|report| report.gpus).unwrap_or_default();
        Ok(gpus.iter().any(|gpu| matches!(gpu.h, Health::Bad | Health::Lost | Health::ResetRequired)))
    }

    fn agents_are_at_home(&self) -> Result<()> {
        let agents = "app.kubernetes.io/component=agent";
        let sets =
            self.kubectl(&["get", "daemonsets", "-n", OPERATOR_NAMESPACE, "-l", agents, "-o", "name"])?;
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {NOWHERE: null}}}}}).to_string();
        for set in sets.lines() {
            self.kubectl(&["patch", set, "-n", OPERATOR_NAMESPACE, "--type=merge", "-p", &patch])?;
        }
        Ok(())
    }

    fn tenants_leave(&self) -> Result<()> {
        if self.knows_our_kinds()? {
            let jobs = format!("{MADE_FOR}={TEST}");
            self.kubectl(&["delete", "videoupscales", "-A", "-l", &jobs, "--timeout=60s"])?;
            self.kubectl(&["delete", "upscaleprofiles", "-l", TENANT, "--timeout=60s"])?;
        }
        self.kubectl(&["delete", "namespaces", "-l", TENANT, "--timeout=120s"])?;
        self.kubectl(&["delete", "persistentvolumes", "-l", TENANT, "--timeout=60s"])?;
        let volumes = self.volumes();
        let folders = match fs::read_dir(&volumes) {
            Ok(folders) => folders,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("list {}", volumes.display())),
        };
        for folder in folders {
            let folder = folder.with_context(|| format!("list {}", volumes.display()))?;
            if folder.file_name().to_string_lossy().starts_with(TENANT_PREFIX) {
                clearing::remove(&folder.path())?;
            }
        }
        Ok(())
    }

    /// Jobs that neither demo nor tests have made: `namespace/name`.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn jobs_of_others(&self) -> Result<Vec<String>> {
        if !self.knows_our_kinds()? {
            return Ok(Vec::new());
        }
        let path = r#"jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}"#;
        let without = format!("!{MADE_FOR}");
        let jobs = self.kubectl(&["get", "videoupscales", "-A", "-l", &without, "-o", path])?;
        let theirs = jobs.lines().filter(|job| !job.is_empty() && !job.starts_with(TENANT_PREFIX));
        Ok(theirs.map(str::to_owned).collect())
    }

    fn knows_our_kinds(&self) -> Result<bool> {
        let kind = "videoupscales.upscale.video";
        Ok(!self.kubectl(&["get", "crd", kind, "--ignore-not-found", "-o", "name"])?.trim().is_empty())
    }
}
