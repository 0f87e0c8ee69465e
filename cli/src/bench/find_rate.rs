//! `--find-rate`: the highest rate that keeps the 99th percentile within its limit.

use super::args::Args;
use super::figures;
use super::job::Snapshot;
use super::report::{RateTried, Report};
use super::run::{Bench, Ran};
use crate::failure::Failure;

/// The search ends when the best rate and the least that is too high are so close.
const CLOSE: f64 = 1.05;

/// More rates are not tried.
const MOST: usize = 16;

/// Messages of the slowest rate.
const LEAST: f64 = 10.0;

/// The first rate is this share of what a closed loop achieves.
const FIRST: f64 = 0.5;

/// Begins with what a closed loop achieves, doubles while the limit is kept, then halves the
/// distance. Each rate is run for `--duration`.
///
/// # Errors
///
/// As [`super::run`].
pub(crate) fn search(args: &Args) -> Result<Report, Failure> {
    let limit = args.max_p99.map_or(0, |limit| limit.0);
    let mut bench = Bench::start(args)?;
    let ramped = bench.ramp(args)?;
    let closed = bench.once(args, ramped.clone())?;
    let mut tried = Vec::new();
    let mut best: Option<(f64, Ran)> = None;
    let mut too_high: Option<f64> = None;
    let mut last = closed;
    if last.cut.is_none() && last.after.faults() == 0 {
        let mut rate = FIRST * achieved(&last);
        // Fewer messages have no percentiles.
        while tried.len() < MOST && rate * args.duration.0.as_secs_f64() >= LEAST {
            bench.reset(rate)?;
            let ran = bench.once(args, ramped.clone())?;
            let p99 = ran.latencies.response.value_at_quantile(0.99);
            let answered = ran.after.messages.ok > 0;
            let met = p99 <= limit && answered && ran.after.faults() == 0;
            tried.push(RateTried { offered: rate, achieved: achieved(&ran), p99_ns: p99, met });
            let broken = ran.cut.is_some() || ran.after.faults() > 0;
            if met {
                best = Some((rate, ran));
            } else {
                too_high = Some(rate);
                last = ran;
            }
            if broken {
                break;
            }
            let low = best.as_ref().map(|(rate, _)| *rate);
            rate = match (low, too_high) {
                (Some(low), Some(high)) if high / low <= CLOSE => break,
                (Some(low), Some(high)) => f64::midpoint(low, high),
                (Some(low), None) => low * 1.5,
                (None, _) => rate / 2.0,
            };
        }
    }
    let (rate, ran) = match best {
        Some((rate, ran)) => (rate, ran),
        None => (tried.last().map_or(0.0, |tried| tried.offered), last),
    };
    bench.plan.job.rate = (rate > 0.0).then_some(rate);
    // What the last rate tried left behind is not the best one's.
    let (closed, latencies) = (ran.closed.clone(), ran.latencies.clone());
    let ended = bench.close(args, ran)?;
    let lost = ended.closed.lost;
    let ran = Ran { closed: Snapshot { lost, ..closed }, latencies, ..ended };
    let report = figures::report(args, &bench.plan, &bench.history, &ran, tried);
    bench.end()?;
    Ok(report)
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn achieved(ran: &Ran) -> f64 {
    let answered = ran.after.messages.ok - ran.before.messages.ok;
    if ran.seconds > 0.0 { answered as f64 / ran.seconds } else { 0.0 }
}
