//! Frames woven of two fields, taken apart by ffmpeg's `bwdif`. The index is made behind the filter, so everything later
//! counts the pictures that come out of it. Pure.
//!
//! The filter takes every frame for two fields, whatever its flags say: a film's flags are often wrong, and so the number
//! of pictures is known. Its result hangs on the frame before and the one after, no further; a decode that begins a frame
//! earlier gives the same pictures.

use super::ratio::Ratio;
use crate::api::worker::Deinterlace;

/// Largest denominator of a time base that ffmpeg takes.
const MAX_DEN: u32 = i32::MAX.unsigned_abs();

/// The time base of the pictures, given that of the film: half of it for a picture per field, so that the middle between
/// two frames is a tick. `None` if ffmpeg cannot count in it.
pub fn base(how: Deinterlace, film: Ratio) -> Option<Ratio> {
    let base = match how {
        Deinterlace::Off | Deinterlace::Frame => film,
        Deinterlace::Field => Ratio::reduced(film.num.into(), u128::from(film.den).saturating_mul(2))?,
    };
    (base.den <= MAX_DEN).then_some(base)
}

/// The beginning of a filter chain, with the comma after it; empty if frames are pictures. `base`: that of the pictures.
pub fn filter(how: Deinterlace, base: Ratio) -> String {
    let mode = match how {
        Deinterlace::Off => return String::new(),
        Deinterlace::Frame => "send_frame",
        Deinterlace::Field => "send_field",
    };
    // It counts in half ticks in both modes.
    format!("bwdif=mode={mode}:deint=all,settb={base},")
}

/// How many pictures come of a frame.
pub fn per_frame(how: Deinterlace) -> usize {
    match how {
        Deinterlace::Off | Deinterlace::Frame => 1,
        Deinterlace::Field => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_in_half_ticks() {
        let film: Ratio = "1/90000".parse().unwrap();
        assert_eq!(base(Deinterlace::Frame, film), Some(film));
        assert_eq!(base(Deinterlace::Field, film).unwrap().to_string(), "1/180000");
        assert_eq!(
            base(Deinterlace::Field, "1001/30000".parse().unwrap()).unwrap().to_string(),
            "1001/60000"
        );
        assert_eq!(base(Deinterlace::Field, "2/50".parse().unwrap()).unwrap().to_string(), "1/50");
        assert_eq!(base(Deinterlace::Field, Ratio { num: 1, den: MAX_DEN }), None);
    }

    #[test]
    fn frames_are_left_alone_unless_asked() {
        let half: Ratio = "1/50".parse().unwrap();
        assert_eq!(filter(Deinterlace::Off, half), "");
        assert_eq!(filter(Deinterlace::Field, half), "bwdif=mode=send_field:deint=all,settb=1/50,");
    }
}
