use std::sync::Arc;

use super::super::fake_api::{FakeApi, Fault, lease_path};
use super::super::fixtures::{at, attempt, claim, demand, gpu, grant, job, node, wanted};
use super::*;
use crate::fleet::claim::JobKey;
use crate::fleet::demand::Demand;
use crate::fleet::handle::{FleetConfig, Part};
use crate::fleet::pod::PodStage;

fn process(api: &FakeApi, actor: &str) -> (FleetHandle, Claims) {
    let config = FleetConfig {
        namespace: super::super::fixtures::RELEASE.into(),
        actor: actor.into(),
        watch_namespaces: Vec::new(),
    };
    let fleet = FleetHandle::new(config);
    let claims = fleet.claims(&api.client());
    (fleet, claims)
}

fn stored(api: &FakeApi) -> Option<Claim> {
    let lease = api.lock().objects.get(&lease_path("gpu-a")).cloned()?;
    Some(Claim::of_lease(&serde_json::from_value(lease).unwrap()))
}

#[tokio::test]
async fn one_of_two_processes_gets_the_gpu() {
    let api = FakeApi::default();
    let ((one, first), (_, second)) = (process(&api, "one"), process(&api, "two"));
    let mine = attempt(&job("media", "mine"), 0);
    let taken = first.take(mine.clone(), grant("GPU-A"), None).await.unwrap().done().unwrap();
    assert_eq!((taken.holder.as_ref(), taken.actor.as_str()), (Some(&mine), "one"));
    assert_eq!(one.claim_on("GPU-A").as_ref(), Some(&taken), "known at once, without a watch");
    let lost = second.take(attempt(&job("lab", "other"), 0), grant("GPU-A"), None).await.unwrap();
    assert_eq!(lost, Outcome::Lost(Some(taken.clone())));
    assert_eq!(stored(&api), Some(taken));
}

#[tokio::test]
async fn a_free_lease_is_taken_by_its_version_and_a_held_one_not_at_all() {
    let api = FakeApi::default();
    let (_, claims) = process(&api, "one");
    let mine = attempt(&job("media", "mine"), 0);
    let held = claims.take(mine.clone(), grant("GPU-A"), None).await.unwrap().done().unwrap();
    let requests = api.lock().asked.len();
    assert_eq!(
        claims.take(mine.clone(), grant("GPU-A"), Some(&held)).await.unwrap(),
        Outcome::Lost(Some(held.clone()))
    );
    assert_eq!(api.lock().asked.len(), requests, "nothing was asked");
    let free = claims.release(&held, Some("p1")).await.unwrap().done().unwrap();
    assert_eq!((free.is_free(), free.last_pod_uid.as_deref()), (true, Some("p1")));
    let again = claims.take(mine, grant("GPU-A"), Some(&free)).await.unwrap().done().unwrap();
    assert_eq!(
        again.last_pod_uid.as_deref(),
        Some("p1"),
        "what the last pod may still seem to hold is not forgotten"
    );
}

#[tokio::test]
async fn who_makes_a_claim_his_own_first_defeats_the_others_give_back() {
    let api = FakeApi::default();
    let ((_, first), (_, second)) = (process(&api, "one"), process(&api, "two"));
    let held =
        first.take(attempt(&job("media", "mine"), 0), grant("GPU-A"), None).await.unwrap().done().unwrap();
    assert_eq!(first.own(&held).await.unwrap(), Outcome::Done(held.clone()), "one's own needs no write");
    let own = second.own(&held).await.unwrap().done().unwrap();
    assert_eq!((own.actor.as_str(), &own.holder), ("two", &held.holder));
    assert_eq!(first.release(&held, None).await.unwrap(), Outcome::Lost(Some(own.clone())));
    assert_eq!(stored(&api), Some(own));
}

/// Others undo a claim that has stood for 30 s: so a pod is made only after a write that is younger.
#[tokio::test(start_paused = true)]
async fn an_old_claim_is_written_again_before_its_pod_is_made() {
    let api = FakeApi::default();
    let ((_, first), (_, second)) = (process(&api, "one"), process(&api, "two"));
    let held = held_by(&first, attempt(&job("media", "mine"), 0)).await;
    for (seconds, written) in [(9, 0), (2, 1)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let before = writes(&api);
        let own = first.own(&held).await.unwrap().done().unwrap();
        assert_eq!((own.holder, writes(&api) - before), (held.holder.clone(), written));
    }
    assert_eq!(second.own(&held).await.unwrap().done(), None, "it is not as the other has seen it");
}

#[tokio::test]
async fn a_lost_answer_is_looked_up() {
    for (fault, taken) in [(Fault::Lost, true), (Fault::Failed, false)] {
        let api = FakeApi::default();
        let (fleet, claims) = process(&api, "one");
        api.lock().fault = Some(fault);
        let outcome = claims.take(attempt(&job("media", "mine"), 0), grant("GPU-A"), None).await;
        assert_eq!(outcome.is_ok_and(|outcome| outcome.done().is_some()), taken, "{fault:?}");
        assert_eq!(stored(&api).is_some(), taken);
        assert_eq!(fleet.claim_on("GPU-A"), stored(&api));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_given_up_and_looked_up() {
    let api = FakeApi::default();
    let (_, claims) = process(&api, "one");
    api.lock().fault = Some(Fault::Silent);
    let outcome = claims.take(attempt(&job("media", "mine"), 0), grant("GPU-A"), None).await.unwrap();
    assert_eq!(outcome.done(), stored(&api));
}

#[tokio::test]
async fn a_refusal_says_so_and_changes_nothing() {
    for code in [400, 403, 422] {
        let api = FakeApi::default();
        let (fleet, claims) = process(&api, "one");
        api.lock().fault = Some(Fault::Refused(code));
        let error = claims.take(attempt(&job("media", "mine"), 0), grant("GPU-A"), None).await.unwrap_err();
        assert!(error.to_string().starts_with("write the claim of GPU-A"), "{error}");
        assert_eq!((stored(&api), fleet.claim_on("GPU-A")), (None, None));
    }
}

#[tokio::test]
async fn a_lease_that_was_deleted_by_hand_is_lost() {
    let api = FakeApi::default();
    let (fleet, claims) = process(&api, "one");
    let held =
        claims.take(attempt(&job("media", "mine"), 0), grant("GPU-A"), None).await.unwrap().done().unwrap();
    api.lock().objects.clear();
    assert_eq!(claims.release(&held, None).await.unwrap(), Outcome::Lost(None));
    assert_eq!(fleet.claim_on("GPU-A"), None);
}

/// A process that knows one GPU of a node, and all there is to know.
fn informed(api: &FakeApi, actor: &str) -> (FleetHandle, Claims) {
    let (fleet, claims) = process(api, actor);
    fleet.lock().apply_node(node("node-a", &[gpu(0, "GPU-A", 24)]), at(0));
    [Part::Nodes, Part::Claims, Part::Pods].into_iter().for_each(|part| fleet.fill(part));
    (fleet, claims)
}

async fn held_by(claims: &Claims, id: AttemptId) -> Claim {
    claims.take(id, grant("GPU-A"), None).await.unwrap().done().unwrap()
}

fn writes(api: &FakeApi) -> usize {
    api.lock().asked.iter().filter(|asked| !asked.starts_with("GET")).count()
}

#[tokio::test]
async fn a_gpu_goes_straight_to_the_attempt_whose_turn_it_is() {
    let (mine, older, elsewhere) = (job("media", "mine"), job("media", "older"), job("lab", "elsewhere"));
    let asks = |job: &JobKey, age: i64| Demand { created: at(-age), ..demand(job, 9) };
    for (name, demands, next) in [
        ("nobody asks", vec![], None),
        ("its own job asks", vec![asks(&mine, 1)], Some(&mine)),
        ("an older job comes first", vec![asks(&mine, 1), asks(&older, 2)], Some(&older)),
        (
            "a namespace without GPUs comes first",
            vec![asks(&older, 2), asks(&elsewhere, 1)],
            Some(&elsewhere),
        ),
    ] {
        let api = FakeApi::default();
        let (fleet, claims) = informed(&api, "one");
        let held = held_by(&claims, attempt(&mine, 0)).await;
        let other = claim("GPU-Z", &older, 99, "one");
        fleet.lock().apply_claim(other);
        demands.into_iter().for_each(|demand| fleet.set_demand(demand));
        let before = writes(&api);
        let after = claims.pass_on(&held, Some("p1")).await.unwrap().done().unwrap();
        assert_eq!(after.holder.as_ref().map(|holder| &holder.job), next, "{name}");
        assert_eq!((after.last_pod_uid.as_deref(), writes(&api) - before), (Some("p1"), 1), "{name}");
        assert_eq!(stored(&api), Some(after), "{name}");
        let again = super::super::allocator::decide(&fleet, at(1));
        assert_eq!(again, [], "{name}: nobody is given the same GPU, no attempt a second one");
    }
}

#[tokio::test]
async fn a_gpu_that_somebody_else_has_taken_is_not_passed_on() {
    let api = FakeApi::default();
    let ((fleet, first), (_, second)) = (informed(&api, "one"), informed(&api, "two"));
    let mine = job("media", "mine");
    let held = held_by(&first, attempt(&mine, 0)).await;
    fleet.set_demand(demand(&mine, 9));
    let own = second.own(&held).await.unwrap().done().unwrap();
    assert_eq!(first.pass_on(&held, Some("p1")).await.unwrap(), Outcome::Lost(Some(own.clone())));
    assert_eq!(stored(&api), Some(own.clone()));
    let free = first.release(&own, None).await.unwrap().done().unwrap();
    let due: Vec<u32> =
        super::super::allocator::decide(&fleet, at(1)).iter().map(|p| p.attempt.segment).collect();
    assert_eq!((free.is_free(), due), (true, vec![0]), "the attempt that was promised it is due again");
}

#[tokio::test]
async fn a_gpu_is_passed_on_though_no_watch_has_told_that_its_engine_ended() {
    let api = FakeApi::default();
    let (fleet, claims) = informed(&api, "one");
    let mine = job("media", "mine");
    let held = held_by(&claims, attempt(&mine, 0)).await;
    fleet.lock().apply_pod(super::super::fixtures::pod("p1", "GPU-A", PodStage::MayUseGpu));
    fleet.set_demand(Demand { wanted: Arc::from([wanted(1)]), ..demand(&mine, 0) });
    let next = claims.pass_on(&held, Some("p1")).await.unwrap().done().unwrap();
    assert_eq!(next.holder, Some(attempt(&mine, 1)));
}

#[tokio::test]
async fn quarantine_keeps_the_holder_and_out_does_not() {
    let api = FakeApi::default();
    let (fleet, claims) = process(&api, "one");
    fleet.lock().apply_node(node("node-a", &[gpu(0, "GPU-A", 24)]), at(0));
    let held =
        claims.take(attempt(&job("media", "mine"), 0), grant("GPU-A"), None).await.unwrap().done().unwrap();
    let shut = claims.quarantine(&held, Some("p1"), "lost pod", at(5)).await.unwrap().done().unwrap();
    assert_eq!((&shut.holder, shut.last_pod_uid.as_deref()), (&held.holder, Some("p1")));
    assert_eq!(shut.quarantined, Some(Mark { cause: "lost pod".into(), at: at(5) }));
    let out = claims.mark_out(&shut, Some("p1"), "GpuFault", at(6)).await.unwrap().done().unwrap();
    assert_eq!((&out.holder, &out.grant, &out.quarantined), (&None, &None, &None));
    assert_eq!(out.out.as_ref().unwrap().cause, "GpuFault (health Ok, driver 580.95.05)");
    assert!(claims.mark_in(&out).await.unwrap().done().unwrap().is_free());
}

#[tokio::test]
async fn the_allocator_writes_a_claim_once_and_forgets_what_it_loses() {
    let api = FakeApi::default();
    let (fleet, claims) = process(&api, "one");
    let mine = job("media", "mine");
    fleet.lock().apply_node(node("node-a", &[gpu(0, "GPU-A", 24)]), at(0));
    fleet.set_demand(demand(&mine, 1));
    // Another process was faster, and no watch has told.
    let other = claim("GPU-A", &job("lab", "other"), 0, "two");
    api.put(&lease_path("gpu-a"), serde_json::to_value(other.to_lease("upscale-system")).unwrap());
    let decide = || super::super::allocator::decide(&fleet, at(1));
    let act = async |placements: Vec<Placement>| {
        let slots = tokio::sync::Semaphore::new(1);
        for placement in placements {
            super::super::allocator::claim(&fleet, &claims, &slots, placement).await;
        }
    };
    let placements = decide();
    assert_eq!(placements.len(), 1);
    act(placements).await;
    assert_eq!(stored(&api).unwrap().actor, "two");
    assert_eq!(decide(), [], "the other's claim is known now");
    api.lock().objects.clear();
    claims.read("GPU-A").await.unwrap();
    act(decide()).await;
    assert_eq!(stored(&api).unwrap().holder, Some(attempt(&mine, 0)));
    assert_eq!(fleet.claims_of(&mine).len(), 1);
}
