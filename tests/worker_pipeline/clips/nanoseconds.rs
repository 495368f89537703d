//! Matroska with a time base of one nanosecond, which ffmpeg reads but does not write.

/// What a byte string is in EBML: an id, eight bytes of length, the content.
fn element(id: u32, content: &[u8]) -> Vec<u8> {
    let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let length = (1 << 56 | content.len() as u64).to_be_bytes();
    [&id, &length[..], content].concat()
}

fn number(id: u32, value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

/// When picture `number` is shown, nanoseconds: at no rate, and never on a whole microsecond.
fn time(number: u64) -> u64 {
    number * 33_366_667 + number * number * 7_919 % 2_900_001
}

/// The pictures of a file of motion JPEG, each in a cluster of its own, as times within one reach 32 microseconds only.
pub fn matroska(jpeg: &[u8], size: (usize, usize)) -> Vec<u8> {
    let begins: Vec<usize> = (0..jpeg.len()).filter(|at| jpeg[*at..].starts_with(b"\xff\xd8\xff")).collect();
    let ends = begins.iter().skip(1).copied().chain([jpeg.len()]);
    let clusters = begins.iter().zip(ends).zip(0..).flat_map(|((begin, end), picture)| {
        let block = element(0xA1, &[&[0x81, 0, 0, 0], &jpeg[*begin..end]].concat());
        let lasts = number(0x9B, time(picture + 1) - time(picture));
        let group = element(0xA0, &[block, lasts].concat());
        element(0x1F43_B675, &[number(0xE7, time(picture)), group].concat())
    });
    let clusters: Vec<u8> = clusters.collect();
    let info = element(
        0x1549_A966,
        &[number(0x002A_D7B1, 1), element(0x4D80, b"test"), element(0x5741, b"test")].concat(),
    );
    let video = [number(0xB0, size.0 as u64), number(0xBA, size.1 as u64)].concat();
    let track = [
        number(0xD7, 1),
        number(0x73C5, 1),
        number(0x83, 1),
        element(0x86, b"V_MJPEG"),
        element(0xE0, &video),
    ];
    let tracks = element(0x1654_AE6B, &element(0xAE, &track.concat()));
    let head = [element(0x4282, b"matroska"), number(0x4287, 4), number(0x4285, 2)].concat();
    [element(0x1A45_DFA3, &head), element(0x1853_8067, &[info, tracks, clusters].concat())].concat()
}
