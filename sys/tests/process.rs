//! What a process inherits, holds and uses.

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

mod support;

use std::os::fd::{AsRawFd, IntoRawFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use myriapod_sys::{
    Descriptor, Errno, Listener, SystemError, adopt_descriptor, cpu_time, inherited_listeners, now,
    pid, rss_bytes,
};
use nix::fcntl::{FcntlArg, fcntl};
use support::{assert_close_on_exec, connect, listen, v4};

/// A descriptor without close-on-exec and without an owner, as an exec leaves it.
fn inherited() -> i32 {
    let file = std::fs::File::open("/dev/null").unwrap();
    nix::unistd::dup(&file).unwrap().into_raw_fd()
}

#[test]
fn is_an_inherited_descriptor_adopted_once() {
    let number = inherited();
    let descriptor = adopt_descriptor(number).unwrap();
    assert_close_on_exec(&descriptor);
    let owned = SystemError::DescriptorOwned { descriptor: number };
    assert_eq!(adopt_descriptor(number).unwrap_err(), owned);
    assert_eq!(
        owned.to_string(),
        format!("descriptor {number} has an owner in this process already")
    );
}

/// Code without `unsafe` can own a descriptor that looks inherited. It must not lose it.
#[test]
fn does_the_owner_of_an_adopted_descriptor_keep_it() {
    let (read_end, write_end) = std::io::pipe().unwrap();
    let owned = nix::unistd::dup(&write_end).unwrap();
    drop(write_end);
    let adopted = adopt_descriptor(owned.as_raw_fd()).unwrap();
    assert_ne!(adopted.as_raw_fd(), owned.as_raw_fd());
    drop(adopted);
    // Were there two owners, the standard library would end the process at the second close.
    assert_eq!(nix::unistd::write(&owned, b"x"), Ok(1));
    assert_close_on_exec(&owned);
    drop(owned);
    assert_eq!(std::io::read_to_string(read_end).unwrap(), "x");
}

#[test]
fn is_a_descriptor_with_an_owner_refused() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let number = file.as_raw_fd();
    assert_eq!(
        adopt_descriptor(number).unwrap_err(),
        SystemError::DescriptorOwned { descriptor: number }
    );
    for number in [1, 2] {
        assert_eq!(
            adopt_descriptor(number).unwrap_err(),
            SystemError::DescriptorOwned { descriptor: number }
        );
    }
}

#[test]
fn is_a_number_that_is_not_open_refused_by_name() {
    for number in [-1, i32::MIN, i32::MAX] {
        let error = adopt_descriptor(number).unwrap_err();
        let on = format!("descriptor {number}");
        assert_eq!(error, SystemError::call("fcntl", Errno::EBADF, on));
    }
}

const CHILD: &str = "MYRIAPOD_TEST_CHILD";

/// Whether this process has the descriptors that `in_child` arranges.
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs the test `name` of this file in a process of its own, which `$$` names, with the
/// listener as its descriptors 0, 3 and 4.
fn in_child(name: &str, setup: &str, listener: &Listener) {
    let stdin: Descriptor = {
        use std::os::fd::AsFd;
        listener.as_fd().try_clone_to_owned().unwrap()
    };
    let script =
        format!("exec 3<&0 4<&0; {setup} exec \"$0\" --exact --ignored --nocapture {name}");
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .stdin(Stdio::from(stdin))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "the child ran no test: {said}");
}

#[test]
fn are_the_listeners_of_a_service_manager_taken_over() {
    let setup = "LISTEN_FDS=2 LISTEN_PID=$$";
    in_child("child_takes_two_listeners", setup, &listen(&v4()));
}

#[test]
#[ignore = "does nothing but in the child process of another test"]
fn child_takes_two_listeners() {
    if !is_child() {
        return;
    }
    let taken = inherited_listeners().unwrap();
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|taken| taken.as_raw_fd() > 4), "duplicates: {taken:?}");
    taken.iter().for_each(assert_close_on_exec);
    let error = inherited_listeners().unwrap_err();
    assert_eq!(error, SystemError::DescriptorOwned { descriptor: 3 });
    for descriptor in taken {
        let listener = Listener::adopt(descriptor).unwrap();
        let client = connect(&listener.local_address().unwrap()).unwrap();
        assert_eq!(support::accept_one(&listener).1, client.local_address().unwrap());
    }
}

#[test]
fn are_another_process_listeners_left_alone() {
    let setup = "LISTEN_FDS=2 LISTEN_PID=1";
    in_child("child_takes_none", setup, &listen(&v4()));
    in_child("child_takes_none", "LISTEN_FDS=2", &listen(&v4()));
    in_child("child_takes_none", "LISTEN_PID=$$", &listen(&v4()));
    in_child("child_takes_none", "", &listen(&v4()));
}

#[test]
#[ignore = "does nothing but in the child process of another test"]
fn child_takes_none() {
    if !is_child() {
        return;
    }
    assert!(inherited_listeners().unwrap().is_empty());
    // They are still there.
    adopt_descriptor(3).unwrap();
}

#[test]
fn is_nonsense_in_the_environment_an_error() {
    let listener = listen(&v4());
    in_child("child_finds_nonsense", "LISTEN_FDS=two LISTEN_PID=$$", &listener);
    in_child("child_finds_nonsense", "LISTEN_FDS=-1 LISTEN_PID=$$", &listener);
    in_child("child_finds_nonsense", "LISTEN_FDS=2 LISTEN_PID=me", &listener);
    // More than are open, and more than can be.
    in_child("child_finds_nonsense", "LISTEN_FDS=2147483647 LISTEN_PID=$$", &listener);
}

#[test]
#[ignore = "does nothing but in the child process of another test"]
fn child_finds_nonsense() {
    if !is_child() {
        return;
    }
    let error = inherited_listeners().unwrap_err().to_string();
    let known = [
        "LISTEN_FDS two: EINVAL (Invalid argument)",
        "LISTEN_FDS -1: EINVAL (Invalid argument)",
        "LISTEN_PID me: EINVAL (Invalid argument)",
    ];
    let owned_or_closed =
        error.starts_with("descriptor ") || error.starts_with("fcntl descriptor ");
    assert!(known.contains(&error.as_str()) || owned_or_closed, "{error}");
}

#[test]
fn is_a_listener_on_standard_input_moved_away() {
    in_child("child_adopts_standard_input", "", &listen(&v4()));
}

#[test]
#[ignore = "does nothing but in the child process of another test"]
fn child_adopts_standard_input() {
    if !is_child() {
        return;
    }
    let descriptor = adopt_descriptor(0).unwrap();
    assert!(descriptor.as_raw_fd() > 2);
    assert_close_on_exec(&descriptor);
    let listener = Listener::adopt(descriptor).unwrap();
    connect(&listener.local_address().unwrap()).unwrap();
    // Standard input is open, and at its end.
    assert_eq!(std::io::read_to_string(std::io::stdin()).unwrap(), "");
    assert!(fcntl(std::io::stdin(), FcntlArg::F_GETFD).is_ok());
    assert_eq!(adopt_descriptor(0).unwrap_err(), SystemError::DescriptorOwned { descriptor: 0 });
}

#[cfg(target_os = "linux")]
#[test]
fn does_rss_grow_with_touched_memory() {
    let before = rss_bytes().unwrap();
    let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
    let after = rss_bytes().unwrap();
    assert!(after >= before + (48 << 20), "{before} {after}");
    assert_eq!(touched[1 << 20], 1);
}

#[test]
fn does_cpu_time_grow_with_work() {
    let before = cpu_time().unwrap();
    let mut rounds = 0_u64;
    while cpu_time().unwrap().user + cpu_time().unwrap().system <= before.user + before.system {
        rounds += 1;
        assert!(rounds < 1 << 32, "no time passes");
    }
}

fn system_clock() -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to write for the call's length.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }, 0);
    time
}

#[test]
fn does_the_clock_never_go_back() {
    let mut last = now();
    for _ in 0..100_000 {
        let next = now();
        assert!(next >= last);
        last = next;
    }
    // It does go on, and it is the system's, in nanoseconds.
    while now() == last {}
    let system = || nix::sys::time::TimeSpec::from(system_clock());
    let before = Duration::from(system());
    let between = Duration::from_nanos(now().as_nanos());
    let after = Duration::from(system());
    assert!(before <= between && between <= after, "{before:?} {between:?} {after:?}");
}

#[test]
fn is_the_pid_ours() {
    assert_eq!(pid(), std::process::id());
}
