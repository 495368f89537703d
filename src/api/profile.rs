//! `UpscaleProfile`: an engine as data. What the administrator offers: an image, how it is called, and what memory
//! each step of its ladder needs. No behaviour here; [`crate::profile`] evaluates it.

use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use engine::*;
pub use failure::*;
pub use ladder::*;
pub use memory::*;
pub use pictures::*;
pub use status::*;

mod engine;
mod failure;
mod ladder;
mod memory;
mod pictures;
mod status;

/// What an administrator offers.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "upscale.video",
    version = "v1alpha1",
    kind = "UpscaleProfile",
    plural = "upscaleprofiles",
    shortname = "vup",
    category = "upscale",
    status = "UpscaleProfileStatus",
    derive = "PartialEq",
    validation = short_name(),
    printcolumn(name = "Scales", type_ = "string", json_path = ".spec.scales", description = "Scales offered."),
    printcolumn(name = "Steps", type_ = "string", json_path = ".spec.steps", description = "Steps that a job gets which says nothing."),
    printcolumn(name = "Default", type_ = "string", json_path = ".metadata.labels.upscale\\.video/default-profile", description = "Whether jobs get it that name none."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether it can be evaluated."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    doc = "An upscaling engine as an administrator offers it: image, command line, and what memory each step of its ladder needs."
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = steps_of_the_ladder())]
#[x_kube(validation = every_scale_offered())]
#[x_kube(validation = tiles_of_scales())]
#[x_kube(validation = whole_tiles())]
#[x_kube(validation = border_is_padding())]
pub struct UpscaleProfileSpec {
    /// The program and how it is called.
    pub engine: Engine,
    /// Scales offered, out of 2, 3 and 4; 1-3.
    #[schemars(length(min = 1, max = 3), inner(range(min = 2, max = 4)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scales: Vec<i32>,
    /// What the engine reads.
    #[serde(default)]
    pub input: Input,
    /// What the engine writes.
    pub output: Output,
    /// How tiles are rounded.
    #[serde(default)]
    pub tile: Tile,
    /// Safety added to the estimate of GPU memory.
    #[serde(default)]
    pub gpu_memory: GpuMemory,
    /// Host memory of the engine.
    pub host_memory: HostMemory,
    /// Scratch space of the engine.
    #[serde(default)]
    pub scratch: Scratch,
    /// First guesses of time, replaced by what is measured.
    #[serde(default)]
    pub time: TimeGuess,
    /// How its failures are read.
    #[serde(default)]
    pub failure: Failure,
    /// Steps that a job gets which says nothing.
    #[serde(default)]
    pub steps: Steps,
    /// The steps, best first; 1-16.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = ("self.all(step, self.exists_one(other, other.name == step.name))", "each step must have a name of its own"))]
    pub ladder: Vec<Step>,
}

/// A job names its profile, and a label may carry that name.
fn short_name() -> Rule {
    Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters")
}

fn steps_of_the_ladder() -> Rule {
    Rule::new("self.steps.first < self.ladder.size() && (!has(self.steps.last) || self.steps.last < self.ladder.size())")
        .message("must be steps of the ladder, counted from 0")
        .field_path(".steps")
}

fn every_scale_offered() -> Rule {
    Rule::new(
        "self.scales.all(scale, self.ladder.exists(step, !has(step.tiles) || string(scale) in step.tiles))",
    )
    .message("each scale must be offered by a step of the ladder")
    .field_path(".scales")
}

fn tiles_of_scales() -> Rule {
    Rule::new("self.ladder.all(step, !has(step.tiles) || step.tiles.all(scale, self.scales.exists(known, string(known) == scale)))")
        .message("tiles must be of the scales offered")
        .field_path(".ladder")
}

fn whole_tiles() -> Rule {
    Rule::new("self.ladder.all(step, !has(step.tiles) || step.tiles.all(scale, int(step.tiles[scale].split('/')[0]) * int(scale) % self.tile.multiple == 0))")
        .message("size x scale of each tile must be a multiple of tile.multiple")
        .field_path(".ladder")
}

fn border_is_padding() -> Rule {
    Rule::new("self.scales.all(scale, self.output.badBorder <= self.input.pad * scale)")
        .message("must be at most input.pad x each scale, as the padding is what is cut off")
        .field_path(".output.badBorder")
}
