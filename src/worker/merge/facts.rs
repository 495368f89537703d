//! What the header of the result says of its pictures, and the files attached to it.

use super::verify::{Checked, Streams, wrong};
use crate::worker::failure::Outcome;
use crate::worker::media::Stream;
use crate::worker::ratio::Ratio;

/// Verifies size, turn, shape of the pixels, colour tags.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn verify(checked: &Checked<'_>, film: &Stream) -> Outcome<()> {
    let index = &checked.work.index;
    let size = (film.width.unwrap_or(0), film.height.unwrap_or(0));
    let wanted = checked.manifests.first().map_or((0, 0), |part| (part.width, part.height));
    if size != wanted {
        return wrong(format!("{}x{} instead of {}x{}", size.0, size.1, wanted.0, wanted.1));
    }
    if film.turn() != index.turn() {
        return wrong(format!("turned by {} instead of {}", film.turn(), index.turn()));
    }
    let shape = film.sample_aspect_ratio.as_deref().and_then(|shape| shape.parse().ok());
    if !same_shape(shape, index.pixel_shape, size.0) {
        let told = |shape: Option<Ratio>| shape.map_or_else(|| "1/1".to_owned(), |shape| shape.to_string());
        return wrong(format!("its pixels are {} instead of {}", told(shape), told(index.pixel_shape)));
    }
    let (tags, wanted) = (film.colour_tags(), index.colour.of_result(size.1));
    for (what, found, wanted) in [
        ("matrix", tags.matrix, &wanted.matrix),
        ("range", tags.range, &wanted.range),
        ("primaries", tags.primaries, &wanted.primaries),
        ("transfer", tags.transfer, &wanted.transfer),
    ] {
        if found != Some(wanted) {
            return wrong(format!("its colour {what} is {} instead of {wanted}", found.unwrap_or("unsaid")));
        }
    }
    Ok(())
}

/// Whether two shapes of pixels, square if unsaid, make a picture of that width as wide as each other, to the pixel:
/// Matroska says whole pixels only.
fn same_shape(a: Option<Ratio>, b: Option<Ratio>, width: u32) -> bool {
    let shown = |shape: Option<Ratio>| shape.map_or(1.0, Ratio::value) * f64::from(width);
    (shown(a) - shown(b)).abs() <= 1.0
}

/// Every attached file is the source's byte for byte, and has its name.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn attachments(streams: &Streams<'_>) -> Outcome<()> {
    for (was, is) in streams.pairs("attachment") {
        let name = was.tag("filename").unwrap_or("without a name");
        if was.extradata_hash != is.extradata_hash || was.tag("filename") != is.tag("filename") {
            return wrong(format!("attached file {name:?} is not the source's"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_equal_to_the_pixel() {
        let shape = |text: &str| text.parse::<Ratio>().ok();
        assert!(same_shape(None, shape("1:1"), 1920));
        assert!(same_shape(shape("0:1"), None, 1920));
        assert!(same_shape(shape("16:11"), shape("185:127"), 127));
        assert!(!same_shape(shape("16:11"), None, 64));
        assert!(!same_shape(shape("16:11"), shape("12:11"), 64));
    }
}
