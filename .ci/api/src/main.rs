//! Compares the public API of a crate with the list of it in the tree.
//!
//! ```text
//! api JSON LIST            status 1, and the differences, where they differ
//! api JSON LIST --write    writes the list anew
//! ```
//!
//! `JSON` is what rustdoc says of the crate. Where it is of a format that cannot be read here, a line
//! says so.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::{env, fs};

/// The format of rustdoc's JSON that is understood.
const FORMAT: u64 = 57;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [json, list] => compare(json, list),
        [json, list, "--write"] => write(json, list),
        _ => Err("usage: api JSON LIST [--write]".into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// The public items of a crate, a line each; `None` where the format is another.
fn items(json: &str) -> Result<Option<BTreeSet<String>>> {
    let whole: serde_json::Value =
        serde_json::from_reader(std::io::BufReader::new(fs::File::open(json)?))?;
    let format = whole["format_version"].as_u64();
    if format != Some(FORMAT) {
        println!(
            "SKIPPED: {json} is of format {format:?}, and {FORMAT} is what is understood here"
        );
        return Ok(None);
    }
    drop(whole);
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(Some(api.items().map(ToString::to_string).collect()))
}

fn write(json: &str, list: &str) -> Result<bool> {
    if let Some(items) = items(json)? {
        let lines: String = items.iter().map(|item| format!("{item}\n")).collect();
        fs::write(list, lines)?;
    }
    Ok(true)
}

fn compare(json: &str, list: &str) -> Result<bool> {
    let Some(items) = items(json)? else { return Ok(true) };
    let text = fs::read_to_string(list).map_err(|error| format!("{list}: {error}"))?;
    let known: BTreeSet<String> = text.lines().map(str::to_string).collect();
    for item in known.difference(&items) {
        println!("-{item}");
    }
    for item in items.difference(&known) {
        println!("+{item}");
    }
    if known == items {
        println!("{list}: {} public items, as listed", items.len());
    } else {
        println!(
            "{list} is no longer true. Meant so? `.ci/proof api-write`, and a line for the CHANGELOG."
        );
    }
    Ok(known == items)
}
