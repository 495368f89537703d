//! What the controller learnt about a profile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::schema;

/// What the controller learnt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpscaleProfileStatus {
    /// Generation of the spec that was looked at last; -1 at birth.
    #[serde(default = "minus_one")]
    #[schemars(range(min = -1, max = schema::MOST_EXACT))]
    pub observed_generation: i64,
    /// Digest of what the lessons below are about: engine, ladder, tiles, input and output of the spec. When these change,
    /// the lessons go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub learned_of: Option<String>,
    /// Needs as observed; at most 64, the least recently seen go first.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub learned: Vec<Learned>,
    /// GPU models that cannot run the engine; at most 16.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub incompatible: Vec<Incompatible>,
    /// `Ready`: False with InvalidTemplate when a token or formula is wrong.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
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
    #[schemars(length(max = 128))]
    pub gpu_model: String,
    /// Ladder step.
    #[schemars(range(min = 0, max = 15))]
    pub step: i32,
    /// Padded `WxH@scale`.
    #[schemars(length(max = 64))]
    pub picture_class: String,
    /// Bytes that must be free.
    #[schemars(range(min = 0, max = schema::MOST_EXACT))]
    pub need_bytes: i64,
    /// UUID of the one GPU that it binds: only that one has shown it, and another of the model has run the step with
    /// less. Absent: it binds all GPUs of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub gpu: Option<String>,
    /// The only end that has shown it, until another one has: within its job it binds that end's GPU alone, in others
    /// the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<FirstEnd>,
    /// How many ends taught it.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub samples: i32,
    /// When it was last confirmed.
    #[schemars(schema_with = "schema::time")]
    pub last_seen: Time,
}

/// An end that showed a need nobody knew of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirstEnd {
    /// UID of its job.
    #[schemars(length(max = 128))]
    pub job: String,
    /// Its segment.
    #[schemars(range(min = 0, max = 10_000))]
    pub segment: i32,
    /// Its attempt.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub attempt: i32,
    /// UUID of its GPU.
    #[schemars(length(max = 128))]
    pub gpu: String,
}

/// A GPU model that cannot run the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Incompatible {
    /// Product name of the GPU.
    #[schemars(length(max = 128))]
    pub gpu_model: String,
    /// What the engine said, one line.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// Since when.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
}
