//! [`Report`]: what is printed of each rung.

use std::time::Duration;

use serde::Serialize;

use super::args::Args;
use super::ladder::{again, range};
use super::lessons::{LADDER, Lesson, number};
use super::words::time;
use crate::failure::Failure;
use crate::json::json_line;
use crate::terminal::{OneLine, print_text, size, wrap};

/// Where text begins: behind `FAIL  two-at-once `.
const INDENT: usize = 18;

/// The narrowest text that is still read with ease, and the widest.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=100;

/// What became of a rung.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Passed(Option<String>),
    Failed(String),
    /// It failed once, and not again.
    Unsure(String),
    /// It cannot be told from here.
    Skipped(String),
    DoesNotApply(String),
    /// Behind the rung that failed.
    NotTried(&'static str),
    /// Information only.
    Told(String),
}

impl Outcome {
    const fn name(&self) -> &'static str {
        match self {
            Self::Passed(_) => "ok",
            Self::Failed(_) => "fail",
            Self::Unsure(_) => "unsure",
            Self::Skipped(_) => "skipped",
            Self::DoesNotApply(_) => "does not apply",
            Self::NotTried(_) => "not tried",
            Self::Told(_) => "told",
        }
    }
}

/// One rung as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    rung: &'a str,
    number: usize,
    result: &'a str,
    /// What the clients saw of a failure, or why it was not tried.
    saw: Option<&'a str>,
    /// What was measured.
    figure: Option<&'a str>,
    lesson: &'a str,
    read: &'a str,
    errors: &'a [&'a str],
    r#try: Option<String>,
    trace: &'a [String],
    took_ms: u128,
}

pub(super) struct Report<'a> {
    args: &'a Args,
    run: Option<&'a str>,
    width: usize,
    /// Those whose line is not printed yet: one line for all that are alike and next to each other.
    pending: Vec<&'static Lesson>,
    pending_is: Pending,
    counts: [usize; 5],
    failed: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pending {
    Ok,
    Skip(String),
}

impl<'a> Report<'a> {
    pub(super) fn new(args: &'a Args, run: Option<&'a str>) -> Self {
        let width = size().map_or(*WIDTHS.end(), |(width, _)| width);
        Self {
            args,
            run,
            width: width.clamp(*WIDTHS.start(), *WIDTHS.end()),
            pending: Vec::new(),
            pending_is: Pending::Ok,
            counts: [0; 5],
            failed: Vec::new(),
        }
    }

    /// # Errors
    ///
    /// Output that cannot be written.
    pub(super) fn tell(
        &mut self,
        lesson: &'static Lesson,
        outcome: &Outcome,
        trace: &[String],
        took: Duration,
    ) -> Result<(), Failure> {
        let at = match outcome {
            Outcome::Passed(_) | Outcome::Told(_) => 0,
            Outcome::Failed(_) => 1,
            Outcome::Unsure(_) => 2,
            Outcome::Skipped(_) | Outcome::DoesNotApply(_) => 3,
            Outcome::NotTried(_) => 4,
        };
        self.counts[at] += 1;
        if at == 1 {
            self.failed.push(lesson.name);
        }
        if self.args.json {
            return self.tell_json(lesson, outcome, trace, took);
        }
        let trace = if self.args.trace { trace } else { &[] };
        match outcome {
            Outcome::Passed(_) if trace.is_empty() => self.put_off(lesson, &Pending::Ok),
            Outcome::Passed(figure) => {
                self.flush()?;
                let text = figure.as_deref().unwrap_or(lesson.asks);
                let mut lines = self.labelled("ok", lesson.name, text);
                lines.extend(trace.iter().map(|line| format!("      {}", OneLine(line))));
                print(&lines)
            }
            Outcome::Skipped(why) | Outcome::DoesNotApply(why) => {
                self.put_off(lesson, &Pending::Skip(why.clone()))
            }
            Outcome::NotTried(broken) => self.put_off(
                lesson,
                &Pending::Skip(match *broken {
                    "answers" => {
                        "not tried: nothing can be told of a server that does not answer".into()
                    }
                    broken => {
                        format!("not tried: behind {broken}; --keep-going tries them all the same")
                    }
                }),
            ),
            Outcome::Told(text) => {
                self.flush()?;
                let mut lines = self.labelled("info", lesson.name, text);
                lines.extend(trace.iter().map(|line| format!("      {}", OneLine(line))));
                print(&lines)
            }
            Outcome::Unsure(text) => {
                self.flush()?;
                let text = format!("failed once and not again: {text}");
                let mut lines = self.labelled("unsure", lesson.name, &text);
                lines.extend(trace.iter().map(|line| format!("      {}", OneLine(line))));
                print(&lines)
            }
            Outcome::Failed(text) => {
                self.flush()?;
                let mut lines = self.labelled("FAIL", lesson.name, text);
                lines.extend(trace.iter().map(|line| format!("      {}", OneLine(line))));
                lines.extend(self.labelled("", "lesson", lesson.lesson));
                let errors: Vec<_> =
                    lesson.errors.iter().map(|name| format!("myriapod errors {name}")).collect();
                let read = format!("guide, {}; {}", lesson.read, errors.join(", "));
                lines.extend(self.labelled("", "read", &read));
                let again = again(self.args, self.run, lesson);
                // A command is one line, so that it can be copied.
                lines.push(format!("      {:<12}{again}", "try"));
                print(&lines)
            }
        }
    }

    fn tell_json(
        &self,
        lesson: &'static Lesson,
        outcome: &Outcome,
        trace: &[String],
        took: Duration,
    ) -> Result<(), Failure> {
        let failed = matches!(outcome, Outcome::Failed(_) | Outcome::Unsure(_));
        let not_tried;
        let (saw, figure) = match outcome {
            Outcome::Passed(figure) => (None, figure.as_deref()),
            Outcome::Told(text) => (None, Some(text.as_str())),
            Outcome::NotTried(broken) => {
                not_tried = format!("behind {broken}");
                (Some(not_tried.as_str()), None)
            }
            Outcome::Failed(text)
            | Outcome::Unsure(text)
            | Outcome::Skipped(text)
            | Outcome::DoesNotApply(text) => (Some(text.as_str()), None),
        };
        let line = json_line(&Line {
            rung: lesson.name,
            number: number(lesson),
            result: outcome.name(),
            saw,
            figure,
            lesson: lesson.lesson,
            read: lesson.read,
            errors: lesson.errors,
            r#try: failed.then(|| again(self.args, self.run, lesson)),
            trace: if self.args.trace || failed { trace } else { &[] },
            took_ms: took.as_millis(),
        })?;
        print_text(&line).map_err(|error| Failure::output(&error))
    }

    /// `FAIL  rude        a client reset …`, wrapped below its first word.
    fn labelled(&self, label: &str, name: &str, text: &str) -> Vec<String> {
        let text = OneLine(text).to_string();
        let mut lines = wrap(&text, self.width - INDENT);
        let indent = " ".repeat(INDENT);
        for (at, line) in lines.iter_mut().enumerate() {
            *line = match at {
                0 => format!("{label:<5} {name:<11} {line}"),
                _ => format!("{indent}{line}"),
            };
        }
        lines
    }

    /// Several rungs that are left out, and why.
    fn listed(&self, names: &str, why: &str) -> Vec<String> {
        let mut lines = wrap(&format!("{names}: {why}"), self.width - 6);
        for (at, line) in lines.iter_mut().enumerate() {
            *line = format!("{:<6}{line}", if at == 0 { "skip" } else { "" });
        }
        lines
    }

    /// Keeps a rung until one comes that is unlike it.
    fn put_off(&mut self, lesson: &'static Lesson, is: &Pending) -> Result<(), Failure> {
        if self.pending_is != *is {
            self.flush()?;
            self.pending_is = is.clone();
        }
        self.pending.push(lesson);
        // Those that took their time are told soon.
        if *is == Pending::Ok && self.pending.len() >= 8 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let rungs = std::mem::take(&mut self.pending);
        if rungs.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = rungs.iter().map(|lesson| lesson.name).collect();
        let names = names.join(", ");
        let lines = match &self.pending_is {
            Pending::Ok => {
                let mut lines = wrap(&names, self.width - 6);
                for (at, line) in lines.iter_mut().enumerate() {
                    *line = format!("{:<6}{line}", if at == 0 { "ok" } else { "" });
                }
                lines
            }
            Pending::Skip(why) if rungs.len() > 1 => match range(&rungs) {
                Some(range) if why.starts_with("not tried") => self.labelled("skip", &range, why),
                _ => self.listed(&names, why),
            },
            Pending::Skip(why) => self.labelled("skip", &names, why),
        };
        print(&lines)
    }

    /// The last line; says whether no rung failed.
    ///
    /// # Errors
    ///
    /// Output that cannot be written.
    pub(super) fn end(&mut self, took: Duration) -> Result<bool, Failure> {
        if !self.args.json {
            self.flush()?;
            let [ok, failed, unsure, skipped, not_tried] = self.counts;
            let mut parts = vec![format!("{ok} ok"), format!("{failed} failed")];
            for (count, what) in
                [(unsure, "unsure"), (skipped, "skipped"), (not_tried, "not tried")]
            {
                if count > 0 {
                    parts.push(format!("{count} {what}"));
                }
            }
            let mut lines = vec![format!("{}, in {}", parts.join(", "), time(took))];
            if failed > 1 && self.run.is_none() {
                lines.extend(wrap(
                    "All rungs met the same process: what one of them broke, those behind it found \
                     broken. With --run each has a fresh one.",
                    self.width,
                ));
            }
            print(&lines)?;
        }
        Ok(self.failed.is_empty())
    }
}

fn print(lines: &[String]) -> Result<(), Failure> {
    let mut text = lines.join("\n");
    text.push('\n');
    print_text(&text).map_err(|error| Failure::output(&error))
}

/// What `--list` prints.
///
/// # Errors
///
/// Output that cannot be written.
pub(super) fn list() -> Result<(), Failure> {
    let width = size().map_or(*WIDTHS.end(), |(width, _)| width);
    let width = width.clamp(*WIDTHS.start(), *WIDTHS.end());
    let mut lines = Vec::new();
    for lesson in LADDER {
        let mut wants = Vec::new();
        if lesson.services.len() < 3 {
            wants.push(
                lesson.services.iter().map(|one| one.name()).collect::<Vec<_>>().join(" or "),
            );
        }
        match lesson.grade {
            super::lessons::Grade::Wire => {}
            super::lessons::Grade::Machine => wants.push("on this machine".into()),
            super::lessons::Grade::Child => wants.push("--run".into()),
        }
        if lesson.slow {
            wants.push("--slow".into());
        }
        if !lesson.one_shot {
            wants.push("not --one-shot".into());
        }
        let wants =
            if wants.is_empty() { String::new() } else { format!(" [{}]", wants.join(", ")) };
        let text = format!("{}{wants}", lesson.asks);
        for (at, line) in wrap(&text, width - INDENT).iter().enumerate() {
            lines.push(match at {
                0 => format!("{:>3}  {:<12} {line}", number(lesson), lesson.name),
                _ => format!("{}{line}", " ".repeat(INDENT)),
            });
        }
    }
    print(&lines)
}
