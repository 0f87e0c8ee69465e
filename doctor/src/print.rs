//! A verdict as text and as JSON.

use std::fmt::Write as _;
use std::io;

use myriapod_machine::Machine;
use serde_json::json;

use super::verdict::{Limit, Remedy, Scope, Side, Verdict};
use myriapod_command::terminal::print_text;
use myriapod_machine::figures::grouped;

impl Verdict {
    /// Whether what is asked for can be reached, as far as can be told in advance.
    pub fn suffices(&self) -> bool {
        match (self.asked, self.ceiling) {
            (Some(asked), Some(ceiling)) => asked <= ceiling,
            _ => true,
        }
    }

    /// The limit that bites first.
    pub(crate) fn first(&self) -> Option<&Limit> {
        self.limits.first().filter(|limit| limit.allows.is_some())
    }

    /// What one process' own limits allow.
    pub fn process_ceiling(&self) -> Option<u64> {
        let own = self.limits.iter().find(|limit| limit.scope == Scope::Process)?;
        own.allows
    }

    /// What stands in the way of more, and what would help first.
    pub fn reason(&self) -> Option<String> {
        let first = self.first()?;
        Some(match first.remedies.first() {
            Some(Remedy::Run(command)) => format!("{}; try `{command}`", first.because),
            Some(Remedy::Do(what)) => format!("{}; {what}", first.because),
            None => first.because.clone(),
        })
    }

    /// One line that says in advance what will not be reached, and why; `None` where all will be.
    pub fn warning(&self) -> Option<String> {
        let (asked, first, reason) = (self.asked?, self.first()?, self.reason()?);
        let reached = self.reached(first);
        (!self.suffices()).then(|| {
            format!("of {} only {reached} can be reached: {reason}", connections(&grouped(asked)))
        })
    }

    /// One sentence: where it stops, and why.
    pub(crate) fn sentence(&self) -> String {
        let Some(first) = self.first() else {
            return "No limit is known here.".to_owned();
        };
        let (reached, within, because) = (self.reached(first), self.within(first), &first.because);
        match self.asked {
            None => format!("{} {within}: {because}.", connections(&reached)),
            Some(asked) if self.suffices() => format!(
                "{} can be reached; it would stop at {reached} {within}: {because}.",
                connections(&grouped(asked))
            ),
            Some(asked) => format!(
                "{} cannot be reached; it stops at {reached} {within}: {because}.",
                connections(&grouped(asked))
            ),
        }
    }

    /// `19,936`, or `about 4,900`.
    fn reached(&self, first: &Limit) -> String {
        let number = grouped(self.ceiling.unwrap_or_default());
        if first.estimated { format!("about {number}") } else { number }
    }

    /// What the number holds for.
    fn within(&self, first: &Limit) -> String {
        let side = match (self.side, first.scope) {
            (Side::Both, Scope::Process) => " at each end",
            (Side::Both, _) => " with both ends here",
            _ => "",
        };
        match (first.scope, self.processes) {
            (Scope::Process, 1) => format!("in one process{side}"),
            (Scope::Process, processes) => format!("in {} processes{side}", grouped(processes)),
            (Scope::Route, _) => "from these addresses to these ports".to_owned(),
            _ => format!("on this machine{side}"),
        }
    }

    /// What more processes would reach, where one process' limit bites first.
    fn with_more_processes(&self) -> Option<String> {
        let first = self.first().filter(|first| first.scope == Scope::Process)?;
        let next = self.limits.iter().find(|limit| limit.scope != Scope::Process)?;
        let allows = next.allows.filter(|&allows| Some(allows) > first.allows)?;
        let about = if next.estimated { "about " } else { "" };
        Some(format!("With more processes, {about}{}: {}.", grouped(allows), next.because))
    }
}

fn connections(number: &str) -> String {
    if number == "1" { "1 connection".to_owned() } else { format!("{number} connections") }
}

/// Prints a verdict for people.
///
/// # Errors
///
/// Those of writing to standard output.
pub(super) fn text(verdict: &Verdict) -> io::Result<()> {
    let mut out = String::new();
    render(verdict, &mut out);
    print_text(&out)
}

/// Where the texts behind a number begin.
const INDENT: &str = "               ";

fn render(verdict: &Verdict, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", verdict.sentence());
    if let Some(more) = verdict.with_more_processes() {
        let _ = writeln!(out, "{more}");
    }
    let _ = writeln!(out, "\nWhat each limit allows, and what lifts it; the first bites first:\n");
    for limit in &verdict.limits {
        let number = match limit.allows {
            Some(allows) if limit.estimated => format!("~{}", grouped(allows)),
            Some(allows) => grouped(allows),
            None => "any number".to_owned(),
        };
        let _ = writeln!(out, "{number:>13}  {}: {}", limit.name, limit.reading);
        for remedy in &limit.remedies {
            let _ = match remedy {
                Remedy::Run(command) => writeln!(out, "{INDENT}$ {command}"),
                Remedy::Do(what) => writeln!(out, "{INDENT}{what}"),
            };
        }
    }
    if !verdict.unknown.is_empty() {
        let _ = writeln!(out, "{:>13}  {}", "unknown here", verdict.unknown.join(", "));
    }
    let _ = writeln!(out, "\nWorth knowing:\n");
    for note in &verdict.notes {
        let _ = writeln!(out, "  {}: {}; {}", note.name, note.reading, note.says);
        if let Some(Remedy::Run(command) | Remedy::Do(command)) = &note.remedy {
            let _ = writeln!(out, "{INDENT}$ {command}");
        }
    }
}

/// Prints a verdict for programs: one object on one line.
///
/// # Errors
///
/// Those of writing to standard output.
pub(super) fn json(verdict: &Verdict, machine: &Machine) -> io::Result<()> {
    let object = json!({
        "ceiling": verdict.ceiling,
        "asked": verdict.asked,
        "suffices": verdict.suffices(),
        "says": verdict.sentence(),
        "side": verdict.side,
        "processes": verdict.processes,
        "limits": verdict.limits,
        "notes": verdict.notes,
        "unknown": verdict.unknown,
        "machine": {
            "kernel": machine.kernel,
            "cpu_model": machine.cpu_model,
            "cpus": machine.cpus,
            "memory_bytes": machine.memory.map(|memory| memory.total),
        },
    });
    myriapod_command::terminal::print_line(object)
}
