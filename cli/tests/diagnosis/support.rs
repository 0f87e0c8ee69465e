//! What these tests share: the command, and what it said.

use std::process::{Command, Output};

pub(crate) fn myriapod(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_myriapod")).args(args).output().unwrap()
}

/// Standard output, standard error and status.
pub(crate) fn seen(output: &Output) -> (&str, &str, i32) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}
