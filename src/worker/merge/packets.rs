//! Packets of the source's other streams and of the result's: what is in them, and when they come.

use std::path::Path;

use super::excerpt::Excerpt;
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::{Invocation, Tools};
use crate::worker::media::Stream;
use crate::worker::ratio::Ratio;

/// Time base of text that ffmpeg has converted.
pub const TEXT_BASE: Ratio = Ratio { num: 1, den: 1_000_000 };

/// Streams of a file, and the range of it that counts.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its streams, by which packets are numbered from 0.
    pub streams: &'a [&'a Stream],
    /// The range; `None` for the whole file.
    pub excerpt: Option<&'a Excerpt>,
    /// Whether they are read as bare text, whatever format it is in.
    pub as_text: bool,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which of the streams it is of.
    pub stream: usize,
    /// When it comes, microseconds.
    pub micros: i64,
    /// How long it lasts, microseconds; 0 if unsaid.
    pub lasts: i64,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its hash.
    pub hash: String,
}

impl Packets<'_> {
    /// SHA-256 of all packets of each stream.
    pub fn digests(&self, tools: &Tools, purpose: &'static str) -> Outcome<Vec<String>> {
        let mut run = self.copy(tools);
        run.args(["-f", "streamhash", "-hash", "sha256", "pipe:1"]);
        let mut hashes = Vec::new();
        run.lines(purpose, |line| {
            hashes.extend(line.split_once('=').map(|(_, hash)| hash.to_owned()));
            true
        })?;
        Ok(hashes)
    }

    /// Hands out every packet with the time that the file states; of each stream of sound only the first if `first`.
    pub fn each(
        &self,
        tools: &Tools,
        purpose: &'static str,
        first: bool,
        mut take: impl FnMut(Packet),
    ) -> Outcome<()> {
        let mut run = self.copy(tools);
        if first {
            run.args(["-frames:a", "1"]);
        }
        run.hashes().args(["pipe:1"]);
        let mut bases = vec![None; self.streams.len()];
        run.lines(purpose, |line| {
            if let Some((stream, base)) = base(line) {
                if let Some(place) = bases.get_mut(stream) {
                    *place = Some(base);
                }
            } else if let Some(packet) = packet(line, &bases) {
                take(packet);
            }
            true
        })?;
        Ok(())
    }

    /// Writes them to a file, made into that codec.
    pub fn convert(&self, tools: &Tools, codec: &str, muxer: &str, target: &Path) -> Outcome<()> {
        let mut run = self.made_into(tools, codec);
        run.args(["-f", muxer]).file(target);
        run.run("convert the subtitles").map(|_| ())
    }

    /// The streams as they are, or as bare text.
    fn copy(&self, tools: &Tools) -> Invocation {
        self.made_into(tools, if self.as_text { "text" } else { "copy" })
    }

    /// The streams in a codec, each with the filters that make packets of two files comparable.
    fn made_into(&self, tools: &Tools, codec: &str) -> Invocation {
        let mut run = tools.ffmpeg();
        run.args(["-copyts"]).input(self.path);
        for stream in self.streams {
            run.args(["-map", &format!("0:{}", stream.index)]);
        }
        run.args(["-c", codec]);
        if let Some(excerpt) = self.excerpt {
            run.args(["-t", &format!("{}us", excerpt.start_micros().saturating_add(excerpt.read_micros()))]);
        }
        for (number, stream) in (0u32..).zip(self.streams) {
            let base = if self.as_text { Some(TEXT_BASE) } else { stream.base() };
            let chosen = self.excerpt.and_then(|excerpt| excerpt.filter(stream, base?, false));
            // AAC of broadcasts has a header in front of every packet, which no file format keeps; others pass as they are.
            let bare = (stream.codec() == "aac").then(|| "aac_adtstoasc".to_owned());
            let filters: Vec<String> = chosen.into_iter().chain(bare).collect();
            if !filters.is_empty() {
                run.args([&format!("-bsf:{number}"), &filters.join(",")]);
            }
        }
        run
    }
}

/// The time base of a stream: `#tb 0: 1/48000`.
fn base(line: &str) -> Option<(usize, Ratio)> {
    let (stream, base) = line.strip_prefix("#tb ")?.split_once(": ")?;
    Some((stream.parse().ok()?, base.trim().parse().ok()?))
}

/// A packet: stream, decoding time, time, duration, size, hash.
fn packet(line: &str, bases: &[Option<Ratio>]) -> Option<Packet> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split(',').map(str::trim);
    let stream: usize = fields.next()?.parse().ok()?;
    // The least number stands for a packet without a time.
    let time: i64 = fields.nth(1)?.parse().ok().filter(|time| *time != i64::MIN)?;
    let lasts = fields.next()?.parse().unwrap_or(0);
    let bytes = fields.next()?.parse().ok()?;
    let hash = fields.next()?.to_owned();
    let base = bases.get(stream).copied().flatten()?;
    Some(Packet { stream, micros: base.micros(time), lasts: base.micros(lasts), bytes, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_with_their_times() {
        assert_eq!(base("#tb 1: 1/1000").unwrap(), (1, "1/1000".parse().unwrap()));
        assert_eq!(base("#media_type 1: audio"), None);
        let bases = [None, Some("1/1000".parse().unwrap())];
        let found = packet("1,       40,       41,     1000,       12, 0aff", &bases).unwrap();
        let hash = "0aff".to_owned();
        assert_eq!(found, Packet { stream: 1, micros: 41_000, lasts: 1_000_000, bytes: 12, hash });
        for line in [
            "#tb 1: 1/1000",
            "0, 0, 0, 1, 1, ff",
            "2, 0, 0, 1, 1, ff",
            "1, 0, -9223372036854775808, 1, 1, ff",
            "1, 0",
            "",
        ] {
            assert_eq!(packet(line, &bases), None, "{line}");
        }
    }
}
