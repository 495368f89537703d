//! Time bases: positive ratios, and times in them. Integers throughout; nothing is rounded unless it says so.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A positive ratio, `1/12800`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio {
    /// Numerator, at least 1.
    pub num: u32,
    /// Denominator, at least 1.
    pub den: u32,
}

impl Ratio {
    /// A ratio in lowest terms; `None` if a term is 0 or the terms do not fit.
    pub fn reduced(num: u128, den: u128) -> Option<Self> {
        let common = gcd(num, den);
        let part = |term: u128| u32::try_from(term.checked_div(common)?).ok().filter(|term| *term > 0);
        Some(Self { num: part(num)?, den: part(den)? })
    }

    /// `ticks` of this base in microseconds, rounded down.
    pub fn micros_floor(self, ticks: i64) -> i64 {
        self.scaled(ticks, 1_000_000, 0)
    }

    /// `ticks` of this base in microseconds, rounded to the nearest.
    pub fn micros(self, ticks: i64) -> i64 {
        self.scaled(ticks, 1_000_000, i128::from(self.den) / 2)
    }

    fn scaled(self, ticks: i64, per_second: i128, add: i128) -> i64 {
        let value = i128::from(ticks)
            .saturating_mul(i128::from(self.num))
            .saturating_mul(per_second)
            .saturating_add(add)
            .div_euclid(i128::from(self.den).max(1));
        i64::try_from(value).unwrap_or(i64::MAX)
    }

    /// Whole ticks of this base in `micros` microseconds, rounded down.
    pub fn ticks_floor(self, micros: i64) -> i64 {
        let (value, per_tick) = self.in_ticks(micros);
        i64::try_from(value.div_euclid(per_tick)).unwrap_or(i64::MAX)
    }

    /// `micros` microseconds in ticks of this base, rounded to the nearest and ties away from zero, as ffmpeg rounds
    /// the offset of an input.
    pub fn ticks_nearest(self, micros: i64) -> i64 {
        let (value, per_tick) = self.in_ticks(micros);
        let rounded = value
            .saturating_abs()
            .saturating_mul(2)
            .saturating_add(per_tick)
            .div_euclid(per_tick.saturating_mul(2));
        i64::try_from(rounded.saturating_mul(value.signum())).unwrap_or(i64::MAX)
    }

    /// `micros` as a fraction of ticks: its numerator and its denominator, which is at least 1.
    fn in_ticks(self, micros: i64) -> (i128, i128) {
        let per_tick = i128::from(self.num).saturating_mul(1_000_000).max(1);
        (i128::from(micros).saturating_mul(self.den.into()), per_tick)
    }

    /// The first tick of `other` that is not before `ticks` of this base.
    pub fn ceil_in(self, ticks: i64, other: Self) -> i64 {
        let value = i128::from(ticks)
            .saturating_mul(self.num.into())
            .saturating_mul(other.den.into())
            .saturating_neg();
        let per_tick = i128::from(self.den).saturating_mul(other.num.into()).max(1);
        i64::try_from(value.div_euclid(per_tick).saturating_neg()).unwrap_or(i64::MAX)
    }

    /// Whether `ticks` of `other` are a whole number of ticks of this base.
    pub fn is_whole(self, ticks: i64, other: Self) -> bool {
        let value = i128::from(ticks).saturating_mul(other.num.into()).saturating_mul(self.den.into());
        let per_tick = i128::from(other.den).saturating_mul(self.num.into()).max(1);
        value.checked_rem(per_tick) == Some(0)
    }

    /// Whether two durations in two bases are equal to within half a tick of the coarser base.
    pub fn same(self, ticks: i64, other: Self, other_ticks: i64) -> bool {
        let terms = |a: u32, b: u32| i128::from(a).saturating_mul(i128::from(b));
        let mine = i128::from(ticks).saturating_mul(terms(self.num, other.den));
        let theirs = i128::from(other_ticks).saturating_mul(terms(other.num, self.den));
        let tick = terms(self.num, other.den).max(terms(other.num, self.den));
        mine.saturating_sub(theirs).saturating_mul(2).saturating_abs() <= tick
    }

    /// As a number.
    pub fn value(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }
}

/// Microseconds as seconds with six decimals, as ffmpeg's options take them.
pub fn seconds(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a.max(1)
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// The text is not a positive ratio.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a positive ratio")]
pub struct NotARatio(String);

impl FromStr for Ratio {
    type Err = NotARatio;

    fn from_str(text: &str) -> Result<Self, NotARatio> {
        let wrong = || NotARatio(text.chars().take(40).collect());
        let (num, den) = text.split_once(['/', ':']).ok_or_else(wrong)?;
        let term = |term: &str| term.parse::<u32>().ok().filter(|term| *term > 0).ok_or_else(wrong);
        Ok(Self { num: term(num)?, den: term(den)? })
    }
}

impl TryFrom<String> for Ratio {
    type Error = NotARatio;

    fn try_from(text: String) -> Result<Self, NotARatio> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_read_and_reduced() {
        assert_eq!("1001/30000".parse::<Ratio>().unwrap().to_string(), "1001/30000");
        for wrong in ["", "1", "0/1", "1/0", "-1/2", "1/2/3", "99999999999/1"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong}");
        }
        assert_eq!(Ratio::reduced(150 * 30_000, 150 * 1001).unwrap().to_string(), "30000/1001");
        assert_eq!(Ratio::reduced(1, 0), None);
        assert_eq!(Ratio::reduced(u128::MAX, 1), None);
    }

    #[test]
    fn microseconds_round_as_asked() {
        let base: Ratio = "1/30000".parse().unwrap();
        assert_eq!((base.micros_floor(1001), base.micros(1001)), (33_366, 33_367));
        assert_eq!(base.micros_floor(-1001), -33_367);
        assert_eq!(base.micros(i64::MAX), i64::MAX);
    }

    #[test]
    fn microseconds_become_ticks_as_asked() {
        let base: Ratio = "1/30000".parse().unwrap();
        assert_eq!((base.ticks_floor(33_366), base.ticks_floor(33_367)), (1000, 1001));
        assert_eq!(base.ticks_floor(-1), -1);
        let coarse: Ratio = "1/1000".parse().unwrap();
        assert_eq!(
            [499, 500, 1499, -499, -500, -1500].map(|micros| coarse.ticks_nearest(micros)),
            [0, 1, 1, 0, -1, -2]
        );
        assert_eq!(base.ticks_floor(i64::MAX), 276_701_161_105_643_274);
    }

    #[test]
    fn a_time_in_another_base_is_the_first_tick_not_before_it() {
        let (sound, film): (Ratio, Ratio) = ("1/48000".parse().unwrap(), "1/25".parse().unwrap());
        assert_eq!(film.ceil_in(1, sound), 1920);
        let ntsc: Ratio = "1001/30000".parse().unwrap();
        assert_eq!((ntsc.ceil_in(1, sound), ntsc.ceil_in(-1, sound)), (1602, -1601));
        assert_eq!(sound.ceil_in(1921, film), 2);
    }

    #[test]
    fn a_time_is_whole_in_another_base_or_not() {
        let (film, coarse): (Ratio, Ratio) = ("1/12800".parse().unwrap(), "1/1000".parse().unwrap());
        assert!(coarse.is_whole(512, film) && coarse.is_whole(-512, film) && film.is_whole(5, coarse));
        assert!(!coarse.is_whole(427, film) && !film.is_whole(1, coarse));
    }

    #[test]
    fn seconds_have_a_sign_and_six_decimals() {
        assert_eq!(
            [0, 1_500_000, -2_750_000, -1].map(seconds),
            ["0.000000", "1.500000", "-2.750000", "-0.000001"]
        );
    }

    #[test]
    fn times_in_two_bases_are_the_same_within_half_a_tick() {
        let (fine, coarse): (Ratio, Ratio) = ("1/12800".parse().unwrap(), "1/1000".parse().unwrap());
        assert!(fine.same(512, coarse, 40));
        assert!(fine.same(427, coarse, 33));
        assert!(!fine.same(427, coarse, 34));
        assert!(fine.same(512, fine, 512));
        assert!(!fine.same(512, fine, 513));
    }
}
