//! What a segment has been through, and what its next attempt looks like.

mod history;
mod next;

pub use history::{Flags, History};
pub use next::{Avoid, Next, Penalty, Retry, Situation, Turn, next};
