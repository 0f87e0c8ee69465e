//! Text for people: one line at a time on standard error, and nothing in it that steers a terminal.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

use myriapod::sys::poll::wait_one;
use myriapod::sys::{AsFd, Interest};
use unicode_width::UnicodeWidthStr as _;

use crate::failure::Failure;
use crate::json_log;
use crate::log_writer::LOG;
pub use crate::patient::Patient;

/// Shows a value with everything escaped that would end the line or steer the terminal. Names,
/// paths and what peers send may hold anything.
#[derive(Debug)]
pub struct OneLine<T>(pub T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.split_inclusive(char::is_control).try_for_each(|piece| {
            match piece.chars().next_back() {
                Some(last) if last.is_control() => {
                    self.0.write_str(piece.strip_suffix(last).unwrap_or_default())?;
                    write!(self.0, "{}", last.escape_default())
                }
                _ => self.0.write_str(piece),
            }
        })
    }
}

/// Standard output, for as long as this is held.
pub fn standard_output() -> Patient<io::StdoutLock<'static>> {
    Patient(io::stdout().lock())
}

/// Writes one line to standard error, in one piece. Where that is closed, nobody wants to know.
/// While a server runs, the line is queued ([`LOG`]).
pub fn tell(line: impl fmt::Display) {
    tell_line(if json_log::is_on() {
        json_log::Line::new("note").with("text", &line.to_string()).end()
    } else {
        format!("{}\n", OneLine(line))
    });
}

/// From now on, lines of standard error are JSON; those of a panic too.
pub fn begin_json() {
    json_log::set_on();
    std::panic::set_hook(Box::new(|panic| {
        tell_line(json_log::Line::new("panic").with("text", &panic.to_string()).end());
    }));
}

/// The same of why a command ends.
pub fn tell_failure(failure: &Failure) {
    tell_line(if json_log::is_on() {
        json_log::Line::new("failure").with("text", &failure.to_string()).end()
    } else {
        format!("{}\n", OneLine(format_args!("myriapod: {failure}")))
    });
}

/// Writes a whole line to standard error, or queues it.
pub fn tell_line(line: String) {
    if LOG.is_on() {
        LOG.say(line);
    } else {
        let _ = Patient(io::stderr()).write_all(line.as_bytes());
    }
}

/// Writes one line to standard output, at once.
///
/// # Errors
///
/// Those of the write. That the reader has left is [`io::ErrorKind::BrokenPipe`].
pub fn print_line(line: impl fmt::Display) -> io::Result<()> {
    print_text(&format!("{}\n", OneLine(line)))
}

/// Writes text that may have many lines to standard output. What others named in it must have been
/// shown with [`OneLine`].
///
/// # Errors
///
/// Those of the write. That the reader has left is [`io::ErrorKind::BrokenPipe`].
pub fn print_text(text: &str) -> io::Result<()> {
    let mut out = standard_output();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Whether standard output has room for a text that is not longer than [`ONE_PIECE`].
pub fn has_room() -> bool {
    !matches!(wait_one(io::stdout().as_fd(), Interest::WRITABLE, Some(Duration::ZERO)), Ok(None))
}

/// Bytes that a pipe takes at once where it has room at all: the least that POSIX allows.
pub const ONE_PIECE: usize = 512;

/// Columns and rows of the terminal that standard output is; `None` where it is none, and then
/// nothing is cut, wrapped or redrawn.
pub fn size() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(io::stdout())?;
    // A terminal that does not know its size says 0.
    (width.0 > 0 && height.0 > 0).then(|| (width.0.into(), height.0.into()))
}

/// How many columns of a terminal `text` takes: two for a character of Chinese, none for an accent
/// that stands on the character before.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.width()
}

/// Breaks text at its spaces into lines of at most `width` columns; a longer word has a line of its
/// own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Shows text as Python shows a string: in single quotes, or in double quotes if only that spares
/// an escape.
#[derive(Debug)]
pub struct PythonStr<'a>(pub &'a str);

impl fmt::Display for PythonStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') && !self.0.contains('"') { '"' } else { '\'' };
        f.write_char(quote)?;
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ if character == quote => write!(f, "\\{quote}")?,
                '\0'..' ' | '\x7f'..'\u{a0}' => write!(f, "\\x{:02x}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char(quote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_text_of_others_stay_on_its_line() {
        let text = "a\r\nb\u{1b}[31m\u{85}é🐰";
        assert_eq!(OneLine(text).to_string(), "a\\r\\nb\\u{1b}[31m\\u{85}é🐰");
        assert_eq!(OneLine("").to_string(), "");
    }

    #[test]
    fn does_wrapping_keep_every_word_and_its_width() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("a verylongword b", 5), ["a", "verylongword", "b"]);
        assert_eq!(wrap("", 5), Vec::<String>::new());
        assert_eq!(wrap("漢字 漢字 e\u{301}é", 9), ["漢字 漢字", "e\u{301}é"]);
    }

    #[test]
    fn are_strings_quoted_as_python_does() {
        let quoted = |text| PythonStr(text).to_string();
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("::1"), "'::1'");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("'\"\\\n\u{7f}é"), r#"'\'"\\\n\x7fé'"#);
    }
}
