//! What can be told on the node itself: driver, GPUs, namespaces, device nodes, the report's size. Pure, but for
//! [`Place::look`].

use std::fs;
use std::os::unix::fs::PermissionsExt;

use video_upscale::api::report::{Attribution, MAX_BYTES, Report, State};

use super::Check;
use crate::observer::Snapshot;
use crate::probe::DriverVersion;
use crate::procfs::Proc;
use crate::report::fit;

/// Read and write for everybody: what the agent, which is nobody's member, needs on a device node.
const FOR_ALL: u32 = 0o006;

/// Where the agent runs, and what it would publish.
#[derive(Clone, Debug)]
pub struct Place {
    /// The management library that was loaded.
    pub library: Option<String>,
    /// Device nodes of the driver and their modes.
    pub devices: Vec<(String, u32)>,
    /// How far process lists can be believed.
    pub attribution: Attribution,
    /// Whether processes of other users can be seen.
    pub sees_others: bool,
    /// Hierarchies and namespace.
    pub cgroups: String,
    /// Whether the own pod can be told from others.
    pub knows_own_pod: bool,
    /// The report as it would be published.
    pub report: Report,
}

impl Place {
    /// Looks around, after the library was loaded.
    pub fn look(proc: &Proc, report: Report) -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let library =
            maps.lines().find_map(|row| Some(row.split_once('/')?.1).filter(|path| is_library(path)));
        Self {
            library: library.map(|path| format!("/{path}")),
            devices: devices(),
            attribution: proc.attribution,
            sees_others: proc.sees_others,
            cgroups: proc.cgroups(),
            knows_own_pod: proc.knows_own_pod(),
            report,
        }
    }
}

fn is_library(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.starts_with("libnvidia-ml.so") || file.starts_with("libnvidia_ml.so")
}

fn devices() -> Vec<(String, u32)> {
    let names = fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ours = names.filter(|name| name.starts_with("nvidia") && !name.ends_with("-caps"));
    let mut found: Vec<_> = ours
        .filter_map(|name| Some((format!("/dev/{name}"), fs::metadata(format!("/dev/{name}")).ok()?)))
        .map(|(path, meta)| (path, meta.permissions().mode() & 0o777))
        .collect();
    found.sort();
    found
}

/// The checks.
pub fn checks(snapshot: &Snapshot, place: &Place) -> Vec<Check> {
    let mut checks = vec![library(snapshot, place), driver(snapshot)];
    if snapshot.state == State::Ok {
        checks.extend(version_gates(snapshot, place));
        checks.extend(gpus(snapshot));
    }
    checks.extend([
        pid_namespace(place),
        hidepid(place),
        cgroups(place),
        device_nodes(place, snapshot.state),
    ]);
    checks.push(report_size(&place.report));
    checks
}

fn library(snapshot: &Snapshot, place: &Place) -> Check {
    match &place.library {
        Some(path) => Check::ok("library", format!("{path}, NVML {}", known(&snapshot.driver.library))),
        None => {
            Check::fail("library", "libnvidia-ml.so.1 was not found; is the pod's runtime class NVIDIA's?")
        }
    }
}

fn driver(snapshot: &Snapshot) -> Check {
    let (state, version) = (snapshot.state, known(&snapshot.driver.version));
    match (state, &snapshot.trouble) {
        (State::Ok, None) => Check::ok("driver", format!("{version}, CUDA {}", known(&snapshot.driver.cuda))),
        (State::Ok, Some(trouble)) => Check::warn("driver", format!("{version}: {trouble}")),
        (_, trouble) => {
            Check::fail("driver", format!("{state}: {}", trouble.as_deref().unwrap_or("nothing is known")))
        }
    }
}

/// What drivers of this version cannot tell.
fn version_gates(snapshot: &Snapshot, place: &Place) -> Vec<Check> {
    const NAME: &str = "driver version";
    let Some(version) = DriverVersion::parse(&snapshot.driver.version) else {
        return vec![Check::warn(
            NAME,
            "not understood: process lists are asked for in their second version",
        )];
    };
    let mut checks = Vec::new();
    if !version.has_sound_v3_lists() {
        let told = "535 before 535.104 has unsound process lists; older ones are asked for instead";
        checks.push(Check::warn(NAME, told));
    }
    if place.attribution != Attribution::Full && !version.translates_ids() {
        let told = "lists the machine's process ids, which name other processes in a nested PID namespace: owners stay \
                    unknown; use 535.113 or later, or hostPID";
        checks.push(Check::warn(NAME, told));
    }
    if place.attribution != Attribution::Full && !version.translates_memory_queries() {
        let told = "does not tell the memory of processes in a nested PID namespace; use 565.57 or later, or hostPID";
        checks.push(Check::warn(NAME, told));
    }
    if snapshot.gpus.iter().any(|gpu| gpu.memory.as_ref().is_ok_and(|memory| memory.reserved.is_none())) {
        checks.push(Check::warn(NAME, "does not tell reserved memory apart from used; use 510 or later"));
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "tells everything the report has a place for"));
    }
    checks
}

fn gpus(snapshot: &Snapshot) -> Vec<Check> {
    let unread = snapshot.gpus.iter().filter_map(|gpu| {
        let fault = gpu.memory.as_ref().err().or(gpu.processes.as_ref().err())?;
        Some(Check::warn("gpu", format!("{} {}: {fault}", gpu.identity.index, gpu.identity.uuid)))
    });
    let count = Check::ok("gpus", format!("{} found", snapshot.gpus.len()));
    let asleep = snapshot.gpus.iter().filter(|gpu| gpu.identity.persistent == Some(false));
    let asleep: Vec<String> = asleep.map(|gpu| gpu.identity.index.to_string()).collect();
    let told =
        "mode is off: the first program after a pause waits 1 to 3 s for each GPU; run nvidia-persistenced";
    let advice = (!asleep.is_empty())
        .then(|| Check::warn("persistence", format!("{told} (GPU {})", asleep.join(", "))));
    std::iter::once(count).chain(advice).chain(unread).collect()
}

fn pid_namespace(place: &Place) -> Check {
    match place.attribution {
        Attribution::Full => Check::ok("pid namespace", "the machine's own"),
        _ => Check::warn("pid namespace", "nested: processes outside are hidden; set hostPID"),
    }
}

fn hidepid(place: &Place) -> Check {
    if place.sees_others {
        return Check::ok("hidepid", "processes of other users are seen");
    }
    Check::warn("hidepid", "/proc hides processes of other users (mount option hidepid): owners stay unknown")
}

fn cgroups(place: &Place) -> Check {
    if place.knows_own_pod {
        return Check::ok("cgroup", place.cgroups.clone());
    }
    Check::warn(
        "cgroup",
        format!("{}, and POD_UID is not set: the own pod's processes stay unknown", place.cgroups),
    )
}

fn device_nodes(place: &Place, state: State) -> Check {
    const NAME: &str = "device nodes";
    let closed = place.devices.iter().filter(|(_, mode)| mode & FOR_ALL != FOR_ALL);
    let closed: Vec<String> = closed.map(|(path, mode)| format!("{path} {mode:04o}")).collect();
    match (place.devices.is_empty(), closed.is_empty()) {
        (true, _) if state == State::Ok => Check::warn(NAME, "none in /dev, but the driver answers"),
        (true, _) => Check::fail(NAME, "none in /dev: the container runtime gave this container no GPU"),
        (false, false) => Check::warn(NAME, format!("not for everybody: {}", closed.join(", "))),
        (false, true) => Check::ok(NAME, format!("{} in /dev, open to all users", place.devices.len())),
    }
}

fn report_size(report: &Report) -> Check {
    const NAME: &str = "report size";
    let Ok((shrunk, text)) = fit(report, false) else {
        return Check::fail(NAME, "the report cannot be printed");
    };
    let told = format!("{} of at most {MAX_BYTES} bytes", text.len());
    let left_out: u32 = shrunk.gpus.iter().filter_map(|gpu| Some(gpu.procs.as_ref()?.more)).sum();
    match (text.len() <= MAX_BYTES, left_out) {
        (false, _) => Check::fail(NAME, format!("{told}: it will not be written")),
        (true, 0) => Check::ok(NAME, told),
        (true, count) => {
            Check::ok(NAME, format!("{told}; {count} smaller processes are counted, not listed"))
        }
    }
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::clock::Now;
    use crate::gpu::Identity;
    use crate::observer::Observer;
    use crate::probe::Fault;
    use crate::probe::fake::FakeProbe;
    use crate::procfs::tests::FakeProc;
    use crate::report::tests::report;

    fn place() -> Place {
        Place {
            library: Some("/usr/lib/libnvidia-ml.so.1".to_owned()),
            devices: vec![("/dev/nvidia0".to_owned(), 0o666), ("/dev/nvidiactl".to_owned(), 0o666)],
            attribution: Attribution::Full,
            sees_others: true,
            cgroups: "v2 (private)".to_owned(),
            knows_own_pod: true,
            report: report(vec![]),
        }
    }

    fn verdicts(fake: FakeProbe, place: &Place) -> Vec<(&'static str, Verdict)> {
        let snapshot = Observer::new(fake, FakeProc::new().proc()).round(&[], Now::at(0));
        checks(&snapshot, place).into_iter().map(|check| (check.name, check.verdict)).collect()
    }

    #[test]
    fn a_sound_node_passes_every_check() {
        let found = verdicts(FakeProbe::with_gpus(2), &place());
        assert!(found.iter().all(|(_, verdict)| *verdict == Verdict::Ok), "{found:?}");
        assert_eq!(found.len(), 9);
    }

    #[test]
    fn each_trouble_has_a_check_that_tells_it() {
        let sound = || FakeProbe::with_gpus(1);
        let version = |text: &str| FakeProbe { version: text.to_owned(), ..sound() };
        let mut lost = FakeProbe::with_gpus(2);
        lost.memory.insert(1, Err(Fault::GpuLost));
        let mut asleep = sound();
        asleep.gpus = vec![Ok(Identity { persistent: Some(false), ..FakeProbe::identity(0) })];
        let nested = Place { attribution: Attribution::Namespace, ..place() };
        let table = [
            ("library", Verdict::Fail, sound(), Place { library: None, ..place() }),
            ("driver", Verdict::Fail, FakeProbe { open: Some(Fault::from_code(9)), ..sound() }, place()),
            ("driver version", Verdict::Warn, version("535.86.10"), place()),
            ("driver version", Verdict::Warn, version("550.54.14"), nested.clone()),
            ("driver version", Verdict::Warn, version("470.256.02"), nested.clone()),
            ("driver version", Verdict::Warn, version(""), place()),
            ("gpu", Verdict::Warn, lost, place()),
            ("persistence", Verdict::Warn, asleep, place()),
            ("pid namespace", Verdict::Warn, sound(), nested),
            ("hidepid", Verdict::Warn, sound(), Place { sees_others: false, ..place() }),
            ("cgroup", Verdict::Warn, sound(), Place { knows_own_pod: false, ..place() }),
            ("device nodes", Verdict::Warn, sound(), Place { devices: vec![], ..place() }),
            (
                "device nodes",
                Verdict::Fail,
                FakeProbe { open: Some(Fault::from_code(9)), ..sound() },
                Place { devices: vec![], ..place() },
            ),
            (
                "device nodes",
                Verdict::Warn,
                sound(),
                Place { devices: vec![("/dev/nvidia0".to_owned(), 0o660)], ..place() },
            ),
        ];
        for (name, verdict, fake, place) in table {
            let found = verdicts(fake, &place);
            assert!(found.contains(&(name, verdict)), "{name}: {found:?}");
        }
    }
}
