//! This process's side: how often it was initialised, its connection, its handles.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gpusim::driver::{self, Device, Driver, DriverError};
use gpusim::script::Instance;

use crate::abi::Code;
use crate::script;

static LIBRARY: Mutex<Library> = Mutex::new(Library::new());

/// The library of this process.
pub fn library() -> MutexGuard<'static, Library> {
    LIBRARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that knows whose it is: a forked child's messages would come from a stranger.
#[derive(Debug, Default)]
pub struct Connection {
    open: Option<(u32, Driver)>,
}

impl Connection {
    const fn closed() -> Self {
        Self { open: None }
    }

    /// Asks over the connection, dialling where there is none, and once more where it had died unnoticed.
    pub fn ask<T>(
        &mut self,
        version: &mut Option<String>,
        mut question: impl FnMut(&mut Driver) -> Result<T, DriverError>,
    ) -> Result<T, Code> {
        let own = std::process::id();
        if let Some((_, driver)) = self.open.as_mut().filter(|(pid, _)| *pid == own) {
            match question(driver) {
                Err(DriverError::Gone(_)) => {}
                answer => return Ok(answer?),
            }
        }
        self.open = None;
        let visible = driver::visible_devices().unwrap_or_default();
        let mut driver = Driver::dial(&driver::socket_path(), &visible, version.as_deref())?;
        version.get_or_insert_with(|| driver.version().to_owned());
        let answer = question(&mut driver);
        self.open = Some((own, driver));
        Ok(answer?)
    }
}

/// What a handle stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// UUID of the GPU by which the driver knows it.
    pub uuid: String,
    /// Index of the GPU when the handle was made.
    pub index: u32,
    /// Slot of the MIG instance; none: the GPU itself.
    slot: Option<u32>,
}

/// Index of the GPU behind a handle, for what a script says of it.
pub fn index_of(handle: usize) -> Option<u32> {
    library().known(handle).map(|known| known.index).ok()
}

/// State of the library in this process.
#[derive(Debug)]
pub struct Library {
    inits: u32,
    connection: Connection,
    /// Version of the driver that was there at the first call: what this library was built with, so to say.
    version: Option<String>,
    /// What each handle stands for, the first handle being 1.
    handles: Vec<Handle>,
}

impl Library {
    const fn new() -> Self {
        Self { inits: 0, connection: Connection::closed(), version: None, handles: Vec::new() }
    }

    /// Once more in use.
    pub fn init(&mut self) -> Result<(), Code> {
        self.connection.ask(&mut self.version, Driver::devices)?;
        self.inits = self.inits.saturating_add(1);
        Ok(())
    }

    /// Once less in use.
    pub fn shutdown(&mut self) -> Result<(), Code> {
        self.inits = self.inits.checked_sub(1).ok_or(Code::Uninitialized)?;
        if self.inits == 0 {
            self.connection = Connection::closed();
        }
        Ok(())
    }

    /// Asks the driver.
    pub fn ask<T>(&mut self, question: impl FnMut(&mut Driver) -> Result<T, DriverError>) -> Result<T, Code> {
        if self.inits == 0 {
            return Err(Code::Uninitialized);
        }
        self.connection.ask(&mut self.version, question)
    }

    /// Version of the driver that is there now; it is the library's too, or the question fails.
    pub fn version(&mut self) -> Result<String, Code> {
        self.ask(|driver| Ok(driver.version().to_owned()))
    }

    /// Version that a connection of another thread is to name.
    pub fn known_version(&self) -> Option<String> {
        self.version.clone()
    }

    /// GPUs that this process sees.
    pub fn devices(&mut self) -> Result<Vec<Device>, Code> {
        let mut devices = self.ask(Driver::devices)?;
        if script::is_reversed() {
            devices.reverse();
        }
        Ok(devices)
    }

    /// Handle of a GPU; the same for ever.
    pub fn handle(&mut self, uuid: &str, index: u32) -> usize {
        self.keep(Handle { uuid: uuid.to_owned(), index, slot: None })
    }

    /// Handle of the MIG instance in a slot of a GPU, if there is one.
    pub fn instance_handle(&mut self, parent: usize, slot: u32) -> Result<usize, Code> {
        let handle = Handle { slot: Some(slot), ..self.known(parent)?.clone() };
        let handle = self.keep(handle);
        self.instance(handle)?.map(|_| handle).ok_or(Code::NotFound)
    }

    fn keep(&mut self, handle: Handle) -> usize {
        let known = self.handles.iter().position(|known| *known == handle);
        let at = known.unwrap_or_else(|| {
            self.handles.push(handle);
            self.handles.len().saturating_sub(1)
        });
        at.saturating_add(1)
    }

    /// What a handle stands for.
    pub fn known(&self, handle: usize) -> Result<&Handle, Code> {
        let at = handle.checked_sub(1).ok_or(Code::InvalidArgument)?;
        self.handles.get(at).ok_or(Code::InvalidArgument)
    }

    /// The MIG instance behind a handle; none if it stands for a whole GPU.
    pub fn instance(&self, handle: usize) -> Result<Option<Instance>, Code> {
        let known = self.known(handle)?;
        let Some(slot) = known.slot else { return Ok(None) };
        let mut instances = script::twist(known.index).mig.unwrap_or_default();
        instances.remove(&slot).map(Some).ok_or(Code::NotFound)
    }

    /// The working GPU behind a handle, and its position among those that this process sees.
    pub fn device(&mut self, handle: usize) -> Result<(u32, Device), Code> {
        let uuid = self.known(handle)?.uuid.clone();
        let found = (0..).zip(self.devices()?).find(|(_, device)| device.uuid == uuid);
        match found {
            Some((_, Device { lost: true, .. })) => Err(Code::GpuIsLost),
            Some(found) => Ok(found),
            None => Err(Code::NotFound),
        }
    }
}
