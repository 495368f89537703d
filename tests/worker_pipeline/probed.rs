//! What the probe finds, decides and says: odd films that are whole, its words when it is run again, borders at scene cuts,
//! encoders that are missing.

use video_upscale::api::worker::{Code, Encode, EncodeCodec};

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::clips::{Clip, Step};
use crate::made::in_front_of_ffmpeg;

const STRICT: Asked = Asked { strict: true, ..Asked::PLAIN };

#[test]
fn a_film_whose_sound_goes_on_is_not_called_cut_short() {
    for (clip, destination) in [
        (Clip::new("long.mp4", "FILM TONE+9 -c:v libx264 -pix_fmt yuv420p -c:a aac"), "out.mp4"),
        (Clip::new("long.mkv", "FILM TONE+9 -c:v libx264 -pix_fmt yuv420p -c:a flac"), "out.mkv"),
        (Clip::new("long.avi", "FILM TONE+9 -c:v mpeg4 -q:v 3 -c:a mp3"), "out.mkv"),
        (Clip::new("long.ts", "FILM TONE+9 -c:v libx264 -pix_fmt yuv420p -c:a ac3"), "out.mkv"),
        // A file that says how long all of it lasts, but not how long each stream does.
        (
            Clip::new("unsaid.webm", "FILM TONE+9 -c:v libvpx-vp9 -cpu-used 8 -pix_fmt yuv420p -c:a libopus")
                .then(&[Step::Again("-i IN -map 0 -c copy -fflags +bitexact")]),
            "out.mkv",
        ),
    ] {
        let bench = Bench::of("long", STRICT, Wanted::default());
        clip.make(&bench);
        let warnings = bench.probe(clip.name, destination).expect_done().probe.unwrap().warnings;
        assert!(!warnings.iter().any(|told| told.contains("the header says")), "{}: {warnings:?}", clip.name);
    }
}

#[test]
fn a_probe_that_is_run_again_warns_again() {
    let bench = Bench::new("again");
    let clip = Clip::new("short.mp4", "FILM -c:v libx264 -g 12 -pix_fmt yuv420p -movflags faststart");
    let clip = clip.frames(100).then(&[Step::Keep(60)]);
    clip.make(&bench);
    let warnings = || bench.probe(clip.name, "out.mp4").expect_done().probe.unwrap().warnings;
    let first = warnings();
    for word in ["the header says", "messages of the decoder", "no colour tags"] {
        assert!(first.iter().any(|told| told.contains(word)), "{word}: {first:?}");
    }
    assert_eq!(warnings(), first);
}

#[test]
fn a_border_is_moved_to_a_scene_cut_and_the_film_is_whole() {
    let bench = Bench::of("snapped", Asked { segment_frames: None, ..Asked::PLAIN }, Wanted::default());
    let clip = Clip::new(
        "scenes.mp4",
        "-f lavfi -i testsrc2=s=96x56:r=25:d=2.12 -f lavfi -i mandelbrot=s=96x56:r=25,trim=duration=1.88,negate \
         -filter_complex [0][1]concat=n=2 -c:v libx264 -g 250 -sc_threshold 0 -pix_fmt yuv420p",
    );
    clip.make(&bench);
    let figures = bench.probe(clip.name, "out.mp4").expect_done().probe.unwrap();
    let starts: Vec<u64> = bench.work().plan.segments.iter().map(|owned| owned.start).collect();
    assert_eq!((figures.frames, starts.as_slice()), (100, [0, 25, 53, 75].as_slice()));
    let merged = bench.upscale(clip.name, "out.mp4", 1, &Engine::default()).merge.unwrap();
    assert_eq!(merged.frames, 100);
}

#[test]
fn an_encoder_that_is_missing_is_told_of_before_any_gpu_works() {
    let encode = Encode { codec: Some(EncodeCodec::Hevc), ..Asked::PLAIN.encode };
    let mut bench = Bench::of("missing", Asked { encode, ..Asked::PLAIN }, Wanted::default());
    let clip = Clip::new("film.mp4", "FILM -c:v libx264 -pix_fmt yuv420p");
    clip.make(&bench);
    let words = "case \"$*\" in *libx265*) echo \"Unknown encoder 'libx265'\" >&2; exit 8;; esac";
    let ffmpeg = in_front_of_ffmpeg(&mut bench, words);
    let end = bench.probe(clip.name, "out.mp4");
    assert_eq!(end.code, Code::Internal, "{}", end.message);
    assert!(end.message.contains("cannot encode as libx265"), "{}", end.message);
    bench.ffmpeg = ffmpeg;
    bench.probe(clip.name, "out.mp4").expect_done();
}

#[test]
fn the_result_states_its_level_and_rate() {
    // An encoder that takes the ticks of the time base for pictures states the highest level there is: 6.2, or 186.
    for (codec, rate, most) in [
        (EncodeCodec::H264, "25", 13),
        (EncodeCodec::H264, "30000/1001", 13),
        (EncodeCodec::Hevc, "24000/1001", 60),
    ] {
        let encode = Encode { codec: Some(codec), ..Asked::PLAIN.encode };
        let bench = Bench::of("states", Asked { encode, ..Asked::PLAIN }, Wanted::default());
        let clip = Clip::new("film.mp4", "FILM -c:v libx264 -pix_fmt yuv420p").rate(rate);
        clip.make(&bench);
        bench.upscale(clip.name, "out.mp4", 1, &Engine::default());
        let stream = &bench.ffprobe(&["-show_streams"], &bench.destination("out.mp4"))["streams"][0];
        let level = stream["level"].as_i64().unwrap();
        assert!((10..=most).contains(&level), "{codec:?} {rate}: level {level}");
        let stated = stream["avg_frame_rate"].as_str().unwrap();
        assert_eq!(stated.trim_end_matches("/1"), rate, "{codec:?}");
    }
}
