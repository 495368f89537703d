//! Getting the report onto the Node: when ([`policy`], pure), how ([`node`], I/O), and the task that joins them.

mod bucket;
mod change;
mod node;
mod policy;
mod publisher;

pub use node::NodeAnnotations;
pub use policy::{Cause, Hold, Timing};
pub use publisher::{Publisher, Standing};
