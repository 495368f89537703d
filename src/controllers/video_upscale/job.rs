//! A `VideoUpscale` read once: identity and wishes as checked values. Nothing behind this door looks at the spec
//! again, and nothing in it can be out of range.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::keys;
use crate::api::quantity;
use crate::api::video_upscale::{
    Codec, Consistency, DegradationPolicy, IfExists, VideoUpscale, VideoUpscaleSpec,
};
use crate::api::worker::{Encode, EncodeCodec, Source, Verify};
use crate::fleet::claim::JobKey;
use crate::fleet::demand::GpuRequirements;

/// Largest duration in a spec, microseconds: 1,000 hours.
const MAX_RANGE_US: u64 = 3_600_000_000_000;

/// What the tenant wants, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Claim of the film.
    pub source_claim: String,
    /// Where the film is and how it is read.
    pub source: Source,
    /// Claim of the result.
    pub destination_claim: String,
    /// Path of the result.
    pub destination: String,
    /// Whether an existing result is replaced.
    pub overwrite: bool,
    /// Scale, if named.
    pub scale: Option<u32>,
    /// First instant, microseconds.
    pub start_us: Option<u64>,
    /// How much, microseconds.
    pub length_us: Option<u64>,
    /// Profile, if named.
    pub profile: Option<String>,
    /// Best step allowed, if named.
    pub first_step: Option<u32>,
    /// Smallest step allowed, if named.
    pub last_step: Option<u32>,
    /// Whether steps may be lowered.
    pub policy: DegradationPolicy,
    /// How long a card that fits is waited for.
    pub patience: Duration,
    /// Whether all segments must have one step.
    pub uniform: bool,
    /// Owned frames per segment, if named.
    pub segment_frames: Option<u32>,
    /// How the result is encoded.
    pub encode: Encode,
    /// How it is verified.
    pub verify: Verify,
    /// Which GPUs.
    pub gpu: GpuRequirements,
    /// Segments at once.
    pub parallelism: u32,
    /// Attempts of a segment that count.
    pub attempts: u32,
    /// Time after which the job fails.
    pub deadline: Option<Duration>,
    /// Time after its end at which it is deleted.
    pub ttl: Option<Duration>,
    /// Whether it is stopped.
    pub suspend: bool,
}

/// Why a spec cannot be read although the API server admitted it: an object of an older schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} cannot be read; delete this VideoUpscale and create another")]
pub struct Invalid {
    /// Field of the spec.
    pub field: &'static str,
    /// What stands there, cut.
    pub value: String,
}

/// Facts of the object beside its spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Namespace, name, UID.
    pub key: JobKey,
    /// Generation of the spec.
    pub generation: i64,
    /// Version of the object as read.
    pub resource_version: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is paused by annotation.
    pub paused: bool,
    /// Value of the annotation `retry-failed`, cut.
    pub retry_failed: Option<String>,
}

impl Identity {
    /// Reads the metadata; `None` for an object that no API server sends: without name, namespace, UID or version.
    pub fn of(object: &VideoUpscale) -> Option<Self> {
        let meta = &object.metadata;
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
        Some(Self {
            key: JobKey {
                namespace: meta.namespace.clone()?,
                name: meta.name.clone()?,
                uid: meta.uid.clone()?,
            },
            generation: meta.generation.unwrap_or(0),
            resource_version: meta.resource_version.clone()?,
            created: meta.creation_timestamp.as_ref()?.0,
            deleting: meta.deletion_timestamp.is_some(),
            paused: annotation(keys::PAUSED).is_some_and(|value| value != "false"),
            retry_failed: annotation(keys::RETRY_FAILED).map(|value| value.chars().take(64).collect()),
        })
    }
}

impl Job {
    /// Reads a spec.
    ///
    /// # Errors
    /// If a value is outside what the schema admits.
    pub fn read(spec: &VideoUpscaleSpec) -> Result<Self, Invalid> {
        let range = spec.range.clone().unwrap_or_default();
        let steps = spec.steps.unwrap_or_default();
        let number = |field, value: i32| u32::try_from(value).map_err(|_| invalid(field, value));
        let optional = |field, value: Option<i32>| value.map(|value| number(field, value)).transpose();
        let bytes = |field, text: &str| quantity::parse(text).ok_or_else(|| invalid(field, text));
        let seconds = |field, value: Option<i64>| {
            value
                .map(|value| u64::try_from(value).map(Duration::from_secs).map_err(|_| invalid(field, value)))
                .transpose()
        };
        Ok(Self {
            source_claim: spec.source.claim.name.clone(),
            source: Source {
                path: path("source.path", &spec.source.path)?,
                video_stream: optional("input.videoStream", spec.input.video_stream)?,
                deinterlace: spec.input.deinterlace,
                drop_alpha: spec.input.drop_alpha,
                strict: spec.input.strict,
            },
            destination_claim: spec.destination.claim.name.clone(),
            destination: path("destination.path", &spec.destination.path)?,
            overwrite: spec.destination.if_exists == IfExists::Overwrite,
            scale: optional("scale", spec.scale)?,
            start_us: micros("range.start", range.start.as_deref())?,
            length_us: micros("range.length", range.length.as_deref())?,
            profile: spec.profile.clone(),
            first_step: optional("steps.first", steps.first)?,
            last_step: optional("steps.last", steps.last)?,
            policy: spec.degradation.policy,
            patience: Duration::from_secs(
                number("degradation.patienceSeconds", spec.degradation.patience_seconds)?.into(),
            ),
            uniform: spec.degradation.consistency == Consistency::Uniform,
            segment_frames: optional("segmentation.frames", spec.segmentation.frames)?,
            encode: Encode {
                codec: spec.encode.codec.map(|codec| match codec {
                    Codec::H264 => EncodeCodec::H264,
                    Codec::HEVC => EncodeCodec::Hevc,
                }),
                quality: number("encode.quality", spec.encode.quality)?,
                preset: spec.encode.preset,
            },
            verify: spec.verify,
            gpu: GpuRequirements {
                node_selector: spec.gpu.node_selector.clone(),
                products: spec.gpu.products.clone(),
                min_free_bytes: match spec.gpu.min_free_memory.as_deref() {
                    Some(text) => bytes("gpu.minFreeMemory", text)?,
                    None => 0,
                },
                headroom_bytes: bytes("gpu.headroom", &spec.gpu.headroom)?,
                foreign: spec.gpu.foreign_processes,
            },
            parallelism: number("parallelism", spec.parallelism)?.clamp(1, 1024),
            attempts: number("attemptsPerSegment", spec.attempts_per_segment)?.clamp(1, 20),
            deadline: seconds("activeDeadlineSeconds", spec.active_deadline_seconds)?,
            ttl: seconds("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished)?,
            suspend: spec.suspend,
        })
    }
}

fn invalid(field: &'static str, value: impl std::fmt::Display) -> Invalid {
    Invalid { field, value: value.to_string().chars().take(80).collect() }
}

/// A path below a volume: relative, without empty, `.` or `..` parts.
fn path(field: &'static str, text: &str) -> Result<String, Invalid> {
    let sound = (1..=1024).contains(&text.len())
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if sound { Ok(text.to_owned()) } else { Err(invalid(field, text)) }
}

fn micros(field: &'static str, text: Option<&str>) -> Result<Option<u64>, Invalid> {
    text.map(|text| parse_micros(text).ok_or_else(|| invalid(field, text))).transpose()
}

/// Reads `90s`, `1h2m`, `12.5s`: hours, minutes, seconds in this order, each at most once, seconds with up to six
/// decimals.
fn parse_micros(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    for (unit, micros) in [('h', 3_600_000_000u64), ('m', 60_000_000), ('s', 1_000_000)] {
        let Some((number, after)) = rest.split_once(unit) else { continue };
        let (whole, decimals) = match number.split_once('.') {
            Some((whole, decimals)) if unit == 's' => (whole, decimals),
            Some(_) => return None,
            None => (number, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 6 {
            return None;
        }
        if number.ends_with('.') {
            return None;
        }
        let fraction = format!("{decimals:0<6}").parse::<u64>().ok()?;
        total = total.checked_add(whole.parse::<u64>().ok()?.checked_mul(micros)?)?.checked_add(fraction)?;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty() && total <= MAX_RANGE_US).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(extra: &str) -> VideoUpscaleSpec {
        let text = format!(
            r#"{{"source":{{"claim":{{"name":"media"}},"path":"in/a.mp4"}},
                "destination":{{"claim":{{"name":"media"}},"path":"out/a.mp4"}}{extra}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_smallest_manifest_gets_the_documented_defaults() {
        let job = Job::read(&spec("")).unwrap();
        assert_eq!((job.parallelism, job.attempts, job.patience.as_secs()), (8, 6, 60));
        assert_eq!((job.gpu.headroom_bytes, job.gpu.min_free_bytes), (quantity::GIB, 0));
        assert_eq!((job.encode.quality, job.overwrite, job.uniform, job.suspend), (16, false, false, false));
    }

    #[test]
    fn values_outside_the_schema_are_named() {
        for (extra, field) in [
            (r#","scale":-2"#, "scale"),
            (r#","range":{"start":"later"}"#, "range.start"),
            (r#","gpu":{"headroom":"1G"}"#, "gpu.headroom"),
            (r#","activeDeadlineSeconds":-1"#, "activeDeadlineSeconds"),
        ] {
            assert_eq!(Job::read(&spec(extra)).unwrap_err().field, field);
        }
        let mut climbs = spec("");
        climbs.destination.path = "a/../../b.mp4".into();
        assert_eq!(Job::read(&climbs).unwrap_err().field, "destination.path");
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, micros) in [
            ("90s", Some(90_000_000)),
            ("1h2m", Some(3_720_000_000)),
            ("12.5s", Some(12_500_000)),
            ("1h0.000001s", Some(3_600_000_001)),
            ("", None),
            ("s", None),
            ("1.5m", None),
            ("5", None),
            ("1s2m", None),
            ("12.s", None),
            ("-1s", None),
            ("9999h", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse_micros(text), micros, "{text}");
        }
    }
}
