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
    /// Image by digest or tag.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: String,
    /// Program and first arguments; tokens in braces are filled in; never a shell.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = rules::tokens_of_list())]
    pub command: Vec<String>,
    /// Arguments; tokens in braces are filled in.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    #[x_kube(validation = rules::tokens_of_list())]
    pub args: Vec<String>,
    /// Environment; tokens in braces are filled in. `NVIDIA_*`, `CUDA_VISIBLE_DEVICES` and `LD_*` are refused.
    #[serde(default)]
    #[schemars(schema_with = "schema::environment")]
    #[x_kube(validation = rules::environment())]
    #[x_kube(validation = rules::tokens_of_map())]
    pub env: BTreeMap<String, String>,
    /// Driver capabilities beside Utility; default Compute.
    #[serde(default = "compute")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub capabilities: Vec<Capability>,
    /// Where the models come from; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Models>,
    /// User id of the engine; default 65532.
    #[serde(default = "nobody")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub user: i64,
    /// Group id of the engine; default 65532.
    #[serde(default = "nobody")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub group: i64,
    /// Names of pull secrets in the job's namespace; none by default.
    #[serde(default)]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub pull_secrets: Vec<String>,
    /// Tolerations of the attempt pods; none by default.
    #[serde(default)]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the attempt pods; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("PriorityClass"))]
    pub priority_class_name: Option<String>,
    /// Runtime class of the attempt pods; default: the release's.
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
    /// A read-only image volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: Option<String>,
    /// A claim of that name in the job's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("PersistentVolumeClaim"))]
    pub claim: Option<String>,
    /// Where it is mounted in the engine's container.
    #[schemars(length(min = 2, max = 256))]
    #[x_kube(validation = (r"self.startsWith('/') && !self.matches(r'\p{Cc}') && self.substring(1).split('/').all(part, !(part in ['', '.', '..'])) && !self.matches('^/(scratch|tmp|dev|proc|sys)(/|$)')", "must be absolute, without empty parts, '.' and '..', and not below /scratch, /tmp, /dev, /proc or /sys"))]
    pub path: String,
}
