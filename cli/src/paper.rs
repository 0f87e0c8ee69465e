//! `myriapod man` and `myriapod completions`: what a package installs beside the command.

use std::process::ExitCode;

use clap::{Command, ValueHint};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::terminal::print_text;

const MAN_EXAMPLES: &str = "\
Examples:
  myriapod man | man -l -               read it
  myriapod man serve > myriapod-serve.1  the page of one command
  for c in '' serve bench; do myriapod man $c > \"myriapod${c:+-$c}.1\"; done

Exit status: 0 success, 1 failure, 2 wrong usage.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  myriapod completions bash > /usr/share/bash-completion/completions/myriapod
  myriapod completions fish > ~/.config/fish/completions/myriapod.fish
  myriapod completions zsh > \"${fpath[1]}/_myriapod\"

Exit status: 0 success, 1 failure, 2 wrong usage.";

/// Print a manual page
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct ManArgs {
    /// The command that the page is about; the whole of myriapod if left out
    #[arg(value_hint = ValueHint::Other)]
    command: Option<String>,
}

/// Print what a shell needs to complete commands and flags
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints the page of the whole program or of one of its commands.
pub(crate) fn man(args: &ManArgs, mut whole: Command) -> Result<ExitCode, Failure> {
    // Each command learns its name with the program's in front.
    whole.build();
    let page = match &args.command {
        None => whole,
        Some(name) => page_of(name, &whole).ok_or_else(|| {
            let names: Vec<_> = commands(&whole).map(Command::get_name).collect();
            Failure::usage(format_args!("{name}: no command; there are {}", names.join(", ")))
        })?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text).map_err(|error| Failure::output(&error))?;
    print(&text)
}

/// Prints the script of one shell.
pub(crate) fn completions(args: &CompletionsArgs, mut whole: Command) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut whole, "myriapod", &mut text);
    print(&text)
}

/// The commands that people are told of.
fn commands(whole: &Command) -> impl Iterator<Item = &Command> {
    whole.get_subcommands().filter(|command| !command.is_hide_set())
}

/// One command.
fn page_of(name: &str, whole: &Command) -> Option<Command> {
    let found = commands(whole).find(|command| command.get_name() == name)?;
    Some(found.clone().version(env!("CARGO_PKG_VERSION")))
}

fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    print_text(&String::from_utf8_lossy(text)).map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}
