//! [`Framing`]: where a message ends, and how one is written.

use super::{DecodeLimits, EncodeError, Frame, Head, Mark, Message, ProtocolError};

/// What a framing looks at: what has come on one connection and belongs to no earlier message.
#[derive(Debug)]
#[non_exhaustive]
pub struct Input<'a> {
    /// From the first byte of a message on. They may be changed in place, to unmask a payload say:
    /// only those of a message that is [found](Decoded::Message) in the same call, or of bytes that
    /// are [skipped](Decoded::Skip), since all others are looked at again.
    pub bytes: &'a mut [u8],
    /// So many bytes at the front were looked at before, as [`Decoded::More`] said.
    pub scanned: usize,
    /// Nothing will come behind these bytes: the peer has ended its stream.
    pub is_last: bool,
    /// What is appended here is sent before whatever the handler writes: the framing's own answer. A
    /// [`Decoder`](super::Decoder) only collects it.
    pub answer: &'a mut Vec<u8>,
}

impl<'a> Input<'a> {
    /// Bytes that have not been looked at, behind which more may come.
    pub const fn new(bytes: &'a mut [u8], answer: &'a mut Vec<u8>) -> Self {
        Self { bytes, scanned: 0, is_last: false, answer }
    }
}

/// What [`Framing::decode`] finds at the start of its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Decoded {
    /// A whole message: the frame now says where its parts are. It has at least one byte, and no
    /// more than there are.
    Message,
    /// The start of a message that is known to have at least `needed` bytes. Not an error.
    Incomplete {
        /// The bytes, counted from the start of this message, that must be there
        /// before decoding again makes sense. More than the input had; what asks for
        /// less is asked again when more has come.
        needed: usize,
        /// The header is whole, only content is missing.
        in_content: bool,
    },
    /// The start of a message, of which nobody can know how long it will be: a line without its end.
    More {
        /// So many bytes at the front need not be looked at again: they hold no end.
        scanned: usize,
        /// The header is whole, only content is missing.
        in_content: bool,
    },
    /// These many bytes are no message for the handler: white space, say, or a ping whose answer was
    /// appended to [`Input::answer`]. At least one.
    Skip(usize),
    /// The same, and with these bytes the conversation is over: the answer is sent, and then the
    /// connection is closed.
    End(usize),
}

impl Decoded {
    /// The same, or a fault where the framing claims more bytes than the `len` that there are, or
    /// none: nobody could go on behind that.
    #[inline]
    pub(crate) fn checked(self, frame: &Frame, len: usize) -> Result<Self, ProtocolError> {
        let claimed = match self {
            Self::Message => frame.len(),
            Self::Skip(claimed) | Self::End(claimed) => claimed,
            Self::Incomplete { .. } | Self::More { .. } => return Ok(self),
        };
        if claimed == 0 || claimed > len {
            return Err(ProtocolError::named(
                "FramingBroken",
                "the framing found a message where there is none",
            ));
        }
        Ok(self)
    }
}

/// What an unfinished message waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Missing {
    /// Bytes from its first on that must be there before looking again makes sense.
    pub(crate) needed: usize,
    /// Bytes at its front that need not be looked at again.
    pub(crate) scanned: usize,
    /// Whether its header is whole.
    pub(crate) in_content: bool,
}

impl Missing {
    pub(crate) const fn new(needed: usize, in_content: bool) -> Self {
        Self { needed, scanned: 0, in_content }
    }

    /// `None` where nothing is missing. `len` bytes are there: whatever the framing says, one more is
    /// needed, or it would be asked for ever.
    pub(crate) fn of(decoded: Decoded, len: usize) -> Option<Self> {
        match decoded {
            Decoded::Incomplete { needed, in_content } => {
                Some(Self::new(needed.max(len + 1), in_content))
            }
            Decoded::More { scanned, in_content } => {
                Some(Self { scanned: scanned.min(len), ..Self::new(len + 1, in_content) })
            }
            Decoded::Message | Decoded::Skip(_) | Decoded::End(_) => None,
        }
    }
}

/// A way to find messages in a stream of bytes, and to write them into one.
///
/// # Reading
///
/// [`decode`](Self::decode) looks at what has come on one connection, whenever something new may be
/// found there, and says what it begins with. [`predict`](Self::predict) is a short cut for what can
/// be told at little cost. Both are given the [`Stream`](Self::Stream) of that connection. The value
/// itself serves all connections of a loop: what it learns from the messages it sees (the headers to
/// predict) is its own state.
///
/// # Writing
///
/// [`begin`](Self::begin) leaves room for a header, the content is appended, and
/// [`finish`](Self::finish) writes the header in front of it. [`Mark::with_headroom`] and
/// [`Mark::write_header`] do the counting. What is written is the same for all connections, since one
/// message may be pushed to many.
///
/// # Limits
///
/// A server tells its framing its limits, and enforces them where the framing does not.
///
/// # Example
///
/// Lines, each with its length in front: `5:hello\n`.
///
/// ```
/// use myriapod::protocol::{
///     Decoded, Decoder, EncodeError, Frame, Framing, Head, Input, Mark, ProtocolError,
/// };
///
/// struct Netstring;
///
/// impl Framing for Netstring {
///     type Stream = ();
///
///     fn decode(
///         &mut self,
///         _: &mut (),
///         input: Input<'_>,
///         frame: &mut Frame,
///     ) -> Result<Decoded, ProtocolError> {
///         let refused = || ProtocolError::named("NoNetstring", "a length and a colon are expected");
///         let digits = input.bytes.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
///         let Some(colon) = input.bytes.get(digits) else {
///             return Ok(Decoded::More { scanned: 0, in_content: false });
///         };
///         let text = std::str::from_utf8(&input.bytes[..digits]).map_err(|_| refused())?;
///         let len: usize = text.parse().map_err(|_| refused())?;
///         if *colon != b':' {
///             return Err(refused());
///         }
///         let end = digits + 1 + len;
///         if input.bytes.len() < end + 1 {
///             return Ok(Decoded::Incomplete { needed: end + 1, in_content: true });
///         }
///         frame.set(digits + 1..end, end + 1);
///         Ok(Decoded::Message)
///     }
///
///     fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
///         Ok(Mark::with_headroom(out, 2))
///     }
///
///     fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
///         let header = format!("{}:", mark.content_len(out)?);
///         mark.write_header(out, header.as_bytes())?;
///         out.push(b'\n');
///         Ok(())
///     }
///
///     fn error_reply(&mut self, out: &mut Vec<u8>, kind: &str, _: &str) -> Result<(), EncodeError> {
///         self.encode(out, &Head::binary("text/plain"), kind.as_bytes())
///     }
/// }
///
/// let mut wire = Vec::new();
/// Netstring.encode(&mut wire, &Head::binary("x"), b"a text of 22 characters")?;
/// assert_eq!(wire, b"23:a text of 22 characters\n");
/// let mut decoder = Decoder::new(Netstring);
/// decoder.feed(&wire);
/// assert_eq!(decoder.next_message()?.expect("it is whole").content().len(), 23);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Framing {
    /// What is kept beside each connection: `()` costs nothing. It is made when the connection opens.
    type Stream: Default;

    /// Works within these limits from now on. A server gives its own to its framing when it is
    /// built, and again when they change. It refuses longer messages also where the framing does not
    /// know better.
    fn set_limits(&mut self, limits: DecodeLimits) {
        let _ = limits;
    }

    /// Looks at the message that `input` starts with, and at nothing behind it. Where one is whole,
    /// `frame` is made to describe it; what stands in `frame` before has no meaning.
    ///
    /// The input has at least one byte.
    ///
    /// # Errors
    ///
    /// A fault of the framing, at offset 0: the connection gets an error reply and is closed. Faults
    /// of the content are found when [`Message::text`] or the like reads it.
    fn decode(
        &mut self,
        stream: &mut Self::Stream,
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError>;

    /// Whether `input` starts with a whole message, much like one before it, so that this can be told
    /// at little cost; `frame` is then what [`decode`](Self::decode) would find. If not, `decode` is
    /// to be asked, as it always may be. It keeps the limits that were [set](Self::set_limits):
    /// for a message that comes alone and in one piece (64 KiB at most), nobody else does.
    ///
    /// A framing that answers by itself, or changes its input, does so in `decode` alone.
    fn predict(&mut self, stream: &Self::Stream, input: &[u8], frame: &mut Frame) -> bool {
        let _ = (stream, input, frame);
        false
    }

    /// How many bytes of content the message will have that `input` starts with, if its head is there
    /// and says so. `frame` is then made to describe the head alone, as a message without content.
    ///
    /// Only asked where contents may be [streamed](crate::Handler::on_head). `None`, the default: the
    /// head is not whole, is malformed, or says no length; then [`decode`](Self::decode) is asked.
    fn announced(&mut self, stream: &Self::Stream, input: &[u8], frame: &mut Frame) -> Option<u64> {
        let _ = (stream, input, frame);
        None
    }

    /// The frame of the message that `bytes` start with, where they come from no connection: from a
    /// file, or in a test. `None` if they are not a whole one. `bytes` are copied; a
    /// [`Decoder`](super::Decoder) does not do that.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    fn find(&mut self, bytes: &[u8]) -> Result<Option<Frame>, ProtocolError> {
        let (mut copy, mut answer, mut frame) = (bytes.to_vec(), Vec::new(), Frame::new());
        if copy.is_empty() {
            return Ok(None);
        }
        let input = Input::new(&mut copy, &mut answer);
        let decoded = self.decode(&mut Self::Stream::default(), input, &mut frame)?;
        Ok((decoded == Decoded::Message).then_some(frame))
    }

    /// What a reply to `message` has to carry, as JSON text, so that its sender knows which request it
    /// answers: the value of its header key `id`, or the number that the framing has
    /// [noted](Frame::set_tag). The reply's further keys then have it as `id` before
    /// [`begin`](Self::begin), which finds it there ([`ExtraHeaders::id`](super::ExtraHeaders::id)). `None`, the default:
    /// replies are told by their order.
    ///
    /// Asked when a reply is made anew. Not asked for a message that was [predicted](Self::predict),
    /// but by the framings of this crate.
    fn id<'a>(&self, message: &Message<'a>) -> Option<&'a [u8]> {
        let _ = message;
        None
    }

    /// Whether this framing would write `message`, to the byte, as it came: its echo is then a copy.
    /// A framing that cannot tell says no.
    fn would_write(&self, message: &Message<'_>) -> bool {
        let _ = message;
        false
    }

    /// Leaves room for a header at the end of `out`. The caller then appends the
    /// content and calls [`finish`](Self::finish). The closer `head` is to the
    /// one given then, the less has to be moved.
    ///
    /// # Errors
    ///
    /// [`EncodeError::HeaderTooLong`]; `out` is as it was.
    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError>;

    /// Writes the header in front of the content: all that stands in `out` behind
    /// the room that [`begin`](Self::begin) left. It may append an end behind the content, and it
    /// may change the content.
    ///
    /// # Errors
    ///
    /// [`EncodeError::HeaderTooLong`]; `out` is cut back to what it was before
    /// `begin`. [`EncodeError::MarkLost`] if `out` is shorter than `begin` left it.
    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, head: &Head<'_>)
    -> Result<(), EncodeError>;

    /// Appends the reply that tells a peer of an error: its kind, for programs,
    /// and a text, for people. A framing without such a reply appends nothing.
    ///
    /// # Errors
    ///
    /// [`EncodeError::HeaderTooLong`] for an absurdly long `kind`.
    fn error_reply(&mut self, out: &mut Vec<u8>, kind: &str, text: &str)
    -> Result<(), EncodeError>;

    /// As [`error_reply`](Self::error_reply), to a message that had this [`id`](Self::id). The default
    /// leaves it out.
    ///
    /// # Errors
    ///
    /// As `error_reply`.
    fn error_reply_to(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
        id: &[u8],
    ) -> Result<(), EncodeError> {
        let _ = id;
        self.error_reply(out, kind, text)
    }

    /// Appends the head of a message, behind which `content_len` bytes of content will follow: for
    /// contents that are [streamed](crate::Reply::file).
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish); [`EncodeError::NeedsContent`] from a framing that cannot do this,
    /// which is the default.
    fn write_head(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError> {
        let _ = (out, head, content_len);
        Err(EncodeError::NeedsContent)
    }

    /// Appends one whole message whose content is there already.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        let mark = self.begin(out, head)?;
        out.extend_from_slice(content);
        self.finish(out, mark, head)
    }
}

impl<F: Framing + ?Sized> Framing for Box<F> {
    type Stream = F::Stream;

    fn set_limits(&mut self, limits: DecodeLimits) {
        (**self).set_limits(limits);
    }

    fn decode(
        &mut self,
        stream: &mut Self::Stream,
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        (**self).decode(stream, input, frame)
    }

    fn predict(&mut self, stream: &Self::Stream, input: &[u8], frame: &mut Frame) -> bool {
        (**self).predict(stream, input, frame)
    }

    fn announced(&mut self, stream: &Self::Stream, input: &[u8], frame: &mut Frame) -> Option<u64> {
        (**self).announced(stream, input, frame)
    }

    fn id<'a>(&self, message: &Message<'a>) -> Option<&'a [u8]> {
        (**self).id(message)
    }

    fn error_reply_to(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
        id: &[u8],
    ) -> Result<(), EncodeError> {
        (**self).error_reply_to(out, kind, text, id)
    }

    fn write_head(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError> {
        (**self).write_head(out, head, content_len)
    }

    fn would_write(&self, message: &Message<'_>) -> bool {
        (**self).would_write(message)
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        (**self).begin(out, head)
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        (**self).finish(out, mark, head)
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        (**self).error_reply(out, kind, text)
    }

    fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        (**self).encode(out, head, content)
    }
}

/// The writing half of any [`Framing`], whatever it keeps beside a connection.
pub(crate) trait Writing {
    fn id_of<'m>(&self, message: &Message<'m>) -> Option<&'m [u8]>;
    fn is_echo_a_copy(&self, message: &Message<'_>) -> bool;
    fn begin_message(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError>;
    fn finish_message(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError>;
    fn write_message(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError>;
    fn write_head_of(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError>;
}

impl<F: Framing> Writing for F {
    fn write_head_of(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError> {
        self.write_head(out, head, content_len)
    }

    fn id_of<'m>(&self, message: &Message<'m>) -> Option<&'m [u8]> {
        self.id(message)
    }

    #[inline]
    fn is_echo_a_copy(&self, message: &Message<'_>) -> bool {
        self.would_write(message)
    }

    #[inline]
    fn begin_message(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        self.begin(out, head)
    }

    #[inline]
    fn finish_message(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        self.finish(out, mark, head)
    }

    #[inline]
    fn write_message(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        self.encode(out, head, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Padded, Raw, encode_padded};

    #[test]
    fn is_a_whole_message_without_a_json_header_told_at_little_cost() {
        fn check(
            framing: &mut impl Framing<Stream = ()>,
            wire: &[u8],
            whole: impl Fn(usize) -> bool,
        ) {
            for end in 0..=wire.len() {
                let (input, mut frame) = (wire.get(..end).unwrap(), Frame::new());
                assert_eq!(framing.predict(&(), input, &mut frame), whole(end), "{end} bytes");
                if whole(end) {
                    assert_eq!(framing.find(input), Ok(Some(frame)), "{end} bytes");
                }
            }
        }
        check(&mut Raw, b"whatever comes", |len| len > 0);
        check(&mut Box::new(Raw), b"whatever comes", |len| len > 0);
        let mut wire = Vec::new();
        encode_padded(&mut wire, "Hello World!").unwrap();
        check(&mut Padded::default(), &wire, |len| len == Padded::HEADER_LEN + 12);
        wire[0] = b'-';
        check(&mut Padded::default(), &wire, |_| false);
    }
}
