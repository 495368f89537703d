//! The agent of a played node: what the driver says, published at every change and one second after it, as an end is
//! judged by a report of a later second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use video_upscale::api::keys;
use video_upscale::api::report::{
    Attribution, Gpu, Health, Heartbeat, Kind, Process, Processes, Report, State, VERSION, digest,
};

use crate::world::{PlayedNode, World};

/// How often the driver is asked.
const LOOK: Duration = Duration::from_millis(100);
/// Longest silence, of the agent and of the node's kubelet; both are believed for much longer.
const BEAT: Duration = Duration::from_secs(10);

/// Everyone who was ever seen on a card: its peak, by card and process id.
type Seen = BTreeMap<(String, u32), u64>;

/// Reports until it is dropped.
pub async fn report(world: Arc<World>, index: usize) {
    let node = &world.nodes[index];
    let (mut seen, mut before, mut seq, mut last) = (Seen::new(), Vec::new(), 0, Timestamp::UNIX_EPOCH);
    let (mut again, mut beaten) = (false, Timestamp::now());
    loop {
        let gpus = look(&world, node, &mut seen);
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let silent = now.duration_since(last) >= BEAT.try_into().unwrap();
        let changed = gpus != before;
        if now.duration_since(beaten) >= BEAT.try_into().unwrap() {
            world.beat(&node.name).await;
            beaten = now;
        }
        if changed || silent || (again && now > last) {
            seq += 1;
            publish(&world, node, seq, now, &gpus).await;
            (before, last, again) = (gpus, now, changed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn look(world: &World, node: &PlayedNode, seen: &mut Seen) -> Vec<Gpu> {
    let owners = world.owners.lock().unwrap().clone();
    let gpu = |card: gpusim::control::GpuState| {
        for holder in &card.holders {
            let peak = seen.entry((card.uuid.clone(), holder.pid)).or_default();
            *peak = (*peak).max(holder.bytes);
        }
        let of_card = seen.iter().filter(|((uuid, _), _)| *uuid == card.uuid);
        let top: Vec<Process> = of_card
            .map(|((_, pid), peak)| {
                let held = card.holders.iter().find(|holder| holder.pid == *pid).map(|holder| holder.bytes);
                let owner = owners.get(pid);
                Process {
                    k: owner.map_or(Kind::Host, |owner| owner.kind),
                    u: owner.and_then(|owner| owner.pod.clone()),
                    p: *pid,
                    b: Some(held.unwrap_or(0)),
                    pk: Some(*peak),
                    t: if held.is_some() { "C" } else { "CE" }.to_owned(),
                    e: None,
                }
            })
            .collect();
        let live = u32::try_from(card.holders.len()).unwrap();
        Gpu {
            i: card.index,
            id: card.uuid.clone(),
            n: card.model,
            tot: Some(card.total),
            rsv: Some(card.reserved),
            free: Some(card.free),
            una: Some(card.unowned),
            leak: false,
            why: None,
            h: Health::Ok,
            xid: None,
            xat: None,
            mig: false,
            mis: Vec::new(),
            cm: None,
            cc: false,
            numa: false,
            procs: Some(Processes {
                n: live,
                b: Some(card.holders.iter().map(|holder| holder.bytes).sum()),
                more: 0,
                top,
            }),
        }
    };
    node.cards().into_iter().map(gpu).collect()
}

async fn publish(world: &World, node: &PlayedNode, seq: u64, at: Timestamp, gpus: &[Gpu]) {
    let inst = "c0ffee00".to_owned();
    let report = Report {
        v: VERSION,
        ns: world.release(),
        seq,
        inst: inst.clone(),
        at,
        hb: 60,
        drv: "580.95.05".to_owned(),
        life: String::new(),
        state: State::Ok,
        attr: Attribution::Full,
        gpus: gpus.to_vec(),
    };
    let text = report.print().unwrap();
    let beat = Heartbeat { seq, inst, at, state: State::Ok, sha: digest(&text) };
    let notes = json!({"metadata": {"annotations": {keys::REPORT: text, keys::HEARTBEAT: beat.to_string()}}});
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes.patch(&node.name, &PatchParams::default(), &Patch::Merge(&notes)).await.unwrap();
}
