//! The error reply of a framing whose messages have no header: JSON text.

use std::fmt::Write;

/// `{"status": "error", "error": KIND, "result": "Error: TEXT"}`.
pub(super) fn error_text(kind: &str, text: &str) -> String {
    let mut reply = error_start(kind);
    reply.push_str(", \"result\": \"Error: ");
    push_escaped(&mut reply, text);
    reply.push_str("\"}");
    reply
}

/// The same without a text, where that does not fit.
pub(super) fn short_error_text(kind: &str) -> String {
    let mut reply = error_start(kind);
    reply.push('}');
    reply
}

fn error_start(kind: &str) -> String {
    let mut reply = String::from("{\"status\": \"error\", \"error\": \"");
    push_escaped(&mut reply, kind);
    reply.push('"');
    reply
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            // A string takes whatever is written to it.
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_text_of_an_error_one_line_of_json() {
        assert_eq!(
            error_text("Kind", "a \"b\" \\\né"),
            r#"{"status": "error", "error": "Kind", "result": "Error: a \"b\" \\\u000aé"}"#
        );
        assert_eq!(short_error_text("Kind"), r#"{"status": "error", "error": "Kind"}"#);
    }
}
