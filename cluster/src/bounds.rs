//! What all protocols are bounded by.

/// Bytes of a payload that any broker brings. More is a fault.
pub(crate) const MAX_PAYLOAD: usize = 4 << 20;
