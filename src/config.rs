//! Command line and environment, read once. The only reader of the environment in the controller.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

use crate::controllers::video_upscale::pods::{PullPolicy, Release, VisibleDevices};
use crate::election;

/// Upscales videos on GPUs that are not all its own: the controller.
#[derive(Clone, Debug, Parser)]
#[command(name = "upscale-controller", version, args_override_self = true)]
pub struct Config {
    /// Namespace of the release: where claims lie, and what agents' reports must carry.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of the helm release.
    #[arg(long, default_value = "video-upscale")]
    pub release: String,
    /// Name of this process, for events.
    #[arg(long, env = "POD_NAME", default_value = "upscale-controller")]
    pub pod_name: String,
    /// Image of the worker: probe, prepare, finish, merge.
    #[arg(long)]
    pub worker_image: String,
    /// Pull policy of the images in the pods that are made: IfNotPresent, Always or Never.
    #[arg(long, default_value = "IfNotPresent", value_parser = pull_policy)]
    pub image_pull_policy: PullPolicy,
    /// Folder of UpscaleProfile files that are applied at start; absent folder: none.
    #[arg(long, default_value = "/etc/upscale/profiles")]
    pub profiles_dir: PathBuf,
    /// Runtime class of pods that use a GPU; empty: the cluster's default.
    #[arg(long, default_value = "nvidia")]
    pub runtime_class: String,
    /// How the runtime is told which GPU a container sees: Uuid, or Cdi for `nvidia.com/gpu=<UUID>`.
    #[arg(long, default_value = "Uuid", value_parser = visible_devices)]
    pub visible_devices: VisibleDevices,
    /// User id of our own containers; absent: the image's or the namespace's.
    #[arg(long)]
    pub user: Option<i64>,
    /// Group id of our own containers.
    #[arg(long)]
    pub group: Option<i64>,
    /// Group that owns the pods' volumes.
    #[arg(long)]
    pub fs_group: Option<i64>,
    /// Namespaces whose jobs are served, by comma; empty: all.
    #[arg(long, value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Whether of several controllers of the release one acts, and the others stand by; off: each acts.
    #[arg(long, value_enum, default_value_t = LeaderElection::On)]
    pub leader_election: LeaderElection,
    /// Most requests per second to the API server.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub client_qps: u32,
    /// Address of /livez and /readyz.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Where /metrics is served: `on` with the others, `off`, or an address of its own.
    #[arg(long, default_value = "on")]
    pub metrics: MetricsAt,
    /// Format of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Level of the log, or directives such as `info,kube=debug`.
    #[arg(long, default_value = "info")]
    pub log_level: String,
}

/// Where `/metrics` is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsAt {
    /// At the address of the probes.
    On,
    /// Nowhere.
    Off,
    /// At an address of its own.
    Address(SocketAddr),
}

impl FromStr for MetricsAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::Address).map_err(|_| "on, off, or an address such as 127.0.0.1:9090"),
        }
    }
}

/// Whether of several controllers one acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LeaderElection {
    /// The one that holds the release's Lease.
    On,
    /// All of them do.
    Off,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// The namespaces to serve; empty: all. Blank entries, as an empty flag leaves them, do not count.
    pub fn namespaces(&self) -> Vec<String> {
        self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect()
    }

    /// What takes part in the election, as a process of that random identity.
    pub fn election(&self, actor: &str) -> election::Settings {
        election::Settings {
            namespace: self.namespace.clone(),
            lease: format!("{}-controller", self.release),
            release: self.release.clone(),
            identity: format!("{}_{actor}", self.pod_name),
        }
    }

    /// What the release says of its pods.
    pub fn release(&self) -> Release {
        Release {
            name: self.release.clone(),
            worker_image: self.worker_image.clone(),
            pull_policy: self.image_pull_policy,
            runtime_class: Some(self.runtime_class.clone()).filter(|class| !class.is_empty()),
            visible_devices: self.visible_devices,
            user: self.user,
            group: self.group,
            fs_group: self.fs_group,
        }
    }
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    [PullPolicy::IfNotPresent, PullPolicy::Always, PullPolicy::Never]
        .into_iter()
        .find(|policy| policy.as_str() == text)
        .ok_or_else(|| "IfNotPresent, Always or Never".to_owned())
}

fn visible_devices(text: &str) -> Result<VisibleDevices, String> {
    match text {
        "Uuid" => Ok(VisibleDevices::Uuid),
        "Cdi" => Ok(VisibleDevices::Cdi),
        _ => Err("Uuid or Cdi".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_an_empty_list_means_all() {
        Config::command().debug_assert();
        let parse = |namespaces: &str| {
            Config::try_parse_from([
                "upscale-controller",
                "--namespace=ops",
                "--worker-image=w:1",
                "--visible-devices=Cdi",
                namespaces,
            ])
            .unwrap()
            .namespaces()
        };
        assert_eq!(parse("--watch-namespaces="), Vec::<String>::new());
        assert_eq!(parse("--watch-namespaces=a,b"), ["a", "b"]);
    }

    /// The chart's `controller.extraArgs` come last.
    #[test]
    fn a_flag_given_twice_has_its_last_value() {
        let parse = |more: &[&str]| {
            let flags = ["upscale-controller", "--namespace=ops", "--worker-image=w:1", "--metrics=off"];
            Config::try_parse_from(flags.into_iter().chain(more.iter().copied())).map(|config| config.metrics)
        };
        assert_eq!(parse(&[]).unwrap(), MetricsAt::Off);
        assert_eq!(parse(&["--metrics=on"]).unwrap(), MetricsAt::On);
        let address = "127.0.0.1:9090".parse().unwrap();
        assert_eq!(parse(&["--metrics=127.0.0.1:9090"]).unwrap(), MetricsAt::Address(address));
        assert!(parse(&["--metrics=9090"]).is_err());
    }
}
