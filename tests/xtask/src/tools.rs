//! Kubernetes, etcd, containerd, helm, and a linter for the tests: Go modules pinned in `tests/xtask/tools`, built once per
//! pin into a cache outside the target folder. Tools of the same version in `$KUBEBUILDER_ASSETS` or on PATH save that.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bed::Grade;
use crate::command::{Run, find_on};
use crate::progress::Progress;

/// The folder of the pins.
const PINNED: &str = "tests/xtask/tools";

/// One pinned Go module and the programs that come from it.
struct Pin {
    /// Folder below `tests/xtask/tools`.
    folder: &'static str,
    /// Module whose version counts.
    module: &'static str,
    /// Programs and the packages they are built from.
    programs: &'static [(&'static str, &'static str)],
    /// How a program tells its version; none: it does not.
    asked: Option<&'static [&'static str]>,
    /// What a build takes on two cores, seconds.
    typical: u64,
}

const PINS: &[Pin] = &[
    Pin {
        folder: "kubernetes",
        module: "k8s.io/kubernetes",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ],
        asked: Some(&["--version"]),
        typical: 420,
    },
    Pin {
        folder: "etcd",
        module: "go.etcd.io/etcd/server/v3",
        programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
        asked: Some(&["--version"]),
        typical: 50,
    },
    Pin {
        folder: RUNTIME,
        module: "github.com/containerd/containerd/v2",
        programs: &[
            ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            ("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
            ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
        asked: Some(&["-v"]),
        typical: 70,
    },
    Pin {
        folder: "helm",
        module: "helm.sh/helm/v4",
        programs: &[("helm", "helm.sh/helm/v4/cmd/helm")],
        asked: Some(&["version", "--short"]),
        typical: 125,
    },
];

/// Scores manifests. Only tests want it.
const LINTER: Pin = Pin {
    folder: "kube-score",
    module: "github.com/zegl/kube-score",
    programs: &[("kube-score", "github.com/zegl/kube-score/cmd/kube-score")],
    asked: None,
    typical: 40,
};

/// The folder of the container runtime, which a plain bed does not have.
const RUNTIME: &str = "containerd";

/// Longest build of one module on a slow machine.
const LIMIT: Duration = Duration::from_secs(3600);

/// The linter of manifests, built if it is missing.
///
/// # Errors
/// When Go is not there, or the build fails.
pub fn linter(checkout: &Path, cache: &Path, progress: &Progress) -> Result<PathBuf> {
    let folder = LINTER.ensure(&checkout.join(PINNED).join(LINTER.folder), cache, progress)?;
    Ok(folder.join(LINTER.folder))
}

/// Where the tools lie.
#[derive(Clone, Debug)]
pub struct Tools {
    folders: Vec<PathBuf>,
}

impl Tools {
    /// Finds the tools, or builds those that are missing.
    ///
    /// # Errors
    /// When Go is not there, or a build fails.
    pub fn ensure(checkout: &Path, cache: &Path, grade: Grade, progress: &Progress) -> Result<Self> {
        let pins = checkout.join(PINNED);
        let wanted = PINS.iter().filter(|pin| grade == Grade::Full || pin.folder != RUNTIME);
        let folders = wanted.map(|pin| pin.ensure(&pins.join(pin.folder), cache, progress));
        Ok(Self { folders: folders.collect::<Result<_>>()? })
    }

    /// The path of a tool.
    ///
    /// # Errors
    /// When there is no such tool.
    pub fn path(&self, program: &str) -> Result<PathBuf> {
        let found = self.folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file());
        found.with_context(|| format!("{program} is none of the bed's tools"))
    }

    /// The folders of the tools, for PATH: tools first, then `rest`.
    ///
    /// # Errors
    /// When a folder's name cannot stand in PATH.
    pub fn search_path(&self, rest: OsString) -> Result<OsString> {
        let folders = self.folders.iter().cloned().chain(std::env::split_paths(&rest));
        std::env::join_paths(folders).context("put the tools on PATH")
    }
}

impl Pin {
    /// The folder that holds this module's programs.
    fn ensure(&self, pin: &Path, cache: &Path, progress: &Progress) -> Result<PathBuf> {
        let version = self.version(pin)?;
        let cached = cache.join("tools").join(format!("{}-{}", self.folder, self.digest(pin, &version)?));
        if self.is_in(&cached) {
            return Ok(cached);
        }
        if let Some(folder) = self.installed(&version) {
            progress.say(format_args!("using {} {version} in {}", self.folder, folder.display()));
            return Ok(folder);
        }
        self.build(pin, &version, &cached, progress)?;
        Ok(cached)
    }

    fn is_in(&self, folder: &Path) -> bool {
        self.programs.iter().all(|(program, _)| folder.join(program).is_file())
    }

    /// The version that go.mod requires, `v1.2.3`.
    fn version(&self, pin: &Path) -> Result<String> {
        let file = pin.join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        required(&text, self.module)
            .map(str::to_owned)
            .with_context(|| format!("{} does not require {}", file.display(), self.module))
    }

    /// Names what a build depends on.
    fn digest(&self, pin: &Path, version: &str) -> Result<String> {
        let mut inputs = vec![flags(self.folder, version).into_bytes()];
        for name in ["go.mod", "go.sum"] {
            let file = pin.join(name);
            inputs.push(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
        }
        Ok(crate::images::digest(inputs))
    }

    /// A folder of `$KUBEBUILDER_ASSETS` or PATH that holds all programs in the version wanted.
    fn installed(&self, version: &str) -> Option<PathBuf> {
        let asked = self.asked?;
        let (first, _) = self.programs.first()?;
        let folders = [
            std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from),
            find_on(&std::env::var_os("PATH")?, first).and_then(|file| file.parent().map(Path::to_owned)),
        ];
        let number = version.trim_start_matches('v');
        folders.into_iter().flatten().find(|folder| {
            self.is_in(folder)
                && self.programs.iter().all(|(program, _)| {
                    let args = if *program == "kubectl" { &["version", "--client"] } else { asked };
                    Run::new(folder.join(program)).args(args).output().is_ok_and(|text| tells(&text, number))
                })
        })
    }

    /// Fails, with what is needed, unless a Go is there that can build this module or fetch one that can.
    fn ensure_go(&self, pin: &Path) -> Result<()> {
        let file = pin.join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let wanted = go_version(&text).with_context(|| format!("{} names no Go", file.display()))?;
        let needed = format!(
            "{} is built with Go {wanted} or newer; put such a `go` on PATH (any from 1.21 on fetches it by itself unless \
             GOTOOLCHAIN=local), or name a folder with the programs in KUBEBUILDER_ASSETS",
            self.folder
        );
        if find_on(&std::env::var_os("PATH").unwrap_or_default(), "go").is_none() {
            bail!("this machine has no Go: {needed}");
        }
        // In the module's folder: there it says the version that would build it.
        let go =
            Run::new("go").args(["env", "GOVERSION"]).dir(pin).output().with_context(|| needed.clone())?;
        if !is_at_least(&go, wanted) {
            bail!("this machine's Go is {}: {needed}", go.trim());
        }
        Ok(())
    }

    fn build(&self, pin: &Path, version: &str, cached: &Path, progress: &Progress) -> Result<()> {
        let Some(parent) = cached.parent() else { bail!("the cache has no folder") };
        self.ensure_go(pin)?;
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        let making = tempfile::tempdir_in(parent).context("make a folder to build in")?;
        let count = self.programs.len();
        let typical = self.typical;
        progress.say(format_args!(
            "building {count} program(s) of {} {version}, once; takes about {typical} s on two cores",
            self.folder
        ));
        let log = parent.join(format!("{}.log", self.folder));
        // Several packages build into a folder; a single one would take its name from the module's path ("v3").
        let output = match self.programs {
            [(program, _)] => making.path().join(program),
            _ => making.path().to_owned(),
        };
        Run::new("go")
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &flags(self.folder, version), "-o"])
            .args([output.as_os_str()])
            .args(self.programs.iter().map(|(_, package)| *package))
            .env("CGO_ENABLED", "0")
            .dir(pin)
            .long(&format!("the build of {}", self.folder), LIMIT, &log, progress)?;
        match fs::rename(making.path(), cached) {
            Ok(()) => Ok(()),
            // Another checkout has built the same meanwhile.
            Err(_) if self.is_in(cached) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("move the build to {}", cached.display())),
        }
    }
}

/// Linker flags. Kubernetes learns its version from them, and features that look at it misbehave without.
fn flags(folder: &str, version: &str) -> String {
    let mut flags = "-s -w".to_owned();
    if folder == "kubernetes" {
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        for (name, value) in [
            ("k8s.io/component-base/version.gitVersion", version),
            ("k8s.io/component-base/version.gitMajor", major),
            ("k8s.io/component-base/version.gitMinor", minor),
            ("k8s.io/client-go/pkg/version.gitVersion", version),
        ] {
            flags.push_str(&format!(" -X {name}={value}"));
        }
    }
    flags
}

/// The version that a go.mod requires of `module`.
fn required<'a>(text: &'a str, module: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next()? == module).then(|| words.next()).flatten().filter(|version| version.starts_with('v'))
    })
}

/// The Go that a go.mod wants, `1.26.0`.
fn go_version(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("go ")).map(str::trim)
}

/// Whether what Go says of itself, `go1.26.1`, is not older than `wanted`.
fn is_at_least(told: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let text = text.trim().trim_start_matches("go");
        let text = text.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
        text.split('.').map(|number| number.parse().unwrap_or(0)).collect()
    };
    numbers(told) >= numbers(wanted)
}

/// Whether a program's words contain this version and not a longer one.
fn tells(text: &str, number: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .any(|word| word.trim_start_matches('v') == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_go_mod_requires() {
        let text = "module m\n\ntool k8s.io/kubernetes/cmd/kubelet\n\nrequire (\n\ta/b v0.1.0\n\tk8s.io/kubernetes v1.37.2 // indirect\n)\n";
        assert_eq!(required(text, "k8s.io/kubernetes"), Some("v1.37.2"));
        assert_eq!(required("require a/b v1.0.0", "a/b"), Some("v1.0.0"));
        assert_eq!(required(text, "k8s.io/api"), None);
    }

    #[test]
    fn a_version_is_found_whole_or_not_at_all() {
        let cases = [
            ("Kubernetes v1.37.2\n", "1.37.2", true),
            ("containerd github.com/containerd/containerd/v2 2.4.2+unknown", "2.4.2", true),
            ("Kubernetes v1.37.21", "1.37.2", false),
            ("v4.3", "4.3.1", false),
        ];
        for (text, number, expected) in cases {
            assert_eq!(tells(text, number), expected, "{text}");
        }
    }

    #[test]
    fn every_pin_in_the_repository_has_its_version_and_its_go() {
        let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
        for pin in PINS.iter().chain([&LINTER]) {
            assert!(pin.version(&pins.join(pin.folder)).is_ok(), "{}", pin.folder);
            let text = fs::read_to_string(pins.join(pin.folder).join("go.mod")).unwrap();
            assert!(is_at_least("go9.0", go_version(&text).unwrap()), "{}", pin.folder);
        }
    }

    #[test]
    fn an_older_go_is_told_from_a_newer_one() {
        for (told, wanted, enough) in [
            ("go1.26.1\n", "1.26.0", true),
            ("go1.26.0", "1.26.0", true),
            ("go1.26rc1", "1.25.0", true),
            ("go1.27", "1.26.4", true),
            ("go1.24.4", "1.26.0", false),
            ("go1.19.8 X:nocoverageredesign", "1.26.0", false),
            ("", "1.26.0", false),
        ] {
            assert_eq!(is_at_least(told, wanted), enough, "{told} {wanted}");
        }
    }

    #[test]
    fn kubernetes_is_told_its_version() {
        let flags = flags("kubernetes", "v1.37.2");
        assert!(flags.contains("gitMajor=1 ") && flags.contains("gitMinor=37 "), "{flags}");
        assert_eq!(super::flags("etcd", "v3.6.16"), "-s -w");
    }
}
