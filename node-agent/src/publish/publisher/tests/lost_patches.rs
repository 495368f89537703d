//! Whatever a server refuses or loses, the newest report stands in the end, and the server gets no more writes than
//! the bucket allows.

use rand::Rng;

use super::super::super::bucket::{REFILL, SIZE};
use super::*;

/// Worlds that are played.
const SEEDS: u64 = 1_000;
/// How long the server is in trouble.
const TROUBLE: Duration = Duration::from_secs(600);
/// Time after which everything must be well again: the longest pause, the smallest report's hour, one heartbeat.
const RECOVERY: Duration = Duration::from_secs(4_500);
/// Shortest time between two heartbeats that are due.
const HEARTBEAT: u64 = 270;
/// Shortest time between two voiced changes.
const VOICED: u64 = 60;

/// What a request can meet; a write also what comes after the commit, or is said of its size.
const BEFORE: [Fault; 9] = [
    Fault::Refuse(500),
    Fault::ResetBefore,
    Fault::Refuse(403),
    Fault::Refuse(404),
    Fault::Shed(1),
    Fault::Shed(119),
    Fault::Refuse(409),
    Fault::Silence,
    Fault::Refuse(503),
];
const OF_WRITES: [Fault; 4] = [Fault::Refuse(422), Fault::Refuse(413), Fault::LoseAnswer, Fault::ResetAfter];

/// How often each fault was met by reads and by writes.
type Met = Arc<Mutex<BTreeMap<String, u32>>>;

/// More than every second request meets a fault, each as often as another.
fn plague(mut random: StdRng, met: Met) -> impl FnMut(bool) -> Option<Fault> + Send {
    move |writes| {
        if random.random_bool(0.4) {
            return None;
        }
        let faults = if writes { [BEFORE.as_slice(), &OF_WRITES].concat() } else { BEFORE.to_vec() };
        let fault = faults[random.random_range(0..faults.len())];
        *met.lock().unwrap().entry(format!("{fault:?} of a write: {writes}")).or_default() += 1;
        Some(fault)
    }
}

/// The next truth: another amount of memory, another crowd, and in some worlds another health.
fn step(truth: &mut Report, random: &mut StdRng, voiced: bool) {
    let card = &mut truth.gpus[0];
    match random.random_range(0..6) {
        0 => card.free = Some(random.random_range(0..47) * GIB),
        1 => {
            let crowd =
                (0..random.random_range(0..4)).map(|pid| crate::report::tests::process(7 + pid, Some(GIB)));
            card.procs.get_or_insert_default().top = crowd.collect();
        }
        2 => card.una = Some(random.random_range(0..4) * GIB),
        3 if voiced => card.h = [Health::Ok, Health::Lost, Health::Suspect][random.random_range(0..3)],
        _ => {}
    }
}

/// In no window may there be more writes than tokens, heartbeats that were due, and voiced changes.
fn assert_bounded(times: &[Duration], voiced: bool, seed: u64) {
    for (first, begin) in times.iter().enumerate() {
        for (last, end) in times.iter().enumerate().skip(first) {
            let window = (*end - *begin).as_secs();
            let tokens = u64::from(SIZE) + window / REFILL.as_secs();
            let due = window / HEARTBEAT + 1;
            let past_bucket = if voiced { window / VOICED + 1 } else { 0 };
            let written = (last - first + 1) as u64;
            assert!(
                written <= tokens + due + past_bucket,
                "seed {seed}: {written} writes in {window} s from {begin:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_report_stands_in_the_end_and_the_bucket_holds() {
    let (mut faults, met) = (0, Met::default());
    for seed in 0..SEEDS {
        let (server, mut random) = (FakeServer::default(), StdRng::seed_from_u64(seed));
        let voiced = seed % 2 == 1;
        server.plague(plague(StdRng::seed_from_u64(!seed), met.clone()));
        let mut publisher = server.publisher(seed);
        let mut truth = current(20 * GIB);
        while server.clock.now().up < TROUBLE {
            let due = publisher.offer(&truth).await;
            let sampled = server.clock.now().up + Duration::from_secs(random.random_range(2..20));
            tokio::time::advance(due.min(sampled).saturating_sub(server.clock.now().up)).await;
            step(&mut truth, &mut random, voiced);
        }
        faults += usize::from(publisher.standing() != &Standing::Published);
        server.plague(|_| None);
        let well = server.clock.now().up + RECOVERY;
        while server.clock.now().up < well {
            pass(&mut publisher, &truth, &server).await;
        }
        let (report, heartbeat) = server.read();
        let expected = Report { seq: report.seq, at: report.at, ..truth };
        assert_eq!((&report, heartbeat.seq), (&expected, report.seq), "seed {seed}");
        let times: Vec<Duration> = server.patches.lock().unwrap().iter().map(|(at, _)| *at).collect();
        assert_bounded(&times, voiced, seed);
    }
    assert!(faults > 500, "only {faults} worlds were in trouble");
    let met = met.lock().unwrap();
    assert_eq!(met.len(), 2 * BEFORE.len() + OF_WRITES.len(), "{met:?}");
    assert!(met.values().all(|times| *times > 100), "{met:?}");
}
