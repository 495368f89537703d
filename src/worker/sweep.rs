//! Dead work folders: removed by the next probe on the same volume, if they are of its own cluster and namespace, their
//! job is gone, and nobody touched them for a day.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::failure::Outcome;
use super::folder::Mounts;
use super::publish::read_json;
use crate::api::worker::{JobRef, WORK_FOLDER};

/// How long a folder must have been untouched.
const UNTOUCHED: Duration = Duration::from_secs(24 * 60 * 60);
/// Most folders looked at, and most files looked at within one.
const MOST: usize = 10_000;

/// Whether the folder of `owner` is dead. Pure.
fn is_dead(owner: &JobRef, own: &JobRef, live: &[String], untouched: Duration) -> bool {
    owner.cluster == own.cluster
        && owner.namespace == own.namespace
        && owner.uid != own.uid
        && !live.contains(&owner.uid)
        && untouched >= UNTOUCHED
}

/// Removes dead folders; their names. What cannot be read or removed stays.
pub fn sweep(mounts: &Mounts, own: &JobRef, live: &[String], now: SystemTime) -> Vec<String> {
    let Ok(folders) = std::fs::read_dir(mounts.destination.join(WORK_FOLDER)) else { return Vec::new() };
    let mut removed = Vec::new();
    for folder in folders.take(MOST).flatten() {
        let path = folder.path();
        let name = folder.file_name().to_string_lossy().into_owned();
        let is_folder = folder.file_type().is_ok_and(|kind| kind.is_dir());
        let owner: Outcome<Option<JobRef>> = read_json(&path.join("owner.json"));
        let (true, Ok(Some(owner))) = (is_folder, owner) else { continue };
        let untouched = now.duration_since(last_touched(&path)).unwrap_or_default();
        if owner.uid == name
            && is_dead(&owner, own, live, untouched)
            && std::fs::remove_dir_all(&path).is_ok()
        {
            removed.push(name);
        }
    }
    removed.sort();
    removed
}

/// The latest change of a folder or of anything in it or in its parts.
fn last_touched(folder: &Path) -> SystemTime {
    let changed = |path: &Path| std::fs::symlink_metadata(path).and_then(|facts| facts.modified()).ok();
    let within = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().take(MOST).flatten();
        entries.filter_map(|entry| changed(&entry.path())).collect::<Vec<_>>()
    };
    let times = within(folder).into_iter().chain(within(&folder.join("parts"))).chain(changed(folder));
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::publish::write_json;

    fn job(cluster: &str, namespace: &str, uid: &str) -> JobRef {
        let text = str::to_owned;
        JobRef { cluster: text(cluster), namespace: text(namespace), name: text("j"), uid: text(uid) }
    }

    #[test]
    fn only_dead_folders_of_ones_own_are_dead() {
        let (own, day) = (job("c", "n", "me"), UNTOUCHED);
        let live = ["alive".to_owned()];
        assert!(is_dead(&job("c", "n", "gone"), &own, &live, day));
        for (owner, untouched) in [
            (job("other", "n", "gone"), day),
            (job("c", "other", "gone"), day),
            (job("c", "n", "me"), day),
            (job("c", "n", "alive"), day),
            (job("c", "n", "gone"), day - Duration::from_secs(1)),
        ] {
            assert!(!is_dead(&owner, &own, &live, untouched), "{owner:?}");
        }
    }

    #[test]
    fn folders_without_an_owner_stay() {
        let root = tempfile::tempdir().unwrap();
        let mounts = Mounts {
            source: root.path().to_owned(),
            destination: root.path().to_owned(),
            scratch: root.path().to_owned(),
        };
        let work = root.path().join(WORK_FOLDER);
        for name in ["gone", "unowned", "lying"] {
            std::fs::create_dir_all(work.join(name).join("parts")).unwrap();
        }
        write_json(&work.join("gone/owner.json"), &job("c", "n", "gone")).unwrap();
        write_json(&work.join("lying/owner.json"), &job("c", "n", "someone")).unwrap();
        let own = job("c", "n", "me");
        let now = SystemTime::now();
        assert_eq!(sweep(&mounts, &own, &[], now), [""; 0]);
        assert_eq!(sweep(&mounts, &own, &[], now + UNTOUCHED + Duration::from_secs(60)), ["gone"]);
        assert!(work.join("unowned").exists() && work.join("lying").exists() && !work.join("gone").exists());
    }
}
