//! The agent's view of one GPU at one instant.

use jiff::Timestamp;

use crate::api::report::{Attribution, Gpu, Report, State};

/// What a report says of one GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuView {
    /// When it was sampled, by the node's clock.
    pub at: Timestamp,
    /// Whether the agent reads all it should.
    pub sound: bool,
    /// How far the process lists can be believed.
    pub attribution: Attribution,
    /// The GPU.
    pub gpu: Gpu,
}

impl GpuView {
    /// The view of the GPU with that UUID; `None` if the report does not have it.
    pub fn of(report: &Report, uuid: &str) -> Option<Self> {
        let gpu = report.gpus.iter().find(|gpu| gpu.id.eq_ignore_ascii_case(uuid))?;
        Some(Self {
            at: report.at,
            sound: report.state == State::Ok,
            attribution: report.attr,
            gpu: gpu.clone(),
        })
    }
}
