//! Messages with a JSON header, and contents that are JSON.
//!
//! The rest of [`protocol`](super) knows nothing of JSON text.

mod dialect;
mod encoder;
mod error;
mod extra;
mod full_parse;
mod header;
mod key_set;
mod message;
mod prediction;
mod scan;
#[cfg(test)]
mod scan_agrees;
mod stream;
mod text;
mod values;
mod write;

pub use dialect::JsonHeaderDialect;
pub use encoder::{encode, encode_json};
pub use header::JsonHeader;
pub use stream::{JsonScan, JsonStream};
pub use write::write_json;

/// The framing of a [`Server`](crate::Server) that names none: [`JsonHeader`].
pub type DefaultFraming = JsonHeader;

/// Panics where the scan of a header and its full parse disagree. For fuzzing alone.
#[cfg(fuzzing)]
pub fn check_scan(header: &[u8]) {
    scan::check(header);
}
