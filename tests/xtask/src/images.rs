//! The images that run on the bed: built by the repository's Containerfile from programs that cargo has built, tagged by
//! what went into them, and imported into the nodes without what these already have.

mod archive;
mod folders;
mod programs;
mod root_fs;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::bed::Layout;
use crate::progress::Progress;
pub use folders::{Folders, film_programs_of_the_machine};
pub use root_fs::FilmPrograms;
use store::Store;

pub use archive::{import, parts};
pub use programs::Programs;

/// The image that does nothing: sandboxes, and pods that only have to be there.
pub const PAUSE_IMAGE: &str = "localhost/video-upscale/pause:1";

/// Everything before an image's name.
const PREFIX: &str = "localhost/video-upscale";

/// An image of the Containerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Image {
    /// Does nothing.
    Pause,
    /// The controller.
    Controller,
    /// The node agent.
    Agent,
    /// The video work.
    Worker,
    /// The stand-in for FlashVSR.
    Engine,
    /// The stand-in for FlashVSR's weights.
    Models,
    /// Holds GPU memory.
    Hog,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Pause, Self::Controller, Self::Agent, Self::Worker, Self::Engine, Self::Models, Self::Hog];

    /// Its stage in the Containerfile, and the last part of its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Controller => "controller",
            Self::Agent => "agent",
            Self::Worker => "worker",
            Self::Engine => "engine",
            Self::Models => "models",
            Self::Hog => "hog",
        }
    }

    /// The files of the build context that go into it.
    const fn files(self) -> &'static [&'static str] {
        match self {
            Self::Pause => &["pause"],
            Self::Controller => &["upscale-controller"],
            Self::Agent => &["upscale-agent"],
            Self::Worker => &["upscale-worker"],
            Self::Engine => &["infer-video"],
            Self::Models => &["models"],
            Self::Hog => &["gpu-hog"],
        }
    }
}

/// The images as they are now.
#[derive(Clone, Debug)]
pub struct Images {
    tags: BTreeMap<Image, String>,
    layout: PathBuf,
}

impl Images {
    /// Builds what is missing or has changed.
    ///
    /// # Errors
    /// When a program or an image cannot be built.
    pub fn ensure(layout: &Layout, programs: &Programs, progress: &Progress) -> Result<Self> {
        let folder = layout.images();
        let context = folder.join("context");
        programs.collect(&layout.checkout, &context)?;
        let recipe = layout.checkout.join("Containerfile");
        let base = root_fs::name();
        let tags = tags(&recipe, &context, &base)?;
        let images = Self { tags, layout: folder.join("oci") };
        let missing = images.missing()?;
        if missing.is_empty() {
            return Ok(images);
        }
        let store = Store::new(&layout.cache, &layout.run)?;
        root_fs::ensure(&store, &layout.cache, &base, progress)?;
        for image in missing {
            let reference = images.reference(image);
            progress.say(format_args!("building image {reference}"));
            store.build(&recipe, image.name(), &format!("{PREFIX}/{base}"), &reference, &context)?;
            store.push(&reference, &images.layout)?;
        }
        let mut wanted = images.references();
        archive::keep_only(&images.layout, &wanted)?;
        wanted.push(format!("{PREFIX}/{base}"));
        store.keep_only(PREFIX, &wanted)?;
        Ok(images)
    }

    /// An image's full name.
    pub fn reference(&self, image: Image) -> String {
        format!("{PREFIX}/{}:{}", image.name(), self.tag(image))
    }

    /// An image's tag.
    pub fn tag(&self, image: Image) -> &str {
        self.tags.get(&image).map_or("none", String::as_str)
    }

    /// All full names.
    pub fn references(&self) -> Vec<String> {
        Image::ALL.iter().map(|image| self.reference(*image)).collect()
    }

    /// The folder that holds them, in the OCI image layout.
    pub fn layout(&self) -> &Path {
        &self.layout
    }

    fn missing(&self) -> Result<Vec<Image>> {
        let there = archive::references(&self.layout)?;
        Ok(Image::ALL.into_iter().filter(|image| !there.contains(&self.reference(*image))).collect())
    }
}

/// The worker image's own ffmpeg and ffprobe as programs of the host.
///
/// # Errors
/// When the image cannot be unpacked.
pub fn film_programs(layout: &Layout) -> Result<FilmPrograms> {
    root_fs::programs(&Store::new(&layout.cache, &layout.run)?, &layout.cache)
}

/// A tag for each image: the same inputs have the same tag.
fn tags(recipe: &Path, context: &Path, base: &str) -> Result<BTreeMap<Image, String>> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    let recipe = read(recipe)?;
    let mut tags = BTreeMap::new();
    for image in Image::ALL {
        let mut inputs = vec![recipe.clone(), base.as_bytes().to_vec()];
        for file in image.files() {
            inputs.push(read(&context.join(file))?);
        }
        tags.insert(image, digest(inputs));
    }
    // Manifests that need nothing but a sleeping pod name it without asking.
    if let Some((_, tag)) = PAUSE_IMAGE.rsplit_once(':') {
        tags.insert(Image::Pause, tag.to_owned());
    }
    Ok(tags)
}

/// Names a list of inputs: 12 hexadecimal digits.
pub fn digest(inputs: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut all = Sha256::new();
    for input in inputs {
        all.update(Sha256::digest(input.as_ref()));
    }
    all.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_inputs_apart_and_where_they_end() {
        assert_eq!(digest(["a", "b"]).len(), 12);
        assert_eq!(digest(["a", "b"]), digest(["a", "b"]));
        assert_ne!(digest(["a", "b"]), digest(["ab", ""]));
    }

    #[test]
    fn only_the_image_whose_program_changed_gets_a_new_tag() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("Containerfile");
        fs::write(&recipe, "FROM scratch").unwrap();
        for file in Image::ALL.iter().flat_map(|image| image.files()) {
            fs::write(folder.path().join(file), file).unwrap();
        }
        let before = tags(&recipe, folder.path(), "base").unwrap();
        fs::write(folder.path().join("upscale-worker"), "new").unwrap();
        let after = tags(&recipe, folder.path(), "base").unwrap();
        let changed: Vec<_> = Image::ALL.into_iter().filter(|image| before[image] != after[image]).collect();
        assert_eq!(changed, [Image::Worker]);
        assert_eq!(format!("{PREFIX}/pause:{}", before[&Image::Pause]), PAUSE_IMAGE);
    }
}
