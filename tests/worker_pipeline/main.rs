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

mod asked;
mod awkward;
mod bars;
mod bench;
mod blame;
mod checker;
mod clips;
mod converted_texts;
mod cuts;
mod driver;
mod engines;
mod families;
mod fields;
mod film;
mod fine_ticks;
mod flags;
mod full;
mod full_scratch;
mod hostile;
mod interleaved;
mod keyed;
mod killed;
mod made;
mod many_parts;
mod probed;
mod profiles;
mod range;
mod redone;
mod references;
mod refused;
mod seam;
mod short_run;
mod sidecar;
mod spoilt;
mod two_merges;
mod verified;
mod watched;
mod wrapped;

use asked::{Asked, Wanted};
use bench::{Bench, Engine, ExpectDone as _};
use clips::Clip;
use made::in_front_of_ffmpeg;
use video_upscale::api::worker::{Code, Encode, EncodeCodec};
use video_upscale::worker::parts::Manifest;

/// A film for tests that are not about the film.
const FILM: Clip =
    Clip::new("film.mp4", "FILM TONE -c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p -c:a aac").frames(60);

#[test]
fn a_second_merge_says_what_the_first_said() {
    let bench = Bench::new("again");
    FILM.make(&bench);
    let first = bench.upscale(FILM.name, "a/out.mp4", 1, &Engine::default());
    let again = bench.merge(FILM.name, "a/out.mp4");
    assert_eq!((again.code, again.merge), (Code::Done, first.merge));
    assert!(bench.destination("a/out.mp4.upscale.json").exists());
    assert!(!bench.work_folder().exists(), "the work folder stays");
}

#[test]
fn spoilt_output_is_refused_and_leaves_no_part() {
    let bench = Bench::new("spoilt");
    FILM.make(&bench);
    bench.probe(FILM.name, "out.mp4").expect_done();
    for spoilt in [
        "select='not(eq(n,30))',setpts=N/25/TB",
        "select='not(eq(n,0))',setpts=N/25/TB",
        "loop=loop=1:size=1:start=20,setpts=N/25/TB,trim=end_frame=85,setpts=N/25/TB",
        "vflip",
        "lutrgb=r=0:g=0:b=0",
        "scale=iw/2:ih/2",
        "format=yuv444p",
    ] {
        bench.cut(FILM.name, 1, 1);
        bench.run_engine(1, &Engine { more: spoilt, ..Engine::default() });
        let end = bench.finish(1, 1);
        assert_eq!(end.code, Code::BadOutput, "{spoilt}: {}", end.message);
        assert_eq!(bench.parts(), [""; 0], "{spoilt}");
    }
    bench.cut(FILM.name, 1, 1);
    let end = bench.finish(1, 1);
    assert_eq!(end.code, Code::BadOutput, "no output: {}", end.message);
}

#[test]
fn parts_have_one_header_whatever_the_threads() {
    for codec in [EncodeCodec::H264, EncodeCodec::Hevc] {
        let encode = Encode { codec: Some(codec), ..Asked::PLAIN.encode };
        let bench = Bench::of("threads", Asked { encode, ..Asked::PLAIN }, Wanted::default());
        FILM.make(&bench);
        bench.probe(FILM.name, "out.mp4").expect_done();
        bench.cut(FILM.name, 1, 1);
        bench.run_engine(1, &Engine::default());
        let folder = bench.work().folder;
        let headers = ["1", "2", "4", "8"].map(|threads| {
            let output = bench.finish_command(1, 1).args(["--threads", threads]).output().unwrap();
            bench.end(&output).expect_done();
            let manifest = std::fs::read(folder.manifest(0, 1)).unwrap();
            std::fs::remove_dir_all(folder.parts()).unwrap();
            serde_json::from_slice::<Manifest>(&manifest).unwrap().header
        });
        assert!(headers.iter().all(|header| *header == headers[0]), "{codec:?}: {headers:?}");
    }
}

#[test]
fn a_source_that_changes_is_not_mixed() {
    let bench = Bench::new("changed");
    FILM.make(&bench);
    bench.probe(FILM.name, "out.mp4").expect_done();
    FILM.frames(50).make(&bench);
    assert_eq!(bench.try_cut(FILM.name, 0, 1).unwrap_err().code(), Code::SourceChanged);
    assert_eq!(bench.merge(FILM.name, "out.mp4").code, Code::SourceChanged);
}

#[test]
fn a_source_that_changes_while_it_is_read_is_not_mixed() {
    let mut bench = Bench::new("changes");
    FILM.make(&bench);
    let film = bench.source(FILM.name);
    let when = |words: &str| format!("case \"$*\" in {words}) echo >> {film:?};; esac");
    let ffmpeg = in_front_of_ffmpeg(&mut bench, &when("*scdet*"));
    let end = bench.probe(FILM.name, "out.mp4");
    assert_eq!(end.code, Code::SourceChanged, "probe: {}", end.message);
    bench.ffmpeg = ffmpeg;

    let probed = bench.probe(FILM.name, "out.mp4").expect_done().probe.unwrap();
    for segment in 0..probed.segments {
        bench.cut(FILM.name, segment, 1);
        bench.run_engine(1, &Engine::default());
        bench.finish(segment, 1).expect_done();
    }
    in_front_of_ffmpeg(&mut bench, &when("*concat*"));
    let end = bench.merge(FILM.name, "out.mp4");
    assert_eq!(end.code, Code::SourceChanged, "merge: {}", end.message);
    assert!(!bench.destination("out.mp4").exists());
}

#[test]
fn what_is_no_film_or_cannot_be_written_is_refused_with_its_word() {
    let bench = Bench::new("refused");
    FILM.make(&bench);
    Clip::new("sound.mp4", "TONE -c:a aac").make(&bench);
    std::fs::write(bench.source("text.mp4"), "This is not a film.\n").unwrap();
    std::fs::write(bench.source("empty.mp4"), "").unwrap();
    std::fs::write(bench.destination("taken.mp4"), "x").unwrap();
    for (source, destination, code, word) in [
        ("text.mp4", "out.mp4", Code::InvalidSource, "first bytes: text"),
        ("empty.mp4", "out.mp4", Code::InvalidSource, "empty"),
        ("sound.mp4", "out.mp4", Code::InvalidSource, "no video stream"),
        ("missing.mp4", "out.mp4", Code::SourceNotFound, "not on the source claim"),
        ("../up.mp4", "out.mp4", Code::Usage, "not a relative path"),
        (FILM.name, "taken.mp4", Code::DestinationExists, "is there already"),
        (FILM.name, "out.avi", Code::Usage, "does not end with"),
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
    Clip::new("long.mp4", "-f lavfi -i testsrc2=s=1280x720:r=25:d=60 -c:v libx264 -preset ultrafast")
        .make(&bench);
    let end = bench.probe_until_signalled("long.mp4", "out.mp4");
    assert_eq!((end.code, bench.last_exit()), (Code::Internal, 143));
    assert_eq!(end.message, "ended by SIGTERM");
}
