//! The whole video work on real clips, by the real program: probe, prepare, a stand-in for the engine, finish, merge.
//!
//! Wants ffmpeg and ffprobe of at least 6.1: those named by `UPSCALE_FFMPEG` and `UPSCALE_FFPROBE`, else those on PATH.
//! `prepare` needs a GPU that can be asked; its cut is called as a function here, everything else is the program.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod bench;
mod families;
mod film;
mod full;
mod hostile;
mod killed;
mod made;
mod range;
mod refused;

use bench::{Bench, Engine, ExpectDone as _};
use film::{Clip, Facts};
use video_upscale::api::worker::Code;

/// Films that must come out as they went in, only larger: name, how it is made, destination.
const FILMS: &[(&str, &str, &str)] = &[
    ("bframes.mp4", "-i testsrc2=s=160x90:r=25:d=3 SOUND -c:v libx264 -g 12 -bf 3 -c:a aac", "out.mp4"),
    (
        "variable.mp4",
        "-i testsrc2=s=160x90:r=30:d=3 SOUND -vf select='not(eq(mod(n,7),3))*not(between(n,40,58))' -fps_mode vfr -c:v libx264 -g 20 -c:a aac",
        "out.mp4",
    ),
    (
        "long-last.mp4",
        "-i testsrc2=s=160x90:r=25:d=2 -vf setpts='round(if(eq(N,49),N+100,N)/25/TB)' -fps_mode passthrough -c:v libx264",
        "out.mp4",
    ),
    (
        "hevc.mkv",
        "-i testsrc2=s=160x90:r=24:d=2 SOUND -c:v libx265 -x265-params log-level=error -c:a libopus",
        "out.mkv",
    ),
    ("ntsc.mkv", "-i testsrc2=s=160x90:r=30000/1001:d=2 SOUND -c:v libx264 -c:a flac", "out.mkv"),
    ("ntsc.mp4", "-i testsrc2=s=160x90:r=30000/1001:d=2 SOUND -c:v libx264 -c:a aac", "out.mp4"),
    ("one.mp4", "-i testsrc2=s=160x90:r=25 -frames:v 1 -c:v libx264", "out.mp4"),
    ("one.mkv", "-i testsrc2=s=160x90:r=25 -frames:v 1 -c:v libx264", "out.mkv"),
    ("twelve.mp4", "-i testsrc2=s=160x90:r=25 -frames:v 12 -c:v libx264", "out.mp4"),
    ("odd.mkv", "-i testsrc2=s=161x91:r=25 -frames:v 30 -pix_fmt yuv444p -c:v libx264", "out.mkv"),
    (
        "tagged.mp4",
        "-i testsrc2=s=160x90:r=25 -frames:v 30 -vf scale=out_color_matrix=bt709:out_range=pc,format=yuv420p,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=pc -c:v libx264",
        "out.mp4",
    ),
    (
        "late-video.mkv",
        "-itsoffset 0.7 -i testsrc2=s=160x90:r=25:d=2 SOUND -c:v libx264 -c:a flac",
        "out.mkv",
    ),
];

#[test]
fn films_come_out_as_they_went_in_only_larger() {
    for (number, (name, how, destination)) in FILMS.iter().enumerate() {
        let bench = Bench::new(&format!("film-{number}"));
        Clip { name, how }.make(&bench);
        let before = Facts::of(&bench, &bench.source(name));
        let pieces = if number % 2 == 0 { 1 } else { 2 };
        bench.upscale(name, destination, pieces, &Engine::default());
        let after = Facts::of(&bench, &bench.destination(destination));
        assert_eq!(after.size, (before.size.0 * 2, before.size.1 * 2), "{name}: size");
        assert_eq!(after.frames(), before.frames(), "{name}: pictures");
        assert_eq!(after.times(), before.times(), "{name}: times");
        assert_eq!(after.end(), before.end(), "{name}: end of the last picture");
        assert_eq!(after.sound, before.sound, "{name}: sound");
        assert!((after.delay - before.delay).abs() < 0.001, "{name}: delay {} {}", after.delay, before.delay);
        assert_eq!(after.others, before.others, "{name}: other streams");
    }
}

#[test]
fn a_second_merge_says_what_the_first_said() {
    let bench = Bench::new("again");
    let (name, how, _) = FILMS[0];
    Clip { name, how }.make(&bench);
    let first = bench.upscale(name, "a/out.mp4", 1, &Engine::default());
    let again = bench.merge(name, "a/out.mp4");
    assert_eq!((again.code, again.merge), (Code::Done, first.merge));
    assert!(bench.destination("a/out.mp4.upscale.json").exists());
    assert!(!bench.work_folder().exists(), "the work folder stays");
}

#[test]
fn spoilt_output_is_refused_and_leaves_no_part() {
    let bench = Bench::new("spoilt");
    let (name, how, _) = FILMS[0];
    Clip { name, how }.make(&bench);
    bench.probe(name, "out.mp4").expect_done();
    for spoilt in [
        "select='not(eq(n,30))',setpts=N/25/TB",
        "select='not(eq(n,0))',setpts=N/25/TB",
        "loop=loop=1:size=1:start=20,setpts=N/25/TB,trim=end_frame=85,setpts=N/25/TB",
        "vflip",
        "lutrgb=r=0:g=0:b=0",
        "scale=iw/2:ih/2",
        "format=yuv444p",
    ] {
        bench.cut(name, 1, 1);
        bench.run_engine(1, &Engine { more: spoilt });
        let end = bench.finish(1, 1);
        assert_eq!(end.code, Code::BadOutput, "{spoilt}: {}", end.message);
        assert_eq!(bench.parts(), [""; 0], "{spoilt}");
    }
    bench.cut(name, 1, 1);
    let end = bench.finish(1, 1);
    assert_eq!(end.code, Code::BadOutput, "no output: {}", end.message);
}

#[test]
fn a_source_that_changes_is_not_mixed() {
    let bench = Bench::new("changed");
    let (name, how, _) = FILMS[0];
    Clip { name, how }.make(&bench);
    bench.probe(name, "out.mp4").expect_done();
    Clip { name, how: FILMS[5].1 }.make(&bench);
    assert_eq!(bench.try_cut(name, 0, 1).unwrap_err().code(), Code::SourceChanged);
}

#[test]
fn what_cannot_be_upscaled_is_refused_with_its_word() {
    let bench = Bench::new("refused");
    // FILM stands for a second of moving pictures.
    let clip = |name: &'static str, how: &'static str| Clip { name, how }.make(&bench);
    clip("good.mp4", "-i FILM -c:v libx264");
    clip("two.mkv", "-i FILM -f lavfi -i FILM -map 0 -map 1 -c:v libx264");
    clip(
        "tff.mp4",
        "-i testsrc2=s=160x96:r=25:d=1 -vf setfield=tff -flags +ildct+ilme -c:v libx264 -x264-params tff=1",
    );
    clip("hdr.mp4", "-i FILM -vf setparams=color_trc=smpte2084:colorspace=bt2020nc -c:v libx264");
    clip("alpha.mkv", "-i FILM -vf format=rgba -c:v ffv1");
    clip("sound.mp4", "-i FILM -f lavfi -i sine=d=1 -map 1 -c:a aac");
    clip("ass.mkv", "-i FILM -f srt -i SUBTITLES -map 0 -map 1 -c:v libx264 -c:s ass");
    std::fs::write(bench.source("text.mp4"), "This is not a film.\n").unwrap();
    std::fs::write(bench.source("empty.mp4"), "").unwrap();
    std::fs::write(bench.source("list.mp4"), "#EXTM3U\nfile:///etc/passwd\n").unwrap();
    std::fs::write(bench.source("script.mp4"), "ffconcat version 1.0\nfile good.mp4\n").unwrap();
    std::fs::write(bench.destination("taken.mp4"), "x").unwrap();
    for (source, destination, code, word) in [
        ("text.mp4", "out.mp4", Code::InvalidSource, "first bytes: text"),
        ("empty.mp4", "out.mp4", Code::InvalidSource, "empty"),
        ("sound.mp4", "out.mp4", Code::InvalidSource, "no video stream"),
        ("list.mp4", "out.mp4", Code::UnsupportedSource, "Playlist: "),
        ("script.mp4", "out.mp4", Code::UnsupportedSource, "Playlist: "),
        ("two.mkv", "out.mkv", Code::UnsupportedSource, "SeveralVideoStreams: "),
        ("tff.mp4", "out.mp4", Code::UnsupportedSource, "Interlaced: "),
        ("hdr.mp4", "out.mp4", Code::UnsupportedSource, "HighDynamicRange: "),
        ("alpha.mkv", "out.mkv", Code::UnsupportedSource, "Alpha: "),
        ("ass.mkv", "out.mp4", Code::UnsupportedSource, "StreamsDoNotFit: "),
        ("missing.mp4", "out.mp4", Code::SourceNotFound, "not on the source claim"),
        ("../up.mp4", "out.mp4", Code::Usage, "not a relative path"),
        ("good.mp4", "taken.mp4", Code::DestinationExists, "is there already"),
        ("good.mp4", "out.avi", Code::Usage, "does not end with"),
    ] {
        let end = bench.probe(source, destination);
        assert_eq!(end.code, code, "{source}: {}", end.message);
        assert!(end.message.contains(word), "{source}: {}", end.message);
        assert_eq!(bench.last_exit(), i32::from(code.exit_code()), "{source}");
    }
}

#[test]
fn a_signal_ends_the_worker_and_its_ffmpeg_without_success() {
    let bench = Bench::new("signal");
    Clip { name: "long.mp4", how: "-i testsrc2=s=1280x720:r=25:d=60 -c:v libx264 -preset ultrafast" }
        .make(&bench);
    let end = bench.probe_until_signalled("long.mp4", "out.mp4");
    assert_eq!((end.code, bench.last_exit()), (Code::Internal, 143));
    assert_eq!(end.message, "ended by SIGTERM");
}
