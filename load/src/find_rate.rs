//! `--find-rate`: the highest rate that keeps the 99th percentile within its limit.

use std::time::Duration;

use crate::error::Result;
use crate::figures;
use crate::observer::Observer;
use crate::options::Plan;
use crate::ran::Ran;
use crate::report::{RateTried, Report};
use crate::run::Bench;
use crate::snapshot::Snapshot;

/// The search ends when the best rate and the least that is too high are so close.
const CLOSE: f64 = 1.05;

/// More rates are not tried.
const MOST: usize = 16;

/// Messages of the slowest rate.
const LEAST: f64 = 10.0;

/// The first rate is this share of what a closed loop achieves.
const FIRST: f64 = 0.5;

/// A server keeps up that answers this share of what is due, and all of it but [`FEW`] where that
/// is little.
const KEPT: f64 = 0.98;
const FEW: f64 = 2.0;

/// Begins with half of what a closed loop achieves, goes up by half while the limit is kept, then
/// halves the distance. Each rate is run for `--duration`, and once more where it was missed.
///
/// # Errors
///
/// As [`super::run`].
pub(crate) fn search(plan: Plan, observer: &mut dyn Observer) -> Result<Report> {
    let duration = plan.options.duration;
    let limit = plan.options.max_p99.unwrap_or(0);
    let mut bench = Bench::start(plan, observer)?;
    let ramped = bench.ramp()?;
    let closed = bench.once(ramped.clone())?;
    // Fewer messages have no percentiles.
    let least = LEAST / duration.as_secs_f64();
    let mut search = Search::new(FIRST * achieved(&closed), least, is_broken(&closed));
    let mut best: Option<Ran> = None;
    let mut last = closed;
    while let Some(rate) = search.next().filter(|_| last.interrupted.is_none()) {
        bench.reset(rate)?;
        let ran = bench.once(ramped.clone())?;
        let tried = tried(rate, &ran, limit);
        if ran.interrupted.is_some() {
            last = ran;
            break;
        }
        search.tell(tried, is_broken(&ran));
        if tried.met {
            best = Some(ran);
        } else {
            last = ran;
        }
    }
    let rate =
        if best.is_some() { search.low } else { search.tried.last().map(|last| last.offered) };
    bench.plan.job.rate = rate;
    let ran = best.unwrap_or(last);
    // What the last rate tried left behind is not the best one's.
    let (closed, latencies) = (ran.closed.clone(), ran.latencies.clone());
    let ended = bench.close(ran)?;
    let lost = ended.closed.lost;
    let ran = Ran { closed: Snapshot { lost, ..closed }, latencies, ..ended };
    let doubt = search.doubt(duration);
    let mut report = figures::report(&bench.plan, &bench.history, &ran, search.tried);
    report.warnings.extend(doubt);
    bench.end()?;
    Ok(report)
}

/// What a run with this rate came to.
pub(crate) fn tried(rate: f64, ran: &Ran, limit: u64) -> RateTried {
    let p99_ns = ran.latencies.response.value_at_quantile(0.99);
    let met = p99_ns <= limit && keeps_up(rate, ran) && !is_broken(ran);
    RateTried { offered: rate, achieved: achieved(ran), p99_ns, met }
}

/// Whether the server answered what was due: almost all of it was sent, and while it was, the
/// answers came as fast as the requests. What is under way at the end is no backlog as long as it
/// is what a usual answer takes (Little's law).
#[expect(clippy::cast_precision_loss, reason = "counts of messages")]
fn keeps_up(rate: f64, ran: &Ran) -> bool {
    let since = |snapshot: &Snapshot| {
        let due = snapshot.due - ran.before.due;
        (snapshot.messages.ok.saturating_sub(ran.before.messages.ok) as f64, due as f64)
    };
    let enough = |answered: f64, due: f64| answered >= (KEPT * due).min(due - FEW);
    let usual = ran.latencies.response.value_at_quantile(0.5) as f64 / 1e9;
    let (answered, due) = since(&ran.after);
    let (meanwhile, sent) = since(&ran.worked);
    answered > 0.0 && enough(answered, due) && enough(meanwhile + rate * usual, sent)
}

fn is_broken(ran: &Ran) -> bool {
    ran.cut.is_some() || ran.after.faults() > 0
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn achieved(ran: &Ran) -> f64 {
    let answered = ran.after.messages.ok.saturating_sub(ran.before.messages.ok);
    if ran.seconds > 0.0 { answered as f64 / ran.seconds } else { 0.0 }
}

/// Which rate is tried next, and when that is over.
#[derive(Debug)]
struct Search {
    next: Option<f64>,
    /// The best so far, and the least that is too high.
    low: Option<f64>,
    high: Option<f64>,
    /// The present rate was missed once. That may have been the machine's doing.
    missed: bool,
    rates: usize,
    least: f64,
    tried: Vec<RateTried>,
    /// Why it ended before the best and the least that is too high were close.
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    /// There were errors or bad replies, at this rate or before the first.
    Broken(Option<f64>),
    Most,
    /// The next rate has too few messages.
    Least,
}

impl Search {
    fn new(first: f64, least: f64, broken: bool) -> Self {
        let mut search = Self {
            next: None,
            low: None,
            high: None,
            missed: false,
            rates: 0,
            least,
            tried: Vec::new(),
            end: None,
        };
        if broken {
            search.end = Some(End::Broken(None));
        } else {
            // A closed loop that was held up says little about what the server can do.
            search.go_on(first.max(least));
        }
        search
    }

    const fn next(&self) -> Option<f64> {
        self.next
    }

    fn go_on(&mut self, rate: f64) {
        self.missed = false;
        self.rates += 1;
        self.end = match rate {
            _ if self.rates > MOST => Some(End::Most),
            rate if rate < self.least => Some(End::Least),
            _ => None,
        };
        self.next = self.end.is_none().then_some(rate);
    }

    /// What the rate that was next came to.
    fn tell(&mut self, tried: RateTried, broken: bool) {
        let rate = tried.offered;
        self.tried.push(tried);
        if broken {
            self.end = Some(End::Broken(Some(rate)));
            self.next = None;
            return;
        }
        match (tried.met, self.missed) {
            (true, _) => self.low = Some(rate),
            (false, true) => self.high = Some(rate),
            (false, false) => {
                self.missed = true;
                return;
            }
        }
        match (self.low, self.high) {
            (Some(low), Some(high)) if high / low <= CLOSE => self.next = None,
            (Some(low), Some(high)) => self.go_on(f64::midpoint(low, high)),
            (Some(low), None) => self.go_on(low * 1.5),
            (None, _) => self.go_on(rate / 2.0),
        }
    }

    /// A warning, where the result is not what was searched.
    fn doubt(&self, duration: Duration) -> Option<String> {
        let between = || match (self.low, self.high) {
            (Some(low), Some(high)) => format!("it is between {low:.0} and {high:.0} per second"),
            (Some(low), None) => format!("it is {low:.0} per second or more"),
            (None, _) => "none was found that keeps the limit".to_owned(),
        };
        let why = match self.end.as_ref()? {
            End::Broken(None) => "the closed loop that it begins with had errors".to_owned(),
            End::Broken(Some(rate)) => format!("errors at {rate:.0} per second ended it"),
            End::Most => format!("{MOST} rates were tried"),
            End::Least => {
                format!("a lower rate has fewer than {LEAST} messages in {}", seconds(duration))
            }
        };
        Some(format!("the search for the highest rate did not converge: {why}; {}", between()))
    }
}

fn seconds(duration: Duration) -> String {
    myriapod_machine::figures::duration(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches with a made-up server, which says of each try whether it kept the limit and whether
    /// it broke.
    fn searched(first: f64, mut server: impl FnMut(usize, f64) -> (bool, bool)) -> Search {
        let mut search = Search::new(first, 10.0, false);
        for nth in 0..100 {
            let Some(rate) = search.next() else { return search };
            let (met, broken) = server(nth, rate);
            search.tell(RateTried { offered: rate, achieved: rate, p99_ns: 1, met }, broken);
        }
        panic!("it does not end: {search:?}");
    }

    fn doubt(search: &Search) -> String {
        search.doubt(Duration::from_millis(300)).unwrap_or_default()
    }

    #[test]
    fn is_the_ceiling_of_a_server_found() {
        for ceiling in [1001.0, 4567.0, 123_456.0] {
            for first in [0.1, 0.5, 0.99, 1.0, 7.0] {
                let search = searched(ceiling * first, |_, rate| (rate <= ceiling, false));
                let (low, high) = (search.low.unwrap(), search.high.unwrap());
                assert!(low <= ceiling && ceiling < high && high / low <= CLOSE, "{search:?}");
                assert_eq!(doubt(&search), "");
            }
        }
    }

    #[test]
    fn does_one_disturbance_change_nothing() {
        let quiet = searched(500.0, |_, rate| (rate <= 1000.0, false));
        for disturbed in 0..quiet.tried.len() {
            let search = searched(500.0, |nth, rate| (rate <= 1000.0 && nth != disturbed, false));
            assert_eq!((search.low, search.high), (quiet.low, quiet.high));
        }
    }

    #[test]
    fn is_a_search_that_did_not_converge_told_from_one_that_did() {
        let endless = searched(500.0, |_, _| (true, false));
        assert_eq!(endless.tried.len(), MOST);
        assert!(doubt(&endless).contains("16 rates were tried; it is 218"), "{}", doubt(&endless));

        let breaks = searched(500.0, |_, rate| (rate < 700.0, rate >= 700.0));
        let expected = "did not converge: errors at 750 per second ended it; it is 500 per second";
        assert!(doubt(&breaks).contains(expected), "{}", doubt(&breaks));

        let slow = searched(500.0, |_, _| (false, false));
        let expected = "a lower rate has fewer than 10 messages in 300 ms; none was found";
        assert!(doubt(&slow).contains(expected), "{}", doubt(&slow));

        let broken = Search::new(500.0, 10.0, true);
        assert_eq!(broken.next(), None);
        assert!(doubt(&broken).contains("the closed loop"), "{}", doubt(&broken));
    }

    #[test]
    fn is_a_closed_loop_that_was_held_up_no_obstacle() {
        for first in [0.0, 1.0, 9.9] {
            let search = searched(first, |_, rate| (rate <= 300.0, false));
            assert!(search.low.unwrap() <= 300.0 && search.high.unwrap() > 300.0, "{search:?}");
            assert_eq!((search.tried[0].offered, doubt(&search)), (10.0, String::new()));
        }
    }

    #[test]
    fn does_a_rate_count_only_where_the_server_keeps_up() {
        // Due, answered by the end of the run, unsent at its end, usual latency in ms; 10 s.
        let table = [
            (10_000, 9_999, 0, 1, true),
            (10_000, 9_720, 0, 100, true),
            // A backlog within what the connections take.
            (10_000, 9_720, 0, 50, false),
            (10_000, 9_700, 290, 1, false),
            (10_000, 9_900, 90, 1, true),
            (10, 8, 0, 1, true),
            (10, 7, 3, 1, false),
            (10, 0, 10, 1, false),
        ];
        for (due, answered, unsent, usual_ms, met) in table {
            let mut ran = figures::tests::good();
            ran.latencies.response.clear();
            ran.latencies.response.saturating_record_n(usual_ms * 1_000_000, 100);
            (ran.worked.due, ran.worked.messages.ok) = (due - unsent, answered);
            (ran.after.due, ran.after.messages.ok) = (due, due - unsent);
            ran.after.messages.unsent = unsent;
            let tried = tried(1000.0, &ran, 1_000_000_000);
            assert_eq!(tried.met, met, "{due} {answered} {unsent} {usual_ms}");
            // The limit holds as well.
            assert!(!super::tried(1000.0, &ran, 999_000).met);
            ran.after.messages.late = 1;
            assert!(!super::tried(1000.0, &ran, 1_000_000_000).met);
        }
    }
}
