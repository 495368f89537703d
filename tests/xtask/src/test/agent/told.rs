//! What the agent of one node tells: on its Node, and over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use video_upscale::api::keys;
use video_upscale::api::report::{Gpu, Process, Report, read};

use crate::bed::OPERATOR_NAMESPACE;

/// Longest silence of the agent's HTTP server.
const HTTP_LIMIT: Duration = Duration::from_secs(5);

/// One node and its agent.
pub struct Told {
    nodes: Api<Node>,
    pods: Api<Pod>,
    /// The node's name.
    pub node: &'static str,
}

impl Told {
    /// The agent of `node`.
    pub fn of(client: &Client, node: &'static str) -> Self {
        let pods = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
        Self { nodes: Api::all(client.clone()), pods, node }
    }

    /// Waits until the report on the Node is sound and as wanted; the report, and how long it took.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Report) -> bool,
    ) -> Result<(Report, Duration)> {
        let began = Instant::now();
        let shows = |node: Option<&Node>| node.and_then(report).is_some_and(|report| wanted(&report));
        let wait = tokio::time::timeout(limit, await_condition(self.nodes.clone(), self.node, shows));
        let Ok(node) = wait.await else {
            let last = self.nodes.get(self.node).await?.annotations().get(keys::REPORT).cloned();
            bail!("{}: not within {limit:?}: {what}; the report is {last:?}", self.node);
        };
        let node = node?.and_then(|node| report(&node));
        Ok((node.context("the node has gone")?, began.elapsed()))
    }

    /// The agent's pod.
    pub async fn pod(&self) -> Result<Pod> {
        let agents = ListParams::default()
            .labels("app.kubernetes.io/component=agent")
            .fields(&format!("spec.nodeName={}", self.node));
        let pods = self.pods.list(&agents).await.context("list the agents")?.items;
        let alive = pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
        alive.with_context(|| format!("{} has no agent", self.node))
    }

    /// Replaces the agent's pod, and so what it remembers of its last end; returns once the new one has reported.
    pub async fn renew(&self) -> Result<()> {
        let old = self.pod().await?;
        let before = self.nodes.get(self.node).await?;
        let before = report(&before).map(|report| report.inst);
        self.pods
            .delete(&old.name_any(), &DeleteParams::default())
            .await
            .context("delete the agent's pod")?;
        let another = |report: &Report| Some(&report.inst) != before.as_ref();
        self.until("a new agent's report", Duration::from_secs(90), another).await?;
        Ok(())
    }

    /// What the agent answers over HTTP, and whether with 200.
    pub fn ask(pod: &Pod, path: &str) -> Result<(bool, String)> {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let address = format!("{}:9402", address.context("the agent's pod has no address")?);
        let mut stream =
            TcpStream::connect_timeout(&address.parse()?, HTTP_LIMIT).context("reach the agent")?;
        stream.set_read_timeout(Some(HTTP_LIMIT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).with_context(|| format!("read the agent's {path}"))?;
        Ok((text.starts_with("HTTP/1.1 200"), text))
    }
}

/// What stands on a Node, if report and heartbeat are sound and belong together.
pub fn report(node: &Node) -> Option<Report> {
    let of = |key: &str| node.annotations().get(key).map(String::as_str);
    Some(read(of(keys::REPORT)?, of(keys::HEARTBEAT)?).ok()?.0)
}

/// A GPU of a report.
pub fn gpu<'a>(report: &'a Report, uuid: &str) -> Result<&'a Gpu> {
    let found = report.gpus.iter().find(|gpu| gpu.id == uuid);
    found.ok_or_else(|| anyhow!("{uuid} is not in the report"))
}

/// A process on a GPU of a report, by its id on the host.
pub fn process<'a>(report: &'a Report, uuid: &str, pid: u32) -> Option<&'a Process> {
    let processes = gpu(report, uuid).ok()?.procs.as_ref()?;
    processes.top.iter().find(|process| process.p == pid && !process.ended())
}
