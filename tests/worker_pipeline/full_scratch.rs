//! A scratch volume that is full when a stage writes its small files there: the stage says so, publishes nothing, and ends
//! right once there is room. Wants to be root.

use video_upscale::api::worker::{Code, End};

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::full::Volume;
use crate::made::make;

const FILM: &str = "-f lavfi -i testsrc2=s=64x36:r=25:d=0.8 -c:v libx264 -pix_fmt yuv420p";

/// Runs a stage without any room, then with it.
fn refused_then_done(volume: &Volume, what: &str, run: &dyn Fn() -> End, is_clean: &dyn Fn() -> bool) {
    volume.leave(0);
    let end = run();
    volume.clear();
    assert_eq!(end.code, Code::OutOfSpace, "{what}: {}", end.message);
    assert!(is_clean(), "{what} has left something");
    run().expect_done();
}

#[test]
fn a_full_scratch_is_told_by_finish_and_merge() {
    let bench = Bench::new("full-small");
    make(&bench, "film.mp4", FILM);
    let segments = bench.probe("film.mp4", "out.mp4").expect_done().probe.unwrap().segments;
    std::fs::create_dir_all(bench.root().join("scratch")).unwrap();
    let Some(volume) = Volume::mounted(bench.root().join("scratch")) else { return };
    for segment in 0..segments {
        bench.cut("film.mp4", segment, 1);
        bench.run_engine(1, &Engine::default());
        let before = bench.parts().len();
        let finish = || bench.finish(segment, 1);
        refused_then_done(&volume, "finish", &finish, &|| bench.parts().len() == before);
    }
    let merge = || bench.merge("film.mp4", "out.mp4");
    // The work folder alone.
    let is_clean = || std::fs::read_dir(bench.destination("")).unwrap().count() == 1;
    refused_then_done(&volume, "merge", &merge, &is_clean);
}
