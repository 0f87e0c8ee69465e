//! Faults that a JSON parser finds.

use std::fmt;

use crate::protocol::error::{Detail, Fault, ProtocolError};

impl ProtocolError {
    /// A fault that a parser found, with what the parser says.
    #[cold]
    pub(in crate::protocol) fn because(kind: Fault, reason: impl fmt::Display) -> Self {
        let detail = Detail { reason: Some(reason.to_string()), ..Detail::default() };
        Self { offset: 0, detail: Some(Box::new(detail)), kind }
    }
}
