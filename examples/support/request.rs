//! The tutorial's application request, made from `<action> <value>`.

use myriapod::protocol::{EncodeError, Head, write_json};
use serde::Serialize;

/// A search request; the keys are written in this order.
#[derive(Serialize)]
struct Search<'a> {
    action: &'a str,
    value: &'a str,
}

/// What the header says of a request, and its content. Anything but a search is binary.
pub(crate) fn request(action: &str, value: &str) -> Result<(Head<'static>, Vec<u8>), EncodeError> {
    let mut content = Vec::new();
    if action == "search" {
        write_json(&mut content, &Search { action, value })?;
        return Ok((Head::json(), content));
    }
    content.extend_from_slice(action.as_bytes());
    content.extend_from_slice(value.as_bytes());
    Ok((Head::binary("binary/custom-client-binary-type"), content))
}
