//! `myriapod man` and `myriapod completions`.

use crate::support::{myriapod, seen};

/// The commands that `--help` lists, but for the one that clap adds.
fn commands() -> Vec<String> {
    let help = myriapod(&["--help"]);
    let (text, _, _) = seen(&help);
    let list = text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn has_every_command_a_page_that_names_it_and_its_examples() {
    let commands = commands();
    assert!(commands.len() > 12, "{commands:?}");
    for name in commands {
        let output = myriapod(&["man", &name]);
        let (page, stderr, status) = seen(&output);
        assert_eq!((stderr, status), ("", 0), "{name}");
        assert!(page.contains(".SH NAME") && page.contains("Examples:"), "{name}: {page}");
        assert!(page.contains(&format!("myriapod\\-{name}")), "{name}: {page}");
    }
    let whole = myriapod(&["man"]);
    assert!(seen(&whole).0.contains(".TH myriapod 1"), "{}", seen(&whole).0);
}

#[test]
fn does_a_page_of_no_command_end_with_the_names_that_there_are() {
    let output = myriapod(&["man", "dance"]);
    let (stdout, stderr, status) = seen(&output);
    assert_eq!((stdout, status), ("", 2));
    assert!(stderr.starts_with("myriapod: dance: no command; there are serve, "), "{stderr}");
    assert!(!stderr.contains("worker"), "{stderr}");
}

#[test]
fn is_there_a_script_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = myriapod(&["completions", shell]);
        let (script, stderr, status) = seen(&output);
        assert_eq!((stderr, status), ("", 0), "{shell}");
        assert!(script.contains("max-content-len") && script.contains("doctor"), "{shell}");
    }
}
