//! Do the servers of `myriapod-bench servers` hold what `myriapod bench` deals them?

#![cfg(unix)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const CONNECTIONS: &str = "300";

/// A program, whose input ends when this goes, and so does it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn do_the_servers_of_a_fleet_hold_every_connection_that_bench_deals_them() {
    let servers = Path::new(env!("CARGO_BIN_EXE_myriapod-bench"));
    let myriapod = servers.with_file_name("myriapod");
    if !myriapod.exists() {
        println!("SKIPPED: no {} yet: cargo build -p myriapod-cli", myriapod.display());
        return;
    }
    let script = "ulimit -n 200; exec \"$0\" servers --connections \"$1\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script]).arg(servers).arg(CONNECTIONS);
    let child = limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut fleet = Running(child.unwrap());
    let mut ports = String::new();
    BufReader::new(fleet.0.stdout.take().unwrap()).read_line(&mut ports).unwrap();
    if !ports.contains(',') {
        println!("SKIPPED: this user may raise the limit of descriptors again: {ports}");
        return;
    }
    // 72 connections at most on each.
    assert_eq!(ports.split(',').count(), 5, "{ports}");

    let mut bench = Command::new(myriapod);
    bench.args(["bench", "127.0.0.1", "--ports", ports.trim(), "--service", "echo"]);
    let ran = bench.args(["-c", CONNECTIONS, "-m", "900"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.contains("300 of 300 established"), "{said}");
    assert!(said.contains("900 sent, 900 ok"), "{said}");
}
