//! Do threads get their names, their processors and their panics home?
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

use myriapod_sys::{Errno, spawn};

#[test]
fn has_a_thread_the_name_it_was_given() {
    let thread = spawn("loop-7", || std::thread::current().name().map(str::to_owned)).unwrap();
    assert_eq!(thread.join().as_deref(), Some("loop-7"));
}

#[test]
fn is_a_name_with_a_zero_byte_refused() {
    let error = spawn("a\0b", || ()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
}

#[test]
#[should_panic(expected = "on the other thread")]
fn does_a_panic_come_home_to_the_one_that_joins() {
    spawn("panics", || panic!("on the other thread")).unwrap().join();
}

#[cfg(target_os = "linux")]
#[test]
fn does_pinning_concern_one_thread_alone() {
    use myriapod_sys::{available_cpus, set_thread_cpus, thread_cpus};

    let before = thread_cpus().unwrap();
    assert!(!before.is_empty() && available_cpus() <= before.len());
    let last = *before.last().unwrap();
    let pinned = spawn("pinned", move || {
        set_thread_cpus(&[last]).unwrap();
        thread_cpus().unwrap()
    });
    assert_eq!(pinned.unwrap().join(), [last]);
    assert_eq!(thread_cpus().unwrap(), before);
    assert_eq!(set_thread_cpus(&[]).unwrap_err().errno(), Some(Errno::EINVAL));
    assert_eq!(set_thread_cpus(&[1 << 20]).unwrap_err().errno(), Some(Errno::EINVAL));
}
