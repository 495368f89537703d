//! Whether sound and text fit into the result's container: tried, not guessed, before any GPU works for a film that could
//! not be joined. What a muxer takes differs by codec, by parameters, and from one ffmpeg to the next.

use std::path::Path;

use super::failure::{Failure, Outcome};
use super::ffmpeg::Tools;
use super::folder::Mounts;
use super::index::Index;
use super::media::{self, Media, Stream};
use super::merge::carry;
use super::merge::excerpt::Excerpt;
use super::merge::lists::Lists;
use super::merge::names::differences;
use super::merge::packets::Packets;
use super::merge::texts::{Rule, Track, tracks};
use super::ratio::seconds;
use super::refusals::{Container, refuse};

/// How much is tried, seconds: enough for what a muxer learns from packets.
const TRIED: &str = "2";

/// Muxes the beginning of all sound, as the merge will; with the subtitles where names or flags of streams are at stake.
/// What would be said otherwise of them, for people.
///
/// # Errors
/// [`crate::api::worker::Code::UnsupportedSource`] with what the muxer says.
pub fn prove_fit(
    tools: &Tools,
    mounts: &Mounts,
    source: &Path,
    name: &str,
    media: &Media,
    container: Container,
) -> Outcome<Vec<String>> {
    let of_kind = |kind: &'static str| media.streams.iter().filter(move |stream| stream.codec_type == kind);
    let mut streams: Vec<&Stream> = of_kind("audio").chain(of_kind("subtitle")).collect();
    // Matroska keeps all that it says.
    let at_stake = !(media.is_matroska() && container == Container::Mkv);
    let read_back = at_stake && streams.iter().any(|stream| stream.is_marked());
    if !read_back {
        streams.retain(|stream| stream.codec_type == "audio");
    }
    if streams.is_empty() {
        return Ok(Vec::new());
    }
    let lists = Lists::make(&mounts.scratch)?;
    let made = lists.folder().join("streams");
    let file = if read_back { made.as_path() } else { Path::new("/dev/null") };
    let mut run = tools.ffmpeg();
    run.input(source);
    for stream in &streams {
        run.args(["-map", &format!("0:{}", stream.index)]);
    }
    run.args(["-c", "copy"]);
    for (number, stream) in (0u32..).zip(&streams) {
        carry(&mut run, container, number, stream);
    }
    if container == Container::Mkv {
        run.args(["-default_mode", "passthrough"]);
    }
    run.args(["-t", TRIED, "-f", container.muxer()]);
    match run.file(file).run("try the streams in the container") {
        Err(ref failure @ Failure::Tool { ref said, .. }) if failure.is_of_content() => refuse(
            "StreamsDoNotFit",
            format!(
                "sound or subtitles of {name} do not go into {} ({said}); end the destination's name otherwise",
                container.muxer()
            ),
        ),
        Err(failure) => Err(failure),
        Ok(_) if !read_back => Ok(Vec::new()),
        Ok(_) => {
            let made = match media::read(tools, file) {
                // A file of Matroska with nothing in it cannot be read.
                Err(failure) if failure.is_of_content() => return Ok(Vec::new()),
                read => read?,
            };
            let pairs = streams.iter().zip(&made.streams);
            Ok(pairs.flat_map(|(was, is)| differences(was, is)).collect())
        }
    }
}

/// How long two texts may be shown at once, microseconds: what formats round.
const TOGETHER: i64 = 1000;

/// Converts all text that the container holds in another format only, as the merge will, and holds it against the source as
/// the merge will. MP4 shows one text at a time.
///
/// # Errors
/// [`crate::api::worker::Code::UnsupportedSource`] with what would be lost, where two are shown at once, or what the
/// converter says.
pub fn prove_texts(
    tools: &Tools,
    mounts: &Mounts,
    source: &Path,
    name: &str,
    media: &Media,
    container: Container,
    index: &Index,
) -> Outcome<()> {
    let subtitles = media.streams.iter().filter(|stream| stream.codec_type == "subtitle").enumerate();
    let (numbers, streams): (Vec<usize>, Vec<&Stream>) =
        subtitles.filter(|(_, stream)| container.converts(stream).is_some()).unzip();
    let Some(codec) = streams.first().and_then(|stream| container.converts(stream)) else { return Ok(()) };
    let otherwise = match container {
        Container::Mkv => "end the destination's name with .mp4",
        Container::Mp4 | Container::Mov => "end the destination's name with .mkv",
    };
    let excerpt = Excerpt::of(index);
    let of_source = Packets { path: source, streams: &streams, excerpt: excerpt.as_ref(), as_text: true };
    let lists = Lists::make(&mounts.scratch)?;
    let file = lists.folder().join("texts");
    let read = || -> Outcome<(Vec<Track>, Vec<Track>)> {
        let was = tracks(tools, &of_source)?;
        if was.iter().all(|track| track.times.is_empty()) {
            // A file of Matroska with nothing in it cannot be read.
            return Ok((was.clone(), was));
        }
        of_source.convert(tools, codec, container.muxer(), &file)?;
        let made: Vec<Stream> =
            (0u32..).zip(&streams).map(|(index, _)| Stream { index, ..<_>::default() }).collect();
        let streams: Vec<&Stream> = made.iter().collect();
        let made = Packets { path: &file, streams: &streams, excerpt: None, as_text: true };
        Ok((was, tracks(tools, &made)?))
    };
    let (was, is) = match read() {
        Err(ref failure @ Failure::Tool { ref said, .. }) if failure.is_of_content() => {
            let text = format!("subtitles of {name} cannot be converted; {otherwise} ({said})");
            return refuse("StreamsDoNotFit", text);
        }
        other => other?,
    };
    let together =
        streams.iter().zip(&was).find_map(|(stream, track)| Some((stream.index, together(track)?)));
    if let (Some((stream, micros)), false) = (together, container == Container::Mkv) {
        return refuse(
            "StreamsDoNotFit",
            format!(
                "subtitle stream {stream} of {name} shows two texts at once at {} s, which {} does not; {otherwise}",
                seconds(micros),
                container.muxer()
            ),
        );
    }
    let rule = Rule { as_text: true, later: 0, tolerance: 0 };
    let pairs = numbers.into_iter().zip(was.iter().zip(&is));
    match pairs.into_iter().find_map(|(number, (was, is))| rule.broken(number, was, is)) {
        Some(how) => {
            let (muxer, text) = (container.muxer(), format!("{how}; {otherwise}"));
            refuse("StreamsDoNotFit", format!("subtitles of {name} tried in {muxer}: {text}"))
        }
        None => Ok(()),
    }
}

/// When a text begins while another is still shown, microseconds.
fn together(track: &Track) -> Option<i64> {
    let mut end = i64::MIN;
    track.times.iter().find_map(|(from, lasts)| {
        let before = end;
        end = from.saturating_add(*lasts).max(end);
        (from.saturating_add(TOGETHER) < before).then_some(*from)
    })
}
