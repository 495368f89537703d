//! `spec.range` through the whole pipeline: exactly the pictures and the packets of sound of the range, each at its time.

use std::path::Path;

use video_upscale::api::worker::Code;

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::clips::Clip;
use crate::film::Film;

/// Where most ranges begin, and how long all are: seconds, neither on a packet of the sound.
const START: f64 = 1.0;
const LENGTH: f64 = 1.2;

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

/// Time after `zero` and payload of every packet of the streams that are selected, microseconds.
fn packets(bench: &Bench, path: &Path, streams: &str, zero: i64) -> Vec<(i64, String)> {
    let args = ["-select_streams", streams, "-show_packets", "-show_data_hash", "sha256"];
    let json = bench.ffprobe(&args, path);
    let packets = json["packets"].as_array().unwrap().iter();
    packets
        .map(|packet| {
            let time: f64 = packet["pts_time"].as_str().unwrap().parse().unwrap();
            ((time * 1e6).round() as i64 - zero, packet["data_hash"].as_str().unwrap().to_owned())
        })
        .collect()
}

/// Time of the first picture that is shown, microseconds.
fn first_picture(bench: &Bench, path: &Path) -> i64 {
    let json = bench.ffprobe(&["-show_frames", "-select_streams", "v:0", "-read_intervals", "%+#1"], path);
    let time: f64 = json["frames"][0]["pts_time"].as_str().unwrap().parse().unwrap();
    (time * 1e6).round() as i64
}

/// Likeness of two films, decibels; the second is taken from `seconds` on, by the times that it states, and scaled.
fn likeness(bench: &Bench, result: &Path, source: &Path, seconds: f64) -> f64 {
    let filter = format!(
        "[0:v:0]settb=1/25,setpts=N[a];[1:v:0]trim=start={seconds},settb=1/25,setpts=N,scale=320:180[b];[a][b]psnr=shortest=1"
    );
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut args: Vec<String> = ["-v", "info", "-copyts", "-i"].map(str::to_owned).to_vec();
    args.push(text(result));
    args.extend(["-i".into(), text(source), "-filter_complex".into(), filter]);
    args.extend(["-f", "null", "-"].map(str::to_owned));
    let said = bench.ffmpeg_says(&args);
    let average = said.split("average:").nth(1).unwrap_or_else(|| panic!("{said}"));
    average.split_whitespace().next().unwrap().parse().unwrap()
}

/// Films of which a range is taken: how it is made, destination, the second at which the range begins.
const FILMS: &[(Clip, &str, f64)] = &[
    (
        Clip::new(
            "bframes.mp4",
            "-f lavfi -i testsrc2=s=160x90:r=25:d=3 -f lavfi -i sine=f=440:r=48000:d=2.9 -c:v libx264 -g 12 -bf 3 \
             -pix_fmt yuv420p -c:a aac",
        ),
        "out.mp4",
        START,
    ),
    (
        Clip::new(
            "variable.mp4",
            "-f lavfi -i testsrc2=s=160x90:r=30:d=3 -f lavfi -i sine=f=440:r=48000:d=2.9 \
             -vf select='not(eq(mod(n,7),3))*not(between(n,40,58))' -fps_mode vfr -c:v libx264 -g 20 -pix_fmt yuv420p -c:a aac",
        ),
        "out.mp4",
        0.5,
    ),
    (
        Clip::new(
            "late-video.mkv",
            "-itsoffset 0.7 -f lavfi -i testsrc2=s=160x90:r=30000/1001:d=3 -f lavfi -i sine=f=440:r=48000:d=2.9 -c:v libx264 \
             -pix_fmt yuv420p -c:a flac",
        ),
        "out.mkv",
        START,
    ),
    (
        Clip::new(
            "stream.ts",
            "-f lavfi -i testsrc2=s=160x90:r=25:d=3 -f lavfi -i sine=f=440:r=48000:d=2.9 -c:v libx264 -g 12 -pix_fmt yuv420p \
             -c:a mp2",
        ),
        "out.mkv",
        START,
    ),
    // Far enough from the beginning to be read from where it is.
    (
        Clip::new(
            "long.mkv",
            "-f lavfi -i testsrc2=s=160x90:r=10:d=104 -f lavfi -i sine=d=104 -c:v libx264 -g 30 -pix_fmt yuv420p -c:a libopus",
        ),
        "out.mkv",
        100.0,
    ),
];

/// Times of the pictures after the first, microseconds.
fn times(film: &Film) -> Vec<i64> {
    film.pictures.iter().map(|picture| film.base.micros(picture.time - film.pictures[0].time)).collect()
}

#[test]
fn a_range_is_exactly_its_pictures_and_its_packets() {
    for (number, (clip, destination, start)) in FILMS.iter().enumerate() {
        let bench = Bench::new(&format!("range-{number}"));
        clip.make(&bench);
        let name = clip.name;
        let (source, result) = (bench.source(name), bench.destination(destination));
        let end = bench.upscale_range(name, destination, micros(*start), Some(micros(LENGTH)));
        let before = Film::of(&bench, &source, None);
        let inside = |time: i64| time >= micros(*start) as i64 && time < micros(start + LENGTH) as i64;
        let wanted: Vec<i64> = times(&before).into_iter().filter(|time| inside(*time)).collect();
        let after = Film::of(&bench, &result, None);
        let zeroed: Vec<i64> = wanted.iter().map(|time| time - wanted[0]).collect();
        let near =
            |a: &[i64], b: &[i64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1000);
        assert!(near(&times(&after), &zeroed), "{name}: {:?} instead of {zeroed:?}", times(&after));
        let figures = end.probe.unwrap();
        assert_eq!(figures.frames, wanted.len() as u64, "{name}");

        let zero = first_picture(&bench, &source) + wanted[0];
        let length = after.base.micros(after.length());
        assert!(figures.duration_ms.abs_diff(length as u64 / 1000) <= 1, "{name}: {}", figures.duration_ms);
        let sound: Vec<(i64, String)> = packets(&bench, &source, "a:0", zero)
            .into_iter()
            .filter(|(time, _)| (0..length).contains(time))
            .collect();
        let kept = packets(&bench, &result, "a:0", first_picture(&bench, &result));
        let payload = |packets: &[(i64, String)]| packets.iter().map(|p| p.1.clone()).collect::<Vec<_>>();
        assert!(sound.len() > 10, "{name}");
        assert_eq!(payload(&kept), payload(&sound), "{name}: sound");
        let begin = |packets: &[(i64, String)]| packets.iter().map(|p| p.0).collect::<Vec<_>>();
        assert!(
            near(&begin(&kept), &begin(&sound)),
            "{name}: {:?} {:?}",
            &begin(&kept)[..3],
            &begin(&sound)[..3]
        );

        let at = (zero as f64 - 1000.0) / 1e6;
        let (own, next) =
            (likeness(&bench, &result, &source, at), likeness(&bench, &result, &source, at + 0.13));
        assert!(own > 25.0 && own > next + 2.0, "{name}: {own} {next}");
    }
}

#[test]
fn ranges_that_follow_each_other_share_nothing_and_lose_nothing() {
    let clip = FILMS[0].0;
    let name = clip.name;
    let mut pictures = 0;
    let mut sound = Vec::new();
    let mut all = (0, Vec::new());
    for (number, (start, length)) in
        [(0.0, Some(0.93)), (0.93, Some(1.0)), (1.93, None)].into_iter().enumerate()
    {
        let bench = Bench::new(&format!("follow-{number}"));
        clip.make(&bench);
        bench.upscale_range(name, "out.mp4", micros(start), length.map(micros));
        let result = bench.destination("out.mp4");
        pictures += Film::of(&bench, &result, None).pictures.len();
        sound.extend(packets(&bench, &result, "a:0", 0).into_iter().map(|packet| packet.1));
        all = (
            Film::of(&bench, &bench.source(name), None).pictures.len(),
            packets(&bench, &bench.source(name), "a:0", 0)
                .into_iter()
                .filter(|packet| packet.0 >= 0)
                .map(|packet| packet.1)
                .collect(),
        );
    }
    assert_eq!((pictures, sound), all);
}

#[test]
fn subtitles_chapters_and_covers_come_along() {
    let bench = Bench::new("range-others");
    let chapters = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=before\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=500\nEND=1500\ntitle=a \\= b\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=3000\ntitle=$(X) 'c'\n";
    std::fs::write(bench.root().join("chapters.txt"), chapters).unwrap();
    let lines = "1\n00:00:00,100 --> 00:00:00,500\nover\n\n2\n00:00:00,800 --> 00:00:01,600\nbegun\n\n\
                 3\n00:00:01,900 --> 00:00:02,100\ninside\n\n4\n00:00:02,500 --> 00:00:02,900\nlater\n";
    std::fs::write(bench.root().join("lines.srt"), lines).unwrap();
    bench.ffmpeg(&words("-f lavfi -i color=red:s=32x32 -frames:v 1", &bench.root().join("cover.png")));
    for (name, codec, cover) in [
        ("others.mkv", "subrip", ""),
        ("others.mp4", "mov_text", "-map 4 -c:v:1 png -disposition:v:1 attached_pic"),
    ] {
        let text = |file: &str| bench.root().join(file).to_string_lossy().into_owned();
        let how = format!(
            "-f lavfi -i testsrc2=s=160x90:r=25:d=3 -f lavfi -i sine=d=3 -i {} -i {} -i {} -map 0 -map 1 -map 2 {cover} \
             -map_metadata 3 -map_chapters 3 -c:v:0 libx264 -pix_fmt:v:0 yuv420p -c:a aac -c:s {codec}",
            text("lines.srt"),
            text("chapters.txt"),
            text("cover.png"),
        );
        bench.ffmpeg(&words(&how, &bench.source(name)));
        bench.upscale_range(name, name, 1_000_000, Some(1_200_000));
        let result = bench.destination(name);
        let json = bench.ffprobe(&["-show_chapters", "-show_streams"], &result);
        let told: Vec<(f64, f64, &str)> = json["chapters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|chapter| {
                let number = |field: &str| chapter[field].as_str().unwrap().parse().unwrap();
                (number("start_time"), number("end_time"), chapter["tags"]["title"].as_str().unwrap())
            })
            .collect();
        assert_eq!(told, [(0.0, 0.5, "a = b"), (0.5, 1.2, "$(X) 'c'")], "{name}");
        let covers = json["streams"].as_array().unwrap().iter();
        let covers = covers.filter(|stream| stream["disposition"]["attached_pic"] == 1).count();
        assert_eq!(covers, usize::from(!cover.is_empty()), "{name}");
        let mut shown = bench.ffmpeg_says(&words(
            &format!("-v error -i {} -map 0:s:0 -f srt", result.display()),
            Path::new("-"),
        ));
        shown = shown.replace("\r\n", "\n");
        assert!(shown.contains("00:00:00,000 --> 00:00:00,600\nbegun\n"), "{name}: {shown}");
        assert!(shown.contains("00:00:00,900 --> 00:00:01,100\ninside\n"), "{name}: {shown}");
        assert!(!shown.contains("over") && !shown.contains("later"), "{name}: {shown}");
    }
}

fn words(text: &str, last: &Path) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).chain([last.to_string_lossy().into_owned()]).collect()
}

#[test]
fn a_range_outside_the_film_or_empty_is_refused_with_numbers() {
    let bench = Bench::new("outside");
    let clip = FILMS[0].0;
    let name = clip.name;
    clip.make(&bench);
    for (start, length, told) in [
        (3_000_000, None, "from 3.000000 s on; by its header it lasts 3."),
        (9_000_000_000, Some(1_000_000), "from 9000.000000 s to 9001.000000 s"),
        (1_001_000, Some(1000), "from 1.001000 s to 1.002000 s"),
    ] {
        let end = bench.probe_range(name, "out.mp4", start, length);
        assert_eq!(end.code, Code::InvalidSource, "{}", end.message);
        assert!(end.message.contains(told) && end.message.contains(name), "{}", end.message);
    }
    let longer = bench.probe_range(name, "out.mp4", 2_000_000, Some(5_000_000)).expect_done().probe.unwrap();
    assert_eq!(longer.frames, 25);
    assert!(longer.warnings.iter().any(|told| told == "the range ends 4.000000 s after the film"));
}

#[test]
fn a_range_is_cut_in_the_segments_and_context_of_the_film_around_it() {
    let bench = Bench::new("range-context");
    let clip = FILMS[0].0;
    let name = clip.name;
    clip.make(&bench);
    let figures = bench.probe_range(name, "out.mp4", 1_400_000, Some(400_000)).expect_done().probe.unwrap();
    // Ten pictures read 24 before and 4 after themselves, five above a multiple of eight in all.
    assert_eq!((figures.frames, figures.segments, figures.longest_read), (10, 1, 45));
    bench.cut(name, 0, 1);
    bench.run_engine(1, &Engine::default());
    bench.finish(0, 1).expect_done();
}
