//! Waits for Xid events on a thread of its own, since the wait blocks.
//!
//! One set holds every GPU that has such events. A wait fails for the whole set when one of its GPUs fails, so the set
//! is then made anew with those that still answer, and only the others go unheard.

mod hearing;

use std::collections::BTreeSet;
use std::sync::mpsc::{SendError, Sender};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;

use self::hearing::{Found, Hearing};
use crate::clock::Clock;
use crate::health::XidEvent;

/// Longest wait in the driver.
const WAIT: Duration = Duration::from_secs(5);
const WAIT_MS: u32 = 5_000;
/// Waits without an event after which a set that lacks a GPU is made anew: less than the minute that a GPU counts as
/// unheard for, so that there is no gap.
const WAITS: u32 = 10;
/// Pause after a wait that ended early.
const PAUSE_AFTER_EARLY: Duration = Duration::from_secs(1);
/// Pause where no GPU can be heard, so that a broken driver is not asked in a tight loop.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts listening, until the value it returns is dropped, or the receiver is. Nobody listens to a library that lacks
/// a call for it: such a driver has no events.
pub fn listen(nvml: &'static Nvml, clock: Clock, xids: Sender<XidEvent>) -> std::io::Result<Arc<()>> {
    let wanted = Arc::new(());
    if has_events(nvml) {
        let listener =
            Listener { nvml, clock, xids, wanted: Arc::downgrade(&wanted), hearing: Hearing::default() };
        thread::Builder::new().name("xid".to_owned()).spawn(move || drop(listener.run()))?;
    }
    Ok(wanted)
}

/// Without the call that frees a set the bindings panic, without the one that waits there is nothing to hear.
fn has_events(nvml: &Nvml) -> bool {
    let lib = nvml.lib();
    lib.nvmlEventSetCreate.is_ok()
        && lib.nvmlEventSetFree.is_ok()
        && lib.nvmlEventSetWait_v2.is_ok()
        && lib.nvmlDeviceRegisterEvents.is_ok()
        && lib.nvmlDeviceGetSupportedEventTypes.is_ok()
}

struct Listener {
    nvml: &'static Nvml,
    clock: Clock,
    xids: Sender<XidEvent>,
    wanted: Weak<()>,
    hearing: Hearing,
}

/// How listening to a set ended.
enum End {
    /// The set lacks a GPU that may be there again, or nobody wants to hear any more.
    Stale,
    /// The driver has no events after all.
    Without,
    /// A wait failed, after so many that did not.
    Failed { waits: u32 },
}

/// Why there is no set with all GPUs that were to be in it.
enum Refusal {
    /// There is no set at all.
    Set(NvmlError),
    /// The GPU at this place of the list cannot be in it.
    Gpu(usize, NvmlError),
}

/// What is to be heard, and who could not be taken in.
struct Ears {
    set: Option<EventSet<'static>>,
    found: Found,
    /// There may be a GPU more that has events.
    lacks_one: bool,
}

impl Listener {
    fn run(mut self) -> Result<(), SendError<XidEvent>> {
        while self.wanted.strong_count() > 0 {
            let Ears { set, found, lacks_one } = self.register();
            let heard = found.heard.clone();
            let unheard = self.hearing.registered(found);
            self.deaf_to(unheard)?;
            let end = set.map(|set| self.hear(&set, lacks_one)).transpose()?;
            match end {
                Some(End::Stale) => continue,
                Some(End::Failed { waits }) if waits > 0 => continue,
                Some(End::Failed { .. }) => self.deaf_to(heard)?,
                Some(End::Without) => self.hearing = Hearing::default(),
                None => {}
            }
            thread::park_timeout(PAUSE);
        }
        Ok(())
    }

    fn deaf_to(&self, uuids: BTreeSet<String>) -> Result<(), SendError<XidEvent>> {
        if uuids.is_empty() { Ok(()) } else { self.xids.send(XidEvent::Deaf { uuids }) }
    }

    /// A set with every GPU that can be registered. A refused registration destroys the set, so the others are then
    /// registered anew without the GPU that refused.
    fn register(&self) -> Ears {
        let mut ears = Ears { set: None, found: Found::default(), lacks_one: false };
        let mut able = Vec::new();
        for index in 0..self.nvml.device_count().unwrap_or(0) {
            let device = self.nvml.device_by_index(index);
            let Ok((uuid, device)) = device.and_then(|device| Ok((device.uuid()?, device))) else {
                ears.lacks_one = true;
                continue;
            };
            match device.supported_event_types() {
                Ok(types) if types.contains(EventTypes::CRITICAL_XID_ERROR) => able.push((index, uuid)),
                Ok(_) => drop(ears.found.without.insert(uuid)),
                Err(error) => ears.miss(uuid, &error),
            }
        }
        while !able.is_empty() {
            match self.register_all(&able) {
                Ok(set) => {
                    ears.set = Some(set);
                    ears.found.heard = able.into_iter().map(|(_, uuid)| uuid).collect();
                    break;
                }
                Err(Refusal::Set(error)) => able.drain(..).for_each(|(_, uuid)| ears.miss(uuid, &error)),
                Err(Refusal::Gpu(at, error)) => ears.miss(able.remove(at).1, &error),
            }
        }
        ears
    }

    fn register_all(&self, gpus: &[(u32, String)]) -> Result<EventSet<'static>, Refusal> {
        let mut set = self.nvml.create_event_set().map_err(Refusal::Set)?;
        for (at, (index, _)) in gpus.iter().enumerate() {
            let device = self.nvml.device_by_index(*index).map_err(|error| Refusal::Gpu(at, error))?;
            let registered = device.register_events(EventTypes::CRITICAL_XID_ERROR, set);
            set = registered.map_err(|refused| Refusal::Gpu(at, refused.error))?;
        }
        Ok(set)
    }

    /// Passes events on. An event of a kind that the bindings have no name for is no Xid.
    fn hear(&self, set: &EventSet<'static>, lacks_one: bool) -> Result<End, SendError<XidEvent>> {
        let mut waits = 0_u32;
        while self.wanted.strong_count() > 0 && !(lacks_one && waits >= WAITS) {
            let began = self.clock.now().up;
            match set.wait(WAIT_MS) {
                Ok(event) => {
                    if let (Ok(uuid), Some(XidError::Value(xid))) = (event.device.uuid(), event.event_data) {
                        self.xids.send(XidEvent::Xid { uuid, xid })?;
                    }
                }
                // A driver may end a wait early, or not wait at all.
                Err(NvmlError::Timeout) => {
                    let took = self.clock.now().up.saturating_sub(began);
                    thread::park_timeout(WAIT.saturating_sub(took).min(PAUSE_AFTER_EARLY));
                }
                Err(error) if is_without(&error) => return Ok(End::Without),
                Err(_) => return Ok(End::Failed { waits }),
            }
            waits = waits.saturating_add(1);
        }
        Ok(End::Stale)
    }
}

impl Ears {
    /// Notes a GPU that is not in the set.
    fn miss(&mut self, uuid: String, error: &NvmlError) {
        if is_without(error) {
            self.found.without.insert(uuid);
        } else {
            self.found.unheard.insert(uuid);
            self.lacks_one = true;
        }
    }
}

/// Whether an answer says that there are no events to be had, rather than that they are missed.
const fn is_without(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
    )
}
