//! A container as a process: its words and environment, with the folders behind its mounts in place of their paths. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use kube::ResourceExt;

use crate::config::ImageFolder;

/// Every address of the machine; a pod of ours means its own.
const EVERY_ADDRESS: &str = "0.0.0.0";
/// Says which GPUs a container sees.
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// What a container is run in.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Its pod.
    pub pod: &'a Pod,
    /// Its pod's address.
    pub address: &'a str,
    /// Its node's address.
    pub node: &'a str,
    /// Its image.
    pub image: &'a ImageFolder,
    /// Folders and files behind its mounts, by path in the container.
    pub mounts: &'a BTreeMap<String, PathBuf>,
    /// What it gets if it may see a GPU.
    pub driver: &'a BTreeMap<String, String>,
    /// PATH of the machine.
    pub path: &'a str,
}

/// A process to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
}

/// Makes the process of a container.
///
/// # Errors
/// When a variable comes from where this runner does not look, or there is no program.
pub fn words(container: &Container, around: &Surroundings<'_>) -> Result<Words> {
    let mut env = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = value(variable, around).with_context(|| format!("set {}", variable.name))?;
        env.insert(variable.name.clone(), expanded(&value, &env));
    }
    let said = container.command.clone().filter(|command| !command.is_empty());
    let mut words: Vec<String> = said.unwrap_or_else(|| around.image.entrypoint.clone());
    words.extend(container.args.iter().flatten().cloned());
    let mut words: Vec<String> = words.iter().map(|word| here(&expanded(word, &env), around)).collect();
    let Some(program) = words.first_mut() else { bail!("container {} has no program", container.name) };
    let inside = around.image.root.join(if program.starts_with('/') {
        program.trim_start_matches('/').to_owned()
    } else {
        format!("usr/bin/{program}")
    });
    if inside.exists() {
        *program = inside.to_string_lossy().into_owned();
    }
    for (mount, flag) in &around.image.mount_flags {
        if let Some(folder) = around.mounts.get(mount) {
            words.extend([flag.clone(), folder.to_string_lossy().into_owned()]);
        }
    }
    let mut env: BTreeMap<String, String> =
        env.into_iter().map(|(name, value)| (name, here(&value, around))).collect();
    let programs = around.image.root.join("usr/bin");
    env.entry("PATH".to_owned()).or_insert_with(|| format!("{}:{}", programs.display(), around.path));
    let classed = around.pod.spec.as_ref().is_some_and(|spec| spec.runtime_class_name.is_some());
    if classed && env.get(VISIBLE).is_some_and(|visible| visible != "void") {
        env.extend(around.driver.clone());
    }
    Ok(Words { words, env })
}

fn value(variable: &EnvVar, around: &Surroundings<'_>) -> Result<String> {
    let Some(from) = &variable.value_from else { return Ok(variable.value.clone().unwrap_or_default()) };
    let field = from.field_ref.as_ref().context("this runner knows fields of the pod only")?;
    of_the_pod(&field.field_path, around.pod, around.address, around.node)
}

/// A field of a pod, as variables and volumes name it.
///
/// # Errors
/// When it is none that this runner knows.
pub fn of_the_pod(field: &str, pod: &Pod, address: &str, node: &str) -> Result<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    Ok(match field {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => spec.node_name.unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.unwrap_or_default(),
        "status.podIP" => address.to_owned(),
        "status.hostIP" => node.to_owned(),
        other => bail!("this runner does not know the field {other}"),
    })
}

/// Kubernetes' `$(NAME)`, and `$$` for one `$`.
fn expanded(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let named = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        rest = match (after.strip_prefix('$'), named) {
            (Some(after), _) => {
                out.push('$');
                after
            }
            (None, Some((name, after))) if env.contains_key(name) => {
                out.push_str(env.get(name).map_or("", String::as_str));
                after
            }
            _ => {
                out.push('$');
                after
            }
        };
    }
    out + rest
}

/// A word in which a mount's path, at its beginning or behind the `=` of a flag, is the folder behind it, and all addresses
/// are the pod's own.
fn here(word: &str, around: &Surroundings<'_>) -> String {
    let (flag, value) = match word.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') => (Some(flag), value),
        _ => (None, word),
    };
    let below = |mount: &str| {
        let rest = value.strip_prefix(mount)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
    };
    let found = around.mounts.iter().filter_map(|(mount, folder)| Some((mount.len(), folder, below(mount)?)));
    let value = match found.max_by_key(|(length, ..)| *length) {
        Some((_, folder, rest)) => format!("{}{rest}", folder.display()),
        None => match value.strip_prefix(EVERY_ADDRESS).filter(|rest| rest.starts_with(':')) {
            Some(port) => format!("{}{port}", around.address),
            None => value.to_owned(),
        },
    };
    flag.map_or_else(|| value.clone(), |flag| format!("{flag}={value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(container: serde_json::Value, image: &ImageFolder, class: Option<&str>) -> Result<Words> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"nodeName": "node-a", "runtimeClassName": class, "containers": []}}))
        .unwrap();
        let mounts = [("/scratch", "/here/s"), ("/scratch/in", "/here/i"), ("/dev/end", "/here/end")];
        let mounts = mounts.map(|(path, folder)| (path.to_owned(), PathBuf::from(folder))).into();
        let driver = [("LD_LIBRARY_PATH".to_owned(), "/driver".to_owned())].into();
        words(
            &serde_json::from_value(container).unwrap(),
            &Surroundings {
                pod: &pod,
                address: "127.9.1.2",
                node: "127.9.1.1",
                image,
                mounts: &mounts,
                driver: &driver,
                path: "/bin",
            },
        )
    }

    #[test]
    fn paths_of_mounts_become_folders_wherever_they_begin_and_nothing_else_changes() {
        let words = made(
            json!({"name": "c", "command": ["run"], "args": ["/scratch", "--out=/scratch/a/b", "/scratch/in/x",
                "/scratches", "--listen=0.0.0.0:80", "1=/scratch", r#"{"a":"$$/scratch"}"#, "$(N) $(NOT)"],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                        {"name": "TMPDIR", "value": "/scratch"}]}),
            &ImageFolder::default(),
            None,
        )
        .unwrap();
        assert_eq!(
            words.words,
            [
                "run",
                "/here/s",
                "--out=/here/s/a/b",
                "/here/i/x",
                "/scratches",
                "--listen=127.9.1.2:80",
                "1=/scratch",
                r#"{"a":"$/scratch"}"#,
                "node-a $(NOT)"
            ]
        );
        assert_eq!(words.env["TMPDIR"], "/here/s");
    }

    #[test]
    fn a_program_comes_from_its_image_and_is_told_where_its_mounts_lie() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        let program = folder.path().join("usr/bin/worker");
        std::fs::write(&program, "").unwrap();
        let image = ImageFolder {
            root: folder.path().to_owned(),
            entrypoint: vec!["worker".to_owned()],
            mount_flags: [("/dev/end", "--end"), ("/nowhere", "--no")]
                .map(|(mount, flag)| (mount.to_owned(), flag.to_owned()))
                .into(),
        };
        let words = made(json!({"name": "c", "args": ["x"]}), &image, None).unwrap();
        assert_eq!(words.words, [program.to_str().unwrap(), "x", "--end", "/here/end"]);
        assert!(made(json!({"name": "c"}), &ImageFolder::default(), None).is_err(), "it has no program");
    }

    #[test]
    fn only_what_may_see_a_gpu_finds_the_driver() {
        let driver = |visible: &str, class| {
            let env = json!([{"name": VISIBLE, "value": visible}]);
            let words =
                made(json!({"name": "c", "command": ["x"], "env": env}), &ImageFolder::default(), class);
            words.unwrap().env.contains_key("LD_LIBRARY_PATH")
        };
        assert!(driver("GPU-1", Some("nvidia")));
        assert!(!driver("void", Some("nvidia")));
        assert!(!driver("GPU-1", None));
    }
}
