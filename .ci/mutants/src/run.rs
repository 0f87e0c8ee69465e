//! Runs the tests, once to see what they come across, and then once for each mutant.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::tree::{Placed, Program};

/// What became of a mutant.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A test failed.
    Caught,
    /// This program did not end.
    Hung(String),
    Survived,
    /// No test comes across it.
    NotReached,
}

/// A program, how long it takes, and which mutants it comes across.
struct Known {
    program: Program,
    took: Duration,
    reached: Vec<u8>,
}

/// Runs at the same time: tests wait most of their time.
fn jobs() -> usize {
    2 * thread::available_parallelism().map_or(1, usize::from)
}

pub fn all(chosen: &[Placed], programs: &[Program]) -> Result<Vec<Outcome>> {
    let most = chosen.iter().map(|placed| placed.mutant.id).max().unwrap_or(0) as usize + 1;
    let known = trace(programs, most)?;
    let outcomes = Mutex::new(vec![Outcome::NotReached; chosen.len()]);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..jobs() {
            scope.spawn(|| {
                while let Some(placed) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = judge(placed, &known);
                    let nth = done.fetch_add(1, Ordering::Relaxed) + 1;
                    let Placed { file, mutant } = placed;
                    eprintln!(
                        "{nth}/{} {file}:{}: {}: {outcome:?}",
                        chosen.len(),
                        mutant.line,
                        mutant.what
                    );
                    let at = chosen.iter().position(|other| other.mutant.id == mutant.id);
                    if let (Some(at), Ok(mut outcomes)) = (at, outcomes.lock()) {
                        outcomes[at] = outcome;
                    }
                }
            });
        }
    });
    Ok(outcomes.into_inner()?)
}

/// Runs each program once without a mutant. One that fails so says nothing, and is an error.
fn trace(programs: &[Program], most: usize) -> Result<Vec<Known>> {
    let (next, known) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs() {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(program) = programs.get(nth) else { return };
                    let path = format!("target/mutants/trace-{nth}");
                    let path = std::env::current_dir().unwrap_or_default().join(path);
                    let made = File::create(&path).and_then(|file| file.set_len(most as u64));
                    let began = Instant::now();
                    let ended = run(
                        program,
                        &[],
                        &[("MUTANT_TRACE", path.to_string_lossy().into_owned())],
                        Duration::from_secs(600),
                    );
                    if made.is_err() || !matches!(ended, Ended::Well) {
                        failed
                            .lock()
                            .unwrap_or_else(|poison| poison.into_inner())
                            .push(program.name.clone());
                        continue;
                    }
                    let reached = fs::read(&path).unwrap_or_default();
                    let one = Known { program: program.clone(), took: began.elapsed(), reached };
                    known.lock().unwrap_or_else(|poison| poison.into_inner()).push(one);
                }
            });
        }
    });
    let failed = failed.into_inner()?;
    if !failed.is_empty() {
        return Err(format!("these tests fail without a mutant: {}", failed.join(", ")).into());
    }
    let mut known = known.into_inner()?;
    known.sort_by_key(|one| one.took);
    Ok(known)
}

fn judge(placed: &Placed, known: &[Known]) -> Outcome {
    let id = placed.mutant.id;
    let mut outcome = Outcome::NotReached;
    for one in known.iter().filter(|one| one.reached.get(id as usize) == Some(&1)) {
        let variable = [("MUTANT", id.to_string())];
        let patience = one.took * 4 + Duration::from_secs(60);
        match run(&one.program, &[], &variable, patience) {
            Ended::Well => outcome = Outcome::Survived,
            Ended::Never => return Outcome::Hung(one.program.name.clone()),
            Ended::Failed(None) => {
                return Outcome::Caught;
            }
            Ended::Failed(Some(test)) => {
                // A test that fails now and then proves nothing.
                let alone = run(&one.program, &[&test, "--exact"], &variable, patience);
                if !matches!(alone, Ended::Well) {
                    return Outcome::Caught;
                }
                outcome = Outcome::Survived;
            }
        }
    }
    outcome
}

enum Ended {
    Well,
    /// With the test that failed first, where it says so.
    Failed(Option<String>),
    Never,
}

fn run(
    program: &Program,
    args: &[&str],
    variables: &[(&str, String)],
    patience: Duration,
) -> Ended {
    let mut command = Command::new(&program.path);
    command
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .env("RUST_BACKTRACE", "0")
        .args(args)
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let Ok(mut child) = command.spawn() else { return Ended::Failed(None) };
    let mut stdout = child.stdout.take();
    let reading = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stdout) = &mut stdout {
            let _ = stdout.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if began.elapsed() < patience => thread::sleep(Duration::from_millis(20)),
            _ => break None,
        }
    };
    // Whatever the tests have started ends with them, and so does the reading.
    end_group(&child);
    let _ = child.wait();
    let text = reading.join().unwrap_or_default();
    match status {
        None => Ended::Never,
        Some(status) if status.success() => Ended::Well,
        Some(_) => Ended::Failed(first_failed(&text)),
    }
}

/// Kills the group of processes that the child leads.
fn end_group(child: &Child) {
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
}

/// The first test that says it failed.
fn first_failed(text: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("test "));
    lines.find_map(|line| line.strip_suffix(" ... FAILED")).map(str::to_owned)
}
