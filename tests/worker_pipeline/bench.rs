//! A bench: claims and scratch as folders, the real worker, and a stand-in for the engine with its habits.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use serde::Serialize;
use video_upscale::api::worker::{
    Code, End, FinishTask, JobRef, MergeTask, PrepareTask, ProbeTask, PromisedGpu, Source, VERSION, Verify,
    WORK_FOLDER,
};
use video_upscale::worker::failure::Failure;
use video_upscale::worker::ffmpeg::{Children, Tools};
use video_upscale::worker::folder::Mounts;
use video_upscale::worker::prepare::{Work, cut_segment};

use crate::asked::{Asked, Wanted};
use crate::driver::Driver;

/// A stand-in for the engine: Lanczos, one black pixel around, untagged BT.601.
pub struct Engine {
    /// Filters that spoil the result.
    pub more: &'static str,
    /// Constant rate factor of the result.
    pub quality: u32,
}

impl Default for Engine {
    fn default() -> Self {
        Self { more: "", quality: 18 }
    }
}

/// Claims and scratch of one job.
pub struct Bench {
    root: tempfile::TempDir,
    /// The programs.
    pub ffmpeg: PathBuf,
    ffprobe: PathBuf,
    uid: String,
    asked: Asked,
    wanted: Wanted,
    exit: Mutex<i32>,
}

/// A program that a variable of the environment names, else by its name on PATH.
#[expect(clippy::disallowed_methods, reason = "the edge: where a test finds its programs")]
pub fn program(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from)
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Bench {
    /// Empty claims.
    pub fn new(uid: &str) -> Self {
        Self::of(uid, Asked::PLAIN, Wanted::default())
    }

    /// Empty claims of a job.
    pub fn of(uid: &str, asked: Asked, wanted: Wanted) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["source", "destination", "scratch"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self {
            root,
            ffmpeg: program("UPSCALE_FFMPEG", "ffmpeg"),
            ffprobe: program("UPSCALE_FFPROBE", "ffprobe"),
            uid: uid.to_owned(),
            asked,
            wanted,
            exit: Mutex::new(0),
        }
    }

    /// The same claims for another wish.
    pub fn asking(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    /// Everything.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path on the source claim.
    pub fn source(&self, name: &str) -> PathBuf {
        self.root().join("source").join(name)
    }

    /// A path on the destination claim.
    pub fn destination(&self, name: &str) -> PathBuf {
        self.root().join("destination").join(name)
    }

    /// The job's work folder.
    pub fn work_folder(&self) -> PathBuf {
        self.destination(WORK_FOLDER).join(&self.uid)
    }

    /// Names in the folder of the parts.
    pub fn parts(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.work_folder().join("parts")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// Runs ffmpeg.
    pub fn ffmpeg(&self, args: &[String]) {
        let mut command = Command::new(&self.ffmpeg);
        command.args(["-nostdin", "-y", "-v", "error"]).args(args);
        succeed(command);
    }

    /// Runs ffmpeg; what it says, on both streams.
    pub fn ffmpeg_says(&self, args: &[String]) -> String {
        let mut command = Command::new(&self.ffmpeg);
        let output = succeed({
            command.args(["-nostdin", "-hide_banner"]).args(args);
            command
        });
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    }

    /// Runs ffprobe; what it says.
    pub fn ffprobe(&self, args: &[&str], path: &Path) -> serde_json::Value {
        let mut command = Command::new(&self.ffprobe);
        command.args(["-v", "error", "-of", "json"]).args(args).arg(path);
        serde_json::from_slice(&succeed(command).stdout).unwrap()
    }

    /// Where stand-ins find ffmpeg and ffprobe by their names.
    pub fn search_path(&self) -> OsString {
        let folder = self.ffmpeg.parent().unwrap_or(Path::new(""));
        let path = program("PATH", "").into_os_string();
        let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
        std::env::join_paths(folders.filter(|folder| folder != Path::new(""))).unwrap()
    }

    fn job(&self) -> JobRef {
        let text = str::to_owned;
        JobRef { cluster: text("c"), namespace: text("media"), name: text("film"), uid: self.uid.clone() }
    }

    fn film(&self, path: &str) -> Source {
        Source {
            path: path.to_owned(),
            video_stream: self.asked.video_stream,
            deinterlace: self.asked.deinterlace,
            drop_alpha: self.asked.drop_alpha,
            strict: self.asked.strict,
        }
    }

    fn worker(&self, stage: &str, task: &impl Serialize) -> Command {
        let folder = |name: &str| self.root().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_upscale-worker"));
        command.args([stage, "--task", &serde_json::to_string(task).unwrap()]);
        command.arg("--ffmpeg").arg(&self.ffmpeg).arg("--ffprobe").arg(&self.ffprobe);
        command.arg("--source").arg(folder("source")).arg("--destination").arg(folder("destination"));
        command.arg("--scratch").arg(folder("scratch")).arg("--termination-log").arg(folder("end"));
        command
    }

    /// What a run of the worker's program said at its end.
    pub fn end(&self, output: &Output) -> End {
        *self.exit.lock().unwrap() = output.status.code().unwrap_or(-1);
        let text = std::fs::read_to_string(self.root().join("end")).unwrap_or_else(|error| {
            panic!("no end ({error}): {}", String::from_utf8_lossy(&output.stderr));
        });
        std::fs::remove_file(self.root().join("end")).unwrap();
        End::parse(&text).unwrap()
    }

    /// Exit code of the last run of the worker.
    pub fn last_exit(&self) -> i32 {
        *self.exit.lock().unwrap()
    }

    fn probe_task(&self, source: &str, destination: &str) -> ProbeTask {
        ProbeTask {
            v: VERSION,
            job: self.job(),
            source: self.film(source),
            destination: destination.to_owned(),
            overwrite: false,
            scale: Some(self.asked.scale),
            scales: vec![2, 3, 4],
            start_us: None,
            length_us: None,
            engine: self.wanted.input.clone(),
            host_memory: self.wanted.host_memory,
            encode: self.asked.encode,
            segment_frames: self.asked.segment_frames,
            gpus: 4,
            start_seconds: 5,
            megapixel_frame_millis: 100,
            host_budget_bytes: 64 << 30,
            live_jobs: Vec::new(),
        }
    }

    /// Runs `probe`.
    pub fn probe(&self, source: &str, destination: &str) -> End {
        self.end(&self.probe_command(source, destination).output().unwrap())
    }

    /// The program that [`Self::probe`] runs.
    pub fn probe_command(&self, source: &str, destination: &str) -> Command {
        self.worker("probe", &self.probe_task(source, destination))
    }

    /// Runs `probe` for a range, microseconds.
    pub fn probe_range(&self, source: &str, destination: &str, start_us: u64, length_us: Option<u64>) -> End {
        let task = self.probe_task(source, destination);
        let task = ProbeTask { start_us: Some(start_us), length_us, ..task };
        self.end(&self.worker("probe", &task).output().unwrap())
    }

    /// Runs `probe` and ends it as soon as it has started an ffmpeg.
    pub fn probe_until_signalled(&self, source: &str, destination: &str) -> End {
        let mut command = self.probe_command(source, destination);
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        // The work folder is made right before the decode starts.
        while !self.work_folder().join("owner.json").exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.end(&child.wait_with_output().unwrap())
    }

    /// The programs as the worker uses them.
    pub fn tools(&self) -> Tools {
        Tools::find(&self.ffmpeg, &self.ffprobe, 4, Children::default()).unwrap()
    }

    /// The mounts of its pods.
    pub fn mounts(&self) -> Mounts {
        let folder = |name: &str| self.root().join(name);
        Mounts { source: folder("source"), destination: folder("destination"), scratch: folder("scratch") }
    }

    /// Index and plan that the probe has made.
    pub fn work(&self) -> Work {
        Work::open(&self.mounts(), &self.job()).unwrap()
    }

    /// Cuts a segment as `prepare` does after it has proved the GPU.
    pub fn try_cut(&self, source: &str, segment: u32, pieces: u32) -> Result<u32, Failure> {
        let mounts = self.mounts();
        let task = self.prepare_task(
            source,
            segment,
            pieces,
            PromisedGpu { uuid: "GPU-0".to_owned(), need_bytes: 0 },
        );
        let work = Work::open(&mounts, &task.job)?;
        work.index.prove_unchanged(&mounts.source_file(source)?, source)?;
        cut_segment(&self.tools(), &mounts, &work, &task)
    }

    fn prepare_task(&self, source: &str, segment: u32, pieces: u32, gpu: PromisedGpu) -> PrepareTask {
        PrepareTask {
            v: VERSION,
            job: self.job(),
            source: self.film(source),
            round: 0,
            segment,
            pieces,
            scale: self.asked.scale,
            engine: self.wanted.input.clone(),
            output: self.wanted.output.clone(),
            gpu,
        }
    }

    /// Runs `prepare` where a driver's library tells of the GPU promised.
    pub fn prepare(&self, source: &str, segment: u32, pieces: u32, driver: &Driver, need_bytes: u64) -> End {
        self.end(&self.prepare_command(source, segment, pieces, driver, need_bytes).output().unwrap())
    }

    /// The program that [`Self::prepare`] runs.
    pub fn prepare_command(
        &self,
        source: &str,
        segment: u32,
        pieces: u32,
        driver: &Driver,
        need_bytes: u64,
    ) -> Command {
        let gpu = PromisedGpu { uuid: driver.uuid.clone(), need_bytes };
        let mut command = self.worker("prepare", &self.prepare_task(source, segment, pieces, gpu));
        driver.show_to(&mut command).arg("--nvml-library").arg(&driver.programs.nvml);
        command
    }

    /// As [`Self::try_cut`], must succeed.
    pub fn cut(&self, source: &str, segment: u32, pieces: u32) {
        self.try_cut(source, segment, pieces).unwrap();
    }

    /// Runs the stand-in on all pieces.
    pub fn run_engine(&self, pieces: u32, engine: &Engine) {
        for piece in 0..pieces {
            let folder = self.root().join("scratch").join(format!("p{piece}"));
            let upscale = "scale=iw*2:ih*2:flags=lanczos,drawbox=x=0:y=0:w=iw:h=ih:t=1:color=black";
            let spoil = if engine.more.is_empty() { String::new() } else { format!(",{}", engine.more) };
            let format = if engine.more.contains("format=") { "" } else { ",format=yuv420p" };
            let filter = format!("{upscale}{spoil},scale=out_color_matrix=bt601:out_range=tv{format}");
            let text = |path: PathBuf| path.to_string_lossy().into_owned();
            self.ffmpeg(&[
                "-i".to_owned(),
                text(folder.join("in.mp4")),
                "-vf".to_owned(),
                filter,
                "-c:v".to_owned(),
                "libx264".to_owned(),
                "-crf".to_owned(),
                engine.quality.to_string(),
                "-preset".to_owned(),
                "veryfast".to_owned(),
                text(folder.join("out/out.mp4")),
            ]);
        }
    }

    /// Runs `finish`.
    pub fn finish(&self, segment: u32, pieces: u32) -> End {
        self.end(&self.finish_command(segment, pieces).output().unwrap())
    }

    /// The program that [`Self::finish`] runs.
    pub fn finish_command(&self, segment: u32, pieces: u32) -> Command {
        self.worker(
            "finish",
            &FinishTask {
                v: VERSION,
                job: self.job(),
                round: 0,
                segment,
                attempt: 1,
                step: 2,
                pieces,
                scale: self.asked.scale,
                engine: self.wanted.input.clone(),
                output: self.wanted.output.clone(),
                encode: self.asked.encode,
            },
        )
    }

    /// Runs `merge`.
    pub fn merge(&self, source: &str, destination: &str) -> End {
        self.end(&self.merge_command(source, destination).output().unwrap())
    }

    /// The program that [`Self::merge`] runs.
    pub fn merge_command(&self, source: &str, destination: &str) -> Command {
        self.merge_command_verifying(source, destination, Verify::Auto)
    }

    /// The same that verifies as said.
    pub fn merge_command_verifying(&self, source: &str, destination: &str, verify: Verify) -> Command {
        self.worker(
            "merge",
            &MergeTask {
                v: VERSION,
                job: self.job(),
                source: self.film(source),
                destination: destination.to_owned(),
                overwrite: false,
                round: 0,
                scale: self.asked.scale,
                verify,
            },
        )
    }

    /// Everything from the probe to the merge; the merge's end.
    pub fn upscale(&self, source: &str, destination: &str, pieces: u32, engine: &Engine) -> End {
        let probe = self.probe(source, destination).expect_done();
        self.upscale_probed(&probe, source, destination, pieces, engine)
    }

    /// Everything for a range, microseconds; the probe's end.
    pub fn upscale_range(
        &self,
        source: &str,
        destination: &str,
        start_us: u64,
        length_us: Option<u64>,
    ) -> End {
        let probe = self.probe_range(source, destination, start_us, length_us).expect_done();
        self.upscale_probed(&probe, source, destination, 1, &Engine::default());
        probe
    }

    fn upscale_probed(
        &self,
        probe: &End,
        source: &str,
        destination: &str,
        pieces: u32,
        engine: &Engine,
    ) -> End {
        for segment in 0..probe.probe.as_ref().unwrap().segments {
            self.make_part(source, segment, pieces, engine);
        }
        self.merge(source, destination).expect_done()
    }

    /// Makes a segment's part.
    pub fn make_part(&self, source: &str, segment: u32, pieces: u32, engine: &Engine) {
        self.cut(source, segment, pieces);
        self.run_engine(pieces, engine);
        self.finish(segment, pieces).expect_done();
    }

    /// Probes and makes all parts; how many there are.
    pub fn make_parts(&self, source: &str, destination: &str) -> u32 {
        let segments = self.probe(source, destination).expect_done().probe.unwrap().segments;
        (0..segments).for_each(|segment| self.make_part(source, segment, 1, &Engine::default()));
        segments
    }
}

/// An end that must be a success.
pub trait ExpectDone {
    /// The end itself.
    fn expect_done(self) -> Self;
}

impl ExpectDone for End {
    fn expect_done(self) -> Self {
        assert_eq!(self.code, Code::Done, "{}", self.message);
        self
    }
}
