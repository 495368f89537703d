//! Where everything of a bed lies and what it is called. All of it follows from the checkout's path and one free
//! network, so that two checkouts on one machine do not meet, and a later call finds what an earlier one made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The two nodes of every bed.
pub const NODES: [&str; 2] = ["node-a", "node-b"];

/// Folders of a bed and names that are visible on the machine.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The repository.
    pub checkout: PathBuf,
    /// What all checkouts share: tools, root file systems, image layers.
    pub cache: PathBuf,
    /// What this bed keeps until `down`.
    pub state: PathBuf,
    /// Sockets and pinned namespaces; a mount of its own.
    pub run: PathBuf,
    /// Six hexadecimal digits that stand for the checkout.
    pub id: String,
}

impl Layout {
    /// The layout of the bed of the checkout that this program was built from.
    ///
    /// # Errors
    /// When neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn find() -> Result<Self> {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = cache.or(home).context("set HOME: the bed keeps its tools in $HOME/.cache")?;
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let checkout =
            checkout.canonicalize().with_context(|| format!("find the checkout {}", checkout.display()))?;
        Ok(Self::new(checkout, &cache.join("video-upscale")))
    }

    fn new(checkout: PathBuf, cache: &Path) -> Self {
        let digest = crate::images::digest([checkout.as_os_str().as_encoded_bytes()]);
        let id: String = digest.chars().take(6).collect();
        Self {
            state: cache.join(format!("bed-{id}")),
            run: PathBuf::from(format!("/run/video-upscale-{id}")),
            cache: cache.to_owned(),
            checkout,
            id,
        }
    }

    /// The bridge that joins the nodes; at most 15 characters.
    pub fn bridge(&self) -> String {
        format!("vu{}", self.id)
    }

    /// The host's end of a node's cable.
    pub fn cable(&self, node: usize) -> String {
        format!("vu{}-{node}", self.id)
    }

    /// The control group below which every process of the bed lives, without the hierarchy's mount point.
    pub fn control_group(&self) -> String {
        format!("video-upscale-{}", self.id)
    }

    /// What the bed has made, for the next call.
    pub fn record(&self) -> PathBuf {
        self.state.join("bed.json")
    }

    /// Held by the call that changes the bed.
    pub fn lock(&self) -> PathBuf {
        self.cache.join(format!("bed-{}.lock", self.id))
    }

    /// What the bed's processes print.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("admin.kubeconfig")
    }

    /// Folders behind the claims: `<namespace>/<claim>`.
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// Built images on their way into the nodes; kept by `down`, as nothing of them runs.
    pub fn images(&self) -> PathBuf {
        self.cache.join("images").join(&self.id)
    }

    /// A node's own folder on disk.
    pub fn node(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The file that holds a node's network namespace.
    pub fn network_namespace(&self, node: &str) -> PathBuf {
        self.run.join(format!("{node}.net"))
    }

    /// The file that holds a node's mount namespace.
    pub fn mount_namespace(&self, node: &str) -> PathBuf {
        self.run.join(format!("{node}.mnt"))
    }

    /// The simulated driver's own files.
    pub fn driver(&self) -> PathBuf {
        self.state.join("driver")
    }

    /// The library that pods of the runtime class find.
    pub fn driver_library(&self) -> PathBuf {
        self.driver().join("libnvidia-ml.so.1")
    }

    /// The folder with a node's simulated device, as pods of the runtime class see it at `/run/gpusim`.
    pub fn device(&self, node: &str) -> PathBuf {
        self.run.join(node).join("device")
    }

    /// The socket that steers a node's simulated driver; never in a pod.
    pub fn control(&self, node: &str) -> PathBuf {
        self.run.join(node).join("control.sock")
    }

    /// What happened to a node's GPUs.
    pub fn journal(&self, node: &str) -> PathBuf {
        self.logs().join(format!("gpus-{node}.log"))
    }
}

/// The bed's addresses: 10.N.0.0/16, of which N is free on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The second octet.
    pub octet: u8,
}

impl Addresses {
    /// The host on the bridge: the API server's address.
    pub fn host(self) -> String {
        format!("10.{}.0.1", self.octet)
    }

    /// The host for what only the control plane talks to; no node can reach it.
    pub fn inner(self) -> String {
        format!("127.{}.0.1", self.octet)
    }

    /// A node on the bridge.
    pub fn node(self, node: usize) -> String {
        format!("10.{}.0.{}", self.octet, node.saturating_add(2))
    }

    /// The pods of a node.
    pub fn pods(self, node: usize) -> String {
        format!("10.{}.{}.0/24", self.octet, node.saturating_add(1))
    }

    /// All nodes and pods.
    pub fn cluster(self) -> String {
        format!("10.{}.0.0/17", self.octet)
    }

    /// The services.
    pub fn services(self) -> String {
        format!("10.{}.128.0/20", self.octet)
    }

    /// The service `kubernetes`: the first of the services.
    pub fn api_service(self) -> String {
        format!("10.{}.128.1", self.octet)
    }

    /// The API server.
    pub fn api_server(self) -> String {
        format!("https://{}:6443", self.host())
    }

    /// etcd.
    pub fn etcd(self) -> String {
        format!("http://{}:2379", self.inner())
    }
}

/// The first free network, starting with the one that the checkout's id points to. `routes` are the destinations of
/// the machine's routes in all tables (`10.3.0.0/16`, `default`, `192.168.1.7`).
pub fn free_addresses(id: &str, routes: &[&str]) -> Option<Addresses> {
    let start = u8::from_str_radix(id.get(..2).unwrap_or_default(), 16).unwrap_or(0);
    let taken = |octet: u8| {
        let prefix = format!("10.{octet}.");
        routes.iter().any(|route| route.starts_with(&prefix))
    };
    (0..=u8::MAX)
        .map(|step| start.wrapping_add(step))
        .find(|octet| (64..=250).contains(octet) && !taken(*octet))
        .map(|octet| Addresses { octet })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_checkouts_share_tools_and_nothing_else() {
        let cache = Path::new("/home/me/.cache/video-upscale");
        let (one, two) = (Layout::new("/src/one".into(), cache), Layout::new("/src/two".into(), cache));
        assert_eq!(one.cache, two.cache);
        assert_ne!(one.state, two.state);
        assert_ne!(one.run, two.run);
        assert_ne!(one.bridge(), two.bridge());
        assert_ne!(one.control_group(), two.control_group());
    }

    #[test]
    fn names_fit_where_the_kernel_is_strict() {
        let layout = Layout::new("/src/one".into(), Path::new("/home/me/.cache/video-upscale"));
        assert!(layout.cable(1).len() <= 15);
        assert!(layout.control("node-a").as_os_str().len() < 100, "a socket's path has 108 bytes");
    }

    #[test]
    fn a_network_in_use_is_passed_over() {
        assert_eq!(free_addresses("64aaaa", &["default"]), Some(Addresses { octet: 0x64 }));
        assert_eq!(
            free_addresses("64aaaa", &["10.100.0.0/16", "10.0.0.0/8"]),
            Some(Addresses { octet: 101 })
        );
        assert_eq!(free_addresses("05aaaa", &[]), Some(Addresses { octet: 64 }), "low numbers are popular");
        let all: Vec<String> = (0..=255).map(|n| format!("10.{n}.0.0/16")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(free_addresses("05aaaa", &all), None);
    }
}
