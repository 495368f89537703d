//! What the video work costs: `cargo bench --bench video`, or with the name of one measurement behind it.
//!
//! Each figure is printed with its limit; ends with 1 if one is beyond. Wants an idle machine, and ffmpeg as the tests of
//! the video work do.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "measures time, looks at running programs again and again, and ends where something is not as it should be"
)]
#![allow(dead_code, reason = "shares its clips and benches with the tests of the video work")]

mod asked;
mod bars;
mod bench;
mod clips;
mod driver;

use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use video_upscale::api::profile::FrameRule;
use video_upscale::api::worker::{Encode, EncodePreset};
use video_upscale::worker::parts::Manifest;
use video_upscale::worker::publish::{digest, write_json};
use video_upscale::worker::{media, plan};

use asked::{Asked, Wanted};
use bench::{Bench, Engine, ExpectDone as _};
use clips::Clip;
use driver::Driver;

/// Each is measured so often; the fastest counts.
const TIMES: usize = 5;
const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let measurements: [(&str, fn() -> bool); 4] = [
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

/// A run of a program and of those that it started.
struct Watched {
    output: Output,
    seconds: f64,
    /// Most memory that all held at once, bytes.
    peak: u64,
    /// How long a program with `-f concat` ran, seconds.
    joining: f64,
}

/// Runs a program and looks at it every few milliseconds.
fn watch(command: &mut Command) -> Watched {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut peak, mut first, mut last) = (0, None, None);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let (memory, joining) = look(child.id());
        peak = peak.max(memory);
        if joining {
            first.get_or_insert_with(|| began.elapsed());
            last = Some(began.elapsed());
        }
        sleep(Duration::from_millis(2));
    };
    let seconds = began.elapsed().as_secs_f64();
    let joining = last.zip(first).map_or(0.0, |(last, first)| (last - first).as_secs_f64());
    Watched { output: Output { status, stdout: Vec::new(), stderr: Vec::new() }, seconds, peak, joining }
}

/// Bytes that a process and its descendants hold, and whether one of them joins films.
fn look(process: u32) -> (u64, bool) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    let own = read("status").lines().find(|line| line.starts_with("VmRSS:")).and_then(kib).unwrap_or(0);
    let joins = read("cmdline").contains("\0concat\0");
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children: String =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok()).collect();
    let below = children.split_whitespace().filter_map(|child| child.parse().ok()).map(look);
    below.fold((own * 1024, joins), |(bytes, joins), (more, joining)| (bytes + more, joins || joining))
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
    let bench = Bench::of("figures", Asked { segment_frames: 100, ..Asked::PLAIN }, Wanted::default());
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

/// Parts of a film made in one run, and their manifests.
fn many_parts(bench: &Bench, source: &str) {
    let work = bench.work();
    let tools = bench.tools();
    std::fs::create_dir_all(work.folder.parts()).unwrap();
    let borders: Vec<String> = work.plan.segments.iter().skip(1).map(|span| span.start.to_string()).collect();
    let borders = borders.join(",");
    let times: Vec<String> =
        work.plan.segments.iter().map(|span| format!("{:.6}", span.start as f64 / 25.0)).collect();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut args = vec!["-i".to_owned(), text(&bench.source(source))];
    args.extend(words("-map 0:v -vf scale=128:72:flags=fast_bilinear -c:v libx264 -x264-params bframes=0:fps=25 -preset veryfast").map(str::to_owned));
    args.extend(["-force_key_frames".to_owned(), times.join(",")]);
    args.extend(["-f", "segment", "-segment_frames", &borders, "-reset_timestamps", "1"].map(str::to_owned));
    args.extend(
        ["-segment_format", "mp4", "-segment_format_options", "video_track_timescale=12800"]
            .map(str::to_owned),
    );
    args.push(text(&bench.root().join("part-%d.mp4")));
    bench.ffmpeg(&args);
    let first = media::read(&tools, &bench.root().join("part-0.mp4")).unwrap();
    let header = first.film().unwrap().extradata_hash.clone().unwrap();
    for (segment, owned) in (0u32..).zip(&work.plan.segments) {
        let part = work.folder.part(0, segment);
        std::fs::rename(bench.root().join(format!("part-{segment}.mp4")), &part).unwrap();
        let (bytes, sha256) = digest(&part).unwrap();
        let manifest = Manifest {
            v: 1,
            index: work.plan.index.clone(),
            round: 0,
            segment,
            owned: *owned,
            scale: 2,
            attempt: 1,
            step: 0,
            pieces: 1,
            width: 128,
            height: 72,
            encoder: "libx264".to_owned(),
            header: header.clone(),
            bytes,
            sha256,
        };
        write_json(&work.folder.manifest(0, segment), &manifest).unwrap();
    }
}

fn join() -> bool {
    let film = Clip::new(
        "many.mp4",
        "-f lavfi -i testsrc2=s=64x36:r=25:d=480 -f lavfi -i sine=d=480 -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac",
    );
    let mut wanted = Wanted::default();
    wanted.input.frames = FrameRule { multiple: 1, remainder: 0, minimum: 1 };
    (wanted.input.context_before, wanted.input.context_after) = (0, 0);
    let bench = Bench::of("join", Asked { segment_frames: 10, ..Asked::PLAIN }, wanted);
    film.make(&bench);
    let figures = bench.probe(film.name, "out.mp4").expect_done().probe.unwrap();
    many_parts(&bench, film.name);
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
    drift && join
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
    let bench = Bench::of("take", Asked { segment_frames: 100, ..Asked::PLAIN }, Wanted::default());
    take.make(&bench);
    let probe = watch(&mut bench.probe_command(take.name, "out.mp4"));
    bench.end(&probe.output).expect_done();
    // A pod of the probe has 1,536 MiB; a film must not need more for being longer.
    within("probe of 400 pictures of 1920x1080 without a cut", (probe.peak / MIB) as f64, 768.0, " MiB")
}
