//! The job loop: one pass over one `VideoUpscale` is *observe -> plan -> act*.
//!
//! [`reconcile`] adds what every pass needs and no part of it should know: the clock, a deadline, and a wall against
//! panics, since a panic in a reconciler ends kube's whole controller.

pub mod act;
pub mod context;
pub mod error;
pub mod figures;
pub mod job;
pub mod ladder;
pub mod memory;
pub mod nodes;
pub mod observe;
pub mod oom_text;
pub mod pace;
pub mod plan;
pub mod pods;
pub mod seen;
pub mod verdict;
pub mod volumes;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

pub use context::{Context, Known, Parts};
use error::Error;
use plan::{Observed, Plan, Sight};

use crate::api::video_upscale::VideoUpscale;
use crate::controllers::attempts::spread;
use crate::fleet::claim::JobKey;
use crate::telemetry::Telemetry;

/// Longest time that one pass may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Passes at once. Each mostly waits for the API server, a few calls after each other: at 60 ms for a call 16 passes at once
/// came to 40 a second (`tests/scale`), and jobs whose engines had ended stood in line behind jobs that only wait.
const CONCURRENCY: u16 = 64;
/// Pause after somebody else wrote first.
const CONFLICT: Duration = Duration::from_millis(200);

/// A job as watched: one that cannot be decoded does not stop the others.
pub type Guarded = DeserializeGuard<VideoUpscale>;

/// One pass, with clock, deadline and wall.
///
/// # Errors
/// As [`error::Error`] says; a conflict is none.
pub async fn reconcile(object: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, Error> {
    #[expect(clippy::disallowed_methods, reason = "edge: the one reading of the clock of a pass")]
    let (now, started) = (Timestamp::now(), std::time::Instant::now());
    let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let Some(key) = key_of(&object) else { return Err(Error::Nameless { name }) };
    let outcome = walled(&name, &ctx.telemetry, pass(&object, &key, &ctx, now)).await;
    let seconds = started.elapsed().as_secs_f64();
    ctx.telemetry
        .metrics
        .reconcile_seconds
        .get_or_create(&[("controller", "video_upscale")])
        .observe(seconds);
    match outcome {
        Ok(action) => {
            ctx.attempts.succeeded(&key.uid);
            Ok(action)
        }
        Err(error) if error.is_conflict() => {
            ctx.note_conflict(&key);
            Ok(Action::requeue(CONFLICT))
        }
        Err(error) => {
            ctx.fleet.heard_pods().doubt(&key.uid);
            Err(error)
        }
    }
}

/// Runs a pass within its time, and turns a panic into an error of its job.
async fn walled<T>(
    name: &str,
    telemetry: &Telemetry,
    pass: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, AssertUnwindSafe(pass).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            telemetry.metrics.panics.inc();
            Err(Error::Panic { name: name.to_owned() })
        }
        Err(_) => Err(Error::Deadline { name: name.to_owned(), limit: DEADLINE }),
    }
}

async fn pass(object: &Guarded, key: &JobKey, ctx: &Context, now: Timestamp) -> Result<Action, Error> {
    let job = match &object.0 {
        Ok(job) => job,
        Err(invalid) => {
            ctx.telemetry.metrics.undecodable.get_or_create(&[("kind", "VideoUpscale")]).inc();
            let name = format!("{}/{}", key.namespace, key.name);
            return Err(Error::Undecodable { name, message: invalid.error.clone() });
        }
    };
    let Some((observed, plan)) = planned(job, key, ctx, now).await? else {
        ctx.fleet.forget(key);
        return Ok(Action::await_change());
    };
    let requeue = plan.requeue;
    let figures = figures::figures(&observed, &plan, now);
    act::act(&observed.identity, plan, ctx, now).await?;
    figures.count(&ctx.telemetry.metrics);
    Ok(requeue.map_or_else(Action::await_change, |pause| Action::requeue(spread(pause, &key.uid))))
}

/// Observes and plans, again with more that is as it is now where the plan needs it; `None` if there is no such job.
async fn planned(
    heard: &VideoUpscale,
    key: &JobKey,
    ctx: &Context,
    now: Timestamp,
) -> Result<Option<(Observed, Plan)>, Error> {
    let mut sight = Sight::Heard;
    let mut pods = observe::list_pods(key, ctx, sight).await?;
    loop {
        // Pods first, the object after.
        let Some(object) = observe::object(heard, key, ctx, sight).await? else { return Ok(None) };
        let Some(observed) = observe::observe(&object, &pods, key, ctx, now).await? else {
            return Ok(None);
        };
        let plan = plan::plan(&observed, now);
        let needed = plan::needed(&observed, &plan);
        if needed <= sight {
            return Ok(Some((observed, plan)));
        }
        sight = needed;
        if sight == Sight::Everything {
            pods = observe::list_pods(key, ctx, sight).await?;
        }
    }
}

fn key_of(object: &Guarded) -> Option<JobKey> {
    let meta = kube::Resource::meta(object);
    Some(JobKey { namespace: meta.namespace.clone()?, name: meta.name.clone()?, uid: meta.uid.clone()? })
}

/// How long a job is left alone after a failed pass.
pub fn error_policy(object: Arc<Guarded>, error: &Error, ctx: Arc<Context>) -> Action {
    ctx.telemetry.metrics.reconcile_errors.get_or_create(&[("class", error.reason())]).inc();
    Action::requeue(ctx.attempts.failed(&object.uid().unwrap_or_default()))
}

/// The controller of one namespace, or of all, before it runs; its store fills once it does. Jobs look again when their
/// object changes, and when the fleet says so, which watches pods: `wakes`.
pub fn controller(
    watch: &Client,
    namespace: Option<&str>,
    wakes: impl Stream<Item = JobKey> + Send + 'static,
) -> (Controller<Guarded>, Store<Guarded>) {
    let jobs: Api<Guarded> = match namespace {
        Some(namespace) => Api::namespaced(watch.clone(), namespace),
        None => Api::all(watch.clone()),
    };
    let controller = Controller::new(jobs, watcher::Config::default())
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(wakes.map(|job| ObjectRef::new(&job.name).within(&job.namespace)));
    let store = controller.store();
    (controller, store)
}

/// Runs a controller until the shutdown.
pub async fn run(
    controller: Controller<Guarded>,
    ctx: Arc<Context>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let results = controller.graceful_shutdown_on(shutdown).run(reconcile, error_policy, ctx.clone());
    report(results, ctx).await;
}

/// The one place where failures of passes are logged.
async fn report(
    results: impl Stream<Item = Result<(ObjectRef<Guarded>, Action), controller::Error<Error, watcher::Error>>>,
    ctx: Arc<Context>,
) {
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => {}
            Err(controller::Error::ObjectNotFound(gone)) => {
                ctx.forget(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
            }
            Err(controller::Error::ReconcilerFailed(error, object)) => {
                tracing::warn!(job = %object.name, reason = error.reason(), %error, "pass failed");
            }
            Err(controller::Error::QueueError(error)) => {
                #[expect(clippy::disallowed_methods, reason = "edge: when a watch failed")]
                ctx.telemetry.watch_failed(Timestamp::now());
                ctx.telemetry.metrics.watch_errors.get_or_create(&[("controller", "video_upscale")]).inc();
                tracing::warn!(%error, "watch failed");
            }
            Err(error) => tracing::warn!(%error, "controller"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::api::keys;
    use crate::fleet::fake_api::FakeApi;
    use crate::fleet::{FleetConfig, FleetHandle};

    /// Passes over one job of a controller that listens to `fleet` for that namespace.
    fn passes(
        api: &FakeApi,
        fleet: &FleetHandle,
        namespace: Option<&str>,
    ) -> mpsc::UnboundedReceiver<String> {
        let (controller, _) = controller(&api.client(), namespace, fleet.wakes(namespace));
        let (tell, told) = mpsc::unbounded_channel();
        let reconcile = move |job: Arc<Guarded>, _: Arc<()>| {
            let tell = tell.clone();
            async move {
                tell.send(job.name_any()).unwrap();
                Ok::<_, Error>(Action::await_change())
            }
        };
        let policy = |_: Arc<Guarded>, _: &Error, _: Arc<()>| Action::await_change();
        let results = controller.run(reconcile, policy, Arc::new(()));
        tokio::spawn(results.for_each(|_| std::future::ready(())));
        told
    }

    #[tokio::test]
    async fn a_job_that_the_fleet_wakes_looks_again_at_once() {
        let api = FakeApi::default();
        // A watch that fails makes kube pause all triggers of its controller.
        api.lock().still = true;
        for name in ["holiday", "other"] {
            api.put(
                &format!("/apis/upscale.video/v1alpha1/namespaces/media/videoupscales/{name}"),
                json!({"apiVersion": keys::API_VERSION, "kind": "VideoUpscale",
                       "metadata": {"name": name, "namespace": "media", "uid": name},
                       "spec": {"source": {"claim": {"name": "m"}, "path": "a.mp4"},
                                "destination": {"claim": {"name": "m"}, "path": "b.mp4"}}}),
            );
        }
        let config = FleetConfig { namespace: "ops".into(), actor: "a".into(), watch_namespaces: Vec::new() };
        let fleet = FleetHandle::new(config);
        let mut passes = passes(&api, &fleet, Some("media"));
        let mut next = async || {
            let pass = tokio::time::timeout(Duration::from_secs(30), passes.recv()).await;
            pass.expect("no pass within 30 s").unwrap()
        };
        let first = [next().await, next().await];
        assert!(first.contains(&"holiday".to_owned()) && first.contains(&"other".to_owned()), "{first:?}");
        let holiday = JobKey { namespace: "media".into(), name: "holiday".into(), uid: "u".into() };
        #[expect(clippy::disallowed_methods, reason = "measures")]
        let begun = tokio::time::Instant::now();
        for _ in 0..100 {
            fleet.wake([holiday.clone()]);
            assert_eq!(next().await, "holiday");
        }
        let each = begun.elapsed() / 100;
        println!("from a wake to the pass: {each:?} on average of 100");
        assert!(each < Duration::from_millis(500), "{each:?}: a timer, not a wake");
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_panic_nor_a_pass_without_end_harms_more_than_its_job() {
        let telemetry = Telemetry::new();
        let panicked = walled("media/a", &telemetry, async { panic!("index out of bounds") });
        assert!(matches!(panicked.await, Err::<(), _>(Error::Panic { name }) if name == "media/a"));
        assert_eq!(telemetry.metrics.panics.get(), 1);
        let endless = walled("media/b", &telemetry, std::future::pending::<Result<(), _>>());
        assert!(matches!(endless.await, Err(Error::Deadline { .. })));
    }

    #[tokio::test]
    async fn wakes_reach_the_controller_of_their_namespace_only() {
        let config = FleetConfig { namespace: "ops".into(), actor: "a".into(), watch_namespaces: Vec::new() };
        let fleet = FleetHandle::new(config);
        let (all, media) = (fleet.wakes(None), fleet.wakes(Some("media")));
        let key = |namespace: &str| JobKey { namespace: namespace.into(), name: "x".into(), uid: "u".into() };
        fleet.wake([key("lab"), key("media")]);
        drop(fleet);
        assert_eq!(all.map(|job| job.namespace).collect::<Vec<_>>().await, ["lab", "media"]);
        assert_eq!(media.map(|job| job.namespace).collect::<Vec<_>>().await, ["media"]);
    }
}
