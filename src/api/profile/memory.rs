//! Memory and time of an engine beside its steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// need = percent x the largest of the step's phases + plusMiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuMemory {
    /// Percent of the formula; default 110; 1-1000.
    #[serde(default = "percent_110")]
    #[schemars(range(min = 1, max = 1000))]
    pub percent: i32,
    /// MiB on top; default 1024; 0-1048576.
    #[serde(default = "mib_1024", rename = "plusMiB")]
    #[schemars(range(min = 0, max = 1_048_576))]
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
    /// MiB whatever the film; 1-1048576.
    #[serde(rename = "baseMiB")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub base_mib: i32,
    /// Bytes per output pixel; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub output_pixel: i32,
    /// Bytes per input pixel and frame; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub input_pixel_frame: i32,
    /// Bytes per output pixel and frame; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub output_pixel_frame: i32,
    /// Percent of the pixel terms; default 115; 1-1000.
    #[serde(default = "percent_115")]
    #[schemars(range(min = 1, max = 1000))]
    pub percent: i32,
}

const fn percent_115() -> i32 {
    115
}

/// Scratch space of the engine beside input and output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scratch {
    /// Bytes per input pixel and frame; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub input_pixel_frame: i32,
    /// Bytes per output pixel and frame; default 0; 0-1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub output_pixel_frame: i32,
}

/// First guesses of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeGuess {
    /// Seconds per run whatever the film; default 60; 0-86400.
    #[serde(default = "seconds_60")]
    #[schemars(range(min = 0, max = 86400))]
    pub start_seconds: i32,
    /// Milliseconds per million output pixels and frame; default 1000; 0-10000000.
    #[serde(default = "millis_1000")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub megapixel_frame_millis: i32,
    /// Percent of the expected time after which a run is ended; default 400; 100-10000.
    #[serde(default = "percent_400")]
    #[schemars(range(min = 100, max = 10000))]
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
