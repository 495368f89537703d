//! Cuts that find other pictures than the index says: they look again, from earlier on, and end with the right word.

use video_upscale::api::worker::Code;
use video_upscale::worker::index::Index;
use video_upscale::worker::plan::Plan;
use video_upscale::worker::publish::write_json;

use crate::bench::{Bench, ExpectDone as _};
use crate::clips::Clip;
use crate::made::{in_front_of_ffmpeg, make_at};

/// A film that is not exact to seek in.
const FILM: Clip = Clip::new("film.ts", "FILM -c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p").frames(60);

/// A program in place of ffmpeg that counts cuts, and does something before one.
struct Watched {
    bench: Bench,
}

impl Watched {
    /// A probed film.
    fn new(uid: &str, then: &str) -> Self {
        let mut bench = Bench::new(uid);
        FILM.make(&bench);
        bench.probe(FILM.name, "out.mkv").expect_done();
        let (counts, other) = (bench.root().join("cuts"), bench.root().join("other"));
        std::fs::create_dir(&counts).unwrap();
        // A film that lies under `other.N` is read by cut number N instead.
        let words = format!(
            "case \"$*\" in *between*)\n  n=$(($(ls {counts:?} | wc -l) + 1)); : > {counts:?}/$n\n  {then}\n  \
             if [ -e {other:?}.$n ]; then\n    for word; do shift; [ \"$word\" != {film:?} ] || word=file:{other:?}.$n\n    \
             set -- \"$@\" \"$word\"; done\n  fi;;\nesac",
            film = format!("file:{}", bench.source(FILM.name).display()),
        );
        in_front_of_ffmpeg(&mut bench, &words);
        Self { bench }
    }

    /// Cuts the segment that begins at picture 36; how it ended, and how many looks it took.
    fn cut(&self) -> (Option<Code>, usize) {
        let end = self.bench.try_cut(FILM.name, 2, 1);
        (end.err().map(|failure| failure.code()), self.looks())
    }

    fn looks(&self) -> usize {
        std::fs::read_dir(self.bench.root().join("cuts")).unwrap().count()
    }

    /// Has a look read a film that shows other pictures at the same times.
    fn mislead(&self, look: usize, filter: &str) {
        let path = self.bench.root().join(format!("other.{look}"));
        let how = format!(
            "-i {} -vf {filter} -copyts -muxdelay 0 -muxpreload 0 -c:v libx264 -g 12 -f mpegts",
            self.bench.source(FILM.name).display()
        );
        make_at(&self.bench, &how, &path);
    }

    /// Changes the index, and the plan that names it.
    fn change(&self, how: impl FnOnce(&mut Index)) {
        let work = self.bench.work();
        let mut index = work.index;
        how(&mut index);
        let digest = index.write(&work.folder.index()).unwrap();
        write_json(&work.folder.plan(), &Plan { index: digest, ..work.plan }).unwrap();
    }
}

#[test]
fn keyframes_that_are_none_cost_looks_but_no_picture() {
    let watched = Watched::new("keys", "");
    assert_eq!(watched.cut(), (None, 1));
    watched.change(|index| index.keys = (0..index.frames()).collect());
    let (end, looks) = watched.cut();
    assert_eq!(end, None);
    assert!(looks > 2, "no fall-back was needed: {looks}");
}

#[test]
fn pictures_that_are_not_those_of_the_index_are_the_films_fault() {
    let watched = Watched::new("hashes", "");
    watched.change(|index| index.hashes[40] = "0".repeat(32));
    assert_eq!(watched.cut(), (Some(Code::InvalidSource), 2));
}

#[test]
fn pictures_that_are_read_wrongly_now_and_then_are_not_the_films_fault() {
    let watched = Watched::new("once", "");
    watched.mislead(1, "negate");
    assert_eq!(watched.cut(), (None, 2));
    let watched = Watched::new("always", "");
    watched.mislead(1, "negate");
    watched.mislead(2, "hflip");
    assert_eq!(watched.cut().0, Some(Code::Io));
}

#[test]
fn a_volume_that_cannot_be_read_is_not_the_films_fault() {
    let watched = Watched::new("volume", "echo 'film.ts: Input/output error' >&2");
    watched.change(|index| index.hashes[40] = "0".repeat(32));
    assert_eq!(watched.cut().0, Some(Code::Io));
}
