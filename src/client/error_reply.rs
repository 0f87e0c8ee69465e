//! What tells an error reply from an answer.

use serde_json::{Map, Value};

use crate::protocol::Message;

impl Message<'_> {
    /// The kind of error, where this is an error reply: one whose `status` header is `error`. Its
    /// `error` header is the kind; empty where that is missing or no string. Of a message without a
    /// header, whose content begins with `{"status": "error"`, the two are members of that.
    ///
    /// ```
    /// use myriapod::protocol::{Decoder, ExtraHeaders, Head, JsonHeader, encode_json};
    ///
    /// let mut extra = ExtraHeaders::new();
    /// extra.push("status", "error")?;
    /// extra.push("error", "NotFound")?;
    /// let mut decoder = Decoder::new(JsonHeader::default());
    /// let head = Head { extra: &extra, ..Head::json() };
    /// encode_json(decoder.buffer_mut(), &head, &serde_json::json!({ "result": "Error: no" }))?;
    ///
    /// let reply = decoder.next_message()?.expect("the message is whole");
    /// assert_eq!(reply.error_kind().as_deref(), Some("NotFound"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn error_kind(&self) -> Option<String> {
        if self.header_bytes().is_empty() && self.content().starts_with(b"{\"status\": \"error\"") {
            let members: Map<String, Value> = serde_json::from_slice(self.content()).ok()?;
            let kind = members.get("error").and_then(Value::as_str);
            return Some(kind.unwrap_or_default().to_owned());
        }
        if self.header("status")?.as_str()? != "error" {
            return None;
        }
        let kind = self.header("error");
        Some(kind.and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default())
    }
}
