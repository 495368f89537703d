//! Engines that have nothing in common, each by its own profile through the whole worker: what comes out is the film;
//! what an engine spoils is refused, and the film is right after a retry.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use video_upscale::api::worker::{Code, ProbeFigures};
use video_upscale::profile::{Picture, Piece, need_bytes};

use crate::asked::Asked;
use crate::bench::{Bench, ExpectDone as _};
use crate::checker::{Expected, differences};
use crate::clips::Clip;
use crate::driver::Driver;
use crate::film::Film;
use crate::profiles::Engine;
use crate::short_run::{full_run, left_out};

/// A short film with sound, two segments.
const FILM: Clip =
    Clip::new("film.mp4", "FILM TONE -c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p -c:a aac").rate("30000/1001");
/// What comes of it.
const RESULT: &str = "out.mp4";

/// A film under way.
struct Job<'a> {
    engine: &'a Engine,
    driver: &'a Driver,
    bench: Bench,
    figures: ProbeFigures,
}

impl<'a> Job<'a> {
    /// Made and probed.
    fn begin(engine: &'a Engine, driver: &'a Driver, uid: &str) -> Self {
        let bench = engine.bench(uid, Asked::PLAIN);
        FILM.make(&bench);
        let figures = bench.probe(FILM.name, RESULT).expect_done().probe.unwrap();
        Self { engine, driver, bench, figures }
    }

    fn picture(&self) -> Picture {
        Picture::of(&self.engine.spec, self.figures.width, self.figures.height, self.figures.scale)
    }

    fn piece(&self, number: u32) -> Piece {
        Piece { number, frames: self.figures.longest_read, fragmentation_env: false }
    }

    fn prepare(&self, segment: u32, pieces: u32) {
        let need =
            need_bytes(&self.engine.spec, self.engine.step, &self.picture(), self.figures.longest_read);
        self.bench.prepare(FILM.name, segment, pieces, self.driver, need.unwrap()).expect_done();
    }

    /// Prepares a segment and runs the engine, which must end with 0; what `finish` says.
    fn attempt(&self, segment: u32, pieces: u32) -> video_upscale::api::worker::End {
        self.prepare(segment, pieces);
        for number in 0..pieces {
            let output = self.engine.run(&self.bench, self.driver, &self.picture(), self.piece(number));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        self.bench.finish(segment, pieces)
    }

    /// The other segments, the merge, and a look at what came out.
    fn end(&self, from: u32, pieces: u32) {
        for segment in from..self.figures.segments {
            self.attempt(segment, pieces).expect_done();
        }
        self.bench.merge(FILM.name, RESULT).expect_done();
        let source = Film::of(&self.bench, &self.bench.source(FILM.name), None);
        let result = Film::of(&self.bench, &self.bench.destination(RESULT), None);
        let scale = usize::try_from(self.figures.scale).unwrap();
        let found = differences(&source, &result, Expected { scale, other_family: false });
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Spoils one run of the engine on the only card.
fn spoil(driver: &Driver, how: &str) {
    driver.control(&["engine", "0", how, "--runs", "1"]);
}

/// Every way in which an engine ends with 0 and has not done its work; each refused, then the film as it should be.
fn spoilt_and_retried(engine: &Engine, uid: &str) {
    let driver = Driver::start();
    let job = Job::begin(engine, &driver, uid);
    let mut missed = Vec::new();
    for how in [
        "drop-frame",
        "repeat-frame",
        "black-frame",
        "too-few-frames",
        "wrong-codec",
        "no-output",
        "partial-file",
    ] {
        spoil(&driver, how);
        let end = job.attempt(0, 1);
        if end.code != Code::BadOutput || !job.bench.parts().is_empty() {
            missed.push(format!("{how}: {:?} {}; parts: {:?}", end.code, end.message, job.bench.parts()));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    job.end(0, 1);
}

#[test]
fn flashvsr_is_refused_what_it_spoils_and_right_after_a_retry() {
    spoilt_and_retried(&Engine::flashvsr(), "flashvsr");
}

#[test]
fn realesrgan_is_refused_what_it_spoils_and_right_after_a_retry() {
    spoilt_and_retried(&Engine::realesrgan(), "realesrgan");
}

#[test]
fn seedvr2_is_refused_what_it_spoils_and_right_after_a_retry() {
    spoilt_and_retried(&Engine::seedvr2(), "seedvr2");
}

#[test]
fn engines_that_die_say_so_in_their_own_way() {
    let driver = Driver::start();
    for (engine, how, exit, said) in [
        (Engine::flashvsr(), "crash", Some(1), "RuntimeError: The size of tensor a"),
        (Engine::flashvsr(), "incompatible", Some(1), "triton.runtime.errors.OutOfResources"),
        (Engine::realesrgan(), "crash", None, ""),
        (Engine::realesrgan(), "incompatible", Some(255), "invalid gpu device"),
    ] {
        let job = Job::begin(&engine, &driver, "dies");
        job.prepare(0, 1);
        spoil(&driver, how);
        let output = engine.run(&job.bench, &driver, &job.picture(), job.piece(0));
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), exit, "{how}: {text}");
        assert!(text.contains(said), "{how}: {text}");
    }
}

#[test]
fn realesrgan_out_of_memory_ends_with_0_and_is_refused() {
    let driver = Driver::with_card_of(1_800);
    let engine = Engine::realesrgan();
    let job = Job::begin(&engine, &driver, "little");
    job.bench.cut(FILM.name, 0, 1);
    driver.control(&["need", "0", "400"]);
    let output = engine.run(&job.bench, &driver, &job.picture(), job.piece(0));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("vkAllocateMemory failed"), "{text}");
    let pattern = &engine.spec.failure.out_of_memory;
    assert!(pattern.iter().any(|pattern| text.contains(pattern)), "the profile's pattern finds it");
    let end = job.bench.finish(0, 1);
    assert_eq!(end.code, Code::BadOutput, "{}", end.message);
    driver.control(&["need", "0", "100"]);
    job.end(0, 1);
}

#[test]
fn seedvr2_out_of_memory_says_so_and_then_waits_for_ever() {
    let driver = Driver::with_card_of(8_000);
    let engine = Engine::seedvr2();
    let job = Job::begin(&engine, &driver, "waits");
    job.bench.cut(FILM.name, 0, 1);
    let mut command = engine.command(&job.bench, &driver, &job.picture(), job.piece(0));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.into_iter().find(|line| line.contains("CUDA out of memory"));
    assert!(told.is_some_and(|line| line.starts_with("torch.OutOfMemoryError: ")));
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(job.bench.finish(0, 1).code, Code::BadOutput);
}

#[test]
fn pieces_make_no_difference() {
    let driver = Driver::start();
    let engine = Engine::realesrgan();
    // It has no memory of other pictures, so the parts must be equal byte for byte.
    let parts: Vec<Vec<String>> = [1, 2, 4]
        .into_iter()
        .map(|pieces| {
            let job = Job::begin(&engine, &driver, "pieces");
            let sums = (0..job.figures.segments)
                .map(|segment| job.attempt(segment, pieces).expect_done().finish.unwrap().sha256);
            let sums = sums.collect();
            job.end(job.figures.segments, pieces);
            sums
        })
        .collect();
    assert_eq!(parts[0].len(), 2);
    assert!(parts.iter().all(|sums| *sums == parts[0]), "{parts:#?}");
    // This one has; what it makes is read again. Two pieces are run in other tests.
    if !full_run() {
        left_out("runs", &["FlashVSR in four pieces"]);
        return;
    }
    let engine = Engine::flashvsr();
    Job::begin(&engine, &driver, "pieces").end(0, 4);
}
