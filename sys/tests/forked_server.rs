//! Does a server that was built before a fork hear the signals of the process that runs it?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]
#![cfg(not(myriapod_sim))]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use myriapod::{Backend, Server};
use nix::sys::signal::{Signal as Kill, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork, getpid};

/// How long anything takes at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the process that runs the server tells the test: its number, the port, and how it ended.
struct Grandchild {
    pid: Pid,
    port: u16,
    pipe: File,
}

fn exit(status: i32) -> ! {
    // SAFETY: ends this process, and runs no exit handlers of the one that it was forked from.
    unsafe { libc::_exit(status) }
}

/// In a child of this process, which has no other threads: builds a server, forks, exits.
fn build_and_fork(backend: Backend, mut pipe: File) -> ! {
    let signals = [myriapod::sys::Signal::Terminate, myriapod::sys::Signal::Interrupt];
    let server = Server::builder().backend(backend).listen("127.0.0.1", 0).signals(&signals);
    let Ok(mut server) = server.answer(|message, reply| Ok(reply.echo(&message)?)) else { exit(1) };
    // SAFETY: this process has one thread, so no lock is held that the child could wait for.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => exit(0),
        Ok(ForkResult::Child) => {}
        Err(_) => exit(2),
    }
    // Nobody waits for this process: should no signal end it, this one does.
    alarm::set(u32::try_from(PATIENCE.as_secs()).unwrap_or(60));
    let port = server.addresses()[0].to_string().rsplit(':').next().map(str::to_owned);
    let hello = format!("{} {}\n", getpid(), port.unwrap_or_default());
    if pipe.write_all(hello.as_bytes()).is_err() {
        exit(3);
    }
    let end = match server.run() {
        Ok(true) => "graceful",
        Ok(false) => "cut off",
        Err(_) => "failed",
    };
    let _told = pipe.write_all(end.as_bytes());
    exit(0)
}

fn start(backend: Backend) -> Grandchild {
    let (from, to) = nix::unistd::pipe().unwrap();
    // SAFETY: the child does what `build_and_fork` says, and ends without this process's exit
    // handlers. It takes no lock that another thread may hold: glibc's allocator is made for forks.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => build_and_fork(backend, to.into()),
        ForkResult::Parent { child } => child,
    };
    drop(to);
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)), "the builder exits");
    let mut pipe = File::from(from);
    let mut hello = String::new();
    while !hello.ends_with('\n') {
        let mut byte = [0];
        assert_eq!(pipe.read(&mut byte).unwrap(), 1, "it is gone after {hello:?}");
        hello.push(byte[0].into());
    }
    let (pid, port) = hello.trim().split_once(' ').unwrap();
    let pid = Pid::from_raw(pid.parse().unwrap());
    Grandchild { pid, port: port.parse().unwrap(), pipe }
}

/// One message of 64 bytes of header and content, and the same back.
fn ask(stream: &mut TcpStream) {
    let header = r#"{"byteorder": "little", "content-type": "test/bytes", "content-encoding": "binary", "content-length": 3}"#;
    let len = u16::try_from(header.len()).unwrap().to_be_bytes();
    let message = [&len, header.as_bytes(), b"abc"].concat();
    stream.write_all(&message).unwrap();
    let mut reply = vec![0; message.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, message);
}

#[test]
fn does_a_signal_end_a_server_that_a_forked_child_runs() {
    for backend in Backend::available() {
        for signal in [Kill::SIGTERM, Kill::SIGINT] {
            let mut server = start(*backend);
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            ask(&mut stream);
            kill(server.pid, signal).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{backend}, {signal}");
            drop(stream);
            let mut end = String::new();
            server.pipe.read_to_string(&mut end).unwrap();
            assert_eq!(end, "graceful", "{backend}, {signal}");
        }
    }
}
