//! The steps of a profile, and the GPU memory of each.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{rules, schema};

/// Range of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.last) || self.first <= self.last", "first must not come after last"))]
pub struct Steps {
    /// First step used; default 0; 0-15.
    #[serde(default)]
    #[schemars(range(min = 0, max = 15))]
    pub first: i32,
    /// Last step used; default: the last of the ladder; 0-15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 15))]
    pub last: Option<i32>,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Name, for people; 1-63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Arguments appended to the engine's; tokens are filled in; none by default; at most 32, each at most
    /// 512 characters.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 512)))]
    #[x_kube(validation = rules::words())]
    pub args: Vec<String>,
    /// Scale -> `size/overlap` in source pixels; a scale that is missing is not offered at this step; no map at
    /// all means the whole picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::tiles")]
    #[x_kube(validation = rules::tiles())]
    pub tiles: Option<BTreeMap<String, String>>,
    /// MiB of host memory on top; default 0; 0-1048576.
    #[serde(default, rename = "hostMiB")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub host_mib: i32,
    /// Phases of the run; the need is the largest of them; 1-4.
    #[schemars(length(min = 1, max = 4))]
    pub gpu: Vec<Phase>,
}

/// GPU memory of one phase: bytes per output pixel, and MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// MiB whatever the film; 0-1048576.
    #[serde(rename = "fixedMiB")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub fixed_mib: i32,
    /// Bytes per output pixel of a tile; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub tile_pixel: i32,
    /// Bytes per output pixel of a tile and frame; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub tile_pixel_frame: i32,
    /// Bytes per output pixel of the picture; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub picture_pixel: i32,
    /// Bytes per output pixel of the picture and frame; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub picture_pixel_frame: i32,
}
