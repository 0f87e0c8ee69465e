//! [`Screen`]: what comes, as lines for people, or as JSON.

use std::io::{self, IsTerminal as _};

use serde::Deserialize;

use myriapod_command::terminal::{self, OneLine, print_text};

/// What a server sends, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Heard {
    pub(super) event: Option<String>,
    pub(super) result: Option<String>,
    pub(super) name: Option<String>,
    pub(super) text: Option<String>,
    pub(super) n: Option<u64>,
    pub(super) count: Option<u64>,
    pub(super) messages: Vec<Heard>,
    pub(super) members_here: Vec<String>,
    pub(super) members_count: Option<u64>,
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    json: bool,
    colours: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colours: io::stdout().is_terminal() && !plain }
    }

    /// What a newcomer needs to know, where somebody sits in front of it.
    pub(super) fn greet(&self, room: &str, name: &str) -> io::Result<()> {
        if self.json || !is_for_people() {
            return Ok(());
        }
        let (room, name) = (OneLine(room), self.name(name));
        let line = format!("you are {name} in {room}: /tell NAME TEXT, /members, Ctrl-D to leave");
        print_text(&(self.notice(&line) + "\n"))
    }

    /// A line that nobody said.
    fn notice(&self, line: &str) -> String {
        let star = if self.colours { "\x1b[2m*\x1b[0m" } else { "*" };
        format!("{star} {line}")
    }

    /// Prints a push as it came.
    pub(super) fn raw(&self, push: &str) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        // JSON has line feeds between its values alone.
        print_text(&format!("{}\n", push.replace(|c: char| c.is_ascii_control(), " ")))
    }

    /// Prints what happened, for people.
    pub(super) fn show(&self, heard: &Heard) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let name = || self.name(heard.name.as_deref().unwrap_or("?"));
        let text = OneLine(heard.text.as_deref().unwrap_or_default());
        let line = match heard.event.as_deref() {
            Some("told") => format!("{} (to you): {text}", name()),
            Some("joined") => self.notice(&format!("{} is here", name())),
            Some("left") => self.notice(&format!("{} has left", name())),
            Some("dropped") => {
                let count = heard.count.unwrap_or(0);
                self.notice(&format!("{count} messages were dropped: they came too fast"))
            }
            Some("said") | None => format!("{}: {text}", name()),
            Some(_) => return Ok(()),
        };
        print_text(&(line + "\n"))
    }

    /// Prints who is in the room.
    pub(super) fn show_members(&self, heard: &Heard) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let names: Vec<String> = heard.members_here.iter().map(|name| self.name(name)).collect();
        let more = heard.members_count.map_or(String::new(), |count| {
            format!(" and {} more", count.saturating_sub(names.len() as u64))
        });
        print_text(&(self.notice(&format!("here: {}{more}", names.join(", "))) + "\n"))
    }

    /// A name, always in the same colour.
    fn name(&self, name: &str) -> String {
        let shown = OneLine(name);
        if !self.colours {
            return shown.to_string();
        }
        // Six colours that can be read on black and on white.
        let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
        format!("\x1b[{}m{shown}\x1b[0m", 31 + sum % 6)
    }
}

/// Whether somebody types and reads, on a terminal that can move its cursor.
pub(super) fn is_for_people() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb
}

/// Takes a line off the screen that was typed and comes back as what was said. A command stays.
pub(super) fn take_back(line: &str) -> io::Result<()> {
    let is_said = !line.starts_with('/') || line.starts_with("//");
    let width = terminal::size().map_or(80, |(width, _)| width);
    if !is_said || line.is_empty() || terminal::columns(line) >= width {
        return Ok(());
    }
    print_text("\x1b[1A\r\x1b[2K")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn can_a_name_steer_the_terminal() {
        for colours in [false, true] {
            let shown = Screen { json: false, colours }.name("a\u{1b}[2J");
            assert_eq!(shown.contains("a\\u{1b}[2J"), !shown.contains("a\u{1b}"), "{shown:?}");
            assert!(shown.contains("\\u{1b}"));
        }
    }
}
