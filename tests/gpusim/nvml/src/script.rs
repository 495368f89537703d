//! The script of this moment, and how often each of its rules has been asked.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gpusim::driver::folder;
use gpusim::script::{Act, END, FILE, LOG, Rule, Script, Twist};

use crate::abi::Code;

/// The script as it was read last.
#[derive(Debug, Default)]
struct Playing {
    text: String,
    script: Option<Script>,
    /// Calls that each rule was about, by its position.
    asked: BTreeMap<usize, u32>,
    /// Times that the list of each GPU has grown.
    grown: BTreeMap<u32, u32>,
}

static PLAYING: Mutex<Option<Playing>> = Mutex::new(None);

/// The script, if there is one; counters begin anew with each change of the file.
fn playing() -> MutexGuard<'static, Option<Playing>> {
    let mut playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(text) = fs::read_to_string(folder().join(FILE)) else {
        *playing = None;
        return playing;
    };
    if playing.as_ref().is_none_or(|known| known.text != text) {
        let script = Script::parse(&text);
        if let Err(error) = &script {
            eprintln!("gpusim: {}: {error}", folder().join(FILE).display());
        }
        *playing = Some(Playing { text, script: script.ok(), ..Playing::default() });
    }
    playing
}

/// Notes a call about the GPU of index `gpu`, and waits as the script says; the code that is its answer, if it is not
/// the driver's. A script that cannot be read is [`Code::Unknown`] for every call.
pub fn interfere(call: &str, gpu: Option<u32>) -> Option<c_int> {
    let act = {
        let mut playing = playing();
        let playing = playing.as_mut()?;
        let Some(script) = &playing.script else { return Some(Code::Unknown as c_int) };
        if script.log {
            log(call);
        }
        let about = script.rules.iter().enumerate().find(|(_, rule)| rule.is_about(call, gpu));
        about.and_then(|(at, rule)| {
            let asked = playing.asked.entry(at).or_default();
            let number = *asked;
            *asked = number.saturating_add(1);
            rule.at(number)
        })
    };
    match act? {
        Act::Code(code) => Some(code),
        Act::Hang(millis) => {
            hang(Duration::from_millis(millis));
            None
        }
    }
}

/// Waits as the script says of the end of this process.
pub fn at_end() {
    let rule = read(|script| script.rules.iter().find(|rule| rule.call == END).cloned()).flatten();
    if let Some(Rule { act: Act::Hang(millis), .. }) = rule {
        hang(Duration::from_millis(millis));
    }
}

#[expect(clippy::disallowed_methods, reason = "a call that hangs waits for nothing")]
fn hang(time: Duration) {
    std::thread::sleep(time);
}

fn log(call: &str) {
    let file = OpenOptions::new().create(true).append(true).open(folder().join(LOG));
    if let Err(error) = file.and_then(|mut file| file.write_all(format!("{call}\n").as_bytes())) {
        eprintln!("gpusim: log of calls: {error}");
    }
}

/// What the script says, if there is one.
fn read<T>(get: impl FnOnce(&Script) -> T) -> Option<T> {
    playing().as_ref().and_then(|playing| playing.script.as_ref()).map(get)
}

/// What the GPU of index `gpu` says of itself.
pub fn twist(gpu: u32) -> Twist {
    read(|script| script.gpus.get(&gpu).cloned()).flatten().unwrap_or_default()
}

/// Work of the call `call`.
pub fn cost(call: &str) -> Duration {
    let micros = read(|script| script.costs.get(call).copied()).flatten().unwrap_or_default();
    Duration::from_micros(micros)
}

/// Whether GPUs are counted from the last to the first.
pub fn is_reversed() -> bool {
    read(|script| script.reversed).unwrap_or_default()
}

/// Whether confidential computing is on.
pub fn is_confidential() -> bool {
    read(|script| script.confidential).unwrap_or_default()
}

/// Whether entries of `_v3` lists have 32 bytes.
pub fn has_wide_entries() -> bool {
    read(|script| script.wide_entries).unwrap_or_default()
}

/// How many entries the list of the GPU of index `gpu` has grown by, this call included.
pub fn growth(gpu: u32) -> u32 {
    let growth = twist(gpu).growth;
    let mut playing = playing();
    let Some(playing) = playing.as_mut() else { return 0 };
    let grown = playing.grown.entry(gpu).or_default();
    *grown = grown.saturating_add(1).min(growth.times);
    grown.saturating_mul(growth.by)
}
