//! The profile loop: applies the profiles that the chart brings, says of each profile whether it is usable, and keeps
//! what was learnt of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;

use super::video_upscale::error::is_conflict;
use super::video_upscale::memory::since;
use super::video_upscale::plan::Lesson;
use crate::api::conditions::{self, one_line};
use crate::api::keys;
use crate::api::profile::{Incompatible, Learned, UpscaleProfile, UpscaleProfileStatus};
use crate::profile;
use crate::telemetry::Telemetry;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A profile as watched.
pub type Guarded = DeserializeGuard<UpscaleProfile>;

/// Most needs that are kept per profile; the least recently seen goes first.
const MOST_LEARNED: usize = 64;
/// Most models that are kept as incompatible.
const MOST_INCOMPATIBLE: usize = 16;
/// A need that is only confirmed is written again after that long.
const CONFIRMED_AGAIN: Duration = Duration::from_secs(3600);
/// How often a lesson is written anew because somebody else wrote meanwhile.
const LEARN_TRIES: u32 = 5;
/// Pause after a failure.
const AGAIN: Duration = Duration::from_secs(15);
/// Largest file of a profile, bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Why a profile could not be dealt with.
#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be read.
    #[error("read profile {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no profile.
    #[error("profile {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A profile could not be applied.
    #[error("apply profile {name}: {source}")]
    Apply {
        /// Name of the profile.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// A profile could not be read.
    #[error("get profile {name}: {source}")]
    Get {
        /// Name of the profile.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// A profile's status could not be written.
    #[error("write status of profile {name}: {source}")]
    WriteStatus {
        /// Name of the profile.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

impl Error {
    /// Whether time may heal it: the API server is away, or does not serve our resources yet.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Apply { source: kube::Error::Api(status), .. } => {
                !status.is_invalid() && !status.is_forbidden()
            }
            Self::Apply { .. } | Self::Get { .. } | Self::WriteStatus { .. } => true,
            Self::Read { .. } | Self::Parse { .. } => false,
        }
    }

    /// Whether the API server does not let us, whatever we try.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Get { source: kube::Error::Api(status), .. }
            | Self::WriteStatus { source: kube::Error::Api(status), .. } => {
                status.is_forbidden() || status.is_invalid() || status.is_not_found()
            }
            _ => false,
        }
    }

    /// Whether somebody else wrote first.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::WriteStatus { source, .. } if is_conflict(source))
    }
}

/// Applies the profiles of a folder. Each file has one; a folder that is not there has none. What one file does wrong
/// keeps no other from being applied.
///
/// # Errors
/// One for each file that was not applied.
pub async fn apply_folder(client: &Client, folder: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for path in files(folder).await {
        if let Err(error) = apply_file(client, &path).await {
            errors.push(error);
        }
    }
    errors
}

/// The YAML files of a folder in order of their names; a mounted ConfigMap shows them as links.
async fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return paths };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

async fn apply_file(client: &Client, path: &Path) -> Result<(), Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let wrong = |message: String| Error::Parse { path: path.to_owned(), message };
    if tokio::fs::metadata(path).await.map_err(read)?.len() > MAX_FILE {
        return Err(wrong(format!("larger than {MAX_FILE} bytes")));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(read)?;
    let object: serde_json::Value = serde_saphyr::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let typed: UpscaleProfile = serde_json::from_value(object.clone()).map_err(|e| wrong(e.to_string()))?;
    let name = typed.metadata.name.ok_or_else(|| wrong("has no metadata.name".to_owned()))?;
    let api: Api<UpscaleProfile> = Api::all(client.clone());
    let params = PatchParams::apply(keys::FIELD_MANAGER_PROFILE).force();
    api.patch(&name, &params, &Patch::Apply(object)).await.map_err(|source| Error::Apply { name, source })?;
    Ok(())
}

/// The controller of profiles, before it runs; its store fills once it does.
pub fn controller(watch: &Client) -> (Controller<Guarded>, Store<Guarded>) {
    let profiles: Api<Guarded> = Api::all(watch.clone());
    let controller = Controller::new(profiles, watcher::Config::default())
        .with_config(controller::Config::default().concurrency(1));
    let store = controller.store();
    (controller, store)
}

/// What the passes over profiles share.
pub struct Context {
    /// Client for requests.
    pub client: Client,
    /// Metrics.
    pub telemetry: Telemetry,
}

/// Runs the controller until the shutdown.
pub async fn run(
    controller: Controller<Guarded>,
    ctx: Arc<Context>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let results = controller.graceful_shutdown_on(shutdown).run(reconcile, error_policy, ctx);
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        if let Err(error) = result
            && !matches!(error, controller::Error::ObjectNotFound(_))
        {
            tracing::warn!(%error, "profile pass failed");
        }
    }
}

async fn reconcile(object: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, Error> {
    #[expect(clippy::disallowed_methods, reason = "edge: the one reading of the clock of a pass")]
    let now = Timestamp::now();
    let Ok(profile) = &object.0 else {
        ctx.telemetry.metrics.undecodable.get_or_create(&[("kind", "UpscaleProfile")]).inc();
        return Ok(Action::await_change());
    };
    let old = profile.status.clone().unwrap_or_default();
    let new = judged(profile, &old, now);
    if new != old {
        write(&ctx.client, profile, &new).await?;
    }
    Ok(Action::await_change())
}

fn error_policy(_: Arc<Guarded>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(AGAIN)
}

/// A status with what was learnt of a spec of that digest, and of no other.
fn about(old: &UpscaleProfileStatus, of: &str) -> UpscaleProfileStatus {
    let mut new = old.clone();
    // A status from before this was kept is believed.
    if new.learned_of.replace(of.to_owned()).is_some_and(|before| before != of) {
        new.learned.clear();
        new.incompatible.clear();
    }
    new
}

/// The status of a profile with its condition `Ready` as it should be.
fn judged(profile: &UpscaleProfile, old: &UpscaleProfileStatus, now: Timestamp) -> UpscaleProfileStatus {
    let generation = profile.metadata.generation.unwrap_or(0);
    let (status, reason, message) = match profile::check(&profile.spec) {
        Ok(()) => ("True", "Valid", "May be used".to_owned()),
        Err(wrong) => ("False", "InvalidTemplate", one_line(&wrong.to_string())),
    };
    let before = old.conditions.iter().find(|condition| condition.type_ == "Ready");
    let moved =
        before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    let mut new = about(old, &profile::digest(&profile.spec));
    new.observed_generation = generation;
    new.conditions = vec![Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: moved.unwrap_or_else(|| whole(now)),
        observed_generation: Some(generation),
    }];
    new
}

fn whole(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

async fn write(
    client: &Client,
    profile: &UpscaleProfile,
    status: &UpscaleProfileStatus,
) -> Result<(), Error> {
    let name = profile.name_any();
    let api: Api<UpscaleProfile> = Api::all(client.clone());
    let patch = json!({
        "apiVersion": keys::API_VERSION,
        "kind": "UpscaleProfile",
        "metadata": {"name": name, "resourceVersion": profile.metadata.resource_version},
        "status": status,
    });
    let params = PatchParams::apply(keys::FIELD_MANAGER_PROFILE).force();
    let written = api.patch_status(&name, &params, &Patch::Apply(patch)).await;
    written.map(drop).map_err(|source| Error::WriteStatus { name, source })
}

/// Keeps what ends have taught about a profile whose spec had that digest. A profile that is gone, or another one by
/// now, teaches nobody.
///
/// # Errors
/// If it cannot be read or written; a conflict only if others were faster each time.
pub async fn learn(
    client: &Client,
    name: &str,
    of: &str,
    lessons: &[Lesson],
    now: Timestamp,
) -> Result<(), Error> {
    let mut tries = LEARN_TRIES;
    loop {
        tries = tries.saturating_sub(1);
        match learn_once(client, name, of, lessons, now).await {
            Err(error) if error.is_conflict() && tries > 0 => {}
            other => return other,
        }
    }
}

async fn learn_once(
    client: &Client,
    name: &str,
    of: &str,
    lessons: &[Lesson],
    now: Timestamp,
) -> Result<(), Error> {
    let api: Api<UpscaleProfile> = Api::all(client.clone());
    let failed = |source| Error::Get { name: name.to_owned(), source };
    let Some(profile) = api.get_opt(name).await.map_err(failed)? else { return Ok(()) };
    if profile::digest(&profile.spec) != of {
        return Ok(());
    }
    let old = profile.status.clone().unwrap_or_default();
    let new = taught(&about(&old, of), lessons, now);
    if new == old { Ok(()) } else { write(client, &profile, &new).await }
}

/// Takes a need into what is known of its class. What has been needed once may be needed again: a need only grows, and
/// one that binds a model is narrowed to a card only while no second end has confirmed it. An end that is judged again,
/// as after a death of the controller, is not a second one.
fn heed(fact: &mut Learned, told: Learned, now: Timestamp) {
    if told.gpu.is_some() {
        if fact.samples <= 1 && fact.need_bytes <= told.need_bytes && fact.gpu != told.gpu {
            *fact = told;
        }
        return;
    }
    if told.first.is_some() && told.first == fact.first {
        return;
    }
    let news = told.need_bytes > fact.need_bytes || fact.gpu.is_some() || fact.samples <= 1;
    if news || since(fact.last_seen.0, now) > CONFIRMED_AGAIN {
        fact.need_bytes = fact.need_bytes.max(told.need_bytes);
        fact.gpu = None;
        fact.first = None;
        fact.samples = fact.samples.saturating_add(1);
        fact.last_seen = whole(now);
    }
}

/// A status with lessons taken in.
pub(super) fn taught(old: &UpscaleProfileStatus, lessons: &[Lesson], now: Timestamp) -> UpscaleProfileStatus {
    let mut new = old.clone();
    for lesson in lessons {
        match lesson {
            Lesson::Need { model, step, class, bytes, card, only } => {
                let told = Learned {
                    gpu_model: model.clone(),
                    step: i32::try_from(*step).unwrap_or(i32::MAX),
                    picture_class: class.clone(),
                    need_bytes: i64::try_from(*bytes).unwrap_or(i64::MAX),
                    gpu: card.clone(),
                    first: only.clone(),
                    samples: 1,
                    last_seen: whole(now),
                };
                let same = |fact: &&mut Learned| {
                    (&fact.gpu_model, fact.step, &fact.picture_class)
                        == (&told.gpu_model, told.step, &told.picture_class)
                };
                match new.learned.iter_mut().find(same) {
                    Some(fact) => heed(fact, told, now),
                    None => new.learned.push(told),
                }
            }
            Lesson::Incompatible { model, reason } => {
                if !new.incompatible.iter().any(|known| known.gpu_model == *model) {
                    let reason = conditions::one_line(reason);
                    new.incompatible.push(Incompatible {
                        gpu_model: model.clone(),
                        reason,
                        since: whole(now),
                    });
                }
            }
        }
    }
    new.learned.sort_by_key(|fact| std::cmp::Reverse(fact.last_seen.0));
    new.learned.truncate(MOST_LEARNED);
    new.learned.sort_by(|a, b| {
        (&a.gpu_model, a.step, &a.picture_class).cmp(&(&b.gpu_model, b.step, &b.picture_class))
    });
    let surplus = new.incompatible.len().saturating_sub(MOST_INCOMPATIBLE);
    new.incompatible.drain(..surplus);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testdata::flashvsr;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn need(model: &str, bytes: u64) -> Lesson {
        Lesson::Need {
            model: model.into(),
            step: 3,
            class: "328x188@2".into(),
            bytes,
            card: None,
            only: None,
        }
    }

    #[test]
    fn needs_only_grow_and_are_bounded() {
        let once = taught(&UpscaleProfileStatus::default(), &[need("A", 10), need("B", 5)], at(1));
        assert_eq!(once.learned.len(), 2);
        let twice = taught(&once, &[need("A", 9)], at(2));
        assert_eq!((twice.learned[0].need_bytes, twice.learned[0].samples), (10, 2), "confirmed");
        assert_eq!(taught(&twice, &[need("A", 9)], at(2)), twice, "nothing new is no write");
        let more = taught(&twice, &[need("A", 11)], at(2));
        assert_eq!((more.learned[0].need_bytes, more.learned[0].samples), (11, 3));
        let many: Vec<Lesson> = (0..100).map(|i| need(&format!("M{i:03}"), 1)).collect();
        let full = taught(&more, &many, at(3));
        assert_eq!(full.learned.len(), MOST_LEARNED);
        assert!(!full.learned.iter().any(|fact| fact.gpu_model == "B"), "the least recently seen goes first");
    }

    #[test]
    fn a_need_is_narrowed_to_a_card_only_until_a_second_end_confirms_it() {
        let of_card = |bytes| {
            let Lesson::Need { model, step, class, .. } = need("A", 0) else { unreachable!() };
            Lesson::Need { model, step, class, bytes, card: Some("GPU-1".into()), only: None }
        };
        let learnt = |old: &UpscaleProfileStatus, lesson: Lesson| taught(old, &[lesson], at(2));
        let once = learnt(&UpscaleProfileStatus::default(), need("A", 10));
        let narrowed = learnt(&once, of_card(10));
        assert_eq!(narrowed.learned[0].gpu.as_deref(), Some("GPU-1"));
        assert_eq!(learnt(&narrowed, of_card(10)), narrowed, "nothing new is no write");
        let confirmed = learnt(&narrowed, need("A", 9));
        assert_eq!((confirmed.learned[0].gpu.as_deref(), confirmed.learned[0].need_bytes), (None, 10));
        assert_eq!(learnt(&confirmed, of_card(10)), confirmed, "it binds the model for good");
        assert_eq!(learnt(&once, of_card(9)), once, "somebody else saw more");
        assert_eq!(learnt(&UpscaleProfileStatus::default(), of_card(10)).learned[0].samples, 1);
    }

    #[test]
    fn a_profile_is_judged_once_per_change() {
        let mut profile = UpscaleProfile::new("flashvsr", flashvsr());
        profile.metadata.generation = Some(1);
        let good = judged(&profile, &UpscaleProfileStatus::default(), at(1));
        assert_eq!((good.conditions[0].status.as_str(), good.observed_generation), ("True", 1));
        assert_eq!(judged(&profile, &good, at(9)), good);
        let known = taught(&good, &[need("A", 10)], at(1));
        assert_eq!(judged(&profile, &known, at(9)), known, "what was learnt stays");
        profile.spec.engine.args.push("{nonsense}".into());
        profile.metadata.generation = Some(2);
        let bad = judged(&profile, &known, at(9));
        assert_eq!(bad.learned, [], "it was learnt of another engine");
        assert_eq!(
            (bad.conditions[0].reason.as_str(), bad.conditions[0].status.as_str()),
            ("InvalidTemplate", "False")
        );
        assert_eq!(bad.conditions[0].last_transition_time.0, at(9));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_has_no_profiles() {
        assert!(files(Path::new("/nonexistent/profiles")).await.is_empty());
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "README.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = files(folder.path()).await;
        assert!(found[0].ends_with("a.yml") && found[1].ends_with("b.yaml") && found.len() == 2);
    }
}
