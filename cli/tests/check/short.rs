//! A few servers and the quick rungs, each time.

use super::servers::{c, check, python, rungs, serve, with_result};

/// The rungs that a failing server must fail, and those that it must pass.
pub(super) fn tells(run: Option<String>, options: &[&str], fails: &[&str], passes: &[&str]) {
    let Some(run) = run else { return };
    let mut args = vec!["127.0.0.1", "0", "--json", "--run", &run];
    args.extend(options);
    for name in fails.iter().chain(passes) {
        args.extend(["--lesson", name]);
    }
    let output = check(&args);
    let rungs = rungs(&output);
    assert_eq!(with_result(&rungs, "fail"), fails, "{rungs:#?}");
    for name in passes {
        assert!(with_result(&rungs, "ok").contains(&(*name).to_owned()), "{name}: {rungs:#?}");
    }
    let status = i32::from(!fails.is_empty());
    assert_eq!(output.status.code(), Some(status));
}

#[test]
fn is_a_server_for_one_client_found_out() {
    let passes = ["answers", "dribble"];
    tells(python("echo_server"), &[], &["next-client", "rude"], &passes);
}

#[test]
fn is_a_server_that_one_error_ends_found_out() {
    let passes = ["two-at-once", "goodbye", "dribble", "two-in-one"];
    tells(python("multiconn_server"), &[], &["rude", "vanish", "restart"], &passes);
}

#[test]
fn is_a_server_that_takes_pieces_for_messages_found_out() {
    let passes = ["two-at-once", "two-in-one", "empty"];
    tells(python("first_server"), &["-s", "padded"], &["dribble", "restart", "no-reset"], &passes);
}

#[test]
fn is_a_server_that_takes_an_empty_message_for_none_found_out() {
    let options = ["-s", "search", "--one-shot", "--patience", "1s"];
    tells(python("app_server"), &options, &["empty", "no-reset"], &["cut", "restart", "rude"]);
}

#[test]
fn is_a_server_killed_by_a_signal_named_with_it() {
    let Some(run) = c("select_server", "") else { return };
    // The signal comes with what is sent behind the reset. A server that the system kept waiting may
    // have read all before, and has nothing more to send: it is asked again.
    let asked = || rungs(&check(&["127.0.0.1", "0", "--json", "--run", &run, "-l", "vanish"]));
    let rungs = (0..10).map(|_| asked()).find(|rungs| !with_result(rungs, "fail").is_empty());
    let rungs = rungs.expect("it survived ten times");
    assert_eq!(with_result(&rungs, "fail"), ["vanish"]);
    let saw = rungs.last().unwrap()["saw"].as_str().unwrap();
    assert!(saw.ends_with("and your server ended (killed by SIGPIPE)"), "{saw}");
}

#[test]
fn does_a_good_server_pass_the_quick_rungs() {
    let passes = [
        "answers",
        "next-client",
        "two-at-once",
        "goodbye",
        "dribble",
        "cut",
        "two-in-one",
        "large",
        "rude",
        "vanish",
        "delay",
    ];
    tells(Some(serve("raw")), &[], &[], &passes);
    let more = ["nonsense", "huge", "empty", "no-reset"];
    tells(Some(serve("padded")), &["-s", "padded"], &[], &[&passes[..], &more].concat());
    tells(Some(serve("search")), &["-s", "search"], &[], &[&passes[..], &more].concat());
}
