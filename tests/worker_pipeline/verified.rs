//! What the merge verifies of its own result: one that was spoilt after the join, or joined of parts that are not what
//! their manifests say, is refused for what is wrong with it, and nothing is published.

use std::process::Command;

use video_upscale::api::worker::{Code, End, Verify};
use video_upscale::worker::media;
use video_upscale::worker::parts::Manifest;
use video_upscale::worker::publish::{digest, write_json};

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, ExpectDone as _};
use crate::clips::Clip;
use crate::killed::{files, restore};
use crate::short_run::full_run;
use crate::wrapped::scripted;

/// Does to the joined film what `SPOIL` says, streams copied, in its place.
pub const SPOILER: &str = "case \" $* \" in *\" concat \"*) ;; *) exec FFMPEG \"$@\";; esac\n\
    FFMPEG \"$@\" || exit $?\n\
    for target; do :; done\n\
    target=${target#file:}\n\
    FFMPEG -nostdin -v error -y -copyts -i \"$target\" -map 0 -c copy -default_mode passthrough SPOIL -f matroska \
    \"$target.spoilt\" || exit 1\n\
    cat \"$target.spoilt\" > \"$target\" && rm \"$target.spoilt\"\n";

/// A film with one of each that lies beside the pictures.
const RICH: Clip = Clip::new(
    "rich.mkv",
    "FILM TONE -i TEXT -i CHAPTERS -map 0 -map 1 -map 2 -map_metadata 3 -c:v libx264 -g 12 -pix_fmt yuv420p -c:a flac -c:s srt \
     -metadata:s:a language=deu -attach FONT -metadata:s:t mimetype=font/ttf -metadata:s:t filename=font.ttf",
);

/// Arguments of ffmpeg, and what must be said.
const SPOILT: &[(&str, &str)] = &[
    ("-bsf:s:0 noise=drop='eq(n\\,1)'", "subtitle track 0 has 1 subtitles instead of 2"),
    ("-bsf:s:0 setts=pts=PTS+100:dts=DTS+100", "subtitle 0 of track 0 is not at its time"),
    ("-bsf:s:0 noise=amount=1", "subtitle track 0 is not the source's"),
    ("-bsf:a:0 noise=drop='eq(n\\,3)'", "sound track 0 is not the source's"),
    ("-bsf:a:0 setts=pts=PTS+40:dts=DTS+40", "sound track 0 begins"),
    ("-bsf:v:0 noise=drop='eq(n\\,20)'", "35 pictures instead of 36"),
    ("-bsf:v:0 setts=pts='PTS+5*eq(N\\,12)':dts='DTS+5*eq(N\\,12)'", "picture 12 is not at its time"),
    ("-map_chapters -1", "0 chapters instead of 2"),
    ("-metadata:s:a:0 language=eng", "language of audio stream 1"),
    ("-disposition:a:0 forced", "flags of audio stream 1"),
    ("-metadata:s:t:0 filename=other.ttf", "attached file \"font.ttf\""),
    ("-map -0:t", "beside the film"),
];

/// Runs a merge that is to be refused, with nothing left beside the work folder; its end.
pub fn refused(bench: &Bench, what: &str, mut command: Command) -> End {
    let end = bench.end(&command.output().unwrap());
    assert_eq!(end.code, Code::BadOutput, "{what}: {}", end.message);
    assert!(end.redo.is_empty(), "{what}: its parts are good");
    let left: Vec<_> = std::fs::read_dir(bench.destination("")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{what}: {left:?} beside the work folder");
    end
}

#[test]
fn a_film_spoilt_after_the_join_is_refused_for_what_is_wrong() {
    let bench = Bench::new("after");
    RICH.make(&bench);
    bench.make_parts(RICH.name, "out.mkv");
    let merge = |verify, spoil: &str| {
        let command = bench.merge_command_verifying(RICH.name, "out.mkv", verify);
        scripted(&bench, "spoiler", &command, &SPOILER.replace("SPOIL", spoil))
    };
    let modes: &[Verify] = if full_run() { &[Verify::Cheap, Verify::Full] } else { &[Verify::Cheap] };
    for verify in modes {
        for (spoil, told) in SPOILT {
            let end = refused(&bench, spoil, merge(*verify, spoil));
            assert!(end.message.contains(told), "{spoil}: {}", end.message);
        }
    }
    // What the spoiling itself does is no reason.
    bench.end(&merge(Verify::Cheap, "").output().unwrap()).expect_done();
}

/// Long enough that its middle is neither in its first nor in its last second.
const LONG: Clip = Clip::new("long.mp4", "FILM -c:v libx264 -g 24 -pix_fmt yuv420p").frames(150);

/// Writes the manifest of a part anew, as whoever made the part would have.
fn tell_anew(bench: &Bench, segment: u32) {
    let folder = bench.work().folder;
    let (path, part) = (folder.manifest(0, segment), folder.part(0, segment));
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let (bytes, sha256) = digest(&part).unwrap();
    let header = media::read(&bench.tools(), &part).unwrap().film().unwrap().extradata_hash.clone().unwrap();
    write_json(&path, &Manifest { header, bytes, sha256, ..manifest }).unwrap();
}

/// Encodes all parts again with a filter.
fn encode_anew(bench: &Bench, segments: u32, filter: &str) {
    for segment in 0..segments {
        let part = bench.work().folder.part(0, segment).to_string_lossy().into_owned();
        let other = bench.root().join("other.mp4").to_string_lossy().into_owned();
        let how = format!(
            "-vf {filter} -fps_mode passthrough -enc_time_base 1/12800 -c:v libx264 -preset veryfast -crf 16 \
             -x264-params bframes=0:fps=25 -video_track_timescale 12800"
        );
        let how = how.split_whitespace().map(str::to_owned);
        bench.ffmpeg(
            &["-i".to_owned(), part.clone()]
                .into_iter()
                .chain(how)
                .chain([other.clone()])
                .collect::<Vec<_>>(),
        );
        std::fs::rename(other, part).unwrap();
        tell_anew(bench, segment);
    }
}

#[test]
fn parts_that_are_not_what_their_manifests_say_are_refused_in_both_modes() {
    let bench = Bench::of("parts", Asked { segment_frames: Some(30), ..Asked::PLAIN }, Wanted::default());
    LONG.make(&bench);
    let segments = bench.make_parts(LONG.name, "out.mp4");
    let good = files(&bench.destination(""));
    let refuse = |what: &str, told: &[&str]| {
        for verify in [Verify::Cheap, Verify::Full] {
            let end = refused(&bench, what, bench.merge_command_verifying(LONG.name, "out.mp4", verify));
            assert!(
                told.iter().any(|told| end.message.contains(told)),
                "{what}, {verify:?}: {}",
                end.message
            );
        }
        restore(&bench.destination(""), &good);
    };
    let folder = bench.work().folder;
    let lengths: Vec<u64> = bench.work().plan.segments.iter().map(|owned| owned.frames()).collect();
    assert!(segments == 5 && lengths[2] == lengths[3], "{lengths:?}");
    let (third, fourth) = (folder.part(0, 2), folder.part(0, 3));
    std::fs::rename(&third, bench.root().join("third")).unwrap();
    std::fs::rename(&fourth, &third).unwrap();
    std::fs::rename(bench.root().join("third"), &fourth).unwrap();
    [2, 3].into_iter().for_each(|segment| tell_anew(&bench, segment));
    refuse("two parts exchanged", &["shows picture", "differs from the source"]);

    encode_anew(&bench, segments, "setparams=colorspace=bt709");
    refuse("another matrix", &["its colour matrix is bt709 instead of smpte170m"]);
    encode_anew(&bench, segments, "setsar=4/3");
    refuse("another shape of pixels", &["its pixels are 4/3 instead of 1/1"]);
    // What the encoding does is no reason.
    encode_anew(&bench, segments, "null");
    let mut command = bench.merge_command_verifying(LONG.name, "out.mp4", Verify::Cheap);
    bench.end(&command.output().unwrap()).expect_done();
}
