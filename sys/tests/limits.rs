//! The limit of descriptors, and what happens at it. It belongs to the process, so these tests
//! take turns in a process of their own.

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

mod support;

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use myriapod_sys::{
    Errno, SpareDescriptor, SystemError, accept, descriptor_limit, open_descriptors,
    raise_descriptor_limit,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::{assert_close_on_exec, connect, is_readable, listen, v4, wait_readable};

/// One test at a time; the limit is put back at the end.
struct Turn {
    limit: (u64, u64),
    _guard: MutexGuard<'static, ()>,
}

fn turn() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Turn { limit: getrlimit(Resource::RLIMIT_NOFILE).unwrap(), _guard: guard }
}

impl Turn {
    fn set_soft(&self, soft: u64) {
        setrlimit(Resource::RLIMIT_NOFILE, soft, self.limit.1).unwrap();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, self.limit.0, self.limit.1);
    }
}

/// Opens files until no descriptor is left.
fn fill() -> Vec<File> {
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    files
}

#[test]
fn is_the_soft_limit_raised_to_the_hard_one() {
    let turn = turn();
    turn.set_soft(100);
    assert_eq!(descriptor_limit().unwrap().soft, 100);
    let raised = raise_descriptor_limit().unwrap();
    assert_eq!(raised.soft, raised.hard);
    assert!(raised.hard >= turn.limit.1);
    assert_eq!(descriptor_limit(), Ok(raised));
    assert_eq!(raise_descriptor_limit(), Ok(raised), "a second time changes nothing");
}

#[cfg(target_os = "linux")]
#[test]
fn is_the_hard_limit_raised_where_that_is_allowed() {
    let turn = turn();
    let nr_open: u64 =
        std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
    let raised = raise_descriptor_limit().unwrap();
    // Whether it is allowed is asked of the kernel by trying.
    if setrlimit(Resource::RLIMIT_NOFILE, nr_open, nr_open).is_ok() {
        assert_eq!((raised.soft, raised.hard), (nr_open, nr_open));
    } else {
        assert_eq!((raised.soft, raised.hard), (turn.limit.1, turn.limit.1));
    }
}

#[test]
fn are_open_descriptors_counted() {
    let _turn = turn();
    let before = open_descriptors();
    let limit = i32::try_from(descriptor_limit().unwrap().soft).unwrap();
    // SAFETY: no memory is involved, and a number that is not open is an error.
    let is_open = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0;
    assert_eq!(before, (0..limit.min(1 << 20)).filter(is_open).count());
    let files: Vec<_> = (0..10).map(|_| File::open("/dev/null").unwrap()).collect();
    assert_eq!(open_descriptors(), before + 10);
    drop(files);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn are_open_descriptors_counted_with_none_left_to_count_with() {
    let turn = turn();
    let before = open_descriptors();
    turn.set_soft(64);
    let mut files = fill();
    assert!(!files.is_empty());
    assert_eq!(open_descriptors(), 64);
    // With one free the list can be read again, also of numbers beyond the limit.
    files.pop();
    assert_eq!(open_descriptors(), before + files.len());
}

#[test]
fn does_the_spare_turn_a_peer_away_without_descriptors() {
    let turn = turn();
    turn.set_soft(64);
    let listener = listen(&v4());
    let address = listener.local_address().unwrap();
    let clients = [connect(&address).unwrap(), connect(&address).unwrap()];
    let mut spare = SpareDescriptor::open().unwrap();
    let mut files = fill();
    assert_eq!(accept(&listener).unwrap_err(), Errno::EMFILE);

    wait_readable(&listener);
    assert_eq!(spare.turn_away(&listener), Ok(true));
    assert!(spare.is_held());
    assert_eq!(accept(&listener).unwrap_err(), Errno::EMFILE, "its place is taken again");
    // Exactly one is told: the end, or a reset.
    wait_readable(&clients[0]);
    assert!(matches!(clients[0].recv(&mut [0]), Ok(0) | Err(Errno::ECONNRESET)));
    assert!(!is_readable(&clients[1]));

    assert_eq!(spare.turn_away(&listener), Ok(true));
    assert_eq!(spare.turn_away(&listener), Ok(false), "nobody waits");
    assert!(spare.is_held());
    files.pop();
    assert_eq!(accept(&listener).unwrap_err(), Errno::EAGAIN);
}

#[test]
fn does_a_spare_that_lost_its_place_try_again_later() {
    let turn = turn();
    turn.set_soft(64);
    let listener = listen(&v4());
    let address = listener.local_address().unwrap();
    let client = connect(&address).unwrap();
    let mut files = fill();
    // The spare gets the last number, which a lower limit then keeps from being opened again.
    files.pop();
    let mut spare = SpareDescriptor::open().unwrap();
    turn.set_soft(32);
    assert_eq!(spare.turn_away(&listener), Err(Errno::EMFILE));
    assert!(!spare.is_held());
    assert_eq!(spare.turn_away(&listener), Err(Errno::EMFILE));
    turn.set_soft(64);
    wait_readable(&listener);
    assert_eq!(spare.turn_away(&listener), Ok(true));
    assert!(spare.is_held());
    drop(client);
}

#[test]
fn does_a_spare_without_room_say_so() {
    let turn = turn();
    turn.set_soft(64);
    assert_close_on_exec_of_a_spare();
    let _files = fill();
    let error = SpareDescriptor::open().unwrap_err();
    assert_eq!(error, SystemError::call("open", Errno::EMFILE, "/dev/null"));
    assert_eq!(error.to_string(), "open /dev/null: EMFILE (Too many open files)");
}

/// The spare has no descriptor to show, so the newest number is looked at.
fn assert_close_on_exec_of_a_spare() {
    use std::os::fd::{AsRawFd, BorrowedFd};

    let next = File::open("/dev/null").unwrap();
    let number = next.as_raw_fd();
    drop(next);
    let _spare = SpareDescriptor::open().unwrap();
    // SAFETY: the spare has just taken the lowest free number, and lives until the end.
    assert_close_on_exec(unsafe { BorrowedFd::borrow_raw(number) });
}
