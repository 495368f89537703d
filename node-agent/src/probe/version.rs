//! Driver versions, and what they mean for the process lists.

/// A driver version such as 535.104.05; only the first two parts matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverVersion {
    /// Branch.
    pub major: u32,
    /// Release within the branch.
    pub minor: u32,
}

impl DriverVersion {
    /// Reads the version; `None` if it is not of the form `number.number...`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Self { major, minor })
    }

    /// Whether the `_v3` process lists have entries of 24 bytes. Drivers 535.43 to 535.97 write 32 bytes, 535.98 has
    /// no `_v3` at all and 535.104 is back at 24 (XuehaiPan/nvitop#88, NVIDIA/go-nvml#75): with them a reader that
    /// expects 24 gets garbage, and more than a few processes overrun its buffer. The whole branch before 535.104
    /// is asked through `_v2`, which always had 24.
    pub fn has_sound_v3_lists(self) -> bool {
        !(self.major == 535 && self.minor < 104)
    }

    /// Whether process ids are translated to the caller's namespace; drivers before 535.113 list those of the host to
    /// whoever asks.
    pub fn translates_ids(self) -> bool {
        self >= Self { major: 535, minor: 113 }
    }

    /// Whether the driver tells the memory of processes that live in another PID namespace than the initial one
    /// (NVIDIA/open-gpu-kernel-modules#614).
    pub fn translates_memory_queries(self) -> bool {
        !self.translates_ids() || self >= Self { major: 565, minor: 57 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_early_drivers_of_branch_535_are_kept_from_v3_lists() {
        let table = [
            ("470.256.02", true),
            ("535.43.02", false),
            ("535.86.10", false),
            ("535.98", false),
            ("535.104.05", true),
            ("535.113.01", true),
            ("580.95.05", true),
        ];
        for (text, sound) in table {
            assert_eq!(DriverVersion::parse(text).unwrap().has_sound_v3_lists(), sound, "{text}");
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "580", "x.y", "580.", "-1.2"] {
            assert_eq!(DriverVersion::parse(text), None, "{text}");
        }
    }
}
