//! `myriapod bench`: load, and what came of it.

mod advice;
mod args;
mod clock;
mod compare;
mod connection;
mod crew;
mod figures;
mod find_rate;
mod history;
mod html;
mod job;
mod live;
mod load;
mod message;
mod processors;
mod report;
mod run;
mod schedule;
mod server;
mod table;
mod units;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

pub(crate) use self::args::Args;
pub(crate) use self::crew::{WORKER, work};
use self::report::Report;
use self::run::Bench;
use crate::failure::Failure;

/// Runs, prints a table on standard output, and writes the files asked for.
///
/// # Errors
///
/// Arguments that cannot work, a server that cannot be started or found, files that cannot be
/// written. What the run finds out about the server is no error here but the exit status.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let [one, other] = &args.compare[..] {
        let (one, other) = (Report::read(one)?, Report::read(other)?);
        print(&compare::table(&one, &other))?;
        if let Some(path) = &args.html {
            write(path, &html::comparison(&one, &other))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let report = match args.find_rate {
        true => find_rate::search(args)?,
        false => Bench::start(args)?.measure(args)?,
    };
    print(&table::table(&report))?;
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    if let Some(path) = &args.html {
        write(path, &html::page(&report))?;
    }
    Ok(ExitCode::from(report.exit_status))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::io("write", path.display(), &error))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::output(&error))
}
