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
            get(move || async move { answer(is_live(live.board.snapshot().as_ref(), live.clock.now())) }),
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
fn is_live(snapshot: Option<&Snapshot>, now: Now) -> Result<(), String> {
    let age = snapshot.map_or(now.up, |snapshot| sampler::age(snapshot, now));
    if age < sampler::DEAD_AFTER {
        return Ok(());
    }
    Err(format!("the driver has not answered for {} s", age.as_secs()))
}

fn is_ready(served: &Served) -> Result<(), String> {
    let Some(snapshot) = served.board.snapshot() else { return Err("no sample yet".to_owned()) };
    let state = sampler::state(&snapshot, served.clock.now());
    let tolerated = served.ready_without_driver && matches!(state, State::NoDriver | State::NoGpu);
    if state != State::Ok && !tolerated {
        let why = snapshot.trouble.as_deref().unwrap_or("no sample for 30 s");
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
        assert!(is_live(Some(&snapshot), Now::at(119)).is_ok());
        assert!(is_live(Some(&snapshot), Now::at(120)).is_err());
        assert!(is_live(None, Now::at(119)).is_ok() && is_live(None, Now::at(120)).is_err());
    }

    #[test]
    fn readiness_says_why_not() {
        let (sender, receiver) = watch::channel(None);
        let board = Board::new(receiver);
        let (registry, clock) = (Arc::default(), Clock::start());
        let mut served = Served { board: board.clone(), registry, clock, ready_without_driver: false };
        assert_eq!(is_ready(&served), Err("no sample yet".to_owned()));
        sender.send_replace(Some(snapshot(FakeProbe::with_gpus(1))));
        assert_eq!(is_ready(&served), Err("nothing published yet".to_owned()));
        board.show(&Standing::Occupied { by: "others".to_owned() }, None);
        assert!(is_ready(&served).unwrap_err().contains("namespace others"));
        board.show(&Standing::Published, None);
        assert_eq!(is_ready(&served), Ok(()));
        sender.send_replace(Some(snapshot(FakeProbe::with_gpus(0))));
        assert_eq!(is_ready(&served), Err("no-gpu: no GPU".to_owned()));
        served.ready_without_driver = true;
        assert_eq!(is_ready(&served), Ok(()));
    }

    #[test]
    fn an_unknown_value_has_no_series() {
        let mut fake = FakeProbe::with_gpus(2);
        fake.memory.insert(1, Err(crate::probe::Fault::GpuLost));
        let (_sender, receiver) = watch::channel(Some(snapshot(fake)));
        let mut registry = Registry::default();
        registry
            .register_collector(Box::new(Exposition { board: Board::new(receiver), clock: Clock::start() }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(text.matches("upscale_gpu_memory_free_bytes{").count(), 1, "{text}");
        assert_eq!(text.matches("upscale_gpu_info{").count(), 2);
        assert!(text.contains("state=\"lost\"} 1.0"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
