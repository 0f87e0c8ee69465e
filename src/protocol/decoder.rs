//! [`Decoder`]: a buffer and a framing, for whoever has one stream.

use super::{Decoded, DefaultFraming, Frame, Framing, Message, ProtocolError};

/// Finds the messages of one stream, however it arrives in pieces.
///
/// It decodes only when the bytes are there that it last found missing, and moves
/// no byte more often than once in the mean.
///
/// ```
/// use myriapod::protocol::{Decoder, Head, JsonHeader, encode};
///
/// let mut stream = Vec::new();
/// encode(&mut stream, &Head::binary("x"), b"one")?;
/// encode(&mut stream, &Head::binary("x"), b"two")?;
///
/// let mut decoder = Decoder::new(JsonHeader::default());
/// let mut contents = Vec::new();
/// for piece in stream.chunks(7) {
///     decoder.feed(piece);
///     while let Some(message) = decoder.next_message()? {
///         contents.push(message.content().to_vec());
///     }
/// }
/// assert_eq!(contents, [b"one", b"two"]);
/// assert_eq!(decoder.rest(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, Debug)]
pub struct Decoder<F: Framing = DefaultFraming> {
    framing: F,
    buffer: Vec<u8>,
    /// The first byte of `buffer` that no returned message has.
    start: usize,
    /// The stream's offset of `start`.
    offset: u64,
    /// The bytes from `start` on that must be there before decoding again.
    needed: usize,
    /// The message returned last, which lies before `start`.
    frame: Option<Frame>,
    failed: Option<ProtocolError>,
}

impl<F: Framing> Decoder<F> {
    /// A decoder at the start of a stream.
    #[must_use]
    pub const fn new(framing: F) -> Self {
        Self {
            framing,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            needed: 0,
            frame: None,
            failed: None,
        }
    }

    /// Appends what has been received.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer_mut().extend_from_slice(bytes);
    }

    /// The buffer, for receiving straight into it. Only append to it.
    ///
    /// After a fault nothing of it is read any more.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        // Moving no more than what is freed keeps the mean cost of a byte constant.
        if self.start > 0 && self.start >= self.rest() {
            self.buffer.drain(..self.start.min(self.buffer.len()));
            self.start = 0;
        }
        &mut self.buffer
    }

    /// The next whole message, or `None` until more has been fed.
    ///
    /// # Errors
    ///
    /// A fault of the framing, with its offset in the stream. There is no way on
    /// behind it, so every later call returns it again. Faults of a content are
    /// found by [`Message::json`] and [`Message::text`]; the messages behind it
    /// are not affected.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let input = self.buffer.get(self.start..).unwrap_or_default();
        if input.len() < self.needed {
            return Ok(None);
        }
        match self.framing.decode(input) {
            Ok(Decoded::Message(frame)) => {
                let offset = self.offset;
                self.start += frame.len();
                self.offset += frame.len() as u64;
                self.needed = 0;
                let frame = self.frame.insert(frame);
                Ok(Some(Message::new(input, frame).with_offset(offset)))
            }
            Ok(Decoded::Incomplete { needed, .. }) => {
                self.needed = needed;
                Ok(None)
            }
            Err(error) => {
                let error = error.with_offset(self.offset);
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// The bytes that have been fed and belong to no returned message.
    #[must_use]
    pub fn rest(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }

    /// Where the next message starts, in bytes from the start of the stream.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The framing.
    pub const fn framing_mut(&mut self) -> &mut F {
        &mut self.framing
    }
}
