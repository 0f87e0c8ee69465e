//! The table: every call that a server makes, every errno of its manual page, and what must come
//! of it. Read from `table.txt`, which says how it is written.

use std::collections::BTreeMap;

use crate::trace::Line;
use crate::traced::Scenario;

const TABLE: &str = include_str!("table.txt");

/// What must come of a call that fails once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    Unnoticed,
    Pauses,
    Closes,
    Refuses,
    Ends,
}

impl Expected {
    fn parse(name: &str) -> Self {
        match name {
            "unnoticed" => Self::Unnoticed,
            "pauses" => Self::Pauses,
            "closes" => Self::Closes,
            "refuses" => Self::Refuses,
            "ends" => Self::Ends,
            other => panic!("nothing that may come of a call: {other}"),
        }
    }
}

/// One call of a scenario.
#[derive(Clone, Default, Debug)]
pub(crate) struct Call {
    pub(crate) title: &'static str,
    /// The names that the system call may have.
    names: Vec<&'static str>,
    told_by: ToldBy,
    /// What it is called where it is named.
    pub(crate) named: &'static str,
    pub(crate) is_withheld: bool,
    pub(crate) is_raced: bool,
}

/// What tells a call from others of its name.
#[derive(Clone, Default, Debug)]
struct ToldBy {
    holds: Vec<&'static str>,
    lacks: Vec<&'static str>,
    /// What only a call shows that does not fail.
    gives: Vec<&'static str>,
    with_peers: bool,
    lingering: Option<bool>,
    /// Whether it is the first.
    thread: Option<bool>,
    which: Which,
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Nth(usize),
    Last,
}

impl Default for Which {
    fn default() -> Self {
        Self::Nth(1)
    }
}

impl ToldBy {
    fn parse(text: &'static str) -> Self {
        let mut told = Self::default();
        for one in text.split(" & ").filter(|one| !one.is_empty()) {
            match one {
                "with peers" => told.with_peers = true,
                "while lingering" => told.lingering = Some(true),
                "not while lingering" => told.lingering = Some(false),
                "in the first thread" => told.thread = Some(true),
                "in another thread" => told.thread = Some(false),
                "the last" => told.which = Which::Last,
                "the 2nd" => told.which = Which::Nth(2),
                "the 3rd" => told.which = Which::Nth(3),
                _ => match (one.strip_prefix("not "), one.strip_prefix("gives ")) {
                    (Some(text), _) => told.lacks.push(text),
                    (_, Some(text)) => told.gives.push(text),
                    (None, None) => told.holds.push(one),
                },
            }
        }
        told
    }

    fn are_arguments_of(&self, line: &Line) -> bool {
        self.holds.iter().all(|text| line.text.contains(text))
            && !self.lacks.iter().any(|text| line.text.contains(text))
    }

    fn is_text_of(&self, line: &Line) -> bool {
        self.are_arguments_of(line) && self.gives.iter().all(|text| line.text.contains(text))
    }

    fn is(&self, line: &Line) -> bool {
        self.is_text_of(line)
            && (line.with_peers || !self.with_peers)
            && self.lingering.is_none_or(|lingering| lingering == line.lingering)
            && self.thread.is_none_or(|first| first == (line.thread == 0))
    }
}

impl Call {
    fn parse(title: &'static str, told_by: &'static str, notes: &'static str) -> Self {
        let names: Vec<_> = title.split([' ', ',']).next().unwrap().split('/').collect();
        let named = names[0].trim_end_matches(|digit: char| digit.is_ascii_digit());
        let mut call =
            Self { title, names, told_by: ToldBy::parse(told_by), named, ..Self::default() };
        for note in notes.split(", ").filter(|note| !note.is_empty()) {
            match note.strip_prefix("named ") {
                Some(named) => call.named = named,
                None if note == "withheld" => call.is_withheld = true,
                None if note == "raced" => call.is_raced = true,
                None => panic!("no note: {note}"),
            }
        }
        call
    }

    /// Whether a call that failed may be this one.
    pub(crate) fn may_be(&self, failed: &Line) -> bool {
        self.told_by.are_arguments_of(failed)
    }

    /// Whether a line of a trace is this call, whenever and wherever it is made.
    fn is_named_by(&self, line: &Line) -> bool {
        self.names.contains(&line.name.as_str()) && self.told_by.is_text_of(line)
    }

    /// The system call, and how many of that name its thread makes up to it.
    ///
    /// strace counts for each thread, and makes the call fail in each that comes so far. So it is
    /// one that only its thread makes, or whose counterparts in the others are meant as well; not
    /// so where one thread's is asked for.
    pub(crate) fn place(&self, lines: &[Line]) -> Option<(String, usize)> {
        let mut before: BTreeMap<(&str, usize), Vec<&Line>> = BTreeMap::new();
        let mut places = Vec::new();
        for line in lines.iter().filter(|line| self.names.contains(&line.name.as_str())) {
            let before = before.entry((&line.name, line.thread)).or_default();
            before.push(line);
            places.extend(self.told_by.is(line).then_some((line, before.len())));
        }
        let meant = match self.told_by.which {
            Which::Last => places.get(places.len().saturating_sub(1)..),
            Which::Nth(nth) => places.get(nth - 1..),
        };
        let is_alone = |line: &Line, when: usize| {
            let others = before
                .iter()
                .filter(|((name, thread), _)| *name == line.name && *thread != line.thread);
            let mut others = others.filter_map(|(_, calls)| calls.get(when - 1));
            others.all(|other| self.told_by.thread.is_none() && self.told_by.is(other))
        };
        let (line, when) = meant?.iter().find(|(line, when)| is_alone(line, *when))?;
        Some((line.name.clone(), *when))
    }
}

/// A call that fails with an errno.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) call: Call,
    pub(crate) errno: &'static str,
    pub(crate) expected: Expected,
    /// The errno that it names.
    pub(crate) says: &'static str,
}

/// An errno that a call does not fail with here, and why.
pub(crate) struct LeftOut {
    pub(crate) title: &'static str,
    pub(crate) errno: &'static str,
    pub(crate) why: &'static str,
}

#[derive(Default)]
pub(crate) struct Table {
    pub(crate) cases: Vec<Case>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Calls that have no row for a reason.
    without: Vec<Call>,
}

impl Table {
    pub(crate) fn read() -> Self {
        let mut table = Self::default();
        let is_inner = |line: &&'static str| line.starts_with("    ");
        let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut lines = lines.peekable();
        while lines.peek().is_some() {
            let heads: Vec<_> =
                std::iter::from_fn(|| lines.next_if(|line| !is_inner(line))).collect();
            let body: Vec<_> = std::iter::from_fn(|| lines.next_if(is_inner)).collect();
            if heads.iter().any(|head| head.starts_with("no row: ")) {
                body.iter().for_each(|line| table.add_without(line.trim()));
                continue;
            }
            for (scenario, call) in heads.into_iter().map(header) {
                table.add(scenario, &call, &body);
            }
        }
        table
    }

    fn add_without(&mut self, line: &'static str) {
        match line.split_once(" & ") {
            Some((name, told_by)) => self.without.push(Call::parse(name, told_by, "")),
            None => {
                let names = line.split_whitespace();
                self.without.extend(names.map(|name| Call::parse(name, "", "")));
            }
        }
    }

    fn add(&mut self, scenario: Scenario, call: &Call, body: &[&'static str]) {
        let mut outcome = "";
        for line in body {
            // What is further in goes on with the line before.
            let errnos = match line.strip_prefix("        ") {
                Some(more) => more,
                None => {
                    let (what, errnos) = line.trim().split_once(": ").unwrap();
                    outcome = what;
                    errnos
                }
            };
            for errno in errnos.split_whitespace() {
                if let Some(why) = outcome.strip_prefix("left out, ") {
                    self.left_out.push(LeftOut { title: call.title, errno, why });
                    continue;
                }
                let (expected, says) = outcome.split_once(" as ").unwrap_or((outcome, errno));
                let (call, expected) = (call.clone(), Expected::parse(expected));
                self.cases.push(Case { scenario, call, errno, expected, says });
            }
        }
    }

    /// The calls that have neither a row nor a reason for that, of any thread.
    pub(crate) fn unknown(&self, lines: &[Line]) -> Vec<String> {
        let rows = || self.cases.iter().map(|case| &case.call).chain(&self.without);
        let unknown = lines.iter().filter(|line| !rows().any(|call| call.is_named_by(line)));
        unknown.map(|line| format!("{}{}", line.name, line.text)).collect()
    }
}

/// A call of the table.
fn header(line: &'static str) -> (Scenario, Call) {
    let mut columns = line.split('|').map(str::trim);
    let mut column = || columns.next().unwrap_or_default();
    let scenario = column();
    let is_it = |known: &Scenario| format!("{known:?}").eq_ignore_ascii_case(scenario);
    let scenario = Scenario::ALL.into_iter().find(is_it).unwrap_or_else(|| panic!("{line}"));
    (scenario, Call::parse(column(), column(), column()))
}
