//! The guide's ladder (`examples/steps`): each step fails exactly its rungs, and the next mends some.
//!
//! A plain `cargo test` asks the rungs that a step is about. With `MYRIAPOD_CHECK_MATRIX=1` all 25.

use super::matrix::fails_exactly;
use super::servers::example;
use super::short::tells;

struct Step {
    service: &'static str,
    fails: &'static [&'static str],
    /// What the step before failed at, or what it is about: asked each time.
    passes: &'static [&'static str],
}

const fn step(
    service: &'static str,
    fails: &'static [&'static str],
    passes: &'static [&'static str],
) -> Step {
    Step { service, fails, passes }
}

/// In the order of the steps. The guide's page `ladder` prints the same.
const STEPS: [Step; 14] = [
    step(
        "echo",
        &[
            "next-client",
            "two-at-once",
            "cut",
            "rude",
            "vanish",
            "unread",
            "burst",
            "many",
            "descriptors",
        ],
        &["answers", "dribble"],
    ),
    step("echo", &["two-at-once", "unread", "burst", "many"], &["next-client", "rude"]),
    step("echo", &["descriptors"], &["two-at-once"]),
    step("echo", &["idle-cpu", "descriptors"], &["large", "half-close"]),
    step("echo", &["unread", "many", "descriptors"], &["idle-cpu"]),
    step("echo", &["descriptors"], &["many", "large"]),
    step("echo", &["unread", "half-close", "descriptors"], &["large"]),
    step("echo", &["large", "half-close", "descriptors"], &["two-at-once"]),
    step("echo", &["unread", "descriptors", "fairness"], &["large", "half-close"]),
    step("echo", &[], &["descriptors", "large", "half-close"]),
    step("padded", &["slowloris"], &["dribble", "cut", "nonsense", "huge", "no-reset"]),
    step("search", &[], &["dribble", "cut", "two-in-one", "empty", "nonsense", "huge"]),
    step("search", &[], &["dribble", "two-in-one", "no-reset"]),
    step("search", &[], &["dribble", "two-in-one"]),
];

/// `--run` for a step.
fn run(number: usize) -> String {
    example("steps").replacen(" 127.0.0.1", &format!(" {number} 127.0.0.1"), 1)
}

#[test]
fn does_each_step_fail_exactly_its_rungs() {
    for (number, step) in (1..).zip(&STEPS) {
        fails_exactly(Some(run(number)), &["-s", step.service], step.fails);
    }
}

/// One process for each rung: those that take long are left to the whole table.
#[test]
fn does_each_step_mend_what_the_one_before_failed() {
    let is_quick =
        |name: &&str| !["unread", "burst", "many", "fairness", "slowloris"].contains(name);
    for (number, step) in (1..).zip(&STEPS) {
        let fails: Vec<&str> = step.fails.iter().copied().filter(|name| is_quick(name)).collect();
        let passes: Vec<&str> = step.passes.iter().copied().filter(|name| is_quick(name)).collect();
        tells(Some(run(number)), &["-s", step.service], &fails, &passes);
    }
}

#[test]
fn is_the_ladder_of_the_guide_the_one_that_is_tried() {
    let page = include_str!("../../../src/guide/ladder.md");
    for (number, step) in (1..).zip(&STEPS) {
        let row = page.lines().find(|line| line.starts_with(&format!("| {number} |")));
        let cells: Vec<&str> = row.unwrap().split('|').map(str::trim).collect();
        let told: Vec<&str> = cells[4]
            .split(", ")
            .map(|name| name.trim_matches('`'))
            .filter(|name| *name != "–")
            .collect();
        assert_eq!(told, step.fails, "step {number}");
    }
}
