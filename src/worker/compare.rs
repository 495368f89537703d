//! Whether two films show the same pictures in the same order: both shrunk to 160x90, each picture of one held against
//! the pictures around its place in the other.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::failure::{Failure, Outcome};
use super::ffmpeg::Invocation;
use crate::api::worker::Code;

/// Width and height that pictures are shrunk to.
const SHRUNK: (usize, usize) = (160, 90);
/// Bytes of a shrunk picture, RGB.
const BYTES: usize = SHRUNK.0 * SHRUNK.1 * 3;
/// How far to each side a picture is looked for.
const AROUND: usize = 3;
/// Largest mean difference of a picture from its own, of 255.
const MOST: f64 = 12.0;
/// How much nearer another picture must be to count as the one that is shown: a part of the own difference, and grey
/// levels. Still pictures differ from each other by noise only.
const NEARER: (f64, f64) = (0.85, 0.25);

/// Side of the blocks whose means tell whether a picture is flat: noise is gone in them, what is seen is not.
const BLOCK: usize = 10;
/// Most that blocks of a flat picture differ, of 255: what lossy coding leaves of the pictures around it.
const FLAT: f64 = 2.0;
/// Least that blocks of a picture differ in which something is seen, of 255. Darker ends of fades are left in peace.
const SEEN: f64 = 6.0;

/// The filter that shrinks, to be put at the end of a chain.
pub const SHRINK: &str = "scale=160:90:flags=area+accurate_rnd+full_chroma_int,format=rgb24";

/// As [`SHRINK`], for a film whose matrix and range are said; nothing is said for RGB.
pub fn shrink(read_as: &str) -> String {
    if read_as.is_empty() {
        SHRINK.to_owned()
    } else {
        SHRINK.replace("flags=", &format!("{read_as}:flags="))
    }
}

/// Output options of a film that goes into [`films`]. The muxer complains of equal times if it has to round them.
pub const RAW: [&str; 7] =
    ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "rawvideo", "pipe:1"];

/// How two films differ.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Difference {
    /// Another number of pictures.
    #[error("{made} pictures instead of {expected}")]
    Count {
        /// Pictures of the film that is checked.
        made: u64,
        /// Pictures of the film it is checked against.
        expected: u64,
    },
    /// A picture is more like one beside its own.
    #[error("picture {picture} shows picture {shows}")]
    Place {
        /// Its number.
        picture: u64,
        /// Number of the picture that it is most like.
        shows: u64,
    },
    /// A picture is of one colour, its own is not.
    #[error("picture {picture} is all of one colour, the source's differs in itself by {contrast:.1} of 255")]
    Flat {
        /// Its number.
        picture: u64,
        /// Largest difference of two blocks of the source's picture.
        contrast: f64,
    },
    /// A picture is like none.
    #[error("picture {picture} differs from the source by {mean:.1} of 255, more than {MOST}")]
    Content {
        /// Its number.
        picture: u64,
        /// Mean difference.
        mean: f64,
    },
}

/// Runs two ffmpegs that write shrunk raw pictures and compares what they write. `frames`: how many pictures the film
/// has that is expected.
///
/// # Errors
/// `code` with the difference; the failure of a program, or [`Code::Io`], if it is not what was made that is at fault.
pub fn films(made: &Invocation, expected: &Invocation, frames: u64, code: Code, what: &str) -> Outcome<()> {
    let mut of_made = made.start("read what was made", |_| false)?;
    let mut of_expected = expected.start("read what was expected", |_| false)?;
    let (Some(a), Some(b)) = (of_made.take_output(), of_expected.take_output()) else {
        return Err(Failure::stop(Code::Internal, "a program without output"));
    };
    let (mut a, mut b) = (a, b);
    let compared = pictures(&mut a, &mut b).map_err(|error| of_made.broken(&error))?;
    // Both come to their ends before anything is judged: pictures that could not be read are not the engine's fault.
    rest(&mut b).and_then(|_| rest(&mut a)).map_err(|error| of_made.broken(&error))?;
    of_expected.wait()?;
    let differs = |text: &dyn std::fmt::Display| Failure::stop(code, format!("{what}: {text}"));
    match compared {
        Err(Difference::Count { expected, .. }) | Ok(expected) if expected != frames => {
            let text = format!("{what}: {expected} of {frames} pictures to compare with can be read");
            return Err(Failure::stop(Code::Io, text));
        }
        Err(difference) => return Err(differs(&difference)),
        Ok(_) => {}
    }
    let said = of_made.wait().map_err(|failure| differs(&failure))?;
    if said.lines > 0 {
        return Err(differs(&format!("it does not decode cleanly: {}", said.summary())));
    }
    Ok(())
}

/// Compares two streams of shrunk pictures; how many there are.
pub fn pictures(made: &mut impl Read, expected: &mut impl Read) -> io::Result<Result<u64, Difference>> {
    // Pictures of the other film around the place: `first` is the number of the front.
    let mut around: VecDeque<Vec<u8>> = VecDeque::new();
    let (mut first, mut read, mut ended) = (0u64, 0u64, false);
    let mut number = 0u64;
    let reach = u64::try_from(AROUND).unwrap_or(0);
    loop {
        while !ended && read <= number.saturating_add(reach) {
            match next(expected)? {
                Some(picture) => {
                    around.push_back(picture);
                    read = read.saturating_add(1);
                }
                None => ended = true,
            }
        }
        while first.saturating_add(reach) < number {
            around.pop_front();
            first = first.saturating_add(1);
        }
        let Some(picture) = next(made)? else { break };
        if number >= read {
            let more = rest(made)?;
            let made = number.saturating_add(1).saturating_add(more);
            return Ok(Err(Difference::Count { made, expected: read }));
        }
        if let Some(difference) = misplaced(&picture, number, &around, first) {
            return Ok(Err(difference));
        }
        number = number.saturating_add(1);
    }
    let total = read.saturating_add(rest(expected)?);
    Ok(if total == number { Ok(number) } else { Err(Difference::Count { made: number, expected: total }) })
}

fn misplaced(picture: &[u8], number: u64, around: &VecDeque<Vec<u8>>, first: u64) -> Option<Difference> {
    let means: Vec<(u64, f64)> =
        (first..).zip(around).map(|(place, other)| (place, mean(picture, other))).collect();
    let own = means.iter().find(|(place, _)| *place == number)?.1;
    // A black picture is near its own in a dark film, and as near as others around it.
    if contrast(picture) <= FLAT {
        let source = (first..).zip(around).find(|(place, _)| *place == number)?.1;
        let contrast = contrast(source);
        if contrast >= SEEN {
            return Some(Difference::Flat { picture: number, contrast });
        }
    }
    let (shows, best) = means.into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    if shows != number && best < own * NEARER.0 - NEARER.1 {
        return Some(Difference::Place { picture: number, shows });
    }
    (own > MOST).then_some(Difference::Content { picture: number, mean: own })
}

/// Largest difference of the means of two blocks of a picture in one colour, of 255.
fn contrast(picture: &[u8]) -> f64 {
    const ROW: usize = SHRUNK.0 * 3;
    let mut reach = [(u32::MAX, 0); 3];
    for band in picture.chunks_exact(ROW * BLOCK) {
        let mut sums = [[0u32; 3]; SHRUNK.0 / BLOCK];
        for row in band.chunks_exact(ROW) {
            for (block, pixels) in sums.iter_mut().zip(row.chunks_exact(3 * BLOCK)) {
                for pixel in pixels.chunks_exact(3) {
                    for (sum, value) in block.iter_mut().zip(pixel) {
                        *sum = sum.saturating_add(u32::from(*value));
                    }
                }
            }
        }
        for block in sums {
            for ((least, most), sum) in reach.iter_mut().zip(block) {
                (*least, *most) = ((*least).min(sum), (*most).max(sum));
            }
        }
    }
    let widest = reach.iter().map(|(least, most)| most.saturating_sub(*least)).max().unwrap_or(0);
    f64::from(widest) / (BLOCK * BLOCK) as f64
}

/// Mean absolute difference of two pictures, of 255.
fn mean(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / BYTES as f64
}

/// The next whole picture; part of one at the end counts as none.
fn next(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut picture = vec![0; BYTES];
    match reader.read_exact(&mut picture) {
        Ok(()) => Ok(Some(picture)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn rest(reader: &mut impl Read) -> io::Result<u64> {
    let mut count = 0u64;
    while next(reader)?.is_some() {
        count = count.saturating_add(1);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

    use super::*;

    /// A bar that moves over a gradient.
    fn film(places: &[usize]) -> Vec<u8> {
        places
            .iter()
            .flat_map(|place| {
                (0..BYTES)
                    .map(move |byte| if (byte / 3) % 160 / 4 == *place { 255 } else { (byte % 251) as u8 })
            })
            .collect()
    }

    fn compare(made: &[usize], expected: &[usize]) -> Result<u64, Difference> {
        pictures(&mut film(made).as_slice(), &mut film(expected).as_slice()).unwrap()
    }

    #[test]
    fn equal_films_are_equal() {
        let all: Vec<usize> = (0..30).collect();
        assert_eq!(compare(&all, &all), Ok(30));
        assert_eq!(compare(&[1; 9], &[1; 9]), Ok(9));
        assert_eq!(compare(&[], &[]), Ok(0));
    }

    #[test]
    fn every_spoilt_film_is_refused() {
        let all: Vec<usize> = (0..20).collect();
        let with = |change: &dyn Fn(&mut Vec<usize>)| {
            let mut made = all.clone();
            change(&mut made);
            compare(&made, &all).unwrap_err()
        };
        assert_eq!(
            with(&|film| {
                film.pop();
            }),
            Difference::Count { made: 19, expected: 20 }
        );
        assert_eq!(with(&|film| film.push(19)), Difference::Count { made: 21, expected: 20 });
        assert_eq!(
            with(&|film| {
                film.remove(0);
            }),
            Difference::Place { picture: 0, shows: 1 }
        );
        assert_eq!(
            with(&|film| {
                film.remove(9);
            }),
            Difference::Place { picture: 9, shows: 10 }
        );
        assert_eq!(with(&|film| film.insert(9, 8)), Difference::Place { picture: 9, shows: 8 });
        assert_eq!(with(&|film| film.swap(4, 6)), Difference::Place { picture: 4, shows: 6 });
        assert_eq!(compare(&[], &[1]), Err(Difference::Count { made: 0, expected: 1 }));
    }

    #[test]
    fn black_and_foreign_pictures_are_refused() {
        let expected = film(&[1, 2, 3]);
        let black = vec![0; expected.len()];
        let refused = pictures(&mut black.as_slice(), &mut expected.as_slice()).unwrap().unwrap_err();
        assert!(matches!(refused, Difference::Flat { picture: 0, .. }), "{refused}");
        let bright = vec![255; expected.len()];
        let foreign: Vec<u8> = expected.iter().zip(&bright).map(|(a, b)| b - a).collect();
        let refused = pictures(&mut foreign.as_slice(), &mut expected.as_slice()).unwrap().unwrap_err();
        assert!(matches!(refused, Difference::Content { picture: 0, .. }), "{refused}");
    }

    /// A picture of that brightness from left to right, with noise that is gone in larger blocks.
    fn dark(brightness: impl Fn(usize) -> usize, noise: usize) -> Vec<u8> {
        let of = |byte: usize| brightness(byte / 3 % 160).saturating_add(byte * 7919 % 13 * noise / 12);
        (0..BYTES).map(|byte| u8::try_from(of(byte)).unwrap()).collect()
    }

    #[test]
    fn a_black_picture_is_refused_in_a_dark_film_but_not_where_nothing_is_seen() {
        let black = vec![0; BYTES];
        let compare = |made: &[u8], expected: &[u8]| pictures(&mut { made }, &mut { expected }).unwrap();
        let night = dark(|x| x / 16, 6);
        let found = compare(&black, &night).unwrap_err();
        assert!(matches!(found, Difference::Flat { picture: 0, .. }), "{found}");
        assert_eq!(compare(&night, &night), Ok(1));
        // The end of a fade, noise on black, and bars above and below of nothing.
        for faded in [dark(|x| x / 40, 0), dark(|_| 2, 8), black.clone()] {
            assert_eq!(compare(&black, &faded), Ok(1));
        }
        assert_eq!(compare(&dark(|x| x / 16, 0), &night), Ok(1), "without its noise");
    }
}
