//! An object as a file that can be read and sought in, for code that blocks.

use super::Objects;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use tokio::runtime::Handle;

/// A leap forward that is at most so long is read over.
const READ_OVER: u64 = 256 << 10;

/// Reads an object. Only on threads that may block; never on the runtime's.
pub struct RemoteReader {
    objects: Objects,
    runtime: Handle,
    key: String,
    len: u64,
    at: u64,
    /// What comes next, from `at` on.
    buffer: Bytes,
    body: Option<BoxStream<'static, io::Result<Bytes>>>,
}

impl RemoteReader {
    /// `len` is the object's; nothing is asked of the store before something is read.
    pub fn new(objects: &Objects, runtime: &Handle, key: String, len: u64) -> RemoteReader {
        let (objects, runtime) = (objects.clone(), runtime.clone());
        RemoteReader { objects, runtime, key, len, at: 0, buffer: Bytes::new(), body: None }
    }

    /// Gets the next bytes into the buffer; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.at >= self.len {
            return Ok(false);
        }
        let (objects, key, range) = (&self.objects, &self.key, self.at..=self.len - 1);
        let body = match &mut self.body {
            Some(body) => body,
            body => {
                let content = self.runtime.block_on(objects.get(key, Some(range))).map_err(io::Error::other)?;
                body.insert(content.bytes)
            }
        };
        match self.runtime.block_on(body.next()) {
            Some(bytes) => {
                self.buffer = bytes?;
                Ok(true)
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            if self.buffer.is_empty() && !self.fill()? {
                return Ok(());
            }
            let count = bytes.min(self.buffer.len() as u64);
            self.buffer.advance(usize::try_from(count).unwrap_or(usize::MAX));
            self.at += count;
            bytes -= count;
        }
        Ok(())
    }
}

impl Read for RemoteReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.buffer.is_empty() {
            if out.is_empty() || !self.fill()? {
                return Ok(0);
            }
        }
        let count = out.len().min(self.buffer.len());
        self.buffer.copy_to_slice(&mut out[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for RemoteReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        let to = to.ok_or(io::ErrorKind::InvalidInput)?;
        match to.checked_sub(self.at) {
            Some(ahead) if self.body.is_some() && ahead <= READ_OVER => self.skip(ahead)?,
            _ => (self.body, self.buffer) = (None, Bytes::new()),
        }
        self.at = to;
        Ok(to)
    }
}

impl fmt::Debug for RemoteReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteReader").field("key", &self.key).field("at", &self.at).finish_non_exhaustive()
    }
}
