//! One run of the worker: which stage, and how its end is told: exit code and termination message.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use serde::de::DeserializeOwned;

use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::{Children, Tools};
use super::finish::finish;
use super::folder::Mounts;
use super::lines::printable;
use super::merge::merge;
use super::prepare::prepare;
use super::probe::probe;
use crate::api::worker::{
    Code, End, FinishTask, MAX_MESSAGE_BYTES, MergeTask, PrepareFigures, PrepareTask, ProbeTask, VERSION,
};

/// Longest message, characters.
const MESSAGE: usize = 300;

/// What the worker is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Index and plan a film.
    Probe,
    /// Check the GPU and cut a segment.
    Prepare,
    /// Check the engine's output and encode a part.
    Finish,
    /// Join the parts and publish the result.
    Merge,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Setup {
    /// ffmpeg, by path or on PATH.
    pub ffmpeg: PathBuf,
    /// ffprobe, of the same build.
    pub ffprobe: PathBuf,
    /// Threads per codec and filter.
    pub threads: u32,
    /// NVML's library, if not by its usual name.
    pub nvml: Option<PathBuf>,
    /// The mounts.
    pub mounts: Mounts,
    /// The children, for whoever ends the worker.
    pub children: Children,
}

/// An end without figures.
pub fn end(code: Code, message: &str) -> End {
    let message = printable(message, MESSAGE);
    End { v: VERSION, code, message, probe: None, prepare: None, finish: None, merge: None, redo: Vec::new() }
}

/// Runs a stage with its task as JSON.
pub fn run(stage: Stage, task: &str, setup: &Setup) -> End {
    let started = now();
    let tools = || Tools::find(&setup.ffmpeg, &setup.ffprobe, setup.threads, setup.children.clone());
    let mounts = &setup.mounts;
    let mut told = end(Code::Done, "done");
    let outcome = match stage {
        Stage::Probe => parse::<ProbeTask>(task, |task| task.v).and_then(|task| {
            let figures = probe(&tools()?, mounts, &task, clock())?;
            told.message = format!("{} pictures in {} segments", figures.frames, figures.segments);
            told.probe = Some(figures);
            Ok(())
        }),
        Stage::Prepare => parse::<PrepareTask>(task, |task| task.v).and_then(|task| {
            let mut figures = PrepareFigures::default();
            let outcome =
                tools().and_then(|tools| prepare(&tools, mounts, setup.nvml.as_deref(), &task, &mut figures));
            figures.millis = millis_since(started);
            told.prepare = Some(figures);
            outcome
        }),
        Stage::Finish => parse::<FinishTask>(task, |task| task.v).and_then(|task| {
            let mut figures = finish(&tools()?, mounts, &task)?;
            figures.millis = millis_since(started);
            told.message = format!("{} pictures encoded", figures.frames);
            told.finish = Some(figures);
            Ok(())
        }),
        Stage::Merge => parse::<MergeTask>(task, |task| task.v).and_then(|task| {
            let figures = merge(&tools()?, mounts, &task, &mut told.redo)?;
            told.message = format!("{} pictures published", figures.frames);
            told.merge = Some(figures);
            Ok(())
        }),
    };
    if let Err(failure) = outcome {
        told.code = failure.code();
        told.message = printable(&failure.to_string(), MESSAGE);
    }
    told
}

fn parse<T: DeserializeOwned>(task: &str, version: impl Fn(&T) -> u32) -> Outcome<T> {
    let parsed: T = serde_json::from_str(task)
        .map_err(|error| Failure::stop(Code::Usage, format!("the task cannot be read: {error}")))?;
    match version(&parsed) {
        VERSION => Ok(parsed),
        other => Err(Failure::stop(
            Code::Usage,
            format!(
                "the task is of version {other}, this worker knows {VERSION}; controller and worker differ"
            ),
        )),
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge: wall time of a stage, for its figures")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the edge: age of work folders")]
fn clock() -> SystemTime {
    SystemTime::now()
}

fn millis_since(started: Instant) -> u64 {
    u64::try_from(now().saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX)
}

/// Writes the termination message.
pub fn tell(path: &Path, end: &End) -> Outcome<()> {
    std::fs::write(path, message(end)).map_err(on_file("write", path))
}

/// The message, at most [`MAX_MESSAGE_BYTES`] long: warnings go first, then words.
pub fn message(end: &End) -> String {
    let mut end = end.clone();
    loop {
        let text = serde_json::to_string(&end).unwrap_or_default();
        if text.len() <= MAX_MESSAGE_BYTES {
            return text;
        }
        let warning = end.probe.as_mut().and_then(|probe| probe.warnings.pop());
        if warning.is_none() {
            let half = end.message.chars().count() / 2;
            end.message = end.message.chars().take(half).collect();
            end.probe = end.probe.filter(|_| half > 0);
            end.prepare = end.prepare.filter(|_| half > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::worker::ProbeFigures;

    #[test]
    fn messages_fit_and_read_back() {
        let mut told = end(Code::Done, &"\u{1F3AC}".repeat(1000));
        told.probe = Some(ProbeFigures {
            segments: 1,
            frames: 1,
            longest_read: 21,
            longest_owned: 1,
            width: 2,
            height: 2,
            scale: 2,
            frame_rate: "25/1".to_owned(),
            codec: "h264".to_owned(),
            duration_ms: 40,
            warnings: vec!["\u{1F3AC}".repeat(120); 10],
        });
        let text = message(&told);
        assert!(text.len() <= MAX_MESSAGE_BYTES && text.len() > MAX_MESSAGE_BYTES / 2);
        let back = End::parse(&text).unwrap();
        assert_eq!(back.probe.unwrap().segments, 1);
    }

    #[test]
    fn tasks_of_other_versions_are_refused() {
        #[derive(serde::Deserialize)]
        struct Task {
            v: u32,
        }
        let parse = |text| parse::<Task>(text, |task| task.v).map(|_| ()).map_err(|error| error.code());
        assert_eq!(parse(r#"{"v":1}"#), Ok(()));
        assert_eq!(parse(r#"{"v":2}"#), Err(Code::Usage));
        assert_eq!(parse("x"), Err(Code::Usage));
    }
}
