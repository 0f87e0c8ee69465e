//! How finely the clock tells time.

use std::time::Duration;

use myriapod::sys;

/// Reads that are made at least, and the steps that are to be among them.
const READS: u32 = 10_000;
const STEPS: u32 = 10;

/// No clock that this is used with has larger steps.
const LONGEST: Duration = Duration::from_millis(100);

/// A clock that stands still is read so often: some tenths of a second.
const MOST_READS: u32 = 5_000_000;

/// The smallest step of the clock that was seen, in nanoseconds.
pub(crate) fn step() -> u64 {
    smallest_step(|| sys::now().as_nanos())
}

/// Reads until some steps were seen, for 100 ms at most; that long where there was none.
fn smallest_step(mut clock: impl FnMut() -> u64) -> u64 {
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
    let began = clock();
    let (mut last, mut smallest, mut steps) = (began, longest, 0);
    for read in 0..MOST_READS {
        let enough = read >= READS && steps >= STEPS;
        if enough || last.saturating_sub(began) >= longest {
            break;
        }
        let now = clock();
        if now > last {
            smallest = smallest.min(now - last);
            steps += 1;
        }
        last = now;
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that is read in 25 ns and moves in steps.
    fn clock(step: u64) -> impl FnMut() -> u64 {
        let mut time = 123;
        move || {
            time += 25;
            time / step * step
        }
    }

    #[test]
    fn is_the_step_of_a_coarse_clock_seen() {
        for step in [1000, 1_000_000, 4_000_000, 10_000_000] {
            assert_eq!(smallest_step(clock(step)), step);
        }
        assert_eq!(smallest_step(clock(1)), 25);
    }

    #[test]
    fn does_a_clock_that_stands_still_end_the_search() {
        assert_eq!(smallest_step(|| 7), 100_000_000);
    }

    #[test]
    fn is_the_clock_of_this_machine_finer_than_a_jiffy() {
        assert!((1..10_000_000).contains(&step()));
    }
}
