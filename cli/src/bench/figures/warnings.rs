//! What a reader should know before believing the figures, a sentence each.

use crate::bench::args::Args;
use crate::bench::report::{Latencies, Report};
use crate::bench::run::Ran;
use crate::bench::table::{count, duration};

/// Bench's thread had so little rest that it may be what was measured.
const FULL: f64 = 0.95;

/// So much stolen time disturbs.
const STEAL: f64 = 1.0;

/// A clock with larger steps than this is coarse.
const COARSE_NS: u64 = 1000;

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn warnings(args: &Args, report: &Report, ran: &Ran) -> Vec<String> {
    let mut warnings = Vec::new();
    let noise = &report.noise;
    if noise.busiest_thread > FULL {
        let threads =
            if report.settings.threads * report.settings.processes > 1 { "a" } else { "the" };
        warnings.push(format!(
            "bench may be what was measured: {threads} thread of it was busy {:.0} % of the time; \
             try --threads auto, or fewer messages",
            noise.busiest_thread * 100.0
        ));
    }
    if noise.clock_step_ns > COARSE_NS {
        let source = report.machine.clock_source.as_deref().unwrap_or("unknown");
        warnings.push(format!(
            "the clock is coarse: it moves in steps of {} (clock source {source})",
            duration(noise.clock_step_ns)
        ));
    }
    if let Some(steal) = noise.steal_percent.filter(|&steal| steal > STEAL) {
        warnings.push(format!("the host gave {steal:.1} % of processor time to others"));
    }
    if let Some(others) = noise.others_percent.filter(|&others| others > 10.0) {
        warnings.push(format!("other programs used {others:.0} % of all processors"));
    }
    if let Some(deviation) = noise.rate_deviation.filter(|&deviation| deviation > 0.1) {
        let percent = deviation * 100.0;
        warnings.push(format!("the rate was not steady: it deviated by {percent:.0} %"));
    }
    if let Some(delay) = noise.send_delay_p99_ns
        && delay > report.latency_ns.response.p99 / 4
        && delay > 100_000
    {
        warnings.push(format!(
            "bench itself sent late: 1 % of the messages by {} or more",
            duration(delay)
        ));
    }
    if report.messages.unsent > 0 {
        warnings.push(format!(
            "{} messages were due and never sent, since no connection was free: the server did not \
             keep up; how long they had waited by the end is part of the response times",
            count(report.messages.unsent)
        ));
    }
    let Latencies { service, response } = &report.latency_ns;
    let pairs = [
        ("10 %", response.p90, service.p90),
        ("1 %", response.p99, service.p99),
        ("0.1 %", response.p999, service.p999),
    ];
    let hidden = pairs.iter().find(|(_, response, service)| *response > 2 * *service);
    if let Some((share, response, service)) = hidden
        && args.rate.is_some()
    {
        warnings.push(format!(
            "the server stalled or fell behind: {share} of the messages took {} or more from when \
             they were due, but only {} once they were sent; a closed loop sends nothing during a \
             stall, so it shows the second figure alone and hides the stall",
            duration(*response),
            duration(*service)
        ));
    }
    if let Some(first) = &ran.closed.first_wrong {
        warnings.push(format!("the first wrong reply was: {first}"));
    }
    let answered = report.latency_ns.response.count as f64;
    if let Some(step) = [(0.9999, 10_000.0), (0.999, 1000.0), (0.99, 100.0)]
        .iter()
        .find(|(_, least)| answered < *least && *least <= 1000.0 && answered > 0.0)
    {
        warnings.push(format!(
            "{answered} answers are few for the {} quantile: read it as the slowest of them",
            step.0
        ));
    }
    warnings
}
