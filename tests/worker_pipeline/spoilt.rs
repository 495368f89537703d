//! The checker, checked: a good result passes it, and every spoilt one is refused for what is wrong with it.

use std::path::Path;

use crate::asked::{Asked, Wanted};
use crate::bench::Bench;
use crate::checker::{Expected, Fault, differences};
use crate::clips::Clip;
use crate::film::Film;

/// A film with colours, sound, chapters and a title.
const SOURCE: Clip = Clip::new(
    "source.mp4",
    "FILM TONE -i CHAPTERS -map_metadata 2 -vf scale=out_color_matrix=bt709,format=yuv420p,\
     setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709 \
     -c:v libx264 -g 12 -bf 2 -c:a aac -metadata:s:a language=deu",
)
.rate("30000/1001");

/// What a good result is made by.
const LARGER: &str = "scale=192:112:flags=lanczos";

/// How results are spoilt: name, filters, other arguments, what the checker must say.
const SPOILT: &[(&str, &str, &str, Fault)] = &[
    ("the first picture dropped", "select='not(eq(n,0))'", "", Fault::Pictures),
    ("a picture in the middle dropped", "select='not(eq(n,17))'", "", Fault::Pictures),
    ("the last picture dropped", "select='not(eq(n,35))'", "", Fault::Pictures),
    ("a picture doubled", "loop=loop=1:size=1:start=10,setpts=N*1001", "", Fault::Pictures),
    (
        "a picture doubled, another dropped",
        "loop=loop=1:size=1:start=10,select='not(eq(n,20))',setpts=N*1001",
        "",
        Fault::Pictures,
    ),
    (
        "two segments swapped",
        "shuffleframes=0 1 2 3 4 5 6 7 8 18 19 20 21 22 23 24 25 26 9 10 11 12 13 14 15 16 17 27 28 29 30 31 32 33 34 35",
        "",
        Fault::Pictures,
    ),
    ("all one place late", "tpad=start=1:start_mode=clone,trim=end_frame=36", "", Fault::Pictures),
    ("upside down", "vflip", "", Fault::Pictures),
    ("one picture 5 ms late", "setpts='PTS+eq(N,12)*150'", "", Fault::Times),
    ("a drift of 0.4 ms a segment", "setpts='PTS+12*floor(N/18)'", "", Fault::Times),
    ("30 for 29.97", "setpts=N*1000", "", Fault::Times),
    (
        "the last picture too long",
        "null",
        "-bsf:v setts=pts=PTS:dts=DTS:duration=1001+eq(N\\,35)*1001",
        Fault::End,
    ),
    ("sound 40 ms late", "null", "LATE", Fault::Delay),
    ("sound encoded again", "null", "-c:a aac", Fault::Packets),
    ("sound cut short", "null", "-c:a copy -frames:a 20", Fault::Packets),
    ("sound missing", "null", "-an", Fault::Streams),
    ("its language lost", "null", "-metadata:s:a language=und", Fault::Names),
    (
        "the wrong matrix under the right tags",
        "scale=out_color_matrix=bt601,setparams=colorspace=bt709",
        "",
        Fault::Colours,
    ),
    ("the wrong range under the right tags", "scale=out_range=pc,setparams=range=tv", "", Fault::Colours),
    ("other tags", "setparams=colorspace=smpte170m", "", Fault::ColourTags),
    (
        "tags lost",
        "setparams=range=unknown:colorspace=unknown:color_primaries=unknown:color_trc=unknown",
        "",
        Fault::ColourTags,
    ),
    ("one line less", "crop=192:110:0:0", "", Fault::Size),
    ("another shape of pixels", "setsar=4/3", "", Fault::Shape),
    ("chapters lost", "null", "-map_chapters -1", Fault::Chapters),
    ("the title lost", "null", "-metadata title=", Fault::Tags),
];

/// Makes a result of the source; filters and further arguments spoil it.
fn make(bench: &Bench, filters: &str, more: &str) -> Film {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let result = bench.destination("result.mp4");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut args = vec!["-i".to_owned(), path(&bench.source(SOURCE.name))];
    // A second input of the same film, for its sound.
    if more == "LATE" {
        args.extend(words("-itsoffset 0.04"));
    }
    args.extend(["-i".to_owned(), path(&bench.source(SOURCE.name))]);
    args.extend(words("-map 0:v -map 1:a -map_metadata 0 -map_chapters 0 -c:a copy"));
    args.extend(["-vf".to_owned(), format!("{LARGER},{filters}")]);
    args.extend(words("-fps_mode passthrough -enc_time_base 1/30000 -video_track_timescale 30000"));
    args.extend(words("-c:v libx264 -x264-params bframes=0 -crf 12 -preset veryfast"));
    args.extend(if more == "LATE" { Vec::new() } else { words(more) });
    args.push(path(&result));
    bench.ffmpeg(&args);
    Film::of(bench, &result, None)
}

#[test]
fn a_good_result_passes_and_every_spoilt_one_is_refused() {
    let bench = Bench::of("spoilt", Asked::PLAIN, Wanted::default());
    SOURCE.make(&bench);
    let source = Film::of(&bench, &bench.source(SOURCE.name), None);
    assert_eq!(source.numbers(), (0..36).collect::<Vec<u8>>());
    let expected = Expected { scale: 2, other_family: false };
    let good = differences(&source, &make(&bench, "null", ""), expected);
    assert!(good.is_empty(), "a good result is refused: {good:?}");
    for (name, filters, more, fault) in SPOILT {
        let found = differences(&source, &make(&bench, filters, more), expected);
        assert!(found.iter().any(|difference| difference.fault == *fault), "{name}: {found:?}");
    }
}
