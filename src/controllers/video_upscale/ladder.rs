//! What a segment has been through, and what its next attempt looks like.

mod history;
mod next;

pub use history::{Flags, History};
pub use next::{Avoid, FULL_VOLUME_PAUSE, Next, Penalty, Retry, Situation, Turn, next};

#[cfg(test)]
mod tests;
