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
