//! How players turn and mirror the pictures of a film: the display matrix in its header.

use std::fmt;

/// 1.0 in a display matrix, whose numbers are of 16.16 bits.
const ONE: f64 = 65_536.0;
/// How far entries may be off, of 1.0: what formats round.
const OFF: f64 = 0.001;

/// A turn, of pictures that may be mirrored before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Degrees counter-clockwise, -179 to 180.
    pub degrees: i32,
    /// Whether left and right are exchanged first. Any way to mirror is this one with a turn.
    pub mirrored: bool,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrored = if self.mirrored { " mirrored" } else { "" };
        write!(f, "{} degrees{mirrored}", self.degrees)
    }
}

/// What a display matrix does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// It turns and mirrors, by whole degrees.
    Turns(Turn),
    /// It stretches or slants as well, or turns by fractions; this is what comes nearest.
    Distorts(Turn),
}

impl Display {
    /// By the matrix as ffprobe tells it: three lines of a number, a colon and three numbers. `None` if it is not one.
    ///
    /// The upper left four numbers are those of `av_display_rotation_set` and `av_display_matrix_flip` in ffmpeg's
    /// `libavutil/display.c`. Where they put the picture, the last line, is left out: players show a film alone.
    pub fn of(matrix: &str) -> Option<Self> {
        let lines = matrix.lines().filter_map(|line| line.split_once(':'));
        let numbers = lines.flat_map(|(_, numbers)| numbers.split_whitespace());
        let numbers: Vec<f64> =
            numbers.map(|number| number.parse::<i32>().map(f64::from)).collect::<Result<_, _>>().ok()?;
        let [a, b, u, c, d, v, ..] = numbers.as_slice() else { return None };
        let mirrored = a * d - b * c < 0.0;
        let sign = if mirrored { -1.0 } else { 1.0 };
        let degrees = -b.atan2(sign * a).to_degrees().round();
        let turn = Turn { degrees: if degrees <= -180.0 { 180 } else { degrees as i32 }, mirrored };
        let (sin, cos) = f64::from(turn.degrees).to_radians().sin_cos();
        let wanted = [sign * cos, -sin, sign * sin, cos, 0.0, 0.0];
        let same =
            [a, b, c, d, u, v].iter().zip(wanted).all(|(found, wanted)| (*found / ONE - wanted).abs() <= OFF);
        Some(if same { Self::Turns(turn) } else { Self::Distorts(turn) })
    }

    /// The turn.
    pub fn turn(self) -> Turn {
        match self {
            Self::Turns(turn) | Self::Distorts(turn) => turn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(a: i32, b: i32, c: i32, d: i32) -> Display {
        let text = format!(
            "\n00000000: {a:>11} {b:>11}           0\n00000001: {c:>11} {d:>11}           0\n\
             00000002:           0           0  1073741824\n"
        );
        Display::of(&text).unwrap()
    }

    #[test]
    fn turns_and_mirrors_are_told_apart() {
        let one = 65_536;
        // As ffmpeg 7.1 writes them for -display_rotation, -display_hflip and -display_vflip.
        for ((a, b, c, d), degrees, mirrored) in [
            ((one, 0, 0, one), 0, false),
            ((0, -one, one, 0), 90, false),
            ((-one, 0, 0, -one), 180, false),
            ((0, one, -one, 0), -90, false),
            ((-one, 0, 0, one), 0, true),
            ((one, 0, 0, -one), 180, true),
            ((0, -one, -one, 0), 90, true),
            ((0, one, one, 0), -90, true),
            ((46_340, -46_340, 46_340, 46_340), 45, false),
        ] {
            assert_eq!(display(a, b, c, d), Display::Turns(Turn { degrees, mirrored }), "{a} {b} {c} {d}");
        }
    }

    #[test]
    fn what_is_more_than_a_turn_is_told() {
        for (a, b, c, d) in
            [(131_072, 0, 0, 65_536), (65_536, 9000, 0, 65_536), (0, 0, 0, 0), (65_246, -6168, 6168, 65_246)]
        {
            assert!(matches!(display(a, b, c, d), Display::Distorts(_)), "{a} {b} {c} {d}");
        }
        assert_eq!(display(0, -131_072, 65_536, 0).turn(), Turn { degrees: 90, mirrored: false });
        for text in ["", "x", "0: 1 2 3", "0: 1 2 3\n1: 1 2 x", "0: 99999999999 2 3\n1: 1 2 3"] {
            assert_eq!(Display::of(text), None, "{text}");
        }
    }
}
