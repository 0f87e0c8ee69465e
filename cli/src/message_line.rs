//! Messages and faults as lines of JSON.

use myriapod::protocol::{EncodeError, Message, ProtocolError, write_json};

use crate::json::{Json, write_text_of};

/// The keys that every header has, in the protocol's order.
const REQUIRED: [&str; 4] = ["byteorder", "content-type", "content-encoding", "content-length"];

/// Appends `{"header": {…}, "content": "<hex>", "json": …}`, without `json` where there is none. A
/// content that is not what its header says gets a line of its own behind it, and is returned.
pub(crate) fn write_message(
    out: &mut Vec<u8>,
    message: &Message<'_>,
) -> Result<Option<ProtocolError>, EncodeError> {
    let (json, fault) = match message.is_json().then(|| message.json_as::<Json>()) {
        None => (None, None),
        Some(Ok(json)) => (Some(json), None),
        Some(Err(fault)) => (None, Some(fault)),
    };
    out.extend_from_slice(b"{\"header\": ");
    let header = std::str::from_utf8(message.header_bytes()).unwrap_or_default();
    write_text_of(out, &headers(message), header)?;
    out.extend_from_slice(b", \"content\": \"");
    write_hex(out, message.content());
    out.push(b'"');
    if let Some(json) = json {
        out.extend_from_slice(b", \"json\": ");
        // It has just been read from that.
        write_text_of(out, &json, &message.text().unwrap_or_default())?;
    }
    out.extend_from_slice(b"}\n");
    if let Some(fault) = &fault {
        write_fault(out, fault)?;
    }
    Ok(fault)
}

/// Appends `{"content": "<hex>", "json": …}` for a message without a header: `json` for JSON,
/// `text` for other text, neither for what is none. The type of some framings is JSON, and then what
/// is none gets a line behind it, and is returned.
pub(crate) fn write_bare(
    out: &mut Vec<u8>,
    message: &Message<'_>,
) -> Result<Option<ProtocolError>, EncodeError> {
    let (content, text) = (message.content(), std::str::from_utf8(message.content()).ok());
    let parsed = message.is_json().then(|| message.json_as::<Json>());
    // A number alone is text, unless all is JSON.
    let json = match (&parsed, content) {
        (Some(parsed), _) => parsed.as_ref().ok().cloned(),
        (None, [b'{' | b'[', ..]) => serde_json::from_slice(content).ok(),
        (None, _) => None,
    };
    out.extend_from_slice(b"{\"content\": \"");
    write_hex(out, content);
    out.push(b'"');
    if let Some(json) = json {
        out.extend_from_slice(b", \"json\": ");
        write_text_of(out, &json, text.unwrap_or_default())?;
    } else if let Some(text) = text {
        out.extend_from_slice(b", \"text\": ");
        write_json(out, text)?;
    }
    out.extend_from_slice(b"}\n");
    let fault = parsed.and_then(Result::err);
    if let Some(fault) = &fault {
        write_fault(out, fault)?;
    }
    Ok(fault)
}

/// Appends `{"text": …}`.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    out.extend_from_slice(b"{\"text\": ");
    write_json(out, text)?;
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends `{"error": {"kind": …, "header": …, "offset": N}}`, without `header` where none is meant.
pub(crate) fn write_fault(out: &mut Vec<u8>, fault: &ProtocolError) -> Result<(), EncodeError> {
    out.extend_from_slice(b"{\"error\": {\"kind\": ");
    write_json(out, fault.name())?;
    if let Some(header) = fault.header() {
        out.extend_from_slice(b", \"header\": ");
        write_json(out, header)?;
    }
    out.extend_from_slice(b", \"offset\": ");
    write_json(out, &fault.offset())?;
    out.extend_from_slice(b"}}\n");
    Ok(())
}

/// Appends `{"rest": N}`.
pub(crate) fn write_rest(out: &mut Vec<u8>, rest: usize) -> Result<(), EncodeError> {
    out.extend_from_slice(b"{\"rest\": ");
    write_json(out, &rest)?;
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// Every key: the four in the protocol's order, the others in the sender's.
fn headers(message: &Message<'_>) -> Json {
    match serde_json::from_slice(message.header_bytes()) {
        Ok(Json::Object(mut members)) => {
            members.sort_by_key(|(key, _)| {
                REQUIRED.iter().position(|required| required == key).unwrap_or(REQUIRED.len())
            });
            Json::Object(members)
        }
        // A message was decoded from it, so it is an object.
        _ => Json::Object(Vec::new()),
    }
}

fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}
