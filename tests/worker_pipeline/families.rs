//! Films whose result is of another family of containers: pictures, sound and what keeps them together stay.

use std::path::Path;

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::made::make;
use crate::short_run::{full_run, left_out};

const FILM: &str = "-f lavfi -i testsrc2=s=160x96:r=25:d=2 -f lavfi -i sine=f=440:r=48000:d=1.9";
const LATE: &str =
    "-f lavfi -itsoffset 0.7 -i testsrc2=s=160x96:r=25:d=2 -f lavfi -i sine=f=440:r=48000:d=1.9";

/// Name, how it is made, its codecs, destination; the short run takes the first three.
const FILMS: &[(&str, &str, &str, &str)] = &[
    ("broadcast.ts", FILM, "-c:v libx264 -g 12 -c:a aac", "out.mp4"),
    ("theora.ogv", FILM, "-c:v libtheora -c:a libvorbis", "out.mkv"),
    ("late-video.mp4", LATE, "-c:v libx264 -c:a aac", "out.mp4"),
    ("broadcast.ts", FILM, "-c:v libx264 -g 12 -c:a aac", "out.mkv"),
    // Matroska that says how much comes before the first sample.
    ("primed.mkv", FILM, "-c:v libx264 -c:a aac", "out.mp4"),
];

/// Times of the pictures that are shown, microseconds after the first.
fn times(bench: &Bench, path: &Path) -> Vec<i64> {
    let json = bench.ffprobe(&["-select_streams", "v:0", "-show_entries", "frame=pts_time"], path);
    let frames = json["frames"].as_array().unwrap().iter();
    let times: Vec<i64> = frames.map(|frame| micros(&frame["pts_time"])).collect();
    times.iter().map(|time| time - times[0]).collect()
}

fn micros(seconds: &serde_json::Value) -> i64 {
    (seconds.as_str().unwrap().parse::<f64>().unwrap() * 1e6).round() as i64
}

/// SHA-256 of the sound's packets, without the headers that broadcasts put in front of AAC.
fn sound(bench: &Bench, path: &Path) -> String {
    let bare = if path.extension().is_some_and(|ending| ending == "ts") { "aac_adtstoasc" } else { "null" };
    let path = path.to_string_lossy();
    let args =
        ["-v", "error", "-i", &path, "-map", "0:a", "-c", "copy", "-bsf:a", bare, "-f", "streamhash", "-"];
    bench.ffmpeg_says(&args.map(str::to_owned))
}

/// Microseconds from the first packet of the sound to the first picture that is shown, as the file states their times.
fn delay(bench: &Bench, path: &Path) -> i64 {
    let first = |list: &str, name: &str, args: &[&str]| {
        let json = bench.ffprobe(&[args, &["-read_intervals", "%+#1"]].concat(), path);
        micros(&json[list][0][name])
    };
    let picture = first("frames", "pts_time", &["-select_streams", "v:0", "-show_frames"]);
    picture - first("packets", "pts_time", &["-select_streams", "a:0", "-show_packets"])
}

/// How long the file says that its pictures last, microseconds. Not the last packet's duration: ffmpeg 7 tells too short
/// a one for a track of MP4 that begins late.
fn length(bench: &Bench, path: &Path) -> Option<i64> {
    let json = bench.ffprobe(&["-show_streams", "-select_streams", "v:0"], path);
    json["streams"][0].get("duration").map(micros)
}

/// What an encoder puts before the first sample goes along: from MP4, which hides it, to Matroska and back.
#[test]
fn sound_with_samples_before_its_beginning_stays_in_step_there_and_back() {
    let bench = Bench::new("there");
    make(&bench, "primed.mp4", &format!("{FILM} -c:v libx264 -c:a aac -pix_fmt yuv420p"));
    let warnings = bench.probe("primed.mp4", "out.mkv").expect_done().probe.unwrap().warnings;
    let told = "1024 samples before the beginning of audio stream 1, which the source hides, can be heard";
    assert!(warnings.iter().any(|found| found == told), "{warnings:?}");
    bench.upscale("primed.mp4", "out.mkv", 1, &Engine::default());
    let there = std::fs::read_to_string(bench.destination("out.mkv.upscale.json")).unwrap();
    assert!(there.contains(told), "{there}");
    let back = Bench::new("back");
    std::fs::copy(bench.destination("out.mkv"), back.source("out.mkv")).unwrap();
    back.upscale("out.mkv", "back.mp4", 1, &Engine::default());
    let (was, is) = (bench.source("primed.mp4"), back.destination("back.mp4"));
    for path in [bench.destination("out.mkv"), is] {
        assert_eq!(sound(&bench, &path), sound(&bench, &was), "{}", path.display());
        let (found, wanted) = (delay(&bench, &path), delay(&bench, &was));
        assert!((found - wanted).abs() <= 1000, "{}: {found} us instead of {wanted}", path.display());
    }
}

#[test]
fn films_keep_pictures_sound_and_delay_in_another_family() {
    let (taken, left) = FILMS.split_at(if full_run() { FILMS.len() } else { 3 });
    left_out("films", &left.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    for (number, (name, film, codecs, destination)) in taken.iter().enumerate() {
        let bench = Bench::new(&format!("family-{number}"));
        make(&bench, name, &format!("{film} {codecs} -pix_fmt yuv420p"));
        let (source, result) = (bench.source(name), bench.destination(destination));
        bench.upscale(name, destination, 1, &Engine::default());
        let what = format!("{name} to {destination}");
        let (before, after) = (times(&bench, &source), times(&bench, &result));
        let near =
            |a: &[i64], b: &[i64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1000);
        assert!(near(&after, &before), "{what}: {after:?}");
        assert_eq!(sound(&bench, &result), sound(&bench, &source), "{what}: sound");
        let (found, wanted) = (delay(&bench, &result), delay(&bench, &source));
        assert!((found - wanted).abs() <= 1000, "{what}: delay {found} us instead of {wanted}");
        if let Some(length) = length(&bench, &result) {
            assert_eq!(length, 2_000_000, "{what}: length of the pictures");
        }
        let sidecar =
            std::fs::read_to_string(bench.destination(&format!("{destination}.upscale.json"))).unwrap();
        assert!(sidecar.contains("sound of 1 tracks"), "{what}: {sidecar}");
    }
}
