//! Faults that a JSON parser finds.

use std::fmt;

use crate::protocol::error::{Detail, Fault, ProtocolError};

impl ProtocolError {
    /// A fault that a parser found, with what the parser says.
    #[cold]
    pub(in crate::protocol) fn because(kind: Fault, reason: impl fmt::Display) -> Self {
        let detail = Detail { header: None, reason: Some(reason.to_string()) };
        Self { offset: 0, detail: Some(Box::new(detail)), kind }
    }
}
