//! Two merges of one job at once, as when a node is given up that still works: whichever ends first, the film is whole
//! and right, and both say so.

use std::process::Command;

use rustix::process::{Signal, kill_process_group};
use video_upscale::api::worker::{Code, End};
use video_upscale::worker::publish::digest;

use crate::bench::{Bench, ExpectDone as _};
use crate::clips::Clip;
use crate::killed::{Files, files, restore};
use crate::wrapped::{scripted, spawn, wait_until_stopped};

const FILM: Clip =
    Clip::new("film.mkv", "FILM TONE -c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p -c:a flac").frames(40);
const TO: &str = "out.mkv";

/// Numbers the programs of a worker, from 1.
const NUMBERED: &str = "n=1\nwhile ! mkdir TAKEN/$n 2>/dev/null; do n=$((n+1)); done\n";

/// A job whose parts are made, and how many programs its merge starts.
struct Made {
    bench: Bench,
    parts: Files,
    programs: usize,
}

impl Made {
    fn of(uid: &str) -> Self {
        let bench = Bench::new(uid);
        FILM.make(&bench);
        bench.make_parts(FILM.name, TO);
        let parts = files(&bench.destination(""));
        let mut made = Self { bench, parts, programs: 0 };
        let output = made.numbered("count", "exec FFMPEG \"$@\"\n").output().unwrap();
        made.bench.end(&output).expect_done();
        made.programs = std::fs::read_dir(made.bench.root().join("count-taken")).unwrap().count();
        restore(&made.bench.destination(""), &made.parts);
        made
    }

    fn merge(&self) -> Command {
        self.bench.merge_command(FILM.name, TO)
    }

    /// The merge with a script as ffmpeg in which `$n` is the number of the program.
    fn numbered(&self, name: &str, script: &str) -> Command {
        let taken = self.bench.root().join(format!("{name}-taken"));
        std::fs::create_dir(&taken).unwrap();
        let script = NUMBERED.replace("TAKEN", &format!("{taken:?}")) + script;
        scripted(&self.bench, name, &self.merge(), &script)
    }

    /// The merge that stops once its last program has ended: all is verified, nothing has its name.
    fn stopping_when_verified(&self) -> Command {
        let last = self.programs;
        let script = format!("FFMPEG \"$@\"; code=$?\n[ $n = {last} ] && kill -STOP $PPID\nexit $code\n");
        self.numbered("first", &script)
    }

    /// The film is there, whole, as that end says; nothing else is.
    fn check(&self, end: &End) {
        let figures = end.merge.as_ref().unwrap();
        let found = digest(&self.bench.destination(TO)).unwrap();
        assert_eq!(found, (figures.bytes, figures.sha256.clone()));
        let names: Vec<_> = files(&self.bench.destination("")).into_keys().collect();
        assert_eq!(names, [TO, "out.mkv.upscale.json"].map(std::path::PathBuf::from));
    }
}

#[test]
fn a_merge_that_comes_late_finds_what_another_has_made() {
    let made = Made::of("late");
    let (mut first, pid) = spawn(made.stopping_when_verified());
    wait_until_stopped(pid);
    let second = made.bench.end(&made.merge().output().unwrap()).expect_done();
    kill_process_group(pid, Signal::CONT).unwrap();
    let status = first.wait().unwrap();
    let end = made.bench.end(&std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() });
    assert_eq!((end.code, &end.merge), (Code::Done, &second.merge), "{}", end.message);
    made.check(&end);
}

#[test]
fn a_merge_never_publishes_what_another_has_half_made() {
    let made = Made::of("half");
    let (mut first, first_pid) = spawn(made.stopping_when_verified());
    wait_until_stopped(first_pid);
    // It has written half of its film.
    let joins = "case \" $* \" in\n*\" concat \"*) for target; do :; done\n\
                 printf half > \"${target#file:}\"\nkill -STOP $PPID\nkill -STOP $$\n;;\nesac\nexec FFMPEG \"$@\"\n";
    let (mut second, second_pid) = spawn(scripted(&made.bench, "second", &made.merge(), joins));
    wait_until_stopped(second_pid);
    kill_process_group(first_pid, Signal::CONT).unwrap();
    let end = |child: &mut std::process::Child| {
        let status = child.wait().unwrap();
        made.bench.end(&std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() }).expect_done()
    };
    let whole = end(&mut first);
    let figures = whole.merge.as_ref().unwrap();
    let found = digest(&made.bench.destination(TO)).unwrap();
    assert_eq!(found, (figures.bytes, figures.sha256.clone()));
    kill_process_group(second_pid, Signal::CONT).unwrap();
    assert_eq!(end(&mut second).merge, whole.merge);
    made.check(&whole);
}
