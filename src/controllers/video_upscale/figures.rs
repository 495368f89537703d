//! What one pass adds to the metrics of work: read off the difference between the status as it was and as the plan records
//! it. Pure; counted once, as a status is recorded once.

use std::time::Duration;

use jiff::Timestamp;

use super::ladder::History;
use super::memory::since;
use super::plan::segments::Segments;
use super::plan::{Change, Observed, Plan};
use super::seen::SeenPod;
use super::verdict::Verdict;
use crate::api::conditions::OtherReason;
use crate::api::keys::Role;
use crate::api::video_upscale::VideoUpscaleStatus;
use crate::telemetry::{Metrics, Work};

/// What a pass adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Segments that are done now and were not.
    pub finished: Vec<Finished>,
    /// Attempts that ended without a part, and the seconds that they had a GPU.
    pub wasted: Vec<(Verdict, f64)>,
    /// Steps that segments went down, or pieces that became shorter.
    pub lowered: Vec<(OtherReason, u32)>,
    /// How long the job waited for its first segment's pod, if this pass makes it.
    pub first_wait: Option<Duration>,
}

/// A segment that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Product name of the GPU, and the scale.
    pub work: Work,
    /// Seconds that its last attempt had the GPU, where the pod still tells.
    pub seconds: Option<f64>,
    /// Frames of the source, on average of the film's segments.
    pub frames: u64,
}

/// Reads the figures off a plan.
pub fn figures(observed: &Observed, plan: &Plan, now: Timestamp) -> Figures {
    let mut figures = Figures { first_wait: first_wait(observed, plan, now), ..Figures::default() };
    let recorded = plan.changes.iter().find_map(|change| match change {
        Change::RecordStatus(status) => Some(&**status),
        _ => None,
    });
    let Some(after) = recorded else { return figures };
    let ended = || observed.pods.iter().filter(|pod| pod.role == Role::Segment && pod.ended());
    let done = |status: &VideoUpscaleStatus| Segments::parse(&status.done);
    let (before, now_done) = (done(&observed.status), done(after));
    let fresh = now_done.iter().filter(|segment| !before.contains(*segment));
    figures.finished = fresh
        .map(|segment| {
            let last = ended().filter(|pod| pod.segment == segment).max_by_key(|pod| pod.attempt);
            finished(observed, after, last)
        })
        .collect();
    let tried = |status: &VideoUpscaleStatus| -> Vec<History> {
        status.tried.iter().filter_map(|entry| entry.parse().ok()).collect()
    };
    let old = tried(&observed.status);
    for new in tried(after) {
        let old = old.iter().find(|old| old.segment == new.segment);
        let Some(verdict) = new.verdict.filter(|_| old.map_or(0, |old| old.made) < new.made) else {
            continue;
        };
        let pod =
            ended().find(|pod| pod.segment == new.segment && pod.attempt.checked_add(1) == Some(new.made));
        figures.wasted.extend(pod.and_then(gpu_seconds).map(|seconds| (verdict, seconds)));
        let step = pod.map_or(0, |pod| pod.step).max(old.map_or(0, |old| old.step));
        let steps = if pod.is_some() { new.step.saturating_sub(step) } else { 0 };
        if steps > 0 {
            let host = verdict == Verdict::HostMemory;
            figures
                .lowered
                .push((if host { OtherReason::HostMemory } else { OtherReason::GpuMemory }, steps));
        } else if new.pieces > old.map_or(1, |old| old.pieces) {
            figures.lowered.push((OtherReason::HostMemory, 1));
        }
    }
    figures
}

/// A job that has had no segment's pod yet gets one.
fn first_wait(observed: &Observed, plan: &Plan, now: Timestamp) -> Option<Duration> {
    let status = &observed.status;
    let begun = !status.done.is_empty()
        || !status.tried.is_empty()
        || observed.pods.iter().any(|pod| pod.role == Role::Segment);
    let makes = plan.changes.iter().any(|change| matches!(change, Change::CreatePod { claim: Some(_), .. }));
    (makes && !begun).then(|| since(observed.identity.created, now))
}

fn finished(observed: &Observed, status: &VideoUpscaleStatus, pod: Option<&SeenPod>) -> Finished {
    let view = pod.and_then(|pod| observed.views.get(pod.gpu.as_ref()?));
    let model = view.map_or_else(|| "unknown".to_owned(), |view| view.gpu.n.clone());
    let video = status.video.as_ref();
    let scale = video.map_or(0, |video| video.scale).to_string();
    let total = status.segments.as_ref().and_then(|segments| u64::try_from(segments.total).ok());
    let frames = video.and_then(|video| u64::try_from(video.frames).ok()).unwrap_or(0);
    Finished {
        work: [("gpu_model", model), ("scale", scale)],
        seconds: pod.and_then(gpu_seconds),
        frames: total.and_then(|total| frames.checked_div(total)).unwrap_or(0),
    }
}

/// Seconds from the start of a pod's first container to the end of its last init container, the engine.
fn gpu_seconds(pod: &SeenPod) -> Option<f64> {
    let containers = || pod.pod.status.init_container_statuses.iter().flatten();
    let ends = || containers().filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    let start = ends().filter_map(|end| end.started_at.as_ref()).map(|time| time.0).min()?;
    let end = ends().filter_map(|end| end.finished_at.as_ref()).map(|time| time.0).max()?;
    Some(since(start, end).as_secs_f64())
}

impl Figures {
    /// Adds them.
    pub fn count(self, metrics: &Metrics) {
        for Finished { work, seconds, frames } in self.finished {
            if let Some(seconds) = seconds {
                metrics.segment_seconds.get_or_create(&work).observe(seconds);
            }
            metrics.frames.get_or_create(&work).inc_by(frames);
        }
        for (verdict, seconds) in self.wasted {
            metrics.wasted_gpu_seconds.get_or_create(&[("cause", verdict.as_str())]).inc_by(seconds);
        }
        for (kind, steps) in self.lowered {
            metrics.degrade_steps.get_or_create(&[("kind", kind.as_str())]).inc_by(u64::from(steps));
        }
        if let Some(wait) = self.first_wait {
            metrics.queue_wait.observe(wait.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::plan::fixtures::*;
    use super::super::plan::plan;
    use super::*;
    use crate::api::quantity::GIB;
    use crate::fleet::demand::Outlook;

    /// A job of eight segments and 480 frames that runs at step 2.
    fn running() -> Observed {
        let mut observed = probed(json!({}));
        observed.fleet.largest_gpu = Some(12 * GIB);
        observed.outlook = Some(Outlook { effective_step: Some(2), ..Outlook::default() });
        let told = plan(&observed, at(2));
        step(&mut observed, told);
        observed
    }

    #[test]
    fn a_finished_segment_is_counted_once_with_its_gpu_and_frames() {
        let mut observed = running();
        let mut status = succeeded();
        status["initContainerStatuses"][0]["state"]["terminated"]["startedAt"] = json!(at(1).to_string());
        observed.pods.push(segment(&observed, 3, 0, &status));
        observed.views.insert("GPU-1".into(), crowded(1));
        let awaits_others = plan(&observed, at(30));
        assert_eq!(figures(&observed, &awaits_others, at(30)), Figures::default(), "not recorded yet");
        step(&mut observed, awaits_others);
        let done = plan(&observed, at(41));
        let counted = figures(&observed, &done, at(41));
        let work = [("gpu_model", "L40S".to_owned()), ("scale", "2".to_owned())];
        assert_eq!(counted.finished, [Finished { work, seconds: Some(4.0), frames: 60 }]);
        assert_eq!((counted.wasted.len(), counted.lowered.len()), (0, 0));
        step(&mut observed, done);
        let again = plan(&observed, at(60));
        assert_eq!(figures(&observed, &again, at(60)), Figures::default());
    }

    #[test]
    fn an_end_without_a_part_costs_its_seconds_and_its_steps() {
        let mut observed = running();
        for (number, gpu, text) in
            [(0, "GPU-1", out_of_memory(9.0, 10.0, 0.0)), (1, "GPU-2", out_of_memory(2.0, 2.0, 9.5))]
        {
            let mut status = engine_failed(&text);
            status["initContainerStatuses"][0]["state"]["terminated"]["startedAt"] = json!(at(1).to_string());
            let mut pod = segment(&observed, number, 0, &status);
            pod.gpu = Some(gpu.to_owned());
            observed.pods.push(pod);
            observed.claims.push(claim(&observed.identity.key.clone(), number, 0, gpu));
        }
        observed.views.insert("GPU-2".into(), crowded(9));
        let judged = plan(&observed, at(20));
        let counted = figures(&observed, &judged, at(20));
        assert_eq!(counted.wasted, [(Verdict::OwnDemand, 9.0), (Verdict::ForeignProcess, 9.0)]);
        assert_eq!(counted.lowered, [(OtherReason::GpuMemory, 1)]);
        assert!(counted.finished.is_empty());
        step(&mut observed, judged);
        let again = plan(&observed, at(21));
        assert_eq!(figures(&observed, &again, at(21)), Figures::default());
    }

    #[test]
    fn the_first_pod_ends_the_wait_and_no_other_does() {
        let mut observed = running();
        observed.claims.push(claim(&observed.identity.key.clone(), 0, 0, "GPU-1"));
        let makes = plan(&observed, at(50));
        assert!(kinds(&makes).contains(&"create"));
        // Made at -10.
        assert_eq!(figures(&observed, &makes, at(50)).first_wait, Some(Duration::from_secs(60)));
        observed.pods.push(segment(&observed, 0, 0, &working()));
        observed.claims.push(claim(&observed.identity.key.clone(), 1, 0, "GPU-2"));
        let makes = plan(&observed, at(51));
        assert!(kinds(&makes).contains(&"create"));
        assert_eq!(figures(&observed, &makes, at(51)).first_wait, None);
    }

    #[test]
    fn figures_reach_the_metrics() {
        let telemetry = crate::telemetry::Telemetry::new();
        let work = [("gpu_model", "L40S".to_owned()), ("scale", "2".to_owned())];
        Figures {
            finished: vec![Finished { work, seconds: Some(20.0), frames: 60 }],
            wasted: vec![(Verdict::OwnDemand, 1.5)],
            lowered: vec![(OtherReason::GpuMemory, 2)],
            first_wait: Some(Duration::from_secs(3)),
        }
        .count(&telemetry.metrics);
        let text = telemetry.exposition().unwrap();
        for line in [
            r#"upscale_frames_total{gpu_model="L40S",scale="2"} 60"#,
            r#"upscale_segment_duration_seconds_count{gpu_model="L40S",scale="2"} 1"#,
            r#"upscale_wasted_gpu_seconds_total{cause="OwnDemand"} 1.5"#,
            r#"upscale_degrade_steps_total{kind="GpuMemory"} 2"#,
            "upscale_queue_wait_seconds_sum 3.0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
