//! How long a segment is: short enough to keep all GPUs busy and a lost attempt cheap, long enough that loading the
//! model does not dominate, and never longer than a pod's memory holds.

use super::borders::{SceneCut, even, fixed, snapped};
use super::reads::read;
use super::{Plan, Span};
use crate::api::profile::{FrameRule, HostMemory};
use crate::api::worker::EngineInput;
use crate::profile::{Picture, frames_up};
use crate::worker::publish::human;
use crate::worker::ratio::Ratio;

/// Weight of the last wave, of stragglers and of repeated attempts: half a segment's time.
const TAIL: f64 = 0.5;
/// Fewer owned frames than this waste more on context than they gain by running side by side.
const SHORTEST: u64 = 16;
/// Most segments of a plan.
const MAX_SEGMENTS: u64 = 10_000;
/// Most frames of a read, whatever the memory.
const MAX_READ: u64 = 100_000;

/// What a plan is made of.
#[derive(Clone, Debug)]
pub struct Wishes<'a> {
    /// Digest of the index.
    pub index: &'a str,
    /// Pictures that may be read.
    pub film: u64,
    /// Those of them that are owned.
    pub owned: Span,
    /// Where scenes begin.
    pub cuts: &'a [SceneCut],
    /// Rate for the encoder.
    pub rate: Ratio,
    /// Width of the source, pixels.
    pub width: u32,
    /// Height of the source, pixels.
    pub height: u32,
    /// Upscaling factor.
    pub scale: u32,
    /// Rate factor of the parts' encoder.
    pub quality: u32,
    /// What the engine wants.
    pub engine: &'a EngineInput,
    /// How much host memory the engine takes.
    pub host_memory: HostMemory,
    /// Host memory that a pod may have, bytes.
    pub host_budget_bytes: u64,
    /// Owned frames per segment, if fixed.
    pub segment_frames: Option<u32>,
    /// GPUs to expect.
    pub gpus: u32,
    /// Fixed seconds per attempt.
    pub start_seconds: u32,
    /// Milliseconds of GPU time per million output pixels and frame.
    pub megapixel_frame_millis: u32,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A pod's memory does not hold the shortest read.
    #[error(
        "{width}x{height} at scale {scale}: {frames} frames, the fewest that can be run, need {} of host memory, a pod may have {}; use a smaller scale or nodes with more memory per GPU",
        human(*need), human(*budget)
    )]
    DoesNotFit {
        /// Width of the source.
        width: u32,
        /// Height of the source.
        height: u32,
        /// Upscaling factor.
        scale: u32,
        /// Frames of the shortest read.
        frames: u64,
        /// Bytes that it needs.
        need: u64,
        /// Bytes that a pod may have.
        budget: u64,
    },
    /// The tenant's length is more than a pod's memory holds.
    #[error(
        "segmentation.frames is {asked}, the host memory of a pod ({}) holds at most {most} owned frames; ask for fewer or leave it out",
        human(*budget)
    )]
    SegmentTooLong {
        /// Owned frames asked for.
        asked: u32,
        /// Owned frames that fit.
        most: u64,
        /// Bytes that a pod may have.
        budget: u64,
    },
    /// More segments than a plan may have.
    #[error(
        "{frames} frames in segments of at most {most} are more than 10000 segments; use nodes with more memory per GPU"
    )]
    TooMany {
        /// Pictures in the film.
        frames: u64,
        /// Owned frames that fit into a segment.
        most: u64,
    },
    /// The engine's frame rule admits nothing.
    #[error("the profile's frame rule admits no number of frames")]
    NoRule,
    /// The film has no picture.
    #[error("the film has no picture")]
    Empty,
}

/// Plans a film.
pub fn plan(wishes: &Wishes<'_>) -> Result<Plan, PlanError> {
    let owned = wishes.owned;
    let frames = owned.frames();
    if frames == 0 {
        return Err(PlanError::Empty);
    }
    let context = u64::from(wishes.engine.context_before).saturating_add(wishes.engine.context_after.into());
    let shortest = rule_up(wishes.engine.frames, context.saturating_add(1)).ok_or(PlanError::NoRule)?;
    let memory = Memory::of(wishes);
    let longest = rule_down(wishes.engine.frames, memory.most_frames());
    let whole = read(owned, wishes.film, wishes.engine).ok_or(PlanError::NoRule)?.frames();
    // A film that fits whole needs no context of its own.
    let fits_whole = longest.is_some_and(|longest| whole <= longest);
    let most = match longest {
        Some(longest) if longest >= shortest => longest.saturating_sub(context),
        _ if fits_whole => frames,
        _ => {
            let fewest = shortest.min(whole);
            return Err(PlanError::DoesNotFit {
                width: wishes.width,
                height: wishes.height,
                scale: wishes.scale,
                frames: fewest,
                need: memory.need(fewest),
                budget: wishes.host_budget_bytes,
            });
        }
    };
    let most = if fits_whole { most.max(frames) } else { most };
    let segments = match wishes.segment_frames {
        Some(asked) if u64::from(asked).min(frames) > most => {
            return Err(PlanError::SegmentTooLong { asked, most, budget: wishes.host_budget_bytes });
        }
        Some(asked) if frames.div_ceil(u64::from(asked).max(1)) <= MAX_SEGMENTS => {
            fixed(owned, u64::from(asked).max(1))
        }
        None if segment_count(wishes, context, most) <= MAX_SEGMENTS => {
            snapped(even(owned, segment_count(wishes, context, most)), wishes.cuts, most)
        }
        _ => return Err(PlanError::TooMany { frames, most }),
    };
    let reads = segments.iter().map(|owned| Some(read(*owned, wishes.film, wishes.engine)?.frames()));
    let longest_read = reads.collect::<Option<Vec<_>>>().and_then(|reads| reads.into_iter().max());
    Ok(Plan {
        v: 1,
        index: wishes.index.to_owned(),
        scale: wishes.scale,
        quality: wishes.quality,
        rate: wishes.rate,
        longest_read: longest_read.and_then(|frames| u32::try_from(frames).ok()).ok_or(PlanError::NoRule)?,
        segments,
    })
}

/// The number of segments: the length that balances start-up against the last wave, in whole waves of all GPUs, cut
/// down to `most` owned frames.
fn segment_count(wishes: &Wishes<'_>, context: u64, most: u64) -> u64 {
    let picture =
        Picture { width: wishes.width, height: wishes.height, scale: wishes.scale, pad: wishes.engine.pad };
    let gpus = u64::from(wishes.gpus.max(1));
    let megapixels = picture.output_pixels() as f64 / 1e6;
    let frame_seconds = (megapixels * f64::from(wishes.megapixel_frame_millis) / 1e3).max(1e-6);
    let frames = wishes.owned.frames();
    let share = frames as f64 / gpus as f64;
    let best =
        (share * (f64::from(wishes.start_seconds) / frame_seconds + context as f64) / TAIL).sqrt().max(1.0);
    let waves = (share / best).round().max(1.0) as u64;
    let waves_for_memory = frames.div_ceil(most.saturating_mul(gpus).max(1));
    let wanted = waves.max(waves_for_memory).saturating_mul(gpus);
    let least = frames.div_ceil(most.max(1));
    wanted.min(frames / SHORTEST).min(MAX_SEGMENTS).max(least).max(1)
}

fn rule_up(rule: FrameRule, frames: u64) -> Option<u64> {
    frames_up(rule, u32::try_from(frames).ok()?).map(u64::from)
}

/// The largest count that the rule admits and that is not above `frames`.
fn rule_down(rule: FrameRule, frames: u64) -> Option<u64> {
    let multiple = u64::try_from(rule.multiple).ok()?;
    let least = rule_up(rule, 1)?;
    let steps = frames.checked_sub(least)?.checked_div(multiple)?;
    least.checked_add(steps.checked_mul(multiple)?)
}

/// Host memory of a run: so much whatever it reads, and so much per frame.
struct Memory {
    fixed: u128,
    per_frame: u128,
    budget: u128,
}

impl Memory {
    fn of(wishes: &Wishes<'_>) -> Self {
        let picture = Picture {
            width: wishes.width,
            height: wishes.height,
            scale: wishes.scale,
            pad: wishes.engine.pad,
        };
        let host = &wishes.host_memory;
        let scaled = |bytes: i32, pixels: u128| {
            let percent = u128::try_from(host.percent).unwrap_or(0);
            u128::try_from(bytes).unwrap_or(0).saturating_mul(pixels).saturating_mul(percent) / 100
        };
        let base = u128::try_from(host.base_mib).unwrap_or(0).saturating_mul(1 << 20);
        let per_frame = scaled(host.input_pixel_frame, picture.input_pixels())
            .saturating_add(scaled(host.output_pixel_frame, picture.output_pixels()));
        Self {
            fixed: base.saturating_add(scaled(host.output_pixel, picture.output_pixels())),
            per_frame,
            budget: wishes.host_budget_bytes.into(),
        }
    }

    fn most_frames(&self) -> u64 {
        let left = self.budget.saturating_sub(self.fixed);
        let frames = left.checked_div(self.per_frame).unwrap_or(if left > 0 { u128::MAX } else { 0 });
        u64::try_from(frames).unwrap_or(u64::MAX).min(MAX_READ)
    }

    fn need(&self, frames: u64) -> u64 {
        let need = self.fixed.saturating_add(self.per_frame.saturating_mul(frames.into()));
        u64::try_from(need).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

    use super::super::reads::tests::flashvsr;
    use super::*;
    use crate::api::profile::InputKind;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn host() -> HostMemory {
        HostMemory {
            base_mib: 8192,
            output_pixel: 0,
            input_pixel_frame: 24,
            output_pixel_frame: 40,
            percent: 115,
        }
    }

    fn wishes(engine: &EngineInput) -> Wishes<'_> {
        Wishes {
            index: "x",
            film: 36_000,
            owned: Span { start: 0, end: 36_000 },
            cuts: &[],
            rate: Ratio { num: 25, den: 1 },
            width: 960,
            height: 540,
            scale: 2,
            quality: 16,
            engine,
            host_memory: host(),
            host_budget_bytes: 1 << 40,
            segment_frames: None,
            gpus: 8,
            start_seconds: 30,
            megapixel_frame_millis: 119,
        }
    }

    fn whole(frames: u64, others: Wishes<'_>) -> Wishes<'_> {
        Wishes { film: frames, owned: Span { start: 0, end: frames }, ..others }
    }

    #[test]
    fn long_films_are_cut_into_whole_waves() {
        let engine = flashvsr();
        let plan = plan(&wishes(&engine)).unwrap();
        assert_eq!(plan.segments.len(), 32);
        assert_eq!(plan.segments[0], Span { start: 0, end: 1125 });
    }

    #[test]
    fn memory_caps_what_is_read_or_refuses_with_numbers() {
        let engine = flashvsr();
        let wide = Wishes { width: 1920, height: 1080, ..wishes(&engine) };
        let capped = plan(&Wishes { host_budget_bytes: 24 * GIB, ..wide.clone() }).unwrap();
        assert_eq!(capped.longest_read, 37);
        let eight_k = plan(&Wishes { scale: 4, host_budget_bytes: 64 * GIB, ..wide.clone() }).unwrap();
        assert_eq!(eight_k.longest_read, 37);
        let refused = plan(&Wishes { scale: 4, host_budget_bytes: 32 * GIB, ..wide }).unwrap_err();
        assert!(matches!(refused, PlanError::DoesNotFit { frames: 29, .. }), "{refused:?}");
        assert!(refused.to_string().contains("32.0Gi"), "{refused}");
    }

    #[test]
    fn a_tenants_length_is_kept_or_refused() {
        let engine = flashvsr();
        let fixed = plan(&Wishes { segment_frames: Some(500), ..whole(1100, wishes(&engine)) }).unwrap();
        let lengths: Vec<u64> = fixed.segments.iter().map(|span| span.frames()).collect();
        assert_eq!(lengths, [500, 500, 100]);
        let short_of_memory =
            Wishes { segment_frames: Some(500), host_budget_bytes: 12 * GIB, ..wishes(&engine) };
        assert!(matches!(plan(&short_of_memory), Err(PlanError::SegmentTooLong { asked: 500, .. })));
        assert!(matches!(
            plan(&Wishes { segment_frames: Some(16), ..whole(200_000, wishes(&engine)) }),
            Err(PlanError::TooMany { .. })
        ));
    }

    #[test]
    fn a_range_reads_around_itself() {
        let engine = flashvsr();
        let owned = Span { start: 100, end: 160 };
        let plan = plan(&Wishes { film: 1000, owned, ..wishes(&engine) }).unwrap();
        assert_eq!(plan.segments.iter().map(|span| span.start).min(), Some(100));
        assert_eq!(plan.segments.iter().map(|span| span.end).max(), Some(160));
        let one = Wishes { film: 1000, owned, segment_frames: Some(60), ..wishes(&engine) };
        // 24 before, 4 after, 5 above a multiple of 8.
        assert_eq!(super::plan(&one).unwrap().longest_read, 93);
    }

    #[test]
    fn short_films_are_one_segment() {
        let engine = flashvsr();
        for (frames, longest) in [(1, 21), (20, 21), (22, 29), (31, 37)] {
            let plan = plan(&whole(frames, wishes(&engine))).unwrap();
            assert_eq!((plan.segments.len(), plan.longest_read), (1, longest), "{frames}");
        }
        assert_eq!(plan(&whole(0, wishes(&engine))), Err(PlanError::Empty));
    }

    proptest! {
        #[test]
        fn plans_cover_the_film_and_keep_the_cap(
            film in 1u64..400_000, start in 0u64..400_000, length in 1u64..400_000, width in 16u32..4000, height in 16u32..2200, scale in 2u32..5,
            multiple in 1i32..17, remainder in 0i32..16, minimum in 1i32..40,
            context_before in 0u32..40, context_after in 0u32..12,
            budget in 1u64..200, gpus in 0u32..64, start_seconds in 0u32..200, millis in 0u32..5000,
            segment_frames in proptest::option::of(16u32..2000),
            cuts in proptest::collection::vec((0u64..400_000, 0u16..10_001), 0..100),
        ) {
            let start = start % film;
            let whole = Span { start, end: film.min(start + length) };
            let cuts: Vec<SceneCut> =
                cuts.into_iter().map(|(frame, strength)| SceneCut { frame, strength }).collect();
            let remainder = remainder % multiple;
            let rule = FrameRule { multiple, remainder, minimum };
            let engine = EngineInput { kind: InputKind::Video, pad: 4, frames: rule, context_before, context_after };
            let wishes = Wishes {
                film, owned: whole, cuts: &cuts, width, height, scale, gpus, start_seconds, segment_frames,
                megapixel_frame_millis: millis, host_budget_bytes: budget * GIB, ..wishes(&engine)
            };
            let Ok(plan) = plan(&wishes) else { return Ok(()) };
            let mut next = whole.start;
            for owned in &plan.segments {
                prop_assert_eq!(owned.start, next);
                prop_assert!(owned.end > owned.start);
                next = owned.end;
                let read = read(*owned, film, &engine).unwrap();
                prop_assert!(read.frames() <= u64::from(plan.longest_read));
            }
            prop_assert_eq!(next, whole.end);
            prop_assert!(Memory::of(&wishes).need(plan.longest_read.into()) <= wishes.host_budget_bytes);
        }
    }
}
