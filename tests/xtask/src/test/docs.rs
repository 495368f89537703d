//! An installation as the pages tell it, from `helm install` to removal: every command that a reader can type on this
//! cluster, read out of the pages.

mod left;
mod pages;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kube::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::standby;
use super::tenant::Tenant;
use crate::bed::{Bed, OPERATOR_NAMESPACE, TENANT};
use crate::command::Run;
use crate::images::Image;

const NAMESPACE: &str = "docs";
/// Longest that a command may take, seconds.
const LONGEST: &str = "240";
/// Time in which everything of ours goes at the end.
const LIMIT: Duration = Duration::from_secs(30);
/// The pages' job, its film, and a job whose film is nowhere.
const JOB: &str = "holiday";
const FILM: &str = "in/holiday.mp4";
const LOST: &str = "lost";
/// Words of the pages that a reader replaces.
const WORDS: [&str; 7] = ["REGISTRY", "TAG", "AGENT-POD", "NODE", "NAME", "POD", "RELEASE"];

/// The commands end well, the film comes out, a wait for a job without a film ends as well, and after the last command
/// nothing of ours is left but the namespace, which they do not name.
pub async fn every_command_works_and_removal_leaves_nothing(bed: &Bed, client: &Client) -> Result<()> {
    Tenant::leave(bed, client, NAMESPACE).await?;
    let tenant = Tenant::arrive(bed, client.clone(), NAMESPACE).await?;
    bed.remove_chart().context("make room for the pages' release")?;
    bed.kubectl(&["delete", "lease", &standby::lease(), "-n", OPERATOR_NAMESPACE, "--ignore-not-found"])?;
    let outcome = live(bed, &tenant).await;
    let away = bed.releases_of_tests_leave();
    let level = "pod-security.kubernetes.io/enforce-";
    let unlabelled = bed.kubectl(&["label", "namespace", OPERATOR_NAMESPACE, level]);
    let included = bed.exclude(|_| false);
    let back = bed.install_chart().context("install the chart again");
    let left = Tenant::leave(bed, client, NAMESPACE).await;
    outcome.and(away).and(unlabelled.map(drop)).and(included).and(back).and(left)
}

async fn live(bed: &Bed, tenant: &Tenant) -> Result<()> {
    let reader = Reader::new(bed, tenant)?;
    let commands = pages::commands(bed.checkout())?;
    for command in commands.iter().filter(|command| command.not_run().is_none()) {
        let line = reader.filled(&command.line())?;
        println!("    $ {line}");
        reader.types(&line).with_context(|| format!("{}: {line}", command.page))?;
        if line.starts_with("kubectl wait ") {
            tenant.job(LOST, "in/nothing.mp4", json!({})).await?;
            let other = line.replace(&format!("vu/{JOB}"), &format!("vu/{LOST}"));
            ensure!(other != line, "{line} does not wait for {JOB}");
            println!("    $ {other}");
            reader.types(&other).context("wait for a job that fails")?;
        }
    }
    let film = tenant.volume().join("out/holiday-4x.mp4");
    ensure!(film.is_file(), "{} is not there", film.display());
    // What belonged to the release's objects goes a little later.
    bed.wait("everything of ours to go", LIMIT, || Ok(left::left(bed)?.is_empty().then_some(())))
        .or_else(|_| Err(anyhow!("still there: {:?}", left::left(bed)?)))
}

/// Somebody who does what the pages say.
struct Reader<'a> {
    bed: &'a Bed,
    namespace: &'a str,
    /// Where the commands are typed: the chart and the manifest lie there as the pages have them.
    folder: TempDir,
}

impl<'a> Reader<'a> {
    fn new(bed: &'a Bed, tenant: &'a Tenant) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let checkout = bed.checkout();
        std::os::unix::fs::symlink(checkout.join("charts"), folder.path().join("charts"))
            .context("link the chart")?;
        let manifest = manifest(checkout, "docs/quick-start.md")?;
        ensure!(
            manifest == self::manifest(checkout, "README.md")?,
            "README.md and docs/quick-start.md have different manifests"
        );
        std::fs::write(folder.path().join("holiday.yaml"), manifest).context("write the manifest")?;
        std::fs::copy(bed.kubeconfig(), folder.path().join("kubeconfig")).context("copy the kubeconfig")?;
        let reader = Self { bed, namespace: &tenant.namespace, folder };
        reader.types(&format!("kubectl config set-context --current --namespace={}", tenant.namespace))?;
        let film = tenant.volume().join(FILM);
        std::fs::create_dir_all(film.parent().context("a film without a folder")?)
            .context("make the film's folder")?;
        Run::new(bed.film_programs()?.ffmpeg)
            .args(["-v", "error", "-nostdin", "-t", "1", "-i"])
            .args([tenant.film()])
            .args(["-c", "copy"])
            .args([film])
            .done()
            .context("cut the film")?;
        Ok(reader)
    }

    /// The command with the words replaced that stand for something of the reader's, and with what the bed needs.
    fn filled(&self, line: &str) -> Result<String> {
        let image = |image: Image| self.bed.image(image);
        let tag = |of: Image| image(of).rsplit_once(':').map_or("", |(_, tag)| tag);
        let values = self.bed.checkout().join("tests/xtask/bed-values.yaml");
        let install = "helm install upscale charts/video-upscale";
        let installed = format!(
            "{install} --values {} --labels {TENANT}={} --set-string controller.image.tag={},agent.image.tag={},worker.image.tag={}",
            values.display(),
            self.namespace,
            tag(Image::Controller),
            tag(Image::Agent),
            tag(Image::Worker),
        );
        let registry = image(Image::Controller).split('/').next().unwrap_or_default();
        let mut line = line.to_owned();
        for (from, to) in [
            (install, installed.as_str()),
            ("REGISTRY/flashvsr-weights:TAG", image(Image::Models)),
            ("REGISTRY/flashvsr:TAG", image(Image::Engine)),
            ("REGISTRY", registry),
            ("helm test RELEASE", "helm test upscale"),
            ("node NODE", "node node-b"),
            ("vup NAME", "vup flashvsr"),
            ("vu NAME", &format!("vu {JOB}")),
            ("vu/NAME", &format!("vu/{JOB}")),
            // The README tells of the demo's job and namespace.
            ("vu demo", &format!("vu {JOB}")),
            ("-n media", &format!("-n {}", self.namespace)),
        ] {
            line = line.replace(from, to);
        }
        if line.contains("AGENT-POD") {
            let agents = ["-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/component=agent"];
            line = line.replace("AGENT-POD", &self.pod(&agents)?);
        }
        if line.contains("logs POD") {
            let job = format!("upscale.video/job={LOST}");
            line =
                line.replace("logs POD", &format!("logs {}", self.pod(&["-n", self.namespace, "-l", &job])?));
        }
        let left: Vec<&str> = words(&line).filter(|word| WORDS.contains(word)).collect();
        ensure!(left.is_empty(), "nobody fills in {left:?} of {line}");
        Ok(line)
    }

    fn pod(&self, chosen: &[&str]) -> Result<String> {
        let args = [&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"], chosen].concat();
        self.bed.kubectl(&args).with_context(|| format!("look for a pod {chosen:?}"))
    }

    /// Types a command and waits for its end; a watch ends once it has told of the job.
    fn types(&self, line: &str) -> Result<()> {
        let watches = line.split(' ').any(|word| word == "--watch" || word == "-w");
        if watches {
            return self.watches(line);
        }
        let mut run = Run::new("timeout").args([LONGEST, "sh", "-euc", line]).dir(self.folder.path());
        for (name, value) in self.bed.tool_environment()? {
            run = run.env(name, value);
        }
        run.env("KUBECONFIG", self.folder.path().join("kubeconfig")).done()
    }

    fn watches(&self, line: &str) -> Result<()> {
        let mut child = Command::new("timeout")
            .args([LONGEST, "sh", "-euc", &format!("exec {line}")])
            .current_dir(self.folder.path())
            .envs(self.bed.tool_environment()?)
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .stdout(Stdio::piped())
            .spawn()
            .context("start it")?;
        let stdout = child.stdout.take().context("read it")?;
        let mut lines = BufReader::new(stdout).lines();
        let told = lines.any(|line| line.is_ok_and(|line| line.starts_with(JOB)));
        // It hands the signal on.
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
        let _ended_by_itself = kill_process(pid, Signal::TERM);
        child.wait().context("wait for its end")?;
        ensure!(told, "it does not tell of {JOB}");
        Ok(())
    }
}

/// The manifest that a page shows.
fn manifest(checkout: &Path, page: &str) -> Result<String> {
    let text = std::fs::read_to_string(checkout.join(page)).with_context(|| format!("read {page}"))?;
    let mut blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains("kind: VideoUpscale"));
    let block = block.with_context(|| format!("{page} shows no job"))?;
    let indent = block.find(|c: char| c != ' ').unwrap_or(0);
    let lines: Vec<&str> = block.lines().map(|line| line.get(indent..).unwrap_or_default()).collect();
    Ok(format!("{}\n", lines.join("\n").trim_end()))
}

/// The words of a command.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).filter(|word| word.len() > 2)
}

/// Words in capitals that a reader is to replace, as it seems, and that nobody knows here.
#[cfg(test)]
fn unknown_words(line: &str) -> Vec<&str> {
    let shouted = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase() || c == '-' || c == '_');
    words(line).filter(shouted).filter(|word| !word.starts_with('-') && !WORDS.contains(word)).collect()
}
