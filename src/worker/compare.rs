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

/// Output options of a film that goes into [`films`].
pub const RAW: [&str; 6] = ["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1", "-an"];

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
    /// A picture is like none.
    #[error("picture {picture} differs from the source by {mean:.1} of 255, more than {MOST}")]
    Content {
        /// Its number.
        picture: u64,
        /// Mean difference.
        mean: f64,
    },
}

/// Runs two ffmpegs that write shrunk raw pictures and compares what they write.
///
/// # Errors
/// `code` with the difference, or the failure of a program.
pub fn films(made: &Invocation, expected: &Invocation, code: Code, what: &str) -> Outcome<u64> {
    let mut of_made = made.start("read what was made", |_| false)?;
    let mut of_expected = expected.start("read what was expected", |_| false)?;
    let (Some(a), Some(b)) = (of_made.take_output(), of_expected.take_output()) else {
        return Err(Failure::stop(Code::Internal, "a program without output"));
    };
    let compared = pictures(a, b).map_err(|error| of_made.broken(&error))?;
    let differs = |text: &dyn std::fmt::Display| Failure::stop(code, format!("{what}: {text}"));
    let count = match compared {
        Ok(count) => count,
        Err(difference) => return Err(differs(&difference)),
    };
    of_expected.wait()?;
    let said = of_made.wait().map_err(|failure| differs(&failure))?;
    if said.lines > 0 {
        return Err(differs(&format!("it does not decode cleanly: {}", said.summary())));
    }
    Ok(count)
}

/// Compares two streams of shrunk pictures; how many there are.
pub fn pictures(made: impl Read, expected: impl Read) -> io::Result<Result<u64, Difference>> {
    let (mut made, mut expected) = (made, expected);
    // Pictures of the other film around the place: `first` is the number of the front.
    let mut around: VecDeque<Vec<u8>> = VecDeque::new();
    let (mut first, mut read, mut ended) = (0u64, 0u64, false);
    let mut number = 0u64;
    let reach = u64::try_from(AROUND).unwrap_or(0);
    loop {
        while !ended && read <= number.saturating_add(reach) {
            match next(&mut expected)? {
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
        let Some(picture) = next(&mut made)? else { break };
        if number >= read {
            let more = rest(&mut made)?;
            let made = number.saturating_add(1).saturating_add(more);
            return Ok(Err(Difference::Count { made, expected: read }));
        }
        if let Some(difference) = misplaced(&picture, number, &around, first) {
            return Ok(Err(difference));
        }
        number = number.saturating_add(1);
    }
    let total = read.saturating_add(rest(&mut expected)?);
    Ok(if total == number { Ok(number) } else { Err(Difference::Count { made: number, expected: total }) })
}

fn misplaced(picture: &[u8], number: u64, around: &VecDeque<Vec<u8>>, first: u64) -> Option<Difference> {
    let means: Vec<(u64, f64)> =
        (first..).zip(around).map(|(place, other)| (place, mean(picture, other))).collect();
    let own = means.iter().find(|(place, _)| *place == number)?.1;
    let (shows, best) = means.into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    if shows != number && best < own * NEARER.0 - NEARER.1 {
        return Some(Difference::Place { picture: number, shows });
    }
    (own > MOST).then_some(Difference::Content { picture: number, mean: own })
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
        pictures(film(made).as_slice(), film(expected).as_slice()).unwrap()
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
        let refused = pictures(black.as_slice(), expected.as_slice()).unwrap().unwrap_err();
        assert!(matches!(refused, Difference::Content { picture: 0, .. }), "{refused}");
    }
}
