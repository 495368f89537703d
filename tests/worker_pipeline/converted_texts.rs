//! Text that the result's container holds in another format only: words, times, languages and flags stay.

use video_upscale::api::worker::{Code, Verify};

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::made::make;
use crate::sidecar::sidecar;
use crate::verified::{SPOILER, refused};
use crate::wrapped::scripted;

/// Sound without anything before its beginning, so that the pictures begin with the file in every family.
const FILM: &str = "-f lavfi -i testsrc2=s=64x36:r=25:d=1.6 -f lavfi -i sine=d=1.6 -c:v libx264 -pix_fmt yuv420p -c:a pcm_s16le";
/// What is said when.
const LINES: &str = "1\n00:00:00,110 --> 00:00:00,500\nHello <i>there</i> & <b>you</b>\n\u{2014} second line\n\n\
                     2\n00:00:00,500 --> 00:00:00,733\nd\u{e9}j\u{e0} \u{8a9e}\n\n3\n00:00:01,000 --> 00:00:01,560\nlast\n";

/// A film with those lines, once as they are and once with a word changed.
fn film(bench: &Bench, name: &str, codec: &str) {
    let [lines, others] = ["lines.srt", "others.srt"].map(|name| bench.root().join(name));
    std::fs::write(&lines, LINES).unwrap();
    std::fs::write(&others, LINES.replace("last", "LAST")).unwrap();
    let how = format!(
        "-i {} -i {} -map 0 -map 1 -map 2 -map 3 -c:s {codec} -metadata:s:s:0 language=fra -metadata:s:s:1 language=jpn \
         -disposition:s:0 0 -disposition:s:1 forced",
        lines.display(),
        others.display()
    );
    let (inputs, codecs) = FILM.split_once(" -c:v").unwrap();
    make(bench, name, &format!("{inputs} {how} -c:v{codecs}"));
}

/// A track as SubRip, without its styles.
fn shown(bench: &Bench, path: &std::path::Path, track: usize) -> String {
    let (path, track) = (path.to_string_lossy(), format!("0:s:{track}"));
    let text =
        bench.ffmpeg_says(&["-v", "error", "-i", &path, "-map", &track, "-f", "srt", "-"].map(str::to_owned));
    let parts = text.split('<').enumerate();
    let bare = parts.map(|(number, part)| match part.split_once('>') {
        Some((_, rest)) if number > 0 => rest,
        _ => part,
    });
    bare.collect::<String>().replace("\r\n", "\n")
}

#[test]
fn text_keeps_words_times_languages_and_flags_in_another_family() {
    for (name, codec, destination, becomes) in [
        ("lines.mkv", "subrip", "out.mp4", "mov_text"),
        ("signs.mkv", "ass", "out.mp4", "mov_text"),
        ("lines.mp4", "mov_text", "out.mkv", "ass"),
    ] {
        let bench = Bench::new("texts");
        film(&bench, name, codec);
        let (source, result) = (bench.source(name), bench.destination(destination));
        bench.upscale(name, destination, 1, &Engine::default());
        for track in [0, 1] {
            let (was, is) = (shown(&bench, &source, track), shown(&bench, &result, track));
            assert!(was.contains("Hello there & you\n\u{2014} second line\n"), "{name}: {was}");
            assert_eq!(is, was, "{name} to {destination}, track {track}");
        }
        let json = bench.ffprobe(&["-show_streams", "-select_streams", "s"], &result);
        for (stream, (language, forced)) in
            json["streams"].as_array().unwrap().iter().zip([("fre", 0), ("jpn", 1)])
        {
            assert_eq!(stream["codec_name"], becomes, "{name}");
            let told = stream["tags"]["language"].as_str().unwrap().replace("fra", "fre");
            assert_eq!(
                (told.as_str(), &stream["disposition"]["forced"]),
                (language, &forced.into()),
                "{name}"
            );
        }
        let told = sidecar(&bench, destination)["warnings"].to_string();
        assert!(told.contains(&format!("is converted from {codec} to {becomes}")), "{name}: {told}");
    }
}

/// Text that looks like marks of some format, or has blanks at its ends.
const ODD: [&str; 7] = [
    "a <b> c",
    "<i>x</i> < y",
    "&amp; &lt;i&gt;",
    "ends with a line\\N",
    "trails ",
    "{brace} back\\slash",
    "1\\N00:00:01,000 --> 00:00:02,000\\Nhi",
];

/// Scripts of that text, each line shown for a twentieth of a second.
fn script<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut script = "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize, PrimaryColour\n\
                      Style: Default,Arial,16,&Hffffff\n\n[Events]\n\
                      Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        .to_owned();
    for (number, line) in lines.into_iter().enumerate() {
        let (from, to) = (number * 10 + 10, number * 10 + 15);
        script.push_str(&format!("Dialogue: 0,0:00:00.{from:02},0:00:00.{to:02},Default,,0,0,0,,{line}\n"));
    }
    script
}

/// A film with a script, made into that codec.
fn scripted_film(bench: &Bench, name: &str, script: &str, codec: &str) {
    let path = bench.root().join("script.ass");
    std::fs::write(&path, script).unwrap();
    let (inputs, codecs) = FILM.split_once(" -c:v").unwrap();
    make(
        bench,
        name,
        &format!("{inputs} -i {} -map 0 -map 1 -map 2 -c:s {codec} -c:v{codecs}", path.display()),
    );
}

#[test]
fn text_that_looks_like_marks_stays_as_it_is() {
    let bench = Bench::new("texts-odd");
    scripted_film(&bench, "odd.mp4", &script(ODD), "mov_text");
    bench.upscale("odd.mp4", "out.mkv", 1, &Engine::default());
    for path in [bench.source("odd.mp4"), bench.destination("out.mkv")] {
        let path = path.to_string_lossy();
        let told = bench
            .ffmpeg_says(&["-v", "error", "-i", &path, "-map", "0:s", "-f", "ass", "-"].map(str::to_owned));
        let events = told.lines().filter(|line| line.starts_with("Dialogue:"));
        let texts: Vec<_> = events.filter_map(|line| line.splitn(10, ',').nth(9)).collect();
        assert_eq!(texts, ODD, "{path}");
    }
}

#[test]
fn text_that_cannot_be_converted_is_refused_before_any_gpu_works() {
    let bench = Bench::new("texts-long");
    // The longest text of MP4 has 65,535 bytes.
    scripted_film(&bench, "long.mkv", &script(["short", &"x".repeat(70_000)]), "ass");
    let end = bench.probe("long.mkv", "out.mp4");
    assert_eq!(end.code, Code::UnsupportedSource, "{}", end.message);
    let told =
        "StreamsDoNotFit: subtitles of long.mkv cannot be converted; end the destination's name with .mkv (";
    assert!(end.message.starts_with(told), "{}", end.message);
    bench.probe("long.mkv", "out.mkv").expect_done();
}

#[test]
fn a_range_has_its_text_in_another_family() {
    let bench = Bench::new("texts-range");
    film(&bench, "lines.mkv", "webvtt");
    bench.upscale_range("lines.mkv", "out.mov", 400_000, Some(800_000));
    let text = shown(&bench, &bench.destination("out.mov"), 1);
    let times: Vec<&str> = text.lines().filter(|line| line.contains("-->")).collect();
    assert_eq!(
        times,
        ["00:00:00,000 --> 00:00:00,100", "00:00:00,100 --> 00:00:00,333", "00:00:00,600 --> 00:00:01,160"],
        "{text}"
    );
}

#[test]
fn two_texts_at_once_are_refused_where_one_is_shown_at_a_time() {
    let bench = Bench::new("texts-at-once");
    let lines = bench.root().join("lines.srt");
    let text = "1\n00:00:00,100 --> 00:00:00,500\none\n\n2\n00:00:00,400 --> 00:00:00,700\nother\n";
    std::fs::write(&lines, text).unwrap();
    let (inputs, codecs) = FILM.split_once(" -c:v").unwrap();
    let how = format!("{inputs} -i {} -map 0 -map 1 -map 2 -c:s subrip -c:v{codecs}", lines.display());
    make(&bench, "film.mkv", &how);
    let end = bench.probe("film.mkv", "out.mp4");
    assert_eq!(end.code, Code::UnsupportedSource, "{}", end.message);
    let told = "StreamsDoNotFit: subtitle stream 2 of film.mkv shows two texts at once at 0.400000 s";
    assert!(end.message.starts_with(told), "{}", end.message);
    bench.probe("film.mkv", "out.mkv").expect_done();
}

#[test]
fn converted_text_that_was_spoilt_is_refused_for_what_is_wrong() {
    let bench = Bench::new("texts-spoilt");
    film(&bench, "lines.mp4", "mov_text");
    bench.make_parts("lines.mp4", "out.mkv");
    let probe = |spoil: &str| {
        let spoiler = SPOILER.replace(" concat ", " -c ass ").replace("SPOIL", spoil);
        let command = scripted(&bench, "spoiler", &bench.probe_command("lines.mp4", "out.mkv"), &spoiler);
        bench.end(&{ command }.output().unwrap())
    };
    let merge = |spoil: &str| {
        let command = bench.merge_command_verifying("lines.mp4", "out.mkv", Verify::Cheap);
        scripted(&bench, "spoiler", &command, &SPOILER.replace("SPOIL", spoil))
    };
    for (spoil, told) in [
        ("-bsf:s:1 noise=drop='eq(n\\,1)'", "subtitle track 1 has 2 subtitles instead of 3"),
        ("-bsf:s:1 setts=pts=PTS+100:dts=DTS+100", "subtitle 0 of track 1 is not at its time"),
        ("-bsf:s:0 setts=duration=DURATION+100", "subtitle 0 of track 0 is not shown as long"),
        ("-map -0:s -map 0:s:1 -map 0:s:0", "subtitle track 0 is not the source's in its words"),
    ] {
        let end = refused(&bench, spoil, merge(spoil));
        assert!(end.message.contains(told), "{spoil}: {}", end.message);
        // The probe tries the conversion, and says the same.
        if told.contains("its time") || told.contains("shown as long") {
            continue;
        }
        let end = probe(spoil);
        assert_eq!(end.code, Code::UnsupportedSource, "{spoil}: {}", end.message);
        let start = "StreamsDoNotFit: subtitles of lines.mp4 tried in matroska: ";
        assert!(end.message.starts_with(&format!("{start}{told}")), "{spoil}: {}", end.message);
    }
    probe("").expect_done();
    bench.end(&merge("").output().unwrap()).expect_done();
}

#[test]
fn a_range_in_which_nothing_is_said_keeps_its_track() {
    for (name, codec, destination) in
        [("lines.mp4", "mov_text", "out.mkv"), ("lines.mkv", "subrip", "out.mp4")]
    {
        let bench = Bench::new("texts-none");
        film(&bench, name, codec);
        bench.upscale_range(name, destination, 760_000, Some(200_000));
        let result = bench.destination(destination);
        let streams = &bench.ffprobe(&["-show_streams", "-select_streams", "s"], &result)["streams"];
        assert_eq!(streams.as_array().unwrap().len(), 2, "{name} to {destination}");
        assert!(!shown(&bench, &result, 0).contains("-->"), "{name} to {destination}");
    }
}
