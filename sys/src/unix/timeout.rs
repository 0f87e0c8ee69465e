//! Waiting no shorter than asked, whatever the system can express.

use std::time::{Duration, Instant};

use crate::Errno;

/// Calls `wait` with the time that is left until it reports something, fails, or `timeout` is over.
///
/// An interrupted wait and one that ended early (rounded down, or capped at what the system can
/// express) are taken up again. `None` is for ever; zero asks once and reads no clock.
#[inline]
pub(crate) fn keep_waiting(
    timeout: Option<Duration>,
    mut wait: impl FnMut(Option<Duration>) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    // A time beyond the clock's range is for ever.
    let end = match timeout {
        Some(timeout) if !timeout.is_zero() => Instant::now().checked_add(timeout),
        _ => None,
    };
    let mut left = timeout;
    loop {
        let waited = wait(left);
        match waited {
            Ok(0) if left == Some(Duration::ZERO) => return Ok(0),
            Ok(0) | Err(Errno::EINTR) => {}
            done => return done,
        }
        if let Some(end) = end {
            let still = end.saturating_duration_since(Instant::now());
            if waited == Ok(0) && still.is_zero() {
                return Ok(0);
            }
            // Zero where a signal used the time up: one look is owed, which poll and select let a
            // signal interrupt as well.
            left = Some(still);
        }
    }
}

/// Milliseconds for poll(2) and `epoll_wait`, rounded up; -1 is for ever.
#[cfg(any(has_epoll, not(has_ppoll), test))]
pub(crate) fn millis(timeout: Option<Duration>) -> libc::c_int {
    match timeout {
        None => -1,
        Some(timeout) => {
            let rest = u64::from(timeout.subsec_nanos().div_ceil(1_000_000));
            let millis = timeout.as_secs().saturating_mul(1_000).saturating_add(rest);
            libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX)
        }
    }
}

/// A timespec, cut off at `most` seconds.
pub(crate) fn timespec(timeout: Duration, most: i32) -> libc::timespec {
    // SAFETY: a timespec is numbers (and padding, on some systems), all of which may be zero.
    let mut spec: libc::timespec = unsafe { std::mem::zeroed() };
    let timeout = timeout.min(Duration::from_secs(most.unsigned_abs().into()));
    spec.tv_sec = i32::try_from(timeout.as_secs()).unwrap_or(most).into();
    spec.tv_nsec = timeout.subsec_nanos() as _;
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_milliseconds_rounded_up() {
        assert_eq!(millis(None), -1);
        assert_eq!(millis(Some(Duration::ZERO)), 0);
        assert_eq!(millis(Some(Duration::from_nanos(1))), 1);
        assert_eq!(millis(Some(Duration::from_micros(1_000))), 1);
        assert_eq!(millis(Some(Duration::from_micros(1_001))), 2);
        assert_eq!(millis(Some(Duration::MAX)), libc::c_int::MAX);
    }

    #[test]
    fn is_a_wait_that_ends_early_taken_up_again() {
        let mut asked = Vec::new();
        let done = keep_waiting(Some(Duration::from_secs(60)), |left| {
            asked.push(left);
            match asked.len() {
                1 => Ok(0),
                2 => Err(Errno::EINTR),
                _ => Ok(5),
            }
        });
        assert_eq!(done, Ok(5));
        assert_eq!(asked[0], Some(Duration::from_secs(60)));
        assert!(asked[2] <= asked[1] && asked[1] <= asked[0]);
    }

    #[test]
    fn is_a_last_look_taken_where_signals_used_the_time_up() {
        let mut asked = Vec::new();
        let done = keep_waiting(Some(Duration::from_nanos(1)), |left| {
            asked.push(left);
            let start = Instant::now();
            while start.elapsed() < Duration::from_nanos(1) {}
            if asked.len() < 4 { Err(Errno::EINTR) } else { Ok(0) }
        });
        assert_eq!(done, Ok(0));
        assert_eq!(asked[1..], [Some(Duration::ZERO); 3]);
    }

    #[test]
    fn does_a_wait_that_took_its_time_cost_one_call() {
        let timeout = Duration::from_micros(10);
        let mut asked = 0;
        let done = keep_waiting(Some(timeout), |_| {
            asked += 1;
            let start = Instant::now();
            while start.elapsed() < timeout {}
            Ok(0)
        });
        assert_eq!((done, asked), (Ok(0), 1));
    }

    #[test]
    fn does_a_zero_timeout_ask_once() {
        let mut asked = 0;
        let done = keep_waiting(Some(Duration::ZERO), |_| {
            asked += 1;
            Ok(0)
        });
        assert_eq!((done, asked), (Ok(0), 1));
    }

    #[test]
    fn does_a_timeout_beyond_the_clock_wait_for_ever() {
        let mut asked = 0;
        let done = keep_waiting(Some(Duration::MAX), |left| {
            assert_eq!(left, Some(Duration::MAX));
            asked += 1;
            Ok(if asked < 3 { 0 } else { 1 })
        });
        assert_eq!((done, asked), (Ok(1), 3));
    }

    #[test]
    fn is_a_failure_handed_on_at_once() {
        assert_eq!(keep_waiting(None, |_| Err(Errno::EBADF)), Err(Errno::EBADF));
    }
}
