//! Waits for Xid events on a thread of its own, since the wait blocks.
//!
//! One set holds every GPU that has such events. A wait fails for the whole set when one of its GPUs fails, so the set
//! is then made anew with those that still answer, and only the others go unheard.

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

use crate::health::XidEvent;

/// Longest wait in the driver, milliseconds.
const WAIT_MS: u32 = 5_000;
/// Waits without an event after which a set that lacks a GPU is made anew: a minute.
const WAITS: u32 = 12;
/// Pause where no GPU can be heard, so that a broken driver is not asked in a tight loop.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts listening, until the value it returns is dropped, or the receiver is.
pub fn listen(nvml: &'static Nvml, xids: Sender<XidEvent>) -> std::io::Result<Arc<()>> {
    let wanted = Arc::new(());
    let listener = Listener { nvml, xids, wanted: Arc::downgrade(&wanted), heard: BTreeSet::new() };
    thread::Builder::new().name("xid".to_owned()).spawn(move || drop(listener.run()))?;
    Ok(wanted)
}

struct Listener {
    nvml: &'static Nvml,
    xids: Sender<XidEvent>,
    wanted: Weak<()>,
    /// GPUs of the last set.
    heard: BTreeSet<String>,
}

/// GPUs whose events are waited for together.
struct Ears {
    set: EventSet<'static>,
    uuids: BTreeSet<String>,
    /// A GPU could not be registered that may have events.
    lacks_one: bool,
}

/// How listening to a set ended.
enum End {
    /// The set lacks a GPU that may be there again.
    Stale,
    /// A wait failed, after so many that did not.
    Failed { waits: u32 },
}

impl Listener {
    fn run(mut self) -> Result<(), SendError<XidEvent>> {
        while self.wanted.strong_count() > 0 {
            let ears = self.register();
            let uuids = ears.as_ref().map(|ears| ears.uuids.clone()).unwrap_or_default();
            self.deaf_to(self.heard.difference(&uuids).cloned().collect())?;
            self.heard.clone_from(&uuids);
            let end = ears.map(|ears| self.hear(&ears)).transpose()?;
            if matches!(end, None | Some(End::Failed { waits: 0 })) {
                self.deaf_to(uuids)?;
                thread::park_timeout(PAUSE);
            }
        }
        Ok(())
    }

    fn deaf_to(&self, uuids: BTreeSet<String>) -> Result<(), SendError<XidEvent>> {
        if uuids.is_empty() { Ok(()) } else { self.xids.send(XidEvent::Deaf { uuids }) }
    }

    /// A set with every GPU that can be registered. A refused registration destroys the set, so the others are then
    /// registered anew without the GPU that refused.
    fn register(&self) -> Option<Ears> {
        let mut lacks_one = false;
        let mut able = Vec::new();
        for index in 0..self.nvml.device_count().ok()? {
            let types = self.nvml.device_by_index(index).and_then(|device| device.supported_event_types());
            match types {
                Ok(types) if types.contains(EventTypes::CRITICAL_XID_ERROR) => able.push(index),
                Ok(_) | Err(NvmlError::NotSupported) => {}
                Err(_) => lacks_one = true,
            }
        }
        while !able.is_empty() {
            match self.register_all(&able) {
                Ok((set, uuids)) => return Some(Ears { set, uuids, lacks_one }),
                Err(refusing) => able.retain(|index| *index != refusing),
            }
            lacks_one = true;
        }
        None
    }

    fn register_all(&self, indexes: &[u32]) -> Result<(EventSet<'static>, BTreeSet<String>), u32> {
        let first = indexes.first().copied().unwrap_or_default();
        let mut set = self.nvml.create_event_set().map_err(|_| first)?;
        let mut uuids = BTreeSet::new();
        for index in indexes {
            let device = self.nvml.device_by_index(*index).map_err(|_| *index)?;
            uuids.insert(device.uuid().map_err(|_| *index)?);
            set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|_| *index)?;
        }
        Ok((set, uuids))
    }

    /// Passes events on. An event of a kind that the bindings have no name for is no Xid.
    fn hear(&self, ears: &Ears) -> Result<End, SendError<XidEvent>> {
        let mut waits = 0_u32;
        while self.wanted.strong_count() > 0 && !(ears.lacks_one && waits >= WAITS) {
            match ears.set.wait(WAIT_MS) {
                Ok(event) => {
                    if let (Ok(uuid), Some(XidError::Value(xid))) = (event.device.uuid(), event.event_data) {
                        self.xids.send(XidEvent::Xid { uuid, xid })?;
                    }
                }
                Err(NvmlError::Timeout) => {}
                Err(_) => return Ok(End::Failed { waits }),
            }
            waits = waits.saturating_add(1);
        }
        Ok(End::Stale)
    }
}
