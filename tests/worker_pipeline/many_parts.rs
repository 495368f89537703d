//! The parts of a long film, made in one run instead of one by one.

use std::path::Path;

use video_upscale::worker::media;
use video_upscale::worker::parts::Manifest;
use video_upscale::worker::publish::{digest, write_json};

use crate::bench::Bench;

/// Parts of a film without colour tags made in one run, and their manifests. `scale`: arguments of the filter; `how`:
/// options of the encoder.
pub fn many_parts(bench: &Bench, source: &str, scale: &str, how: &str) {
    let work = bench.work();
    let tools = bench.tools();
    std::fs::create_dir_all(work.folder.parts()).unwrap();
    let rate = work.plan.rate;
    let borders: Vec<String> = work.plan.segments.iter().skip(1).map(|span| span.start.to_string()).collect();
    let borders = borders.join(",");
    let times: Vec<String> =
        work.plan.segments.iter().map(|span| format!("{:.6}", span.start as f64 / rate.value())).collect();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut args = vec!["-i".to_owned(), text(&bench.source(source))];
    let colour = "range=tv:colorspace=smpte170m:color_primaries=smpte170m:color_trc=smpte170m";
    let how = format!(
        "-map 0:v:0 -vf scale={scale},setparams={colour} -c:v libx264 -x264-params bframes=0:fps={rate} {how}"
    );
    args.extend(how.split_whitespace().map(str::to_owned));
    args.extend(["-force_key_frames".to_owned(), times.join(",")]);
    args.extend(["-f", "segment", "-segment_frames", &borders, "-reset_timestamps", "1"].map(str::to_owned));
    args.extend(["-segment_format", "mp4", "-segment_format_options"].map(str::to_owned));
    args.push(format!("video_track_timescale={}", work.index.base.den));
    args.push(text(&bench.root().join("part-%d.mp4")));
    bench.ffmpeg(&args);
    let first = media::read(&tools, &bench.root().join("part-0.mp4")).unwrap();
    let header = first.film().unwrap().extradata_hash.clone().unwrap();
    for (segment, owned) in (0u32..).zip(&work.plan.segments) {
        let part = work.folder.part(0, segment);
        std::fs::rename(bench.root().join(format!("part-{segment}.mp4")), &part).unwrap();
        let (bytes, sha256) = digest(&part).unwrap();
        let manifest = Manifest {
            v: 1,
            index: work.plan.index.clone(),
            round: 0,
            segment,
            owned: *owned,
            scale: 2,
            attempt: 1,
            step: 0,
            pieces: 1,
            width: work.index.width * 2,
            height: work.index.height * 2,
            encoder: "libx264".to_owned(),
            header: header.clone(),
            bytes,
            sha256,
        };
        write_json(&work.folder.manifest(0, segment), &manifest).unwrap();
    }
}
