//! Messages that the benchmarks decode and encode.

/// A message with this header, but for its `content-length`, and this content.
#[must_use]
pub fn message(keys: &str, content: &str) -> Vec<u8> {
    let header = format!("{{{keys}, \"content-length\": {}}}", content.len());
    let mut bytes = u16::try_from(header.len()).unwrap_or_default().to_be_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(content.as_bytes());
    bytes
}

/// The keys that most messages have.
pub const KEYS: &str =
    r#""byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8""#;

/// The same and two more.
pub const MORE_KEYS: &str = r#""byteorder": "little", "content-type": "text/json", "content-encoding": "utf-8", "request-id": 4711, "user": "trinity""#;

/// The content of a request.
pub const CONTENT: &str = r#"{"action": "search", "value": "morpheus"}"#;

/// One outside ASCII.
pub const UNICODE: &str = r#"{"action": "search", "value": "🐶 なぞなぞ Ærø"}"#;

/// A message without content whose header has 4,096 bytes: the four keys, as many further members as
/// there is room for, or so many, and a last one that fills it up.
#[must_use]
pub fn long(most: usize, member: impl Fn(usize) -> String) -> Vec<u8> {
    const LEN: usize = 4096 - r#"{, "last": "", "content-length": 0}"#.len();
    let mut keys = KEYS.to_owned();
    for nth in 0..most {
        let more = format!(", {}", member(nth));
        if keys.len() + more.len() > LEN {
            break;
        }
        keys.push_str(&more);
    }
    let rest = "-".repeat(LEN - keys.len());
    message(&format!("{keys}, \"last\": \"{rest}\""), "")
}
