//! The job loop: one pass over one `VideoUpscale` is *observe -> plan -> act*.
//!
//! [`reconcile`] adds what every pass needs and no part of it should know: the clock, a deadline, and a wall against
//! panics, since a panic in a reconciler ends kube's whole controller.

pub mod act;
pub mod context;
pub mod error;
pub mod job;
pub mod ladder;
pub mod memory;
pub mod observe;
pub mod oom_text;
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
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

pub use context::{Context, Known, Parts};
use error::Error;

use crate::api::keys;
use crate::api::video_upscale::VideoUpscale;
use crate::controllers::attempts::spread;
use crate::fleet::claim::JobKey;

/// Longest time that one pass may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Passes at once.
const CONCURRENCY: u16 = 16;
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
    let walled = AssertUnwindSafe(pass(&object, &key, &ctx, now)).catch_unwind();
    let outcome = match tokio::time::timeout(DEADLINE, walled).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            ctx.telemetry.metrics.panics.inc();
            Err(Error::Panic { name })
        }
        Err(_) => Err(Error::Deadline { name, limit: DEADLINE }),
    };
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
        Err(error) if error.is_conflict() => Ok(Action::requeue(CONFLICT)),
        Err(error) => Err(error),
    }
}

async fn pass(object: &Guarded, key: &JobKey, ctx: &Context, now: Timestamp) -> Result<Action, Error> {
    if let Err(invalid) = &object.0 {
        ctx.telemetry.metrics.undecodable.get_or_create(&[("kind", "VideoUpscale")]).inc();
        let name = format!("{}/{}", key.namespace, key.name);
        return Err(Error::Undecodable { name, message: invalid.error.clone() });
    }
    let Some(observed) = observe::observe(key, ctx, now).await? else {
        ctx.fleet.drop_demand(key);
        return Ok(Action::await_change());
    };
    let plan = plan::plan(&observed, now);
    let requeue = plan.requeue;
    act::act(&observed.identity, plan, ctx, now).await?;
    Ok(requeue.map_or_else(Action::await_change, |pause| Action::requeue(spread(pause, &key.uid))))
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

/// The controller of one namespace, or of all, before it runs; its store fills once it does.
pub fn controller(
    watch: &Client,
    namespace: Option<&str>,
    claims_in: &str,
) -> (Controller<Guarded>, Store<Guarded>) {
    let jobs: Api<Guarded> = scoped(watch, namespace);
    let pods: Api<PartialObjectMeta<Pod>> = scoped(watch, namespace);
    let leases: Api<PartialObjectMeta<Lease>> = Api::namespaced(watch.clone(), claims_in);
    let ours = watcher::Config::default().labels(keys::JOB_UID);
    let served = namespace.map(str::to_owned);
    let controller = Controller::new(jobs, watcher::Config::default())
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .owns(pods, ours)
        .watches(leases, watcher::Config::default(), move |lease| holder_of(&lease, served.as_deref()));
    let store = controller.store();
    (controller, store)
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The job that a claim is for: a new claim wakes it.
fn holder_of(lease: &PartialObjectMeta<Lease>, served: Option<&str>) -> Option<ObjectRef<Guarded>> {
    let annotations = lease.metadata.annotations.as_ref()?;
    let namespace = annotations.get(keys::JOB_NAMESPACE)?;
    let name = annotations.get(keys::JOB_NAME)?;
    let ours = served.is_none_or(|served| served == namespace);
    ours.then(|| ObjectRef::new(name).within(namespace))
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

    use super::*;

    #[test]
    fn a_claim_wakes_the_job_that_it_names_if_we_serve_it() {
        let lease = |annotations: serde_json::Value| -> PartialObjectMeta<Lease> {
            serde_json::from_value(json!({"metadata": {"name": "gpu-1", "annotations": annotations}}))
                .unwrap()
        };
        let held = lease(json!({keys::JOB_NAMESPACE: "media", keys::JOB_NAME: "holiday"}));
        let woken = holder_of(&held, None).unwrap();
        assert_eq!((woken.namespace.as_deref(), woken.name.as_str()), (Some("media"), "holiday"));
        assert!(holder_of(&held, Some("media")).is_some());
        assert!(holder_of(&held, Some("other")).is_none());
        assert!(holder_of(&lease(json!({})), None).is_none());
    }
}
