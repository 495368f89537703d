//! Command line and environment, read once. The only reader of the environment in the controller.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Upscales videos on GPUs that are not all its own: the controller.
#[derive(Clone, Debug, Parser)]
#[command(name = "upscale-controller", version)]
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
    /// Pull policy of all images in the pods that are made.
    #[arg(long, default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// Folder of UpscaleProfile files that are applied at start; absent folder: none.
    #[arg(long, default_value = "/etc/upscale/profiles")]
    pub profiles_dir: PathBuf,
    /// Runtime class of pods that use a GPU.
    #[arg(long, default_value = "nvidia")]
    pub runtime_class: String,
    /// How the runtime is told which GPU a container sees.
    #[arg(long, value_enum, default_value_t = VisibleDevices::Uuid)]
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
    /// Most requests per second to the API server.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub client_qps: u32,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Format of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Level of the log, or directives such as `info,kube=debug`.
    #[arg(long, default_value = "info")]
    pub log_level: String,
}

/// How the runtime is told which GPU a container sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum VisibleDevices {
    /// Its UUID in `NVIDIA_VISIBLE_DEVICES`.
    Uuid,
    /// Its CDI name, `nvidia.com/gpu=<UUID>`, in `NVIDIA_VISIBLE_DEVICES`.
    Cdi,
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
                "upscale-controller", "--namespace=ops", "--worker-image=w:1", "--visible-devices=Cdi", namespaces,
            ])
            .unwrap()
            .namespaces()
        };
        assert_eq!(parse("--watch-namespaces="), Vec::<String>::new());
        assert_eq!(parse("--watch-namespaces=a,b"), ["a", "b"]);
    }
}
