//! Framing of both sockets: one JSON value a line, an answer for every question, in order.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest line that is read, bytes; a longer one ends the connection.
pub const LONGEST_LINE: usize = 1 << 20;

/// One end of a connection that asks and waits.
#[derive(Debug)]
pub struct Line {
    stream: BufReader<UnixStream>,
}

impl Line {
    /// Dials the socket at `path`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn dial(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self::new)
    }

    /// Takes over a connected stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Says `question` and waits for the answer, as long as it takes.
    ///
    /// # Errors
    /// When the other end is gone (`UnexpectedEof`, `BrokenPipe`) or says something else than an `A`.
    pub fn ask<Q: Serialize, A: DeserializeOwned>(&mut self, question: &Q) -> io::Result<A> {
        self.say(question)?;
        self.hear()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Says one value.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn say<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        self.stream.get_mut().write_all(&encode(value)?)
    }

    /// Waits for one value; `None` when the other end has closed.
    ///
    /// # Errors
    /// When the line is too long or no `T`.
    pub fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        let limit = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        self.stream.by_ref().take(limit).read_until(b'\n', &mut line)?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "line cut short or too long")),
        }
    }
}

/// One value as it travels.
///
/// # Errors
/// When `value` has no JSON form.
pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_end_is_none_and_a_torn_line_is_an_error() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut near = Line::new(near);
        (&far).write_all(b"[1,2]\n[3").unwrap();
        assert_eq!(near.hear::<Vec<u8>>().unwrap(), Some(vec![1, 2]));
        drop(far);
        assert!(near.hear::<Vec<u8>>().is_err());
        assert_eq!(near.hear::<Vec<u8>>().unwrap(), None);
    }
}
