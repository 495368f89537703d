//! What an engine reads and writes: pictures, frames around them, tiles.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::rules;

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
    /// Source pixels added on each side before the engine and cropped after it; default 0; 0-64.
    #[serde(default)]
    #[schemars(range(min = 0, max = 64))]
    pub pad: i32,
    /// How many frames a run may have.
    #[serde(default)]
    pub frames: FrameRule,
    /// Frames read beside the owned ones and thrown away.
    #[serde(default)]
    pub context: Context,
}

/// N = multiple x k + remainder, N >= minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.remainder < self.multiple", "remainder must be less than multiple"))]
pub struct FrameRule {
    /// Default 1; 1-1000.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub multiple: i32,
    /// Default 0; 0-999.
    #[serde(default)]
    #[schemars(range(min = 0, max = 999))]
    pub remainder: i32,
    /// Default 1; 1-1000.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.leastBefore) || self.leastBefore <= self.before", "leastBefore must not be more than before"))]
pub struct Context {
    /// Before the owned ones; default 0; 0-1000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub before: i32,
    /// Least number before, when host memory is short; default: `before`; 0-1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub least_before: Option<i32>,
    /// After the owned ones; default 0; 0-1000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Video (default) or Pictures.
    #[serde(default)]
    pub kind: OutputKind,
    /// File, or pattern of pictures, below the output folder; 1-256 characters.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = rules::relative_path())]
    pub path: String,
    /// Codec of a Video output; anything else is a bad output. Default h264.
    #[serde(default)]
    pub codec: CodecName,
    /// ffmpeg's name of its pixel format; default yuv420p; 1-32 characters.
    #[serde(default = "yuv420p")]
    #[schemars(length(min = 1, max = 32))]
    pub pixel_format: String,
    /// ffmpeg's name of its matrix, tagged or not; default smpte170m; 1-32 characters.
    #[serde(default = "smpte170m")]
    #[schemars(length(min = 1, max = 32))]
    pub matrix: String,
    /// Its range, tagged or not; default Limited.
    #[serde(default)]
    pub range: Range,
    /// Output pixels at each edge that the engine spoils; default 0, at most pad x scale; 0-256.
    #[serde(default)]
    #[schemars(range(min = 0, max = 256))]
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
    /// What tile x scale must be a multiple of, output pixels; default 1; 1-4096.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 4096))]
    pub multiple: i32,
    /// Source pixels that the engine adds on each side of a tile; default 0; 0-1024.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1024))]
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
