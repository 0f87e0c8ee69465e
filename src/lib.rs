//! myriapod
#![forbid(unsafe_code)]

pub mod slab;
pub mod timer;
pub mod protocol;

pub use protocol::{
    ByteOrder, DecodeLimits, Decoded, Decoder, EncodeError, ExtraHeaders, Fault, Frame, Framing,
    Head, JsonHeader, Mark, Message, OwnedMessage, Padded, ProtocolError, Raw, write_json,
};
