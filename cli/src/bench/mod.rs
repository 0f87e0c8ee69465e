//! `myriapod bench`: arguments, printing and files; the load itself is `myriapod_load`.

mod args;
mod compare;
mod metrics;
mod output;
mod rooms;
mod stop;
mod table;
mod units;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use myriapod_load::{Error, Plan, Report, measure, page};

pub(crate) use self::args::Args;
use self::args::Asked;
use self::output::Output;
use self::stop::Stop;
use self::watch::Watch;
use crate::doctor;
use crate::failure::Failure;
use crate::log_writer::LOG;
use crate::terminal::{OneLine, Patient, print_text, tell};

/// The hidden command that a process of bench's own is started with.
pub(crate) const WORKER: &str = myriapod_load::WORKER;

/// What a process of bench's own does.
pub(crate) fn work() -> Result<ExitCode, Failure> {
    myriapod_load::work().map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs, prints a table on standard output, and writes the files asked for.
///
/// # Errors
///
/// Arguments that cannot work, a server that cannot be started or found, files that cannot be
/// written. What the run finds out about the server is no error here but the exit status.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // Before the load: what cannot be written is told while nothing is lost by it.
    let html = args.html.as_deref().map(Output::open).transpose()?;
    if let [one, other] = &args.compare[..] {
        let read = |path| Report::read(path).map_err(|error| failed(&error));
        let (one, other) = (read(one)?, read(other)?);
        let written = html.map(|html| html.write(page::comparison(&one, &other).as_bytes()));
        print(&compare::table(&one, &other))?;
        written.transpose()?;
        return Ok(ExitCode::SUCCESS);
    }
    let json = args.json.as_deref().map(Output::open_or_stdout).transpose()?;
    if args.service == Asked::Rooms {
        return rooms::run(args, json);
    }
    let plan = args.options()?.plan().map_err(|error| failed(&error))?;
    if let Some(warning) = foretell(&plan).warning() {
        tell(warning);
    }
    let stop = Stop::catch()?;
    // A slow reader of standard error holds nothing up.
    LOG.begin();
    let mut watch = Watch::new(args, stop)?;
    let report = measure(plan, &mut watch).map_err(|error| failed(&error))?;
    let ended = watch.end(&report);
    LOG.end();
    // Each is tried whatever becomes of the others.
    let table = table::table(&report);
    let to_stdout = json.as_ref().is_some_and(Output::is_stdout);
    let written = [
        json.map(|json| json.write(&report.to_json())),
        html.map(|html| html.write(page::page(&report).as_bytes())),
        Some(if to_stdout { tell_table(&table) } else { print(&table) }),
        Some(ended),
    ];
    written.into_iter().flatten().collect::<Result<(), Failure>>()?;
    Ok(ExitCode::from(report.exit_status))
}

/// What of a plan this machine will reach.
fn foretell(plan: &Plan) -> doctor::Verdict {
    doctor::foretell(&doctor::Plan {
        side: if plan.is_local() { doctor::Side::Both } else { doctor::Side::Client },
        connections: Some(plan.connections()),
        processes: plan.processes().into(),
        sources: plan.sources(),
        ports: plan.ports(),
        ..doctor::Plan::default()
    })
}

/// The load's error as the command's: options are called by their flags.
fn failed(error: &Error) -> Failure {
    if let Some(system) = error.system() {
        let failure = Failure::from(system.clone());
        return match error.next_step() {
            Some(next_step) => failure.with_next_step(next_step),
            None => failure,
        };
    }
    let what = as_flags(&error.what());
    let failure = if error.is_usage() { Failure::usage(what) } else { Failure::new(what) };
    match error.next_step() {
        Some(next_step) => failure.with_next_step(as_flags(next_step)),
        None => failure,
    }
}

/// ``in_flight`` between backticks is --in-flight on the command line.
fn as_flags(text: &str) -> String {
    let is_option = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let pieces = text.split('`').enumerate().map(|(nth, piece)| match nth % 2 {
        1 if is_option(piece) => format!("--{}", piece.replace('_', "-")),
        1 => format!("`{piece}`"),
        _ => piece.to_owned(),
    });
    pieces.collect()
}

fn print(text: &str) -> Result<(), Failure> {
    print_text(text).map_err(|error| Failure::output(&error))
}

/// The table on standard error, in one piece.
fn tell_table(table: &str) -> Result<(), Failure> {
    let lines = table.lines().map(|line| format!("{}\n", OneLine(line)));
    let mut stderr = Patient(std::io::stderr());
    let written = stderr.write_all(lines.collect::<String>().as_bytes());
    written.map_err(|error| Failure::io("write", "standard error", &error))
}

/// A report for tests.
#[cfg(test)]
fn sample() -> Report {
    let text = include_str!("../../../load/src/page/test_report.json");
    let mut report: Report = serde_json::from_str(text).unwrap();
    report.messages = Default::default();
    report.exit_status = 0;
    report.exit_reason = "completed".to_owned();
    report
}
