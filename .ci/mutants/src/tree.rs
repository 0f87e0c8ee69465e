//! A copy of the code with all mutants in it, and its test programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::Result;
use crate::instrument::{Mutant, instrument};

/// What has mutants: the folder, and how its code asks for them.
const CRATES: [(&str, &str); 2] =
    [("sys/src", "crate::mutants::on"), ("src", "::myriapod_sys::mutants::on")];

/// What is left out: code that is not compiled here, or only for tests; and what ends processes, since a
/// mutant of it might end others.
const LEFT_OUT: [&str; 6] =
    ["sys/src/sim", "kqueue.rs", "fuzzing.rs", "tests.rs", "models.rs", "src/guide"];

/// A mutant, and where it is.
#[derive(Clone, Debug)]
pub struct Placed {
    pub file: String,
    pub mutant: Mutant,
}

/// One program of tests.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    /// The package, where its tests run.
    pub folder: PathBuf,
}

/// Copies what git knows into `root`, and takes out what does not compile. Returns the mutants, by
/// their numbers, and the test programs.
pub fn prepare(root: &Path) -> Result<(Vec<Placed>, Vec<Program>)> {
    let target = env::current_dir()?.join("target/mutants/build");
    copy(root)?;
    let mut files = Vec::new();
    for (folder, on) in CRATES {
        walk(&root.join(folder), &mut |path| {
            let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
            let apart =
                LEFT_OUT.iter().any(|part| name.contains(part) && !name.ends_with("lib.rs"));
            if name.ends_with(".rs") && !apart {
                files.push((name, on));
            }
        })?;
    }
    files.sort();
    let originals: Vec<String> = files
        .iter()
        .map(|(name, _)| fs::read_to_string(root.join(name)))
        .collect::<std::io::Result<_>>()?;
    let mut bad = BTreeSet::new();
    for round in 1.. {
        let mut all: Vec<Placed> = Vec::new();
        let mut next = 0;
        for ((name, on), original) in files.iter().zip(&originals) {
            // Numbers stay the same, also of those behind one that is taken out.
            let whole = instrument(original, next, &BTreeSet::new(), on)
                .map_err(|error| format!("{name}: {error}"))?;
            let count = u32::try_from(whole.mutants.len())?;
            let kept = if bad.range(next..next + count).next().is_some() {
                instrument(original, next, &bad, on).map_err(|error| format!("{name}: {error}"))?
            } else {
                whole
            };
            next += count;
            let text = if name == "sys/src/lib.rs" {
                format!("{}{}", kept.text, include_str!("on.rs"))
            } else {
                kept.text
            };
            let path = root.join(name);
            if fs::read_to_string(&path)? != text {
                fs::write(&path, text)?;
            }
            all.extend(
                kept.mutants.into_iter().map(|mutant| Placed { file: name.clone(), mutant }),
            );
        }
        eprintln!("round {round}: {} mutants, {} do not compile", all.len(), bad.len());
        let (programs, wrong) = build(root, &target)?;
        if wrong.is_empty() {
            return Ok((all, programs));
        }
        let before = bad.len();
        bad.extend(wrong);
        if bad.len() == before {
            return Err("the code does not compile, and no mutant is to blame".into());
        }
    }
    unreachable!("the rounds end")
}

fn copy(root: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(root)?;
    let status = Command::new("sh")
        .args(["-c", "git archive HEAD | tar -x -C \"$0\""])
        .arg(root)
        .status()?;
    if status.success() { Ok(()) } else { Err("git archive failed".into()) }
}

fn walk(folder: &Path, each: &mut impl FnMut(&Path)) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, each)? } else { each(&path) }
    }
    Ok(())
}

/// Compiles all tests. Returns the programs, or the mutants that do not compile.
fn build(root: &Path, target: &Path) -> Result<(Vec<Program>, BTreeSet<u32>)> {
    let output = Command::new("cargo")
        .current_dir(root)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .args(["test", "--no-run", "--quiet", "--locked", "--message-format=json"])
        .args(["--tests", "-p", "myriapod-sys", "-p", "myriapod", "--target-dir"])
        .arg(target)
        .output()?;
    let (mut programs, mut wrong) = (Vec::new(), BTreeSet::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(said) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if let (Some(path), Some(true)) =
            (said["executable"].as_str(), said["profile"]["test"].as_bool())
        {
            let folder = Path::new(said["manifest_path"].as_str().unwrap_or_default());
            let package = said["package_id"].as_str().unwrap_or_default();
            let package = if package.contains("myriapod-sys") || package.contains("/sys#") {
                "sys"
            } else {
                "myriapod"
            };
            programs.push(Program {
                name: format!("{package} {}", said["target"]["name"].as_str().unwrap_or_default()),
                path: path.into(),
                folder: folder.parent().unwrap_or(root).to_owned(),
            });
        }
        let message = &said["message"];
        if message["level"] == "error" {
            for span in message["spans"].as_array().into_iter().flatten() {
                let (Some(file), Some(at)) =
                    (span["file_name"].as_str(), span["byte_start"].as_u64())
                else {
                    continue;
                };
                let text =
                    fs::read(root.join(file)).or_else(|_| fs::read(file)).unwrap_or_default();
                let end = usize::try_from(span["byte_end"].as_u64().unwrap_or(at))?.min(text.len());
                wrong.extend(nearest(&String::from_utf8_lossy(&text[..end])));
            }
        }
    }
    if !output.status.success() && wrong.is_empty() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err("the tests do not compile".into());
    }
    Ok((programs, wrong))
}

/// The last mutant in front of a fault.
fn nearest(text: &str) -> Option<u32> {
    let (_, behind) = text.rsplit_once("mutants::on(")?;
    behind.split(')').next()?.parse().ok()
}
