//! Long films with few keyframes: cuts are read from a copy with more of them, and are the same.

use std::fs;

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::clips::Clip;
use crate::made::{in_front_of_ffmpeg, make_at};

/// One keyframe in 25 s.
const FILM: Clip =
    Clip::new("one-key.mkv", "FILM -c:v libx264 -g 9999 -sc_threshold 0 -bf 2 -pix_fmt yuv420p")
        .rate("10")
        .frames(250);

/// A probed film, and a log of what ffmpeg is asked for from now on.
fn probed(uid: &str, film: &Clip) -> Bench {
    // More than 50 segments.
    let mut bench = Bench::of(uid, Asked { segment_frames: Some(4), ..Asked::PLAIN }, Wanted::default());
    film.make(&bench);
    bench.probe(film.name, "out.mkv").expect_done();
    let log = bench.root().join("log");
    in_front_of_ffmpeg(&mut bench, &format!("echo \"$*\" >> {log:?}"));
    bench
}

/// Cuts that segment: hashes of what was handed to the engine's encoder, and the films that were read for it.
fn cut(bench: &Bench, film: &Clip, segment: u32) -> (String, Vec<&'static str>) {
    let log = bench.root().join("log");
    let _none_yet = fs::remove_file(&log);
    bench.cut(film.name, segment, 1);
    let log = fs::read_to_string(log).unwrap();
    let cuts = log.lines().filter(|line| line.contains("between"));
    let read = cuts.map(|line| if line.contains("keyed.mkv") { "copy" } else { "film" }).collect();
    (fs::read_to_string(bench.root().join("scratch/p0/in.framehash")).unwrap(), read)
}

#[test]
fn cuts_of_a_long_film_with_one_keyframe_are_read_from_a_copy_with_more() {
    let bench = probed("keyed", &FILM);
    let copy = bench.work_folder().join("keyed.mkv");
    assert!(copy.is_file());
    for segment in [0, 40, 51] {
        let (of_copy, read) = cut(&bench, &FILM, segment);
        assert_eq!(read, ["copy"], "segment {segment}");
        bench.run_engine(1, &Engine::default());
        bench.finish(segment, 1).expect_done();
        let aside = copy.with_extension("aside");
        fs::rename(&copy, &aside).unwrap();
        let (of_film, read) = cut(&bench, &FILM, segment);
        assert!(!read.is_empty() && read.iter().all(|read| *read == "film"), "{read:?}");
        assert_eq!(of_copy, of_film, "segment {segment}");
        fs::rename(&aside, &copy).unwrap();
    }
    let made =
        |bench: &Bench| fs::metadata(bench.work_folder().join("keyed.mkv")).unwrap().modified().unwrap();
    let before = made(&bench);
    bench.probe(FILM.name, "out.mkv").expect_done();
    assert_eq!(made(&bench), before, "a second probe makes no second copy");
}

#[test]
fn a_copy_that_shows_other_pictures_is_not_believed() {
    let bench = probed("spoiltcopy", &FILM);
    let copy = bench.work_folder().join("keyed.mkv");
    let other = copy.with_extension("other.mkv");
    make_at(&bench, &format!("-i {} -vf negate -c:v libx264 -qp 0 -g 50", copy.display()), &other);
    let (right, _) = cut(&bench, &FILM, 30);
    fs::rename(&other, &copy).unwrap();
    let (found, read) = cut(&bench, &FILM, 30);
    assert_eq!(found, right);
    assert_eq!((read.first(), read.last()), (Some(&"copy"), Some(&"film")));
    fs::write(&copy, "nonsense").unwrap();
    let (found, read) = cut(&bench, &FILM, 30);
    assert_eq!((found, read.last()), (right, Some(&"film")));
}

#[test]
fn a_film_with_keyframes_enough_is_not_copied() {
    const FILM: Clip =
        Clip::new("keys.mkv", "FILM -c:v libx264 -g 50 -pix_fmt yuv420p").rate("10").frames(250);
    let bench = probed("nocopy", &FILM);
    assert!(!bench.work_folder().join("keyed.mkv").exists());
}
