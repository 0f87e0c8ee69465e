//! [`FramingKind`]: how the peers of a world frame what they ask, and the server what it answers.

use myriapod::Limits;
use myriapod::protocol::{DecodeLimits, Framing, JsonHeader, Padded, Raw};
use myriapod::sys::sim::Rng;

/// One of the engine's framings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingKind {
    JsonHeader,
    Padded,
    Raw,
}

impl FramingKind {
    /// What a world speaks: JSON headers more often than the others, since they are what a program
    /// will use.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0 | 1 => Self::Padded,
            2 | 3 => Self::Raw,
            _ => Self::JsonHeader,
        }
    }

    /// The engine's own.
    pub(crate) fn framing(self, limits: &Limits) -> Box<dyn Framing<Stream = ()>> {
        let Limits { max_header_len, max_content_len, .. } = *limits;
        let limits = DecodeLimits { max_header_len, max_content_len };
        match self {
            Self::JsonHeader => Box::new(JsonHeader::new(limits)),
            Self::Padded => Box::new(Padded::new(limits)),
            Self::Raw => Box::new(Raw),
        }
    }
}
