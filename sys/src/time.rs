//! [`Time`]: a point in monotonic time.

use std::ops::{Add, AddAssign};
use std::time::Duration;

/// A point in monotonic time, in nanoseconds since some fixed point of the past.
///
/// It never goes back and knows nothing of the date. Where nanoseconds end (after 584 years) it
/// stops rather than wrap.
///
/// ```
/// use std::time::Duration;
/// use myriapod_sys::Time;
///
/// let start = Time::from_nanos(1_000);
/// let later = start + Duration::from_nanos(5);
/// assert_eq!(later.saturating_since(start), Duration::from_nanos(5));
/// assert_eq!(start.saturating_since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The latest time there is.
    pub const MAX: Self = Self(u64::MAX);

    /// A time from its nanoseconds, for tests and simulations.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Its nanoseconds; only differences between two of them mean anything.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that has passed since `earlier`, or nothing where that is later than this.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at [`Time::MAX`].
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Saturates at [`Time::MAX`].
impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}
