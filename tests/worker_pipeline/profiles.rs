//! Profiles as an administrator writes them, and stand-ins for their programs: rendered, run and refused as in a pod.

use std::process::{Command, Output};

use video_upscale::api::profile::{UpscaleProfile, UpscaleProfileSpec};
use video_upscale::api::worker::{Code, End, SCRATCH_MOUNT};
use video_upscale::profile::{Picture, Piece, Rendered, engine_input, engine_output, need_bytes, render};

use crate::asked::{Asked, Wanted};
use crate::bench::{Bench, ExpectDone as _};
use crate::driver::Driver;

/// A profile, a step of its ladder, and the stand-in for its program.
pub struct Engine {
    /// What the administrator wrote.
    pub spec: UpscaleProfileSpec,
    /// Number of the step.
    pub step: u32,
    /// Name of the stand-in.
    program: &'static str,
}

impl Engine {
    fn of(yaml: &str, step: u32, program: &'static str) -> Self {
        Self { spec: serde_saphyr::from_str::<UpscaleProfile>(yaml).unwrap().spec, step, program }
    }

    /// Temporal, tiles, 8k + 5 frames.
    pub fn flashvsr() -> Self {
        Self::of(include_str!("../../src/profile/testdata/flashvsr.yaml"), 5, "infer-video")
    }

    /// A folder of pictures, no time, always exits 0.
    pub fn realesrgan() -> Self {
        let yaml = include_str!("../../src/profile/testdata/realesrgan-ncnn.yaml");
        Self::of(yaml, 2, "realesrgan-ncnn-vulkan")
    }

    /// Whole pictures, batches of 4n + 1, several phases.
    pub fn seedvr2() -> Self {
        Self::of(include_str!("../../src/profile/testdata/seedvr2-7b.yaml"), 2, "inference-cli")
    }

    /// A job's side of it.
    pub fn bench(&self, uid: &str, asked: Asked) -> Bench {
        let wanted = Wanted {
            input: engine_input(&self.spec, false),
            output: engine_output(&self.spec),
            host_memory: self.spec.host_memory,
        };
        Bench::of(uid, asked, wanted)
    }

    /// Runs the stand-in for one piece as the pod would, with the profile's command line and environment.
    pub fn run(&self, bench: &Bench, driver: &Driver, picture: &Picture, piece: Piece) -> Output {
        self.command(bench, driver, picture, piece).output().unwrap()
    }

    /// That command line.
    pub fn command(&self, bench: &Bench, driver: &Driver, picture: &Picture, piece: Piece) -> Command {
        let Rendered { command, args, env } = render(&self.spec, self.step, picture, piece).unwrap();
        let scratch = bench.root().join("scratch");
        let here = |text: &String| text.replace(SCRATCH_MOUNT, &scratch.to_string_lossy());
        let mut program = Command::new(driver.programs.path(self.program));
        // The image's own program is the first word; what follows it belongs to the command line.
        program.args(command.iter().skip(1).chain(&args).map(here));
        program.envs(env.iter().map(|(name, value)| (name, here(value)))).env("PATH", bench.search_path());
        driver.show_to(&mut program);
        program
    }

    /// Everything from the probe to the merge; the end of the first stage that did not succeed, or of the merge.
    pub fn upscale(
        &self,
        bench: &Bench,
        driver: &Driver,
        source: &str,
        destination: &str,
        pieces: u32,
    ) -> End {
        let probe = bench.probe(source, destination);
        let Some(figures) = probe.probe.clone() else { return probe };
        let picture = Picture::of(&self.spec, figures.width, figures.height, figures.scale);
        let need = need_bytes(&self.spec, self.step, &picture, figures.longest_read).unwrap();
        for segment in 0..figures.segments {
            let prepared = bench.prepare(source, segment, pieces, driver, need);
            if prepared.code != Code::Done {
                return prepared;
            }
            for number in 0..pieces {
                let piece = Piece { number, frames: figures.longest_read, fragmentation_env: false };
                let output = self.run(bench, driver, &picture, piece);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            let finished = bench.finish(segment, pieces);
            if finished.code != Code::Done {
                return finished;
            }
        }
        bench.merge(source, destination)
    }

    /// As [`Self::upscale`], must succeed.
    pub fn upscaled(&self, bench: &Bench, driver: &Driver, source: &str, destination: &str, pieces: u32) {
        self.upscale(bench, driver, source, destination, pieces).expect_done();
    }
}
