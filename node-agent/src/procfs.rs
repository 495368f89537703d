//! What the kernel says of a process: start time, state, cgroup. A process id alone is no identity, as ids are used
//! again; with the start time it is one.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use video_upscale::api::report::{Attribution, Kind, digest};

use crate::attribution::{self, MAX_CGROUP, Owner, Reader};
use crate::metrics::Mapped;
use crate::probe::DriverVersion;

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO` in the kernel's `proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
/// Inode of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`).
const INITIAL_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";
/// The MPS server and its control daemon: their names, cut to the kernel's 15 characters.
const MPS_COMM: &str = "nvidia-cuda-mps";
/// A thread that the kernel module starts when it is loaded (`nv_module_state_init` of NVIDIA's open kernel modules).
const MODULE_COMM: &str = "nv_queue";
/// Parent of all kernel threads: no program can pass itself off as one.
const KTHREADD: &str = "2";

/// State of a process, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Any state that is neither of the others.
    Alive,
    /// Dead, but not collected: its memory may still be held.
    Zombie,
    /// In a call that cannot be interrupted.
    Uninterruptible,
}

/// One reading of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Start time in clock ticks since boot; with the process id, its identity.
    pub started: u64,
    /// Its state.
    pub state: RunState,
    /// Whether it is the MPS server or its control daemon.
    pub mps: bool,
}

impl Stat {
    /// Reads the row. The name stands in brackets and may itself hold brackets and spaces, so the last one counts.
    pub fn parse(row: &str) -> Option<Self> {
        let (head, tail) = row.rsplit_once(')')?;
        let (_, comm) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = match fields.next()? {
            "Z" | "X" => RunState::Zombie,
            "D" => RunState::Uninterruptible,
            _ => RunState::Alive,
        };
        // The state is field 3 of the row, the start time field 22.
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { started, state, mps: comm.starts_with(MPS_COMM) })
    }
}

/// Which cgroup hierarchies the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hierarchy {
    V1,
    V2,
    Both,
}

impl Hierarchy {
    /// From the reader's own file: version 2 has the row `0::path`, version 1 one row per hierarchy.
    fn of(own: &str) -> Self {
        let (v2, v1): (Vec<&str>, Vec<&str>) = own.lines().partition(|row| row.starts_with("0::"));
        match (v2.is_empty(), v1.is_empty()) {
            (false, true) => Self::V2,
            (false, false) => Self::Both,
            (true, _) => Self::V1,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Both => "v1 and v2",
        }
    }
}

/// A mounted proc file system and the place from which it is read.
#[derive(Clone, Debug)]
pub struct Proc {
    root: PathBuf,
    reader: Reader,
    hierarchy: Hierarchy,
    mapped: Mapped,
    /// Whether the driver lists processes by ids of another namespace than this one.
    foreign_ids: bool,
    /// How far process lists can be believed from here.
    pub attribution: Attribution,
    /// Whether processes of other users can be seen at all (`hidepid`).
    pub sees_others: bool,
}

impl Proc {
    /// Looks around once. The agent's pod UID is needed to name processes of its own pod.
    pub fn open(root: impl Into<PathBuf>, pod_uid: Option<String>) -> Self {
        let root = root.into();
        let link = |name: &str| fs::read_link(root.join("self/ns").join(name)).unwrap_or_default();
        let initial = link("pid").as_os_str() == INITIAL_PID_NAMESPACE;
        let private = link("cgroup").as_os_str() != INITIAL_CGROUP_NAMESPACE;
        let own = read_bounded(root.join("self/cgroup")).unwrap_or_default();
        // On hybrid machines some hierarchies are not used; the longest path is of one that is.
        let paths = own.lines().filter_map(|row| row.splitn(3, ':').nth(2));
        let path = paths.max_by_key(|path| path.len()).unwrap_or("/").to_owned();
        let sees_others = root.join("1/stat").exists();
        let attribution = if initial { Attribution::Full } else { Attribution::Namespace };
        Self {
            root,
            reader: Reader { private, path, pod_uid },
            hierarchy: Hierarchy::of(&own),
            mapped: Mapped::default(),
            foreign_ids: false,
            attribution,
            sees_others,
        }
    }

    /// The same, counting whom it finds processes to belong to.
    pub(crate) fn counting(self, mapped: Mapped) -> Self {
        Self { mapped, ..self }
    }

    /// From now on process ids are those that a driver of `version` lists. In a nested namespace they name other
    /// processes than here where the driver does not translate them; a version that is not known may be of that kind.
    pub(crate) fn listed_by(&mut self, version: Option<DriverVersion>) {
        self.foreign_ids = !self.is_initial() && !version.is_some_and(DriverVersion::translates_ids);
    }

    /// Whether a process that the driver lists can be looked up.
    pub(crate) const fn knows_listed(&self) -> bool {
        !self.foreign_ids
    }

    /// Whether a listed id without a process is one, and not of a process that is hidden from here.
    pub(crate) const fn knows_ghosts(&self) -> bool {
        self.sees_others && !self.foreign_ids
    }

    /// Versions of the cgroup hierarchies and whose namespace they are seen from, for people.
    pub fn cgroups(&self) -> String {
        let namespace = if self.reader.private { "private" } else { "the host's" };
        format!("{} ({namespace})", self.hierarchy.word())
    }

    /// Whether processes of the agent's own pod can be told from others.
    pub fn knows_own_pod(&self) -> bool {
        !self.reader.private || self.reader.pod_uid.is_some()
    }

    /// Whether the agent shares the machine's own process ids.
    pub fn is_initial(&self) -> bool {
        self.attribution == Attribution::Full
    }

    /// The process as it is now; `None` if there is none, or if the id is of another namespace.
    pub fn stat(&self, pid: u32) -> Option<Stat> {
        if self.foreign_ids {
            return None;
        }
        Stat::parse(&read_bounded(self.root.join(pid.to_string()).join("stat"))?)
    }

    /// Whose it is; asked once per process.
    pub fn owner(&self, pid: u32) -> Owner {
        let cgroup = read_bounded(self.root.join(pid.to_string()).join("cgroup"));
        let owner = match cgroup.filter(|_| !self.foreign_ids) {
            Some(cgroup) => attribution::owner(&cgroup, &self.reader),
            None => Owner::of(Kind::Unknown),
        };
        self.mapped.count(owner.kind);
        owner
    }

    /// Names this life of the driver: 8 hex digits made of the machine's boot, the load of the kernel module and
    /// `version`. Another life means that every GPU was initialised anew. `None` where the boot cannot be told.
    pub fn driver_life(&self, version: &str) -> Option<String> {
        let boot = read_bounded(self.root.join("sys/kernel/random/boot_id"))?;
        let loaded = self.module_started().map_or(String::new(), |ticks| ticks.to_string());
        Some(digest(&format!("{} {loaded} {version}", boot.trim())))
    }

    /// Clock ticks from boot to the load of the kernel module; `None` where its threads cannot be seen.
    fn module_started(&self) -> Option<u64> {
        let names =
            fs::read_dir(&self.root).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let pids = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let rows = pids.filter_map(|pid| read_bounded(self.root.join(pid).join("stat")));
        rows.filter(|row| is_module_thread(row)).filter_map(|row| Some(Stat::parse(&row)?.started)).min()
    }

    /// Version of the kernel module that is loaded now; `None` where the file is hidden.
    pub fn driver_version(&self) -> Option<String> {
        let text = read_bounded(self.root.join("driver/nvidia/version"))?;
        let module = text.lines().find(|line| line.starts_with("NVRM version:"))?;
        let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        module.split_ascii_whitespace().find(is_version).map(str::to_owned)
    }
}

fn is_module_thread(row: &str) -> bool {
    let Some((head, tail)) = row.rsplit_once(')') else { return false };
    let named = head.split_once('(').is_some_and(|(_, comm)| comm == MODULE_COMM);
    named && tail.split_ascii_whitespace().nth(1) == Some(KTHREADD)
}

fn read_bounded(path: PathBuf) -> Option<String> {
    let limit = u64::try_from(MAX_CGROUP).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A proc file system made of files, as seen from the host's namespaces.
    pub struct FakeProc {
        folder: tempfile::TempDir,
    }

    impl FakeProc {
        pub fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        pub fn proc(&self) -> Proc {
            Proc {
                root: self.folder.path().to_owned(),
                reader: Reader { private: false, path: "/".to_owned(), pod_uid: None },
                hierarchy: Hierarchy::V2,
                mapped: Mapped::default(),
                foreign_ids: false,
                attribution: Attribution::Full,
                sees_others: self.folder.path().join("1/stat").exists(),
            }
        }

        /// The same, seen from a PID namespace of its own.
        pub fn nested(&self) -> Proc {
            Proc { attribution: Attribution::Namespace, ..self.proc() }
        }

        pub fn host(&self, pid: u32, started: u64) {
            self.write(pid, started, 'S', "0::/system.slice/x.service");
        }

        pub fn zombie(&self, pid: u32, started: u64) {
            self.write(pid, started, 'Z', "0::/system.slice/x.service");
        }

        pub fn pod(&self, pid: u32, started: u64, uid: &str) {
            self.write(pid, started, 'S', &format!("0::/kubepods/pod{uid}/{}", "ab".repeat(32)));
        }

        pub fn end(&self, pid: u32) {
            fs::remove_dir_all(self.folder.path().join(pid.to_string())).unwrap();
        }

        pub fn driver(&self, version: &str) {
            let folder = self.folder.path().join("driver/nvidia");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("version"), format!("NVRM version: NVIDIA Module  {version}  Release\n"))
                .unwrap();
        }

        pub fn boot(&self, id: &str) {
            let folder = self.folder.path().join("sys/kernel/random");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("boot_id"), id).unwrap();
        }

        /// A thread named as the module's, started by the process `parent`.
        pub fn module_thread(&self, pid: u32, parent: u32, started: u64) {
            self.stat(pid, "nv_queue", 'S', parent, started);
        }

        fn write(&self, pid: u32, started: u64, state: char, cgroup: &str) {
            self.stat(pid, "x", state, 1, started);
            fs::write(self.folder.path().join(pid.to_string()).join("cgroup"), cgroup).unwrap();
        }

        fn stat(&self, pid: u32, comm: &str, state: char, parent: u32, started: u64) {
            let folder = self.folder.path().join(pid.to_string());
            fs::create_dir_all(&folder).unwrap();
            let stat = format!(
                "{pid} ({comm}) {state} {parent} 1 1 0 -1 0 1 0 0 0 3 4 0 0 20 0 9 0 {started} 1 2 3"
            );
            fs::write(folder.join("stat"), stat).unwrap();
        }
    }

    #[test]
    fn a_name_full_of_brackets_does_not_shift_the_fields() {
        let row = "4121 (a) R (b) 7) D 1 4121 4121 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 9 0 880123 1 2 3";
        assert_eq!(
            Stat::parse(row),
            Some(Stat { started: 880_123, state: RunState::Uninterruptible, mps: false })
        );
    }

    #[test]
    fn rows_that_are_cut_or_empty_are_no_process() {
        for row in ["", "1", "1 (x", "1 (x) S", "1 (x) S 1 2 3"] {
            assert_eq!(Stat::parse(row), None, "{row:?}");
        }
    }

    #[test]
    fn the_mps_server_is_known_by_the_name_that_the_kernel_cuts() {
        let row = "7 (nvidia-cuda-mps) S 1 4121 4121 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 9 0 5 1 2 3";
        assert!(Stat::parse(row).unwrap().mps);
    }

    #[test]
    fn this_process_is_found_and_no_process_is_none() {
        let proc = Proc::open("/proc", None);
        let own = proc.stat(std::process::id()).unwrap();
        assert_eq!(Some(own.started), proc.stat(std::process::id()).map(|again| again.started));
        assert_eq!(proc.stat(u32::MAX), None);
    }

    #[test]
    fn another_boot_load_or_version_is_another_life_of_the_driver() {
        let fake = FakeProc::new();
        assert_eq!(fake.proc().driver_life("580.95.05"), None);
        let life = || fake.proc().driver_life("580.95.05");
        fake.boot("a\n");
        let first = life();
        assert_eq!(first.as_ref().map(String::len), Some(8));
        fake.module_thread(900, 2, 5_000);
        let loaded = life();
        fake.module_thread(901, 2, 7_000);
        assert_eq!(life(), loaded, "a thread of a GPU that was opened later");
        fake.module_thread(902, 1, 9);
        assert_eq!(life(), loaded, "a program that took the name");
        fake.module_thread(900, 2, 6_000);
        let again = life();
        fake.boot("b\n");
        let lives = [first, loaded, again, life(), fake.proc().driver_life("590.10.01")];
        let distinct: std::collections::BTreeSet<_> = lives.iter().collect();
        assert_eq!(distinct.len(), lives.len(), "{lives:?}");
    }

    #[test]
    fn the_hierarchies_are_told_by_the_own_file() {
        for (own, word) in [
            ("0::/\n", "v2"),
            ("3:memory:/x\n1:name=systemd:/x\n", "v1"),
            ("3:memory:/x\n0::/x\n", "v1 and v2"),
        ] {
            assert_eq!(Hierarchy::of(own).word(), word);
        }
    }

    #[test]
    fn the_loaded_module_tells_its_version() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("driver/nvidia")).unwrap();
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC version: 12.2\n";
        fs::write(folder.path().join("driver/nvidia/version"), text).unwrap();
        assert_eq!(Proc::open(folder.path(), None).driver_version().as_deref(), Some("580.95.05"));
    }
}
