//! The nodes of a plain bed: a runner each, in the place of container runtime, kubelet and proxy.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use pod_runner::config::{Config, Images};

use super::Bed;
use super::daemon::Daemon;
use super::node;
use super::pki::Authority;
use super::process_set::MARK;
use crate::images::{Folders, Programs};

/// The runner among the programs that cargo builds.
const PROGRAM: &str = "pod-runner";

/// Starts node number `at`; it becomes Ready some seconds later.
///
/// # Errors
/// When a file cannot be written or the process not be started.
pub fn start(bed: &mut Bed, authority: &Authority, programs: &Programs, at: usize, name: &str) -> Result<()> {
    let addresses = bed.addresses();
    let server = addresses.api_server();
    // As kubelets are called, so that the server lets it do what it lets them do, and no more.
    let client =
        authority.client(&format!("kubelet-{name}"), &format!("system:node:{name}"), Some("system:nodes"))?;
    let kubeconfig = bed.layout.pki().join(format!("kubelet-{name}.kubeconfig"));
    authority.kubeconfig(&kubeconfig, &server, &client)?;
    let folder = bed.layout.node(name);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let driver = [
        (gpusim::driver::FOLDER_VARIABLE, bed.layout.device(name)),
        ("LD_LIBRARY_PATH", bed.layout.driver()),
    ];
    let config = Config {
        node: name.to_owned(),
        labels: [("nvidia.com/gpu.present".to_owned(), "true".to_owned())].into(),
        address: addresses.node(at),
        pods: addresses.pods_of_runner(at),
        kubeconfig,
        server,
        folder: folder.join("pods"),
        logs: bed.layout.logs().join("pods"),
        images: bed.layout.image_folders(),
        memory_kib: node::share_kib()?,
        driver: driver.map(|(name, folder)| (name.to_owned(), folder.display().to_string())).into(),
        every: [(MARK.to_owned(), bed.layout.id.clone())].into(),
    };
    let file = folder.join("runner.json");
    fs::write(&file, serde_json::to_vec_pretty(&config)?)
        .with_context(|| format!("write {}", file.display()))?;
    let program = bed.layout.driver().join(PROGRAM);
    if !program.exists() {
        let from = programs.path(PROGRAM);
        fs::copy(&from, &program).with_context(|| format!("copy {}", from.display()))?;
    }
    bed.start(Daemon::new(node::kubelet(name), &program).flag("config", file))?;
    bed.wait(&format!("node {name}"), Duration::from_secs(30), || {
        Ok(bed.kubectl(&["get", "node", name]).is_ok().then_some(()))
    })
}

impl Bed {
    /// Tells the runners which images there are.
    pub(super) fn use_folders(&mut self, folders: &Folders) -> Result<()> {
        let images: Images = folders.images.values().cloned().collect();
        let file = self.layout.image_folders();
        fs::write(&file, serde_json::to_vec_pretty(&images)?)
            .with_context(|| format!("write {}", file.display()))?;
        let names = folders.images.iter().map(|(image, (name, _))| (image.name().to_owned(), name.clone()));
        self.record.images = names.collect();
        self.save()
    }
}
