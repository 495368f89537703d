//! Xid events: sets, and the wait for the next one.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_uint;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpusim::driver::Xid;

use crate::abi::{Code, EventData, NO_INSTANCE, Out, exports};
use crate::library::{Connection, index_of, library};
use crate::script;

/// `nvmlEventTypeXidCriticalError`.
const XID: u64 = 0x8;

/// What one set listens to.
#[derive(Debug, Default)]
struct Set {
    /// A wait must not hold up other calls, so it has a connection of its own.
    connection: Connection,
    /// Handles of the registered GPUs by UUID.
    gpus: BTreeMap<String, usize>,
    /// Number of the last event that was looked at; none before the first GPU is registered.
    after: Option<u64>,
    waiting: VecDeque<Xid>,
}

/// The sets of this process by handle.
static SETS: Mutex<BTreeMap<usize, Arc<Mutex<Set>>>> = Mutex::new(BTreeMap::new());

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(handle: usize) -> Result<Arc<Mutex<Set>>, Code> {
    lock(&SETS).get(&handle).cloned().ok_or(Code::InvalidArgument)
}

exports! {
    fn nvmlEventSetCreate(handle: Out<usize>); {
        library().devices()?;
        let mut sets = lock(&SETS);
        let next = sets.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        handle.put(next)?;
        sets.insert(next, Arc::default());
        Ok(())
    }

    fn nvmlEventSetFree(handle: usize); { lock(&SETS).remove(&handle).map(drop).ok_or(Code::InvalidArgument) }

    fn nvmlDeviceGetSupportedEventTypes(device: usize, types: Out<u64>) on index_of(device); {
        let (index, _) = library().device(device)?;
        types.put(supported(index))
    }

    fn nvmlDeviceRegisterEvents(device: usize, types: u64, handle: usize) on index_of(device); {
        let set = set(handle)?;
        let mut library = library();
        let (index, gpu) = library.device(device)?;
        if types & !supported(index) != 0 || types & XID == 0 {
            return Err(Code::NotSupported);
        }
        let latest = library.ask(|driver| driver.xids(None, 0))?.last().map_or(0, |mark| mark.number);
        let mut set = lock(&set);
        set.after.get_or_insert(latest);
        set.gpus.insert(gpu.uuid, device);
        Ok(())
    }

    fn nvmlEventSetWait_v2(handle: usize, event: Out<EventData>, millis: c_uint); {
        let set = set(handle)?;
        let mut set = lock(&set);
        let xid = set.next(u64::from(millis))?;
        let device = set.gpus.get(&xid.uuid).copied().ok_or(Code::Unknown)?;
        event.put(EventData {
            device,
            kind: index_of(device).map_or(XID, supported),
            data: xid.code,
            gpu_instance: NO_INSTANCE,
            compute_instance: NO_INSTANCE,
        })
    }
}

/// Types of events that the GPU of index `gpu` supports, and that its events carry: newer drivers have bits that
/// older readers have no name for.
fn supported(gpu: u32) -> u64 {
    match script::twist(gpu).event_bits {
        0 => XID,
        bits => bits,
    }
}

impl Set {
    /// The next event of a registered GPU, within `millis`.
    #[expect(clippy::disallowed_methods, reason = "the caller's time limit runs on the clock")]
    fn next(&mut self, millis: u64) -> Result<Xid, Code> {
        let began = std::time::Instant::now();
        loop {
            if let Some(xid) = self.waiting.pop_front() {
                return Ok(xid);
            }
            let spent = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let left = millis.saturating_sub(spent);
            let after = self.after.unwrap_or(u64::MAX);
            let mut version = library().known_version();
            let come = self.connection.ask(&mut version, |driver| driver.xids(Some(after), left))?;
            self.after = come.last().map(|xid| xid.number).or(self.after);
            self.waiting.extend(come.into_iter().filter(|xid| self.gpus.contains_key(&xid.uuid)));
            if self.waiting.is_empty() && left == 0 {
                return Err(Code::Timeout);
            }
        }
    }
}
