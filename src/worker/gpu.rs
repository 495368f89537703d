//! The promised GPU: proved to be the only one visible, and to have the memory free, before the engine starts.
//!
//! NVML runs on its own thread, because a sick driver does not answer at all.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::failure::{Failure, Outcome};
use super::publish::human;
use crate::api::worker::{Code, PrepareFigures, PromisedGpu};

/// How long the driver may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two looks at the free memory.
const PAUSE: Duration = Duration::from_secs(1);
/// How many looks before giving up, and how many while the memory still rises.
const LOOKS: u32 = 20;
/// See [`LOOKS`].
const LOOKS_RISING: u32 = 60;
/// Most UUIDs that are told.
const MAX_TOLD: u32 = 8;

/// What the driver says of the visible GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Visible {
    count: u32,
    uuids: Vec<String>,
    partitioned: bool,
}

/// Free and total bytes.
type Memory = (u64, u64);

enum Question {
    Visible,
    Memory,
}

enum Answer {
    Visible(Result<Visible, NvmlError>),
    Memory(Result<Memory, NvmlError>),
}

/// The driver, on its own thread.
#[derive(Debug)]
pub struct Driver {
    ask: Sender<Question>,
    answers: Receiver<Answer>,
}

impl Driver {
    /// Loads the library from `path`, or by its usual name.
    pub fn start(path: Option<&Path>) -> Self {
        let (ask, questions) = channel();
        let (tell, answers) = channel();
        let path = path.map(Path::to_owned);
        std::thread::spawn(move || {
            let library = path.as_deref().unwrap_or(Path::new("libnvidia-ml.so.1"));
            let nvml = Nvml::builder().lib_path(library.as_os_str()).init();
            for question in questions {
                let answer = match (&nvml, question) {
                    (Ok(nvml), Question::Visible) => Answer::Visible(visible(nvml)),
                    (Ok(nvml), Question::Memory) => Answer::Memory(memory(nvml)),
                    (Err(error), Question::Visible) => Answer::Visible(Err(same(error))),
                    (Err(error), Question::Memory) => Answer::Memory(Err(same(error))),
                };
                if tell.send(answer).is_err() {
                    return;
                }
            }
        });
        Self { ask, answers }
    }

    fn ask(&self, question: Question) -> Outcome<Answer> {
        // A thread that is gone answers nothing, which the next line tells.
        let _ = self.ask.send(question);
        self.answers.recv_timeout(ANSWER).map_err(|error| {
            let how = match error {
                RecvTimeoutError::Timeout => "did not answer in 10 s",
                RecvTimeoutError::Disconnected => "broke off",
            };
            Failure::stop(Code::GpuFault, format!("the NVIDIA driver {how}"))
        })
    }

    /// Proves that exactly the promised GPU is visible; notes what is.
    ///
    /// # Errors
    /// [`Code::PinIgnored`] if none or several are, [`Code::GpuMismatch`] if it is another one,
    /// [`Code::GpuFault`] if the driver does not answer as it should.
    pub fn prove_identity(&self, promised: &PromisedGpu, figures: &mut PrepareFigures) -> Outcome<()> {
        figures.need_bytes = promised.need_bytes;
        let Answer::Visible(visible) = self.ask(Question::Visible)? else {
            return Err(Failure::stop(Code::Internal, "the driver answered another question"));
        };
        if let Ok(visible) = &visible {
            figures.visible.clone_from(&visible.uuids);
        }
        judge(visible, &promised.uuid)
    }

    /// Waits until the promised memory is free: 20 s, and up to 60 s while it still rises.
    ///
    /// # Errors
    /// [`Code::GpuBusy`] if it is not, [`Code::GpuFault`] if the driver does not answer as it should.
    pub fn wait_for_memory(&self, promised: &PromisedGpu, figures: &mut PrepareFigures) -> Outcome<()> {
        let mut wait = Wait::default();
        loop {
            let Answer::Memory(memory) = self.ask(Question::Memory)? else {
                return Err(Failure::stop(Code::Internal, "the driver answered another question"));
            };
            let (free, total) = memory.map_err(|error| fault(&error))?;
            figures.free_bytes = Some(free);
            figures.total_bytes = Some(total);
            if free >= promised.need_bytes {
                return Ok(());
            }
            if !wait.goes_on(free) {
                return Err(Failure::stop(
                    Code::GpuBusy,
                    format!(
                        "{} of {} are free on {}, {} are needed; waited {} s",
                        human(free),
                        human(total),
                        promised.uuid,
                        human(promised.need_bytes),
                        wait.looks
                    ),
                ));
            }
            pause();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing announces freed memory; the driver must be asked again"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// How long one waits for memory.
#[derive(Debug, Default)]
struct Wait {
    looks: u32,
    before: Option<u64>,
    /// Look at which it rose last.
    rose: u32,
}

impl Wait {
    /// Whether to look again after having seen `free`.
    fn goes_on(&mut self, free: u64) -> bool {
        self.looks = self.looks.saturating_add(1);
        if self.before.is_some_and(|before| free > before) {
            self.rose = self.looks;
        }
        self.before = Some(free);
        let rising = self.rose > 0 && self.looks.saturating_sub(self.rose) < 5;
        self.looks < LOOKS || (rising && self.looks < LOOKS_RISING)
    }
}

fn visible(nvml: &Nvml) -> Result<Visible, NvmlError> {
    let count = nvml.device_count()?;
    let mut uuids = Vec::new();
    let mut partitioned = false;
    for number in 0..count.min(MAX_TOLD) {
        let device = nvml.device_by_index(number)?;
        uuids.push(device.uuid()?);
        // Cards without the feature say NotSupported.
        partitioned |= device.mig_mode().is_ok_and(|mode| mode.current != 0);
    }
    Ok(Visible { count, uuids, partitioned })
}

fn memory(nvml: &Nvml) -> Result<Memory, NvmlError> {
    let info = nvml.device_by_index(0)?.memory_info()?;
    Ok((info.free, info.total))
}

/// Judges what is visible. Pure.
fn judge(visible: Result<Visible, NvmlError>, promised: &str) -> Outcome<()> {
    let pin = |text: String| Err(Failure::stop(Code::PinIgnored, text));
    let visible = match visible {
        Ok(visible) => visible,
        Err(NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound) => {
            return pin(format!(
                "no GPU is visible: libnvidia-ml.so.1 was not found; {promised} was promised; check the runtime class"
            ));
        }
        Err(error) => return Err(fault(&error)),
    };
    match (visible.count, visible.uuids.as_slice()) {
        (1, [only]) if same_uuid(only, promised) && visible.partitioned => {
            Err(Failure::stop(Code::GpuFault, format!("{promised} is split by MIG")))
        }
        (1, [only]) if same_uuid(only, promised) => Ok(()),
        (1, [other]) => {
            Err(Failure::stop(Code::GpuMismatch, format!("{other} is visible, {promised} was promised")))
        }
        (0, _) => pin(format!("no GPU is visible, {promised} was promised; check the runtime class")),
        (count, _) => {
            pin(format!("{count} GPUs are visible, only {promised} was promised; check the runtime class"))
        }
    }
}

fn same_uuid(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn fault(error: &NvmlError) -> Failure {
    Failure::stop(Code::GpuFault, format!("the NVIDIA driver says: {error}"))
}

/// The error again; the library's own cannot be cloned.
fn same(error: &NvmlError) -> NvmlError {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => NvmlError::LibraryNotFound,
        NvmlError::DriverNotLoaded => NvmlError::DriverNotLoaded,
        NvmlError::NoPermission => NvmlError::NoPermission,
        NvmlError::LibRmVersionMismatch => NvmlError::LibRmVersionMismatch,
        NvmlError::GpuLost => NvmlError::GpuLost,
        _ => NvmlError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uuids: &[&str]) -> Result<Visible, NvmlError> {
        Ok(Visible {
            count: u32::try_from(uuids.len()).unwrap(),
            uuids: uuids.iter().map(|uuid| (*uuid).to_owned()).collect(),
            partitioned: false,
        })
    }

    #[test]
    fn only_the_promised_gpu_may_be_visible() {
        assert!(judge(seen(&["GPU-aa"]), "gpu-AA").is_ok());
        for (visible, code) in [
            (seen(&["GPU-bb"]), Code::GpuMismatch),
            (seen(&[]), Code::PinIgnored),
            (seen(&["GPU-aa", "GPU-bb"]), Code::PinIgnored),
            (Err(NvmlError::LibraryNotFound), Code::PinIgnored),
            (Err(NvmlError::DriverNotLoaded), Code::GpuFault),
            (Err(NvmlError::GpuLost), Code::GpuFault),
            (Ok(Visible { count: 1, uuids: vec!["GPU-aa".to_owned()], partitioned: true }), Code::GpuFault),
        ] {
            assert_eq!(judge(visible, "GPU-aa").unwrap_err().code(), code);
        }
    }

    #[test]
    fn a_missing_library_is_an_ignored_pin() {
        let driver = Driver::start(Some(Path::new("/no/such/library.so")));
        let promised = PromisedGpu { uuid: "GPU-aa".to_owned(), need_bytes: 1 };
        let mut figures = PrepareFigures::default();
        assert_eq!(driver.prove_identity(&promised, &mut figures).unwrap_err().code(), Code::PinIgnored);
        assert_eq!(figures.need_bytes, 1);
    }

    #[test]
    fn one_waits_longer_while_memory_rises() {
        let looks = |free: fn(u32) -> u64| {
            let mut wait = Wait::default();
            while wait.goes_on(free(wait.looks)) {}
            wait.looks
        };
        assert_eq!(looks(|_| 5), LOOKS);
        assert_eq!(looks(u64::from), LOOKS_RISING);
        assert_eq!(looks(|look| u64::from(look.min(25))), 31);
    }
}
