//! Whether the sound fits into the result's container: tried, not guessed, before any GPU works for a film that could not be
//! joined. What a muxer takes differs by codec, by parameters, and from one ffmpeg to the next.

use std::path::Path;

use super::failure::{Failure, Outcome};
use super::ffmpeg::Tools;
use super::media::Media;
use super::refusals::{Container, refuse};

/// How much is tried, seconds: enough for what a muxer learns from packets.
const TRIED: &str = "2";

/// Muxes the beginning of all sound, as the merge will, into nothing.
///
/// # Errors
/// [`crate::api::worker::Code::UnsupportedSource`] with what the muxer says.
pub fn prove_fit(
    tools: &Tools,
    source: &Path,
    name: &str,
    media: &Media,
    container: Container,
) -> Outcome<()> {
    if media.streams.iter().all(|stream| stream.codec_type != "audio") {
        return Ok(());
    }
    let mut run = tools.ffmpeg();
    run.input(source).args(["-map", "0:a", "-c", "copy", "-t", TRIED, "-f", container.muxer()]);
    match run.file(Path::new("/dev/null")).run("try the sound in the container") {
        Err(Failure::Tool { said, .. }) => refuse(
            "StreamsDoNotFit",
            format!(
                "the sound of {name} does not go into {} ({said}); end the destination's name otherwise",
                container.muxer()
            ),
        ),
        other => other.map(|_| ()),
    }
}
