//! The maker of clips: real files by ffmpeg, each picture with its number.

pub mod films;
pub mod nanoseconds;
pub mod refused;

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::bars;
use crate::bench::Bench;

/// A clip to be made. Where nothing else is said: 36 pictures of 96x56 at 25 a second, numbered from 0.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// Its file name.
    pub name: &'static str,
    /// Arguments of ffmpeg, words by blanks. `FILM` stands for the pictures as an input, `TONE` for a tone of the same
    /// length (`TONE+1.5`, `TONE-0.3`: so many seconds longer or shorter), `TEXT`, `CHAPTERS`, `FONT` and `COVER` for
    /// paths of small files, `START` for the time of the first picture that is to be shown.
    how: &'static str,
    /// What is done to it afterwards.
    then: &'static [Step],
    /// Pictures that are to be shown.
    pub frames: u32,
    /// Pictures before them.
    pub hidden: u32,
    /// Pictures a second, as ffmpeg takes it.
    pub rate: &'static str,
    size: (usize, usize),
}

/// A change to a file.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// ffmpeg once more, with words as above; `IN` stands for the file so far.
    Again(&'static str),
    /// The same pictures made otherwise and appended, byte by byte.
    Append(&'static str),
    /// Only so many percent of the bytes stay.
    Keep(usize),
    /// The first so many percent of a transport stream's packets are lost.
    Lose(usize),
    /// A hundredth of the bytes, at so many percent, is overwritten.
    Damage(usize),
}

impl Clip {
    /// A clip with what is usual.
    pub const fn new(name: &'static str, how: &'static str) -> Self {
        Self { name, how, then: &[], frames: 36, hidden: 0, rate: "25", size: (96, 56) }
    }

    /// With so many pictures.
    pub const fn frames(self, frames: u32) -> Self {
        Self { frames, ..self }
    }

    /// With so many pictures before the first that is to be shown.
    pub const fn hidden(self, hidden: u32) -> Self {
        Self { hidden, ..self }
    }

    /// At that rate, as ffmpeg takes it.
    pub const fn rate(self, rate: &'static str) -> Self {
        Self { rate, ..self }
    }

    /// Of that size, pixels.
    pub const fn size(self, width: usize, height: usize) -> Self {
        Self { size: (width, height), ..self }
    }

    /// Changed afterwards.
    pub const fn then(self, then: &'static [Step]) -> Self {
        Self { then, ..self }
    }

    /// Makes it on the source claim.
    pub fn make(&self, bench: &Bench) {
        let path = bench.source(self.name);
        // Formats are known by the endings of names, so the stages keep the ending.
        let stage = |number: usize| bench.root().join(format!("{number}-{}", self.name));
        self.run(bench, self.how, None, &stage(0));
        let mut last = 0;
        for step in self.then {
            match *step {
                Step::Again(how) => {
                    self.run(bench, how, Some(&stage(last).to_string_lossy()), &stage(last + 1));
                    last += 1;
                }
                Step::Append(how) => {
                    let other = stage(last + 1);
                    self.run(bench, how, None, &other);
                    change(&stage(last), |bytes| bytes.extend(std::fs::read(&other).unwrap()));
                }
                Step::Keep(percent) => {
                    change(&stage(last), |bytes| bytes.truncate(bytes.len() * percent / 100))
                }
                Step::Lose(percent) => change(&stage(last), |bytes| {
                    bytes.drain(..bytes.len() * percent / 100 / TRANSPORT_PACKET * TRANSPORT_PACKET);
                }),
                Step::Damage(percent) => change(&stage(last), |bytes| {
                    let at = bytes.len() * percent / 100;
                    let end = at + bytes.len() / 100;
                    for (place, byte) in (0u8..=u8::MAX).cycle().zip(&mut bytes[at..end]) {
                        *byte ^= place | 1;
                    }
                }),
            }
        }
        std::fs::rename(stage(last), path).unwrap();
    }

    fn run(&self, bench: &Bench, how: &str, input: Option<&str>, output: &Path) {
        let mut command = Command::new(&bench.ffmpeg);
        command.args(["-nostdin", "-y", "-v", "error"]);
        for word in how.split_whitespace() {
            command.args(self.arguments(bench, word, input));
        }
        let mut child = command.arg(output).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        if how.contains("FILM") {
            for number in 0..self.hidden + self.frames {
                match pipe.write_all(&bars::draw(u8::try_from(number).unwrap(), self.size)) {
                    // It has had enough, or says below why it ended.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                    written => written.unwrap(),
                }
            }
        }
        drop(pipe);
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{}: {command:?}: {said}", self.name);
    }

    fn arguments(&self, bench: &Bench, word: &str, input: Option<&str>) -> Vec<String> {
        let file = |name: &str| bench.root().join(name).to_string_lossy().into_owned();
        let written = |name: &str, text: &str| {
            std::fs::write(bench.root().join(name), text).unwrap();
            vec![file(name)]
        };
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match word {
            "FILM" => {
                let size = format!("{}x{}", self.size.0, self.size.1);
                owned(&["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", &size, "-framerate", self.rate])
                    .into_iter()
                    .chain(owned(&["-i", "pipe:0"]))
                    .collect()
            }
            "IN" => owned(&[input.unwrap()]),
            "START" => vec![format!("{:.6}", f64::from(self.hidden) / self.per_second())],
            "TEXT" => written("text.srt", SUBTITLES),
            "CHAPTERS" => written("chapters.txt", CHAPTERS),
            "FONT" => written("font.ttf", "not really a font"),
            "COVER" => {
                let picture = "-f lavfi -i color=c=orange:s=64x64:d=1 -frames:v 1";
                let args = picture.split_whitespace().map(str::to_owned);
                bench.ffmpeg(&args.chain([file("cover.jpg")]).collect::<Vec<_>>());
                vec![file("cover.jpg")]
            }
            _ => match word.strip_prefix("TONE") {
                Some(more) => {
                    let more = if more.is_empty() { 0.0 } else { more.parse::<f64>().unwrap() };
                    let seconds = (f64::from(self.hidden + self.frames) / self.per_second() + more).max(0.1);
                    owned(&["-f", "lavfi", "-i", &format!("sine=f=440:r=48000:d={seconds:.3}")])
                }
                None => owned(&[word]),
            },
        }
    }

    /// Pictures a second.
    fn per_second(&self) -> f64 {
        let (over, under) = self.rate.split_once('/').unwrap_or((self.rate, "1"));
        over.parse::<f64>().unwrap() / under.parse::<f64>().unwrap()
    }
}

/// Changes the bytes of a file.
fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    how(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Bytes of a packet of a transport stream.
const TRANSPORT_PACKET: usize = 188;
/// Subtitles.
const SUBTITLES: &str =
    "1\n00:00:00,000 --> 00:00:00,030\nHello\n\n2\n00:00:00,030 --> 00:00:00,040\nWorld\n";
/// Two chapters.
const CHAPTERS: &str = ";FFMETADATA1\ntitle=A film\nartist=Somebody\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=20\n\
                        title=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=20\nEND=40\ntitle=Two\n";
