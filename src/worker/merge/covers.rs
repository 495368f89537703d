//! Pictures on the cover of a Matroska file: attached files there, which ffmpeg shows as streams of video. Copied as
//! streams they would become films, so they are taken out and attached again.

use std::path::{Path, PathBuf};

use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::{Invocation, Tools};
use crate::worker::media::Stream;
use crate::worker::refusals::attached_as;

/// Covers as files of their own.
#[derive(Debug, Default)]
pub struct Covers {
    files: Vec<Cover>,
}

#[derive(Debug)]
struct Cover {
    file: PathBuf,
    mime: &'static str,
    name: String,
}

impl Covers {
    /// Takes `covers` out of the source, bit for bit, into `folder`. Those of a kind that Matroska does not know as a
    /// cover have been refused before.
    pub fn take(tools: &Tools, source: &Path, folder: &Path, covers: &[&Stream]) -> Outcome<Self> {
        let mut files = Vec::new();
        for stream in covers {
            let Some((mime, usual)) = attached_as(stream.codec()) else { continue };
            let file = folder.join(format!("cover-{}", stream.index));
            let mut run = tools.ffmpeg();
            run.input(source).args(["-map", &format!("0:{}", stream.index), "-c", "copy", "-frames:v", "1"]);
            run.args(["-f", "image2pipe"]).file(&file);
            run.run("take out the cover")?;
            files.push(Cover { file, mime, name: stream.tag("filename").unwrap_or(usual).to_owned() });
        }
        Ok(Self { files })
    }

    /// Attaches them behind the attachments among `copied`.
    pub fn attach(&self, run: &mut Invocation, copied: &[&Stream]) {
        let before = copied.iter().filter(|stream| stream.codec_type == "attachment").count();
        for (number, cover) in (before..).zip(&self.files) {
            run.args(["-attach"]).args([&cover.file]);
            run.args([&format!("-metadata:s:t:{number}"), &format!("mimetype={}", cover.mime)]);
            run.args([&format!("-metadata:s:t:{number}"), &format!("filename={}", cover.name)]);
        }
    }
}
