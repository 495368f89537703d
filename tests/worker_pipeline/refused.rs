//! Films that look right by their header and must be refused all the same, each with its word.

use video_upscale::api::worker::Code;

use crate::bench::Bench;
use crate::made::make;

const KEYS: &str = "-encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb \
                    -encryption_kid a7e61c373e219033c21091fa607bf3b8";

fn refused(bench: &Bench, source: &str, word: &str) -> String {
    let end = bench.probe(source, "out.mkv");
    assert_eq!(end.code, Code::UnsupportedSource, "{source}: {}", end.message);
    assert!(end.message.starts_with(word), "{source}: {}", end.message);
    end.message
}

#[test]
fn an_encrypted_film_is_told_as_such() {
    let bench = Bench::new("encrypted");
    let how = format!(
        "-f lavfi -i testsrc2=s=160x90:r=25:d=1 -f lavfi -i sine=d=1 -c:v libx264 -pix_fmt yuv420p -c:a aac {KEYS}"
    );
    make(&bench, "drm.mp4", &how);
    let told = refused(&bench, "drm.mp4", "Encrypted: ");
    assert!(told.contains("video stream 0 of drm.mp4"), "{told}");
}

/// A transport stream of two seconds, the second of another size or shape.
fn joined(bench: &Bench, name: &str, size: &str, shape: &str) {
    let second = |part: &str, size: &str, more: &str| {
        let how = format!("-f lavfi -i testsrc2=s={size}:r=25:d=1 {more} -c:v libx264 -pix_fmt yuv420p");
        make(bench, part, &how);
        std::fs::read(bench.source(part)).unwrap()
    };
    let first = second("1.ts", "160x96", "-vf setsar=1");
    let then = second("2.ts", size, &format!("-vf setsar={shape} -output_ts_offset 1.2"));
    std::fs::write(bench.source(name), [first, then].concat()).unwrap();
}

#[test]
fn a_film_that_changes_its_size_or_the_shape_of_its_pixels_is_refused() {
    let bench = Bench::new("changes");
    joined(&bench, "same.ts", "160x96", "1");
    assert_eq!(bench.probe("same.ts", "out.mkv").code, Code::Done);
    joined(&bench, "shape.ts", "160x96", "16/11");
    let told = refused(&bench, "shape.ts", "FormatChanges: ");
    assert!(told.contains("from 1/1 to 16/11 at 2."), "{told}");
    joined(&bench, "size.ts", "320x192", "1");
    let told = refused(&bench, "size.ts", "FormatChanges: ");
    assert!(told.contains("from 160x96 yuv420p to 320x192 yuv420p at picture 25"), "{told}");
}

#[test]
fn sound_that_the_container_cannot_hold_is_refused_before_the_work() {
    let bench = Bench::new("fit");
    let film = "-f lavfi -i testsrc2=s=160x96:r=25:d=1 -f lavfi -i sine=d=1:r=48000 -pix_fmt yuv420p";
    for (name, how, fits, does_not) in [
        ("dvd.vob", "-c:v mpeg2video -c:a pcm_dvd", None, "out.mkv"),
        ("studio.ts", "-c:v libx264 -c:a s302m -strict -2 -ac 2", None, "out.mkv"),
        ("old.avi", "-c:v mpeg4 -c:a pcm_u8", Some("out.mkv"), "out.mp4"),
        ("phone.avi", "-c:v mpeg4 -c:a pcm_alaw -ar 8000", Some("out.mov"), "out.mp4"),
        ("broadcast.ts", "-c:v libx264 -c:a aac", Some("out.mp4"), ""),
    ] {
        make(&bench, name, &format!("{film} {how}"));
        if let Some(destination) = fits {
            let end = bench.probe(name, destination);
            assert_eq!(end.code, Code::Done, "{name} to {destination}: {}", end.message);
        }
        if !does_not.is_empty() {
            let end = bench.probe(name, does_not);
            assert_eq!(end.code, Code::UnsupportedSource, "{name}: {}", end.message);
            assert!(end.message.starts_with("StreamsDoNotFit: "), "{name}: {}", end.message);
        }
    }
}
