//! What the kernel says of a process: that it is the one meant, its cgroup, and its number in another's namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::journal::Who;

/// `NS_GET_PARENT` of `linux/nsfs.h`.
const NS_GET_PARENT: libc::c_ulong = 0xb702;
/// The kernel nests process id namespaces at most so deep.
const DEEPEST_NAMESPACE: usize = 32;

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug)]
pub struct Process {
    /// Its number in the daemon's namespace.
    pub pid: u32,
    descriptor: OwnedFd,
}

impl Process {
    /// The process that connected `stream`. Kernels before 6.5 cannot name it by descriptor; there it is opened by
    /// number, a moment later.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn peer(stream: &UnixStream) -> io::Result<Self> {
        let pid = rustix::net::sockopt::socket_peercred(stream)?.pid;
        let descriptor = match getsockopt(stream, PeerPidfd) {
            Ok(descriptor) => descriptor,
            Err(nix::errno::Errno::ENOPROTOOPT) => pidfd_open(pid, PidfdFlags::empty())?,
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self { pid: number(pid), descriptor })
    }

    /// The process `pid`, which sent a message and now waits for its answer.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn sender(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid: number(pid), descriptor: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Becomes readable when the process ends.
    #[must_use]
    pub fn end(&self) -> &impl AsFd {
        &self.descriptor
    }

    /// Whether it has not ended: what was read of it by number before is then about it.
    #[must_use]
    pub fn lives(&self) -> bool {
        let mut set = [PollFd::new(&self.descriptor, PollFlags::IN)];
        matches!(poll(&mut set, Some(&Timespec::default())), Ok(0))
    }

    /// What the log says of it; empty words where it ended meanwhile.
    #[must_use]
    pub fn who(&self) -> Who {
        let pid = self.pid;
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if !self.lives() {
            return Who { pid, comm: String::new(), cgroup: String::new(), pod: None };
        }
        let (cgroup, pod) = pod_of(&cgroups);
        Who { pid, comm, cgroup, pod }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// The path that names a pod and the pod's UID, out of a `/proc/PID/cgroup`; else the first path.
fn pod_of(cgroups: &str) -> (String, Option<String>) {
    let paths = || cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let named =
        paths().find_map(|path| path.split('/').find_map(pod_uid).map(|uid| (path.to_owned(), Some(uid))));
    named.unwrap_or_else(|| (paths().next().unwrap_or_default().to_owned(), None))
}

/// UID in one component of a cgroup path: `podUID`, or `kubepods-burstable-podUID.slice` with underscores.
fn pod_uid(component: &str) -> Option<String> {
    let (_, uid) = component.trim_end_matches(".slice").rsplit_once("pod")?;
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    (digits == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then_some(uid)
}

/// Number of the process `pid` as the process `caller` sees it; none where it does not see it.
#[must_use]
pub fn seen_by(pid: u32, caller: u32) -> Option<u32> {
    let here = identity(&File::open(format!("/proc/{caller}/ns/pid")).ok()?)?;
    let mut namespace = File::open(format!("/proc/{pid}/ns/pid")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    // From the innermost namespace, the process's own, outwards.
    for number in numbers.split_whitespace().rev().take(DEEPEST_NAMESPACE) {
        if identity(&namespace)? == here {
            return number.parse().ok();
        }
        namespace = parent(&namespace).ok()?;
    }
    None
}

fn identity(namespace: &File) -> Option<(u64, u64)> {
    namespace.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The namespace around `namespace`; an error where that is not ours to see.
fn parent(namespace: &File) -> io::Result<File> {
    // SAFETY: NS_GET_PARENT takes no argument and touches no memory of ours; `namespace` is open during the call.
    #[expect(unsafe_code, reason = "no library wraps this ioctl safely")]
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    #[expect(unsafe_code, reason = "the ioctl answers with a raw descriptor")]
    Ok(unsafe { File::from_raw_fd(answer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_in_both_cgroup_drivers_and_a_bare_process_has_none() {
        let uid = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f";
        for path in [
            format!("/kubepods/burstable/pod{uid}/abc"),
            format!("/node-a/kubepods/pod{uid}/abc"),
            format!(
                "/kubepods.slice/kubepods-besteffort-pod{}.slice/cri-containerd-1.scope",
                uid.replace('-', "_")
            ),
        ] {
            let (cgroup, pod) = pod_of(&format!("5:cpu:/x\n4:memory:{path}\n0::/\n"));
            assert_eq!((cgroup.as_str(), pod.as_deref()), (path.as_str(), Some(uid)));
        }
        assert_eq!(pod_of("0::/user.slice/podium\n"), ("/user.slice/podium".into(), None));
    }

    #[test]
    fn a_process_sees_itself_under_its_own_number() {
        let own = std::process::id();
        assert_eq!(seen_by(own, own), Some(own));
        assert_eq!(seen_by(u32::MAX, own), None);
    }

    #[test]
    fn the_peer_of_a_socket_is_the_process_that_made_it_and_lives() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = Process::peer(&near).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert!(peer.lives());
        assert!(!peer.who().comm.is_empty());
    }
}
