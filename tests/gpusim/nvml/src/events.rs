//! Xid events: sets, and the wait for the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{c_int, c_uint};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpusim::driver::Xid;

use crate::abi::{Code, EventData, NO_INSTANCE, Out, answer};
use crate::library::{Connection, library};

/// `nvmlEventTypeXidCriticalError`.
const XID: u64 = 0x8;

/// What one set listens to.
#[derive(Debug, Default)]
struct Set {
    /// A wait must not hold up other calls, so it has a connection of its own.
    connection: Connection,
    uuids: BTreeSet<String>,
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

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(handle: Out<usize>) -> c_int {
    answer(|| {
        library().devices()?;
        let mut sets = lock(&SETS);
        let next = sets.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        handle.put(next)?;
        sets.insert(next, Arc::default());
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(handle: usize) -> c_int {
    answer(|| lock(&SETS).remove(&handle).map(drop).ok_or(Code::InvalidArgument))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(device: usize, types: Out<u64>) -> c_int {
    answer(|| library().device(device).and_then(|_| types.put(XID)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: usize, types: u64, handle: usize) -> c_int {
    answer(|| {
        let set = set(handle)?;
        if types != XID {
            return Err(Code::NotSupported);
        }
        let mut library = library();
        let (_, device) = library.device(device)?;
        let latest = library.ask(|driver| driver.xids(None, 0))?.last().map_or(0, |mark| mark.number);
        let mut set = lock(&set);
        set.after.get_or_insert(latest);
        set.uuids.insert(device.uuid);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(handle: usize, event: Out<EventData>, millis: c_uint) -> c_int {
    answer(|| {
        let set = set(handle)?;
        let mut set = lock(&set);
        let xid = set.next(u64::from(millis))?;
        event.put(EventData {
            device: library().handle(&xid.uuid),
            kind: XID,
            data: xid.code,
            gpu_instance: NO_INSTANCE,
            compute_instance: NO_INSTANCE,
        })
    })
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
            self.waiting.extend(come.into_iter().filter(|xid| self.uuids.contains(&xid.uuid)));
            if self.waiting.is_empty() && left == 0 {
                return Err(Code::Timeout);
            }
        }
    }
}
