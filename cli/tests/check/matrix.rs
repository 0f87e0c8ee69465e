//! The whole table: every server against every rung. Only with `MYRIAPOD_CHECK_MATRIX=1`.

use super::servers::{c, check, example, node, python, rungs, serve, with_result};

/// Whether somebody asked for what takes minutes.
fn is_wanted() -> bool {
    let wanted = std::env::var_os("MYRIAPOD_CHECK_MATRIX").is_some();
    if !wanted {
        println!("skipped: takes minutes; MYRIAPOD_CHECK_MATRIX=1 asks for it");
    }
    wanted
}

/// All rungs of one server; those that it fails must be these, and none may be unsure.
pub(super) fn fails_exactly(run: Option<String>, options: &[&str], expected: &[&str]) {
    let Some(run) = run.filter(|_| is_wanted()) else { return };
    let always = ["127.0.0.1", "0", "--keep-going", "--json", "--slow"];
    let output = check(&[&always[..], options, &["--run", &run]].concat());
    let rungs = rungs(&output);
    assert_eq!(rungs.len(), 25);
    let told: Vec<String> = rungs
        .iter()
        .filter(|rung| rung["result"] != "ok")
        .map(|rung| format!("{} {}: {}", rung["rung"], rung["result"], rung["saw"]))
        .collect();
    assert_eq!(with_result(&rungs, "fail"), expected, "{told:#?}");
    assert_eq!(with_result(&rungs, "unsure"), [""; 0], "{told:#?}");
    assert_eq!(with_result(&rungs, "skipped"), [""; 0], "{told:#?}");
    assert_eq!(output.status.code(), Some(i32::from(!expected.is_empty())));
    println!("{run}: fails {expected:?}");
}

const PADDED: &[&str] = &["-s", "padded"];
const ONE_SHOT: &[&str] = &["-s", "search", "--one-shot"];

/// Serves one client and ends; so what needs a second client fails too.
#[test]
fn does_the_tutorials_echo_server_fail_its_list() {
    let list = [
        "next-client",
        "two-at-once",
        "cut",
        "rude",
        "vanish",
        "unread",
        "burst",
        "many",
        "restart",
        "descriptors",
    ];
    fails_exactly(python("echo_server"), &[], &list);
}

#[test]
fn does_the_tutorials_multiconn_server_fail_its_list() {
    let list =
        ["rude", "vanish", "unread", "half-close", "idle-cpu", "burst", "restart", "descriptors"];
    fails_exactly(python("multiconn_server"), &[], &list);
}

#[test]
fn does_the_tutorials_first_server_fail_its_list() {
    let list = [
        "goodbye",
        "dribble",
        "cut",
        "large",
        "half-close",
        "idle-cpu",
        "burst",
        "restart",
        "nonsense",
        "huge",
        "no-reset",
        "slowloris",
        "descriptors",
    ];
    fails_exactly(python("first_server"), PADDED, &list);
}

#[test]
fn does_the_tutorials_app_server_fail_its_list() {
    let list =
        ["idle-cpu", "burst", "nonsense", "huge", "empty", "no-reset", "slowloris", "descriptors"];
    fails_exactly(python("app_server"), ONE_SHOT, &list);
}

#[test]
fn does_a_server_on_select_fail_its_list() {
    fails_exactly(c("select_server", ""), &[], &["vanish", "unread", "many"]);
}

#[test]
fn does_an_edge_triggered_server_that_reads_once_fail() {
    fails_exactly(c("epoll_server", "once"), &[], &["large", "half-close"]);
}

#[test]
fn does_an_edge_triggered_server_that_drains_one_fail() {
    fails_exactly(c("epoll_server", "drain"), &[], &["unread", "half-close", "fairness"]);
}

#[test]
fn does_a_level_triggered_server_without_a_queue_fail() {
    fails_exactly(c("epoll_server", "level"), &[], &["unread", "half-close"]);
}

#[test]
fn does_a_line_of_node_fail_its_list() {
    fails_exactly(node(), &[], &["rude", "vanish"]);
}

#[test]
fn does_serve_pass_every_rung() {
    fails_exactly(Some(serve("raw")), &[], &[]);
    fails_exactly(Some(serve("padded")), PADDED, &[]);
    fails_exactly(Some(serve("search")), &["-s", "search"], &[]);
}

#[test]
fn do_our_servers_on_an_event_loop_pass_every_rung() {
    if is_wanted() {
        fails_exactly(Some(example("multiconn_server")), &[], &[]);
        fails_exactly(Some(example("padded_on_engine")), PADDED, &[]);
        fails_exactly(Some(example("app_server")), ONE_SHOT, &[]);
    }
}

/// A thread for each client, 500 at most, is what its page teaches.
#[test]
fn does_our_threaded_server_fail_what_is_known() {
    if is_wanted() {
        let list = ["many", "slowloris"];
        fails_exactly(Some(example("threaded_server")), PADDED, &list);
    }
}

/// As the tutorial's: one client, and the end. Only it can be started again.
#[test]
fn does_our_echo_server_fail_what_is_known() {
    if is_wanted() {
        let list = [
            "next-client",
            "two-at-once",
            "cut",
            "rude",
            "vanish",
            "unread",
            "many",
            "descriptors",
        ];
        fails_exactly(Some(example("echo_server")), &[], &list);
    }
}
