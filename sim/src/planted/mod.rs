//! `cargo sim --planted`: does the simulation see the bugs of `sim/planted`?
//!
//! Each is a patch of the engine. A copy of the workspace gets one patch after another, is built, and
//! lives through seeds until one fails that passes here, where nothing is patched.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

mod patch;
mod tree;
mod workshop;

use std::path::PathBuf;
use std::process::ExitCode;

use self::patch::Patch;
use self::workshop::{Finding, Workshop};
use crate::options::Options;
use myriapod_sim::cut::Cut;

use crate::run;

/// The root of the workspace that this program was built in.
fn workspace() -> Result<PathBuf, String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    std::fs::canonicalize(root).map_err(|error| format!("{root}: {error}"))
}

/// Prints the name of each patch, and what it says of itself.
pub(crate) fn list() -> ExitCode {
    let patches = workspace().and_then(|root| Patch::all(&root));
    for patch in patches.as_deref().unwrap_or_default() {
        println!("{:<40} {}", patch.name, patch.says);
    }
    status(patches.map(|_| ExitCode::SUCCESS))
}

/// Runs seeds with each bug until it is found: with all of them, or with the one of this name.
pub(crate) fn hunt(options: &Options, name: Option<&str>) -> ExitCode {
    status(hunt_all(options, name))
}

fn status(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("myriapod-sim: {error}");
        ExitCode::FAILURE
    })
}

fn hunt_all(options: &Options, name: Option<&str>) -> Result<ExitCode, String> {
    let root = workspace()?;
    let mut patches = Patch::all(&root)?;
    if let Some(name) = name {
        patches.retain(|patch| patch.name == name);
        if patches.is_empty() {
            eprintln!("myriapod-sim: no planted bug is called {name}\nSee cargo sim --list.");
            return Ok(ExitCode::from(2));
        }
    }
    let workshop = Workshop::set_up(&root)?;
    workshop.check(&patches)?;
    println!("{:<40} seeds until found", "planted bug");
    let mut all_found = true;
    for patch in &patches {
        let name = &patch.name;
        match workshop.find(patch, options)? {
            Some(Finding { seed, step, failure }) => {
                // A seed that fails without the bug says nothing about it.
                if let Some(otherwise) = run::seed(seed, &Cut::default(), false).failure {
                    println!("{name:<40} seed={seed} fails without it: {otherwise}");
                    all_found = false;
                    continue;
                }
                let seeds = seed - options.start + 1;
                println!("{name:<40} {seeds:>5}  seed={seed} step={step}: {failure}");
            }
            None => {
                println!("{name:<40} NOT FOUND within {}", options.seeds);
                all_found = false;
            }
        }
    }
    Ok(if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
