//! [`now`]: the one clock of the project.

use crate::Time;

/// `int clock_gettime(CLOCK_MONOTONIC, struct timespec *time)`: the time now, without a system call
/// where the kernel maps the clock into the process.
///
/// ```
/// let earlier = myriapod_sys::now();
/// assert!(myriapod_sys::now() >= earlier);
/// ```
///
/// Source: `clock_gettime(2)`.
#[must_use]
#[inline]
pub fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to write for the call's length. The call cannot fail: POSIX systems
    // have this clock, and the pointer is good.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    #[expect(clippy::cast_sign_loss, reason = "a monotonic clock starts at or above 0")]
    Time::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
