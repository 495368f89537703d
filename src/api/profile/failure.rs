//! How the end of an engine is read.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{rules, schema};

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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.text != 'Patterns' || self.outOfMemory.size() > 0", "text: Patterns needs patterns in outOfMemory"))]
pub struct Failure {
    /// Torch (default) or Patterns.
    #[serde(default)]
    pub text: FailureText,
    /// Text that means out of GPU memory; plain substrings; none by default; at most 32, each 1-200 characters.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 200)))]
    pub out_of_memory: Vec<String>,
    /// Text that means wrong input or arguments; plain substrings; none by default; at most 32, each 1-200
    /// characters.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 200)))]
    pub permanent: Vec<String>,
    /// Text that means this GPU model cannot run the engine; plain substrings; none by default; at most 32,
    /// each 1-200 characters.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 200)))]
    pub incompatible: Vec<String>,
    /// Exit codes that mean wrong input or arguments; none by default; at most 16, each 1-255.
    #[serde(default)]
    #[schemars(length(max = 16), inner(range(min = 1, max = 255)))]
    pub permanent_exit_codes: Vec<i32>,
    /// Environment of the one more try after fragmentation; none by default: treated as own demand; at most
    /// 32, each at most 1024 characters.
    #[serde(default)]
    #[schemars(schema_with = "schema::environment")]
    #[x_kube(validation = rules::environment())]
    #[x_kube(validation = rules::values())]
    pub fragmentation_env: BTreeMap<String, String>,
    /// Answer to a wrong output; default OtherGpu.
    #[serde(default)]
    pub bad_output: BadOutputAnswer,
}
