//! The stand-in engine, end to end: real films, real memory, the driver's refusals.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use gpusim::card::{Gpu, MIB};
use gpusim::control::{Command as Act, Spoil};
use gpusim::journal;

use crate::{Bed, eventually};

const ENGINE: &str = env!("CARGO_BIN_EXE_infer-video");

/// Makes a film of RGB frames.
fn film(folder: &Path, frames: u32, size: &str) -> String {
    let path = folder.join("in.mp4").to_str().unwrap().to_owned();
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &format!("testsrc2=s={size}:r=30000/1001")])
        .args(["-frames:v", &frames.to_string(), "-c:v", "libx264rgb", "-qp", "0", "-y", &path])
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// Runs the engine on the GPU number `gpu` with the arguments of the ladder's last steps and `more`.
fn run(bed: &Bed, gpu: u32, frames: u32, more: &[&str]) -> Output {
    let input = film(bed.path(), frames, "160x128");
    let output = bed.path().join("out.mp4");
    bed.program(ENGINE, &gpu.to_string())
        .args(["--input", &input, "--output", output.to_str().unwrap(), "--device", "cuda:0", "--scale", "2"])
        .args(["--tiled_dit", "True", "--tile_size", "64", "--tile_overlap", "16", "--mode", "tiny-long"])
        .args(more)
        .output()
        .unwrap()
}

fn probe(bed: &Bed, entries: &str) -> String {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-show_entries",
            &format!("stream={entries}"),
            "-of",
            "csv=p=0",
        ])
        .arg(bed.path().join("out.mp4"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_segment_comes_out_twice_as_large_with_a_black_ring_and_the_gpu_is_held_meanwhile() {
    let bed = Bed::start();
    let input = film(bed.path(), 45, "320x180");
    let python = bed.path().join("python");
    std::os::unix::fs::symlink(ENGINE, &python).unwrap();
    let began = Instant::now();
    let output = bed
        .program(python.to_str().unwrap(), "0")
        .args(["/app/FlashVSR_Ultra_Fast/infer_video.py", "--input", &input, "--output"])
        .arg(bed.path().join("out.mp4"))
        .args(["--model_dir", "/models", "--device", "cuda:0", "--scale", "2", "--tiled_dit", "True"])
        .args(["--tile_size", "128", "--tile_overlap", "16", "--mode", "tiny-long", "--kv_ratio", "1.0"])
        .output()
        .unwrap();
    println!("took {:?}", began.elapsed());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    for line in
        ["Successfully read 45 frames using OpenCV", "Processed tile 6/6: (192,52)-(320,180)", "(H.264)"]
    {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(err.contains("\rProcessing Tile Batches: 100%|"), "{err}");
    let fields = "codec_name,width,height,pix_fmt,color_space,r_frame_rate,nb_read_frames";
    assert_eq!(probe(&bed, fields), "h264,640,360,yuv420p,unknown,30000/1001,45");
    let ring = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(bed.path().join("out.mp4"))
        .args(["-frames:v", "1", "-vf", "crop=640:1:0:0", "-f", "rawvideo", "-pix_fmt", "gray", "-"])
        .output()
        .unwrap();
    let mean = ring.stdout.iter().map(|v| u32::from(*v)).sum::<u32>() / 640;
    assert!(mean < 40, "the outermost row is black, not {mean}");
    let holds = journal::holds(&bed.journal());
    let [hold] = holds.as_slice() else { panic!("{holds:?}") };
    assert_eq!((hold.who.comm.as_str(), hold.uuid.as_str()), ("python", bed.list()[0].uuid.as_str()));
    let held = hold.end.unwrap().duration_since(hold.start);
    println!("held {} MiB for {held}", hold.peak / MIB);
    assert!(held.as_secs() >= 4 && (4200..4500).contains(&(hold.peak / MIB)));
}

#[test]
fn a_card_that_a_foreign_process_has_filled_ends_the_engine_with_pytorchs_words() {
    let bed = Bed::start();
    let hog = bed.hog(1, 2000);
    let output = run(&bed, 1, 21, &[]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("Traceback (most recent call last):\n"), "{err}");
    let last = err.trim_end().lines().last().unwrap();
    assert!(last.starts_with("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate "), "{last}");
    assert!(last.contains(" GPU 0 has a total capacity of 5.07 GiB of which "), "{last}");
    assert!(last.contains(&format!("Process {} has 1.95 GiB memory in use. ", hog.0.id())), "{last}");
    assert!(last.contains("Including non-PyTorch memory, this process has "), "{last}");
    assert!(!bed.path().join("out.mp4").exists());
    eventually("the engine's memory is free", || bed.list()[1].holders.len() == 1);
}

#[test]
fn a_card_that_needs_more_than_the_formula_refuses_the_same_run() {
    let bed = Bed::start();
    assert!(run(&bed, 1, 21, &[]).status.success());
    bed.control(&Act::Need { gpu: Gpu::Index(1), percent: 150 });
    let output = run(&bed, 1, 21, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("torch.OutOfMemoryError"));
}

#[test]
fn mistakes_in_the_command_line_are_exit_2_and_a_missing_gpu_or_film_is_exit_1() {
    let bed = Bed::start();
    assert_eq!(run(&bed, 0, 5, &["--tile_batch_size", "1"]).status.code(), Some(2));
    assert_eq!(run(&bed, 7, 5, &[]).status.code(), Some(2), "cuda:0 with no GPU visible");
    assert_eq!(run(&bed, 0, 5, &["--tile_overlap", "33"]).status.code(), Some(1));
    assert_eq!(run(&bed, 0, 5, &["--input", "/nowhere.mp4"]).status.code(), Some(1));
    let input = film(bed.path(), 5, "64x64");
    let without_device = bed.program(ENGINE, "none").args(["--input", &input]).output().unwrap();
    assert_eq!(without_device.status.code(), Some(1));
}

#[test]
fn frames_are_lost_as_the_model_loses_them_and_spoilt_as_a_test_says() {
    let bed = Bed::start();
    let spoil = |spoil| bed.control(&Act::Engine { gpu: Gpu::Index(0), spoil, runs: Some(1) });
    assert!(run(&bed, 0, 28, &[]).status.success());
    assert_eq!(probe(&bed, "codec_name,nb_read_frames"), "h264,21");
    spoil(Spoil::TooFewFrames);
    assert!(run(&bed, 0, 21, &[]).status.success());
    assert_eq!(probe(&bed, "codec_name,nb_read_frames"), "h264,18");
    spoil(Spoil::WrongCodec);
    assert!(run(&bed, 0, 21, &[]).status.success());
    assert_eq!(probe(&bed, "codec_name,nb_read_frames"), "mpeg4,21");
    std::fs::remove_file(bed.path().join("out.mp4")).unwrap();
    spoil(Spoil::NoOutput);
    assert!(run(&bed, 0, 21, &[]).status.success());
    assert!(!bed.path().join("out.mp4").exists());
    spoil(Spoil::Incompatible);
    let output = run(&bed, 0, 21, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("out of resource: shared memory"));
}
