//! The contract with our own containers: one JSON argument in, an exit code and one JSON message out, and where
//! files lie. The controller writes the tasks and reads the ends; the worker does the reverse.
//!
//! A message is a stranger's words to the controller: it is bounded before parsing and its numbers are checked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::{CodecName, FrameRule, HostMemory, InputKind, OutputKind, Range};

/// Version of tasks and messages.
pub const VERSION: u32 = 1;
/// Largest termination message, bytes (the kubelet keeps 12 KiB divided by the number of containers).
pub const MAX_MESSAGE_BYTES: usize = 2048;
/// Mount of the source claim, read-only.
pub const SOURCE_MOUNT: &str = "/source";
/// Mount of the destination claim.
pub const DESTINATION_MOUNT: &str = "/destination";
/// Mount of the pod's scratch volume.
pub const SCRATCH_MOUNT: &str = "/scratch";
/// Folder on the destination claim below which every job has a work folder.
pub const WORK_FOLDER: &str = ".upscale";

/// How a container of ours ended. The number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Code {
    /// All done.
    Done = 0,
    /// Wrong arguments.
    Usage = 64,
    /// No film in the source.
    InvalidSource = 65,
    /// A film that we refuse. Same exit code as [`Code::InvalidSource`]; the message tells them apart.
    UnsupportedSource = 165,
    /// Nothing at the source path.
    SourceNotFound = 66,
    /// The source is not the one that was probed.
    SourceChanged = 67,
    /// A fault of the worker.
    Internal = 70,
    /// Something is at the destination already.
    DestinationExists = 73,
    /// The destination cannot be written. Same exit code as [`Code::DestinationExists`].
    DestinationNotWritable = 173,
    /// Reading or writing failed.
    Io = 74,
    /// Too little free memory on the GPU after the wait.
    GpuBusy = 75,
    /// One GPU is visible, but not the claimed one.
    GpuMismatch = 76,
    /// None or several GPUs are visible.
    PinIgnored = 77,
    /// The driver or the GPU does not answer as it should.
    GpuFault = 78,
    /// The engine's output is not what was asked.
    BadOutput = 79,
    /// A volume is full.
    OutOfSpace = 80,
    /// A verified part lies there already.
    AlreadyDone = 81,
    /// No cut of the film is small enough for the host memory of a pod.
    DoesNotFit = 82,
}

impl Code {
    /// All codes.
    pub const ALL: &[Self] = &[
        Self::Done,
        Self::Usage,
        Self::InvalidSource,
        Self::UnsupportedSource,
        Self::SourceNotFound,
        Self::SourceChanged,
        Self::Internal,
        Self::DestinationExists,
        Self::DestinationNotWritable,
        Self::Io,
        Self::GpuBusy,
        Self::GpuMismatch,
        Self::PinIgnored,
        Self::GpuFault,
        Self::BadOutput,
        Self::OutOfSpace,
        Self::AlreadyDone,
        Self::DoesNotFit,
    ];

    /// The exit code of the process.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::UnsupportedSource => Self::InvalidSource as u8,
            Self::DestinationNotWritable => Self::DestinationExists as u8,
            other => other as u8,
        }
    }

    /// The first code with that exit code; `None` if the number is not of the contract.
    pub fn from_exit_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| i32::from(known.exit_code()) == code)
    }
}

/// Whose work it is; written into every work folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRef {
    /// Identity of the cluster: UID of the namespace `kube-system`.
    pub cluster: String,
    /// Namespace of the job.
    pub namespace: String,
    /// Name of the job.
    pub name: String,
    /// UID of the job.
    pub uid: String,
}

/// Where a film is read and how, for every stage that reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Path below [`SOURCE_MOUNT`].
    pub path: String,
    /// Number of the video stream among all streams, if the tenant named one.
    pub video_stream: Option<u32>,
    /// What to do with interlaced pictures.
    pub deinterlace: Deinterlace,
    /// Whether an alpha channel may be dropped.
    pub drop_alpha: bool,
    /// Whether damage and truncation are refused.
    pub strict: bool,
}

/// What to do with interlaced pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Deinterlace {
    /// Refuse them.
    #[default]
    Off,
    /// One picture per frame.
    Frame,
    /// One picture per field.
    Field,
}

/// What the engine wants of its input; from the profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInput {
    /// A video file or a folder of pictures.
    pub kind: InputKind,
    /// Source pixels added on each side before the engine.
    pub pad: u32,
    /// How many frames a run may have.
    pub frames: FrameRule,
    /// Frames read before the owned ones.
    pub context_before: u32,
    /// Frames read after the owned ones.
    pub context_after: u32,
}

/// Task of the probe: index the film, refuse it or plan its segments, write both to the work folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeTask {
    /// [`VERSION`].
    pub v: u32,
    /// Whose work.
    pub job: JobRef,
    /// The film.
    pub source: Source,
    /// Path of the result below [`DESTINATION_MOUNT`].
    pub destination: String,
    /// Whether an existing result is replaced.
    pub overwrite: bool,
    /// Scale asked for; `None`: 4 below 720 lines, else 2, or the nearest that is offered.
    pub scale: Option<u32>,
    /// Scales that the profile offers.
    pub scales: Vec<u32>,
    /// First instant to use, microseconds after the film's first picture.
    pub start_us: Option<u64>,
    /// How much to use, microseconds.
    pub length_us: Option<u64>,
    /// What the engine wants.
    pub engine: EngineInput,
    /// How much host memory the engine takes.
    pub host_memory: HostMemory,
    /// How the result will be encoded.
    pub encode: Encode,
    /// Owned frames per segment, if the tenant fixed them.
    pub segment_frames: Option<u32>,
    /// GPUs to expect.
    pub gpus: u32,
    /// Fixed seconds per attempt, as measured or guessed.
    pub start_seconds: u32,
    /// Milliseconds of GPU time per million output pixels and frame.
    pub megapixel_frame_millis: u32,
    /// Host memory that a pod may have, bytes.
    pub host_budget_bytes: u64,
    /// UIDs of jobs that are alive: their work folders are not to be swept.
    pub live_jobs: Vec<String>,
}

/// The GPU that an attempt was promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromisedGpu {
    /// Its UUID.
    pub uuid: String,
    /// Bytes that must be free, without headroom.
    pub need_bytes: u64,
}

/// Task of `prepare`: check the GPU, cut the segment exactly, pad it, prove it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrepareTask {
    /// [`VERSION`].
    pub v: u32,
    /// Whose work.
    pub job: JobRef,
    /// The film.
    pub source: Source,
    /// Round of the whole film; parts are named by round and segment.
    pub round: u32,
    /// Which segment of the plan.
    pub segment: u32,
    /// Number of pieces it is run in: 1, 2 or 4.
    pub pieces: u32,
    /// Upscaling factor.
    pub scale: u32,
    /// What the engine wants; `context_before` is the least one if the attempt runs with least context.
    pub engine: EngineInput,
    /// What the engine will write; its folders are made beforehand.
    pub output: EngineOutput,
    /// The GPU promised.
    pub gpu: PromisedGpu,
}

/// What the engine's output is; from the profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineOutput {
    /// A video file or pictures.
    pub kind: OutputKind,
    /// File, or pattern of pictures, below the piece's output folder.
    pub path: String,
    /// Codec of a video.
    pub codec: CodecName,
    /// ffmpeg's name of its pixel format.
    pub pixel_format: String,
    /// ffmpeg's name of its matrix.
    pub matrix: String,
    /// Its range.
    pub range: Range,
    /// Output pixels at each edge that the engine spoils.
    pub bad_border: u32,
}

/// Codec of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncodeCodec {
    /// H.264 by x264.
    H264,
    /// HEVC by x265.
    Hevc,
}

/// Speed of the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncodePreset {
    /// ffmpeg's `veryfast`.
    Fast,
    /// ffmpeg's `medium`.
    #[default]
    Medium,
    /// ffmpeg's `slow`.
    Slow,
}

/// How the result is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encode {
    /// Codec; `None`: H.264 up to 4096 wide, else HEVC.
    pub codec: Option<EncodeCodec>,
    /// Constant rate factor.
    pub quality: u32,
    /// Speed.
    pub preset: EncodePreset,
}

/// Task of `finish`: check the engine's output, trim, convert, encode the part, write its manifest, publish it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishTask {
    /// [`VERSION`].
    pub v: u32,
    /// Whose work.
    pub job: JobRef,
    /// Round, as in [`PrepareTask`].
    pub round: u32,
    /// Segment.
    pub segment: u32,
    /// Attempt, noted in the manifest.
    pub attempt: u32,
    /// Ladder step, noted in the manifest.
    pub step: u32,
    /// Pieces, as prepared.
    pub pieces: u32,
    /// Upscaling factor.
    pub scale: u32,
    /// What the engine wanted, as prepared.
    pub engine: EngineInput,
    /// What it should have written.
    pub output: EngineOutput,
    /// How to encode.
    pub encode: Encode,
}

/// How thoroughly the result is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verify {
    /// `Full` up to 20 minutes of film, else `Cheap`.
    #[default]
    Auto,
    /// Streams, counts, times, joins.
    Cheap,
    /// Everything, decoded once.
    Full,
}

/// Task of the merge: verify the parts, join them, add all other streams, verify, publish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeTask {
    /// [`VERSION`].
    pub v: u32,
    /// Whose work.
    pub job: JobRef,
    /// The film.
    pub source: Source,
    /// Path of the result below [`DESTINATION_MOUNT`].
    pub destination: String,
    /// Whether an existing result is replaced.
    pub overwrite: bool,
    /// Round whose parts are joined.
    pub round: u32,
    /// Upscaling factor.
    pub scale: u32,
    /// How to verify.
    pub verify: Verify,
}

/// The termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// [`VERSION`].
    pub v: u32,
    /// How it ended.
    pub code: Code,
    /// One sentence: what happened, with which numbers, what to do.
    pub message: String,
    /// Figures of a probe that ended with [`Code::Done`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeFigures>,
    /// Figures of `prepare`, whatever its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<PrepareFigures>,
    /// Figures of `finish` that ended with [`Code::Done`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<FinishFigures>,
    /// Figures of a merge that ended with [`Code::Done`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeFigures>,
    /// Segments that a merge found no good part of and whose parts it has removed: they must be made again. At most
    /// [`MAX_REDO_RUNS`] runs; further ones are found by the next merge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redo: Vec<SegmentRun>,
}

/// Most runs in [`End::redo`].
pub const MAX_REDO_RUNS: usize = 24;

/// Segments that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRun {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl SegmentRun {
    fn in_range(&self) -> bool {
        self.first <= self.last && self.last < 10_000
    }
}

impl std::fmt::Display for SegmentRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl End {
    /// Reads a termination message; `None` if it is too large, not JSON, of another version or out of range.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let end: Self = serde_json::from_str(text).ok()?;
        let probe_in_range = end.probe.as_ref().is_none_or(ProbeFigures::in_range);
        let redo_in_range = end.redo.len() <= MAX_REDO_RUNS && end.redo.iter().all(SegmentRun::in_range);
        (end.v == VERSION && probe_in_range && redo_in_range).then_some(end)
    }
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeFigures {
    /// Number of segments, 1-10,000.
    pub segments: u32,
    /// Pictures shown.
    pub frames: u64,
    /// Most frames that a segment reads, context and padding included.
    pub longest_read: u32,
    /// Most frames that a segment owns.
    pub longest_owned: u32,
    /// Width of the source, pixels.
    pub width: u32,
    /// Height of the source, pixels.
    pub height: u32,
    /// Scale in force.
    pub scale: u32,
    /// Average frame rate as a ratio, `24000/1001`.
    pub frame_rate: String,
    /// ffmpeg's name of the codec.
    pub codec: String,
    /// Duration, milliseconds.
    pub duration_ms: u64,
    /// What is odd about the film but accepted; at most 10.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl ProbeFigures {
    fn in_range(&self) -> bool {
        (1..=10_000).contains(&self.segments)
            && (1..=1_000_000_000).contains(&self.frames)
            && (1..=100_000).contains(&self.longest_read)
            && (1..=self.longest_read).contains(&self.longest_owned)
            && (1..=32_768).contains(&self.width)
            && (1..=32_768).contains(&self.height)
            && (2..=4).contains(&self.scale)
            && self.warnings.len() <= 10
    }
}

/// What `prepare` saw of the GPU and of its time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrepareFigures {
    /// UUIDs visible, at most 8.
    #[serde(default)]
    pub visible: Vec<String>,
    /// Free memory of the GPU at the last look, bytes.
    pub free_bytes: Option<u64>,
    /// Total memory of the GPU, bytes.
    pub total_bytes: Option<u64>,
    /// Bytes that had to be free.
    #[serde(default)]
    pub need_bytes: u64,
    /// Frames read into all pieces.
    #[serde(default)]
    pub frames: u32,
    /// Wall time, milliseconds.
    #[serde(default)]
    pub millis: u64,
}

/// What `finish` made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FinishFigures {
    /// Owned frames in the part.
    pub frames: u32,
    /// Its size, bytes.
    pub bytes: u64,
    /// SHA-256 of the part, hex.
    pub sha256: String,
    /// Wall time, milliseconds.
    pub millis: u64,
}

/// What the merge made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MergeFigures {
    /// Pictures in the result.
    pub frames: u64,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// Input of a piece for the engine: `/scratch/p<piece>/in.mp4`, or the folder `/scratch/p<piece>/in`.
pub fn piece_input(kind: InputKind, piece: u32) -> String {
    match kind {
        InputKind::Video => format!("{SCRATCH_MOUNT}/p{piece}/in.mp4"),
        InputKind::Pictures => format!("{SCRATCH_MOUNT}/p{piece}/in"),
    }
}

/// What the engine is told as output of a piece: the file `/scratch/p<piece>/out/<path>`, or the folder
/// `/scratch/p<piece>/out` in which the pictures appear by the pattern `path`.
pub fn piece_output(output: &EngineOutput, piece: u32) -> String {
    match output.kind {
        OutputKind::Video => format!("{SCRATCH_MOUNT}/p{piece}/out/{}", output.path),
        OutputKind::Pictures => format!("{SCRATCH_MOUNT}/p{piece}/out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_read_back() {
        for code in Code::ALL {
            let back = Code::from_exit_code(i32::from(code.exit_code())).unwrap();
            assert_eq!(back.exit_code(), code.exit_code());
        }
        assert_eq!(Code::from_exit_code(1), None);
        assert_eq!(Code::from_exit_code(165), None);
    }

    #[test]
    fn messages_out_of_range_are_not_believed() {
        let probe = |segments: u64| {
            format!(
                r#"{{"v":1,"code":"Done","message":"","probe":{{"segments":{segments},"frames":1,"longest_read":21,"longest_owned":1,
                "width":16,"height":16,"scale":2,"frame_rate":"25/1","codec":"h264","duration_ms":40}}}}"#
            )
        };
        assert!(End::parse(&probe(1)).is_some());
        assert!(End::parse(&probe(10_001)).is_none());
        assert!(End::parse(&probe(u64::MAX)).is_none());
        let redo = |run: &str| format!(r#"{{"v":1,"code":"BadOutput","message":"","redo":[{run}]}}"#);
        assert_eq!(End::parse(&redo(r#"{"first":3,"last":7}"#)).unwrap().redo[0].to_string(), "3-7");
        assert!(End::parse(&redo(r#"{"first":7,"last":3}"#)).is_none());
        assert!(End::parse(&redo(r#"{"first":0,"last":10000}"#)).is_none());
        assert!(End::parse(&redo(&[r#"{"first":0,"last":0}"#; 25].join(","))).is_none());
        assert!(End::parse(&" ".repeat(MAX_MESSAGE_BYTES + 1)).is_none());
    }
}
