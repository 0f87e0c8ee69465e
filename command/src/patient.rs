//! [`Patient`]: writing to what may be non-blocking.

use std::io::{self, Write};

use myriapod::sys::poll::wait_one;
use myriapod::sys::{AsFd, Interest};

/// Writes to a descriptor that may be non-blocking, as a pipe is that Node.js or an event loop has
/// made: where there is no room, it waits for some.
#[derive(Debug)]
pub struct Patient<W>(pub W);

impl<W: Write + AsFd> Patient<W> {
    fn keep_trying<T>(&mut self, mut once: impl FnMut(&mut W) -> io::Result<T>) -> io::Result<T> {
        loop {
            match once(&mut self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_one(self.0.as_fd(), Interest::WRITABLE, None)
                        .map_err(|errno| io::Error::from_raw_os_error(errno.raw()))?;
                }
                done => return done,
            }
        }
    }
}

impl<W: Write + AsFd> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.keep_trying(|inner| inner.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.keep_trying(|inner| inner.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.keep_trying(Write::flush)
    }
}
