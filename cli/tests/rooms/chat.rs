//! `myriapod chat`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::member::Member;
use crate::support::{Serving, myriapod};

pub(crate) fn chat(port: u16, name: &str, more: &[&str]) -> Command {
    let mut command = myriapod();
    command.args(["chat", "127.0.0.1", &port.to_string(), "lobby", "--name", name]).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with this input, to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// One that runs, ended at the latest when this goes.
pub(crate) struct Chatting {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Chatting {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads on to this line.
    pub(crate) fn wait_for(&mut self, wanted: &str) {
        while self.line() != wanted {
            assert!(self.child.try_wait().unwrap().is_none(), "{wanted}");
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Chatting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn is_every_line_of_a_pipe_said_and_then_the_end() {
    let serving = Serving::on_loopback(&["--service", "rooms"]);
    let mut trinity = Member::join(serving.port(), "lobby", "Trinity");
    trinity.say("lobby", "first");
    // More than the server takes at once.
    let lines: String = (0..60).map(|n| format!("line {n}\n")).collect();
    let output = run(chat(serving.port(), "Neo", &[]), &format!("{lines}/tell Trinity psst\n"));
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
    let shown = String::from_utf8(output.stdout).unwrap();
    let mut shown = shown.lines();
    assert_eq!(shown.next(), Some("* here: Neo, Trinity"));
    assert_eq!(shown.next(), Some("Trinity: first"));
    assert_eq!(shown.by_ref().collect::<Vec<_>>().len(), 60);
    assert_eq!(trinity.push_of("joined")["name"], "Neo");
    let mut heard: Vec<Value> = (0..61).map(|_| trinity.push()).collect();
    let told = heard.pop().unwrap();
    assert_eq!((&told["event"], &told["text"]), (&json!("told"), &json!("psst")));
    for (n, push) in heard.iter().enumerate() {
        assert_eq!(push["text"], format!("line {n}"));
    }
    assert_eq!(trinity.push()["event"], "left");
}

#[test]
fn are_pushes_printed_as_they_come_with_json() {
    let serving = Serving::on_loopback(&["--service", "rooms"]);
    let output = run(chat(serving.port(), "Neo", &["--json"]), "a\u{1b}\nb");
    assert_eq!(output.status.code(), Some(0));
    let shown = String::from_utf8(output.stdout).unwrap();
    let pushes: Vec<Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |text: &str, n: u64| json!({ "event": "said", "room": "lobby", "name": "Neo", "text": text, "n": n });
    assert_eq!(pushes, [said("a\u{1b}", 1), said("b", 2)]);
}

#[test]
fn is_a_name_that_is_taken_one_line_and_status_1() {
    let serving = Serving::on_loopback(&["--service", "rooms"]);
    let _neo = Member::join(serving.port(), "lobby", "Neo");
    let output = run(chat(serving.port(), "Neo", &[]), "x\n");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "myriapod: join lobby: Neo is in the room already: choose another name\n");
    // Nor is a server of another kind.
    let serving = Serving::on_loopback(&[]);
    let output = run(chat(serving.port(), "Neo", &[]), "");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "myriapod: join lobby: invalid action 'join'.\n");
}

#[test]
fn does_an_interrupt_end_it_in_order() {
    let serving = Serving::on_loopback(&["--service", "rooms"]);
    let mut trinity = Member::join(serving.port(), "lobby", "Trinity");
    let mut neo = Chatting::start(chat(serving.port(), "Neo", &[]));
    trinity.push_of("joined");
    signal::kill(Pid::from_raw(neo.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(trinity.push_of("left")["name"], "Neo");
    assert_eq!(neo.child.wait().unwrap().code(), Some(0));
    drop(trinity);
    assert_eq!(serving.stop().count("closed_error"), 0);
}

#[test]
fn does_it_come_back_when_the_server_does() {
    let serving = Serving::on_loopback(&["--service", "rooms"]);
    let port = serving.port();
    let mut neo = Chatting::start(chat(port, "Neo", &[]));
    neo.say("one");
    neo.wait_for("Neo: one");
    drop(serving.stop());
    let serving = Serving::start(&["127.0.0.1", &port.to_string(), "--service", "rooms"]);
    neo.wait_for("* here: Neo");
    neo.say("two");
    neo.wait_for("Neo: two");
    drop(neo.input.take());
    assert_eq!(neo.child.wait().unwrap().code(), Some(0));
    drop(serving);
}
