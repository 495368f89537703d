//! Clips made by ffmpeg, and what a film is, read by ffprobe and ffmpeg alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::bench::Bench;

/// A clip to be made: arguments behind `-f lavfi`. `SOUND` stands for a second input with a tone, `FILM` for a
/// second of moving pictures, `SUBTITLES` for a file of subtitles.
pub struct Clip {
    /// Its file name.
    pub name: &'static str,
    /// How it is made; words by blanks.
    pub how: &'static str,
}

impl Clip {
    /// Makes it on the source claim.
    pub fn make(&self, bench: &Bench) {
        let subtitles = bench.root().join("text.srt");
        std::fs::write(&subtitles, "1\n00:00:00,100 --> 00:00:00,500\nHello\n").unwrap();
        let mut args: Vec<String> = vec!["-f".into(), "lavfi".into()];
        for arg in self.how.split_whitespace() {
            match arg {
                "SOUND" => args.extend(["-f", "lavfi", "-i", "sine=f=440:r=48000:d=2.9"].map(str::to_owned)),
                "SUBTITLES" => args.push(subtitles.to_string_lossy().into_owned()),
                "FILM" => args.push("testsrc2=s=160x90:r=25:d=1".to_owned()),
                other => args.push(other.to_owned()),
            }
        }
        if !["-pix_fmt", "ffv1", "-map"].iter().any(|word| self.how.contains(word)) {
            args.extend(["-pix_fmt".to_owned(), "yuv420p".to_owned()]);
        }
        args.push(bench.source(self.name).to_string_lossy().into_owned());
        bench.ffmpeg(&args);
    }
}

/// What a film is.
#[derive(Debug)]
pub struct Facts {
    /// Width and height.
    pub size: (u64, u64),
    /// SHA-256 of the packets of each sound track.
    pub sound: Vec<String>,
    /// First picture's time after that of the sound, seconds.
    pub delay: f64,
    /// Codecs of all other streams.
    pub others: Vec<String>,
    /// Time and duration of each picture that decodes, microseconds.
    pictures: Vec<(i64, i64)>,
}

impl Facts {
    /// Reads a film.
    pub fn of(bench: &Bench, path: &Path) -> Self {
        let json = bench.ffprobe(&["-show_streams", "-show_frames", "-select_streams", "v:0"], path);
        let video = &json["streams"][0];
        let micros =
            |value: &Value| (value.as_str().unwrap_or("0").parse::<f64>().unwrap() * 1e6).round() as i64;
        let pictures = json["frames"].as_array().unwrap().iter();
        let pictures: Vec<(i64, i64)> =
            pictures.map(|frame| (micros(&frame["pts_time"]), micros(&frame["duration_time"]))).collect();
        let all = bench.ffprobe(&["-show_streams", "-show_format"], path);
        let streams = all["streams"].as_array().unwrap();
        let starts: BTreeMap<&str, i64> = streams
            .iter()
            .map(|stream| (stream["codec_type"].as_str().unwrap(), micros(&stream["start_time"])))
            .collect();
        let sound_start = starts.get("audio").or_else(|| starts.get("video")).unwrap();
        let others = streams.iter().filter(|stream| stream["codec_type"] != "video");
        Self {
            size: (video["width"].as_u64().unwrap(), video["height"].as_u64().unwrap()),
            sound: bench.sound_hashes(path),
            delay: (pictures[0].0 - sound_start) as f64 / 1e6,
            others: others.map(|stream| stream["codec_name"].to_string()).collect(),
            pictures,
        }
    }

    /// Number of pictures that decode.
    pub fn frames(&self) -> usize {
        self.pictures.len()
    }

    /// Times since the first picture, microseconds.
    pub fn times(&self) -> Vec<i64> {
        self.pictures.iter().map(|(time, _)| time - self.pictures[0].0).collect()
    }

    /// When the last picture ends, microseconds since the first picture.
    pub fn end(&self) -> i64 {
        let (time, duration) = self.pictures[self.pictures.len() - 1];
        time + duration - self.pictures[0].0
    }
}
