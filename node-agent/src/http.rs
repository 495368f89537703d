//! `/livez`, `/readyz`, `/metrics`. Answered by the runtime's thread, which never waits for the driver.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use video_upscale::api::report::State;

use crate::board::Board;
use crate::clock::{Clock, Now};
use crate::metrics::{Calls, Pending};
use crate::observer::Snapshot;
use crate::publish::Standing;
use crate::sampler;

/// What the paths are answered from.
#[derive(Clone)]
pub struct Served {
    /// Shared view.
    pub board: Board,
    /// Metrics.
    pub registry: Arc<Registry>,
    /// For the call that hangs.
    pub calls: Calls,
    /// For ages.
    pub clock: Clock,
    /// Whether a node without a driver is fit to be ready: fleets in which not every node has a GPU.
    pub ready_without_driver: bool,
}

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, served: Served) -> std::io::Result<()> {
    axum::serve(TcpListener::bind(address).await?, router(served)).await
}

fn router(served: Served) -> Router {
    let (live, ready, metrics) = (served.clone(), served.clone(), served);
    Router::new()
        .route(
            "/livez",
            get(move || async move {
                let now = live.clock.now();
                answer(is_live(live.board.snapshot().as_ref(), live.calls.pending(now), now))
            }),
        )
        .route("/readyz", get(move || async move { answer(is_ready(&ready)) }))
        .route("/metrics", get(move || async move { expose(&metrics.registry) }))
}

fn answer(verdict: Result<(), String>) -> impl IntoResponse {
    match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Dead once the driver has been stuck for two minutes; a young agent has that long for its first round.
fn is_live(snapshot: Option<&Snapshot>, pending: Option<Pending>, now: Now) -> Result<(), String> {
    let age = snapshot.map_or(now.up, |snapshot| sampler::age(snapshot, now));
    if age < sampler::DEAD_AFTER {
        return Ok(());
    }
    Err(format!("no sample for {} s{}", age.as_secs(), hanging(pending)))
}

fn hanging(pending: Option<Pending>) -> String {
    pending.map_or(String::new(), |pending| format!("; {pending}"))
}

fn is_ready(served: &Served) -> Result<(), String> {
    let now = served.clock.now();
    let pending = served.calls.pending(now);
    let Some(snapshot) = served.board.view(now) else {
        return Err(format!("no sample yet{}", hanging(pending)));
    };
    let state = sampler::state(&snapshot, now);
    let tolerated = served.ready_without_driver && matches!(state, State::NoDriver | State::NoGpu);
    if state != State::Ok && !tolerated {
        let why = match (state, &snapshot.trouble) {
            (State::NvmlStuck, _) | (_, None) => {
                format!("no sample for {} s{}", sampler::age(&snapshot, now).as_secs(), hanging(pending))
            }
            (_, Some(trouble)) => trouble.clone(),
        };
        return Err(format!("{state}: {why}"));
    }
    match served.board.standing() {
        Standing::Published => Ok(()),
        Standing::Starting => Err("nothing published yet".to_owned()),
        Standing::Occupied { by } => Err(format!(
            "the agent of the release in namespace {by} reports this node; remove one of the two releases"
        )),
        Standing::Failing { message } => Err(message),
    }
}

fn expose(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, kind)], String::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::exposition::Exposition;
    use crate::observer::Observer;
    use crate::probe::fake::FakeProbe;
    use crate::procfs::tests::FakeProc;

    fn snapshot(fake: FakeProbe) -> Snapshot {
        Observer::new(fake, FakeProc::new().proc()).round(&[], Now::at(0))
    }

    #[test]
    fn a_stuck_driver_is_told_after_half_a_minute_and_kills_after_two() {
        let snapshot = snapshot(FakeProbe::with_gpus(1));
        assert_eq!(sampler::state(&snapshot, Now::at(29)), State::Ok);
        assert_eq!(sampler::state(&snapshot, Now::at(30)), State::NvmlStuck);
        assert!(is_live(Some(&snapshot), None, Now::at(119)).is_ok());
        let why = is_live(
            Some(&snapshot),
            Some(Pending { call: "memory", since: Duration::from_secs(118) }),
            Now::at(120),
        );
        let told = "no sample for 120 s; the driver has not come back from memory for 118 s";
        assert_eq!(why, Err(told.to_owned()));
        assert!(is_live(None, None, Now::at(119)).is_ok() && is_live(None, None, Now::at(120)).is_err());
    }

    #[test]
    fn readiness_says_why_not() {
        let (sender, receiver) = watch::channel(None);
        let board = Board::new(receiver);
        let (registry, clock) = (Arc::default(), Clock::start());
        let calls = Calls::register(&mut Registry::default(), clock);
        let mut served = Served { board: board.clone(), registry, calls, clock, ready_without_driver: false };
        assert_eq!(is_ready(&served), Err("no sample yet".to_owned()));
        sender.send_replace(Some(snapshot(FakeProbe::with_gpus(1))));
        assert_eq!(is_ready(&served), Err("nothing published yet".to_owned()));
        board.show(&Standing::Occupied { by: "others".to_owned() }, None, BTreeSet::new());
        assert!(is_ready(&served).unwrap_err().contains("namespace others"));
        board.show(&Standing::Published, None, BTreeSet::new());
        assert_eq!(is_ready(&served), Ok(()));
        sender.send_replace(Some(snapshot(FakeProbe::with_gpus(0))));
        assert_eq!(is_ready(&served), Err("no-gpu: no GPU".to_owned()));
        served.ready_without_driver = true;
        assert_eq!(is_ready(&served), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_hangs_from_its_first_call_on_is_named() {
        let (_sender, receiver) = watch::channel(None);
        let clock = Clock::start();
        let calls = Calls::register(&mut Registry::default(), clock);
        let board = Board::new(receiver);
        let served = Served {
            board: board.clone(),
            registry: Arc::default(),
            calls: calls.clone(),
            clock,
            ready_without_driver: true,
        };
        let (hangs, released) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = std::sync::mpsc::channel::<()>();
        let driver = std::thread::spawn(move || {
            calls.timed("init", || {
                begun.send(()).unwrap();
                released.recv().map_err(|_| crate::probe::Fault::Unknown)
            })
        });
        begins.recv().unwrap();
        assert_eq!(
            is_ready(&served),
            Err("no sample yet; the driver has not come back from init for 0 s".to_owned())
        );
        tokio::time::advance(Duration::from_millis(31_500)).await;
        let told = "nvml-stuck: no sample for 31 s; the driver has not come back from init for 31 s";
        assert_eq!(is_ready(&served), Err(told.to_owned()));
        assert_eq!(board.view(clock.now()).map(|view| view.gpus.len()), Some(0));
        hangs.send(()).unwrap();
        driver.join().unwrap().unwrap();
        assert_eq!(served.calls.pending(clock.now()), None);
    }

    #[test]
    fn a_card_that_is_remembered_as_bad_is_so_in_the_metrics() {
        let (_sender, receiver) = watch::channel(Some(snapshot(FakeProbe::with_gpus(2))));
        let board = Board::new(receiver);
        board.show(&Standing::Published, None, [FakeProbe::identity(1).uuid].into());
        let text = metrics(board);
        assert_eq!(text.matches("state=\"bad\"} 1.0").count(), 1, "{text}");
        assert_eq!(text.matches("upscale_agent_build_info{version=").count(), 1, "{text}");
    }

    fn metrics(board: Board) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposition { board, clock: Clock::start() }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn an_unknown_value_has_no_series() {
        let mut fake = FakeProbe::with_gpus(2);
        fake.memory.insert(1, Err(crate::probe::Fault::GpuLost));
        let (_sender, receiver) = watch::channel(Some(snapshot(fake)));
        let text = metrics(Board::new(receiver));
        assert_eq!(text.matches("upscale_gpu_memory_free_bytes{").count(), 1, "{text}");
        assert_eq!(text.matches("upscale_gpu_info{").count(), 2);
        assert!(text.contains("state=\"lost\"} 1.0"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
