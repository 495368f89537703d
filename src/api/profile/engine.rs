//! The program of a profile, and how it is called.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{rules, schema};

/// The program and how it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Image by digest or tag; 1-512 characters.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: String,
    /// Program and first arguments; tokens in braces are filled in; never a shell; 1-16, each 1-1024 characters.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = rules::words())]
    pub command: Vec<String>,
    /// Arguments; tokens in braces are filled in; at most 128, each at most 1024 characters.
    #[serde(default)]
    #[schemars(length(max = 128), inner(length(max = 1024)))]
    #[x_kube(validation = rules::words())]
    pub args: Vec<String>,
    /// Environment; tokens in braces are filled in. `NVIDIA_*`, `CUDA_VISIBLE_DEVICES` and `LD_*` are
    /// refused; at most 32, each at most 1024 characters.
    #[serde(default)]
    #[schemars(schema_with = "schema::environment")]
    #[x_kube(validation = rules::environment())]
    #[x_kube(validation = rules::values())]
    pub env: BTreeMap<String, String>,
    /// Driver capabilities beside Utility; default Compute; at most 2.
    #[serde(default = "compute")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub capabilities: Vec<Capability>,
    /// Where the models come from; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Models>,
    /// User id of the engine; default 65532; 1-2147483647.
    #[serde(default = "nobody")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub user: i64,
    /// Group id of the engine; default 65532; 1-2147483647.
    #[serde(default = "nobody")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub group: i64,
    /// Names of pull secrets in the job's namespace; none by default; at most 8, each 1-253 characters.
    #[serde(default)]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub pull_secrets: Vec<String>,
    /// Tolerations of the attempt pods; none by default; at most 16.
    #[serde(default)]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the attempt pods; none by default; 1-253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("PriorityClass"))]
    pub priority_class_name: Option<String>,
    /// Runtime class of the attempt pods; default: the release's; 1-253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("RuntimeClass"))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.image) != has(self.claim)", "exactly one of image and claim must be set"))]
pub struct Models {
    /// A read-only image volume; 1-512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: Option<String>,
    /// A claim of that name in the job's namespace; 1-253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("PersistentVolumeClaim"))]
    pub claim: Option<String>,
    /// Where it is mounted in the engine's container; 2-256 characters.
    #[schemars(length(min = 2, max = 256))]
    #[x_kube(validation = (r"self.startsWith('/') && !self.matches(r'\p{Cc}') && self.substring(1).split('/').all(part, !(part in ['', '.', '..'])) && !self.matches('^/(scratch|tmp|dev|proc|sys)(/|$)')", "must be absolute, without empty parts, '.' and '..', and not below /scratch, /tmp, /dev, /proc or /sys"))]
    pub path: String,
}
