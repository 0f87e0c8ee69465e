//! [`Raw`]: no framing at all.

use super::frame::FrameKind;
use super::{Decoded, EncodeError, Frame, Framing, Head, Input, Mark, Message, ProtocolError};

/// No framing: all bytes that have been received are at once one message, and a
/// reply is its content alone. For an echo server.
///
/// A message's type is `application/octet-stream`, its encoding `binary`.
///
/// ```
/// use myriapod::protocol::{Framing, Message, Raw};
///
/// let frame = Raw.find(b"abc")?.expect("a message");
/// assert_eq!(Message::new(b"abc", &frame).content(), b"abc");
/// assert_eq!(Raw.find(b""), Ok(None));
/// # Ok::<(), myriapod::protocol::ProtocolError>(())
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct Raw;

impl Framing for Raw {
    type Stream = ();

    fn decode(
        &mut self,
        stream: &mut (),
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        let is_some = self.predict(stream, input.bytes, frame);
        Ok(if is_some { Decoded::Message } else { Decoded::More { scanned: 0, in_content: false } })
    }

    #[inline]
    fn predict(&mut self, (): &(), input: &[u8], frame: &mut Frame) -> bool {
        let len = u32::try_from(input.len()).unwrap_or(u32::MAX);
        frame.set_bare(FrameKind::Raw, 0, len);
        len > 0
    }

    #[inline]
    fn would_write(&self, message: &Message<'_>) -> bool {
        message.kind() == FrameKind::Raw
    }

    fn begin(&mut self, out: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        Ok(Mark::bare(out.len()))
    }

    fn finish(&mut self, out: &mut Vec<u8>, mark: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        mark.content_len(out).map(drop)
    }

    fn error_reply(&mut self, _: &mut Vec<u8>, _: &str, _: &str) -> Result<(), EncodeError> {
        Ok(())
    }
}
