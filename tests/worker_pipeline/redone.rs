//! Parts that were damaged, or encoded otherwise than the newest: the merge names them and removes them, so that they are
//! made again, and the film is right. It does not do so for ever.

use video_upscale::api::worker::{Code, End};
use video_upscale::worker::parts::Manifest;
use video_upscale::worker::publish::write_json;

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::clips::Clip;

const FILM: Clip = Clip::new("film.mp4", "FILM -c:v libx264 -g 12 -pix_fmt yuv420p").frames(60);

fn redo(end: &End) -> Vec<String> {
    assert_eq!(end.code, Code::BadOutput, "{}", end.message);
    end.redo.iter().map(ToString::to_string).collect()
}

#[test]
fn damaged_parts_are_named_removed_and_made_again() {
    let bench = Bench::new("damaged");
    FILM.make(&bench);
    let segments = bench.make_parts(FILM.name, "out.mp4");
    assert!(segments >= 3, "{segments}");
    let folder = bench.work().folder;
    for time in 1..=3 {
        let part = folder.part(0, 1);
        let mut bytes = std::fs::read(&part).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&part, bytes).unwrap();
        if time == 1 {
            std::fs::remove_file(folder.part(0, 2)).unwrap();
        }
        let end = bench.merge(FILM.name, "out.mp4");
        assert_eq!(redo(&end), [if time == 1 { "1-2" } else { "1" }]);
        assert!(
            end.message.contains(&format!("of {segments} parts are missing or damaged: 1")),
            "{}",
            end.message
        );
        assert!(end.message.contains("stay in .upscale/damaged"), "{}", end.message);
        assert!(!part.exists() && !folder.manifest(0, 1).exists() && folder.part(0, 0).exists());
        let again = if time == 1 { 1..3 } else { 1..2 };
        again.for_each(|segment| bench.make_part(FILM.name, segment, 1, &Engine::default()));
    }
    std::fs::write(folder.part(0, 1), "x").unwrap();
    let end = bench.merge(FILM.name, "out.mp4");
    assert_eq!(redo(&end), [""; 0], "it would go on for ever");
    assert!(folder.part(0, 1).exists());
    bench.make_part(FILM.name, 1, 1, &Engine::default());
    bench.merge(FILM.name, "out.mp4").expect_done();
}

#[test]
fn parts_of_an_older_encoder_are_made_again() {
    let bench = Bench::new("upgraded");
    FILM.make(&bench);
    let segments = bench.make_parts(FILM.name, "out.mp4");
    let folder = bench.work().folder;
    // As if all but the last were made before the worker was upgraded.
    for segment in 0..segments - 1 {
        let path = folder.manifest(0, segment);
        let manifest: Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        write_json(&path, &Manifest { header: "another".to_owned(), ..manifest }).unwrap();
    }
    let end = bench.merge(FILM.name, "out.mp4");
    assert_eq!(redo(&end), [format!("0-{}", segments - 2)]);
    (0..segments - 1).for_each(|segment| bench.make_part(FILM.name, segment, 1, &Engine::default()));
    bench.merge(FILM.name, "out.mp4").expect_done();
}
