//! The bed as a whole: up, found again, down.
//!
//! Everything it makes outside its own folder is in its control group, carries its name, or is in its record, so that
//! the next `up` or `down` clears whatever a crash has left. A bed that runs as it should is left as it is; one that
//! does not is cleared and made anew, with its volumes. What tests have changed on one that runs, `up` puts right.

mod audit;
mod chart;
mod clearing;
mod containerd;
mod control_group;
mod control_plane;
mod daemon;
mod ending;
mod gpus;
mod grade;
mod harm;
mod hogs;
mod import;
mod layout;
mod network;
mod node;
mod objects;
mod pki;
mod process_set;
mod record;
mod runner;
mod settle;
mod start;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{Run, system_path, tail};
use crate::images::{self, FilmPrograms, Folders, Image, Images, Programs};
use crate::packages;
use crate::progress::Progress;
use crate::tools::Tools;
use daemon::Daemon;
use grade::Machine;
use layout::Addresses;
use process_set::ProcessSet;
use record::Record;

pub use crate::images::PAUSE_IMAGE;
pub use audit::Since;
pub use ending::{down, residue, stands};
pub use grade::Grade;
pub use layout::{Layout, NODES};
pub use objects::namespace;
pub use record::Process;
pub use settle::{MADE_FOR, NOWHERE, TENANT, TENANT_PREFIX, TEST};

/// Where the operator is installed.
pub const OPERATOR_NAMESPACE: &str = "upscale-system";

/// The tenant's namespace, with a claim of the same name that both nodes can mount.
pub const TENANT_NAMESPACE: &str = "media";

/// The helm release.
pub const RELEASE: &str = "video-upscale";

/// What to bring up.
#[derive(Clone, Copy, Debug)]
pub struct UpOptions {
    /// Install the chart, too.
    pub chart: bool,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self { chart: true }
    }
}

/// A bed that is up.
#[derive(Debug)]
pub struct Bed {
    layout: Layout,
    record: Record,
    tools: Tools,
    grade: Grade,
    processes: ProcessSet,
    progress: Progress,
}

impl Bed {
    /// Brings the bed up; leaves one that is up as it is, but for images that have changed and for what tests, or
    /// `cargo xtask gpu`, have done to it.
    ///
    /// # Errors
    /// When a program is missing and cannot be had, or something does not come up in its time.
    pub fn up(options: &UpOptions) -> Result<Self> {
        let progress = Progress::default();
        let machine = Machine::look();
        let grade = Grade::of(machine);
        if grade == Grade::Plain {
            grade::warn(machine, &progress);
        }
        let layout = Layout::find()?;
        let _lock = lock(&layout, &progress)?;
        fs::create_dir_all(layout.logs()).with_context(|| format!("create {}", layout.logs().display()))?;
        let films = match grade {
            Grade::Full => {
                packages::ensure(&layout.logs().join("apt.log"), &progress)?;
                None
            }
            // Asked for before anything is built: nobody here can install it.
            Grade::Plain => Some(images::film_programs_of_the_machine()?),
        };
        let tools = Tools::ensure(&layout.checkout, &layout.cache, grade, &progress)?;
        let programs = Programs::build(&layout.checkout, &layout.logs(), grade, &progress)?;
        let images = match films {
            None => Provided::Images(Images::ensure(&layout, &programs, &progress)?),
            Some(films) => {
                Provided::Folders(Folders::ensure(&layout.images().join("folders"), &programs, &films)?)
            }
        };
        let processes = ProcessSet::of(grade, &layout)?;
        let shape = gpus::shape(&programs, &tools)?;
        let record = Record::read(&layout.record()).unwrap_or_default().unwrap_or_default();
        let runs =
            record.whole && record.shape == shape && record.grade == Some(grade) && dead(&record).is_none();
        let mut bed = Self { layout, record, tools, grade, processes, progress };
        if runs {
            progress.say("the bed is up already");
        } else {
            start::anew(&mut bed, &programs, shape)?;
        }
        match &images {
            Provided::Images(images) => bed.import(images)?,
            Provided::Folders(folders) => bed.use_folders(folders)?,
        }
        bed.wait_for_nodes()?;
        objects::apply(&bed)?;
        bed.record.whole = true;
        bed.save()?;
        if runs {
            bed.settle()?;
        }
        if options.chart {
            chart::install(&bed)?;
        }
        Ok(bed)
    }

    /// Finds the bed that an earlier call brought up.
    ///
    /// # Errors
    /// When there is none, or one of its processes has ended.
    pub fn attach() -> Result<Self> {
        let progress = Progress::default();
        let layout = Layout::find()?;
        let record = Record::read(&layout.record())?.filter(|record| record.whole);
        let record = record.context("the bed is not up: run `cargo xtask up`")?;
        if let Some(name) = dead(&record) {
            bail!("{name} has ended: `cargo xtask up` makes the bed anew");
        }
        let grade = record.grade.unwrap_or(Grade::Full);
        let tools = Tools::ensure(&layout.checkout, &layout.cache, grade, &progress)?;
        let processes = ProcessSet::of(grade, &layout)?;
        Ok(Self { layout, record, tools, grade, processes, progress })
    }

    /// Installs the chart, or brings an installed one to this checkout's state.
    ///
    /// # Errors
    /// When helm fails or a pod does not become ready.
    pub fn install_chart(&self) -> Result<()> {
        chart::install(self)
    }

    /// The same with other values, each `path=value`.
    ///
    /// # Errors
    /// When helm fails or a pod does not become ready.
    pub fn upgrade_chart(&self, values: &[&str]) -> Result<()> {
        chart::upgrade(self, values)
    }

    /// Takes the chart and our kinds away.
    ///
    /// # Errors
    /// When helm or kubectl fails.
    pub fn remove_chart(&self) -> Result<()> {
        chart::remove(self)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// The repository.
    pub fn checkout(&self) -> &Path {
        &self.layout.checkout
    }

    /// Where everything of the bed lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What it is.
    pub fn grade(&self) -> Grade {
        self.grade
    }

    /// Says what a run on this bed has not tested; nothing of a full one.
    pub fn tell_untested(&self) {
        if self.grade == Grade::Plain {
            println!("\n{}", grade::untested());
        }
    }

    /// The pinned tools.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Its clock and voice.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The nodes' names.
    pub fn nodes(&self) -> [&'static str; 2] {
        NODES
    }

    /// The folder behind the claims: `<namespace>/<claim>`; both nodes see it at the same path.
    pub fn volumes(&self) -> PathBuf {
        self.layout.volumes()
    }

    /// An image's full name as the nodes know it.
    pub fn image(&self, image: Image) -> &str {
        self.record.images.get(image.name()).map_or("", String::as_str)
    }

    /// PATH with the tools first, and KUBECONFIG.
    ///
    /// # Errors
    /// When a folder's name cannot stand in PATH.
    pub fn tool_environment(&self) -> Result<BTreeMap<String, OsString>> {
        let path = self.tools.search_path(std::env::var_os("PATH").unwrap_or_default())?;
        Ok([("PATH".to_owned(), path), ("KUBECONFIG".to_owned(), self.kubeconfig().into_os_string())].into())
    }

    /// ffmpeg and ffprobe to make and check films with.
    ///
    /// # Errors
    /// When the image that has them cannot be unpacked, or a machine without images has none.
    pub fn film_programs(&self) -> Result<FilmPrograms> {
        match self.grade {
            Grade::Full => images::film_programs(&self.layout),
            Grade::Plain => images::film_programs_of_the_machine(),
        }
    }

    /// An administrator's client.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<kube::Client> {
        let file = self.kubeconfig();
        let config =
            kube::config::Kubeconfig::read_from(&file).with_context(|| format!("read {}", file.display()))?;
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
        kube::Client::try_from(config.context("understand the kubeconfig")?).context("make a client")
    }

    /// Calls kubectl as administrator; what it prints is the answer.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_call(args)?.output()
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn apply(&self, manifest: &Value) -> Result<()> {
        self.kubectl_call(&["apply", "--server-side", "--force-conflicts", "-f", "-"])?
            .input(manifest.to_string())
            .done()
    }

    /// The simulated driver of a node.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn control(&self, node: &str) -> Result<gpusim::control::Control> {
        let socket = self.layout.control(node);
        gpusim::control::Control::dial(&socket).with_context(|| format!("reach the GPUs of {node}"))
    }

    /// What happened to a node's GPUs, as the simulated driver wrote it down.
    pub fn journal(&self, node: &str) -> PathBuf {
        self.layout.journal(node)
    }

    /// The folder behind a claim.
    ///
    /// # Errors
    /// When there is no such claim, or its volume is no folder of the bed.
    pub fn volume_path(&self, namespace: &str, claim: &str) -> Result<PathBuf> {
        objects::volume_path(self, namespace, claim)
    }

    /// Waits as [`Progress::wait`] does, but no longer than the bed's processes live.
    ///
    /// # Errors
    /// When `look` fails, time is up, or a process of the bed has ended; repeats the end of its log.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        self.progress.wait(what, limit, || match (look()?, dead(&self.record)) {
            (None, Some(name)) => {
                let log = Daemon::log(name, &self.layout.logs());
                let text = fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                bail!("{name} has ended; its log {} ends with:\n{}", log.display(), tail(&text, 3000))
            }
            (found, _) => Ok(found),
        })
    }

    fn kubectl_call(&self, args: &[&str]) -> Result<Run> {
        Ok(Run::new(self.tools.path("kubectl")?).env("KUBECONFIG", self.kubeconfig()).args(args))
    }

    fn addresses(&self) -> Addresses {
        Addresses { grade: self.grade, octet: self.record.octet }
    }

    /// Starts a process and writes it down.
    fn start(&mut self, daemon: Daemon) -> Result<()> {
        let name = daemon.name.clone();
        let process = daemon.start(&self.processes, &self.layout.logs())?;
        self.record.daemons.insert(name, process);
        self.save()
    }

    fn save(&self) -> Result<()> {
        self.record.write(&self.layout.record())
    }

    /// A call of ctr in a node.
    fn ctr(&self, node: &str) -> Result<Run> {
        let ctr = self.tools.path("ctr")?;
        Ok(node::enter(&self.layout, node).args([
            ctr.as_path(),
            Path::new("--address"),
            Path::new(containerd::SOCKET),
        ]))
    }

    fn wait_for_nodes(&self) -> Result<()> {
        let path = r#"jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}"#;
        self.wait("both nodes to be Ready", Duration::from_secs(120), || {
            let told = self.kubectl(&["get", "nodes", "-o", path])?;
            let ready = NODES.iter().all(|node| told.contains(&format!("{node}=True")));
            Ok(ready.then_some(()))
        })
    }
}

/// What pods run.
enum Provided {
    Images(Images),
    Folders(Folders),
}

/// A process that should run and does not.
fn dead(record: &Record) -> Option<&str> {
    record.daemons.iter().find(|(_, process)| !process.runs()).map(|(name, _)| name.as_str())
}

/// Makes this the only call that changes the bed; waits for another one.
fn lock(layout: &Layout, progress: &Progress) -> Result<File> {
    fs::create_dir_all(&layout.cache).with_context(|| format!("create {}", layout.cache.display()))?;
    let path = layout.lock();
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    progress.wait("another call that changes this bed", Duration::from_secs(3600), || {
        match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    })?;
    Ok(file)
}

/// PATH for processes of the bed.
fn search_path(tools: &Tools) -> Result<OsString> {
    tools.search_path(system_path())
}
