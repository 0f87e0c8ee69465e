//! [`Decoder`]: a buffer and a framing, for a program that has one stream.

use super::{
    Decoded, DefaultFraming, Frame, Framing, Input, Message, Missing, OwnedMessage, ProtocolError,
};

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
///
/// What the framing answers by itself (a pong, say) is in [`take_answers`](Self::take_answers).
#[derive(Clone, Default, Debug)]
pub struct Decoder<F: Framing = DefaultFraming> {
    framing: F,
    stream: F::Stream,
    buffer: Vec<u8>,
    /// The first byte of `buffer` that no returned message has.
    start: usize,
    /// The stream's offset of `start`.
    offset: u64,
    /// What the message from `start` on waits for; nothing where it was not looked at.
    missing: Missing,
    is_last: bool,
    /// `frame` is of the message from `start` on, which was not returned yet.
    is_found: bool,
    frame: Frame,
    answers: Vec<u8>,
    end: End,
}

/// How far a stream has come.
#[derive(Clone, Default, Debug)]
enum End {
    /// It goes on.
    #[default]
    None,
    /// The framing says that the conversation is over.
    Over,
    Failed(ProtocolError),
}

impl<F: Framing> Decoder<F> {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(framing: F) -> Self {
        Self {
            framing,
            stream: F::Stream::default(),
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            missing: Missing::default(),
            is_last: false,
            is_found: false,
            frame: Frame::new(),
            answers: Vec::new(),
            end: End::None,
        }
    }

    /// Starts anew, for another stream, and keeps what the framing has learnt.
    pub fn reset(&mut self) {
        self.buffer.clear();
        self.answers.clear();
        self.stream = F::Stream::default();
        (self.start, self.offset, self.missing) = (0, 0, Missing::default());
        (self.is_last, self.is_found, self.end) = (false, false, End::None);
    }

    /// Appends what has been received.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer_mut().extend_from_slice(bytes);
    }

    /// Nothing will come behind what was fed: some framings take the rest for a message then, as
    /// that of lines does.
    pub const fn finish(&mut self) {
        self.is_last = true;
        self.missing.needed = 0;
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
        self.find_message()?;
        Ok(self.take_message())
    }

    /// Whether a whole message is there, which [`take_message`](Self::take_message) then returns.
    pub(crate) fn find_message(&mut self) -> Result<bool, ProtocolError> {
        match &self.end {
            End::None => {}
            End::Over => return Ok(false),
            End::Failed(error) => return Err(error.clone()),
        }
        while !self.is_found {
            let bytes = self.buffer.get_mut(self.start..).unwrap_or_default();
            let len = bytes.len();
            if len == 0 || len < self.missing.needed {
                return Ok(false);
            }
            let (scanned, is_last) = (self.missing.scanned, self.is_last);
            let input = Input { scanned, is_last, ..Input::new(bytes, &mut self.answers) };
            let decoded = self
                .framing
                .decode(&mut self.stream, input, &mut self.frame)
                .and_then(|decoded| decoded.checked(&self.frame, len));
            match decoded {
                Ok(Decoded::Message) => self.is_found = true,
                Ok(Decoded::Skip(skipped)) => self.advance(skipped),
                Ok(Decoded::End(skipped)) => {
                    self.advance(skipped);
                    self.end = End::Over;
                    return Ok(false);
                }
                Ok(unfinished) => {
                    self.missing = Missing::of(unfinished, len).unwrap_or_default();
                }
                Err(error) => {
                    let error = error.with_offset(self.offset);
                    self.end = End::Failed(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(true)
    }

    /// The message that [`find_message`](Self::find_message) found.
    pub(crate) fn take_message(&mut self) -> Option<Message<'_>> {
        if !std::mem::take(&mut self.is_found) {
            return None;
        }
        let (start, offset) = (self.start, self.offset);
        self.advance(self.frame.len());
        Some(Message::new(self.buffer.get(start..)?, &self.frame).with_offset(offset))
    }

    /// The head of the next message and the length of its content, as soon as the head is there, where
    /// the framing [announces](Framing::announced) that. The content is then what is
    /// [unread](Self::unread), and is to be [skipped](Self::skip).
    pub fn take_head(&mut self) -> Option<(OwnedMessage, u64)> {
        if self.is_found || !matches!(self.end, End::None) {
            return None;
        }
        let bytes = self.buffer.get(self.start..).filter(|bytes| !bytes.is_empty())?;
        let len = self.framing.announced(&self.stream, bytes, &mut self.frame)?;
        if self.frame.len() > bytes.len() || self.frame.is_empty() {
            return None;
        }
        let head = Message::new(bytes, &self.frame).with_offset(self.offset).to_owned();
        self.advance(self.frame.len());
        Some((head, len))
    }

    /// So many of the unread bytes are done with: the content of a message whose
    /// [head](Self::take_head) was taken.
    pub fn skip(&mut self, len: usize) {
        self.advance(len.min(self.rest()));
        self.is_found = false;
    }

    fn advance(&mut self, len: usize) {
        self.start += len;
        self.offset += len as u64;
        self.missing = Missing::default();
    }

    /// The bytes that have been fed and belong to no returned message.
    #[must_use]
    pub fn rest(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }

    /// Those bytes: after a fault, they begin with the message that it is in.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Bytes that must be fed before the next message can be there; 0 if that is not known.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.needed.saturating_sub(self.rest())
    }

    /// Where the next message starts, in bytes from the start of the stream.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the framing has said that the conversation [is over](Decoded::End). Nothing behind
    /// that is read.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.end, End::Over)
    }

    /// What the framing wants to be sent to the peer, without being asked.
    #[must_use]
    pub fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }

    /// The framing.
    pub const fn framing_mut(&mut self) -> &mut F {
        &mut self.framing
    }
}
