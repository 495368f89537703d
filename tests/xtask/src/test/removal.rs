//! Removal as `docs/upgrade-removal.md` has it: its own commands, on a cluster with jobs, reports and claims.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::json;
use video_upscale::api::conditions::ConditionType;
use video_upscale::api::keys;

use super::standby;
use super::tenant::Tenant;
use crate::bed::{Bed, OPERATOR_NAMESPACE, RELEASE, TENANT, TENANT_PREFIX};
use crate::command::Run;
use crate::gpu::HOG;

const PAGE: &str = "docs/upgrade-removal.md";
const SECTION: &str = "## Removal";
const NAMESPACE: &str = "removal";
const LIMIT: Duration = Duration::from_secs(30);
/// Parts of names and annotations that are ours.
const OURS: [&str; 2] = [keys::GROUP, RELEASE];

/// After the commands nothing of ours is left but the namespace that they do not name, and a job's namespace can go.
pub async fn leaves_nothing(bed: &Bed, client: &Client) -> Result<()> {
    Tenant::leave(bed, client, NAMESPACE).await?;
    let tenant = Tenant::arrive(bed, client.clone(), NAMESPACE).await?;
    let outcome = remove(bed, &tenant).await;
    let back = bed.install_chart().context("install the chart again");
    let left = Tenant::leave(bed, client, NAMESPACE).await;
    outcome.and(back).and(left)
}

async fn remove(bed: &Bed, tenant: &Tenant) -> Result<()> {
    let job = tenant.job("job", "film.mp4", json!({"suspend": true})).await?;
    job.wait_for_reason(ConditionType::Suspended, "Requested", LIMIT).await?;
    let leases: Api<Lease> = Api::namespaced(tenant.client.clone(), OPERATOR_NAMESPACE);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/managed-by={}", keys::MANAGED_BY));
    let claims = leases.list(&ours).await.context("list claims")?.items;
    ensure!(!claims.is_empty(), "no GPU was ever claimed, so there is nothing to remove");
    let page = bed.checkout().join(PAGE);
    let page = std::fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
    let commands = commands(&page)?;
    for command in &commands {
        println!("    $ {command}");
        let command = of_this_release(command);
        let mut run = Run::new("sh").args(["-euc", &command]);
        for (name, value) in bed.tool_environment()? {
            run = run.env(name, value);
        }
        run.done()?;
    }
    // What belonged to the release's objects goes a little later.
    bed.wait("everything of ours to go", LIMIT, || Ok(left(bed)?.is_empty().then_some(())))
        .or_else(|_| Err(anyhow!("still there: {:?}", left(bed)?)))
}

/// The page speaks of a release by another name.
fn of_this_release(command: &str) -> String {
    command
        .replace("helm uninstall upscale ", &format!("helm uninstall {RELEASE} "))
        .replace("delete lease upscale-controller ", &format!("delete lease {} ", standby::lease()))
}

/// The commands of the section.
fn commands(page: &str) -> Result<Vec<String>> {
    let (_, section) = page.split_once(SECTION).with_context(|| format!("find {SECTION:?} in {PAGE}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let commands: Vec<String> =
        section.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect();
    ensure!(commands.len() >= 4, "{PAGE} has only {} commands", commands.len());
    Ok(commands)
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    kind: String,
    metadata: ObjectMeta,
}

impl Item {
    /// Whether one of our names, labels or annotations is on it, and no test made it.
    fn is_ours(&self) -> bool {
        let ObjectMeta { name, namespace, labels, annotations, .. } = &self.metadata;
        let of_a_test = labels.iter().any(|labels| labels.contains_key(TENANT) || labels.contains_key(HOG))
            || namespace.as_ref().is_some_and(|name| name.starts_with(TENANT_PREFIX));
        let notes = labels.iter().chain(annotations).flatten().flat_map(|(key, value)| [key, value]);
        let mut words = notes.chain(name);
        !of_a_test && words.any(|word| OURS.iter().any(|name| word.contains(name)))
    }
}

/// All objects of all kinds that are ours.
fn left(bed: &Bed) -> Result<BTreeSet<String>> {
    let kinds = bed.kubectl(&["api-resources", "--verbs=list", "--output=name"])?;
    // Events tell of the past, and go by themselves.
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let all = bed.kubectl(&["get", &kinds.join(","), "--all-namespaces", "--output=json"])?;
    let all: List = serde_json::from_str(&all).context("read what is left")?;
    let ours = all.items.iter().filter(|item| item.is_ours());
    Ok(ours
        .map(|item| format!("{} {}", item.kind, item.metadata.name.as_deref().unwrap_or_default()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_the_section_alone_are_read() {
        let page =
            "# A\n$ no\n## Removal\n```\n$ one\n$ two\n$ three # why\n```\ntext\n$ four\n## More\n$ no\n";
        assert_eq!(commands(page).unwrap(), ["one", "two", "three # why", "four"]);
        assert!(commands("## Removal\n$ one\n").is_err());
    }

    #[test]
    fn the_release_of_the_page_is_that_of_the_bed() {
        let page = include_str!("../../../../docs/upgrade-removal.md");
        let commands = commands(page).unwrap();
        let changed = commands.iter().filter(|command| of_this_release(command) != **command);
        assert_eq!(changed.count(), 2, "helm uninstall, and the Lease of the controllers: {commands:#?}");
    }
}
