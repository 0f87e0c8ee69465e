//! What strace wrote: the calls of all threads, in the order in which they began.

use std::collections::{BTreeMap, BTreeSet};

/// A system call.
#[derive(Debug)]
pub(crate) struct Line {
    /// The first thread is 0, and so on in the order of their first calls.
    pub(crate) thread: usize,
    pub(crate) name: String,
    /// All that follows the name.
    pub(crate) text: String,
    /// The bystanders are there, and the other peers have begun.
    pub(crate) with_peers: bool,
    /// It is about a socket whose side we had shut down.
    pub(crate) lingering: bool,
}

/// Where another thread's line came in between, a call is in two parts.
///
/// So many `bystanders` come before the other peers.
pub(crate) fn lines(trace: &[String], bystanders: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut threads = BTreeMap::new();
    let mut unfinished = BTreeMap::new();
    for line in trace {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let next = threads.len();
        let thread = *threads.entry(thread).or_insert(next);
        let call = call.trim();
        if let Some(rest) = call.strip_prefix("<... ") {
            let begun: Option<usize> = unfinished.remove(&thread);
            if let (Some(begun), Some((_, rest))) = (begun, rest.split_once("resumed>")) {
                lines[begun].text.push_str(rest);
            }
        } else if let Some((name, text)) = call.split_once('(')
            && !call.starts_with("---")
        {
            let text = match text.strip_suffix("<unfinished ...>") {
                Some(begun) => {
                    unfinished.insert(thread, lines.len());
                    begun.trim_end()
                }
                None => text,
            };
            let (name, text) = (name.to_owned(), format!("({text}"));
            lines.push(Line { thread, name, text, with_peers: false, lingering: false });
        }
    }
    mark(&mut lines, bystanders);
    lines
}

/// Marks what a call is about and when it is made.
fn mark(lines: &mut [Line], bystanders: usize) {
    let mut accepted = 0;
    let mut shut_down = BTreeSet::new();
    for line in lines {
        accepted += usize::from(line.name == "accept4" && !line.text.contains("= -1"));
        line.with_peers = accepted > bystanders;
        let about = line.text.split([',', ')']).next().unwrap_or_default();
        match line.name.as_str() {
            "shutdown" => drop(shut_down.insert(about.to_owned())),
            _ => line.lingering = shut_down.contains(about),
        }
    }
}
