//! Getting the report onto the Node: when ([`policy`], pure), how ([`node`], I/O), and the task that joins them.

mod bucket;
mod change;
mod node;
mod occupant;
mod policy;
mod publisher;
mod verdicts;

pub use node::NodeAnnotations;
pub use occupant::occupant;
pub use policy::{Cause, Decision, Hold, Policy, Timing};
pub use publisher::{Publisher, Standing};
pub use verdicts::at_least_bad;
