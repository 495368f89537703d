//! Films of other kinds than the demo's, through the whole operator: codec, container and rate as tenants bring them.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::Client;
use serde_json::json;
use video_upscale::api::conditions::{ConditionType, find};

use super::tenant::Tenant;
use crate::bed::Bed;
use crate::demo::film::Film;
use crate::images::FilmPrograms;
use crate::job::{Job, manifest, summary};

/// Longest one film may take.
const LIMIT: Duration = Duration::from_secs(180);
/// How many times as large the films become.
const SCALE: u32 = 2;
/// Length of the films.
const SECONDS: u32 = 2;

/// A kind of film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    codec: Codec,
    container: &'static str,
    rate: Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    H264,
    Hevc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rate {
    Constant,
    Varying,
}

/// Every kind once; H.264 in MP4 at a constant rate is the demo's own.
pub const KINDS: [Kind; 4] = [
    Kind { codec: Codec::H264, container: "mkv", rate: Rate::Varying },
    Kind { codec: Codec::H264, container: "mp4", rate: Rate::Varying },
    Kind { codec: Codec::Hevc, container: "mkv", rate: Rate::Constant },
    Kind { codec: Codec::Hevc, container: "mp4", rate: Rate::Varying },
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}_{:?}_rate_in_{}", self.codec, self.rate, self.container)
    }
}

impl Kind {
    /// The first seconds of `film` as a film of this kind; the sound is copied.
    pub fn make(self, programs: &FilmPrograms, film: &Path, seconds: u32, target: &Path) -> Result<()> {
        let mut command = Command::new(&programs.ffmpeg);
        command.args(["-v", "error", "-nostdin", "-y", "-i"]).arg(film);
        command.args(["-t", &seconds.to_string(), "-c:a", "copy"]);
        match self.codec {
            Codec::H264 => command.args(["-c:v", "libx264"]),
            Codec::Hevc => {
                command.args(["-c:v", "libx265", "-x265-params", "log-level=error", "-tag:v", "hvc1"])
            }
        };
        if self.rate == Rate::Varying {
            // Every fourth picture and one of every seven are shown longer.
            command.args(["-vf", "select='mod(n,4)*mod(n+1,7)'", "-fps_mode", "vfr"]);
        }
        let output = command.arg(target).output().context("start ffmpeg")?;
        ensure!(
            output.status.success(),
            "make {}: {}",
            target.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// Upscales one film of the kind and compares each picture's time, the size and the sound with the source.
pub async fn run(bed: &Bed, client: &Client, kind: &Kind) -> Result<()> {
    let namespace = format!("film-{kind}").to_lowercase().replace('_', "-");
    Tenant::leave(bed, client, &namespace).await?;
    let tenant = Tenant::arrive(bed, client.clone(), &namespace).await?;
    let outcome = upscale(&bed.film_programs()?, &tenant, *kind).await;
    let left = Tenant::leave(bed, client, &namespace).await;
    outcome.and(left)
}

async fn upscale(programs: &FilmPrograms, tenant: &Tenant, kind: Kind) -> Result<()> {
    let (from, to) = (format!("in.{}", kind.container), format!("out.{}", kind.container));
    let path = tenant.volume().join(&from);
    kind.make(programs, tenant.film(), SECONDS, &path)?;
    let source = Film::decode(programs, &path)?;
    let spec = json!({"scale": SCALE, "encode": {"preset": "Fast"}});
    let manifest = manifest("film", "media", &from, &to, spec);
    let job = Job::create(&tenant.client, &tenant.namespace, &manifest).await?;
    let ended = job.wait_for_end(LIMIT).await?;
    let status = ended.status.unwrap_or_default();
    let complete = find(&status.conditions, ConditionType::Complete);
    ensure!(complete.is_some_and(|c| c.status == "True"), "the job has failed: {}", summary(&status));
    source.verify_upscaled(&Film::decode(programs, &tenant.volume().join(&to))?, SCALE)
}
