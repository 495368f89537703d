//! What the person at the terminal sees while something takes long: one line per step with the seconds so far, and
//! while waiting what it waits for and for how long it will.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often a long wait repeats itself.
const SAY_EVERY: Duration = Duration::from_secs(15);

/// A run of steps, told with the seconds since it began.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    began: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Progress {
    /// Tells what begins now.
    pub fn say(&self, what: impl std::fmt::Display) {
        // Nobody may be reading any more; the work goes on.
        let _unread = writeln!(std::io::stdout(), "[{:6.1} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// Waits until `look` finds something; says so every 15 s.
    ///
    /// # Errors
    /// When `look` fails, or finds nothing within `limit`; names `what`.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let (began, mut said) = (Instant::now(), Instant::now());
        loop {
            if let Some(found) = look().with_context(|| format!("wait for {what}"))? {
                return Ok(found);
            }
            if began.elapsed() >= limit {
                bail!("waited {} s for {what}, in vain", limit.as_secs());
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                let so_far = began.elapsed().as_secs();
                self.say(format_args!(
                    "still waiting for {what} ({so_far} s, at most {} s)",
                    limit.as_secs()
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_found() {
        let mut looks = 0;
        let found = Progress::default().wait("the third look", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn a_wait_in_vain_says_for_what() {
        let error = Progress::default().wait("rain", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for rain, in vain");
    }
}
