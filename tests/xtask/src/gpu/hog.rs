//! Somebody else's processes on the bed's GPUs: on the host, where no pod can be blamed, or in a pod of another tenant.

use std::fmt::{self, Display};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gpusim::card::MIB;
use gpusim::control::GpuState;
use serde_json::{Value, json};

use crate::bed::{Bed, NODES, Process};
use crate::images::Image;

/// Marks the pods of hogs; its value is the GPU's UUID.
pub const HOG: &str = "bed.upscale.video/hog";

/// A foreign process that holds GPU memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hog {
    /// A process of the host.
    Process(u32),
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Display for Hog {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(out, "process {pid}"),
            Self::Pod { namespace, name } => write!(out, "pod {namespace}/{name}"),
        }
    }
}

impl Bed {
    /// Every GPU of the bed, node by node.
    ///
    /// # Errors
    /// When a driver does not answer.
    pub fn gpus(&self) -> Result<Vec<GpuState>> {
        let mut all = Vec::new();
        for node in NODES {
            all.extend(self.control(node)?.list().with_context(|| format!("list the GPUs of {node}"))?);
        }
        Ok(all)
    }

    /// Lets a process of the host hold `mib` MiB of a GPU (index or UUID); returns once it does.
    ///
    /// # Errors
    /// When there is no such GPU, it has less free, or the process does not get its memory within 60 s.
    pub fn hog_process(&self, node: &str, gpu: &str, mib: u64) -> Result<Hog> {
        let before = self.gpu_with_room(node, gpu, mib)?;
        let hog = Hog::Process(self.start_hog(node, &before.uuid, mib)?);
        self.wait_for_hog(&hog, &before, mib)?;
        Ok(hog)
    }

    /// Lets a pod of `namespace`, made on demand, hold `mib` MiB of a GPU (index or UUID); returns once it does.
    ///
    /// # Errors
    /// As [`Bed::hog_process`], and when the API server refuses the pod.
    pub fn hog_pod(&self, namespace: &str, node: &str, gpu: &str, mib: u64) -> Result<Hog> {
        let before = self.gpu_with_room(node, gpu, mib)?;
        let name = format!("hog-{node}-{}-{}", before.index, before.holders.len());
        self.apply(&crate::bed::namespace(namespace))?;
        self.wait(&format!("namespace {namespace}"), Duration::from_secs(30), || {
            Ok(self.kubectl(&["get", "serviceaccount", "default", "-n", namespace]).is_ok().then_some(()))
        })?;
        self.apply(&pod(namespace, &name, &before, mib, self.image(Image::Hog)))?;
        let hog = Hog::Pod { namespace: namespace.to_owned(), name };
        self.wait_for_hog(&hog, &before, mib)?;
        Ok(hog)
    }

    /// Ends the foreign processes on a GPU (index or UUID) that the two calls above have started; tells how many.
    ///
    /// # Errors
    /// When one cannot be ended.
    pub fn release(&self, node: &str, gpu: &str) -> Result<usize> {
        let uuid = self.gpu(node, gpu)?.uuid;
        let selector = format!("{HOG}={uuid}");
        let pods = self.kubectl(&["get", "pods", "-A", "-l", &selector, "-o", "name"])?.lines().count();
        if pods > 0 {
            self.kubectl(&["delete", "pods", "-A", "-l", &selector, "--grace-period=1", "--wait"])?;
        }
        Ok(pods.saturating_add(self.end_hogs(&uuid)?))
    }

    /// A GPU of a node, by index or UUID.
    ///
    /// # Errors
    /// When there is none, or the driver does not answer.
    pub fn gpu(&self, node: &str, gpu: &str) -> Result<GpuState> {
        let gpus = self.control(node)?.list().with_context(|| format!("list the GPUs of {node}"))?;
        let found = gpus.into_iter().find(|it| it.uuid == gpu || it.index.to_string() == gpu);
        found.with_context(|| format!("{node} has no GPU {gpu}"))
    }

    fn gpu_with_room(&self, node: &str, gpu: &str, mib: u64) -> Result<GpuState> {
        let gpu = self.gpu(node, gpu)?;
        let free = gpu.free.checked_div(MIB).unwrap_or(0);
        ensure!(free >= mib, "GPU {} of {node} has {free} MiB free: {mib} MiB cannot be held", gpu.index);
        Ok(gpu)
    }

    fn wait_for_hog(&self, hog: &Hog, before: &GpuState, mib: u64) -> Result<()> {
        let wanted = mib.saturating_mul(MIB);
        self.wait(&format!("{hog} to hold {mib} MiB"), Duration::from_secs(60), || {
            if let Hog::Process(pid) = hog {
                ensure!(Process::find(*pid).is_some(), "{hog} has ended: there was no room for {mib} MiB");
            }
            let now = self.gpu(&before.node, &before.uuid)?;
            let mut new = now.holders.iter().filter(|holder| !before.holders.contains(holder));
            Ok(new.any(|holder| holder.bytes == wanted).then_some(()))
        })
    }
}

/// A pod that would pass the strictest Pod Security.
fn pod(namespace: &str, name: &str, gpu: &GpuState, mib: u64, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {HOG: gpu.uuid}},
        "spec": {
            "nodeName": gpu.node,
            "runtimeClassName": "nvidia",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "hog",
                "image": image,
                "args": ["--gpu", "0", "--mib", mib.to_string()],
                "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": gpu.uuid}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}
