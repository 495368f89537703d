//! Whose a process is, from its `/proc/PID/cgroup` alone. Pure; knows no pods, only the UIDs in their cgroup names.
//!
//! The rule: from the outside to the inside, the *first* path element that names a pod is the pod. A pod with a
//! writable cgroup subtree can make children with any name, but only below its own element, so it cannot pass itself
//! off as another pod.

use video_upscale::api::report::Kind;

/// Longest file that is read; a kernel with every version-1 hierarchy writes a tenth of it.
pub const MAX_CGROUP: usize = 64 * 1024;

/// How the row of version 2 begins, and the whole of it where every process sits in its root.
const V2: &str = "0::";
const UNUSED_V2: &str = "0::/";
/// How CRI-O names containers. Its crun may put the processes into a cgroup of their own inside the container's.
const CRIO: &str = "crio-";

/// Where the reader itself sits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// In a cgroup namespace of its own, so that paths are relative to its own container.
    pub private: bool,
    /// Its own path in the host's cgroup namespace; `/` if private.
    pub path: String,
    /// UID of its pod, if it is told.
    pub pod_uid: Option<String>,
}

/// Whose a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What kind of owner.
    pub kind: Kind,
    /// UID of the pod for [`Kind::Pod`]: with dashes, or 32 hex digits for a static pod.
    pub uid: Option<String>,
}

impl Owner {
    /// An owner without a UID.
    pub const fn of(kind: Kind) -> Self {
        Self { kind, uid: None }
    }

    fn pod(uid: String) -> Self {
        Self { kind: Kind::Pod, uid: Some(uid) }
    }
}

/// Reads the file's content. Rows that name different pods make the owner unknown: the process moved between the
/// rows, or the file is made up.
pub fn owner(cgroup: &str, reader: &Reader) -> Owner {
    let mut found: Option<Owner> = None;
    // Beside version-1 hierarchies a version-2 row of the root is of a hierarchy that nobody uses.
    let has_v1 = cgroup.lines().any(|row| !row.starts_with(V2) && path_of_row(row).is_some());
    let in_use = |row: &&str| !(has_v1 && *row == UNUSED_V2);
    for path in cgroup.lines().filter(in_use).filter_map(path_of_row) {
        let here = owner_of_path(path, reader);
        found = Some(match found {
            None => here,
            Some(before) => match (before.kind, here.kind) {
                (Kind::Pod, Kind::Pod) if before.uid != here.uid => return Owner::of(Kind::Unknown),
                (Kind::Pod, _) => before,
                (_, Kind::Pod) => here,
                (Kind::Container, _) => before,
                _ => here,
            },
        });
    }
    found.unwrap_or(Owner::of(Kind::Unknown))
}

/// `hierarchy:controllers:path`; a killed container's path ends with " (deleted)".
fn path_of_row(row: &str) -> Option<&str> {
    let path = row.splitn(3, ':').nth(2)?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(path))
}

fn owner_of_path(path: &str, reader: &Reader) -> Owner {
    let elements: Vec<&str> = elements(path).collect();
    let below = beyond_shared_outside(&elements, reader);
    let ups = below.iter().take_while(|element| **element == "..").count();
    let outermost = below.get(ups).copied().unwrap_or_default();
    let bare_container = pod_uid(outermost).is_none() && is_container(outermost);
    let own_pod = match (reader.private, ups) {
        // Inside the own container.
        (true, 0) => true,
        // Beside the own container: another container of the own pod, whose element bears no UID from here.
        (true, 1) => bare_container,
        // The same where the reader sits in an inner cgroup of its container.
        (true, 2) => bare_container && outermost.starts_with(CRIO),
        _ => false,
    };
    if own_pod {
        // The own pod lies outside of everything that is named, so no name can be another pod's.
        return reader.pod_uid.clone().map_or(Owner::of(Kind::Unknown), Owner::pod);
    }
    match below.iter().find_map(|element| pod_uid(element)) {
        Some(uid) => Owner::pod(uid),
        None if below.iter().any(|element| is_container(element)) => Owner::of(Kind::Container),
        None => Owner::of(Kind::Host),
    }
}

/// The part of the path below what the reader's own node is nested in. A node that is itself a container (kind, k3d)
/// puts that container in front of every path; without the cut its services would look like containers.
fn beyond_shared_outside<'a>(path: &'a [&'a str], reader: &'a Reader) -> &'a [&'a str] {
    if reader.private {
        return path;
    }
    let own: Vec<&str> = elements(&reader.path).collect();
    let Some(pod) = own.iter().position(|element| pod_uid(element).is_some()) else { return path };
    let shared = own.iter().take(pod).zip(path).take_while(|(own, other)| own == other).count();
    path.get(shared..).unwrap_or_default()
}

fn elements(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|element| !element.is_empty())
}

/// The UID in an element that names a pod: `pod<uid>`, `<slices>-pod<uid>.slice`, or the form with colons that a
/// runtime without the systemd driver makes under a kubelet with it (`<slices>-pod<uid>.slice:<prefix>:<id>`).
fn pod_uid(element: &str) -> Option<String> {
    let slice = element.split(':').next().unwrap_or(element);
    let named = match slice.strip_suffix(".slice") {
        Some(stem) => stem.rsplit_once("-pod").map(|(_, uid)| uid).or_else(|| stem.strip_prefix("pod"))?,
        None => slice.strip_prefix("pod")?,
    };
    is_uid(named).then(|| named.replace('_', "-").to_ascii_lowercase())
}

/// 8-4-4-4-12 hex digits joined by dashes or by underscores, or 32 hex digits (a static pod's configuration hash).
fn is_uid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.len() == 32 {
        return hex(text);
    }
    ['-', '_'].into_iter().any(|joint| {
        let parts: Vec<&str> = text.split(joint).collect();
        parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| hex(part))
    })
}

/// An optional runtime prefix, 64 hex digits, an optional `.scope`.
fn is_container(element: &str) -> bool {
    let stem = element.strip_suffix(".scope").unwrap_or(element);
    let id = stem.rsplit(['-', ':']).next().unwrap_or(stem);
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
