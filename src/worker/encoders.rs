//! Whether this ffmpeg can encode what a job will need, tried on one picture while no GPU waits for it.

use super::cut;
use super::failure::{Failure, Outcome};
use super::ffmpeg::Tools;
use super::finish::Encoder;
use crate::api::profile::InputKind;
use crate::api::worker::Code;

/// Encodes a picture as the engine's input and one as a part.
///
/// # Errors
/// [`Code::Internal`] with what ffmpeg said.
pub fn prove_encoders(tools: &Tools, input: InputKind, part: &Encoder) -> Outcome<()> {
    let mut run = tools.ffmpeg();
    run.args(["-f", "lavfi", "-i", "color=c=gray:s=128x128:r=25"]);
    for options in [cut::encoder(input), part.options(tools.threads())] {
        run.args(["-map", "0:v", "-frames:v", "1"]).args(options).args(["-f", "null", "pipe:1"]);
    }
    run.run("try the encoders").map(|_| ()).map_err(|failure| {
        Failure::stop(Code::Internal, format!("this ffmpeg cannot encode as {}: {failure}", part.described()))
    })
}
