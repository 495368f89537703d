//! Where everything of a bed lies and what it is called. All of it follows from the checkout's path and one free
//! network, so that two checkouts on one machine do not meet, and a later call finds what an earlier one made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::grade::Grade;

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
        let user = rustix::process::geteuid();
        let user = if user.is_root() { None } else { Some(user.as_raw()) };
        Ok(Self::new(checkout, &cache.join("video-upscale"), user))
    }

    /// `user` is none for root, whose beds are known by the checkout alone.
    fn new(checkout: PathBuf, cache: &Path, user: Option<u32>) -> Self {
        let mut inputs = vec![checkout.as_os_str().as_encoded_bytes().to_vec()];
        inputs.extend(user.map(|user| user.to_string().into_bytes()));
        let digest = crate::images::digest(inputs);
        let id: String = digest.chars().take(6).collect();
        let state = cache.join(format!("bed-{id}"));
        Self {
            run: if user.is_some() { state.join("run") } else { format!("/run/video-upscale-{id}").into() },
            state,
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

    /// Which folders a plain bed has in place of images.
    pub fn image_folders(&self) -> PathBuf {
        self.state.join("images.json")
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

/// The bed's addresses: 10.N.0.0/16, of which N is free on this machine; of a plain bed 127.N.0.0/16, which every machine
/// has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// What the bed is.
    pub grade: Grade,
    /// The second octet.
    pub octet: u8,
}

impl Addresses {
    /// The host on the bridge: the API server's address.
    pub fn host(self) -> String {
        format!("{}.{}.0.1", self.net(), self.octet)
    }

    const fn net(self) -> u8 {
        match self.grade {
            Grade::Full => 10,
            Grade::Plain => 127,
        }
    }

    /// The host for what only the control plane talks to; no node can reach it.
    pub fn inner(self) -> String {
        format!("127.{}.0.1", self.octet)
    }

    /// A node on the bridge.
    pub fn node(self, node: usize) -> String {
        format!("{}.{}.0.{}", self.net(), self.octet, node.saturating_add(2))
    }

    /// The pods of a node.
    pub fn pods(self, node: usize) -> String {
        format!("10.{}.{}.0/24", self.octet, node.saturating_add(1))
    }

    /// The first three numbers of the addresses that a runner gives its pods.
    pub fn pods_of_runner(self, node: usize) -> String {
        format!("{}.{}.{}", self.net(), self.octet, node.saturating_add(1))
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
    let taken = |octet: u8| {
        let prefix = format!("10.{octet}.");
        routes.iter().any(|route| route.starts_with(&prefix))
    };
    let mut octets = octets(id).filter(|octet| !taken(*octet));
    octets.next().map(|octet| Addresses { grade: Grade::Full, octet })
}

/// The first addresses of the loopback interface on which nobody serves, by what `is_free` says of a host.
pub fn free_loopback(id: &str, is_free: impl Fn(&str) -> bool) -> Option<Addresses> {
    octets(id).map(|octet| Addresses { grade: Grade::Plain, octet }).find(|it| is_free(&it.host()))
}

/// The second numbers that a bed's addresses may have, best first.
fn octets(id: &str) -> impl Iterator<Item = u8> {
    let start = u8::from_str_radix(id.get(..2).unwrap_or_default(), 16).unwrap_or(0);
    (0..=u8::MAX).map(move |step| start.wrapping_add(step)).filter(|octet| (64..=250).contains(octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_checkouts_share_tools_and_nothing_else() {
        let cache = Path::new("/home/me/.cache/video-upscale");
        let (one, two) =
            (Layout::new("/src/one".into(), cache, None), Layout::new("/src/two".into(), cache, None));
        assert_eq!(one.cache, two.cache);
        assert_ne!(one.state, two.state);
        assert_ne!(one.run, two.run);
        assert_ne!(one.bridge(), two.bridge());
        assert_ne!(one.control_group(), two.control_group());
        let users = Layout::new("/src/one".into(), cache, Some(1000));
        assert_ne!(one.id, users.id, "nor do two users of one checkout");
    }

    #[test]
    fn names_fit_where_the_kernel_is_strict() {
        let layout = Layout::new("/src/one".into(), Path::new("/home/me/.cache/video-upscale"), None);
        assert!(layout.cable(1).len() <= 15);
        assert!(layout.control("node-a").as_os_str().len() < 100, "a socket's path has 108 bytes");
        let users =
            Layout::new("/src/one".into(), Path::new("/home/somebody/.cache/video-upscale"), Some(1000));
        assert!(users.control("node-a").as_os_str().len() < 100);
    }

    fn full(octet: u8) -> Addresses {
        Addresses { grade: Grade::Full, octet }
    }

    #[test]
    fn loopback_addresses_in_use_are_passed_over() {
        let found = free_loopback("64aaaa", |host| host != "127.100.0.1").unwrap();
        assert_eq!((found.host(), found.node(0)), ("127.101.0.1".to_owned(), "127.101.0.2".to_owned()));
        assert_eq!(found.pods_of_runner(1), "127.101.2");
        assert_eq!(free_loopback("64aaaa", |_| false), None);
    }

    #[test]
    fn a_network_in_use_is_passed_over() {
        assert_eq!(free_addresses("64aaaa", &["default"]), Some(full(0x64)));
        assert_eq!(free_addresses("64aaaa", &["10.100.0.0/16", "10.0.0.0/8"]), Some(full(101)));
        assert_eq!(free_addresses("05aaaa", &[]), Some(full(64)), "low numbers are popular");
        let all: Vec<String> = (0..=255).map(|n| format!("10.{n}.0.0/16")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(free_addresses("05aaaa", &all), None);
    }
}
