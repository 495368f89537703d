//! The node agent: tells, as annotations of its own Node, how much memory of each GPU is really free, who uses the
//! rest, and whether the card can be trusted.
//!
//! One thread asks the driver ([`sampler`], [`mod@observer`]); what it found is a [`observer::Snapshot`]. The other runs
//! everything else: [`report`] turns the snapshot into words, [`mod@publish`] decides when they are worth a write, and
//! [`http`] answers probes even while the driver hangs.

mod agent;
mod attribution;
mod board;
mod card;
mod clock;
mod config;
mod exits;
mod exposition;
mod gpu;
mod health;
mod http;
mod metrics;
mod observer;
mod once;
mod probe;
mod procfs;
mod publish;
mod report;
mod roster;
mod sampler;

use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::Parser;
use kube::{Client, Config as ApiConfig};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::watch;
use tracing::error;

use crate::clock::Clock;
use crate::config::{Config, LogFormat};
use crate::observer::Observer;
use crate::probe::nvml::NvmlProbe;
use crate::procfs::Proc;

/// Longest silence on a connection to the API server.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// What keeps the agent from running at all.
#[derive(Debug, Error)]
enum Error {
    #[error("start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("start the driver's thread: {0}")]
    Thread(std::io::Error),
    #[error("listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("find the API server (is there a service account?): {0}")]
    ApiConfig(kube::config::InferConfigError),
    #[error("make a client: {0}")]
    Client(kube::Error),
    #[error("print: {0}")]
    Print(std::io::Error),
}

fn main() -> ExitCode {
    let config = Config::parse();
    log(&config);
    let outcome = if config.once || config.watch.is_some() { print(&config) } else { publish(config) };
    match outcome {
        // Ends at once: the driver's thread may hang in the kernel and is not waited for.
        Ok(code) => std::process::exit(code.into()),
        Err(error) => {
            error!(%error, "cannot run");
            ExitCode::FAILURE
        }
    }
}

fn log(config: &Config) {
    let builder = tracing_subscriber::fmt().with_max_level(config.log_level).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
}

fn head(config: &Config) -> report::Head {
    report::Head {
        ns: config.namespace.clone(),
        inst: format!("{:08x}", rand::random::<u32>()),
        hb: config.heartbeat_seconds,
    }
}

fn observer(
    config: &Config,
    clock: Clock,
    registry: &mut Registry,
) -> (Observer<NvmlProbe>, mpsc::Receiver<health::XidEvent>) {
    let (sender, xids) = mpsc::channel();
    let calls = metrics::Calls::register(registry, clock);
    let probe = NvmlProbe::new(config.nvml_library.clone(), calls, sender);
    (Observer::new(probe, Proc::open("/proc", config.pod_uid.clone())), xids)
}

fn print(config: &Config) -> Result<u8, Error> {
    let clock = Clock::start();
    let (mut observer, xids) = observer(config, clock, &mut Registry::default());
    let head = head(config);
    loop {
        let heard: Vec<_> = xids.try_iter().collect();
        let snapshot = observer.round(&heard, clock.now());
        let code = once::print(&snapshot, &head, config.output).map_err(Error::Print)?;
        let Some(seconds) = config.watch else { return Ok(code) };
        std::thread::park_timeout(Duration::from_secs(seconds));
    }
}

fn publish(config: Config) -> Result<u8, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let code = runtime.block_on(run(config));
    runtime.shutdown_background();
    code
}

async fn run(config: Config) -> Result<u8, Error> {
    let clock = Clock::start();
    let mut registry = Registry::default();
    let (observer, xids) = observer(&config, clock, &mut registry);
    let (sender, snapshots) = watch::channel(None);
    let board = board::Board::new(snapshots.clone());
    let published = metrics::Published::register(&mut registry);
    registry.register_collector(Box::new(exposition::Exposition { board: board.clone(), clock }));
    sampler::start(observer, xids, clock, sender).map_err(Error::Thread)?;

    let node = publish::NodeAnnotations::new(client().await?, config.node_name.clone().unwrap_or_default());
    let agent = agent::Agent {
        snapshots,
        publisher: publish::Publisher::new(node, config.timing(), clock, published),
        board: board.clone(),
        clock,
        head: head(&config),
        exits: exits::LastExit::new(config.state_dir.as_deref()),
    };
    let served = http::Served {
        board,
        registry: Arc::new(registry),
        clock,
        ready_without_driver: config.ready_without_driver,
    };
    tokio::select! {
        served = http::serve(config.listen, served) => {
            let source = served.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
            Err(Error::Listen { address: config.listen, source })
        }
        code = agent.run() => code.map_err(Error::Signals),
    }
}

/// A client without retries of its own: the policy decides when to try again, and a bucket bounds it.
async fn client() -> Result<Client, Error> {
    let mut config = ApiConfig::infer().await.map_err(Error::ApiConfig)?;
    config.default_retry = false;
    config.read_timeout = Some(READ_TIMEOUT);
    Client::try_from(config).map_err(Error::Client)
}
