//! Command line and environment, read once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::publish::Timing;

/// Tells what is true of the GPUs of this node: free memory, who uses it, health.
#[derive(Clone, Debug, Parser)]
#[command(name = "upscale-agent", version)]
pub struct Config {
    /// Node to report.
    #[arg(long, env = "NODE_NAME", required_unless_present_any = ["once", "watch", "doctor"])]
    pub node_name: Option<String>,
    /// Namespace of the release; stands in the report.
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    pub namespace: String,
    /// UID of the agent's own pod, to know its own processes.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: Option<String>,
    /// Management library to load instead of the loader's libnvidia-ml.so.1.
    #[arg(long, value_name = "PATH")]
    pub nvml_library: Option<PathBuf>,
    /// Seconds between two signs of life when nothing changes.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=3600))]
    pub heartbeat_seconds: u32,
    /// The first report is written within so many seconds, at random, so that a rolling update makes no herd.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub spread_seconds: u32,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:9402")]
    pub listen: SocketAddr,
    /// Folder that outlives the container (an emptyDir), to remember the last end by choice in.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Be ready on nodes without driver or GPU.
    #[arg(long)]
    pub ready_without_driver: bool,
    /// Take one full sample, print it and end: 0 all known, 3 no driver, 4 no GPU, 5 partly unknown.
    #[arg(long)]
    pub once: bool,
    /// Check everything the agent needs, print each check and end: 0 nothing failed, 3 no driver, 4 no GPU, 1 another
    /// check failed.
    #[arg(long, conflicts_with_all = ["once", "watch", "output"])]
    pub doctor: bool,
    /// Print a sample again and again, every so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", conflicts_with = "once",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// Form of a printed sample; a table on a terminal, else JSON.
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Least level that is logged.
    #[arg(long, default_value = "info")]
    pub log_level: tracing::Level,
}

/// Form of a printed sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// All values as measured, all processes.
    Json,
    /// The annotation, byte for byte.
    Report,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// When to publish.
    pub fn timing(&self) -> Timing {
        Timing {
            heartbeat: Duration::from_secs(self.heartbeat_seconds.into()),
            spread: Duration::from_secs(self.spread_seconds.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_node_is_needed_only_to_publish() {
        assert!(Config::try_parse_from(["agent", "--once"]).is_ok());
        assert!(Config::try_parse_from(["agent", "--doctor"]).is_ok());
        assert!(Config::try_parse_from(["agent", "--watch", "--node-name", "n"]).is_ok());
        assert!(Config::try_parse_from(["agent", "--doctor", "--once"]).is_err());
        assert!(Config::try_parse_from(["agent", "--heartbeat-seconds", "5", "--node-name", "n"]).is_err());
    }
}
