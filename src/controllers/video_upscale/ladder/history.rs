//! What an unfinished segment has been through: one entry of `status.tried`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::controllers::video_upscale::verdict::Verdict;

/// What was tried, or is in force, for a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags {
    /// `f`: the profile's environment against fragmentation.
    pub fragmentation_env: bool,
    /// `c`: the profile's least context.
    pub least_context: bool,
    /// `m`: one and a half times the host memory.
    pub more_memory: bool,
    /// `u`: the last end was Unknown.
    pub last_unknown: bool,
    /// `l`: only the card with the most memory will do.
    pub largest_card: bool,
}

/// What an unfinished segment has been through, and the parameters of its next attempt. On the wire
/// `segment:made/counted/step/pieces/flags/verdict`, at most 40 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The segment, 0-99999.
    pub segment: u32,
    /// Attempts made, at most [`History::MOST_MADE`]; the number of the next one.
    pub made: u32,
    /// Attempts that counted, at most 99.
    pub counted: u32,
    /// Best step that the next attempt may use.
    pub step: u32,
    /// Pieces of the next attempt: 1, 2 or 4.
    pub pieces: u32,
    /// Flags of the next attempt.
    pub flags: Flags,
    /// How the last attempt ended; `None` before the first end.
    pub verdict: Option<Verdict>,
}

/// An entry that is not of that form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no entry of status.tried: segment:made/counted/step/pieces/flags/verdict")]
pub struct HistoryError(String);

impl History {
    /// Most attempts that are counted on the wire; beyond, the number stands still.
    pub const MOST_MADE: u32 = 99_999;
    /// Most counted attempts on the wire.
    pub const MOST_COUNTED: u32 = 99;
    /// Most bytes of an entry.
    pub const MAX_BYTES: usize = 40;

    /// A segment that was never tried.
    pub fn fresh(segment: u32, step: u32) -> Self {
        Self { segment, made: 0, counted: 0, step, pieces: 1, flags: Flags::default(), verdict: None }
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (set, letter) in [
            (self.fragmentation_env, "f"),
            (self.least_context, "c"),
            (self.more_memory, "m"),
            (self.last_unknown, "u"),
            (self.largest_card, "l"),
        ] {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl FromStr for Flags {
    type Err = HistoryError;

    fn from_str(text: &str) -> Result<Self, HistoryError> {
        let mut flags = Self::default();
        for letter in text.chars() {
            let flag = match letter {
                'f' => &mut flags.fragmentation_env,
                'c' => &mut flags.least_context,
                'm' => &mut flags.more_memory,
                'u' => &mut flags.last_unknown,
                'l' => &mut flags.largest_card,
                _ => return Err(refuse(text)),
            };
            if std::mem::replace(flag, true) {
                return Err(refuse(text));
            }
        }
        Ok(flags)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, made, counted, step, pieces, flags, verdict } = self;
        let verdict = verdict.map_or("", Verdict::as_str);
        write!(f, "{segment}:{made}/{counted}/{step}/{pieces}/{flags}/{verdict}")
    }
}

impl FromStr for History {
    type Err = HistoryError;

    fn from_str(text: &str) -> Result<Self, HistoryError> {
        parse(text).ok_or_else(|| refuse(text))
    }
}

fn parse(text: &str) -> Option<History> {
    if text.len() > History::MAX_BYTES {
        return None;
    }
    let (segment, rest) = text.split_once(':')?;
    let mut fields = rest.split('/');
    let history = History {
        segment: number(segment, 99_999)?,
        made: number(fields.next()?, History::MOST_MADE)?,
        counted: number(fields.next()?, History::MOST_COUNTED)?,
        step: number(fields.next()?, 15)?,
        pieces: number(fields.next()?, 4).filter(|pieces| matches!(pieces, 1 | 2 | 4))?,
        flags: fields.next()?.parse().ok()?,
        verdict: match fields.next()? {
            "" => None,
            word => Some(Verdict::parse(word)?),
        },
    };
    fields.next().is_none().then_some(history)
}

fn number(digits: &str, most: u32) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().filter(|number| *number <= most)
}

fn refuse(text: &str) -> HistoryError {
    HistoryError(text.chars().take(History::MAX_BYTES).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_history()(
            segment in 0u32..=99_999, made in 0u32..=History::MOST_MADE, counted in 0u32..=99, step in 0u32..=15,
            pieces in prop::sample::select(vec![1u32, 2, 4]), bits in any::<[bool; 5]>(),
            verdict in prop::option::of(prop::sample::select(Verdict::ALL)),
        ) -> History {
            let [fragmentation_env, least_context, more_memory, last_unknown, largest_card] = bits;
            let flags = Flags { fragmentation_env, least_context, more_memory, last_unknown, largest_card };
            History { segment, made, counted, step, pieces, flags, verdict }
        }
    }

    proptest! {
        #[test]
        fn entries_read_back_and_fit(history in any_history()) {
            let text = history.to_string();
            prop_assert!(text.len() <= History::MAX_BYTES, "{text}");
            prop_assert_eq!(text.parse::<History>().unwrap(), history);
        }

        #[test]
        fn a_strangers_entry_never_panics(text in ".{0,60}") {
            let _ = text.parse::<History>();
        }
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let history: History = "41:3/2/5/2/cm/OwnDemand".parse().unwrap();
        assert_eq!((history.segment, history.made, history.counted, history.step), (41, 3, 2, 5));
        assert_eq!((history.pieces, history.flags.least_context, history.flags.more_memory), (2, true, true));
        assert_eq!(history.verdict, Some(Verdict::OwnDemand));
        assert_eq!(History::fresh(7, 2).to_string(), "7:0/0/2/1//");
    }

    #[test]
    fn entries_of_another_form_are_refused() {
        for text in [
            "",
            "7",
            "7:0/0/2/1/",
            "7:0/0/2/3//",
            "7:0/0/16/1//",
            "7:0/0/2/1/x/",
            "7:0/0/2/1/ff/",
            "-1:0/0/2/1//",
            "7:0/0/2/1//Own",
            "7:0/0/2/1///",
            "7:0/0/2/+1//",
        ] {
            assert!(text.parse::<History>().is_err(), "{text}");
        }
    }
}
