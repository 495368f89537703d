//! Borders of segments, with an engine that remembers: what comes out must not show where the film was cut.

use std::process::Command;

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, Engine};
use crate::clips::Clip;
use video_upscale::api::profile::FrameRule;
use video_upscale::api::worker::{Encode, EncodePreset};

/// Moving pictures with noise, which a memory averages away.
const FILM: Clip = Clip::new(
    "noisy.mp4",
    "-f lavfi -i testsrc2=s=96x56:r=25:d=2.4 -vf noise=alls=12:allf=t:all_seed=7 -c:v libx264 -crf 8 -pix_fmt yuv420p",
);
/// Pictures of it.
const FRAMES: usize = 60;
/// An engine whose every picture hangs on all before it, less and less. All files are lossless: what differs is its doing.
const REMEMBERS: Engine = Engine { more: "hqdn3d=0:0:8:8", quality: 0 };
/// Least likeness of a picture to the same one of a film that was never cut, decibels.
const LIKE: f64 = 60.0;
/// So much less like must the pictures at borders be where nothing is read before a segment, decibels: else this test
/// sees nothing.
const SEEN: f64 = 15.0;

/// The film in segments of so many pictures, each reading so many before itself; its pictures in RGB.
fn upscaled(segment_frames: u32, context_before: u32) -> Vec<Vec<u8>> {
    // Lossless, too.
    let encode = Encode { codec: None, quality: 0, preset: EncodePreset::Fast };
    let asked = Asked { segment_frames: Some(segment_frames), encode, ..Asked::PLAIN };
    let mut wanted = Wanted::default();
    wanted.input.frames = FrameRule { multiple: 1, remainder: 0, minimum: 1 };
    wanted.input.context_before = context_before;
    let bench = Bench::of("seam", asked, wanted);
    FILM.make(&bench);
    bench.upscale(FILM.name, "out.mp4", 1, &REMEMBERS);
    let mut command = Command::new(&bench.ffmpeg);
    command.args(["-nostdin", "-v", "error", "-i"]).arg(bench.destination("out.mp4"));
    let output = command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]).output().unwrap();
    assert!(output.status.success());
    output.stdout.chunks(192 * 112 * 3).map(<[u8]>::to_vec).collect()
}

/// Likeness of two pictures, decibels.
fn likeness(a: &[u8], b: &[u8]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares.max(1.0)).log10()
}

#[test]
fn borders_of_segments_are_not_seen() {
    let whole = upscaled(60, 24);
    let worst_at_borders = |context: u32| {
        let cut = upscaled(18, context);
        assert_eq!((whole.len(), cut.len()), (FRAMES, FRAMES));
        // Borders may lie anywhere; the least like picture is at one.
        whole.iter().zip(&cut).map(|(a, b)| likeness(a, b)).fold(f64::INFINITY, f64::min)
    };
    let (with, without) = (worst_at_borders(24), worst_at_borders(0));
    println!("least like picture: {with:.1} dB with 24 pictures of context, {without:.1} dB with none");
    assert!(with >= LIKE, "{with:.1} dB");
    assert!(without <= with - SEEN, "{without:.1} dB without context, {with:.1} dB with it");
}
