//! Gathers everything that a plan is made from. Where a plan rests on the absence of a pod, own pods are listed live and
//! *then* the object is read: whatever an attempt recorded before its pod vanished is in the status that comes with it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::error::Error;
use super::job::{Identity, Job};
use super::memory::after;
use super::plan::{Observed, Profile, Sight, Volumes};
use super::seen::SeenPod;
use super::verdict::GpuView;
use super::{Context, Known, nodes, volumes};
use crate::api::conditions::ConditionType;
use crate::api::keys;
use crate::api::profile::{UpscaleProfile, UpscaleProfileSpec, UpscaleProfileStatus};
use crate::api::report::State;
use crate::api::video_upscale::VideoUpscale;
use crate::fleet::claim::JobKey;
use crate::fleet::{HeardPod, Version};

/// How long an answer about volumes and namespace is believed.
const BELIEVED: std::time::Duration = std::time::Duration::from_secs(10);
/// The same while a claim is missing: whoever mends it wants to see the job go on.
const BELIEVED_MISSING: std::time::Duration = std::time::Duration::from_secs(2);
/// Living jobs that the probe is told of at most; it sweeps nothing if there are more.
const MOST_LIVE_JOBS: usize = 2000;

/// The object of a job: as it was heard of, unless it has to be as it is now or this process has written it since. `None`
/// if it is gone.
///
/// # Errors
/// If the API server does not answer, or the object cannot be read.
pub async fn object<'h>(
    heard: &'h VideoUpscale,
    key: &JobKey,
    ctx: &Context,
    sight: Sight,
) -> Result<Option<Cow<'h, VideoUpscale>>, Error> {
    if sight == Sight::Heard && ctx.is_heard(key, heard.metadata.resource_version.as_deref()) {
        return Ok(Some(Cow::Borrowed(heard)));
    }
    let name = || format!("{}/{}", key.namespace, key.name);
    let api: Api<DeserializeGuard<VideoUpscale>> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let object = api.get_opt(&key.name).await.map_err(|source| Error::GetJob { name: name(), source })?;
    let Some(DeserializeGuard(object)) = object else { return Ok(None) };
    let read = |object: VideoUpscale| {
        ctx.has_read(key, object.metadata.resource_version.as_deref());
        Some(Cow::Owned(object))
    };
    object.map(read).map_err(|e| Error::Undecodable { name: name(), message: e.error })
}

/// Observes what else there is of a job, whose pods were read before its object. `None` if another one of that name has come.
///
/// # Errors
/// If the API server does not answer.
pub async fn observe(
    object: &VideoUpscale,
    listed: &[Arc<HeardPod>],
    seen: &JobKey,
    ctx: &Context,
    now: Timestamp,
) -> Result<Option<Observed>, Error> {
    let name = || format!("{}/{}", seen.namespace, seen.name);
    let identity = Identity::of(object).ok_or_else(|| Error::Nameless { name: name() })?;
    if identity.key.uid != seen.uid {
        return Ok(None);
    }
    let key = identity.key.clone();
    let mut pods: Vec<SeenPod> = listed.iter().filter_map(|pod| SeenPod::of(Arc::clone(pod), &key)).collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    let job = Job::read(&object.spec);
    let status = object.status.clone().unwrap_or_default();
    let over = [ConditionType::Complete, ConditionType::Failed]
        .into_iter()
        .any(|kind| super::plan::status::is_true(&status, kind));
    let profile = profile(object, ctx, &key).await?;
    let known = known(ctx, &identity, job.as_ref().ok().filter(|_| !over), &profile, now).await?;
    let gpus = pods.iter().filter_map(|pod| pod.gpu.clone());
    let last_pods = gpus.map(|gpu| (gpu.clone(), ctx.fleet.last_pods(&gpu))).collect();
    let views = pods
        .iter()
        .filter_map(|pod| {
            let gpu = pod.gpu.clone()?;
            let view = ctx.fleet.node_view(&gpu)?;
            let (at, sound, attribution) = (view.at, view.state == State::Ok, view.attribution);
            Some((gpu, GpuView { at, sound, attribution, gpu: view.gpu }))
        })
        .collect();
    let fleet = job.as_ref().map(|job| ctx.offer(&job.gpu, now)).unwrap_or_default();
    let unprobed = job.as_ref().ok().filter(|_| !over && status.video.is_none());
    let live_jobs = unprobed.map(|job| live_jobs(ctx, &key, job)).unwrap_or_default();
    let nodes = nodes::observe(ctx, &pods).await?;
    let begun = status.profile.as_ref().map(|profile| profile.name.as_str());
    let named = || match &profile {
        Profile::Found { name, .. } => Some(name.as_str()),
        _ => None,
    };
    let paces = begun.or_else(named).map(|profile| ctx.paces(profile)).unwrap_or_default();
    Ok(Some(Observed {
        job,
        status,
        profile,
        pods,
        claims: ctx.fleet.claims_of(&key),
        outlook: ctx.fleet.outlook(&key),
        views,
        last_pods,
        nodes,
        paces,
        fleet,
        volumes: known.volumes,
        other_release: known.other_release,
        cluster: ctx.cluster.clone(),
        actor: ctx.fleet.config().actor.clone(),
        live_jobs,
        memory: ctx.memory_of(&key),
        release: ctx.release.clone(),
        identity,
    }))
}

/// The pods of a job: as they were heard of, or as they are now.
///
/// # Errors
/// If the API server does not answer.
pub async fn list_pods(key: &JobKey, ctx: &Context, sight: Sight) -> Result<Vec<Arc<HeardPod>>, Error> {
    let heard = ctx.fleet.heard_pods();
    if sight < Sight::Everything
        && let Some(pods) = heard.of(&key.uid, ctx.fleet.up())
    {
        return Ok(pods);
    }
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let ours = ListParams::default().labels(&format!("{}={}", keys::JOB_UID, key.uid));
    let asking = heard.asking(&key.uid, ctx.fleet.up());
    let failed = |source| Error::ListPods { name: format!("{}/{}", key.namespace, key.name), source };
    let list = api.list(&ours).await.map_err(failed)?;
    let version = Version::read(list.metadata.resource_version.as_deref());
    Ok(heard.listed(&key.uid, asking, version, list.items))
}

/// The profile as the job began with it; before that, the one that it names or that is the default.
async fn profile(object: &VideoUpscale, ctx: &Context, key: &JobKey) -> Result<Profile, Error> {
    let begun = object.status.as_ref().and_then(|status| status.profile.clone());
    if let Some(begun) = begun
        && let Some(spec) = frozen(ctx, key, &begun.revision).await?
    {
        let learned = ctx.profile(&begun.name).and_then(|profile| profile.status).unwrap_or_default();
        return Ok(Profile::Frozen { spec: Box::new(spec), learned });
    }
    Ok(resolve(object.spec.profile.as_deref(), &ctx.all_profiles()))
}

/// Finds the profile among those that are there.
fn resolve(named: Option<&str>, profiles: &BTreeMap<String, UpscaleProfile>) -> Profile {
    let is_default = |profile: &&UpscaleProfile| {
        profile
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(keys::DEFAULT_PROFILE))
            .map(String::as_str)
            == Some("true")
    };
    let found = match named {
        Some(name) => profiles.get(name),
        None => profiles.values().find(is_default),
    };
    let offered = || match profiles.len() {
        0 => "none is offered".to_owned(),
        _ => format!("offered: {}", profiles.keys().take(10).cloned().collect::<Vec<_>>().join(", ")),
    };
    match (found, named) {
        (Some(profile), _) => match crate::profile::check(&profile.spec) {
            Ok(()) => Profile::Found {
                name: profile.name_any(),
                spec: Box::new(profile.spec.clone()),
                learned: profile.status.clone().unwrap_or_else(UpscaleProfileStatus::default),
            },
            Err(wrong) => Profile::NotReady {
                message: format!("profile \"{}\" is not usable: {wrong}", profile.name_any()),
            },
        },
        (None, Some(name)) => {
            Profile::Missing { message: format!("profile \"{name}\" is not offered; {}", offered()) }
        }
        (None, None) => Profile::Missing {
            message: format!(
                "no profile is named and none has the label {}=true; {}",
                keys::DEFAULT_PROFILE,
                offered()
            ),
        },
    }
}

/// The spec that a ControllerRevision of this job keeps.
async fn frozen(ctx: &Context, key: &JobKey, revision: &str) -> Result<Option<UpscaleProfileSpec>, Error> {
    if let Some(spec) = ctx.frozen(key) {
        return Ok(Some(spec));
    }
    let api: Api<ControllerRevision> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let failed = |source| Error::Get { kind: "ControllerRevision", name: revision.to_owned(), source };
    let Some(object) = api.get_opt(revision).await.map_err(failed)? else { return Ok(None) };
    let ours = object.metadata.owner_references.iter().flatten().any(|owner| owner.uid == key.uid);
    if !ours {
        return Err(Error::Foreign { kind: "ControllerRevision", name: revision.to_owned() });
    }
    let spec: Option<UpscaleProfileSpec> = serde_json::from_value(object.data.0).ok();
    if let Some(spec) = &spec {
        ctx.keep_frozen(key, spec.clone());
    }
    Ok(spec)
}

/// Volumes and release of the namespace, asked for anew every few seconds by one of the jobs that want to know; not at all for
/// a job that has ended.
async fn known(
    ctx: &Context,
    identity: &Identity,
    job: Option<&Job>,
    profile: &Profile,
    now: Timestamp,
) -> Result<Known, Error> {
    let Some(job) = job else { return Ok(Known::default()) };
    let mut names = BTreeSet::from([job.source_claim.clone(), job.destination_claim.clone()]);
    let models = profile.usable().and_then(|(spec, _)| spec.engine.models.as_ref()?.claim.clone());
    names.extend(models);
    if let Some(known) = ctx.known(identity, &names, now) {
        return Ok(known);
    }
    let namespace = &identity.key.namespace;
    let volumes: Volumes = volumes::observe(ctx, namespace, &names).await?;
    let other_release = other_release(ctx, namespace).await?;
    let believed = if volumes.missing.is_empty() { BELIEVED } else { BELIEVED_MISSING };
    let known = Known { volumes, other_release, span: Some((now, after(now, believed))) };
    ctx.keep_known(namespace, names, known.clone(), now);
    Ok(known)
}

/// The release that works in the namespace, if it is not ours: the one that the namespace is labelled with, or else the
/// one that the cluster's Lease names. A controller that serves a list of namespaces has been told which are its own
/// and obeys labels only; one without the right to read either serves what it sees.
async fn other_release(ctx: &Context, namespace: &str) -> Result<Option<String>, Error> {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    let labelled = match api.get_opt(namespace).await {
        Ok(object) => object.and_then(|namespace| namespace.metadata.labels?.remove(keys::RELEASE)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => None,
        Err(source) => return Err(Error::Get { kind: "Namespace", name: namespace.to_owned(), source }),
    };
    let release = match labelled {
        None if ctx.clusterwide => default_release(ctx).await?,
        labelled => labelled,
    };
    Ok(release.filter(|release| *release != ctx.release.name))
}

/// The release that works in namespaces without a label.
async fn default_release(ctx: &Context) -> Result<Option<String>, Error> {
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), keys::CLUSTER_LEASE_NAMESPACE);
    match api.get_opt(keys::CLUSTER_LEASE).await {
        Ok(lease) => {
            Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|release| !release.is_empty()))
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(source) => Err(Error::Get { kind: "Lease", name: keys::CLUSTER_LEASE.to_owned(), source }),
    }
}

/// UIDs of the jobs of this namespace with the same destination claim: their work folders are not to be swept.
fn live_jobs(ctx: &Context, key: &JobKey, job: &Job) -> Vec<String> {
    let mut uids: Vec<String> = Vec::new();
    ctx.for_each_job(|other| {
        let here = other.metadata.namespace.as_deref() == Some(&key.namespace);
        if here && other.spec.destination.claim.name == job.destination_claim {
            uids.extend(other.metadata.uid.clone());
        }
    });
    uids.sort();
    uids.truncate(MOST_LIVE_JOBS);
    uids
}

#[cfg(test)]
pub(crate) mod tests {
    use kube::runtime::events::{Recorder, Reporter};
    use kube::runtime::reflector;
    use serde_json::{Value, json};

    use super::*;
    use crate::controllers::video_upscale::Parts;
    use crate::controllers::video_upscale::plan::fixtures::observed;
    use crate::fleet::fake_api::FakeApi;
    use crate::fleet::{FleetConfig, FleetHandle};
    use crate::profile::testdata;
    use crate::telemetry::Telemetry;

    pub fn context(api: &FakeApi, clusterwide: bool) -> Context {
        let client = api.client();
        let config = FleetConfig { namespace: "ops".into(), actor: "a".into(), watch_namespaces: Vec::new() };
        let reporter = Reporter { controller: "test".into(), instance: None };
        Context::new(Parts {
            fleet: FleetHandle::new(config),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            telemetry: Telemetry::new(),
            release: observed(json!({})).release,
            cluster: "c".into(),
            clusterwide,
            jobs: Vec::new(),
            profiles: reflector::store().0,
        })
    }

    #[tokio::test]
    async fn a_namespace_belongs_to_the_release_of_its_label_or_else_of_the_cluster() {
        let ours = observed(json!({})).release.name;
        let theirs = Some("theirs".to_owned());
        let labels = |release: &str| json!({keys::RELEASE: release});
        for (name, labels, lease, clusterwide, expected) in [
            ("nobody is named", json!({}), None, true, None),
            ("ours by label", labels(&ours), Some("theirs"), true, None),
            ("another's by label", labels("theirs"), Some(ours.as_str()), true, theirs.clone()),
            ("ours by default", json!({}), Some(ours.as_str()), true, None),
            ("another's by default", json!({}), Some("theirs"), true, theirs.clone()),
            ("an empty name", json!({}), Some(""), true, None),
            ("we serve a list of namespaces", json!({}), Some("theirs"), false, None),
            ("a list, and another's by label", labels("theirs"), None, false, theirs),
        ] {
            let api = FakeApi::default();
            api.put("/api/v1/namespaces/media", json!({"metadata": {"name": "media", "labels": labels}}));
            if let Some(release) = lease {
                let lease: Value =
                    json!({"metadata": {"name": keys::CLUSTER_LEASE}, "spec": {"holderIdentity": release}});
                let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/upscale-cluster";
                api.put(path, lease);
            }
            let found = other_release(&context(&api, clusterwide), "media").await.unwrap();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_job_hears_of_its_surroundings_as_they_were_when_it_came_and_shares_what_it_hears() {
        let api = FakeApi::default();
        let ctx = context(&api, true);
        let label = |release: &str| {
            let labels = json!({keys::RELEASE: release});
            api.put("/api/v1/namespaces/media", json!({"metadata": {"name": "media", "labels": labels}}));
        };
        let observed = observed(json!({}));
        let job = observed.job.as_ref().unwrap();
        let created = observed.identity.created;
        let at = |seconds: u64| after(created, std::time::Duration::from_secs(seconds));
        let asked_by = async |created: Timestamp, now: Timestamp| {
            let identity = Identity { created, ..observed.identity.clone() };
            known(&ctx, &identity, Some(job), &observed.profile, now).await.unwrap().other_release
        };
        label(&observed.release.name);
        assert_eq!(asked_by(at(0), at(2)).await, None);
        label("theirs");
        assert_eq!(asked_by(at(0), at(3)).await, None, "an old job asked just now");
        assert_eq!(asked_by(at(1), at(3)).await, None, "one that had come before it asked");
        let theirs = Some("theirs".to_owned());
        assert_eq!(asked_by(at(2), at(3)).await, theirs, "one that may have come after the label");
        assert_eq!(asked_by(at(0), at(4)).await, theirs, "the old one hears of it, too");
    }

    #[tokio::test]
    async fn an_object_is_taken_as_it_was_heard_of_unless_that_lags() {
        let api = FakeApi::default();
        let ctx = context(&api, true);
        let (key, path) = (
            observed(json!({})).identity.key,
            "/apis/upscale.video/v1alpha1/namespaces/media/videoupscales/holiday",
        );
        let claim = json!({"name": "m"});
        let now = json!({"metadata": {"name": "holiday", "namespace": "media", "uid": key.uid},
            "spec": {"source": {"claim": claim, "path": "a"}, "destination": {"claim": claim, "path": "b"}}});
        api.put(path, now.clone());
        let mut heard: VideoUpscale = serde_json::from_value(now).unwrap();
        let mut version = async |heard_of: &str, sight| {
            heard.metadata.resource_version = Some(heard_of.to_owned());
            let object = object(&heard, &key, &ctx, sight).await.unwrap().unwrap();
            object.metadata.resource_version.clone().unwrap()
        };
        assert_eq!(version("0", Sight::Heard).await, "0");
        assert_eq!(version("0", Sight::Object).await, "1", "as it is now");
        assert_eq!(version("0", Sight::Heard).await, "1", "it never goes back");
        assert_eq!(version("2", Sight::Heard).await, "2");
        ctx.has_written(&key, Some("5"));
        assert_eq!(version("4", Sight::Heard).await, "1", "its own write has not been heard of");
        assert_eq!(version("5", Sight::Heard).await, "5");
        ctx.note_conflict(&key);
        assert_eq!(version("9", Sight::Heard).await, "1", "somebody else has written it");
        assert_eq!(version("9", Sight::Heard).await, "9");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_taken_as_they_were_heard_of_unless_that_is_long_ago_or_not_enough() {
        let api = FakeApi::default();
        let ctx = context(&api, true);
        let key = observed(json!({})).identity.key;
        let owner = json!({"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": key.name,
            "uid": key.uid, "controller": true});
        let put = |name: &str| {
            let meta =
                json!({"name": name, "namespace": "media", "uid": name, "ownerReferences": [owner.clone()]});
            api.put(&format!("/api/v1/namespaces/media/pods/{name}"), json!({"metadata": meta}));
        };
        let seen = async |sight| {
            let pods = list_pods(&key, &ctx, sight).await.unwrap();
            let lists = api.lock().asked.len();
            (pods.iter().filter_map(|pod| pod.meta.name.clone()).collect::<String>(), lists)
        };
        put("a");
        assert_eq!(seen(Sight::Heard).await, ("a".to_owned(), 1), "nothing was heard yet");
        put("b");
        assert_eq!(seen(Sight::Heard).await, ("a".to_owned(), 1));
        assert_eq!(seen(Sight::Object).await, ("a".to_owned(), 1));
        assert_eq!(seen(Sight::Everything).await, ("ab".to_owned(), 2));
        put("c");
        assert_eq!(seen(Sight::Heard).await, ("ab".to_owned(), 2), "what was listed was heard of");
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        assert_eq!(seen(Sight::Heard).await, ("abc".to_owned(), 3), "the watch may have died");
        ctx.memory_of(&key);
        ctx.forget("media", &key.name);
        assert_eq!(seen(Sight::Heard).await, ("abc".to_owned(), 4), "another job of that name");
    }

    fn profiles() -> BTreeMap<String, UpscaleProfile> {
        let mut default = UpscaleProfile::new("flashvsr", testdata::flashvsr());
        default.metadata.labels = Some([(keys::DEFAULT_PROFILE.to_owned(), "true".to_owned())].into());
        let other = UpscaleProfile::new("ncnn", testdata::realesrgan());
        let mut broken = UpscaleProfile::new("broken", testdata::flashvsr());
        broken.spec.engine.args = vec!["{nonsense}".to_owned()];
        [default, other, broken].into_iter().map(|profile| (profile.name_any(), profile)).collect()
    }

    #[test]
    fn profiles_are_found_by_name_or_by_default_and_refused_with_what_is_offered() {
        let profiles = profiles();
        assert!(matches!(resolve(Some("ncnn"), &profiles), Profile::Found { name, .. } if name == "ncnn"));
        assert!(matches!(resolve(None, &profiles), Profile::Found { name, .. } if name == "flashvsr"));
        let Profile::Missing { message } = resolve(Some("fast"), &profiles) else { panic!() };
        assert_eq!(message, "profile \"fast\" is not offered; offered: broken, flashvsr, ncnn");
        assert!(matches!(resolve(Some("broken"), &profiles), Profile::NotReady { .. }));
        assert!(matches!(resolve(None, &BTreeMap::new()), Profile::Missing { .. }));
    }
}
