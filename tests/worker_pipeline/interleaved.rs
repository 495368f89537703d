//! Joining holds seconds of a film in memory, not all of it, though it has a cover and one late subtitle; and in the
//! result the sound lies beside the pictures that it belongs to.

use video_upscale::api::worker::Verify;

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, ExpectDone as _};
use crate::many_parts::many_parts;
use crate::watched::{Watched, watch};

/// Two minutes, so slow that ten seconds of it are little.
const PICTURES: &str =
    "-f lavfi -i testsrc2=s=320x180:r=1:d=120,noise=alls=30:allf=t -f lavfi -i sine=d=120:r=48000";
const CODECS: &str = "-c:v:0 libx264 -preset ultrafast -pix_fmt:v:0 yuv420p -c:a aac";
const SUBTITLE: &str = "1\n00:01:58,000 --> 00:01:59,000\nlate\n\n";

fn merged(bench: &Bench, name: &'static str, how: &str) -> Watched {
    let args = how.split_whitespace().map(str::to_owned);
    bench.ffmpeg(&args.chain([bench.source(name).to_string_lossy().into_owned()]).collect::<Vec<_>>());
    bench.probe(name, "out.mp4").expect_done();
    many_parts(bench, name, "640:360:flags=neighbor,noise=alls=20:allf=t", "-qp 0 -preset ultrafast");
    let merged = watch(&mut bench.merge_command_verifying(name, "out.mp4", Verify::Cheap));
    bench.end(&merged.output).expect_done();
    merged
}

#[test]
fn a_cover_and_a_late_subtitle_do_not_make_a_join_hold_the_film() {
    let bench = |uid| Bench::of(uid, Asked { segment_frames: Some(60), ..Asked::PLAIN }, Wanted::default());
    let (plain, rich) = (bench("plain"), bench("rich"));
    let alone = merged(&plain, "plain.mp4", &format!("{PICTURES} {CODECS}"));
    let file = |name: &str| rich.root().join(name).to_string_lossy().into_owned();
    std::fs::write(file("late.srt"), SUBTITLE).unwrap();
    let cover = "-f lavfi -i color=c=orange:s=64x64:d=1 -frames:v 1".split_whitespace().map(str::to_owned);
    rich.ffmpeg(&cover.chain([file("cover.jpg")]).collect::<Vec<_>>());
    let how = format!(
        "{PICTURES} -i {} -i {} -map 0 -map 1 -map 2 -map 3 {CODECS} -c:s mov_text -c:v:1 copy -disposition:v:1 attached_pic",
        file("late.srt"),
        file("cover.jpg")
    );
    let beside = merged(&rich, "rich.mp4", &how);
    let film = std::fs::metadata(rich.destination("out.mp4")).unwrap().len();
    let (alone, beside) = (alone.joining_peak, beside.joining_peak);
    assert!(
        film > 16 << 20 && alone > 0,
        "{film} bytes of film, {alone} bytes of memory: nothing is measured"
    );
    assert!(beside < alone + film / 2, "{beside} bytes of memory instead of {alone}, {film} bytes of film");

    let packets =
        rich.ffprobe(&["-show_entries", "packet=stream_index,pts_time,pos"], &rich.destination("out.mp4"));
    let number = |value: &serde_json::Value| value.as_str()?.parse::<f64>().ok();
    // A cover lies in the header and has neither place nor time.
    let mut packets: Vec<(f64, i64, f64)> = packets["packets"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|packet| {
            Some((number(&packet["pos"])?, packet["stream_index"].as_i64()?, number(&packet["pts_time"])?))
        })
        .collect();
    let of = |stream: i64| packets.iter().filter(|packet| packet.1 == stream).count();
    assert!(of(0) == 120 && of(1) > 1000, "{} pictures, {} packets of sound", of(0), of(1));
    packets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut pictures, mut sound, mut apart) = (0.0, 0.0, 0.0f64);
    for (_, stream, time) in packets {
        match stream {
            0 => pictures = time,
            1 => sound = time,
            _ => {}
        }
        apart = apart.max(sound - pictures);
    }
    assert!(apart < 5.0, "sound lies {apart} s before its pictures");
}
