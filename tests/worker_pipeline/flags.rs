//! Flags and titles of streams that the result's container has no field for: told by the probe already, and beside the
//! result.

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::made::make;
use crate::sidecar::sidecar;

/// Sound for people who do not see, subtitles for people who do not hear, subtitles that are always shown.
const FILM: &str = "-f lavfi -i testsrc2=s=64x36:r=25:d=0.4 -f lavfi -i sine=d=0.4 -i TEXT -map 0 -map 1 -map 1 -map 2 -map 2 \
                    -c:v libx264 -pix_fmt yuv420p -c:a aac -c:s CODEC -disposition:a:0 default -disposition:a:1 visual_impaired \
                    -disposition:s:0 hearing_impaired -disposition:s:1 forced";

#[test]
fn flags_that_a_container_does_not_hold_are_told_before_the_work_and_beside_the_result() {
    for (name, codec, destination, lost) in [
        (
            "flags.mkv",
            "subrip",
            "out.mov",
            [
                "flags of audio stream 2: \"0\" instead of \"visual_impaired\"",
                "flags of subtitle stream 4: \"0\" instead of \"forced\"",
            ]
            .as_slice(),
        ),
        ("flags.mp4", "mov_text", "out.mp4", &[]),
    ] {
        let bench = Bench::new("flags");
        let text = bench.root().join("text.srt");
        std::fs::write(&text, "1\n00:00:00,100 --> 00:00:00,300\nHello\n").unwrap();
        let how = FILM.replace("TEXT", &text.to_string_lossy()).replace("CODEC", codec);
        make(&bench, name, &how);
        let probed = bench.probe(name, destination).expect_done().probe.unwrap().warnings;
        bench.upscale(name, destination, 1, &Engine::default());
        let beside = sidecar(&bench, destination)["warnings"].clone();
        let beside: Vec<&str> = beside.as_array().unwrap().iter().filter_map(|told| told.as_str()).collect();
        for told in lost {
            assert!(probed.iter().any(|found| found == told), "{name}: {probed:?}");
            assert!(beside.contains(told), "{name}: {beside:?}");
        }
        let flags = |told: &&str| told.starts_with("flags of audio") || told.starts_with("flags of subtitle");
        let found: Vec<&str> = probed.iter().map(String::as_str).filter(flags).collect();
        assert_eq!(found, beside.into_iter().filter(flags).collect::<Vec<_>>(), "{name}");
        assert_eq!(found.is_empty(), lost.is_empty(), "{name}: {found:?}");
    }
}
