//! Borders of segments, with an engine that remembers: what comes out must not show where the film was cut. One film is made
//! here, the other is the one real film in the repository. `UPSCALE_TEST_FILMS` names more real ones, as PATH names folders: a
//! second one of an open licence is not among the clips.

use std::path::Path;
use std::process::Command;

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, Engine, program};
use crate::made::make;
use video_upscale::api::profile::FrameRule;
use video_upscale::api::worker::{Encode, EncodePreset};

/// Moving pictures with noise, which a memory averages away.
const NOISY: &str = "-f lavfi -i testsrc2=s=96x56:r=25:d=1.6 -vf noise=alls=12:allf=t:all_seed=7 -c:v libx264 -crf 8 -pix_fmt yuv420p";
/// Pictures of a film.
const FRAMES: u32 = 40;
/// Pictures of a segment.
const SEGMENT: u32 = 20;
/// An engine whose every picture hangs on all before it, less and less. All files are lossless: what differs is its doing.
const REMEMBERS: Engine = Engine { more: "hqdn3d=0:0:8:8", quality: 0 };
/// Least likeness of a picture to the same one of a film that was never cut, decibels.
const LIKE: f64 = 60.0;
/// So much less like must the pictures at borders be where nothing is read before a segment, decibels: else this test
/// sees nothing.
const SEEN: f64 = 15.0;
/// Most that a film may jump more at a border than if it were never cut, of 255, on a small copy in grey.
const JUMP: f64 = 1.0;

/// Pictures of a result.
type Pictures = Vec<Vec<u8>>;

/// A film made by the words of `how`, on the source claim of a bench of its own. Made once for all that is compared: x264 with
/// threads makes another file of the same pictures in one of some thirty runs.
fn film(how: &str) -> Bench {
    let bench = Bench::new("seam-film");
    make(&bench, "film.mp4", how);
    bench
}

/// The film in segments of so many pictures, each reading so many before itself; its pictures, of so many bytes each, through
/// filters.
fn upscaled(film: &Bench, segment: u32, context_before: u32, shown: &str, bytes: usize) -> Pictures {
    // Lossless, too.
    let encode = Encode { codec: None, quality: 0, preset: EncodePreset::Fast };
    let asked = Asked { segment_frames: Some(segment), encode, ..Asked::PLAIN };
    let mut wanted = Wanted::default();
    wanted.input.frames = FrameRule { multiple: 1, remainder: 0, minimum: 1 };
    wanted.input.context_before = context_before;
    let bench = Bench::of("seam", asked, wanted);
    std::fs::copy(film.source("film.mp4"), bench.source("film.mp4")).unwrap();
    bench.upscale("film.mp4", "out.mp4", 1, &REMEMBERS);
    let pictures = pictures(&bench, &bench.destination("out.mp4"), shown, bytes);
    assert_eq!(pictures.len(), usize::try_from(FRAMES).unwrap());
    pictures
}

fn pictures(bench: &Bench, path: &Path, shown: &str, bytes: usize) -> Pictures {
    let mut command = Command::new(&bench.ffmpeg);
    command.args(["-nostdin", "-v", "error", "-i"]).arg(path).args(["-vf", shown]);
    let output = command.args(["-f", "rawvideo", "pipe:1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.chunks(bytes).map(<[u8]>::to_vec).collect()
}

/// Likeness of two pictures, decibels.
fn likeness(a: &[u8], b: &[u8]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares.max(1.0)).log10()
}

#[test]
fn borders_of_segments_are_not_seen() {
    let film = film(NOISY);
    let upscaled = |segment, context| upscaled(&film, segment, context, "format=rgb24", 192 * 112 * 3);
    let whole = upscaled(FRAMES, 24);
    let worst_at_borders = |context: u32| {
        let cut = upscaled(SEGMENT, context);
        // Borders may lie anywhere; the least like picture is at one.
        whole.iter().zip(&cut).map(|(a, b)| likeness(a, b)).fold(f64::INFINITY, f64::min)
    };
    let (with, without) = (worst_at_borders(24), worst_at_borders(0));
    println!("least like picture: {with:.1} dB with 24 pictures of context, {without:.1} dB with none");
    assert!(with >= LIKE, "{with:.1} dB");
    assert!(without <= with - SEEN, "{without:.1} dB without context, {with:.1} dB with it");
}

#[test]
fn a_real_film_does_not_jump_at_borders() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips/big-buck-bunny.mp4");
    let more = program("UPSCALE_TEST_FILMS", "");
    for real in
        [ours].into_iter().chain(std::env::split_paths(&more).filter(|path| !path.as_os_str().is_empty()))
    {
        does_not_jump_at_borders(&real);
    }
}

fn does_not_jump_at_borders(real: &Path) {
    let real = real.display();
    let how = format!("-i {real} -an -frames:v {FRAMES} -c:v libx264 -crf 4 -preset veryfast");
    let film = film(&how);
    let upscaled = |segment, context| upscaled(&film, segment, context, "scale=160:90,format=gray", 160 * 90);
    // How much two pictures differ in the mean.
    let jump = |film: &Pictures, at: usize| {
        let differences = film[at].iter().zip(&film[at - 1]).map(|(a, b)| f64::from(a.abs_diff(*b)));
        differences.sum::<f64>() / film[at].len() as f64
    };
    let whole = upscaled(FRAMES, 24);
    let worst = |context: u32| {
        let cut = upscaled(SEGMENT, context);
        let extra = (1..cut.len()).map(|at| (jump(&cut, at) - jump(&whole, at)).abs());
        extra.fold(0.0, f64::max)
    };
    let (with, without) = (worst(24), worst(0));
    println!("{real}: extra jump {with:.3} of 255 with 24 pictures of context, {without:.3} with none");
    assert!(with <= JUMP, "{real}: {with:.3}");
    assert!(without > 4.0 * with, "{real}: {without:.3} without context, {with:.3} with it");
}
