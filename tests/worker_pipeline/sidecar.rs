//! What is written beside a result says of what it was made, and how.

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::clips::Clip;
use crate::film::Film;

const FILM: Clip = Clip::new(
    "in.mkv",
    "FILM TONE -c:v libx264 -g 12 -pix_fmt yuv420p10le -c:a flac -metadata:s:a language=deu -metadata artist=Somebody",
)
.frames(60);

/// The sidecar of a result.
pub fn sidecar(bench: &Bench, destination: &str) -> serde_json::Value {
    let text = std::fs::read(bench.destination(&format!("{destination}.upscale.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn the_sidecar_tells_source_range_steps_and_what_is_odd() {
    let bench = Bench::new("told");
    FILM.make(&bench);
    let probe = bench.probe_range(FILM.name, "out.mkv", 400_000, Some(9_600_000)).expect_done();
    let figures = probe.probe.unwrap();
    for segment in 0..figures.segments {
        let pieces = if segment == 0 { 2 } else { 1 };
        bench.make_part(FILM.name, segment, pieces, &Engine::default());
    }
    bench.merge(FILM.name, "out.mkv").expect_done();
    let told = sidecar(&bench, "out.mkv");
    let source = &told["source"];
    let bytes = std::fs::metadata(bench.source(FILM.name)).unwrap().len();
    assert_eq!(source["path"], FILM.name, "{told:#}");
    assert_eq!(source["file"]["bytes"], bytes, "{told:#}");
    assert_eq!(source["frames"], 50, "{told:#}");
    assert_eq!(source["width"], 96, "{told:#}");
    let range = serde_json::json!({"start_us": 400_000, "length_us": 9_600_000});
    assert_eq!(source["range"], range);
    let made = |first, last, pieces| serde_json::json!({"segments": {"first": first, "last": last}, "step": 2, "pieces": pieces});
    assert_eq!(told["made"], serde_json::json!([made(0, 0, 2), made(1, figures.segments - 1, 1)]));
    let list = |name: &str| told[name].to_string();
    for warning in ["10 bits per component are upscaled in 8", "no colour tags", "the range ends"] {
        assert!(list("warnings").contains(warning), "{told:#}");
    }
    for verified in ["colour tags", "times", "sound of 1 tracks", "pictures"] {
        assert!(list("verified").contains(verified), "{told:#}");
    }
    assert_eq!(
        Film::of(&bench, &bench.destination("out.mkv"), None).numbers(),
        (10..60).collect::<Vec<u8>>()
    );
}
