//! What is made of the results: thresholds, comparisons, the search for a rate.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::support::{TempFile, bench, bench_raw, faulty, myriapod, reply};

#[test]
fn do_thresholds_set_the_status() {
    let met = bench(&["-m", "200", "--max-p99", "30s", "--min-rate", "1"]);
    assert_eq!(met.status, 0, "{met:?}");
    assert_eq!(met.json["thresholds"].as_array().unwrap().len(), 2);
    for missed in [["--max-p99", "1us"], ["--min-rate", "1000M"]] {
        let ran = bench(&[&["-m", "200"], &missed[..]].concat());
        assert_eq!(ran.status, 3, "{ran:?}");
        assert!(ran.reason().starts_with("threshold missed"), "{ran:?}");
    }
}

#[test]
fn are_two_results_compared() {
    let (one, other) = (TempFile::new("json"), TempFile::new("json"));
    for (file, connections) in [(&one, "2"), (&other, "4")] {
        let mut command = myriapod();
        command.args(["bench", "-m", "100", "-c", connections, "--json"]).arg(&file.0);
        assert!(command.output().unwrap().status.success());
    }
    let compare = |one: &TempFile, other: &TempFile| {
        let mut command = myriapod();
        command.args(["bench", "--compare"]).arg(&one.0).arg(&other.0).output().unwrap()
    };
    let output = compare(&one, &other);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}");
    let row = table.lines().find(|line| line.starts_with("connections ")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["connections", "2", "4"], "{table}");
    let row = table.lines().find(|line| line.starts_with("messages ok")).unwrap();
    assert!(row.ends_with("1.00"), "{table}");

    std::fs::write(&other.0, "{}").unwrap();
    let output = compare(&one, &other);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("--json"), "{stderr}");
}

#[test]
fn does_the_search_for_a_rate_find_what_the_server_can_do() {
    // A message every 10 ms, and a short while of rest is made up for.
    let next = Mutex::new(Instant::now());
    let port = faulty(move |_, message, stream| {
        let mut next = next.lock().unwrap();
        let least = Instant::now().checked_sub(Duration::from_millis(20)).unwrap();
        *next = next.max(least) + Duration::from_millis(10);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        reply(stream, message);
    });
    // No answer takes half a minute: only what it does not keep up with is too much for it.
    let search = ["--find-rate", "--max-p99", "30s", "-d", "500ms", "-c", "4"];
    let mut ran = bench_raw(port, &search);
    for _ in 0..2 {
        // A machine that holds both up makes it less, and never more.
        let found = ran.json["settings"]["rate"].as_f64().unwrap_or_default();
        assert!(found <= 125.0, "{found}: {ran:?}");
        if found < 50.0 || ran.status != 0 {
            ran = bench_raw(port, &search);
        }
    }
    assert_eq!((ran.status, ran.reason()), (0, "completed"), "{ran:?}");
    assert_eq!(ran.json["settings"]["loop"], "open");
    assert!((50.0..=125.0).contains(&ran.number("settings.rate")), "{ran:?}");
    let tried = ran.json["find_rate"].as_array().unwrap();
    let missed = tried.iter().filter(|tried| tried["met"] == false).count();
    assert!(missed >= 2 && tried.len() - missed >= 2, "{ran:?}");
    assert!(!ran.warned_of("did not converge"), "{ran:?}");
    let ran = bench_raw(port, &["--find-rate", "--max-p99", "1ns", "-d", "300ms", "-c", "4"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.reason().contains("no rate was found"), "{ran:?}");
    assert!(ran.warned_of("did not converge"), "{ran:?}");
}
