//! One connection to the driver: who asks, by the kernel's word for every message, and the end of each of them.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Pid;

use crate::control::{Holder, ViewMode};
use crate::driver::{Fault, Reply, Request};
use crate::wire;

use super::Shared;
use super::memory::Owner;
use super::node::{Node, Sight};
use super::process::{Process, seen_by};

/// Longest wait for an Xid event in one question.
const LONGEST_WAIT_MILLIS: u64 = 3_600_000;

/// A connection and the processes that have spoken through it.
struct Session<'a> {
    number: u64,
    stream: &'a UnixStream,
    shared: &'a Shared,
    processes: BTreeMap<u32, Process>,
    sight: Option<Sight>,
    /// Bytes of a question that is not whole yet.
    heard: Vec<u8>,
}

/// Serves one connection until it ends; then nobody holds anything through it.
pub(super) fn run(number: u64, stream: &UnixStream, shared: &Shared) {
    let (Ok(clone), Ok(peer)) = (stream.try_clone(), Process::peer(stream)) else { return };
    shared.sessions().insert(number, clone);
    let processes = BTreeMap::from([(peer.pid, peer)]);
    let mut session = Session { number, stream, shared, processes, sight: None, heard: Vec::new() };
    while let Ok(true) = session.step() {}
    for pid in session.processes.keys() {
        shared.node().end(Owner { session: number, pid: *pid }, shared.now());
    }
    shared.sessions().remove(&number);
}

impl Session<'_> {
    /// Waits for the next question or the next death; false when the connection is over.
    fn step(&mut self) -> io::Result<bool> {
        let mut set = vec![PollFd::new(self.stream, PollFlags::IN)];
        set.extend(self.processes.values().map(|process| PollFd::new(process.end(), PollFlags::IN)));
        poll(&mut set, None)?;
        let spoken = set.first().is_some_and(|socket| !socket.revents().is_empty());
        self.bury();
        if spoken { self.hear() } else { Ok(true) }
    }

    /// Gives back what processes held that have ended, even where a child keeps their connection open.
    fn bury(&mut self) {
        let (number, shared) = (self.number, self.shared);
        self.processes.retain(|pid, process| {
            let lives = process.lives();
            if !lives {
                shared.node().end(Owner { session: number, pid: *pid }, shared.now());
            }
            lives
        });
    }

    /// Reads what one process said and answers every whole line of it.
    fn hear(&mut self) -> io::Result<bool> {
        let mut bytes = [0_u8; 8192];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read =
            recvmsg(self.stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
            _ => None,
        });
        let Some(sender) = sender.filter(|_| read.bytes > 0) else { return Ok(false) };
        self.heard.extend(bytes.iter().take(read.bytes));
        if self.heard.len() > wire::LONGEST_LINE {
            return Ok(false);
        }
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            let reply = match serde_json::from_slice(&line) {
                Ok(request) => self.answer(request, sender),
                Err(_) => Reply::Fault(Fault::Invalid),
            };
            let mut stream = self.stream;
            stream.write_all(&wire::encode(&reply)?)?;
        }
        Ok(true)
    }

    fn answer(&mut self, request: Request, sender: Pid) -> Reply {
        let pid = sender.as_raw_nonzero().get().unsigned_abs();
        if let std::collections::btree_map::Entry::Vacant(place) = self.processes.entry(pid) {
            match Process::sender(sender) {
                Ok(process) => place.insert(process),
                Err(_) => return Reply::Fault(Fault::Invalid),
            };
        }
        let mut node = self.shared.node();
        if !node.loaded {
            return Reply::Fault(Fault::NotLoaded);
        }
        if let Request::Hello { visible, library } = request {
            if library.is_some_and(|library| library != node.version) {
                return Reply::Fault(Fault::VersionMismatch);
            }
            self.sight = Some(Sight { visible });
            return Reply::Welcome { version: node.version.clone() };
        }
        let Some(sight) = &self.sight else { return Reply::Fault(Fault::Invalid) };
        let owner = Owner { session: self.number, pid };
        let now = self.shared.now();
        match request {
            Request::Hello { .. } => Reply::Fault(Fault::Invalid),
            Request::Devices => Reply::Devices(node.devices(sight)),
            Request::Memory { uuid } => node.memory(sight, &uuid, now),
            Request::Processes { uuid } => view(&node.view.clone(), node.processes(sight, &uuid), pid),
            Request::Alloc { uuid, bytes } => match self.processes.get(&pid) {
                Some(process) => node.alloc(sight, &uuid, owner, bytes, now, &process.who()),
                None => Reply::Fault(Fault::Invalid),
            },
            Request::Free { uuid, bytes } => node.free(sight, &uuid, owner, bytes),
            Request::Begin { uuid } => node.begin(sight, &uuid),
            Request::Xids { after: None, .. } => Reply::Xids(mark(&node)),
            Request::Xids { after: Some(after), millis } => {
                let limit = Duration::from_millis(millis.min(LONGEST_WAIT_MILLIS));
                let none_yet = |node: &mut Node| node.loaded && node.xids_after(sight, after).is_empty();
                let waited = self.shared.xid.wait_timeout_while(node, limit, none_yet);
                let (node, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
                Reply::Xids(node.xids_after(sight, after))
            }
        }
    }
}

/// Where a listener starts: the latest number, of no GPU.
fn mark(node: &Node) -> Vec<crate::driver::Xid> {
    vec![crate::driver::Xid { number: node.latest_xid(), uuid: String::new(), code: 0 }]
}

/// A process list as `caller` may see it.
fn view(mode: &ViewMode, reply: Reply, caller: u32) -> Reply {
    match (mode, reply) {
        (ViewMode::Translated, Reply::Processes(holders)) => {
            let seen = |holder: Holder| seen_by(holder.pid, caller).map(|pid| Holder { pid, ..holder });
            let mut holders: Vec<Holder> = holders.into_iter().filter_map(seen).collect();
            holders.sort_by_key(|holder| holder.pid);
            Reply::Processes(holders)
        }
        (_, reply) => reply,
    }
}
