//! What stands in the place of [`json`](super) without that feature.

use std::convert::Infallible;

use super::{
    Decoded, EncodeError, ExtraHeaders, Frame, Framing, Head, Input, Mark, Message, ProtocolError,
};

/// The framing of a [`Server`](crate::Server) that names none: without the feature `json` there is
/// no such framing, and no value of this type.
///
/// A framing that does work is not in its place: then turning the feature on, which any crate of a
/// program may do, would give another type to a program that relied on it.
#[derive(Clone, Copy, Debug)]
pub struct DefaultFraming(Infallible);

impl Framing for DefaultFraming {
    type Stream = ();

    fn decode(
        &mut self,
        (): &mut (),
        _: Input<'_>,
        _: &mut Frame,
    ) -> Result<Decoded, ProtocolError> {
        match self.0 {}
    }

    fn begin(&mut self, _: &mut Vec<u8>, _: &Head<'_>) -> Result<Mark, EncodeError> {
        match self.0 {}
    }

    fn finish(&mut self, _: &mut Vec<u8>, _: Mark, _: &Head<'_>) -> Result<(), EncodeError> {
        match self.0 {}
    }

    fn error_reply(&mut self, _: &mut Vec<u8>, _: &str, _: &str) -> Result<(), EncodeError> {
        match self.0 {}
    }
}

impl ExtraHeaders {
    /// Appends the further keys of a received message: without the feature `json`, none has any.
    ///
    /// # Errors
    ///
    /// None.
    pub fn push_raw_from(&mut self, message: &Message<'_>) -> Result<(), EncodeError> {
        let _ = message;
        Ok(())
    }
}
