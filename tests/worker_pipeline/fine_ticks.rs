//! Times in ticks finer than a microsecond, in which ffmpeg lists parts: exact in a container that can hold them, and told
//! of where it cannot.

use video_upscale::api::profile::FrameRule;

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::checker::{Expected, Fault, differences};
use crate::clips::{Clip, nanoseconds};
use crate::film::Film;
use crate::sidecar::sidecar;

/// Pictures.
const FRAMES: u32 = 20;
/// At no rate, and hardly ever on a whole microsecond.
const FINE: Clip = Clip::new(
    "fine.mp4",
    "FILM TONE -vf settb=1/10000000,setpts=N*333667+mod(N*N*7919\\,29003) -fps_mode passthrough -enc_time_base 1/10000000 \
     -c:v libx264 -bf 2 -pix_fmt yuv420p -video_track_timescale 10000000 -c:a aac",
)
.frames(FRAMES);
/// What a file of nanoseconds is made of.
const PICTURES: Clip = Clip::new("film.mjpeg", "FILM -c:v mjpeg -q:v 2 -pix_fmt yuvj420p").frames(FRAMES);

/// A bench of three segments that are read without anything around them.
fn bench() -> Bench {
    let mut wanted = Wanted::default();
    wanted.input.frames = FrameRule { multiple: 1, remainder: 0, minimum: 1 };
    (wanted.input.context_before, wanted.input.context_after) = (0, 0);
    Bench::of("fine", Asked { segment_frames: Some(7), ..Asked::PLAIN }, wanted)
}

fn nanoseconds(bench: &Bench) -> &'static str {
    PICTURES.make(bench);
    let jpeg = std::fs::read(bench.source(PICTURES.name)).unwrap();
    std::fs::write(bench.source("fine.mkv"), nanoseconds::matroska(&jpeg, (96, 56))).unwrap();
    "fine.mkv"
}

/// The film and what comes of it.
fn upscaled(bench: &Bench, name: &str, destination: &str) -> (Film, Film) {
    bench.upscale(name, destination, 1, &Engine::default());
    let source = Film::of(bench, &bench.source(name), None);
    assert_eq!(source.numbers(), (0..20).collect::<Vec<u8>>());
    (source, Film::of(bench, &bench.destination(destination), None))
}

#[test]
fn ticks_finer_than_a_microsecond_stay_what_they_are() {
    for is_nanoseconds in [false, true] {
        let bench = bench();
        let name = if is_nanoseconds {
            nanoseconds(&bench)
        } else {
            FINE.make(&bench);
            FINE.name
        };
        let (source, result) = upscaled(&bench, name, "out.mp4");
        assert_eq!(source.base, result.base, "{name}");
        let found = differences(&source, &result, Expected { scale: 2, other_family: is_nanoseconds });
        assert!(found.is_empty(), "{name}: {found:#?}");
        let told = sidecar(&bench, "out.mp4")["warnings"].to_string();
        assert!(!told.contains("rounded"), "{name}: {told}");
    }
}

#[test]
fn a_container_that_rounds_them_is_told_of() {
    let bench = bench();
    let name = nanoseconds(&bench);
    let told = bench.probe(name, "out.mkv").expect_done().probe.unwrap().warnings.join("\n");
    let wanted = "rounded to 1/1000 s, all that matroska keeps; .mp4 keeps 1/1000000000 s";
    assert!(told.contains(wanted), "{told}");
    let (source, result) = upscaled(&bench, name, "out.mkv");
    let told = sidecar(&bench, "out.mkv")["warnings"].to_string();
    assert!(told.contains(wanted), "{told}");
    // Its end is the sum of two rounded times.
    let mut found = differences(&source, &result, Expected { scale: 2, other_family: false });
    found.retain(|difference| difference.fault != Fault::End);
    assert!(found.is_empty(), "{found:#?}");
}
