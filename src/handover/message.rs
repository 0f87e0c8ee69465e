//! [`Message`]: what predecessor and successor say to each other.

use super::wire::{Malformed, Reader, Writer};

/// One message. How they follow one another, the room's own page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The successor says who it is, and what it would serve.
    Hello { version: u16, process: u32, configuration: String },
    /// The predecessor says who it is.
    Welcome { process: u32 },
    /// Nothing comes of it.
    Refused { why: String },
    /// A descriptor for each: the number of the listener's address, and of the place that was asked
    /// for. The last one is the socket of the hand-over itself, without numbers.
    Listeners { numbers: Vec<(u16, u16)> },
    /// All is built: connections may come.
    Ready,
    /// A descriptor for each of these connections of one loop.
    Batch { event_loop: u16, keys: Vec<u64> },
    /// The last batch, or the listeners, have arrived.
    Ack,
    /// A piece of all parcels.
    Parcels { bytes: Vec<u8> },
    /// That was all: so many parcels in all pieces.
    Prepare { connections: u32 },
    /// They are understood, and each has its descriptor.
    Prepared,
    /// They belong to the successor from now on.
    Commit,
    /// Who watches over the predecessor knows of the successor. So many connections may come later,
    /// each as a parcel and a batch of one.
    Told { late: u32 },
}

impl Message {
    /// Bytes in front of each message: its kind, and the length of the rest.
    pub(crate) const HEAD: usize = 5;

    /// The most bytes of one message, without those in front.
    pub(crate) const MAX_LEN: usize = 64 << 10;

    /// The most bytes of a piece of the parcels.
    pub(crate) const PIECE: usize = 60 << 10;

    /// The most bytes of a reason, and of a configuration.
    const MAX_WHY: usize = 4 << 10;
    const MAX_CONFIGURATION: usize = 48 << 10;

    /// Appends it as it goes over the channel.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut to = Writer(out);
        to.u8(self.kind());
        to.u32(0);
        match self {
            Self::Hello { version, process, configuration } => {
                // These stay where they are in all versions.
                to.u16(*version);
                to.u32(*process);
                to.bytes(clipped(configuration, Self::MAX_CONFIGURATION).as_bytes());
            }
            Self::Welcome { process } => to.u32(*process),
            // So does this.
            Self::Refused { why } => to.bytes(clipped(why, Self::MAX_WHY).as_bytes()),
            Self::Listeners { numbers } => {
                numbers.iter().for_each(|(number, place)| {
                    to.u16(*number);
                    to.u16(*place);
                });
            }
            Self::Batch { event_loop, keys } => {
                to.u16(*event_loop);
                keys.iter().for_each(|key| to.u64(*key));
            }
            Self::Parcels { bytes } => to.0.extend_from_slice(bytes),
            Self::Prepare { connections } => to.u32(*connections),
            Self::Told { late } => to.u32(*late),
            Self::Ready | Self::Ack | Self::Prepared | Self::Commit => {}
        }
        let len = u32::try_from(out.len() - start - Self::HEAD).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(start + 1..start + Self::HEAD) {
            place.copy_from_slice(&len.to_le_bytes());
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Welcome { .. } => 2,
            Self::Refused { .. } => 3,
            Self::Listeners { .. } => 4,
            Self::Ready => 5,
            Self::Batch { .. } => 6,
            Self::Ack => 7,
            Self::Parcels { .. } => 8,
            Self::Prepare { .. } => 9,
            Self::Prepared => 10,
            Self::Commit => 11,
            Self::Told { .. } => 12,
        }
    }

    /// The length of the message that begins like this; `None` where more is needed to tell.
    pub(crate) fn len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(head) = bytes.get(..Self::HEAD) else { return Ok(None) };
        let len = Reader(head.get(1..).unwrap_or_default()).u32()? as usize;
        if len > Self::MAX_LEN { Err(Malformed) } else { Ok(Some(Self::HEAD + len)) }
    }

    /// Reads one message, which `bytes` are.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        let kind = from.u8()?;
        from.u32()?;
        let message = match kind {
            1 => {
                let (version, process) = (from.u16()?, from.u32()?);
                if version != super::VERSION {
                    // What follows may be anything.
                    return Ok(Self::Hello { version, process, configuration: String::new() });
                }
                let configuration = from.text(Self::MAX_CONFIGURATION)?.to_owned();
                Self::Hello { version, process, configuration }
            }
            2 => Self::Welcome { process: from.u32()? },
            3 => Self::Refused { why: from.text(Self::MAX_WHY)?.to_owned() },
            4 => {
                let mut numbers = Vec::new();
                while !from.is_empty() {
                    numbers.push((from.u16()?, from.u16()?));
                }
                Self::Listeners { numbers }
            }
            5 => Self::Ready,
            6 => {
                let event_loop = from.u16()?;
                let mut keys = Vec::new();
                while !from.is_empty() {
                    keys.push(from.u64()?);
                }
                Self::Batch { event_loop, keys }
            }
            7 => Self::Ack,
            8 => Self::Parcels { bytes: from.take(from.0.len())?.to_vec() },
            9 => Self::Prepare { connections: from.u32()? },
            10 => Self::Prepared,
            11 => Self::Commit,
            12 => Self::Told { late: from.u32()? },
            _ => return Err(Malformed),
        };
        if from.is_empty() { Ok(message) } else { Err(Malformed) }
    }
}

/// The front of a text, so many bytes at the most.
fn clipped(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        let configuration = "search\n127.0.0.1:65432".to_owned();
        vec![
            Message::Hello { version: super::super::VERSION, process: 7, configuration },
            Message::Welcome { process: 8 },
            Message::Refused { why: "another service".to_owned() },
            Message::Listeners { numbers: vec![(0, 0), (1, 0), (u16::MAX, u16::MAX)] },
            Message::Ready,
            Message::Batch { event_loop: 2, keys: vec![1, u64::MAX] },
            Message::Ack,
            Message::Parcels { bytes: vec![1, 2, 3] },
            Message::Prepare { connections: 9 },
            Message::Prepared,
            Message::Commit,
            Message::Told { late: 2 },
        ]
    }

    #[test]
    fn are_messages_read_as_they_were_written() {
        for message in all() {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(Message::len(&bytes), Ok(Some(bytes.len())));
            assert_eq!(Message::read(&bytes).as_ref(), Ok(&message));
            assert_eq!(Message::len(&bytes[..4]), Ok(None));
            // A byte too many is no message of ours.
            let mut longer = bytes.clone();
            longer.push(0);
            let grows = matches!(
                message,
                Message::Listeners { .. } | Message::Batch { .. } | Message::Parcels { .. }
            );
            assert!(grows || Message::read(&longer) == Err(Malformed), "{message:?}");
        }
    }

    #[test]
    fn is_a_message_that_announces_too_much_refused() {
        assert_eq!(Message::len(&[8, 0, 0, 1, 0]), Ok(Some(Message::MAX_LEN + Message::HEAD)));
        assert_eq!(Message::len(&[8, 1, 0, 1, 0]), Err(Malformed));
        assert_eq!(Message::read(&[99, 0, 0, 0, 0]), Err(Malformed));
        assert_eq!(Message::read(&[]), Err(Malformed));
    }

    #[test]
    fn is_a_successor_of_another_version_understood_that_far() {
        let mut bytes = Vec::new();
        Message::Hello { version: 9, process: 7, configuration: "x".to_owned() }.write(&mut bytes);
        bytes.extend_from_slice(b"what nobody knows yet");
        let understood = Message::read(&bytes).unwrap();
        let configuration = String::new();
        assert_eq!(understood, Message::Hello { version: 9, process: 7, configuration });
    }

    #[test]
    fn is_a_reason_cut_between_characters() {
        let why = "ü".repeat(Message::MAX_WHY);
        let mut bytes = Vec::new();
        Message::Refused { why }.write(&mut bytes);
        let Ok(Message::Refused { why }) = Message::read(&bytes) else { panic!("no reason") };
        assert_eq!(why.len(), Message::MAX_WHY);
    }
}
