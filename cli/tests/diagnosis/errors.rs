//! `myriapod errors`.

use myriapod::sys::Errno;
use serde_json::Value;

use crate::support::{myriapod, seen};

#[test]
fn has_every_error_one_line_for_grep() {
    let output = myriapod(&["errors"]);
    let (stdout, stderr, status) = seen(&output);
    assert_eq!((stderr, status, stdout.lines().count()), ("", 0, Errno::explanations().len()));
    for (line, explanation) in stdout.lines().zip(Errno::explanations()) {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(&*explanation.errno.raw().to_string()));
        assert_eq!(words.next(), Some(explanation.name));
        assert!(line.contains(explanation.meaning) && line.ends_with(explanation.advice), "{line}");
    }
}

#[test]
fn is_one_error_explained_by_name_and_by_number() {
    let by_name = myriapod(&["errors", "econnrefused"]);
    let by_number = myriapod(&["errors", &Errno::ECONNREFUSED.raw().to_string()]);
    assert_eq!(by_name.stdout, by_number.stdout);
    let (stdout, _, status) = seen(&by_name);
    let first = format!("ECONNREFUSED, errno {}: Connection refused", Errno::ECONNREFUSED.raw());
    assert_eq!((stdout.lines().next(), status), (Some(&*first), 0));
    for head in ["from ", "means ", "do "] {
        assert!(stdout.lines().any(|line| line.starts_with(head)), "{stdout}");
    }
}

#[test]
fn is_every_line_of_json_whole() {
    let output = myriapod(&["errors", "accept4", "--json"]);
    let (stdout, _, status) = seen(&output);
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"EMFILE") && !names.contains(&"EISCONN") && status == 0, "{names:?}");
    for line in &lines {
        assert!(line["calls"].as_array().unwrap().contains(&"accept".into()));
        assert!(line["advice"].as_str().is_some_and(|advice| !advice.is_empty()));
    }
}

#[test]
fn does_an_unknown_name_end_with_advice() {
    let output = myriapod(&["errors", "EWHATEVER"]);
    let expected = "myriapod: EWHATEVER: no errno, name or call of this system; \
                    `myriapod errors` lists them\n";
    assert_eq!(seen(&output), ("", expected, 2));
}
