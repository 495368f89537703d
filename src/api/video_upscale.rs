//! `VideoUpscale`: what a tenant asks for, and what came of it. No behaviour here.

use std::collections::BTreeMap;

use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rules, schema};
pub use status::*;

mod status;

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
    validation = short_name(),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Complete\")].reason", description = "Where the job stands: the reason of the condition Complete."),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress", description = "Segments done of all."),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.segments.running", description = "Segments that have a pod."),
    printcolumn(name = "OOMs", type_ = "integer", json_path = ".status.outOfMemory.count", description = "Ends for want of memory."),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration", description = "Time from start to end."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Scale", type_ = "integer", json_path = ".status.video.scale", description = "Upscaling factor.", priority = 1),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.effective.label", description = "Step that new attempts get.", priority = 1),
    printcolumn(name = "Profile", type_ = "string", json_path = ".status.profile.name", description = "Engine.", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Complete\")].message", description = "What goes on, with the numbers.", priority = 1),
    doc = "A film to upscale: cut into segments, run on GPUs that measurably have the memory, joined frame-exactly."
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = unchangeable())]
#[x_kube(validation = another_file())]
pub struct VideoUpscaleSpec {
    /// The film.
    pub source: FileRef,
    /// Where the result appears once it is complete.
    pub destination: Destination,
    /// Upscaling factor; 2-4 as far as the profile offers it, default 4 below 720 lines, else 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 4))]
    pub scale: Option<i32>,
    /// Part of the film to use: pictures whose time lies in it, and packets of sound that begin in it; default: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<FilmRange>,
    /// Profile; default: the one labelled as default; 1-63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::object_name("UpscaleProfile"))]
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
    /// How thoroughly the result is verified: Auto (default), Cheap or Full; Auto is Full up to 20 minutes of
    /// film.
    #[serde(default)]
    pub verify: super::worker::Verify,
    /// Which GPUs may be used.
    #[serde(default)]
    pub gpu: GpuSelection,
    /// How many segments may run at once; 1-1024, default 8.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 1024))]
    pub parallelism: i32,
    /// Attempts of a segment that count before it is given up; 1-20, default 6.
    #[serde(default = "six")]
    #[schemars(range(min = 1, max = 20))]
    pub attempts_per_segment: i32,
    /// Seconds after which the job fails; 60-31536000, default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub active_deadline_seconds: Option<i64>,
    /// Seconds after its end at which the job is deleted, the film stays; 0-31536000, default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// Whether the job is stopped; default false.
    #[serde(default)]
    pub suspend: bool,
}

/// Pod names begin with the job's and must stay labels.
fn short_name() -> Rule {
    Rule::new("self.metadata.name.size() <= 50 && !self.metadata.name.contains('.')").message(
        "metadata.name must be at most 50 characters without dots, as the names of its pods begin with it",
    )
}

/// What is fixed once a film is being cut.
fn unchangeable() -> Rule {
    let same = ["source", "destination", "segmentation", "encode", "input"]
        .map(|field| format!("self.{field} == oldSelf.{field}"));
    let same_if_said = ["scale", "range", "profile"].map(|field| {
        format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})")
    });
    Rule::new([same.as_slice(), same_if_said.as_slice()].concat().join(" && "))
        .message("source, destination, scale, range, profile, segmentation, encode and input cannot be changed; delete this VideoUpscale and create another")
}

fn another_file() -> Rule {
    Rule::new(
        "self.source.claim.name != self.destination.claim.name || self.source.path != self.destination.path",
    )
    .message("must not be the source")
    .field_path(".destination.path")
}

const fn eight() -> i32 {
    8
}

const fn six() -> i32 {
    6
}

/// A claim of the job's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimName {
    /// Name of the PersistentVolumeClaim; 1-253 characters.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("PersistentVolumeClaim"))]
    pub name: String,
}

/// A file on a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileRef {
    /// The claim.
    pub claim: ClaimName,
    /// Path on the claim: relative, 1-1024 characters, no `.`, `..`, empty part or control character.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::relative_path())]
    pub path: String,
}

/// Where the result goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The claim.
    pub claim: ClaimName,
    /// Path on the claim: relative, 1-1024 characters, no `.`, `..`, empty part or control character, not the source; ends
    /// with .mp4, .mov or .mkv.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::relative_path())]
    #[x_kube(validation = (r"self.matches('[^/][.](mp4|mov|mkv)$')", "must end with .mp4, .mov or .mkv"))]
    #[x_kube(validation = ("!self.startsWith('.upscale/')", "must not lie in .upscale, where the parts of unfinished films are kept"))]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilmRange {
    /// Duration after the first picture, such as `90s`, `1h2m`, `12.5s`; at most 1000h, default: the beginning; 2-32 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = rules::duration())]
    pub start: Option<String>,
    /// Duration; more than nothing and at most 1000h, default: to the end; 2-32 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = rules::duration())]
    #[x_kube(validation = ("self.matches('[1-9]')", "must be longer than nothing"))]
    pub length: Option<String>,
}

/// Steps of the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.first) || !has(self.last) || self.first <= self.last", "first must not come after last"))]
pub struct StepRange {
    /// First, best step; 0-15, default: the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 15))]
    pub first: Option<i32>,
    /// Last, smallest step; 0-15, default: the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 15))]
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
    #[schemars(range(min = 0, max = 86400))]
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
    #[schemars(range(min = 16, max = 2000))]
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
    #[schemars(with = "Codec")]
    pub codec: Option<Codec>,
    /// Constant rate factor; 0-40, default 16; smaller is better and larger.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 0, max = 40))]
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
    #[schemars(range(min = 0, max = 31))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuSelection {
    /// Labels that the node must have; at most 16, each at most 63 characters, default none.
    #[serde(default)]
    #[schemars(schema_with = "schema::node_labels")]
    #[x_kube(validation = rules::labels())]
    pub node_selector: BTreeMap<String, String>,
    /// Parts of product names, one of which must match; at most 16, default all; each 1-64 characters.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub products: Vec<String>,
    /// Floor of free memory beside the estimate, such as `16Gi`; default none; 3-9 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 9))]
    #[x_kube(validation = rules::memory())]
    pub min_free_memory: Option<String>,
    /// Memory left free on top of the need, such as `1Gi`, or `0`; default 1Gi; 1-9 characters.
    #[serde(default = "one_gib")]
    #[schemars(length(min = 1, max = 9))]
    #[x_kube(validation = rules::memory_or_zero())]
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
