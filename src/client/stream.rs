//! Contents that a client does not hold in memory: sent from a source, received piece by piece.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use super::Client;
use crate::error::Error;
use crate::protocol::{Framing, Head, JsonHeader, Message, OwnedMessage};

/// Bytes that are read from a source at once.
const PIECE: usize = 64 << 10;

impl<F: Framing> Client<F> {
    /// Sends a request whose content has `len` bytes, which `source` gives: a file, for example. It is
    /// read in pieces and never held in memory. Returns whether all of it was sent: a server may
    /// reply before that, because it refuses the content say, and then the rest is not sent.
    /// [`receive`](Self::receive) or [`receive_stream`](Self::receive_stream) has the reply.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), [`Error::Encode`] from a framing that cannot write a head alone, and
    /// [`Error::Stream`] where `source` fails or ends before `len` bytes: the connection is closed
    /// then, since half a request cannot be taken back.
    pub fn send_from(
        &mut self,
        head: &Head<'_>,
        len: u64,
        source: &mut impl Read,
    ) -> Result<bool, Error> {
        self.make_ready()?;
        self.exchange.queue_head(head, len)?;
        self.flush()?;
        let mut piece = vec![0; PIECE];
        let mut left = len;
        while left > 0 {
            if self.is_answered()? {
                // What was not sent would be taken for the next request.
                self.is_cut_short = true;
                return Ok(false);
            }
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let read = match source.read(piece.get_mut(..most).unwrap_or_default()) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read,
            };
            let read = read.map_err(|error| {
                self.close();
                Error::Stream { call: "read", error }
            })?;
            self.exchange.queue_bytes(piece.get(..read).unwrap_or_default());
            self.flush()?;
            left = left.saturating_sub(read as u64);
        }
        Ok(true)
    }

    /// Whether the server has replied, or ended, before the request was sent whole.
    fn is_answered(&mut self) -> Result<bool, Error> {
        let Some(transport) = &mut self.transport else { return Ok(true) };
        if self.tickets.takes_pushes {
            // Whatever comes may be for somebody else.
            return Ok(transport.is_over());
        }
        transport.look(&mut self.exchange)?;
        Ok(transport.is_over() || self.exchange.buffered() > 0)
    }

    /// Waits for the head of the reply to the oldest request that has none yet. Its content is then
    /// taken piece by piece, and may be of any length.
    ///
    /// ```
    /// use myriapod::{Client, Server};
    /// use myriapod::protocol::Head;
    ///
    /// # let mut server = Server::builder().listen("127.0.0.1", 0).answer(|_, reply| {
    /// #     Ok(reply.stream("text/plain", 100_000, std::io::repeat(b'x'))?)
    /// # })?;
    /// # let (port, handle) = (server.addresses()[0].port().unwrap_or(0), server.handle());
    /// # std::thread::scope(|scope| {
    /// # let client = scope.spawn(move || {
    /// let mut client = Client::connect("127.0.0.1", port)?;
    /// client.send(&Head::binary("x"), b"the large file")?;
    /// let mut reply = client.receive_stream()?;
    /// assert_eq!((reply.head().content_type(), reply.content_len()), ("text/plain", 100_000));
    /// let mut file = Vec::new();
    /// reply.copy_to(&mut file)?;
    /// assert_eq!(file.len(), 100_000);
    /// # handle.shutdown()?;
    /// # Ok::<(), myriapod::Error>(())
    /// # });
    /// # server.run()?;
    /// # client.join().unwrap()
    /// # })?;
    /// # Ok::<(), myriapod::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn receive_stream(&mut self) -> Result<ReplyStream<'_, F>, Error> {
        let Some(transport) = self.transport.as_mut().filter(|_| self.exchange.awaited() > 0)
        else {
            return Err(Error::NothingAwaited);
        };
        let timeout = self.options.read_timeout;
        match transport.receive_head(&mut self.exchange, timeout) {
            Ok((head, len, is_here)) => {
                let reply = ReplyStream { client: self, head, len, left: len, is_here, taken: 0 };
                Ok(reply)
            }
            Err(error) => {
                self.close();
                Err(error)
            }
        }
    }

    /// A reply has been received whole.
    fn finish_reply(&mut self) {
        self.exchange.note_reply();
        if self.options.per_request || std::mem::take(&mut self.is_cut_short) {
            self.transport = None;
        }
    }
}

/// A reply whose content is taken piece by piece, with [`next_piece`](Self::next_piece),
/// [`copy_to`](Self::copy_to) or as [`Read`].
///
/// One that is dropped before its end closes the connection: what is left of it is in the way of the
/// next reply.
pub struct ReplyStream<'a, F: Framing = JsonHeader> {
    client: &'a mut Client<F>,
    head: OwnedMessage,
    len: u64,
    left: u64,
    /// The content came with the head, since the framing has no heads.
    is_here: bool,
    /// Bytes at the front of what was received that were taken with the last piece.
    taken: usize,
}

impl<F: Framing> ReplyStream<'_, F> {
    /// What is known of the reply: a message, whose content may be empty here.
    #[must_use]
    pub fn head(&self) -> Message<'_> {
        self.head.as_message()
    }

    /// Bytes of content in all.
    #[must_use]
    pub const fn content_len(&self) -> u64 {
        self.len
    }

    /// Bytes of content that have not been taken.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// The next piece of the content, as it comes; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Client::receive). The connection is closed then.
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>, Error> {
        let available = self.wait()?;
        if available == 0 {
            return Ok(None);
        }
        self.take(available);
        Ok(Some(self.piece(available)))
    }

    /// Writes all that is left of the content to `to`. Returns how much that was.
    ///
    /// # Errors
    ///
    /// As [`next_piece`](Self::next_piece); [`Error::Stream`] where writing fails.
    pub fn copy_to(&mut self, to: &mut impl Write) -> Result<u64, Error> {
        let before = self.left;
        while let Some(piece) = self.next_piece()? {
            to.write_all(piece).map_err(|error| Error::Stream { call: "write", error })?;
        }
        Ok(before)
    }

    /// Waits until something of the content is there. Returns how much; 0 behind its end.
    fn wait(&mut self) -> Result<usize, Error> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = |there: usize, left: u64| usize::try_from(left).map_or(there, |l| l.min(there));
        if self.is_here {
            return Ok(usize::try_from(self.left).unwrap_or(usize::MAX));
        }
        self.client.exchange.skip(std::mem::take(&mut self.taken));
        let client = &mut *self.client;
        let Some(transport) = &mut client.transport else { return Err(Error::NothingAwaited) };
        if client.exchange.buffered() == 0
            && let Err(error) =
                transport.receive_more(&mut client.exchange, client.options.read_timeout)
        {
            client.close();
            return Err(error);
        }
        Ok(most(client.exchange.buffered(), self.left))
    }

    /// So many bytes are taken. They stay where they are until more is asked for.
    fn take(&mut self, len: usize) {
        self.left = self.left.saturating_sub(len as u64);
        if !self.is_here {
            self.taken += len;
        }
    }

    /// The bytes that were taken last.
    fn piece(&self, len: usize) -> &[u8] {
        if self.is_here {
            let content = self.head.as_message().content();
            let end = content.len() - usize::try_from(self.left).unwrap_or(0).min(content.len());
            return content.get(end.saturating_sub(len)..end).unwrap_or_default();
        }
        self.client.exchange.unread().get(..len).unwrap_or_default()
    }
}

impl<F: Framing> Read for ReplyStream<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let len = self.wait()?.min(buffer.len());
        self.take(len);
        if let Some(to) = buffer.get_mut(..len) {
            to.copy_from_slice(self.piece(len));
        }
        Ok(len)
    }
}

impl<F: Framing> Drop for ReplyStream<'_, F> {
    fn drop(&mut self) {
        self.client.exchange.skip(self.taken);
        if self.left == 0 {
            self.client.finish_reply();
        } else {
            self.client.close();
        }
    }
}

impl<F: Framing> fmt::Debug for ReplyStream<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream")
            .field("len", &self.len)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
