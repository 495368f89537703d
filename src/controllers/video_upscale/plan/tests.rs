//! Tables for each phase and each bad input: an [`Observed`](super::Observed) made by hand, a plan, no API.

mod attempts;
mod batches;
mod beginning;
mod degrading;
mod life;
mod pacing;
mod present;
mod sizes;
mod starts;
