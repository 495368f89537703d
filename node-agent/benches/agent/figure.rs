//! Figures and the bounds that they must keep.

use std::ops::RangeInclusive;
use std::process::ExitCode;

/// All figures so far.
#[derive(Default)]
pub struct Figures {
    broken: u32,
}

impl Figures {
    /// Begins a part.
    pub fn part(&self, title: &str) {
        println!("\n{title}");
    }

    /// A figure without a bound, for people.
    pub fn told(&self, name: &str, value: f64, unit: &str) {
        println!("  {name:<46} {value:>9.3} {unit}");
    }

    /// A figure that must lie within `bound`.
    pub fn bounded(&mut self, name: &str, value: f64, unit: &str, bound: RangeInclusive<f64>) {
        let kept = bound.contains(&value);
        self.broken += u32::from(!kept);
        let (least, most) = bound.into_inner();
        let bound =
            if least == 0.0 { format!("at most {most:.3}") } else { format!("{least:.3} to {most:.3}") };
        println!("  {name:<46} {value:>9.3} {unit:<22} {bound} {}", if kept { "ok" } else { "FAILED" });
    }

    /// Fails if a bound did not hold.
    pub fn verdict(self) -> ExitCode {
        println!("\n{} bounds did not hold", self.broken);
        if self.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
