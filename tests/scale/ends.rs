//! Engines end at a rate, and every freed GPU gets its next pod: how soon, and at what cost for the API server.

use std::time::{Duration, Instant};

use crate::kubelet::Kubelet;
use crate::played::cluster::eventually;
use crate::watched::Watched;
use crate::{LIMIT, QUIET, World, beyond};

/// 99 of 100 freed GPUs have their next pod requested after so long.
const MOST_NEXT: Duration = Duration::from_millis(250);
/// Share of the ends that have to come at their time, else the rate was not reached.
const PUNCTUAL: f64 = 0.95;
/// An API server that takes longer for one of 100 writes, with a processor that it shares with all that is played here, is
/// measured itself, and not the controller.
const MOST_ANSWER: Duration = Duration::from_millis(100);

/// What came of one rate.
struct Load {
    ended: u32,
    /// Ends a second that there were.
    rate: f64,
    /// P99 from an end that was delivered to the request that makes the next pod.
    next: Duration,
    /// P99 of the API server's answers to writes.
    answer: Duration,
    writes: u32,
}

/// Lets engines end at the first of the rates that this machine's API server bears, and judges that one; of the others it
/// says what they came to.
pub async fn measure(world: &World, way: &Watched, kubelet: &Kubelet) -> Result<Vec<String>, String> {
    let (mut before, mut writes, mut faults) = (0, 0, Vec::new());
    let rates = world.size.ends_per_second;
    for (place, wanted) in rates.iter().enumerate() {
        let load = load(world, way, kubelet, *wanted, before).await?;
        before += load.ended;
        writes += load.writes;
        let reached = load.rate >= f64::from(*wanted) * PUNCTUAL;
        let last = place + 1 == rates.len();
        if !world.size.strict {
            break;
        }
        if last || (reached && load.answer <= MOST_ANSWER) {
            println!("  judged is {wanted} ends a second");
            faults.extend(beyond("a freed GPU's next pod", load.next, MOST_NEXT));
            if !reached {
                faults.push(format!("only {:.1} ends a second", load.rate));
            }
            break;
        }
        println!(
            "  THIS MACHINE IS TOO SLOW for {wanted} ends a second: its API server takes {:.0?} for a write",
            load.answer
        );
    }
    let (each, most) = (f64::from(writes) / f64::from(before), world.size.most_writes);
    println!("  {each:.2} writes for a finished segment on average, limit {most}");
    if each > most {
        faults.push(format!("{each:.2} writes for a segment, more than {most}"));
    }
    Ok(faults)
}

/// Engines end at a rate, beside `before` that have ended.
async fn load(
    world: &World,
    way: &Watched,
    kubelet: &Kubelet,
    wanted: u32,
    before: u32,
) -> Result<Load, String> {
    way.forget();
    let began = Instant::now();
    let mut turns = tokio::time::interval(Duration::from_secs(1) / wanted);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (mut ended, mut missed) = (0, 0);
    while began.elapsed() < world.size.load {
        turns.tick().await;
        if kubelet.end_one() {
            ended += 1;
        } else {
            missed += 1;
        }
    }
    let rate = f64::from(ended) / began.elapsed().as_secs_f64();
    let written = usize::try_from(way.kinds().values().sum::<u32>()).unwrap();
    let asked = way.reads().values().map(Vec::len).sum::<usize>() + written;
    let asked = asked as f64 / began.elapsed().as_secs_f64();
    let all = usize::try_from(ended).unwrap();
    eventually("every freed GPU has its next pod", LIMIT, async || way.waits().len() >= all).await?;
    let counted = before + ended;
    eventually("every end is counted", LIMIT, async || world.succeeded().await >= counted).await?;
    eventually("nothing is written any more", LIMIT, async || way.quiet_for() >= QUIET).await?;
    println!(
        "  {wanted} ends a second wanted: {rate:.1} for {:?}, {missed} times none was there to end; {asked:.0} requests a second",
        world.size.load
    );
    let next = spread("  terminal event delivered -> create request sent", way.waits());
    let answer = spread("  of these times the API server's, for each write", way.answers());
    let written = way.kinds();
    let writes = written.values().sum::<u32>();
    println!("    {:.2} writes for a finished segment: {written:?}", f64::from(writes) / f64::from(ended));
    for (what, times) in way.reads() {
        spread(&format!("  {what}, {} times", times.len()), times);
    }
    Ok(Load { ended, rate, next, answer, writes })
}

/// Prints how times are spread, and answers the 99th percentile.
fn spread(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("  {what}: P50 {:.1?}, P99 {:.1?}, most {:.1?}", at(50), at(99), at(100));
    at(99)
}
