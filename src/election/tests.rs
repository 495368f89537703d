//! Elections among several processes: played in time that a test makes, and on an API server in memory.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio::task::JoinHandle;

use super::candidate::{Action, Candidate, Loss, Record};
use super::*;
use crate::fleet::fake_api::{FakeApi, Fault, lease_path};
use crate::fleet::fixtures::RELEASE;

/// What is done to the processes of an election.
#[derive(Clone, Debug)]
struct Play {
    /// Of each process: how fast its clock runs, in parts of a thousand of the true time.
    rates: Vec<u64>,
    /// Delays of requests and of answers, milliseconds, in turn; beyond 5 s nobody waits for them.
    delays: Vec<(u64, u64)>,
    /// Every so many requests are refused without being done.
    refused: usize,
    /// When a process is killed, milliseconds.
    kills: BTreeMap<u64, usize>,
    /// Processes that are cut off, and from when on, for how long; what they send meanwhile arrives afterwards.
    outages: Vec<(usize, u64, u64)>,
}

impl Play {
    /// How long a request takes to the server and its answer back.
    fn delay(&self, request: usize, process: usize, now: u64) -> (u64, u64) {
        if now >= STORM {
            return (5, 5);
        }
        let (there, back) = self.delays[request % self.delays.len()];
        let cut = |(whom, from, length): &&(usize, u64, u64)| {
            *whom == process && (*from..from + length).contains(&now)
        };
        let held_up = self.outages.iter().filter(cut).map(|(_, from, length)| from + length - now).max();
        (there + held_up.unwrap_or(0), back)
    }
}

/// Until then anything may happen, milliseconds.
const STORM: u64 = 90_000;
/// Until then somebody leads, once nothing happens any more.
const CALM: u64 = STORM + 60_000;

fn plays() -> impl Strategy<Value = Play> {
    let delay = prop_oneof![8 => 0..50_u64, 2 => 0..4_900_u64, 1 => 0..20_000_u64];
    (
        prop::collection::vec(prop_oneof![Just(850), 850..=1_150_u64, Just(1_150)], 2..4),
        prop::collection::vec((delay.clone(), delay), 1..60),
        2..20_usize,
        prop::collection::btree_map(0..STORM, 0..3_usize, 0..4),
        prop::collection::vec((0..3_usize, 0..STORM, 1_000..30_000_u64), 0..12),
    )
        .prop_map(|(rates, delays, refused, kills, outages)| Play {
            rates,
            delays,
            refused,
            kills,
            outages,
        })
}

enum Event {
    /// A process looks what to do. Older ones of the same process count no more.
    Wake { process: usize, turn: u32 },
    /// A request arrives at the server.
    Arrive { process: usize, turn: u32, write: Option<Write>, back: u64, sent: Duration },
    /// Its answer arrives; `None`: refused.
    Answer { process: usize, turn: u32, answer: Option<Answer>, sent: Duration },
}

struct Write {
    version: u64,
    record: Record,
}

enum Answer {
    Read(Option<Record>, u64),
    Wrote(Record, u64),
}

struct Process {
    candidate: Candidate,
    version: u64,
    /// Grows with each thing that it does, so that what it waits for no more is known.
    turn: u32,
    rate: u64,
}

/// Plays an election, and says when who led wrongly beside whom, and who leads at the end.
fn played(play: &Play) -> Result<(), TestCaseError> {
    let fresh = |name: usize, life: u32, rate: u64| Process {
        candidate: Candidate::new(format!("process {name}, life {life}")),
        version: 0,
        turn: life * 1_000_000,
        rate,
    };
    let mut processes: Vec<Process> =
        play.rates.iter().enumerate().map(|(name, rate)| fresh(name, 0, *rate)).collect();
    let own = |process: &Process, now: u64| Duration::from_micros(now * process.rate);
    let (mut server, mut version): (Option<Record>, u64) = (None, 0);
    let mut queue: BTreeMap<(u64, u64), Event> = BTreeMap::new();
    let mut number = 0;
    let mut push = |queue: &mut BTreeMap<(u64, u64), Event>, at: u64, event: Event| {
        number += 1;
        queue.insert((at, number), event);
    };
    for (process, state) in processes.iter().enumerate() {
        push(&mut queue, 0, Event::Wake { process, turn: state.turn });
    }
    let mut kills = play.kills.clone();
    let (mut requests, mut lives) = (0_usize, 0_u32);
    while let Some(((now, _), event)) = queue.pop_first() {
        while kills.first_key_value().is_some_and(|(at, _)| *at <= now) {
            let (_, process) = kills.pop_first().unwrap();
            if let Some(state) = processes.get_mut(process) {
                lives += 1;
                *state = fresh(process, lives, state.rate);
                push(&mut queue, now + 1_000, Event::Wake { process, turn: state.turn });
            }
        }
        let leaders: Vec<usize> = (0..processes.len())
            .filter(|process| processes[*process].candidate.leads(own(&processes[*process], now)))
            .collect();
        prop_assert!(leaders.len() < 2, "{leaders:?} lead at {now} ms");
        if now > CALM {
            prop_assert_eq!(leaders.len(), 1, "nobody leads");
            return Ok(());
        }
        let process = match event {
            Event::Arrive { process, turn, write, back, sent } => {
                requests += 1;
                let refused = now < STORM && requests % play.refused == 0;
                let answer = match write {
                    _ if refused => None,
                    None => Some(Answer::Read(server.clone(), version)),
                    Some(write) if write.version == version => {
                        version += 1;
                        server = Some(write.record.clone());
                        Some(Answer::Wrote(write.record, version))
                    }
                    Some(_) => None,
                };
                push(&mut queue, now + back, Event::Answer { process, turn, answer, sent });
                continue;
            }
            Event::Wake { process, turn } if processes[process].turn == turn => process,
            Event::Answer { process, turn, answer, sent } if processes[process].turn == turn => {
                let state = &mut processes[process];
                let at = own(state, now);
                match answer {
                    Some(Answer::Read(record, version)) => {
                        state.version = version;
                        state.candidate.read(record, sent, at);
                    }
                    Some(Answer::Wrote(record, version)) => {
                        state.version = version;
                        state.candidate.wrote(record, sent);
                    }
                    None => state.candidate.failed(sent),
                }
                process
            }
            Event::Wake { .. } | Event::Answer { .. } => continue,
        };
        let state = &mut processes[process];
        state.turn += 1;
        let (local, turn) = (own(state, now), state.turn);
        let later = |until: Duration| {
            now + u64::try_from(until.saturating_sub(local).as_micros()).unwrap() / state.rate + 1
        };
        match state.candidate.decide(local) {
            Action::Lost(_) => {
                lives += 1;
                *state = fresh(process, lives, state.rate);
                push(&mut queue, now + 1_000, Event::Wake { process, turn: state.turn });
            }
            Action::Wait(until) => push(&mut queue, later(until), Event::Wake { process, turn }),
            action @ (Action::Look | Action::Acquire | Action::Renew) => {
                let (there, back) = play.delay(requests, process, now);
                let me = state.candidate.holder().flatten().unwrap_or_default();
                let taken = Record {
                    holder: Some(format!("process {process}, life {}", state.turn / 1_000_000)),
                    renewed: Timestamp::from_millisecond(i64::try_from(now).unwrap()).ok(),
                    length: None,
                    transitions: i32::from(me.is_empty()),
                };
                let write =
                    (action != Action::Look).then_some(Write { version: state.version, record: taken });
                let given_up = later(local + state.candidate.patience(local));
                push(&mut queue, now + there, Event::Arrive { process, turn, write, back, sent: local });
                push(&mut queue, given_up, Event::Answer { process, turn, answer: None, sent: local });
            }
        }
    }
    Err(TestCaseError::fail("nothing happens any more"))
}

proptest! {
    /// Whatever happens to requests and processes, and with clocks that run up to 15 in a hundred faster or slower, no two
    /// lead at once; and once it is calm, somebody does.
    #[test]
    fn no_two_lead_at_once_and_in_the_end_somebody_does(play in plays()) {
        played(&play)?;
    }
}

const LEASE: &str = "up-controller";

/// A process of the election.
struct Running {
    roles: watch::Receiver<Role>,
    end: watch::Sender<bool>,
    task: JoinHandle<Result<(), Lost>>,
}

impl Running {
    fn start(api: &FakeApi, identity: &str) -> Self {
        let settings = Settings {
            namespace: RELEASE.to_owned(),
            lease: LEASE.to_owned(),
            release: "up".to_owned(),
            identity: identity.to_owned(),
        };
        let (tell, roles) = watch::channel(Role::Unknown);
        let (end, ended) = watch::channel(false);
        let client = api.client();
        let task = tokio::spawn(async move { run(&settings, client.clone(), client, &tell, ended).await });
        Self { roles, end, task }
    }

    async fn becomes(&mut self, role: Role) {
        let reached = timeout(Duration::from_secs(120), self.roles.wait_for(|now| *now == role)).await;
        reached.unwrap_or_else(|_| panic!("never {role:?}")).unwrap();
    }
}

/// Lets time pass, and everything happen that is due meanwhile.
async fn pass(length: Duration) {
    assert!(timeout(length, std::future::pending::<()>()).await.is_err());
}

fn holder(api: &FakeApi) -> Option<String> {
    let lease = api.lock().objects.get(&lease_path(LEASE)).cloned()?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_the_second_stands_by_until_the_lease_is_given_back() {
    let api = FakeApi::default();
    let mut first = Running::start(&api, "a");
    first.becomes(Role::Leader).await;
    let mut second = Running::start(&api, "b");
    second.becomes(Role::Standby).await;
    pass(Duration::from_secs(40)).await;
    assert_eq!((holder(&api).as_deref(), &*second.roles.borrow()), (Some("a"), &Role::Standby));
    first.end.send_replace(true);
    first.task.await.unwrap().unwrap();
    second.becomes(Role::Leader).await;
    assert_eq!(holder(&api).as_deref(), Some("b"));
    let lease = api.lock().objects[&lease_path(LEASE)].clone();
    assert_eq!(lease["spec"]["leaseTransitions"], json!(1));
    assert_eq!(lease["metadata"]["labels"]["app.kubernetes.io/managed-by"], json!(null), "like a claim");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_killed_is_followed_after_the_length_of_its_lease() {
    let api = FakeApi::default();
    let mut first = Running::start(&api, "a");
    first.becomes(Role::Leader).await;
    let mut second = Running::start(&api, "b");
    second.becomes(Role::Standby).await;
    pass(Duration::from_secs(9)).await;
    first.task.abort();
    #[expect(clippy::disallowed_methods, reason = "measures")]
    let killed = Instant::now();
    second.becomes(Role::Leader).await;
    let after = killed.elapsed();
    assert!((Duration::from_secs(12)..Duration::from_secs(18)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_writes_are_not_answered_ends_in_time() {
    let api = FakeApi::default();
    let mut leader = Running::start(&api, "a");
    leader.becomes(Role::Leader).await;
    #[expect(clippy::disallowed_methods, reason = "measures")]
    let began = Instant::now();
    let fail = async {
        loop {
            api.lock().fault = Some(Fault::Failed);
            pass(Duration::from_millis(500)).await;
        }
    };
    let end = tokio::select! {
        end = &mut leader.task => end.unwrap().unwrap_err(),
        () = fail => unreachable!(),
    };
    assert_eq!(end.loss, Loss::Late);
    assert!(began.elapsed() <= Duration::from_millis(10_500), "{:?}", began.elapsed());
    assert_eq!(*leader.roles.borrow(), Role::Leader, "it never says that it stands by");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_taken_ends() {
    let api = FakeApi::default();
    let mut leader = Running::start(&api, "a");
    leader.becomes(Role::Leader).await;
    api.put(&lease_path(LEASE), json!({"metadata": {"name": LEASE}, "spec": {"holderIdentity": "b"}}));
    let end = timeout(Duration::from_secs(60), leader.task).await.unwrap().unwrap().unwrap_err();
    assert_eq!(end.loss, Loss::Taken("b".to_owned()));
    assert_eq!(holder(&api).as_deref(), Some("b"), "what is another's is left alone");
}

/// The write is done, and its answer lost.
#[tokio::test(start_paused = true)]
async fn who_was_not_told_that_it_leads_finds_out() {
    for fault in [Fault::Lost, Fault::Silent] {
        let api = FakeApi::default();
        api.lock().fault = Some(fault);
        let mut leader = Running::start(&api, "a");
        leader.becomes(Role::Leader).await;
        assert_eq!(holder(&api).as_deref(), Some("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_led_ends_without_a_write() {
    let api = FakeApi::default();
    api.put(&lease_path(LEASE), json!({"metadata": {"name": LEASE}, "spec": {"holderIdentity": "b"}}));
    let mut standby = Running::start(&api, "a");
    standby.becomes(Role::Standby).await;
    standby.end.send_replace(true);
    standby.task.await.unwrap().unwrap();
    assert!(api.lock().asked.iter().all(|asked| asked.starts_with("GET") || asked.starts_with("WATCH")));
}
