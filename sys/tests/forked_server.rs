//! Does a server that was built before a fork hear the signals of the process that runs it?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]
#![cfg(not(myriapod_sim))]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use myriapod::{Backend, Handler, Server};
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

fn build(backend: Backend) -> Server<impl Handler> {
    let signals = [myriapod::sys::Signal::Terminate, myriapod::sys::Signal::Interrupt];
    let server = Server::builder().backend(backend).listen("127.0.0.1", 0).signals(&signals);
    server.answer(|message, reply| Ok(reply.echo(&message)?)).unwrap_or_else(|_| exit(1))
}

/// In a child of this process, which has no other threads: builds a server, forks, exits.
fn build_and_fork(backend: Backend, mut pipe: File) -> ! {
    let mut server = build(backend);
    // SAFETY: this process has one thread, so no lock is held that the child could wait for.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => exit(0),
        Ok(ForkResult::Child) => {}
        Err(_) => exit(2),
    }
    tell_of(&server, &mut pipe);
    run(&mut server, pipe)
}

/// The same, but serves a message first, and has the child drop its copy of the server.
fn serve_and_fork(backend: Backend, mut pipe: File) -> ! {
    let mut server = build(backend);
    tell_of(&server, &mut pipe);
    while server.stats().messages == 0 {
        if server.event_loop().run_once(Some(PATIENCE)).is_err() {
            exit(4);
        }
    }
    // SAFETY: this process has one thread, so no lock is held that the child could wait for.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => {
            if waitpid(child, None) != Ok(WaitStatus::Exited(child, 0)) {
                exit(5);
            }
        }
        Ok(ForkResult::Child) => {
            drop(server);
            exit(0)
        }
        Err(_) => exit(2),
    }
    run(&mut server, pipe)
}

fn tell_of(server: &Server<impl Handler>, pipe: &mut File) {
    // Nobody waits for this process: should no signal end it, this one does.
    alarm::set(u32::try_from(PATIENCE.as_secs()).unwrap_or(60));
    let port = server.addresses()[0].to_string().rsplit(':').next().map(str::to_owned);
    let hello = format!("{} {}\n", getpid(), port.unwrap_or_default());
    if pipe.write_all(hello.as_bytes()).is_err() {
        exit(3);
    }
}

fn run(server: &mut Server<impl Handler>, mut pipe: File) -> ! {
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
    Grandchild::told(from.into())
}

impl Grandchild {
    /// What the process says of itself on this pipe.
    fn told(mut pipe: File) -> Self {
        let mut hello = String::new();
        while !hello.ends_with('\n') {
            let mut byte = [0];
            assert_eq!(pipe.read(&mut byte).unwrap(), 1, "it is gone after {hello:?}");
            hello.push(byte[0].into());
        }
        let (pid, port) = hello.trim().split_once(' ').unwrap();
        let pid = Pid::from_raw(pid.parse().unwrap());
        Self { pid, port: port.parse().unwrap(), pipe }
    }
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

/// Both processes have one epoll instance: what one takes out of it, the other no longer hears of.
#[test]
fn does_a_connection_go_on_whose_server_a_child_dropped() {
    // The crate polling takes its own timer out of the epoll instance when it is dropped.
    let all = Backend::available().iter().filter(|backend| **backend != Backend::Portable);
    for backend in all {
        let (from, to) = nix::unistd::pipe().unwrap();
        // SAFETY: as in `start`.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Child => serve_and_fork(*backend, to.into()),
            ForkResult::Parent { child } => child,
        };
        drop(to);
        let mut server = Grandchild::told(from.into());
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(&mut stream);
        // The second is answered after the fork, since the first began it.
        ask(&mut stream);
        kill(server.pid, Kill::SIGTERM).unwrap();
        drop(stream);
        let mut end = String::new();
        server.pipe.read_to_string(&mut end).unwrap();
        assert_eq!(end, "graceful", "{backend}");
        assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)), "{backend}");
    }
}
