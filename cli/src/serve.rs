//! `myriapod serve`.

use std::process::ExitCode;

use crate::failure::Failure;

/// Not built yet.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
