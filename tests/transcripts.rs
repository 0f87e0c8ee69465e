//! Do the examples print what the tutorial's application section shows?
//!
//! `transcripts/*.txt` are the sessions that its text shows. Two things differ from one machine to
//! the next and are filled in: addresses, and the byte order of the machine that sends.

#![cfg(feature = "json")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use programs::example;

#[path = "common/programs.rs"]
mod programs;

const NATIVE: &str = if cfg!(target_endian = "big") { "big" } else { "little" };

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What both sides print for one request, with ports replaced by `PORT`.
fn session(action: &str, value: &str) -> (Vec<String>, Vec<String>) {
    let mut server = example("app_server").args(["", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let server = Server(server);
    let listening = lines.next().unwrap().unwrap();
    let port = listening.strip_prefix("listening on ('', ").unwrap().strip_suffix(')').unwrap();

    let client = example("app_client").args(["127.0.0.1", port, action, value]).output().unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    let client = String::from_utf8(client.stdout).unwrap();
    let client_lines = client.lines().map(|line| line.replace(port, "65432")).collect();

    let mut server_lines = Vec::new();
    while server_lines.last().is_none_or(|line: &String| !line.starts_with("closing")) {
        let line = lines.next().unwrap().unwrap();
        server_lines.push(line);
    }
    drop(server);
    // The client's port is the number behind the first address.
    let accepted = server_lines[0].clone();
    let peer = accepted.rsplit(", ").next().unwrap().trim_end_matches(')');
    let server_lines = server_lines.iter().map(|line| line.replace(peer, "PORT")).collect();
    (client_lines, server_lines)
}

/// A transcript as the tutorial shows it, with our addresses and byte order.
fn transcript(name: &str, byteorder_len_change: bool) -> Vec<String> {
    let path = format!("{}/tests/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    std::fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| {
            let line = line.replace("10.0.1.1", "127.0.0.1").replace("10.0.2.2", "127.0.0.1");
            if !byteorder_len_change {
                return line;
            }
            // "little" is three bytes longer than the "big" of the tutorial's client.
            let line = line.replace("\"big\"", &format!("\"{NATIVE}\""));
            match NATIVE {
                "little" => {
                    line.replace("b'\\x00d{", "b'\\x00g{").replace("b'\\x00|{", "b'\\x00\\x7f{")
                }
                _ => line,
            }
        })
        .collect()
}

fn compare(name: &str, action: &str, value: &str) {
    let (client, server) = session(action, value);
    assert_eq!(client, transcript(&format!("client-{name}"), true));
    assert_eq!(server, transcript(&format!("server-{name}"), false));
}

#[test]
fn does_a_search_for_morpheus_print_the_tutorials_lines() {
    compare("morpheus", "search", "morpheus");
}

#[test]
fn does_a_search_for_the_puppy_print_the_tutorials_lines() {
    compare("puppy", "search", "🐶");
}

#[test]
fn does_a_binary_request_print_the_tutorials_lines() {
    compare("binary", "binary", "😃");
}
