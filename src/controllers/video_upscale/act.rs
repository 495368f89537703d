//! Carries out a plan, change by change in its order, and stops at the first that does not go through. Decides nothing.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event as KubeEvent, EventType};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Context;
use super::error::Error;
use super::job::Identity;
use super::memory::{Memory, after};
use super::plan::{Change, Event, Freed, Plan, size};
use crate::api::keys;
use crate::api::video_upscale::{VideoUpscale, VideoUpscaleStatus};
use crate::fleet::claim::Claim;
use crate::fleet::pod::owner_of;

#[cfg(test)]
mod tests;

/// A create that the API server refused is tried again after that long.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(60);
/// Longest time that the create of a pod may take, its turn among the requests included.
const CREATE: std::time::Duration = std::time::Duration::from_secs(10);
/// How long the pod of a create that nobody answered may still come, from the begin of the pass, which itself may take
/// 60 s.
const DOUBT: std::time::Duration = std::time::Duration::from_secs(90);
/// Longest note of an event, characters; the API server admits 1 KiB.
const MAX_NOTE: usize = 500;
/// Events of one pass that are told at most.
const MAX_EVENTS: usize = 10;

/// Carries out a plan.
///
/// # Errors
/// The first change that did not go through; nothing after it has been tried, and nothing is remembered.
pub async fn act(identity: &Identity, plan: Plan, ctx: &Context, now: Timestamp) -> Result<(), Error> {
    let key = &identity.key;
    match plan.demand {
        Some(demand) => ctx.fleet.set_demand(demand),
        None => ctx.fleet.drop_demand(key),
    }
    // An end is judged once: what it taught is kept before it is recorded, or a death in between would lose it.
    if let Some(profile) = plan.profile.as_ref().filter(|_| !plan.lessons.is_empty()) {
        ctx.learn(profile, &plan.lessons_of, &plan.lessons, now).await?;
    }
    let mut memory = plan.memory;
    for change in plan.changes {
        let kind = kind(&change);
        let About { object, segment, attempt } = About::of(&change);
        carry_out(identity, change, ctx, &mut memory, now).await?;
        tracing::info!(
            namespace = %key.namespace,
            job = %key.name,
            uid = %key.uid,
            kind,
            object,
            segment,
            attempt,
            "change"
        );
        ctx.telemetry.metrics.changes.get_or_create(&[("kind", kind)]).inc();
    }
    ctx.remember(key, memory);
    for verdict in plan.verdicts {
        ctx.telemetry.metrics.attempts.get_or_create(&[("verdict", verdict.as_str())]).inc();
        if verdict.out_of_memory() {
            ctx.telemetry.metrics.out_of_memory.get_or_create(&[("verdict", verdict.as_str())]).inc();
        }
    }
    tell(identity, plan.events, ctx).await;
    if let Some(profile) = plan.profile {
        ctx.note_paces(&profile, plan.timings);
    }
    Ok(())
}

const fn kind(change: &Change) -> &'static str {
    match change {
        Change::FreezeProfile(_) => "freeze_profile",
        Change::CreatePod { .. } => "create_pod",
        Change::RecordStatus(_) => "record_status",
        Change::Release { .. } => "release",
        Change::DeletePod { .. } => "delete_pod",
        Change::DeleteJob => "delete_job",
    }
}

/// What a change is about, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
struct About {
    /// Name of the pod, or UUID of the GPU.
    object: Option<String>,
    segment: Option<u32>,
    attempt: Option<u32>,
}

impl About {
    fn of(change: &Change) -> Self {
        match change {
            Change::CreatePod { pod, .. } => {
                let number = |key: &str| pod.labels().get(key).and_then(|text| text.parse().ok());
                let (segment, attempt) = (number(keys::SEGMENT), number(keys::ATTEMPT));
                Self { object: Some(pod.name_any()), segment, attempt }
            }
            Change::Release { claim, .. } => {
                let holder = claim.holder.as_ref();
                Self {
                    object: Some(claim.gpu.clone()),
                    segment: holder.map(|holder| holder.segment),
                    attempt: holder.map(|holder| holder.attempt),
                }
            }
            // The name ends with segment and attempt.
            Change::DeletePod { name, .. } => Self { object: Some(name.clone()), ..Self::default() },
            Change::FreezeProfile(_) | Change::RecordStatus(_) | Change::DeleteJob => Self::default(),
        }
    }
}

async fn carry_out(
    identity: &Identity,
    change: Change,
    ctx: &Context,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<(), Error> {
    match change {
        Change::FreezeProfile(revision) => freeze(identity, &revision, ctx).await,
        Change::CreatePod { pod, claim } => {
            create_pod(identity, &pod, claim.as_deref(), ctx, memory, now).await
        }
        Change::RecordStatus(status) => record(identity, &status, ctx, memory).await,
        Change::Release { claim, pod_uid, how } => release(&claim, pod_uid.as_deref(), how, ctx, now).await,
        Change::DeletePod { name, uid } => delete_pod(identity, &name, &uid, ctx).await,
        Change::DeleteJob => delete_job(identity, ctx).await,
    }
}

async fn freeze(identity: &Identity, revision: &ControllerRevision, ctx: &Context) -> Result<(), Error> {
    let api: Api<ControllerRevision> = Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    let name = revision.name_any();
    match api.create(&PostParams::default(), revision).await {
        Ok(_) => Ok(()),
        // Ours is success: an earlier pass made it and did not come to the status. Reading it shows whose it is.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(Error::FreezeProfile { name, source }),
    }
}

async fn create_pod(
    identity: &Identity,
    pod: &Pod,
    claim: Option<&Claim>,
    ctx: &Context,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    let name = pod.name_any();
    let failed = |source| Error::CreatePod { pod: name.clone(), source };
    if let Some(claim) = claim {
        // Whoever completes another process's claim first makes it his own, so that the other's late give-back fails.
        let own = ctx.claims.own(claim).await;
        let own = own.map_err(|source| Error::Own { gpu: claim.gpu.clone(), source })?;
        if own.done().is_none() {
            return Err(Error::Overtaken { gpu: claim.gpu.clone() });
        }
    }
    let params = PostParams::default();
    if let Some(holder) = claim.and_then(|claim| claim.holder.as_ref()) {
        // It stands if nobody answers, or this pass ends first: the pod may be on its way. What is remembered after a
        // pass that went through has no doubt.
        ctx.doubt(&identity.key, holder, after(now, DOUBT));
    }
    let answer = tokio::time::timeout(CREATE, api.create(&params, pod)).await;
    match answer.map_err(|_elapsed| Error::Silence { pod: name.clone() })? {
        Ok(made) => {
            // Of another pod than an attempt's the watch tells, and wakes the job: it has a state to record then.
            if claim.is_some() {
                ctx.fleet.heard_pods().hear_of(made);
            }
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let Some(there) = api.get_opt(&name).await.map_err(failed)? else { return Ok(()) };
            let ours = owner_of(&there.metadata).is_some_and(|owner| owner.uid == identity.key.uid);
            if !ours {
                return refused(claim, format!("pod {name} exists and is not this job's"), ctx, memory, now)
                    .await;
            }
            // It may have gone on since it was made, and the watch then tells nothing new.
            if ctx.fleet.heard_pods().hear_of(there) {
                ctx.fleet.wake([identity.key.clone()]);
            }
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
            refused(claim, status.message.clone(), ctx, memory, now).await
        }
        Err(source) => Err(failed(source)),
    }
}

/// A pod cannot be made: its GPU goes back, and nothing is tried for a while.
async fn refused(
    claim: Option<&Claim>,
    message: String,
    ctx: &Context,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some(claim) = claim {
        // Not passed on: what asks next is most likely this job, which is refused again.
        let released = ctx.claims.release(claim, None).await;
        released.map_err(|source| Error::Release { gpu: claim.gpu.clone(), source })?;
        if let Some(holder) = &claim.holder {
            memory.made.remove(&(holder.segment, holder.attempt));
        }
    }
    tracing::warn!(gpu = claim.map(|claim| claim.gpu.as_str()), message, "pod refused");
    memory.refused = Some((after(now, REFUSED), message));
    Ok(())
}

/// Writes the status. One that the API server refuses as too large or invalid would be refused for ever, and all that it
/// says be lost: a short one is written instead, and from then on.
async fn record(
    identity: &Identity,
    status: &VideoUpscaleStatus,
    ctx: &Context,
    memory: &mut Memory,
) -> Result<(), Error> {
    match write_status(identity, status, ctx).await {
        Err(kube::Error::Api(refusal)) if matches!(refusal.code, 413 | 422) && !memory.short => {
            tracing::warn!(job = %identity.key.name, error = %refusal, "status refused: a short one is written");
            write_status(identity, &size::short(status), ctx)
                .await
                .map_err(|source| failed(identity, source))?;
            memory.short = true;
            Ok(())
        }
        written => written.map_err(|source| failed(identity, source)),
    }
}

fn failed(identity: &Identity, source: kube::Error) -> Error {
    Error::WriteStatus { name: format!("{}/{}", identity.key.namespace, identity.key.name), source }
}

async fn write_status(
    identity: &Identity,
    status: &VideoUpscaleStatus,
    ctx: &Context,
) -> Result<(), kube::Error> {
    let key = &identity.key;
    let api: Api<VideoUpscale> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let patch = json!({
        "apiVersion": keys::API_VERSION,
        "kind": "VideoUpscale",
        "metadata": {"name": key.name, "uid": key.uid, "resourceVersion": identity.resource_version},
        "status": status,
    });
    let params = PatchParams::apply(keys::FIELD_MANAGER_JOB).force();
    let written = api.patch_status(&key.name, &params, &Patch::Apply(patch)).await?;
    ctx.has_written(key, written.metadata.resource_version.as_deref());
    Ok(())
}

/// Gives a GPU back. That somebody else wrote the claim first is no failure: the next pass sees what it says now.
async fn release(
    claim: &Claim,
    pod_uid: Option<&str>,
    how: Freed,
    ctx: &Context,
    now: Timestamp,
) -> Result<(), Error> {
    let written = match how {
        Freed::Free => ctx.claims.pass_on(claim, pod_uid).await,
        Freed::Quarantined { cause, at } => ctx.claims.quarantine(claim, pod_uid, &cause, at).await,
        Freed::Out { cause } => ctx.claims.mark_out(claim, pod_uid, &cause, now).await,
    };
    written.map(drop).map_err(|source| Error::Release { gpu: claim.gpu.clone(), source })
}

async fn delete_pod(identity: &Identity, name: &str, uid: &str, ctx: &Context) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    match api.delete(name, &only(uid)).await {
        Ok(_) => Ok(()),
        // Gone, or another of that name: either way the one that was meant is not there.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            ctx.fleet.heard_pods().miss(&identity.key.uid, uid);
            Ok(())
        }
        Err(source) => Err(Error::DeletePod { pod: name.to_owned(), source }),
    }
}

async fn delete_job(identity: &Identity, ctx: &Context) -> Result<(), Error> {
    let key = &identity.key;
    let api: Api<VideoUpscale> = Api::namespaced(ctx.client.clone(), &key.namespace);
    match api.delete(&key.name, &only(&key.uid)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(Error::DeleteJob { name: format!("{}/{}", key.namespace, key.name), source }),
    }
}

/// Deletes only the object with that UID.
fn only(uid: &str) -> DeleteParams {
    DeleteParams::background()
        .preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None })
}

/// Publishes events; a lost one is only logged, as nothing rests on it.
async fn tell(identity: &Identity, events: Vec<Event>, ctx: &Context) {
    let key = &identity.key;
    let about = ObjectReference {
        api_version: Some(keys::API_VERSION.to_owned()),
        kind: Some("VideoUpscale".to_owned()),
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        uid: Some(key.uid.clone()),
        ..ObjectReference::default()
    };
    for event in events.into_iter().take(MAX_EVENTS) {
        let told = KubeEvent {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.to_owned(),
            note: Some(event.note.chars().take(MAX_NOTE).collect()),
            action: event.action,
            secondary: None,
        };
        if let Err(error) = ctx.recorder.publish(&told, &about).await {
            tracing::warn!(job = %key.name, reason = event.reason, %error, "event not published");
        }
    }
}
