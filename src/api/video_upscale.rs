//! `VideoUpscale`: what a tenant asks for, and what came of it. No behaviour here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A film to upscale. Smallest manifest: source and destination.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "upscale.video",
    version = "v1alpha1",
    kind = "VideoUpscale",
    plural = "videoupscales",
    shortname = "vu",
    category = "upscale",
    namespaced,
    status = "VideoUpscaleStatus",
    derive = "PartialEq",
    selectable = ".spec.suspend",
    doc = "A film to upscale: cut into segments, run on GPUs that measurably have the memory, joined frame-exactly."
)]
#[serde(rename_all = "camelCase")]
pub struct VideoUpscaleSpec {
    /// The film.
    pub source: FileRef,
    /// Where the result appears once it is complete.
    pub destination: Destination,
    /// Upscaling factor; default 4 below 720 lines, else 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<i32>,
    /// Part of the film to use; default: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<FilmRange>,
    /// Profile; default: the one labelled as default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Steps of the profile's ladder that may be used; default: the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<StepRange>,
    /// What happens when memory is short.
    #[serde(default)]
    pub degradation: Degradation,
    /// How the film is cut.
    #[serde(default)]
    pub segmentation: Segmentation,
    /// How the result is encoded.
    #[serde(default)]
    pub encode: EncodeSpec,
    /// What is done with unusual films.
    #[serde(default)]
    pub input: InputOptions,
    /// How thoroughly the result is verified: Auto (default), Cheap or Full; Auto is Full up to 20 minutes of film.
    #[serde(default)]
    pub verify: super::worker::Verify,
    /// Which GPUs may be used.
    #[serde(default)]
    pub gpu: GpuSelection,
    /// How many segments may run at once; 1-1024, default 8.
    #[serde(default = "eight")]
    pub parallelism: i32,
    /// Attempts of a segment that count before it is given up; 1-20, default 6.
    #[serde(default = "six")]
    pub attempts_per_segment: i32,
    /// Seconds after which the job fails; 60-31536000, default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// Seconds after its end at which the job is deleted, the film stays; 0-31536000, default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i64>,
    /// Whether the job is stopped; default false.
    #[serde(default)]
    pub suspend: bool,
}

const fn eight() -> i32 {
    8
}

const fn six() -> i32 {
    6
}

/// A claim of the job's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimName {
    /// Name of the PersistentVolumeClaim.
    pub name: String,
}

/// A file on a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileRef {
    /// The claim.
    pub claim: ClaimName,
    /// Path on the claim: relative, 1-1024 characters, no `..`, no empty part.
    pub path: String,
}

/// Where the result goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The claim.
    pub claim: ClaimName,
    /// Path on the claim: relative, 1-1024 characters, no `..`, ends with .mp4, .mov or .mkv.
    pub path: String,
    /// What happens if something is there: Fail (default) or Overwrite.
    #[serde(default)]
    pub if_exists: IfExists,
}

/// What happens if the destination exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IfExists {
    /// The job fails.
    #[default]
    Fail,
    /// It is replaced, by rename, at the end.
    Overwrite,
}

/// Frames shown in [start, start + length).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilmRange {
    /// Duration after the first picture, such as `90s`, `1h2m`, `12.5s`; default: the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Duration; default: to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
}

/// Steps of the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRange {
    /// First, best step; 0-15, default: the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<i32>,
    /// Last, smallest step; 0-15, default: the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<i32>,
}

/// Whether steps may be lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DegradationPolicy {
    /// Smaller steps are used when memory is short.
    #[default]
    Automatic,
    /// Never: an own-demand end is tried once more on the largest card, then the job fails.
    Never,
}

/// Whether all segments must have the same step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Consistency {
    /// Each segment has its own.
    #[default]
    PerSegment,
    /// All are redone at the lowest step reached.
    Uniform,
}

/// What happens when memory is short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Degradation {
    /// Automatic (default) or Never.
    #[serde(default)]
    pub policy: DegradationPolicy,
    /// Seconds to wait for a card that fits before a smaller step is used; 0-86400, default 60.
    #[serde(default = "sixty")]
    pub patience_seconds: i32,
    /// PerSegment (default) or Uniform.
    #[serde(default)]
    pub consistency: Consistency,
}

const fn sixty() -> i32 {
    60
}

impl Default for Degradation {
    fn default() -> Self {
        Self {
            policy: DegradationPolicy::default(),
            patience_seconds: 60,
            consistency: Consistency::default(),
        }
    }
}

/// How the film is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Segmentation {
    /// Owned frames per segment; 16-2000, default: chosen from film, GPUs and host memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<i32>,
}

/// Codec of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Codec {
    /// H.264
    H264,
    /// HEVC
    HEVC,
}

/// How the result is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncodeSpec {
    /// H264 or HEVC; default: H264 up to 4096 pixels wide, else HEVC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// Constant rate factor; 0-40, default 16; smaller is better and larger.
    #[serde(default = "sixteen")]
    pub quality: i32,
    /// Fast, Medium (default) or Slow.
    #[serde(default)]
    pub preset: super::worker::EncodePreset,
}

const fn sixteen() -> i32 {
    16
}

impl Default for EncodeSpec {
    fn default() -> Self {
        Self { codec: None, quality: 16, preset: super::worker::EncodePreset::default() }
    }
}

/// What is done with unusual films.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputOptions {
    /// Number of the video stream; 0-31, default: the only one; several and none named is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_stream: Option<i32>,
    /// Off (default) refuses interlaced films; Frame makes one picture per frame, Field one per field.
    #[serde(default)]
    pub deinterlace: super::worker::Deinterlace,
    /// Whether an alpha channel may be dropped; default false.
    #[serde(default)]
    pub drop_alpha: bool,
    /// Whether truncated and damaged films are refused; default false.
    #[serde(default)]
    pub strict: bool,
}

/// What to do about processes of others on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForeignProcesses {
    /// Empty GPUs first.
    #[default]
    Avoid,
    /// Empty GPUs only.
    Forbid,
    /// No difference.
    Tolerate,
}

/// Which GPUs may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuSelection {
    /// Labels that the node must have; at most 16, default none.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Parts of product names, one of which must match; at most 16, default all.
    #[serde(default)]
    pub products: Vec<String>,
    /// Floor of free memory beside the estimate, such as `16Gi`; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free_memory: Option<String>,
    /// Memory left free on top of the need, such as `1Gi`, or `0`; default 1Gi.
    #[serde(default = "one_gib")]
    pub headroom: String,
    /// Avoid (default): empty GPUs first; Forbid: empty ones only; Tolerate: no difference.
    #[serde(default)]
    pub foreign_processes: ForeignProcesses,
}

fn one_gib() -> String {
    "1Gi".to_owned()
}

impl Default for GpuSelection {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            products: Vec::new(),
            min_free_memory: None,
            headroom: one_gib(),
            foreign_processes: ForeignProcesses::default(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoUpscaleStatus {
    /// Generation of the spec that was acted upon last; -1 at birth.
    #[serde(default = "minus_one")]
    pub observed_generation: i64,
    /// The conditions, by type.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Segments done of all, `37/128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Counts of segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentCounts>,
    /// Segments done, as ranges: `0-7,9`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub done: String,
    /// Segments tried and not done: `segment:made/counted/step/pieces/flags/verdict`; at most 1,024.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// Segments given up, as ranges.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failed: String,
    /// Value of the annotation retry-failed that was honoured last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_for: Option<String>,
    /// Round of the whole film; grows when Uniform redoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<i32>,
    /// The film, as the probe found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoFacts>,
    /// The profile as the job began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileRef>,
    /// The step that new attempts get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveStep>,
    /// Out-of-memory ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_memory: Option<OutOfMemory>,
    /// When the probe began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Time from start to end, `41m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// When the job will probably end, whole minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion_time: Option<Time>,
    /// The result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputFacts>,
}

const fn minus_one() -> i64 {
    -1
}

impl Default for VideoUpscaleStatus {
    fn default() -> Self {
        Self {
            observed_generation: -1,
            conditions: Vec::new(),
            progress: None,
            segments: None,
            done: String::new(),
            tried: Vec::new(),
            failed: String::new(),
            retried_for: None,
            round: None,
            video: None,
            profile: None,
            effective: None,
            out_of_memory: None,
            start_time: None,
            completion_time: None,
            duration: None,
            estimated_completion_time: None,
            output: None,
        }
    }
}

/// Counts of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SegmentCounts {
    /// All.
    pub total: i32,
    /// Not running and not done.
    pub waiting: i32,
    /// With a pod.
    pub running: i32,
    /// Done.
    pub succeeded: i32,
    /// Given up.
    pub failed: i32,
}

/// The film, as the probe found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoFacts {
    /// Pictures shown.
    pub frames: i64,
    /// Width, pixels.
    pub width: i32,
    /// Height, pixels.
    pub height: i32,
    /// Scale in force.
    pub scale: i32,
    /// Most frames that a segment reads.
    pub longest_read: i32,
    /// Average frame rate as a ratio.
    pub frame_rate: String,
    /// Codec.
    pub codec: String,
    /// Duration, `1m30s`.
    pub duration: String,
    /// What is odd but accepted; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The profile as the job began with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileRef {
    /// Name of the profile.
    pub name: String,
    /// Name of the ControllerRevision that keeps its spec.
    pub revision: String,
}

/// The step that new attempts get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveStep {
    /// Its number.
    pub step: i32,
    /// Its name and tile, `long-768 384/48`.
    pub label: String,
}

/// Out-of-memory ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutOfMemory {
    /// All of them.
    pub count: i32,
    /// The latest; at most 10.
    #[serde(default)]
    pub recent: Vec<OutOfMemoryEnd>,
}

/// One out-of-memory end, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutOfMemoryEnd {
    /// When the container ended.
    pub time: Time,
    /// Segment.
    pub segment: i32,
    /// Attempt.
    pub attempt: i32,
    /// Node.
    pub node: String,
    /// UUID of the GPU.
    pub gpu: String,
    /// Whose fault.
    pub verdict: String,
    /// Memory that it needed, `14.9Gi`.
    pub needed: String,
    /// Memory that was free, `14.1Gi`.
    pub free: String,
    /// Memory of others, `6.2Gi`.
    pub foreign: String,
    /// Who the others were.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// Step that failed.
    pub from: String,
    /// Step of the next attempt.
    pub to: String,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputFacts {
    /// Path on the destination claim.
    pub path: String,
    /// Size, bytes.
    pub bytes: i64,
    /// Pictures.
    pub frames: i64,
    /// Width, pixels.
    pub width: i32,
    /// Height, pixels.
    pub height: i32,
    /// SHA-256, hex.
    pub sha256: String,
}
