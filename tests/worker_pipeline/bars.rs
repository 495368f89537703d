//! Pictures that say which they are: the number as black and white bars above, its complement below, colour patches
//! between. Bars are wide enough to survive lossy coding, colour at half size, scaling, and a spoilt border; patches
//! tell whether colours were converted by the matrix and the range that the file states.

/// Bits of a number.
const BITS: usize = 8;
/// Dark and light bars.
const DARK: u8 = 24;
/// See [`DARK`].
const LIGHT: u8 = 230;
/// How far from the middle grey a bar must be to count as read.
const CLEAR: f64 = 40.0;
/// Colours of the patches: strong, but inside every matrix and range.
const PATCHES: [[u8; 3]; 6] =
    [[190, 50, 50], [50, 170, 50], [60, 60, 190], [180, 180, 50], [50, 170, 170], [128, 128, 128]];

/// Mean colours of the patches of a picture, 0-255 each.
pub type Patches = [[f64; 3]; PATCHES.len()];

/// A picture in bytes of RGB, `size` pixels.
pub fn draw(number: u8, size: (usize, usize)) -> Vec<u8> {
    let (width, height) = size;
    let mut picture = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let bar = |number: u8| {
                let bit = BITS - 1 - x * BITS / width;
                [if number >> bit & 1 == 1 { LIGHT } else { DARK }; 3]
            };
            picture.extend(match y * 3 / height {
                0 => bar(number),
                1 => PATCHES[x * PATCHES.len() / width],
                _ => bar(!number),
            });
        }
    }
    picture
}

/// The number of a picture; what it looks like if it has none.
pub fn read(picture: &[u8], size: (usize, usize)) -> Result<u8, String> {
    let row = |third: usize| -> Result<u8, String> {
        let mut number = 0;
        for bar in 0..BITS {
            let grey = mean(picture, size, (bar, BITS), third).iter().sum::<f64>() / 3.0;
            if (grey - 127.0).abs() < CLEAR {
                return Err(format!("bar {bar} of third {third} is {grey:.0}"));
            }
            number = number << 1 | u8::from(grey > 127.0);
        }
        Ok(number)
    };
    let (above, below) = (row(0)?, row(2)?);
    if above == !below { Ok(above) } else { Err(format!("{above} above, {} below", !below)) }
}

/// The colours of a picture's patches.
pub fn patches(picture: &[u8], size: (usize, usize)) -> Patches {
    std::array::from_fn(|patch| mean(picture, size, (patch, PATCHES.len()), 1))
}

/// Mean colour of the middle of a field: number and count of the columns, and which third of the picture.
fn mean(picture: &[u8], size: (usize, usize), column: (usize, usize), third: usize) -> [f64; 3] {
    let inner = |from: usize, to: usize| from + (to - from) / 4..to - (to - from) / 4;
    let (width, height) = size;
    let columns = inner(width * column.0 / column.1, width * (column.0 + 1) / column.1);
    let rows = inner(height * third / 3, height * (third + 1) / 3);
    let count = (columns.len() * rows.len()).max(1) as f64;
    let mut sums = [0.0; 3];
    for y in rows {
        for x in columns.clone() {
            for (sum, value) in sums.iter_mut().zip(&picture[(y * width + x) * 3..]) {
                *sum += f64::from(*value);
            }
        }
    }
    sums.map(|sum| sum / count)
}

#[test]
fn numbers_read_back_and_what_is_no_number_does_not() {
    for size in [(96, 56), (128, 72), (193, 129)] {
        for number in 0..=u8::MAX {
            assert_eq!(read(&draw(number, size), size), Ok(number));
        }
    }
    let size = (128, 72);
    let picture = draw(5, size);
    let rows: Vec<&[u8]> = picture.chunks(size.0 * 3).rev().collect();
    assert_ne!(read(&rows.concat(), size), Ok(5), "upside down");
    assert!(read(&vec![127; picture.len()], size).is_err(), "grey");
    assert!(read(&vec![0; picture.len()], size).is_err(), "black");
    let blended: Vec<u8> = picture.iter().zip(draw(250, size)).map(|(a, b)| a / 2 + b / 2).collect();
    assert!(read(&blended, size).is_err(), "two at once");
    let found = patches(&picture, size);
    assert!(found.iter().zip(PATCHES).all(|(found, drawn)| *found == drawn.map(f64::from)));
}
