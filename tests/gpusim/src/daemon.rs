//! The driver of one node: two sockets, one state, one log.
//!
//! A thread a connection; every question is answered under one lock, so the log's order is the order of what
//! happened. SIGSTOP freezes it like a hung kernel driver; SIGKILL takes every holding with it.

pub mod memory;
pub mod node;
pub mod process;
pub mod record;
mod session;
pub mod steer;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::config::NodeConfig;
use crate::control::Command;
use crate::driver::SOCKET;
use crate::journal::Event;
use crate::wire::Line;
use node::Node;
use record::Record;

/// Dials that may wait to be taken.
const BACKLOG: i32 = 128;

/// A daemon that could not begin.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A socket could not be made.
    #[error("listen on {}: {source}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log could not be opened or written.
    #[error("log: {0}")]
    Log(io::Error),
}

/// What all threads share.
#[derive(Debug)]
struct Shared {
    node: Mutex<Node>,
    /// Rung when an Xid event is raised.
    xid: Condvar,
    /// Connections by number, to end them all when the driver is unloaded.
    sessions: Mutex<BTreeMap<u64, UnixStream>>,
    began: Instant,
}

impl Shared {
    fn node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<u64, UnixStream>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the daemon began.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Runs the driver of `config` until the process ends: its "device" in the folder `driver_dir`, steered through the
/// socket `control`, logging to `log` (appended).
///
/// # Errors
/// When a socket or the log cannot be made.
#[expect(clippy::disallowed_methods, reason = "the daemon's own clock starts here")]
pub fn serve(config: &NodeConfig, driver_dir: &Path, control: &Path, log: &Path) -> Result<(), DaemonError> {
    let mut record = Record::open(log).map_err(DaemonError::Log)?;
    let node = Node::new(config);
    record.write(Event::Start { node: config.node.clone(), cards: node.uuids() });
    let device = listen(&driver_dir.join(SOCKET), 0o666)?;
    rustix::net::sockopt::set_socket_passcred(&device, true)
        .map_err(|errno| DaemonError::Listen { path: driver_dir.join(SOCKET), source: errno.into() })?;
    let steering = listen(control, 0o600)?;
    let shared = Arc::new(Shared {
        node: Mutex::new(node.recorded_by(record)),
        xid: Condvar::new(),
        sessions: Mutex::default(),
        began: Instant::now(),
    });
    let steered = Arc::clone(&shared);
    thread::spawn(move || {
        for stream in steering.incoming().filter_map(Result::ok) {
            let shared = Arc::clone(&steered);
            thread::spawn(move || steer_connection(stream, &shared));
        }
    });
    for (number, stream) in (1_u64..).zip(device.incoming().filter_map(Result::ok)) {
        let shared = Arc::clone(&shared);
        thread::spawn(move || session::run(number, &stream, &shared));
    }
    Ok(())
}

/// A fresh socket at `path`, whatever lay there, that `mode` may dial.
fn listen(path: &Path, mode: u32) -> Result<UnixListener, DaemonError> {
    let bound = || -> io::Result<UnixListener> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Before the first dial: a message that was sent earlier names no sender.
        set_socket_passcred(&socket, true)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(UnixListener::from(socket))
    };
    bound().map_err(|source| DaemonError::Listen { path: path.to_owned(), source })
}

/// Obeys one control connection until it ends.
fn steer_connection(stream: UnixStream, shared: &Shared) {
    let mut line = Line::new(stream);
    while let Ok(Some(command)) = line.hear::<Command>() {
        let answer = steer::apply(&command, &mut shared.node(), shared.now());
        match command {
            Command::Driver { .. } => {
                for session in shared.sessions().values() {
                    let _already_closed = session.shutdown(Shutdown::Both);
                }
            }
            Command::Xid { .. } | Command::Lose { .. } => shared.xid.notify_all(),
            _ => {}
        }
        if line.say(&answer).is_err() {
            return;
        }
    }
}
