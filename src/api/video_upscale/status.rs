//! What came of a `VideoUpscale`. The numbers of a status have the whole range of their type, as a status that the
//! server refuses would hide everything else that it says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::schema;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoUpscaleStatus {
    /// Generation of the spec that was acted upon last; -1 at birth.
    #[serde(default = "minus_one")]
    #[schemars(range(min = -1, max = schema::MOST_EXACT))]
    pub observed_generation: i64,
    /// The conditions, by type.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Segments done of all, `37/128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub progress: Option<String>,
    /// Counts of segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentCounts>,
    /// Segments done, as ranges: `0-7,9`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 65536))]
    pub done: String,
    /// Segments tried and not done: `segment:made/counted/step/pieces/flags/verdict`; at most 1,024.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 40)))]
    pub tried: Vec<String>,
    /// Segments given up, as ranges.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 65536))]
    pub failed: String,
    /// Value of the annotation retry-failed that was honoured last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub retried_for: Option<String>,
    /// Round of the whole film; grows when Uniform redoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
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
    #[schemars(schema_with = "schema::time")]
    pub start_time: Option<Time>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub completion_time: Option<Time>,
    /// Time from start to end, `41m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// When the job will probably end, whole minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
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
    #[schemars(range(min = 0, max = i32::MAX))]
    pub total: i32,
    /// Not running and not done.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub waiting: i32,
    /// With a pod.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub running: i32,
    /// Done.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub succeeded: i32,
    /// Given up.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub failed: i32,
}

/// The film, as the probe found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VideoFacts {
    /// Pictures shown.
    #[schemars(range(min = 0, max = schema::MOST_EXACT))]
    pub frames: i64,
    /// Width, pixels.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub width: i32,
    /// Height, pixels.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub height: i32,
    /// Scale in force.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub scale: i32,
    /// Most frames that a segment reads.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub longest_read: i32,
    /// Most frames that a segment owns.
    #[serde(default)]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub longest_owned: i32,
    /// Average frame rate as a ratio.
    #[schemars(length(max = 64))]
    pub frame_rate: String,
    /// Codec.
    #[schemars(length(max = 64))]
    pub codec: String,
    /// Duration, `1m30s`.
    #[schemars(length(max = 64))]
    pub duration: String,
    /// What is odd but accepted; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 1024)))]
    pub warnings: Vec<String>,
}

/// The profile as the job began with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileRef {
    /// Name of the profile.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Name of the ControllerRevision that keeps its spec.
    #[schemars(length(max = 253))]
    pub revision: String,
}

/// The step that new attempts get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveStep {
    /// Its number.
    #[schemars(range(min = 0, max = 15))]
    pub step: i32,
    /// Its name and tile, `long-768 384/48`.
    #[schemars(length(max = 128))]
    pub label: String,
}

/// Out-of-memory ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutOfMemory {
    /// All of them.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub count: i32,
    /// The latest; at most 10.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub recent: Vec<OutOfMemoryEnd>,
}

/// One out-of-memory end, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutOfMemoryEnd {
    /// When the container ended.
    #[schemars(schema_with = "schema::time")]
    pub time: Time,
    /// Segment.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub segment: i32,
    /// Attempt.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub attempt: i32,
    /// Node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// UUID of the GPU.
    #[schemars(length(max = 128))]
    pub gpu: String,
    /// Whose fault.
    #[schemars(length(max = 64))]
    pub verdict: String,
    /// Memory that it needed, `14.9Gi`.
    #[schemars(length(max = 64))]
    pub needed: String,
    /// Memory that was free, `14.1Gi`.
    #[schemars(length(max = 64))]
    pub free: String,
    /// Memory of others, `6.2Gi`.
    #[schemars(length(max = 64))]
    pub foreign: String,
    /// Who the others were.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub who: String,
    /// Step that failed.
    #[schemars(length(max = 128))]
    pub from: String,
    /// Step of the next attempt.
    #[schemars(length(max = 128))]
    pub to: String,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputFacts {
    /// Path on the destination claim.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// Size, bytes.
    #[schemars(range(min = 0, max = schema::MOST_EXACT))]
    pub bytes: i64,
    /// Pictures.
    #[schemars(range(min = 0, max = schema::MOST_EXACT))]
    pub frames: i64,
    /// Width, pixels.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub width: i32,
    /// Height, pixels.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub height: i32,
    /// SHA-256, hex.
    #[schemars(length(max = 64))]
    pub sha256: String,
}
