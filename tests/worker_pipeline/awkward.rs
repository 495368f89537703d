//! Awkward films through the whole worker: probe, prepare, stand-in engine, finish, merge; what comes out is read
//! again and held against what went in. What cannot be upscaled is refused by its word.
//!
//! The short run takes one film of each kind, as it is, and says what it leaves out. With `UPSCALE_TEST_FULL` set all
//! films are taken, and each also at 25 pictures a second, with one picture, and with fewer pictures than the engine
//! takes at least.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use video_upscale::api::worker::Code;

use crate::asked::{Asked, Wanted};
use crate::bench::Bench;
use crate::checker::{Expected, differences};
use crate::clips::Clip;
use crate::clips::films::{FILES, Film as Wished, PICTURES, STREAMS, Shown, TIMES};
use crate::clips::refused::{PLAYLISTS, REFUSED};
use crate::driver::Driver;
use crate::film::Film;
use crate::profiles::Engine;
use crate::short_run::{full_run, left_out};

/// Films that are worked on side by side: engines wait more than they compute.
const SIDE_BY_SIDE: usize = 5;

/// How a film differs from its usual self.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Usual,
    At25,
    OnePicture,
    TwelvePictures,
}

impl Variant {
    fn of(self, clip: Clip) -> Clip {
        match self {
            Self::Usual => clip,
            Self::At25 => clip.rate("25"),
            Self::OnePicture => clip.frames(1),
            Self::TwelvePictures => clip.frames(12),
        }
    }

    /// Those of this run that leave at least so many pictures and make another film.
    fn all(clip: &Clip, least: u32) -> Vec<Self> {
        let more = [Self::At25, Self::OnePicture, Self::TwelvePictures].into_iter().filter(|_| full_run());
        let more = more.filter(|variant| variant.of(*clip).frames >= least);
        let more = more.filter(|variant| *variant != Self::At25 || clip.rate != "25");
        std::iter::once(Self::Usual).chain(more).collect()
    }
}

/// Checks all, some side by side; panics with all that failed.
fn each<T: Sync>(all: &[T], name: impl Fn(&T) -> String + Sync, check: impl Fn(&T) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE.min(all.len()) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(one))) {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        failed.lock().unwrap().push(format!("{}: {text}", name(one)));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), all.len(), failed.join("\n"));
}

fn come_out_as_they_went_in(films: &[Wished]) {
    let (taken, left): (Vec<&Wished>, Vec<&Wished>) =
        films.iter().partition(|film| film.in_short_run || full_run());
    left_out(
        "films in all variants, and the variants of all others,",
        &left.iter().map(|film| film.clip.name).collect::<Vec<_>>(),
    );
    let all: Vec<(Wished, Variant)> = taken
        .into_iter()
        .flat_map(|film| Variant::all(&film.clip, film.least).into_iter().map(|variant| (*film, variant)))
        .collect();
    let (driver, engine) = (Driver::start(), Engine::flashvsr());
    each(
        &all,
        |(film, variant)| format!("{} ({variant:?})", film.clip.name),
        |(film, variant)| comes_out_as_it_went_in(&driver, &engine, film, &variant.of(film.clip)),
    );
}

fn comes_out_as_it_went_in(driver: &Driver, engine: &Engine, film: &Wished, clip: &Clip) {
    let uid: String = clip.name.chars().map(|c| if c == '.' { '-' } else { c }).collect();
    let bench = engine.bench(&uid, film.asked);
    clip.make(&bench);
    let source = Film::of(&bench, &bench.source(clip.name), film.asked.video_stream);
    let shown: Vec<u8> = (clip.hidden..clip.hidden + clip.frames).map(|number| number as u8).collect();
    match film.shown {
        Shown::All => assert_eq!(source.numbers(), shown, "the source itself"),
        Shown::Some => {
            let numbers = source.numbers();
            assert!(!numbers.is_empty() && numbers != shown, "the source is whole, or nothing: {numbers:?}");
        }
    }
    // A film in four is run in two pieces.
    let pieces = if clip.name.len().is_multiple_of(4) { 2 } else { 1 };
    engine.upscaled(&bench, driver, clip.name, film.to, pieces);
    let result = Film::of(&bench, &bench.destination(film.to), None);
    let scale = usize::try_from(film.asked.scale).unwrap();
    let ending = |name: &str| name.rsplit('.').next().unwrap().to_owned();
    let family = |name: &str| match ending(name).as_str() {
        "mp4" | "mov" | "3gp" => 0,
        "mkv" | "webm" => 1,
        _ => 2,
    };
    let expected = Expected { scale, other_family: family(clip.name) != family(film.to) };
    let found = differences(&source, &result, expected);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn all_times_come_out_as_they_went_in() {
    come_out_as_they_went_in(TIMES);
}

#[test]
fn all_kinds_of_files_come_out_as_they_went_in() {
    come_out_as_they_went_in(FILES);
}

#[test]
fn all_kinds_of_pictures_come_out_as_they_went_in() {
    come_out_as_they_went_in(PICTURES);
}

#[test]
fn all_other_streams_come_out_as_they_went_in() {
    come_out_as_they_went_in(STREAMS);
}

#[test]
fn what_is_refused_is_refused_by_its_word() {
    let all: Vec<_> = REFUSED
        .iter()
        .flat_map(|film| Variant::all(&film.clip, film.least).into_iter().map(move |variant| (film, variant)))
        .collect();
    each(
        &all,
        |(film, variant)| format!("{} ({variant:?})", film.clip.name),
        |(film, variant)| {
            let bench = Bench::of("refused", film.asked, Wanted::default());
            variant.of(film.clip).make(&bench);
            let end = bench.probe(film.clip.name, film.to);
            let word = end.message.split(':').next().unwrap();
            assert_eq!((end.code, word), (Code::UnsupportedSource, film.word), "{}", end.message);
            assert_eq!(bench.last_exit(), i32::from(Code::UnsupportedSource.exit_code()));
        },
    );
    each(
        PLAYLISTS,
        |(name, _)| (*name).to_owned(),
        |(name, content)| {
            let bench = Bench::of("refused", Asked::PLAIN, Wanted::default());
            std::fs::write(bench.source(name), content).unwrap();
            let end = bench.probe(name, "out.mkv");
            assert_eq!(end.code, Code::UnsupportedSource, "{}", end.message);
            assert!(end.message.starts_with("Playlist: "), "{}", end.message);
        },
    );
}
