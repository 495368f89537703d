//! Whether a result is the source, only larger: what differs that must not. Pure; two films as read go in.

use std::collections::BTreeMap;

use video_upscale::worker::ratio::Ratio;

use crate::film::{Film, Track};

/// How far sound and pictures may have moved against each other, seconds: a thousandth, and what floats lose.
const DELAY: f64 = 0.001_001;
/// How far the mean colour of a patch may be off, of 255.
const COLOUR: f64 = 5.0;

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Width or height.
    Size,
    /// Which pictures are shown in which order.
    Pictures,
    /// When pictures are shown.
    Times,
    /// How long the last picture is shown.
    End,
    /// Which other streams there are.
    Streams,
    /// The packets of a stream.
    Packets,
    /// When a stream begins against the pictures.
    Delay,
    /// What is heard.
    Heard,
    /// Languages, titles, flags.
    Names,
    /// Tags of the file.
    Tags,
    /// Chapters.
    Chapters,
    /// Turn, or shape of a pixel.
    Shape,
    /// What the tags say of colour.
    ColourTags,
    /// What the colours are, read as the tags say.
    Colours,
}

/// A difference.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which.
    pub fault: Fault,
    /// What was found.
    #[expect(dead_code, reason = "shown by Debug")]
    pub said: String,
}

/// What a result may and must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// How many times larger.
    pub scale: usize,
    /// Whether the result is in a file of another family, which names tags otherwise and pads sound otherwise.
    pub other_family: bool,
}

/// All differences.
pub fn differences(source: &Film, result: &Film, expected: Expected) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differs = |fault: Fault, same: bool, said: &dyn Fn() -> String| {
        if !same {
            found.push(Difference { fault, said: said() });
        }
    };
    let size = (source.size.0 * expected.scale, source.size.1 * expected.scale);
    differs(Fault::Size, result.size == size, &|| format!("{:?} instead of {size:?}", result.size));

    let numbers =
        |film: &Film| film.pictures.iter().map(|picture| picture.number.clone()).collect::<Vec<_>>();
    let readable = source.numbers().len() == source.pictures.len();
    differs(Fault::Pictures, readable && numbers(result) == numbers(source), &|| {
        format!("{:?} instead of {:?}", numbers(result), numbers(source))
    });
    let since = |film: &Film| -> Vec<i64> {
        film.pictures.iter().map(|picture| picture.time - film.pictures[0].time).collect()
    };
    let (times, wanted) = (since(result), since(source));
    let late = times.iter().zip(&wanted).position(|(a, b)| !same(*a, result.base, *b, source.base));
    differs(Fault::Times, late.is_none(), &|| {
        let number = late.unwrap();
        format!(
            "picture {number} at {} of {} instead of {} of {}",
            times[number], result.base, wanted[number], source.base
        )
    });
    differs(Fault::End, same(result.length(), result.base, source.length(), source.base), &|| {
        format!("{} of {} instead of {} of {}", result.length(), result.base, source.length(), source.base)
    });
    for (fault, said) in colour(source, result) {
        differs(fault, false, &|| said.clone());
    }
    let shape = |film: &Film| {
        (film.matrix.clone(), film.shape.clone().filter(|shape| shape != "1:1" && shape != "0:1"))
    };
    differs(Fault::Shape, shape(source) == shape(result), &|| {
        format!("{:?} instead of {:?}", shape(result), shape(source))
    });
    let named = |names: &BTreeMap<String, String>| names_of(names, expected);
    differs(Fault::Names, named(&source.named) == named(&result.named), &|| {
        format!("{:?} instead of {:?}", result.named, source.named)
    });
    let lost: Vec<_> =
        source.tags.iter().filter(|(name, value)| result.tags.get(*name) != Some(value)).collect();
    differs(Fault::Tags, expected.other_family || lost.is_empty(), &|| {
        format!("lost {lost:?}, has {:?}", result.tags)
    });

    let kinds = |film: &Film| {
        film.tracks.iter().map(|track| (track.kind.clone(), track.codec.clone())).collect::<Vec<_>>()
    };
    differs(Fault::Streams, kinds(source) == kinds(result), &|| {
        format!("{:?} instead of {:?}", kinds(result), kinds(source))
    });
    for (number, (was, is)) in source.tracks.iter().zip(&result.tracks).enumerate() {
        for (fault, said) in track(was, is, expected) {
            differs(fault, false, &|| format!("stream {number} ({} {}): {said}", is.kind, is.codec));
        }
    }
    let chapters =
        source.chapters.len() == result.chapters.len()
            && source.chapters.iter().zip(&result.chapters).all(|(was, is)| {
                (was.0 - is.0).abs() <= DELAY && (was.1 - is.1).abs() <= DELAY && was.2 == is.2
            });
    differs(Fault::Chapters, chapters, &|| format!("{:?} instead of {:?}", result.chapters, source.chapters));
    found
}

/// Whether two times are equal: exactly in the same base, else to half a tick of the coarser one.
fn same(a: i64, of_a: Ratio, b: i64, of_b: Ratio) -> bool {
    let ticks =
        |ticks: i64, of: Ratio, other: Ratio| i128::from(ticks) * i128::from(of.num) * i128::from(other.den);
    let tick = if of_a == of_b { 0 } else { ticks(1, of_a, of_b).max(ticks(1, of_b, of_a)) };
    (ticks(a, of_a, of_b) - ticks(b, of_b, of_a)).abs() * 2 <= tick
}

/// Tags as the source says them, or as players take them for it where it says nothing; and colours as the source has.
fn colour(source: &Film, result: &Film) -> Vec<(Fault, String)> {
    let standard = |height: usize| match height {
        720.. => "bt709",
        288 | 576 => "bt470bg",
        _ => "smpte170m",
    };
    let rgb = source.colour[0].as_deref() == Some("gbr")
        || ["rgb", "bgr", "gbr"].iter().any(|rgb| source.pixel_format.starts_with(rgb));
    let [matrix, range, primaries, transfer] = source.colour.clone();
    let read_by = match (rgb, matrix.as_deref(), primaries.as_deref()) {
        (true, ..) => "gbr",
        (false, Some(said), _) => said,
        (false, None, Some("bt2020")) => "bt2020nc",
        (false, None, _) => standard(source.size.1),
    };
    // Of RGB, those of screens.
    let (its_primaries, its_transfer) = match read_by {
        "gbr" => ("bt709", "bt709"),
        "bt2020nc" => ("bt2020", "bt2020-10"),
        other => (other, other),
    };
    let said = |tag: Option<String>, unsaid: &str| tag.unwrap_or_else(|| unsaid.to_owned());
    // Untagged PAL is written with matrix and primaries of that name; the transfer has another.
    let full = range.as_deref() == Some("pc") || source.pixel_format.starts_with("yuvj");
    let of_rgb = if result.size.1 >= 720 { "bt709" } else { "smpte170m" };
    let wanted = [
        if rgb { of_rgb } else { read_by }.to_owned(),
        if full && !rgb { "pc" } else { "tv" }.to_owned(),
        said(primaries.clone(), its_primaries),
        said(transfer, its_transfer),
    ];
    let found = result.colour.clone().map(Option::unwrap_or_default);
    let mut faults = Vec::new();
    if found != wanted {
        faults.push((Fault::ColourTags, format!("{found:?} instead of {wanted:?}")));
    }
    let worst = source
        .patches
        .iter()
        .flatten()
        .zip(result.patches.iter().flatten())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    if worst > COLOUR {
        faults.push((
            Fault::Colours,
            format!("{worst:.1} off: {:.0?} instead of {:.0?}", result.patches, source.patches),
        ));
    }
    faults
}

/// Names and flags; a file of a family that has no flag for the usual stream gets one when it moves.
fn names_of(names: &BTreeMap<String, String>, expected: Expected) -> BTreeMap<String, String> {
    let mut names = names.clone();
    if expected.other_family {
        names.remove("default");
    }
    names
}

fn track(was: &Track, is: &Track, expected: Expected) -> Vec<(Fault, String)> {
    let mut faults = Vec::new();
    if was.packets != is.packets {
        faults.push((
            Fault::Packets,
            format!("{} packets instead of {}, or others", is.packets.len(), was.packets.len()),
        ));
    }
    let moved = |was: Option<f64>, is: Option<f64>| match (was, is) {
        (Some(was), Some(is)) => (was - is).abs() > DELAY,
        (was, is) => was != is,
    };
    // Files of other families count the padding before the sound otherwise; what is heard must not move.
    if (!expected.other_family && moved(was.delay, is.delay)) || moved(was.heard_delay, is.heard_delay) {
        let both = |track: &Track| (track.delay, track.heard_delay);
        faults.push((Fault::Delay, format!("{:?} instead of {:?}", both(is), both(was))));
    }
    if was.heard != is.heard {
        faults.push((
            Fault::Heard,
            format!("{} stretches instead of {}, or others", is.heard.len(), was.heard.len()),
        ));
    }
    if names_of(&was.named, expected) != names_of(&is.named, expected) {
        faults.push((Fault::Names, format!("{:?} instead of {:?}", is.named, was.named)));
    }
    faults
}
