//! `cargo xtask demo`: a real film through the real thing, past a foreign process and past an out-of-memory end, shown
//! as a user would see it.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts and times of a test; an overflow is a failed test"
)]

mod accidents;
pub mod attempts;
pub mod film;
pub mod neighbours;
mod outcome;
mod safety;
mod transcript;
pub mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gpusim::control::GpuState;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use video_upscale::api::conditions::{ConditionType, find};
use video_upscale::api::profile::UpscaleProfile;
use video_upscale::api::quantity::display;
use video_upscale::api::video_upscale::{VideoUpscale, VideoUpscaleStatus};

use crate::bed::{self, Bed, MADE_FOR, TENANT_NAMESPACE, TEST, UpOptions};
use crate::job::{Job, manifest, summary};
use crate::transfer::{self, Place};
use accidents::Accidents;
use film::Film;
use neighbours::Neighbours;
pub use outcome::Outcome;
use transcript::Transcript;
use watch::Watch;

/// Namespace of the demo's tenant.
pub const NAMESPACE: &str = TENANT_NAMESPACE;
/// Claim of the demo's tenant.
pub const CLAIM: &str = TENANT_NAMESPACE;
/// Longest that the job of the story may take; a film of the user's takes what it takes.
const LIMIT: Duration = Duration::from_secs(900);

/// What the demo does.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Film to upscale; default: a few seconds of Big Buck Bunny that come with the project
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Upscaling factor; default: 4 below 720 lines, else 2
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=4))]
    scale: Option<u32>,
    /// Write what happened to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Let more go wrong: no GPU is free at first, an engine crashes, another leaves a black picture, and somebody deletes a
    /// pod at work
    #[arg(long, conflicts_with = "input")]
    accidents: bool,
    /// Write what kubectl prints of the job to this folder: `get -w`, `describe`, `get events`, and `get -o wide` while it waits
    #[arg(long, value_name = "FOLDER")]
    transcript: Option<PathBuf>,
    /// Leave the bed up at the end, to look around in; one that was up before stays in any case
    #[arg(long)]
    keep: bool,
    #[arg(skip = "demo".to_owned())]
    name: String,
    #[arg(skip = true)]
    whole_story: bool,
    /// Whether the job is one to look at afterwards.
    #[arg(skip = "demo")]
    made_for: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            input: None,
            scale: None,
            json: None,
            accidents: false,
            transcript: None,
            keep: true,
            name: "demo".into(),
            whole_story: true,
            made_for: "demo",
        }
    }
}

impl Options {
    /// The same scenario under another name, of which only the film is asserted.
    pub fn quiet(name: &str) -> Self {
        Self { name: name.to_owned(), whole_story: false, made_for: TEST, ..Self::default() }
    }
}

/// Brings the bed up, runs the scenario, says where the result lies. A bed that was there before stays.
pub fn run(options: &Options) -> Result<()> {
    let stood = bed::stands()?;
    let bed = Bed::up(&UpOptions::default())?;
    let own_film = options.input.is_none();
    let options = Options { whole_story: own_film, ..options.clone() };
    let told = tell(&bed, &options);
    if options.keep || stood {
        println!(
            "The bed is up: eval \"$(cargo xtask env)\"; kubectl -n {NAMESPACE} describe vu {}; cargo xtask down",
            options.name
        );
        return told.inspect(|()| bed.tell_untested());
    }
    told.inspect(|()| bed.tell_untested()).and(bed::down())
}

/// The scenario, with its result and what happened copied to where the bed's end does not reach.
fn tell(bed: &Bed, options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start the async runtime")?;
    let mut outcome = runtime.block_on(scenario(bed, options))?;
    let file = Path::new(&outcome.result.path).file_name().context("name the result")?;
    let result = bed.checkout().join("target/demo").join(file);
    if let Some(folder) = result.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    std::fs::copy(&outcome.result.path, &result).with_context(|| format!("copy to {}", result.display()))?;
    outcome.result.path = result.display().to_string();
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&outcome).context("print the outcome")?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    println!("\nThe result lies at {}", result.display());
    Ok(())
}

/// The scenario on a bed that is up: neighbours move in, the job is applied, watched and verified.
pub async fn scenario(bed: &Bed, options: &Options) -> Result<Outcome> {
    let began = Instant::now();
    let client = bed.client().await?;
    let default_film = bed.checkout().join("tests/clips/big-buck-bunny.mp4");
    let input = options.input.clone().unwrap_or(default_film);
    let volume = bed.volume_path(NAMESPACE, CLAIM)?;
    let (from, to) = places(&input, &options.name)?;
    clear(&client, &options.name, &volume.join(&to)).await?;
    unlearn(&client).await?;
    transfer::put(bed, &input, NAMESPACE, &Place { claim: CLAIM.to_owned(), path: PathBuf::from(&from) })?;

    let neighbours = Neighbours::move_in(bed)?;
    let accidents = if options.accidents { Some(Accidents::prepare(bed, &neighbours)?) } else { None };
    let others = Others { neighbours: &neighbours, accidents: accidents.as_ref() };
    let outcome = with_others(bed, &client, options, &input, &from, &to, &others).await;
    let undone = accidents.map_or(Ok(()), Accidents::undo);
    let left = neighbours.move_out();
    let mut outcome = outcome?;
    undone.and(left)?;
    outcome.wall_seconds = began.elapsed().as_secs();
    outcome.print();
    outcome.verify_safety()?;
    if options.whole_story {
        outcome.verify_story()?;
    }
    if options.accidents {
        outcome.verify_accidents()?;
    }
    Ok(outcome)
}

/// Who and what gets in the job's way.
struct Others<'a> {
    neighbours: &'a Neighbours<'a>,
    accidents: Option<&'a Accidents<'a>>,
}

impl Others<'_> {
    /// Waits until the agents have told of all who are there from the beginning.
    async fn wait_until_reported(&self, client: &Client) -> Result<()> {
        let filled = self.accidents.map_or(&[][..], |accidents| &accidents.filled);
        self.neighbours.wait_until_reported(client, filled).await
    }

    /// Gets in its way. Ends only with an error.
    async fn trouble(
        &self,
        client: &Client,
        job: &Job,
        transcript: Option<&Transcript<'_>>,
    ) -> anyhow::Error {
        let happened = match self.accidents {
            Some(accidents) => accidents.happen(client, job, self.neighbours, transcript).await,
            None => self.neighbours.barge_in(job, &[]).await,
        };
        match happened {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    }
}

async fn with_others(
    bed: &Bed,
    client: &Client,
    options: &Options,
    input: &Path,
    from: &str,
    to: &str,
    others: &Others<'_>,
) -> Result<Outcome> {
    others.wait_until_reported(client).await?;
    let gpus = bed.gpus()?;
    print_gpus(&gpus);
    let manifest = described(options, from, to);
    println!("\n$ kubectl -n {NAMESPACE} apply -f {}.yaml; kubectl -n {NAMESPACE} get vu -w", options.name);
    let transcript =
        options.transcript.as_deref().map(|folder| Transcript::begin(bed, folder)).transpose()?;
    let job = Job::create(client, NAMESPACE, &manifest).await?;
    let names =
        gpus.iter().map(|gpu| (gpu.uuid.clone(), format!("{} #{} ({})", gpu.node, gpu.index, gpu.model)));
    let watch = Watch::start(client, &job, &names.collect());
    let following = watch.until_finished(&job);
    let limited = async {
        match options.input {
            None => tokio::time::timeout(LIMIT, following).await,
            Some(_) => Ok(following.await),
        }
    };
    let attempts = tokio::select! {
        attempts = limited => attempts,
        error = others.trouble(client, &job, transcript.as_ref()) => return Err(error),
    };
    transcript.map_or(Ok(()), |transcript| transcript.end(&job.name))?;
    let state = job.get().await?;
    let status = state.status.clone().unwrap_or_default();
    let attempts =
        attempts.with_context(|| format!("the job has not ended; it says: {}", summary(&status)))??;
    let complete = find(&status.conditions, ConditionType::Complete);
    ensure!(complete.is_some_and(|c| c.status == "True"), "the job has failed: {}", why(&status));
    // Only now: what is no film is for the job to refuse.
    let programs = bed.film_programs()?;
    let source = Film::decode(&programs, input)?;
    let result = Film::decode(&programs, &bed.volume_path(NAMESPACE, CLAIM)?.join(to))?;
    source.verify_upscaled(&result, scale_of(&status)?)?;
    let made = state.metadata.creation_timestamp.context("the job does not say when it was made")?.0;
    Outcome::new(bed, made, &source, &result, &status, attempts)
}

/// The job. The story wants many short segments, and as many at once as there are cards on which the best step fits
/// whatever the misjudged one teaches; of a film of the user's nothing is said but its scale.
fn described(options: &Options, from: &str, to: &str) -> Value {
    let mut spec = match options.input {
        None => json!({"parallelism": 6, "segmentation": {"frames": 16}, "encode": {"preset": "Fast"}}),
        Some(_) => json!({}),
    };
    if let (Some(scale), Some(spec)) = (options.scale, spec.as_object_mut()) {
        spec.insert("scale".into(), scale.into());
    }
    let mut manifest = manifest(&options.name, CLAIM, from, to, spec);
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".into(), json!({MADE_FOR: options.made_for}));
    }
    manifest
}

/// Reason and message of a job's failure.
fn why(status: &VideoUpscaleStatus) -> String {
    let failed = find(&status.conditions, ConditionType::Failed).filter(|failed| failed.status == "True");
    failed.map_or_else(|| summary(status), |failed| format!("{}: {}", failed.reason, failed.message))
}

fn scale_of(status: &VideoUpscaleStatus) -> Result<u32> {
    let video = status.video.as_ref().context("the status does not describe the film")?;
    u32::try_from(video.scale).context("read the scale")
}

/// Where the film lies and where the result goes, on the claim; the container stays the same.
fn places(input: &Path, name: &str) -> Result<(String, String)> {
    let file = input.file_name().and_then(|f| f.to_str()).context("the film needs a name in plain text")?;
    let extension = input.extension().and_then(|e| e.to_str());
    let extension = extension.filter(|e| ["mp4", "mov", "mkv"].contains(e)).unwrap_or("mkv");
    Ok((format!("in/{file}"), format!("out/{name}.{extension}")))
}

/// Takes away what an earlier run left.
async fn clear(client: &Client, name: &str, result: &Path) -> Result<()> {
    let jobs: Api<VideoUpscale> = Api::namespaced(client.clone(), NAMESPACE);
    if let Some(old) = jobs.get_opt(name).await.context("look for an earlier job")? {
        let uid = old.uid().unwrap_or_default();
        jobs.delete(name, &DeleteParams::foreground()).await.context("delete the earlier job")?;
        let gone = await_condition(jobs, name, is_deleted(&uid));
        tokio::time::timeout(Duration::from_secs(60), gone)
            .await
            .context("wait for the earlier job to go")??;
    }
    for path in [result.to_owned(), with_suffix(result, ".upscale.json")] {
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("remove {}", path.display())),
        }
    }
    Ok(())
}

/// Lets the operator forget what an earlier run taught it of memory, or it would not be surprised again.
pub async fn unlearn(client: &Client) -> Result<()> {
    let profiles: Api<UpscaleProfile> = Api::all(client.clone());
    let nothing = Patch::Merge(json!({"status": {"learned": []}}));
    for profile in profiles.list(&ListParams::default()).await.context("list the profiles")?.items {
        let name = profile.name_any();
        let patched = profiles.patch_status(&name, &PatchParams::default(), &nothing).await;
        patched.with_context(|| format!("clear the status of profile {name}"))?;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

fn print_gpus(gpus: &[GpuState]) {
    println!("\nGPUs:");
    println!("  {:<7} {:>2}  {:<26} {:>8} {:>8}  WHO", "NODE", "#", "MODEL", "TOTAL", "FREE");
    for gpu in gpus {
        let holders = gpu.holders.iter().map(|h| format!("pid {} holds {}", h.pid, display(h.bytes)));
        println!(
            "  {:<7} {:>2}  {:<26} {:>8} {:>8}  {}",
            gpu.node,
            gpu.index,
            gpu.model,
            display(gpu.total),
            display(gpu.free),
            holders.collect::<Vec<_>>().join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_film_of_the_users_nothing_is_said_but_its_scale() {
        let spec = |options: &Options| {
            let manifest = described(options, "in/a.mkv", "out/demo.mkv");
            let mut spec = manifest["spec"].as_object().unwrap().clone();
            spec.retain(|name, _| name != "source" && name != "destination");
            Value::Object(spec)
        };
        let own = Options { input: Some("a.mkv".into()), scale: Some(2), ..Options::default() };
        assert_eq!(spec(&own), json!({"scale": 2}));
        assert_eq!(spec(&Options::default())["segmentation"]["frames"], 16);
    }
}
