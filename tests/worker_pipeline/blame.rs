//! Whose fault it is: black pictures of an engine are seen in dark films, too; what cannot be read to compare with is not
//! the engine's fault.

use std::process::Command;

use video_upscale::api::worker::Code;
use video_upscale::worker::compare::{Difference, SHRINK, pictures};

use crate::asked::Asked;
use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::clips::Clip;
use crate::made::{in_front_of_ffmpeg, make};

/// A film so dark that black is near each of its pictures.
const DARK: Clip = Clip::new(
    "dark.mp4",
    "FILM -vf lutrgb=r=val/18:g=val/18:b=val/18 -c:v libx264 -crf 8 -g 12 -pix_fmt yuv420p",
);
/// An engine that loses one picture.
const BLACKENS: Engine = Engine { more: "lutrgb=r=0:g=0:b=0:enable='eq(n,20)'", quality: 18 };

#[test]
fn a_black_picture_in_a_dark_film_is_refused() {
    let bench = Bench::new("dark");
    DARK.make(&bench);
    bench.probe(DARK.name, "out.mp4").expect_done();
    bench.cut(DARK.name, 1, 1);
    bench.run_engine(1, &BLACKENS);
    let end = bench.finish(1, 1);
    assert_eq!(end.code, Code::BadOutput, "{}", end.message);
    assert!(end.message.contains("picture 20 is all of one colour"), "{}", end.message);
    bench.run_engine(1, &Engine::default());
    bench.finish(1, 1).expect_done();
}

/// The pictures of the demo's film, that many times darker, shrunk.
fn bunny(bench: &Bench, darker: u32) -> Vec<Vec<u8>> {
    let film = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clips/big-buck-bunny.mp4");
    let mut command = Command::new(&bench.ffmpeg);
    command.args(["-nostdin", "-v", "error", "-i", film, "-vf"]);
    command.arg(format!("{SHRINK},lutrgb=r=val/{darker}:g=val/{darker}:b=val/{darker}"));
    let output = command.args(["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.chunks(160 * 90 * 3).map(<[u8]>::to_vec).collect()
}

#[test]
fn every_picture_of_a_real_film_is_missed_when_it_is_black() {
    let bench = Bench::new("bunny");
    for darker in [1, 8] {
        let film = bunny(&bench, darker);
        assert!(film.len() > 100, "{}", film.len());
        for (number, picture) in film.iter().enumerate() {
            let black = vec![0; picture.len()];
            let found = pictures(&mut black.as_slice(), &mut picture.as_slice()).unwrap();
            assert!(
                matches!(found, Err(Difference::Flat { .. })),
                "{darker} times darker, {number}: {found:?}"
            );
            assert_eq!(pictures(&mut picture.as_slice(), &mut picture.as_slice()).unwrap(), Ok(1));
        }
    }
}

/// The end of a film that goes to black, as it goes; and one that is black all along.
#[test]
fn films_that_fade_to_black_are_not_refused() {
    for (name, filter) in [
        ("fades.mp4", "fade=out:10:20"),
        ("black.mp4", "lutrgb=r=0:g=0:b=0"),
        ("noise.mp4", "lutrgb=r=0:g=0:b=0,noise=alls=10:allf=t"),
    ] {
        let bench = Bench::of("fades", Asked { segment_frames: None, ..Asked::PLAIN }, Default::default());
        let how =
            format!("-f lavfi -i testsrc2=s=160x96:r=25:d=1.4 -vf {filter} -c:v libx264 -pix_fmt yuv420p");
        make(&bench, name, &how);
        // An engine takes noise away, too.
        let engine = Engine { more: "hqdn3d=8:8:12:12", ..Engine::default() };
        bench.upscale(name, "out.mp4", 1, &engine);
    }
}

#[test]
fn a_cut_that_cannot_be_read_again_is_not_the_engines_fault() {
    let mut bench = Bench::new("again");
    DARK.make(&bench);
    bench.probe(DARK.name, "out.mp4").expect_done();
    bench.cut(DARK.name, 1, 1);
    bench.run_engine(1, &Engine::default());
    for (how, code) in [("exit 1", Code::Internal), ("exit 0", Code::Io)] {
        // It reads nine pictures of the cut.
        let words =
            format!("case \"$*\" in *in.mp4*rawvideo*) \"$ffmpeg\" \"$@\" | head -c 400000; {how};; esac");
        let ffmpeg = in_front_of_ffmpeg(&mut bench, &words);
        let end = bench.finish(1, 1);
        assert_eq!(end.code, code, "{how}: {}", end.message);
        bench.ffmpeg = ffmpeg;
    }
    bench.finish(1, 1).expect_done();
}

#[test]
fn a_cut_that_was_stored_otherwise_is_not_the_engines_fault() {
    let bench = Bench::new("stored");
    DARK.make(&bench);
    bench.probe(DARK.name, "out.mp4").expect_done();
    let stored = bench.root().join("scratch/p0/in.mp4");
    let [aside, lossy] = ["aside.mp4", "lossy.mp4"].map(|name| bench.root().join(name));
    bench.cut(DARK.name, 1, 1);
    bench.run_engine(1, &Engine::default());
    std::fs::copy(&stored, &aside).unwrap();
    for (options, why) in [
        ("-vf lutrgb=r=val+1:enable='eq(n,7)' -c:v libx264rgb -qp 0", "picture 7 is another one"),
        ("-c:v libx264 -crf 20 -pix_fmt yuv420p", "picture 0 is another one"),
        ("-vf vflip -c:v libx264rgb -qp 0", "picture 0 is another one"),
    ] {
        let mut command = Command::new(&bench.ffmpeg);
        command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(&aside);
        command.args(options.split_whitespace()).args(["-fps_mode", "passthrough"]).arg(&lossy);
        assert!(command.status().unwrap().success());
        std::fs::rename(&lossy, &stored).unwrap();
        let end = bench.finish(1, 1);
        assert_eq!(end.code, Code::Internal, "{options}: {}", end.message);
        assert!(
            end.message.contains("of piece 0 is not what was cut") && end.message.contains(why),
            "{}",
            end.message
        );
    }
    std::fs::rename(&aside, &stored).unwrap();
    bench.finish(1, 1).expect_done();
}
