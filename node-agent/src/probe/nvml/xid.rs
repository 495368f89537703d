//! Waits for Xid events on a thread of its own, since the wait blocks.

use std::sync::mpsc::Sender;
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
/// Pause after a wait that failed, so that a broken driver is not asked in a tight loop.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts listening; `false` if no GPU has such events. The thread ends with the process or with its receiver.
pub fn listen(nvml: &'static Nvml, xids: Sender<XidEvent>) -> bool {
    let Some(set) = register(nvml) else { return false };
    thread::Builder::new().name("xid".to_owned()).spawn(move || wait_for_xids(&set, &xids)).is_ok()
}

/// One set with every GPU that has Xid events. A refused registration destroys the set, so the refusing GPU is
/// left out and the others are registered anew.
fn register(nvml: &'static Nvml) -> Option<EventSet<'static>> {
    let supports = |index: &u32| {
        nvml.device_by_index(*index)
            .and_then(|device| device.supported_event_types())
            .is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR))
    };
    let mut able: Vec<u32> = (0..nvml.device_count().ok()?).filter(supports).collect();
    while !able.is_empty() {
        match register_all(nvml, &able) {
            Ok(set) => return Some(set),
            Err(refusing) => able.retain(|index| *index != refusing),
        }
    }
    None
}

fn register_all(nvml: &'static Nvml, indexes: &[u32]) -> Result<EventSet<'static>, u32> {
    let first = indexes.first().copied().unwrap_or_default();
    let mut set = nvml.create_event_set().map_err(|_| first)?;
    for index in indexes {
        let device = nvml.device_by_index(*index).map_err(|_| *index)?;
        set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|_| *index)?;
    }
    Ok(set)
}

fn wait_for_xids(set: &EventSet<'static>, xids: &Sender<XidEvent>) {
    loop {
        let event = match set.wait(WAIT_MS) {
            Ok(event) => match (event.device.uuid(), event.event_data) {
                (Ok(uuid), Some(XidError::Value(xid))) => XidEvent::Xid { uuid, xid },
                _ => continue,
            },
            Err(NvmlError::Timeout) => continue,
            Err(_) => {
                thread::park_timeout(PAUSE);
                XidEvent::Deaf
            }
        };
        if xids.send(event).is_err() {
            return;
        }
    }
}
