//! [`AnyFraming`]: a framing that is chosen when the program runs.

use std::fmt;
use std::str::FromStr;

use super::{
    DecodeLimits, Decoded, Delimited, EncodeError, Frame, Framing, FramingSpec, Head, Input,
    JsonHeader, JsonHeaderDialect, JsonScan, JsonStream, LengthPrefix, Mark, Message, Padded,
    ProtocolError, Raw, UnknownFraming,
};

/// What [`AnyFraming`] keeps beside each connection.
pub type AnyStream = JsonScan;

/// Any of the framings here, by its [`FramingSpec`].
///
/// ```
/// use myriapod::protocol::{AnyFraming, Decoder};
///
/// let framing: AnyFraming = "length:2be".parse()?;
/// let mut decoder = Decoder::new(framing);
/// decoder.feed(b"\0\x02hi\0");
/// assert_eq!(decoder.next_message()?.expect("it is whole").content(), b"hi");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AnyFraming {
    spec: FramingSpec,
    one: One,
}

#[derive(Clone, Debug)]
enum One {
    JsonHeader(Box<JsonHeader>),
    Dialect(Box<JsonHeaderDialect>),
    Padded(Padded),
    LengthPrefix(LengthPrefix),
    Delimited(Delimited),
    JsonStream(JsonStream),
    Raw(Raw),
}

/// Calls the one that it is. Only [`JsonStream`] keeps something beside a connection.
macro_rules! of_each {
    ($any:expr, $stream:expr, $framing:ident, $kept:ident => $call:expr, $unit:expr) => {
        match $any {
            One::JsonStream($framing) => {
                let $kept = $stream;
                $call
            }
            One::JsonHeader($framing) => {
                let $kept = $unit;
                $call
            }
            One::Dialect($framing) => {
                let $kept = $unit;
                $call
            }
            One::Padded($framing) => {
                let $kept = $unit;
                $call
            }
            One::LengthPrefix($framing) => {
                let $kept = $unit;
                $call
            }
            One::Delimited($framing) => {
                let $kept = $unit;
                $call
            }
            One::Raw($framing) => {
                let $kept = $unit;
                $call
            }
        }
    };
    ($any:expr, $framing:ident => $call:expr) => {
        of_each!($any, (), $framing, _kept => $call, ())
    };
}

impl AnyFraming {
    /// The framing that `spec` names, within these limits.
    #[must_use]
    pub fn new(spec: &FramingSpec, limits: DecodeLimits) -> Self {
        let one = match spec {
            spec if *spec == FramingSpec::DEFAULT => {
                One::JsonHeader(Box::new(JsonHeader::new(limits)))
            }
            FramingSpec::JsonHeader { lenient, width, order } => {
                let dialect = if *lenient {
                    JsonHeaderDialect::lenient(limits)
                } else {
                    JsonHeaderDialect::strict(limits)
                };
                One::Dialect(Box::new(dialect.prefix(*width, *order)))
            }
            FramingSpec::Padded { width, lenient, padded_replies, bytes } => {
                let mut padded = Padded::new(limits).width(*width);
                if *lenient {
                    padded = padded.lenient();
                }
                if *padded_replies {
                    padded = padded.padded_replies();
                }
                One::Padded(if *bytes { padded.bytes() } else { padded })
            }
            FramingSpec::LengthPrefix { width, order, inclusive } => {
                let framing = LengthPrefix::new(*width, *order);
                One::LengthPrefix(if *inclusive { framing.inclusive() } else { framing })
            }
            FramingSpec::Lines => One::Delimited(Delimited::lines()),
            // A delimiter that nobody could parse is taken for the end of a line.
            FramingSpec::Delimited(delimiter) => {
                One::Delimited(Delimited::new(delimiter).unwrap_or_else(Delimited::lines))
            }
            FramingSpec::JsonStream => One::JsonStream(JsonStream::new(limits)),
            FramingSpec::Raw => One::Raw(Raw),
        };
        let mut any = Self { spec: spec.clone(), one };
        any.set_limits(limits);
        any
    }

    /// The same, for a client: of [`Padded`], whose replies may have no header,
    /// [the other side](Padded::for_client).
    #[must_use]
    pub fn for_client(mut self) -> Self {
        if let One::Padded(padded) = self.one {
            self.one = One::Padded(padded.for_client());
        }
        self
    }

    /// The same, with contents of this type and encoding, `("text/json", "utf-8")` say, where the
    /// framing does not say itself what they are: a length or a delimiter does not.
    #[must_use]
    pub fn carrying(mut self, content_type: &'static str, content_encoding: &'static str) -> Self {
        self.one = match self.one {
            One::LengthPrefix(one) => {
                One::LengthPrefix(one.carrying(content_type, content_encoding))
            }
            One::Delimited(one) => One::Delimited(one.carrying(content_type, content_encoding)),
            one => one,
        };
        self
    }

    /// The name of it.
    #[must_use]
    pub const fn spec(&self) -> &FramingSpec {
        &self.spec
    }
}

impl FromStr for AnyFraming {
    type Err = UnknownFraming;

    /// Within the limits that are the default.
    fn from_str(text: &str) -> Result<Self, UnknownFraming> {
        Ok(Self::new(&text.parse()?, DecodeLimits::default()))
    }
}

impl fmt::Display for AnyFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl Framing for AnyFraming {
    type Stream = AnyStream;

    fn set_limits(&mut self, limits: DecodeLimits) {
        of_each!(&mut self.one, framing => framing.set_limits(limits));
    }

    fn decode(
        &mut self,
        stream: &mut AnyStream,
        input: Input<'_>,
        frame: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        of_each!(
            &mut self.one, stream, framing, kept => framing.decode(kept, input, frame), &mut ()
        )
    }

    fn predict(&mut self, stream: &AnyStream, input: &[u8], frame: &mut Frame) -> bool {
        of_each!(&mut self.one, stream, framing, kept => framing.predict(kept, input, frame), &())
    }

    fn announced(&mut self, stream: &AnyStream, input: &[u8], frame: &mut Frame) -> Option<u64> {
        of_each!(&mut self.one, stream, framing, kept => framing.announced(kept, input, frame), &())
    }

    fn id<'a>(&self, message: &Message<'a>) -> Option<&'a [u8]> {
        of_each!(&self.one, framing => framing.id(message))
    }

    fn error_reply_to(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
        id: &[u8],
    ) -> Result<(), EncodeError> {
        of_each!(&mut self.one, framing => framing.error_reply_to(out, kind, text, id))
    }

    fn write_head(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content_len: u64,
    ) -> Result<(), EncodeError> {
        of_each!(&mut self.one, framing => framing.write_head(out, head, content_len))
    }

    fn would_write(&self, message: &Message<'_>) -> bool {
        of_each!(&self.one, framing => framing.would_write(message))
    }

    fn begin(&mut self, out: &mut Vec<u8>, head: &Head<'_>) -> Result<Mark, EncodeError> {
        of_each!(&mut self.one, framing => framing.begin(out, head))
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        mark: Mark,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        of_each!(&mut self.one, framing => framing.finish(out, mark, head))
    }

    fn error_reply(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        text: &str,
    ) -> Result<(), EncodeError> {
        of_each!(&mut self.one, framing => framing.error_reply(out, kind, text))
    }

    fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: &Head<'_>,
        content: &[u8],
    ) -> Result<(), EncodeError> {
        of_each!(&mut self.one, framing => framing.encode(out, head, content))
    }
}
