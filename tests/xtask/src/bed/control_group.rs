//! The bed's control groups: one subtree per hierarchy of the machine (cgroup v1, hybrid or v2), below which every
//! process of the bed lives. What must be ended is found by it, whoever started it and whatever became of its parent.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::progress::Progress;

/// The subtree of a bed.
#[derive(Clone, Debug)]
pub struct ControlGroup {
    machine: Hierarchies,
    name: String,
}

/// Mount points of the machine's hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hierarchies {
    /// One for everything.
    Unified(PathBuf),
    /// One per controller; and the new one, without controllers, in which only runtimes make groups.
    Old { controllers: Vec<PathBuf>, bare: Vec<PathBuf> },
}

impl ControlGroup {
    /// The subtree called `name`, whether it exists or not.
    ///
    /// # Errors
    /// When the machine's mounts cannot be read.
    pub fn new(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let machine = hierarchies(&mounts).context("this machine has no control groups")?;
        Ok(Self { machine, name: name.to_owned() })
    }

    /// Makes the subtree and, in it, a group for the bed's own processes and one per node.
    ///
    /// # Errors
    /// When the machine does not let its control groups be changed.
    pub fn make(&self, nodes: &[&str]) -> Result<()> {
        for root in self.roots() {
            make(&root)?;
            if let Hierarchies::Unified(all) = &self.machine {
                enable_controllers(all)?;
                enable_controllers(&root)?;
            }
            come_first(&root)?;
            for group in nodes.iter().copied().chain(["own"]) {
                make(&root.join(group))?;
            }
        }
        Ok(())
    }

    /// The files that a process of the bed writes its number to.
    pub fn own(&self) -> Vec<PathBuf> {
        self.roots().iter().map(|root| root.join("own/cgroup.procs")).collect()
    }

    /// What there is of the subtree.
    pub fn left(&self) -> Vec<PathBuf> {
        let bare = match &self.machine {
            Hierarchies::Unified(_) => &[],
            Hierarchies::Old { bare, .. } => bare.as_slice(),
        };
        let bare = bare.iter().map(|hierarchy| hierarchy.join(&self.name));
        self.roots().into_iter().chain(bare).filter(|root| root.exists()).collect()
    }

    /// The subtree in each hierarchy that has controllers.
    fn roots(&self) -> Vec<PathBuf> {
        let hierarchies = match &self.machine {
            Hierarchies::Unified(all) => std::slice::from_ref(all),
            Hierarchies::Old { controllers, .. } => controllers.as_slice(),
        };
        hierarchies.iter().map(|hierarchy| hierarchy.join(&self.name)).collect()
    }

    /// The processes of the subtree.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn processes(&self) -> Result<BTreeSet<i32>> {
        let mut found = BTreeSet::new();
        for root in self.left() {
            found.extend(groups_below(&root)?.iter().flat_map(|group| processes(group)));
        }
        Ok(found)
    }

    /// Ends every process of the subtree and removes it.
    ///
    /// # Errors
    /// When processes do not end within 120 s, or a group cannot be removed.
    pub fn clear(&self, progress: &Progress) -> Result<()> {
        for root in self.left() {
            let what = format!("the processes in {} to end", root.display());
            progress.wait(&what, Duration::from_secs(120), || {
                let groups = groups_below(&root)?;
                let pids: Vec<i32> = groups.iter().flat_map(|group| processes(group)).collect();
                for pid in &pids {
                    if let Some(pid) = Pid::from_raw(*pid) {
                        // It may have ended between the two calls: the next look will tell.
                        let _already_gone = kill_process(pid, Signal::KILL);
                    }
                }
                if !pids.is_empty() {
                    return Ok(None);
                }
                // A group whose last process is being buried is busy for a moment.
                let removed = groups.iter().rev().all(|group| match fs::remove_dir(group) {
                    Ok(()) => true,
                    Err(error) => error.kind() == ErrorKind::NotFound,
                });
                Ok(removed.then_some(()))
            })?;
        }
        Ok(())
    }
}

/// Whether this user may make a group in every hierarchy that has controllers; makes one and removes it.
pub fn can_be_made() -> bool {
    let Ok(probe) = ControlGroup::new(&format!("video-upscale-probe-{}", std::process::id())) else {
        return false;
    };
    let roots = probe.roots();
    let made = roots.iter().all(|root| fs::create_dir(root).is_ok());
    for root in roots {
        // What was not made cannot be removed.
        let _never_made = fs::remove_dir(root);
    }
    made
}

/// Makes a group. In a v1 cpuset hierarchy a new group has no CPUs and takes no process: it gets its parent's.
fn make(group: &Path) -> Result<()> {
    fs::create_dir_all(group).with_context(|| format!("make the control group {}", group.display()))?;
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (Some(parent), file) = (group.parent(), group.join(name)) else { continue };
        let ours = fs::read_to_string(&file).unwrap_or_else(|_| "not a cpuset".to_owned());
        if ours.trim().is_empty()
            && let Ok(theirs) = fs::read_to_string(parent.join(name))
        {
            fs::write(&file, theirs).with_context(|| format!("write {}", file.display()))?;
        }
    }
    Ok(())
}

/// Gives a group ten times the processors' time of another that wants them, too: what runs in pods is held against the
/// clock. `cpu.weight` (cgroup v2, default 100) or `cpu.shares` (v1, default 1024), where the hierarchy has them.
fn come_first(group: &Path) -> Result<()> {
    for (name, value) in [("cpu.weight", "1000"), ("cpu.shares", "10240")] {
        let file = group.join(name);
        if file.exists() {
            fs::write(&file, value).with_context(|| format!("write {}", file.display()))?;
        }
    }
    Ok(())
}

/// Hands a v2 group's controllers on to its children.
fn enable_controllers(group: &Path) -> Result<()> {
    let there =
        fs::read_to_string(group.join("cgroup.controllers")).context("read the machine's controllers")?;
    let wanted: Vec<String> = there.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(group.join("cgroup.subtree_control"), wanted.join(" "))
        .with_context(|| format!("let the groups below {} have {there}", group.display()))
}

/// A group and those below it, parents first.
fn groups_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(group) = open.pop() {
        match fs::read_dir(&group) {
            Ok(entries) => {
                let below =
                    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir());
                open.extend(below);
                found.push(group);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("list {}", group.display())),
        }
    }
    Ok(found)
}

fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 0).collect()
}

/// Reads the mount points from /proc/self/mountinfo.
fn hierarchies(mountinfo: &str) -> Option<Hierarchies> {
    let mount_of = |line: &str, kind: &str| {
        let (before, after) = line.split_once(" - ")?;
        (after.split_whitespace().next()? == kind)
            .then(|| before.split_whitespace().nth(4).map(PathBuf::from))?
    };
    let all = |kind: &str| -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = mountinfo.lines().filter_map(|line| mount_of(line, kind)).collect();
        found.sort();
        found.dedup();
        found
    };
    let (controllers, unified) = (all("cgroup"), all("cgroup2"));
    if !controllers.is_empty() {
        return Some(Hierarchies::Old { controllers, bare: unified });
    }
    unified.into_iter().next().map(Hierarchies::Unified)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TMPFS: &str = "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n";

    #[test]
    fn a_hybrid_machine_counts_by_its_old_hierarchies() {
        let text = format!(
            "{TMPFS}31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             32 30 0:28 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n\
             33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        );
        let controllers = vec!["/sys/fs/cgroup/cpu".into(), "/sys/fs/cgroup/memory".into()];
        let bare = vec!["/sys/fs/cgroup/unified".into()];
        assert_eq!(hierarchies(&text), Some(Hierarchies::Old { controllers, bare }));
        assert_eq!(hierarchies(TMPFS), None);
    }

    #[test]
    fn a_new_machine_has_one() {
        let text = "30 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(hierarchies(text), Some(Hierarchies::Unified("/sys/fs/cgroup".into())));
    }
}
