//! [`Schedule`]: when messages are due in an open loop.

use std::sync::Arc;

/// Moments, one after the other, that do not depend on how the server does. Only the next one is
/// kept: what is behind it can be worked out, so a server that stalls costs no memory.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: u64,
    arrivals: Arrivals,
}

/// How one moment follows another.
#[derive(Clone, Debug)]
enum Arrivals {
    Made {
        /// Nanoseconds from one to the next, in the mean.
        interval: f64,
        poisson: bool,
        random: Random,
        /// Nanoseconds from the start to the next.
        offset: f64,
    },
    /// As they were recorded: nanoseconds from the start, and which of them is next.
    Recorded(Arc<[u64]>, usize),
}

impl Schedule {
    /// So many a second from `start` on (in nanoseconds of the clock): evenly, or as independent
    /// arrivals come (a Poisson process). The same seed makes the same moments.
    pub(crate) fn new(start: u64, per_second: f64, poisson: bool, seed: u64) -> Self {
        let (interval, mut random) = (1e9 / per_second, Random::new(seed));
        // Several threads do not all begin at once.
        let offset = interval * random.unit();
        Self { start, arrivals: Arrivals::Made { interval, poisson, random, offset } }
    }

    /// These, in nanoseconds after `start`, ascending; behind the last of them none.
    pub(crate) const fn recorded(start: u64, moments: Arc<[u64]>) -> Self {
        Self { start, arrivals: Arrivals::Recorded(moments, 0) }
    }

    /// When the next is due, in nanoseconds of the clock.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and saturating"
    )]
    pub(crate) fn next(&self) -> u64 {
        let offset = match &self.arrivals {
            Arrivals::Made { offset, .. } => *offset as u64,
            Arrivals::Recorded(moments, next) => moments.get(*next).copied().unwrap_or(u64::MAX),
        };
        self.start.saturating_add(offset)
    }

    /// Goes on to the one behind it.
    pub(crate) fn advance(&mut self) {
        match &mut self.arrivals {
            Arrivals::Made { interval, poisson: true, random, offset } => {
                // 1 - unit() is never 0.
                *offset -= *interval * (1.0 - random.unit()).ln();
            }
            Arrivals::Made { interval, offset, .. } => *offset += *interval,
            Arrivals::Recorded(_, next) => *next += 1,
        }
    }
}

/// `SplitMix64`: small, and good enough for arrivals.
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0 and less than 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distances between the first `count` moments of a thousand a second.
    fn distances(poisson: bool, seed: u64, count: usize) -> Vec<f64> {
        let mut schedule = Schedule::new(5, 1000.0, poisson, seed);
        let moments = std::iter::from_fn(|| {
            let next = schedule.next();
            schedule.advance();
            Some(next as f64)
        });
        let moments: Vec<f64> = moments.take(count + 1).collect();
        assert!(moments[0] >= 5.0 && moments[0] < 1e6 + 5.0);
        moments.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn do_constant_arrivals_keep_their_distance() {
        for distance in distances(false, 1, 1000) {
            assert!((distance - 1e6).abs() <= 1.0, "{distance}");
        }
    }

    #[test]
    fn are_poisson_arrivals_exponential() {
        let distances = distances(true, 7, 100_000);
        let count = distances.len() as f64;
        let mean = distances.iter().sum::<f64>() / count;
        let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / count;
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "{mean}");
        // The deviation of an exponential distribution is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
        let long = distances.iter().filter(|&&d| d > 1e6).count() as f64 / count;
        assert!((long - (-1.0_f64).exp()).abs() < 0.01, "{long}");
    }

    #[test]
    fn do_seeds_make_the_moments() {
        assert_eq!(distances(true, 1, 10), distances(true, 1, 10));
        assert_ne!(distances(true, 1, 10), distances(true, 2, 10));
    }
}
