//! Drivers that end and servers that do not answer.

use prometheus_client::registry::Registry;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::clock::Now;
use crate::metrics::Published;
use crate::observer::Observer;
use crate::probe::Fault;
use crate::probe::fake::FakeProbe;
use crate::procfs::tests::FakeProc;
use crate::publish::{NodeAnnotations, Timing};

/// An agent over a server that never answers, and the other end of its snapshots.
fn agent(clock: Clock) -> (Agent, watch::Sender<Option<Snapshot>>) {
    let (sender, snapshots) = watch::channel(Some(snapshot(&FakeProbe::with_gpus(1), clock)));
    let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>()
    });
    let node = NodeAnnotations::new(kube::Client::new(silent, "default"), "node-a".to_owned());
    let timing = Timing { heartbeat: Duration::from_secs(300), spread: Duration::ZERO };
    let metrics = Published::register(&mut Registry::default());
    let publisher = Publisher::new(node, timing, clock, metrics, StdRng::seed_from_u64(1));
    let head = Head { ns: "ops".to_owned(), inst: "0123abcd".to_owned(), hb: 300 };
    let board = Board::new(snapshots.clone());
    (Agent { snapshots, publisher, board, clock, head, exits: LastExit::new(None) }, sender)
}

fn snapshot(fake: &FakeProbe, clock: Clock) -> Snapshot {
    Snapshot {
        taken: clock.now(),
        ..Observer::new(fake.clone(), FakeProc::new().proc()).round(&[], Now::at(0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_keeps_nobody_from_his_last_words() {
    let clock = Clock::start();
    let (agent, sender) = agent(clock);
    let runs = tokio::spawn(agent.run());
    let asks = tokio::time::timeout(Duration::from_secs(3), std::future::pending::<()>());
    assert!(asks.await.is_err(), "the first write is under way");
    let mismatch = FakeProbe { open: Some(Fault::Mismatch), ..FakeProbe::with_gpus(1) };
    let gone = clock.now().up;
    sender.send_replace(Some(snapshot(&mismatch, clock)));
    assert_eq!(runs.await.unwrap().unwrap(), exits::DRIVER_MISMATCH);
    let took = clock.now().up - gone;
    assert!(took <= FAREWELL + Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_drivers_thread_nobody_spins() {
    let clock = Clock::start();
    let (mut agent, sender) = agent(clock);
    drop(sender);
    let waits = tokio::time::timeout(Duration::from_secs(60), sampled(&mut agent.snapshots));
    assert!(waits.await.is_err(), "no snapshot comes any more, and none is waited for in a circle");
}
