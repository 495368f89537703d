//! `UpscaleProfile`: an engine as data. What the administrator offers: an image, how it is called, and what memory
//! each step of its ladder needs. No behaviour here; [`crate::profile`] evaluates it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an administrator offers.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "upscale.video",
    version = "v1alpha1",
    kind = "UpscaleProfile",
    plural = "upscaleprofiles",
    shortname = "vup",
    category = "upscale",
    status = "UpscaleProfileStatus",
    derive = "PartialEq",
    doc = "An upscaling engine as an administrator offers it: image, command line, and what memory each step of its ladder needs."
)]
#[serde(rename_all = "camelCase")]
pub struct UpscaleProfileSpec {
    /// The program and how it is called.
    pub engine: Engine,
    /// Scales offered, out of 2, 3 and 4.
    pub scales: Vec<i32>,
    /// What the engine reads.
    #[serde(default)]
    pub input: Input,
    /// What the engine writes.
    pub output: Output,
    /// How tiles are rounded.
    #[serde(default)]
    pub tile: Tile,
    /// Safety added to the estimate of GPU memory.
    #[serde(default)]
    pub gpu_memory: GpuMemory,
    /// Host memory of the engine.
    pub host_memory: HostMemory,
    /// Scratch space of the engine.
    #[serde(default)]
    pub scratch: Scratch,
    /// First guesses of time, replaced by what is measured.
    #[serde(default)]
    pub time: TimeGuess,
    /// How its failures are read.
    #[serde(default)]
    pub failure: Failure,
    /// Steps that a job gets which says nothing.
    #[serde(default)]
    pub steps: Steps,
    /// The steps, best first; 1-16.
    pub ladder: Vec<Step>,
}

/// The program and how it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Image by digest or tag.
    pub image: String,
    /// Program and first arguments; tokens in braces are filled in; never a shell.
    pub command: Vec<String>,
    /// Arguments; tokens in braces are filled in.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment; tokens in braces are filled in. `NVIDIA_*`, `CUDA_VISIBLE_DEVICES` and `LD_*` are refused.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Driver capabilities beside Utility; default Compute.
    #[serde(default = "compute")]
    pub capabilities: Vec<Capability>,
    /// Where the models come from; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Models>,
    /// User id of the engine; default 65532.
    #[serde(default = "nobody")]
    pub user: i64,
    /// Group id of the engine; default 65532.
    #[serde(default = "nobody")]
    pub group: i64,
    /// Names of pull secrets in the job's namespace; none by default.
    #[serde(default)]
    pub pull_secrets: Vec<String>,
    /// Tolerations of the attempt pods; none by default.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the attempt pods; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Runtime class of the attempt pods; default: the release's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
}

fn compute() -> Vec<Capability> {
    vec![Capability::Compute]
}

const fn nobody() -> i64 {
    65_532
}

/// Driver capabilities beside Utility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Capability {
    /// CUDA.
    Compute,
    /// OpenGL and Vulkan.
    Graphics,
}

/// Where the models come from: exactly one of `image` and `claim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Models {
    /// A read-only image volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A claim of that name in the job's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Where it is mounted in the engine's container.
    pub path: String,
}

/// A file or a folder of pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InputKind {
    /// An RGB-lossless file.
    #[default]
    Video,
    /// A folder of PNG files.
    Pictures,
}

/// A file or pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutputKind {
    /// A file.
    #[default]
    Video,
    /// Pictures by a pattern, sorted by name.
    Pictures,
}

/// What the engine reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Video (default) or Pictures.
    #[serde(default)]
    pub kind: InputKind,
    /// Source pixels added on each side before the engine and cropped after it; default 0.
    #[serde(default)]
    pub pad: i32,
    /// How many frames a run may have.
    #[serde(default)]
    pub frames: FrameRule,
    /// Frames read beside the owned ones and thrown away.
    #[serde(default)]
    pub context: Context,
}

/// N = multiple x k + remainder, N >= minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrameRule {
    /// Default 1.
    #[serde(default = "one")]
    pub multiple: i32,
    /// Default 0.
    #[serde(default)]
    pub remainder: i32,
    /// Default 1.
    #[serde(default = "one")]
    pub minimum: i32,
}

const fn one() -> i32 {
    1
}

impl Default for FrameRule {
    fn default() -> Self {
        Self { multiple: 1, remainder: 0, minimum: 1 }
    }
}

/// Frames read beside the owned ones and thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Before the owned ones; default 0.
    #[serde(default)]
    pub before: i32,
    /// Least number before, when host memory is short; default: `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_before: Option<i32>,
    /// After the owned ones; default 0.
    #[serde(default)]
    pub after: i32,
}

/// ffmpeg's short names of the codecs an engine may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CodecName {
    /// H.264
    #[default]
    H264,
    /// HEVC
    Hevc,
    /// FFV1
    Ffv1,
}

/// Range of luma and chroma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Range {
    /// 16-235
    #[default]
    Limited,
    /// 0-255
    Full,
}

/// What the engine writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Video (default) or Pictures.
    #[serde(default)]
    pub kind: OutputKind,
    /// File, or pattern of pictures, below the output folder.
    pub path: String,
    /// Codec of a Video output; anything else is a bad output. Default h264.
    #[serde(default)]
    pub codec: CodecName,
    /// ffmpeg's name of its pixel format; default yuv420p.
    #[serde(default = "yuv420p")]
    pub pixel_format: String,
    /// ffmpeg's name of its matrix, tagged or not; default smpte170m.
    #[serde(default = "smpte170m")]
    pub matrix: String,
    /// Its range, tagged or not; default Limited.
    #[serde(default)]
    pub range: Range,
    /// Output pixels at each edge that the engine spoils; default 0, at most pad x scale.
    #[serde(default)]
    pub bad_border: i32,
}

fn yuv420p() -> String {
    "yuv420p".to_owned()
}

fn smpte170m() -> String {
    "smpte170m".to_owned()
}

/// How tiles are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tile {
    /// What tile x scale must be a multiple of, output pixels; default 1.
    #[serde(default = "one")]
    pub multiple: i32,
    /// Source pixels that the engine adds on each side of a tile; default 0.
    #[serde(default)]
    pub halo: i32,
    /// Whether a tile shrinks to the picture's shorter side; default false.
    #[serde(default)]
    pub fit: bool,
}

impl Default for Tile {
    fn default() -> Self {
        Self { multiple: 1, halo: 0, fit: false }
    }
}

/// need = percent x the largest of the step's phases + plusMiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuMemory {
    /// Percent of the formula; default 110.
    #[serde(default = "percent_110")]
    pub percent: i32,
    /// MiB on top; default 1024.
    #[serde(default = "mib_1024", rename = "plusMiB")]
    pub plus_mib: i32,
}

const fn percent_110() -> i32 {
    110
}

const fn mib_1024() -> i32 {
    1024
}

impl Default for GpuMemory {
    fn default() -> Self {
        Self { percent: percent_110(), plus_mib: mib_1024() }
    }
}

/// limit = baseMiB + percent x (the rest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostMemory {
    /// MiB whatever the film.
    #[serde(rename = "baseMiB")]
    pub base_mib: i32,
    /// Bytes per output pixel; default 0.
    #[serde(default)]
    pub output_pixel: i32,
    /// Bytes per input pixel and frame; default 0.
    #[serde(default)]
    pub input_pixel_frame: i32,
    /// Bytes per output pixel and frame; default 0.
    #[serde(default)]
    pub output_pixel_frame: i32,
    /// Percent of the pixel terms; default 115.
    #[serde(default = "percent_115")]
    pub percent: i32,
}

const fn percent_115() -> i32 {
    115
}

/// Scratch space of the engine beside input and output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scratch {
    /// Bytes per input pixel and frame; default 0.
    #[serde(default)]
    pub input_pixel_frame: i32,
    /// Bytes per output pixel and frame; default 0.
    #[serde(default)]
    pub output_pixel_frame: i32,
}

/// First guesses of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeGuess {
    /// Seconds per run whatever the film; default 60.
    #[serde(default = "seconds_60")]
    pub start_seconds: i32,
    /// Milliseconds per million output pixels and frame; default 1000.
    #[serde(default = "millis_1000")]
    pub megapixel_frame_millis: i32,
    /// Percent of the expected time after which a run is ended; default 400.
    #[serde(default = "percent_400")]
    pub deadline_percent: i32,
}

const fn seconds_60() -> i32 {
    60
}

const fn millis_1000() -> i32 {
    1000
}

const fn percent_400() -> i32 {
    400
}

impl Default for TimeGuess {
    fn default() -> Self {
        Self {
            start_seconds: seconds_60(),
            megapixel_frame_millis: millis_1000(),
            deadline_percent: percent_400(),
        }
    }
}

/// How an engine says that memory ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureText {
    /// PyTorch's wordings.
    #[default]
    Torch,
    /// The patterns of `outOfMemory`.
    Patterns,
}

/// What a wrong output of an engine that exited 0 leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BadOutputAnswer {
    /// The same step on another GPU.
    #[default]
    OtherGpu,
    /// The next step.
    NextStep,
}

/// How its failures are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Torch (default) or Patterns.
    #[serde(default)]
    pub text: FailureText,
    /// Text that means out of GPU memory; plain substrings; none by default.
    #[serde(default)]
    pub out_of_memory: Vec<String>,
    /// Text that means wrong input or arguments; plain substrings; none by default.
    #[serde(default)]
    pub permanent: Vec<String>,
    /// Text that means this GPU model cannot run the engine; plain substrings; none by default.
    #[serde(default)]
    pub incompatible: Vec<String>,
    /// Exit codes that mean wrong input or arguments; none by default.
    #[serde(default)]
    pub permanent_exit_codes: Vec<i32>,
    /// Environment of the one more try after fragmentation; none by default: treated as own demand.
    #[serde(default)]
    pub fragmentation_env: BTreeMap<String, String>,
    /// Answer to a wrong output; default OtherGpu.
    #[serde(default)]
    pub bad_output: BadOutputAnswer,
}

/// Range of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Steps {
    /// First step used; default 0.
    #[serde(default)]
    pub first: i32,
    /// Last step used; default: the last of the ladder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<i32>,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Name, for people.
    pub name: String,
    /// Arguments appended to the engine's; tokens are filled in; none by default.
    #[serde(default)]
    pub args: Vec<String>,
    /// Scale -> `size/overlap` in source pixels; a scale that is missing is not offered at this step; no map at
    /// all means the whole picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<BTreeMap<String, String>>,
    /// MiB of host memory on top; default 0.
    #[serde(default, rename = "hostMiB")]
    pub host_mib: i32,
    /// Phases of the run; the need is the largest of them; 1-4.
    pub gpu: Vec<Phase>,
}

/// GPU memory of one phase: bytes per output pixel, and MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// MiB whatever the film.
    #[serde(rename = "fixedMiB")]
    pub fixed_mib: i32,
    /// Bytes per output pixel of a tile; default 0.
    #[serde(default)]
    pub tile_pixel: i32,
    /// Bytes per output pixel of a tile and frame; default 0.
    #[serde(default)]
    pub tile_pixel_frame: i32,
    /// Bytes per output pixel of the picture; default 0.
    #[serde(default)]
    pub picture_pixel: i32,
    /// Bytes per output pixel of the picture and frame; default 0.
    #[serde(default)]
    pub picture_pixel_frame: i32,
}

/// What the controller learnt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpscaleProfileStatus {
    /// Generation of the spec that was looked at last; -1 at birth.
    #[serde(default = "minus_one")]
    pub observed_generation: i64,
    /// Needs as observed; at most 64, the least recently seen go first.
    #[serde(default)]
    pub learned: Vec<Learned>,
    /// GPU models that cannot run the engine; at most 16.
    #[serde(default)]
    pub incompatible: Vec<Incompatible>,
    /// `Ready`: False with InvalidTemplate when a token or formula is wrong.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

const fn minus_one() -> i64 {
    -1
}

/// A need as observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// Product name of the GPU.
    pub gpu_model: String,
    /// Ladder step.
    pub step: i32,
    /// Padded `WxH@scale`.
    pub picture_class: String,
    /// Bytes that must be free.
    pub need_bytes: i64,
    /// How many ends taught it.
    pub samples: i32,
    /// When it was last confirmed.
    pub last_seen: Time,
}

/// A GPU model that cannot run the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Incompatible {
    /// Product name of the GPU.
    pub gpu_model: String,
    /// What the engine said, one line.
    pub reason: String,
    /// Since when.
    pub since: Time,
}
