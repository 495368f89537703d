//! The program: reads its command line, puts the parts together, and runs them.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::Parser;
use kube::{Client, Config as ApiConfig};
use prometheus_client::registry::Registry;
use rand::SeedableRng;
use rand::rngs::StdRng;
use thiserror::Error;
use tokio::sync::watch;
use tracing::error;
use video_upscale::api::report::State;

use crate::board::Board;
use crate::clock::Clock;
use crate::config::{Config, LogFormat};
use crate::metrics::{Calls, Mapped, Xids};
use crate::observer::{Observer, Snapshot};
use crate::probe::nvml::NvmlProbe;
use crate::procfs::Proc;
use crate::{agent, doctor, exits, exposition, http, metrics, once, publish, report, sampler};

/// Longest silence on a connection to the API server.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Exit code of an agent that could not run at all.
const FAILED: u8 = 1;

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

/// Runs what the command line asks for, until it is done.
pub fn main() -> ! {
    let config = Config::parse();
    log(&config);
    end(run(&config).unwrap_or_else(|error| {
        error!(%error, "cannot run");
        FAILED
    }))
}

/// Ends at once. The driver's thread may hang in the kernel and is not waited for, and neither is the library asked for
/// its last words: its destructors may hang as well.
fn end(code: u8) -> ! {
    // SAFETY: takes a number, touches no memory of this program and does not return. What it leaves out, destructors and
    // the flushing of buffers, is not needed: the printing parts have flushed what they wrote.
    #[expect(unsafe_code, reason = "the standard library knows no end without destructors")]
    unsafe {
        libc::_exit(code.into())
    }
}

fn run(config: &Config) -> Result<u8, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let code = runtime.block_on(async {
        match () {
            () if config.doctor => diagnose(config).await,
            () if config.once || config.watch.is_some() => print(config).await,
            () => publish(config).await,
        }
    });
    runtime.shutdown_background();
    code
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

/// The driver's thread at work, and what the other threads see of it.
struct Sampled {
    board: Board,
    snapshots: watch::Receiver<Option<Snapshot>>,
    calls: Calls,
    proc: Proc,
}

impl Sampled {
    fn start(config: &Config, clock: Clock, registry: &mut Registry) -> Result<Self, Error> {
        let (heard, xids) = mpsc::channel();
        let calls = Calls::register(registry, clock);
        let probe = NvmlProbe::new(config.nvml_library.clone(), calls.clone(), heard);
        let proc = Proc::open("/proc", config.pod_uid.clone()).counting(Mapped::register(registry));
        let (sender, snapshots) = watch::channel(None);
        let observer = Observer::new(probe, proc.clone());
        sampler::start(observer, xids, Xids::register(registry), clock, sender).map_err(Error::Thread)?;
        Ok(Self { board: Board::new(snapshots.clone()), snapshots, calls, proc })
    }

    /// The first snapshot, or after the time from which a driver counts as stuck one that says so.
    async fn first(&mut self, clock: Clock) -> Snapshot {
        let told = tokio::time::timeout(sampler::STUCK_AFTER, self.snapshots.changed()).await;
        let now = clock.now();
        match (told, self.board.view(now)) {
            (Ok(_), Some(snapshot)) => snapshot,
            (_, snapshot) => Snapshot {
                state: State::NvmlStuck,
                trouble: self.calls.pending(now).map(|pending| pending.to_string()),
                ..snapshot.unwrap_or_else(|| Snapshot::unanswered(now.start()))
            },
        }
    }
}

async fn print(config: &Config) -> Result<u8, Error> {
    let clock = Clock::start();
    let mut sampled = Sampled::start(config, clock, &mut Registry::default())?;
    let (head, cgroups) = (head(config), sampled.proc.cgroups());
    let mut snapshot = sampled.first(clock).await;
    let Some(seconds) = config.watch else {
        return once::print(&snapshot, &cgroups, &head, config.output).map_err(Error::Print);
    };
    let mut turns = tokio::time::interval(Duration::from_secs(seconds));
    turns.tick().await;
    loop {
        once::print(&snapshot, &cgroups, &head, config.output).map_err(Error::Print)?;
        turns.tick().await;
        let now = clock.now();
        snapshot = sampled.board.view(now).unwrap_or(snapshot);
        snapshot.state = sampler::state(&snapshot, now);
    }
}

async fn diagnose(config: &Config) -> Result<u8, Error> {
    let clock = Clock::start();
    let mut sampled = Sampled::start(config, clock, &mut Registry::default())?;
    let snapshot = sampled.first(clock).await;
    let report = report::build(&snapshot, snapshot.state, &head(config), report::FreeMemory::Held);
    let place = doctor::Place::look(&sampled.proc, report);
    let cluster = match &config.node_name {
        Some(node) => {
            Some(doctor::Cluster { client: client().await.map_err(|error| error.to_string()), node })
        }
        None => None,
    };
    doctor::run(&snapshot, &place, cluster).await.map_err(Error::Print)
}

async fn publish(config: &Config) -> Result<u8, Error> {
    let clock = Clock::start();
    let mut registry = Registry::default();
    let sampled = Sampled::start(config, clock, &mut registry)?;
    let board = sampled.board;
    let published = metrics::Published::register(&mut registry);
    registry.register_collector(Box::new(exposition::Exposition { board: board.clone(), clock }));

    let node = publish::NodeAnnotations::new(client().await?, config.node_name.clone().unwrap_or_default());
    let agent = agent::Agent {
        snapshots: sampled.snapshots,
        publisher: publish::Publisher::new(node, config.timing(), clock, published, StdRng::from_os_rng()),
        board: board.clone(),
        clock,
        head: head(config),
        exits: exits::LastExit::new(config.state_dir.as_deref()),
    };
    let served = http::Served {
        board,
        registry: Arc::new(registry),
        calls: sampled.calls,
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
