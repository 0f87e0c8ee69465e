//! `myriapod errors`: what an error number means to a program that uses sockets.

use std::fmt::Write as _;
use std::process::ExitCode;

use myriapod::sys::{Errno, Explanation};
use serde::Serialize;

use crate::failure::Failure;
use crate::json::json_line;
use crate::terminal::{print_text, size, wrap};

const EXAMPLES: &str = "\
Examples:
  myriapod errors                all that calls on sockets can return
  myriapod errors EADDRINUSE     one of them, by name
  myriapod errors 111            or by number: they differ between systems
  myriapod errors connect        all that connect() can return
  myriapod errors --json | jq -r 'select(.calls | index(\"accept\")).name'

Where the output is no terminal, each has one line, for grep.
Exit status: 0 success, 2 no such errno, name or call.";

/// Say what an error number means to a program that uses sockets, and what to do
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// An error's name or number, or the name of a call; all if left out
    #[arg(value_name = "NAME|NUMBER|CALL")]
    wanted: Option<String>,

    /// Print one line of JSON for each
    #[arg(long)]
    json: bool,
}

/// One error as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    errno: i32,
    name: &'a str,
    message: &'a str,
    calls: &'a [&'a str],
    meaning: Option<&'a str>,
    advice: Option<&'a str>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let found = match &args.wanted {
        None => Errno::explanations().iter().map(|one| one.errno).collect(),
        Some(wanted) => find(wanted)?,
    };
    let width = size().map(|(width, _)| width);
    let mut text = String::new();
    for &errno in &found {
        if args.json {
            write_json(&mut text, errno)?;
        } else if let [errno] = *found {
            write_page(&mut text, errno, width);
        } else if let Some(explanation) = errno.explanation() {
            write_row(&mut text, explanation, width);
        }
    }
    print_text(&text).map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// A number, a name in either case, or all that a call returns.
fn find(wanted: &str) -> Result<Vec<Errno>, Failure> {
    let by_number = || wanted.parse().ok().map(Errno::from_raw).filter(|errno| errno.is_known());
    // The signal that comes in the place of EPIPE, where nobody ignores it.
    let by_name = || match wanted.to_ascii_uppercase().as_str() {
        "SIGPIPE" => Some(Errno::EPIPE),
        name => Errno::from_name(name),
    };
    if let Some(errno) = by_number().or_else(by_name) {
        return Ok(vec![errno]);
    }
    let call = wanted.trim_end_matches("()").to_ascii_lowercase();
    // What is explained for one stands for its relatives.
    let call = match call.as_str() {
        "accept4" => "accept",
        "recvfrom" | "recvmsg" | "read" => "recv",
        "sendto" | "sendmsg" | "write" => "send",
        "epoll_create1" => "epoll_create",
        "ppoll" => "poll",
        "pselect" => "select",
        call => call,
    };
    let returned = Errno::explanations().iter().filter(|one| one.calls.contains(&call));
    let returned: Vec<_> = returned.map(|one| one.errno).collect();
    if returned.is_empty() {
        let failure = format!("{wanted}: no errno, name or call of this system");
        return Err(Failure::usage(failure).with_next_step("`myriapod errors` lists them"));
    }
    Ok(returned)
}

fn write_json(out: &mut String, errno: Errno) -> Result<(), Failure> {
    let explanation = errno.explanation();
    let line = Line {
        errno: errno.raw(),
        name: &errno.name(),
        message: errno.description(),
        calls: explanation.map_or(&[], |one| one.calls),
        meaning: explanation.map(|one| one.meaning),
        advice: explanation.map(|one| one.advice),
    };
    *out += &json_line(&line)?;
    Ok(())
}

/// One of many: number, name, meaning and, behind an arrow, what to do.
fn write_row(out: &mut String, explanation: &Explanation, width: Option<usize>) {
    let Explanation { errno, name, meaning, advice, .. } = explanation;
    let lead = format!("{:>4} {name:<15} ", errno.raw());
    let Some(width) = width else {
        let _ = writeln!(out, "{lead}{meaning} -> {advice}");
        return;
    };
    let room = width.saturating_sub(lead.len()).max(20);
    let mut start = lead.as_str();
    let blank = " ".repeat(lead.len());
    let advice = wrap(advice, room - 2);
    let advice = advice
        .iter()
        .enumerate()
        .map(|(at, line)| format!("{} {line}", if at == 0 { '→' } else { ' ' }));
    for line in wrap(meaning, room).into_iter().chain(advice) {
        let _ = writeln!(out, "{start}{line}");
        start = &blank;
    }
}

/// The only one: a heading, and a paragraph for each question.
fn write_page(out: &mut String, errno: Errno, width: Option<usize>) {
    let _ = writeln!(out, "{}, errno {}: {}", errno.name(), errno.raw(), errno.description());
    let Some(Explanation { calls, meaning, advice, .. }) = errno.explanation() else {
        *out += "no call on a socket returns it\n";
        return;
    };
    let room = width.unwrap_or(usize::MAX).saturating_sub(7).max(20);
    for (head, text) in [("from", &*calls.join(", ")), ("means", meaning), ("do", advice)] {
        let mut head = head;
        for line in wrap(text, room) {
            let _ = writeln!(out, "{head:<6} {line}");
            head = "";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_error_found_by_name_number_and_call() {
        let one = |wanted: &str| find(wanted).map(|found| found[0]);
        assert_eq!(one("EADDRINUSE"), Ok(Errno::EADDRINUSE));
        assert_eq!(one("ewouldblock"), Ok(Errno::EAGAIN));
        assert_eq!(one("SIGPIPE"), Ok(Errno::EPIPE), "its page says what to do about the signal");
        assert_eq!(one(&Errno::EPIPE.raw().to_string()), Ok(Errno::EPIPE));
        assert_eq!(one("ENOEXEC").map(Errno::explanation), Ok(None));
        let connect = find("connect()").unwrap();
        assert!(connect.contains(&Errno::ECONNREFUSED) && !connect.contains(&Errno::EMFILE));
        assert_eq!(find("sendto"), find("send"));
        for wanted in ["", "0", "-1", "12345", "EWHATEVER", "fork"] {
            assert_eq!(find(wanted).unwrap_err().code, 2, "{wanted}");
        }
    }

    #[test]
    fn does_every_row_keep_to_the_width() {
        for width in [80, 120] {
            let mut text = String::new();
            for explanation in Errno::explanations() {
                write_row(&mut text, explanation, Some(width));
                write_page(&mut text, explanation.errno, Some(width));
            }
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{longest:?} of {width}");
        }
        let mut text = String::new();
        Errno::explanations().iter().for_each(|one| write_row(&mut text, one, None));
        assert_eq!(text.lines().count(), Errno::explanations().len());
    }
}
