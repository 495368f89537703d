//! What the video work costs: `cargo bench --bench video`, or with the name of one measurement behind it.
//!
//! Each figure is printed with its limit; ends with 1 if one is beyond. Wants an idle machine, and ffmpeg as the tests of
//! the video work do.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "measures time, looks at running programs again and again, and ends where something is not as it should be"
)]
#![allow(dead_code, reason = "shares its clips and benches with the tests of the video work")]

mod asked;
mod bars;
mod bench;
mod clips;
mod driver;
mod many_parts;
mod watched;

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use video_upscale::api::profile::FrameRule;
use video_upscale::api::worker::{Encode, EncodePreset};
use video_upscale::worker::plan;

use asked::{Asked, Wanted};
use bench::{Bench, Engine, ExpectDone as _};
use clips::Clip;
use driver::Driver;
use many_parts::many_parts;
use watched::watch;

/// Each is measured so often; the fastest counts.
const TIMES: usize = 5;
const MIB: u64 = 1 << 20;

/// A name, and what prints its figures and tells whether all are within their limits.
type Measurement = (&'static str, fn() -> bool);

fn main() -> ExitCode {
    let measurements: [Measurement; 4] = [
        ("probe_and_cut", probe_and_cut),
        ("join", join),
        ("memory", memory),
        ("memory_over_a_long_take", memory_over_a_long_take),
    ];
    // Cargo itself says `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|word| name.contains(word.as_str()));
    let mut beyond = Vec::new();
    for (name, measure) in measurements.into_iter().filter(|(name, _)| wanted(name)) {
        println!("{name}");
        if !measure() {
            beyond.push(name);
        }
    }
    if beyond.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("beyond their limits: {}", beyond.join(", "));
    ExitCode::FAILURE
}

/// The fastest of several runs, seconds.
fn fastest(mut run: impl FnMut()) -> f64 {
    let seconds = (0..TIMES).map(|_| {
        let began = Instant::now();
        run();
        began.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// Prints a figure; whether it is within its limit.
fn within(what: &str, figure: f64, limit: f64, unit: &str) -> bool {
    println!("{what}: {figure:.3}{unit}, limit {limit}{unit}");
    figure <= limit
}

/// Two minutes, 720 lines, with noise, as films have it.
const LONG: Clip = Clip::new(
    "long.mp4",
    "-f lavfi -i testsrc2=s=1280x720:r=25:d=120 -vf noise=alls=6:allf=t -c:v libx264 -preset veryfast -g 100 -bf 3 \
     -pix_fmt yuv420p",
);

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

fn probe_and_cut() -> bool {
    let bench = Bench::of("figures", Asked { segment_frames: Some(100), ..Asked::PLAIN }, Wanted::default());
    LONG.make(&bench);
    let path = bench.source(LONG.name);
    let base = {
        bench.probe(LONG.name, "out.mp4").expect_done();
        bench.work().index.base.to_string()
    };
    let plain = fastest(|| {
        let mut command = Command::new(&bench.ffmpeg);
        command.args(words("-nostdin -v error -threads 4 -copyts -noautorotate -i")).arg(&path);
        command.args(words("-map 0:V -fps_mode passthrough -enc_time_base")).arg(&base);
        let run = command.args(words("-f framehash -hash murmur3 pipe:1")).stdout(Stdio::null());
        assert!(run.status().unwrap().success());
    });
    let probe = fastest(|| {
        // A second probe of a job takes the index of the first.
        std::fs::remove_dir_all(bench.work_folder()).unwrap();
        bench.probe(LONG.name, "out.mp4").expect_done();
    });
    println!("decode with hashes {plain:.2} s, probe {probe:.2} s");
    let probe = within("probe to one decode with hashes", probe / plain, 1.15, "");

    let work = bench.work();
    let segment = u32::try_from(work.plan.segments.len() / 2).unwrap();
    let owned = work.plan.segment(segment).unwrap();
    let wanted = Wanted::default().input;
    let read = plan::read(owned, work.index.frames(), &wanted).unwrap();
    let key = work.index.keys.partition_point(|key| *key <= read.span.start) - 3;
    let key = work.index.keys[key];
    let micros =
        work.index.base.micros(work.index.time(key - 1).unwrap() + work.index.time(key).unwrap()) / 2;
    let time = |frame: u64| work.index.time(frame).unwrap();
    let (first, last) = (time(read.span.start), time(read.span.end - 1));
    let target = bench.root().join("plain.mp4");
    let plain = fastest(|| {
        let mut command = Command::new(&bench.ffmpeg);
        command.args(words("-nostdin -v error -y -threads 4 -copyts -noautorotate -seek_timestamp 1 -ss"));
        command.arg(format!("{micros}us")).arg("-i").arg(&path).arg("-vf").arg(format!(
            "select='between(pts,{first},{last})',settb=1/25,setpts=N,format=gbrp,pad=1288:728:4:4,\
             fillborders=left=4:right=4:top=4:bottom=4:mode=smear"
        ));
        command.args(words("-fps_mode passthrough -enc_time_base 1/25 -frames:v"));
        command.arg(read.span.frames().to_string());
        let run = command.args(words("-threads 4 -c:v libx264rgb -qp 0 -preset ultrafast")).arg(&target);
        assert!(run.status().unwrap().success());
    });
    let cut = fastest(|| bench.cut(LONG.name, segment, 1));
    println!("plain cut of {} pictures {plain:.2} s, proved cut {cut:.2} s", read.span.frames());
    let cut = within("cut in the middle to the same plain cut", cut / plain, 1.2, "");
    probe && cut
}

fn join() -> bool {
    let film = Clip::new(
        "many.mp4",
        "-f lavfi -i testsrc2=s=64x36:r=25:d=480 -f lavfi -i sine=d=480 -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac",
    );
    let mut wanted = Wanted::default();
    wanted.input.frames = FrameRule { multiple: 1, remainder: 0, minimum: 1 };
    (wanted.input.context_before, wanted.input.context_after) = (0, 0);
    let bench = Bench::of("join", Asked { segment_frames: Some(10), ..Asked::PLAIN }, wanted);
    film.make(&bench);
    let figures = bench.probe(film.name, "out.mp4").expect_done().probe.unwrap();
    many_parts(&bench, film.name, "128:72:flags=fast_bilinear", "-preset veryfast");
    let index = bench.work().index;
    let merged = watch(&mut bench.merge_command(film.name, "out.mp4"));
    bench.end(&merged.output).expect_done();
    println!(
        "{} parts, {} pictures: merge {:.2} s with all checks, {:.2} s of it the join",
        figures.segments, figures.frames, merged.seconds, merged.joining
    );
    let json = bench.ffprobe(
        &["-select_streams", "v:0", "-show_entries", "packet=pts:stream=time_base"],
        &bench.destination("out.mp4"),
    );
    let base =
        json["streams"][0]["time_base"].as_str().unwrap().parse::<video_upscale::worker::ratio::Ratio>();
    let base = base.unwrap().value();
    let mut times: Vec<i64> =
        json["packets"].as_array().unwrap().iter().map(|packet| packet["pts"].as_i64().unwrap()).collect();
    times.sort_unstable();
    assert_eq!((times.len(), figures.segments), (index.pts.len(), 1200));
    let drift = times.iter().zip(&index.pts).map(|(is, was)| {
        let is = (is - times[0]) as f64 * base;
        (is - (was - index.pts[0]) as f64 * index.base.value()).abs() * 1000.0
    });
    let drift = within("drift", drift.fold(0.0, f64::max), 0.0004, " ms");
    let join = within("join of 1,200 parts", merged.joining, 2.0, " s");
    let memory = within("memory of the join", (merged.joining_peak / MIB) as f64, 128.0, " MiB");
    drift && join && memory
}

fn memory() -> bool {
    let driver = Driver::start();
    let mut all = true;
    for (width, height) in [(960, 540), (1920, 1080)] {
        for preset in [EncodePreset::Medium, EncodePreset::Slow] {
            let encode = Encode { codec: None, quality: 16, preset };
            let bench = Bench::of("memory", Asked { encode, ..Asked::PLAIN }, Wanted::default());
            let how = format!(
                "-f lavfi -i testsrc2=s={width}x{height}:r=25 -frames:v 24 -vf noise=alls=6:allf=t -c:v libx264 -preset veryfast \
                 -pix_fmt yuv420p"
            );
            let mut args: Vec<String> = words(&how).map(str::to_owned).collect();
            args.push(bench.source("film.mp4").to_string_lossy().into_owned());
            bench.ffmpeg(&args);
            bench.probe("film.mp4", "out.mp4").expect_done();
            // Of the picture that the engine writes, padding included.
            let pixels = (width + 8) * (height + 8) * 4;
            let prepare = watch(&mut bench.prepare_command("film.mp4", 0, 1, &driver, 0));
            bench.end(&prepare.output).expect_done();
            bench.run_engine(1, &Engine::default());
            let finish = watch(&mut bench.finish_command(0, 1));
            bench.end(&finish.output).expect_done();
            for (step, found, base, a_pixel) in
                [("prepare", prepare.peak, 256, 70), ("finish", finish.peak, 512, 220)]
            {
                let limit = base * MIB + a_pixel * pixels;
                let what = format!("{step} of a film of {}x{}, {preset:?}", width * 2, height * 2);
                all &= within(&what, (found / MIB) as f64, (limit / MIB) as f64, " MiB");
            }
        }
    }
    all
}

fn memory_over_a_long_take() -> bool {
    let take = Clip::new(
        "take.mp4",
        "-f lavfi -i testsrc2=s=1920x1080:r=25:d=16 -c:v libx264 -preset ultrafast -g 50 -pix_fmt yuv420p",
    );
    let bench = Bench::of("take", Asked { segment_frames: Some(100), ..Asked::PLAIN }, Wanted::default());
    take.make(&bench);
    let probe = watch(&mut bench.probe_command(take.name, "out.mp4"));
    bench.end(&probe.output).expect_done();
    // A pod of the probe has 1,536 MiB; a film must not need more for being longer.
    within("probe of 400 pictures of 1920x1080 without a cut", (probe.peak / MIB) as f64, 768.0, " MiB")
}
