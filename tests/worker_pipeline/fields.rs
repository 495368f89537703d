//! Frames woven of two fields through the whole worker: taken apart in the right order, each picture at its own time; all
//! else as it was.

use video_upscale::api::worker::{Code, Deinterlace};
use video_upscale::worker::ratio::Ratio;

use crate::asked::Asked;
use crate::bench::ExpectDone as _;
use crate::checker::{Expected, differences};
use crate::clips::Clip;
use crate::driver::Driver;
use crate::film::{Film, Picture};
use crate::profiles::Engine;
use crate::short_run::{full_run, left_out};

/// Every number lasts for two fields, from the second of a frame on, so that none looks like a comb that stands still.
/// The fields of frame n show numbers n and n + 1: in the wrong order, other pictures come out. MPEG-2 states the shape of
/// the whole picture, which Matroska rounds to pixels: there pixels are square.
macro_rules! woven {
    ($first:literal, $shape:literal) => {
        concat!(
            "FILM TONE -vf fps=50,trim=start_frame=1,setpts=PTS-STARTPTS,interlace=scan=",
            $first,
            ":lowpass=off,setsar=",
            $shape,
            ",format=yuv420p"
        )
    };
}

/// Films, and what their results are called.
const FILMS: &[(Clip, &str)] = &[
    (
        Clip::new(
            "h264.mp4",
            concat!(
                woven!("tff", "16/11"),
                " -c:v libx264 -crf 10 -g 12 -bf 2 -flags +ildct+ilme -x264-params tff=1 -c:a aac"
            ),
        ),
        "out.mp4",
    ),
    (
        Clip::new(
            "upper.ts",
            concat!(woven!("tff", "1"), " -c:v mpeg2video -q:v 2 -g 9 -bf 2 -flags +ildct+ilme -c:a mp2"),
        ),
        "out.mkv",
    ),
    (
        Clip::new(
            "lower.mpg",
            concat!(woven!("bff", "1"), " -c:v mpeg2video -q:v 2 -g 9 -bf 2 -flags +ildct+ilme -c:a mp2"),
        ),
        "out.mkv",
    ),
];

/// What must come of a film.
fn deinterlaced(source: &Film, how: Deinterlace) -> Film {
    let frames = source.pictures.len();
    let number = |number: usize| Ok(u8::try_from(number).unwrap());
    let picture = |number, time, duration| Picture { number, time, duration };
    let times: Vec<i64> = source.pictures.iter().map(|frame| frame.time).collect();
    let end = times[0] + source.length();
    let next = |frame: usize| times.get(frame + 1).copied().unwrap_or(end);
    let (base, pictures) = match how {
        Deinterlace::Off | Deinterlace::Frame => {
            let of = |frame: usize| picture(number(frame), times[frame], next(frame) - times[frame]);
            (source.base, (0..frames).map(of).collect())
        }
        Deinterlace::Field => {
            let of = |frame: usize| {
                let half = next(frame) - times[frame];
                let second = times[frame] + next(frame);
                [picture(number(frame), 2 * times[frame], half), picture(number(frame + 1), second, half)]
            };
            (Ratio { den: source.base.den * 2, ..source.base }, (0..frames).flat_map(of).collect())
        }
    };
    Film { base, pictures, ..source.clone() }
}

fn comes_out(driver: &Driver, (clip, destination): (Clip, &str), deinterlace: Deinterlace) {
    let engine = Engine::flashvsr();
    let bench = engine.bench("fields", Asked { deinterlace, ..Asked::PLAIN });
    clip.make(&bench);
    engine.upscaled(&bench, driver, clip.name, destination, 1);
    let source = Film::of(&bench, &bench.source(clip.name), None);
    let result = Film::of(&bench, &bench.destination(destination), None);
    let wanted = deinterlaced(&source, deinterlace);
    let found =
        differences(&wanted, &result, Expected { scale: 2, other_family: !clip.name.ends_with("mp4") });
    assert!(found.is_empty(), "{} {deinterlace:?}: {found:#?}", clip.name);
}

#[test]
fn fields_become_pictures_in_their_order_and_at_their_times() {
    let driver = Driver::start();
    let each_way: Vec<_> = FILMS
        .iter()
        .flat_map(|film| [Deinterlace::Frame, Deinterlace::Field].map(|how| (*film, how)))
        .enumerate()
        .collect();
    // A short run takes each film once, and either way.
    let (taken, left): (Vec<_>, Vec<_>) =
        each_way.into_iter().partition(|(number, _)| full_run() || number % 4 == 1 || number % 4 == 2);
    let name = |((clip, _), how): &((Clip, &str), Deinterlace)| format!("{} {how:?}", clip.name);
    let names: Vec<String> = left.iter().map(|(_, run)| name(run)).collect();
    left_out("films", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for (_, (film, how)) in taken {
        comes_out(&driver, film, how);
    }
}

#[test]
fn a_single_frame_has_one_picture_and_an_index_is_made_anew_for_another_wish() {
    let engine = Engine::flashvsr();
    let clip = FILMS[1].0.frames(2);
    let bench = engine.bench("single", Asked { deinterlace: Deinterlace::Field, ..Asked::PLAIN });
    clip.make(&bench);
    let figures = bench.probe(clip.name, "out.mkv").expect_done().probe.unwrap();
    assert_eq!(figures.frames, 1);
    assert!(
        figures.warnings.iter().any(|told| told.contains("one picture per field")),
        "{:?}",
        figures.warnings
    );
    let index = bench.work_folder().join("index.json.zst");
    let before = std::fs::metadata(&index).unwrap().modified().unwrap();
    bench.probe(clip.name, "out.mkv").expect_done();
    assert_eq!(std::fs::metadata(&index).unwrap().modified().unwrap(), before, "indexed again");
    let refused = bench.asking(Asked::PLAIN).probe(clip.name, "out.mkv");
    assert_eq!(refused.code, Code::UnsupportedSource, "{}", refused.message);
    assert!(refused.message.contains("set input.deinterlace"), "{}", refused.message);
}
