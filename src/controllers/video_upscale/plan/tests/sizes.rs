//! The size of the status at its worst.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::super::fixtures::*;
use super::super::segments::Segments;
use super::super::size::{self, MOST_BYTES, MOST_TRIED};
use super::super::*;
use crate::api::video_upscale::{OutOfMemory, OutOfMemoryEnd, SegmentCounts};
use crate::controllers::video_upscale::ladder::{Flags, History};

const SEGMENTS: u32 = 10_000;

/// A history of which every field is as long as it can be; the step is the ladder's last.
fn longest(segment: u32) -> History {
    History {
        segment,
        made: History::MOST_MADE,
        counted: History::MOST_COUNTED,
        step: 9,
        pieces: 4,
        flags: Flags {
            fragmentation_env: true,
            least_context: true,
            more_memory: true,
            last_unknown: false,
            largest_card: true,
        },
        verdict: Some(Verdict::ForeignProcess),
    }
}

/// A job of ten thousand segments of which nobody has kept a text short.
fn worst(done: &Segments, failed: &Segments, tried: Vec<String>) -> Observed {
    let mut observed = probed(json!({"parallelism": 1024, "attemptsPerSegment": 20}));
    let status = &mut observed.status;
    status.segments = Some(SegmentCounts { total: 10_000, ..SegmentCounts::default() });
    status.done = done.to_string();
    status.failed = failed.to_string();
    status.tried = tried;
    let wide = |letters: usize| "\u{1F3AC}".repeat(letters);
    status.video.as_mut().unwrap().warnings = vec![wide(200); 10];
    let end = OutOfMemoryEnd {
        time: status::whole_seconds(at(0)),
        segment: 9_999,
        attempt: 99_999,
        node: "n".repeat(253),
        gpu: "g".repeat(96),
        verdict: "ForeignProcess".into(),
        needed: "1024.1Gi".into(),
        free: "1024.1Gi".into(),
        foreign: "1024.1Gi".into(),
        who: wide(200),
        from: wide(100),
        to: wide(100),
    };
    status.out_of_memory = Some(OutOfMemory { count: i32::MAX, recent: vec![end; 10] });
    for condition in &mut status.conditions {
        condition.message = wide(300);
    }
    observed.memory.refused = Some((at(1_000_000), wide(300)));
    observed.memory.unwritten = Some(at(-1000));
    observed
}

fn json_bytes(status: &VideoUpscaleStatus) -> usize {
    serde_json::to_vec(status).unwrap().len()
}

/// Plans, and answers what is written and how often until nothing is.
fn written(mut observed: Observed) -> VideoUpscaleStatus {
    let first = plan(&observed, at(100));
    step(&mut observed, first);
    assert_eq!(kinds(&plan(&observed, at(101))), Vec::<&str>::new(), "what was cut stays cut");
    observed.status
}

/// Each case is ten thousand segments, so there are fewer than of other properties.
#[test]
fn a_status_fits_whatever_became_of_ten_thousand_segments() {
    let config = ProptestConfig::default();
    let config = ProptestConfig { cases: config.cases.div_ceil(25), ..config };
    let fates = proptest::collection::vec(0u8..8, SEGMENTS as usize);
    TestRunner::new(config)
        .run(&(fates, 1u8..8, 0u32..=SEGMENTS), |(fates, kinds_of_end, reached)| {
            fits(&fates, kinds_of_end, reached)
        })
        .unwrap();
}

fn fits(fates: &[u8], kinds_of_end: u8, reached: u32) -> Result<(), TestCaseError> {
    let (mut done, mut failed) = (Segments::default(), Segments::default());
    let mut open = Vec::new();
    let all: Vec<(u32, &u8)> = (0..reached).zip(fates).collect();
    // Each pass begins what there is room for, and the job goes no further while there is none.
    for pass in all.chunks(100) {
        let room = size::room(&done, &failed).saturating_sub(open.len()).min(pass.len());
        for (segment, fate) in &pass[..room] {
            match *fate % kinds_of_end {
                0 => done.insert(*segment),
                1 | 2 => failed.insert(*segment),
                _ => open.push(longest(*segment)),
            }
        }
        if room < pass.len() {
            break;
        }
    }
    let given_up = failed.iter().map(longest).chain(open.iter().cloned());
    let all = given_up.map(|history| (history.segment, history)).collect();
    let tried = size::tried(&all, &failed);
    prop_assert!(tried.len() <= MOST_TRIED);
    let status = written(worst(&done, &failed, tried));
    prop_assert!(json_bytes(&status) <= MOST_BYTES, "{} bytes", json_bytes(&status));
    prop_assert!(status.tried.len() <= MOST_TRIED && status.tried.iter().all(|entry| entry.len() <= 40));
    prop_assert_eq!((status.done, status.failed), (done.to_string(), failed.to_string()));
    for history in &open {
        prop_assert!(status.tried.contains(&history.to_string()), "{history} is needed");
    }
    Ok(())
}

#[test]
fn alternate_ends_leave_room_for_those_that_are_open() {
    let done: Segments = (0..9_000).filter(|segment| segment % 2 == 0).collect();
    let failed: Segments = (0..9_000).filter(|segment| segment % 2 == 1).collect();
    let room = size::room(&done, &failed);
    assert!((90..MOST_TRIED).contains(&room), "{room}");
    let mut observed = worst(&done, &failed, (9_000..9_090).map(|n| longest(n).to_string()).collect());
    observed.memory.refused = None;
    let asked = plan(&observed, at(100)).demand.unwrap();
    assert!(asked.wanted.len() <= room, "{} of {room}", asked.wanted.len());
    assert!(asked.wanted.len() >= 90);
}

#[test]
fn given_up_segments_leave_no_trace_that_the_schema_refuses_and_are_forgiven_without() {
    let failed: Segments = (0..2_000).collect();
    let tried = (0..2_000).map(|segment| longest(segment).to_string()).collect();
    let mut observed = worst(&Segments::default(), &failed, tried);
    let given_up = plan(&observed, at(100));
    assert!(recorded(&given_up).unwrap().tried.len() <= MOST_TRIED);
    step(&mut observed, given_up);

    observed.status.tried.clear();
    observed.pods = vec![segment(&observed, 7, 5, &prepare_failed(crate::api::worker::Code::GpuBusy))];
    observed.identity.retry_failed = Some("1".into());
    observed.memory.refused = None;
    let again = plan(&observed, at(200));
    let status = recorded(&again).unwrap();
    assert_eq!((status.failed.as_str(), status.tried.as_slice()), ("", &["7:6/0/2/1//".to_owned()][..]));
    let wanted = &again.demand.as_ref().unwrap().wanted;
    assert_eq!(
        (wanted[0].segment, wanted[0].attempt),
        (7, 6),
        "the number of the pod that is there is used up"
    );
}
