//! What processes and threads are said to have used.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests fail by it")]

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use myriapod_machine::{
    ProcessUsage, busy_time, process_cpus, process_rss_bytes, process_usage, thread_cpu_time,
    time_wait_sockets,
};
use myriapod_sys::{Errno, pid, rss_bytes, thread_cpus};

/// Keeps this thread busy for so much of its own time.
fn work(time: Duration) {
    let end = thread_cpu_time() + time;
    while thread_cpu_time() < end {}
}

#[test]
fn does_work_show_in_the_usage() {
    let (before, busy) = (process_usage(pid()).unwrap(), busy_time().unwrap());
    work(Duration::from_millis(60));
    // What runs now is added when the system next looks at it.
    let enough = |after: &ProcessUsage| after.running - before.running >= Duration::from_millis(60);
    let mut readings = (0..10_000).map(|_| process_usage(pid()).unwrap());
    let after = readings.find(enough).expect("60 ms of work show");
    let cpu = |usage: &ProcessUsage| usage.cpu.user + usage.cpu.system;
    // They are counted in ticks of 10 ms, and some fall between.
    assert!(cpu(&after) - cpu(&before) >= Duration::from_millis(20), "{before:?} {after:?}");
    assert!(busy_time().unwrap() - busy >= Duration::from_millis(10));
}

#[test]
fn is_waiting_a_voluntary_switch() {
    let mut child = Command::new("sh")
        .args(["-c", "echo begun; read line; echo done; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut said).unwrap();
    let before = process_usage(child.id()).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    stdout.read_exact(&mut said[..5]).unwrap();
    // It waits again, soon.
    while process_usage(child.id()).unwrap().voluntary_switches == before.voluntary_switches {
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    let gone = process_usage(child.id()).unwrap_err();
    assert_eq!(gone.errno(), Some(Errno::ENOENT), "{gone}");
}

#[test]
fn is_memory_what_the_process_itself_sees() {
    // An optimizer would do without it.
    let filled = std::hint::black_box(vec![1_u8; 64 << 20]);
    let (ours, seen) = (rss_bytes().unwrap(), process_rss_bytes(pid()).unwrap());
    assert!(ours.abs_diff(seen) < 16 << 20, "{ours} {seen}");
    assert!(seen > filled.len() as u64);
    assert!(process_usage(pid()).unwrap().rss_bytes > filled.len() as u64);
    std::hint::black_box(&filled);
}

#[test]
fn are_the_processors_of_a_process_those_of_its_threads() {
    let list = process_cpus(pid()).unwrap();
    let first = thread_cpus().unwrap()[0].to_string();
    assert!(list.starts_with(&first), "{list}");
}

#[test]
fn does_the_side_that_closes_first_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap();
    drop(ours);
    drop(theirs);
    // It stays for a minute.
    while time_wait_sockets().unwrap() == 0 {
        std::thread::yield_now();
    }
}
