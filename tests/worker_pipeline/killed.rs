//! The worker killed at every program that it starts and at every change that it makes to its folders: never part of a
//! file under a final name, and the next run ends as if nothing had happened. With `UPSCALE_TEST_FULL` set also at every
//! write to a file, and at all changes of all stages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::process::{PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::driver::Driver;
use crate::made::make;
use crate::short_run::full_run;
use crate::wrapped::{scripted, spawn};

/// Files by their path below a folder.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// All files below a folder.
pub fn files(folder: &Path) -> Files {
    let mut found = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(&inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Makes a folder what it was.
pub fn restore(folder: &Path, files: &Files) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A stage that is killed, with what lies on the destination claim before it and after it has come to its end.
struct Stage<'a> {
    name: &'static str,
    bench: &'a Bench,
    command: &'a dyn Fn() -> Command,
    before: Files,
    after: Files,
}

impl<'a> Stage<'a> {
    /// Runs it once, whole.
    fn of(name: &'static str, bench: &'a Bench, command: &'a dyn Fn() -> Command) -> Self {
        // Times of a copy are its own; the first run sees what all others see.
        let folder = bench.destination("");
        let before = files(&folder);
        restore(&folder, &before);
        bench.end(&command().output().unwrap()).expect_done();
        let after = files(&folder);
        let hidden = after.keys().filter(|path| is_hidden(path)).collect::<Vec<_>>();
        assert!(hidden.is_empty(), "{name} leaves {hidden:?}");
        Self { name, bench, command, before, after }
    }

    fn begin(&self) {
        restore(&self.bench.destination(""), &self.before);
    }

    /// What a killed run has left under final names is whole; a run after it ends as the first did.
    fn check(&self, point: &str) {
        let what = format!("{} killed {point}", self.name);
        let folder = self.bench.destination("");
        for (path, bytes) in files(&folder).iter().filter(|(path, _)| !is_hidden(path)) {
            let sidecar = path.ends_with("result.json").then_some(Path::new("out.mp4.upscale.json"));
            let whole =
                [self.before.get(path), self.after.get(path), self.after.get(sidecar.unwrap_or(path))];
            assert!(whole.contains(&Some(bytes)), "{what}: {} is not what it is to be", path.display());
        }
        self.bench.end(&(self.command)().output().unwrap()).expect_done();
        let (found, wanted) = (files(&folder), &self.after);
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(wanted), "{what}: files after the next run");
        assert!(found == *wanted, "{what}: other files after the next run");
    }
}

/// Files that are written aside have hidden names; so has the folder of the work folders.
fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with('.')
}

/// Kills the stage after each ffmpeg that it starts, before it knows of the end; how often.
fn kill_at_programs(stage: &Stage<'_>) -> u32 {
    kill_at_programs_and(stage, |_| ())
}

/// As [`kill_at_programs`], and looks at what the run after each has left.
fn kill_at_programs_and(stage: &Stage<'_>, look: impl Fn(u32)) -> u32 {
    let taken = stage.bench.root().join("taken");
    for point in 1.. {
        // Numbers are taken by making a folder, as two programs may start at once.
        let text = format!(
            "n=1\nwhile ! mkdir {taken:?}/$n 2>/dev/null; do n=$((n+1)); done\n\
             if [ $n = {point} ]; then FFMPEG \"$@\"; kill -9 0; fi\nexec FFMPEG \"$@\"\n"
        );
        let command = scripted(stage.bench, "ffmpeg", &(stage.command)(), &text);
        std::fs::create_dir(&taken).unwrap();
        stage.begin();
        let (mut child, _) = spawn(command);
        let status = child.wait().unwrap();
        std::fs::remove_dir_all(&taken).unwrap();
        if status.success() {
            return point - 1;
        }
        assert_eq!(status.code(), None, "{}: it ended by itself at program {point}", stage.name);
        stage.check(&format!("at its ffmpeg number {point}"));
        look(point);
    }
    unreachable!()
}

/// Runs the stage until its folders have changed so often, then kills it; whether it came that far.
fn killed_at_change(stage: &Stage<'_>, number: usize) -> bool {
    stage.begin();
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    let mut changes = WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE
        | WatchFlags::ONLYDIR;
    let mut folders = vec![stage.bench.destination(""), stage.bench.work_folder()];
    if full_run() {
        changes |= WatchFlags::MODIFY;
        folders.push(stage.bench.root().join("scratch"));
    }
    let parts = stage.bench.work_folder().join("parts");
    std::fs::create_dir_all(&parts).unwrap();
    folders.push(parts);
    for folder in folders {
        inotify::add_watch(&watch, &folder, changes).unwrap();
    }
    let (mut child, pid) = spawn((stage.command)());
    let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut seen = 0;
    let came_so_far = loop {
        let mut fds = [PollFd::new(&watch, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        let ended = fds[1].revents().contains(PollFlags::IN);
        while let Ok(event) = events.next() {
            seen += usize::from(!event.events().contains(ReadFlags::IGNORED));
            if seen == number {
                break;
            }
        }
        if seen >= number || ended {
            break seen >= number;
        }
    };
    // It may have ended by itself meanwhile; its number is not given to another before it is waited for.
    let _ = kill_process_group(pid, Signal::KILL);
    child.wait().unwrap();
    let _ = std::fs::remove_file(stage.bench.root().join("end"));
    came_so_far
}

/// Kills the stage at every `step`th change from `first` on; how often.
fn kill_at_changes(stage: &Stage<'_>, first: usize, step: usize) -> usize {
    let mut kills = 0;
    let mut number = first;
    while killed_at_change(stage, number) {
        stage.check(&format!("at change {number}"));
        number += step;
        kills += 1;
    }
    kills
}

/// What `prepare` leaves is the engine's: a start after a killed one leaves the same, and nothing of the killed one's.
fn prepare_killed(bench: &Bench) {
    let driver = Driver::start();
    let destination = files(&bench.destination(""));
    let parts = bench.work_folder().join("parts");
    std::fs::remove_dir_all(&parts).unwrap();
    std::fs::create_dir(&parts).unwrap();
    let scratch = bench.root().join("scratch");
    let prepare = || bench.prepare_command("film.mp4", 0, 2, &driver, 0);
    std::fs::remove_dir_all(&scratch).unwrap();
    std::fs::create_dir(&scratch).unwrap();
    bench.end(&prepare().output().unwrap()).expect_done();
    let whole = files(&scratch);
    let before = files(&bench.destination(""));
    let stage = Stage { name: "prepare", bench, command: &prepare, before: before.clone(), after: before };
    let kills = kill_at_programs_and(&stage, |point| {
        assert!(
            files(&scratch) == whole,
            "prepare killed at its ffmpeg number {point}: another cut after the next run"
        );
    });
    // The version, and the cuts of two pieces.
    assert!(kills >= 3, "{kills}");
    if full_run() {
        assert!(kill_at_changes(&stage, 1, 1) >= 2);
        assert!(files(&scratch) == whole, "prepare killed at changes: another cut after the next run");
    }
    restore(&bench.destination(""), &destination);
}

const FILM: &str =
    "-f lavfi -i testsrc2=s=64x36:r=25:d=0.8 -f lavfi -i sine=d=0.8 -c:v libx264 -pix_fmt yuv420p -c:a aac";

#[test]
fn a_killed_stage_leaves_nothing_half_and_the_next_ends_right() {
    let bench = Bench::new("killed");
    make(&bench, "film.mp4", FILM);
    let probe = || bench.probe_command("film.mp4", "out.mp4");
    let stage = Stage::of("probe", &bench, &probe);
    assert!(kill_at_programs(&stage) >= 2);
    if full_run() {
        assert!(kill_at_changes(&stage, 1, 1) >= 4);
    }

    bench.cut("film.mp4", 0, 1);
    bench.run_engine(1, &Engine::default());
    let finish = || bench.finish_command(0, 1);
    let stage = Stage::of("finish", &bench, &finish);
    assert!(kill_at_programs(&stage) >= 4);
    assert!(kill_at_changes(&stage, 1, 1) >= 6);

    let probed = bench.probe("film.mp4", "out.mp4").expect_done().probe.unwrap();
    for segment in 1..probed.segments {
        bench.cut("film.mp4", segment, 1);
        bench.run_engine(1, &Engine::default());
        bench.finish(segment, 1).expect_done();
    }
    prepare_killed(&bench);

    let merge = || bench.merge_command("film.mp4", "out.mp4");
    let stage = Stage::of("merge", &bench, &merge);
    assert!(kill_at_programs(&stage) >= 6);
    assert!(kill_at_changes(&stage, 1, if full_run() { 1 } else { 2 }) >= 6);
}
