//! What a reader should know before believing the figures, a sentence each.

use std::collections::BTreeSet;

use crate::options::Plan;
use crate::processors;
use crate::ran::Ran;
use crate::report::{Latencies, Report};
use myriapod_machine::figures::{duration, grouped};

/// Bench's thread had so little rest that it may be what was measured.
const FULL: f64 = 0.95;

/// So much stolen time disturbs.
const STEAL: f64 = 1.0;

/// A shorter wait is no stall.
const LEAST_STALL_NS: u64 = 1_000_000;

/// A clock with larger steps than this is coarse.
const COARSE_NS: u64 = 1000;

pub(super) fn warnings(plan: &Plan, report: &Report, ran: &Ran) -> Vec<String> {
    let mut warnings = plan.left_out.clone();
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
    warnings.extend(sharing(report));
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
    let open_loop = plan.options.rate.is_some();
    let stall = if open_loop { stall(report, ran) } else { None };
    // Who held up the messages is said once: what bench did cannot be the server's, and the other
    // way round.
    let whose = stall.as_ref().map(|(whose, _)| *whose);
    if let Some(delay) = noise.send_delay_p99_ns
        && delay > report.latency_ns.response.p99 / 4
        && delay > 100_000
        && whose != Some(Whose::Server)
    {
        warnings.push(format!(
            "bench itself sent late: 1 % of the messages by {} or more",
            duration(delay)
        ));
    }
    if report.messages.unsent > 0 {
        let because = match whose {
            Some(Whose::Bench) => "bench was late, so whether the server kept up cannot be told",
            _ => "the server did not keep up",
        };
        warnings.push(format!(
            "{} messages were due and never sent, since no connection was free{}: {because}; how \
             long they had waited by the end is part of the response times",
            grouped(report.messages.unsent),
            if report.settings.short { " or could be made" } else { "" }
        ));
    }
    warnings.extend(stall.map(|(_, text)| text));
    if let Some(first) = &ran.closed.first_wrong {
        warnings.push(format!("the first wrong reply was: {first}"));
    }
    let answered = report.latency_ns.response.count;
    // The lowest percentile that has not even one answer above it.
    let least = [("p90", 10), ("p99", 100), ("p99.9", 1000), ("p99.99", 10_000)];
    let few = least.iter().find(|(_, least)| answered < *least && answered > 0);
    if let Some((percentile, _)) = few {
        let above = if *percentile == "p99.99" { "" } else { " and what is above it" };
        warnings.push(format!(
            "{} answers are few for {percentile}{above}: read it as the slowest of them",
            grouped(answered)
        ));
    }
    warnings
}

/// Who held the messages up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Server,
    Bench,
    /// It cannot be told.
    Either,
}

/// What a closed loop would hide, and whose doing it is: messages that waited long before they were
/// sent, although bench itself was not late.
fn stall(report: &Report, ran: &Ran) -> Option<(Whose, String)> {
    let Latencies { service, response } = &report.latency_ns;
    let pairs = [
        ("10 %", response.p90, service.p90),
        ("1 %", response.p99, service.p99),
        ("0.1 %", response.p999, service.p999),
    ];
    let waited = |&(_, response, service): &(_, u64, u64)| response.saturating_sub(service);
    let is_hidden = |pair: &(_, u64, u64)| pair.1 > 2 * pair.2 && waited(pair) > LEAST_STALL_NS;
    // Whatever is due while bench sleeps waits as if the server had stalled.
    let late = ran.latencies.delay.max();
    let of_the_server = pairs.into_iter().find(|pair| is_hidden(pair) && waited(pair) > 2 * late);
    let (share, response, service) = of_the_server.or(pairs.into_iter().find(is_hidden))?;
    let took = format!(
        "{share} of the messages took {} or more from when they were due, but only {} once they \
         were sent",
        duration(response),
        duration(service)
    );
    if report.settings.short {
        let text = format!("{took}; connecting is part of that, and so is what holds bench up");
        return Some((Whose::Either, text));
    }
    if of_the_server.is_some() {
        let text = format!(
            "the server stalled or fell behind: {took}; a closed loop sends nothing during a stall, \
             so it shows the second figure alone and hides the stall"
        );
        return Some((Whose::Server, text));
    }
    let text = format!(
        "{took}; bench itself was up to {} late with what it could have sent, so this says nothing \
         about the server",
        duration(late)
    );
    Some((Whose::Bench, text))
}

/// Threads that are kept to a processor each, and are not alone there.
fn sharing(report: &Report) -> Option<String> {
    let settings = &report.settings;
    let ours: BTreeSet<usize> = settings.cpus.iter().copied().collect();
    let theirs = report.server.as_ref().and_then(|server| server.cpus_allowed.as_ref());
    let both = theirs.map_or_else(BTreeSet::new, |theirs| &processors::parse(theirs) & &ours);
    if !both.is_empty() {
        let advice = if settings.embedded {
            "there are too few for both, which wait for one another"
        } else {
            "keep the server off, as with `taskset -apc`"
        };
        let both = named(&both);
        return Some(format!(
            "the server may run on {both}, which bench keeps for itself: {advice}"
        ));
    }
    (ours.len() < settings.cpus.len()).then(|| {
        let (threads, ours) = (settings.cpus.len(), named(&ours));
        format!("{threads} threads of bench share {ours}: there are no more for --pin")
    })
}

fn named(set: &BTreeSet<usize>) -> String {
    format!("processor{} {}", if set.len() == 1 { "" } else { "s" }, processors::list(set))
}
