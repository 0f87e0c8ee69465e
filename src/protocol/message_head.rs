//! [`MessageHead`]: what is known of a message before its content is there.

use std::fmt;
use std::ops::Deref;

use super::{Frame, Message};

/// What is known of a message before its content is there: all that its header says.
///
/// It reads like a [`Message`] whose content is empty: its type, its encoding, its further header
/// keys. [`content_len`](Self::content_len) is how long the content will be.
///
/// ```
/// use myriapod::protocol::{Frame, Framing, Head, JsonHeader, MessageHead};
///
/// let mut framing = JsonHeader::default();
/// let mut wire = Vec::new();
/// framing.write_head(&mut wire, &Head::binary("video/mp4"), 8_000_000_000)?;
///
/// let mut frame = Frame::new();
/// let len = framing.announced(&(), &wire, &mut frame).expect("the head is whole");
/// let head = MessageHead::new(&wire, &frame, len);
/// assert_eq!((head.content_type(), head.content_len()), ("video/mp4", 8_000_000_000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct MessageHead<'a> {
    message: Message<'a>,
    content_len: u64,
}

impl<'a> MessageHead<'a> {
    /// The head that `bytes` start with, which `frame` describes; a content of so many bytes follows.
    #[must_use]
    pub const fn new(bytes: &'a [u8], frame: &'a Frame, content_len: u64) -> Self {
        Self { message: Message::new(bytes, frame), content_len }
    }

    /// Bytes of content that follow.
    #[must_use]
    pub const fn content_len(&self) -> u64 {
        self.content_len
    }
}

impl<'a> Deref for MessageHead<'a> {
    type Target = Message<'a>;

    /// The same as a message without content.
    fn deref(&self) -> &Message<'a> {
        &self.message
    }
}

impl fmt::Debug for MessageHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageHead")
            .field("content_type", &self.content_type())
            .field("content_len", &self.content_len)
            .finish_non_exhaustive()
    }
}
