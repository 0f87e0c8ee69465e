//! From what was counted to a [`Report`]: figures, warnings, and how it ended.

use hdrhistogram::Histogram;
use myriapod::sys::{self, Machine as Found};

use super::advice::next_step;
use super::args::Args;
use super::job::Snapshot;
use super::report::{
    Bytes, Connections, CurvePoint, Curves, ErrorCount, Latencies, Latency, Machine, MemoryPoint,
    Messages, Noise, Rate, RateTried, Report, SCHEMA, Settings, Short, Threshold,
};
use super::run::{Bench, Ran};
use super::table::{bytes, count, duration};
use crate::failure::FAILED;

/// The exit status where a threshold was missed.
const MISSED: u8 = 3;

/// Bench's thread had so little rest that it may be what was measured.
const FULL: f64 = 0.95;

/// So much stolen time disturbs.
const STEAL: f64 = 1.0;

/// A clock with larger steps than this is coarse.
const COARSE_NS: u64 = 1000;

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn report(args: &Args, bench: &Bench, ran: &Ran, find_rate: Vec<RateTried>) -> Report {
    let job = &bench.plan.job;
    let requested = u64::from(job.connections) + u64::from(job.idle);
    // What came until the last connection was closed belongs to the replies too.
    let closed = &ran.closed;
    let messages = since(&closed.messages, &ran.before.messages);
    let per_second =
        |number: u64| if ran.seconds > 0.0 { number as f64 / ran.seconds } else { 0.0 };
    let due = closed.due - ran.before.due;
    let rate = Rate {
        offered: per_second(if job.rate.is_some() { due } else { messages.sent }),
        achieved: per_second(messages.ok),
    };
    let established = if args.short { closed.established } else { ran.ramped.established };
    let connections = Connections {
        requested,
        established,
        idle: ran.ramped.established_idle,
        failed: closed.failed,
        lost: closed.lost,
        opened: closed.opened,
    };
    let latency_ns = Latencies {
        service: latency(&ran.latencies.service),
        response: latency(&ran.latencies.response),
    };
    let errors: Vec<ErrorCount> = closed
        .errors
        .iter()
        .map(|(phase, call, errno, count)| ErrorCount {
            phase: phase.name().to_owned(),
            call: call.clone(),
            errno: errno.clone(),
            count: *count,
            next_step: next_step(call, errno, args.short),
        })
        .collect();
    let mut thresholds = Vec::new();
    if let Some(limit) = args.max_p99 {
        let (limit, measured) = (limit.0 as f64, latency_ns.response.p99 as f64);
        let met = measured <= limit && latency_ns.response.count > 0;
        thresholds.push(Threshold { name: "max_p99_ns".to_owned(), limit, measured, met });
    }
    if let Some(limit) = args.min_rate {
        let (limit, measured) = (limit.0, rate.achieved);
        let met = measured >= limit;
        thresholds.push(Threshold { name: "min_rate".to_owned(), limit, measured, met });
    }
    let bad = messages.lost + messages.wrong + messages.late + messages.duplicate;
    let incomplete = established < requested || connections.lost > 0;
    let exit_status = if bad > 0 || incomplete || messages.ok == 0 {
        FAILED
    } else if thresholds.iter().any(|threshold| !threshold.met) {
        MISSED
    } else {
        0
    };
    let noise = noise(bench, ran, !find_rate.is_empty());
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_s: bench.started_unix_s(),
        command: std::env::args().skip(1).collect(),
        settings: settings(args, bench),
        machine: machine(),
        exit_status,
        exit_reason: "completed".to_owned(),
        connections,
        messages,
        bytes: Bytes {
            sent: closed.bytes.sent - ran.before.bytes.sent,
            received: closed.bytes.received - ran.before.bytes.received,
        },
        rate,
        latency_ns,
        curve: Curves {
            service: curve(&ran.latencies.service),
            response: curve(&ran.latencies.response),
        },
        phases: bench.phases.clone(),
        series: bench.series.clone(),
        memory: bench.memory.clone(),
        errors,
        server: ran.server.clone(),
        short: args.short.then_some(Short {
            closed_first_by_server: closed.closed_first_by_server,
            closed_first_by_client: closed.closed_first_by_client,
            reset: closed.reset,
            time_wait: ran.time_wait,
        }),
        noise,
        warnings: Vec::new(),
        thresholds,
        find_rate,
    };
    report.exit_reason = exit_reason(&report, ran);
    report.warnings = warnings(args, &report, closed);
    report
}

fn since(now: &Messages, before: &Messages) -> Messages {
    Messages {
        sent: now.sent - before.sent + bad(before),
        ok: now.ok - before.ok,
        // The warm-up's faults are not hidden by its being left out.
        lost: now.lost,
        wrong: now.wrong,
        late: now.late,
        duplicate: now.duplicate,
        unsent: now.unsent,
    }
}

/// Messages of the warm-up that were counted for their faults.
const fn bad(messages: &Messages) -> u64 {
    messages.lost + messages.wrong + messages.late
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let at = |quantile| histogram.value_at_quantile(quantile);
    Latency {
        count: histogram.len(),
        min: histogram.min(),
        mean: histogram.mean(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: histogram.max(),
    }
}

fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    let points = histogram.iter_quantiles(5);
    let mut curve: Vec<CurvePoint> = points
        .map(|point| CurvePoint {
            quantile: point.quantile_iterated_to(),
            ns: point.value_iterated_to(),
        })
        .collect();
    curve.dedup_by_key(|point| point.quantile.to_bits());
    curve
}

fn settings(args: &Args, bench: &Bench) -> Settings {
    let (plan, job) = (&bench.plan, &bench.plan.job);
    Settings {
        host: plan.host.clone(),
        ports: job.targets.iter().map(|(_, port)| *port).collect(),
        embedded: plan.embedded > 0,
        service: job.service.name().to_owned(),
        connections: job.connections.into(),
        idle: job.idle.into(),
        in_flight: job.in_flight.into(),
        content_bytes: plan.content_len as u64,
        request_bytes: plan.request_len as u64,
        loop_kind: if job.rate.is_some() { "open" } else { "closed" }.to_owned(),
        rate: job.rate,
        arrivals: job.rate.map(|_| if job.poisson { "poisson" } else { "constant" }.to_owned()),
        messages: job.messages,
        duration_s: job.messages.is_none().then_some(args.duration.0.as_secs_f64()),
        warmup_s: args.warmup.0.as_secs_f64(),
        hold_s: args.hold.0.as_secs_f64(),
        ramp: job.ramp,
        timeout_s: job.timeout.as_secs_f64(),
        short: job.short,
        threads: job.threads.into(),
        processes: plan.processes.into(),
        sources: job.sources.clone(),
        pin: args.pin,
        verification: plan.verification.clone(),
    }
}

fn machine() -> Machine {
    let found = Found::read();
    Machine {
        os: std::env::consts::OS.to_owned(),
        kernel: found.kernel,
        cpu_model: found.cpu_model,
        cpus: found.cpus as u64,
        memory_bytes: found.memory.map(|memory| memory.total),
        clock_source: found.clock_source,
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn noise(bench: &Bench, ran: &Ran, searched: bool) -> Noise {
    // A run of no time says nothing.
    let seconds = if ran.at_work > 0.05 { ran.at_work } else { f64::INFINITY };
    let used = |(now, before): (&u64, &u64)| now.saturating_sub(*before) as f64 / 1e9 / seconds;
    let threads: Vec<f64> = ran.after.cpu.iter().zip(&ran.before.cpu).map(used).collect();
    let ours: f64 = threads.iter().sum();
    let others = ran.busy.map(|busy| {
        let cpus = sys::available_cpus() as f64;
        let server = ran.server.as_ref().map_or(0.0, |server| server.cpus);
        ((busy.as_secs_f64() / seconds - ours - server) / cpus * 100.0).max(0.0)
    });
    let rates: Vec<f64> = bench
        .series
        .iter()
        .filter(|second| second.phase == "run")
        .map(|second| second.rate)
        .collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
    let open = bench.plan.job.rate.is_some();
    Noise {
        steal_percent: ran.stolen.map(|share| share * 100.0),
        others_percent: others.filter(|_| ran.server.is_some()),
        busiest_thread: threads.iter().copied().fold(0.0, f64::max),
        clock_step_ns: ran.clock_step,
        send_delay_p99_ns: (open && !ran.latencies.delay.is_empty())
            .then(|| ran.latencies.delay.value_at_quantile(0.99)),
        // The seconds of a search are those of many rates.
        rate_deviation: (rates.len() > 1 && mean > 0.0 && !searched)
            .then(|| variance.sqrt() / mean),
    }
}

/// Why a run ended that had time left.
pub(crate) fn why_ended(snapshot: &Snapshot, args: &Args) -> String {
    if let Some(stopped) = &snapshot.stopped {
        return format!("no more connections: {stopped}");
    }
    if snapshot.lost > 0 && !args.short {
        return "every connection was closed by the server".to_owned();
    }
    "there was no connection left".to_owned()
}

fn exit_reason(report: &Report, ran: &Ran) -> String {
    let advised = |reason: &str| {
        let worst = report.errors.iter().max_by_key(|error| error.count);
        match worst.and_then(|error| error.next_step.as_ref()) {
            Some(next_step) => format!("{reason}; {next_step}"),
            None => reason.to_owned(),
        }
    };
    let ended_after_one = ran.closed.ended_after_one;
    if ended_after_one > 0 && ended_after_one == report.connections.lost {
        return "the server closes each connection after one reply; --short measures such servers"
            .to_owned();
    }
    let Connections { requested, established, lost, .. } = report.connections;
    if let Some(cut) = ran.cut.as_ref().filter(|_| established > 0) {
        return advised(cut);
    }
    if established < requested {
        let why = match &ran.ramped.stopped {
            Some(stopped) => format!(": {stopped}"),
            None => String::new(),
        };
        let short_of = format!("{established} of {requested} connections were established{why}");
        return advised(&short_of);
    }
    if lost > 0 {
        return advised(&format!("{lost} connections ended before bench closed them"));
    }
    let Messages { ok, lost, wrong, late, duplicate, .. } = report.messages;
    let faults = [("lost", lost), ("wrong", wrong), ("late", late), ("duplicated", duplicate)];
    let faults: Vec<String> = faults
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| format!("{} {name}", count(*number)))
        .collect();
    if !faults.is_empty() {
        return format!("bad replies: {}", faults.join(", "));
    }
    if ok == 0 {
        return "nothing was answered".to_owned();
    }
    match report.thresholds.iter().find(|threshold| !threshold.met) {
        Some(missed) => format!("threshold missed: {}", missed.name),
        None => "completed".to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn warnings(args: &Args, report: &Report, closed: &Snapshot) -> Vec<String> {
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
    if let Some(first) = &closed.first_wrong {
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

pub(crate) fn ramp_summary(ramped: &Snapshot, requested: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = if seconds > 0.0 { ramped.established as f64 / seconds } else { 0.0 };
    format!(
        "{} of {} connections, {rate:.0} per second",
        count(ramped.established),
        count(requested)
    )
}

pub(crate) fn hold_summary(
    connections: u64,
    held: Option<&MemoryPoint>,
    before: Option<&MemoryPoint>,
) -> String {
    let open = format!("{} connections", count(connections));
    match (held, before) {
        (Some(held), Some(before)) => format!(
            "{open}; the server holds {}, {} more than without",
            bytes(held.server_rss_bytes),
            bytes(held.server_rss_bytes.saturating_sub(before.server_rss_bytes)),
        ),
        _ => open,
    }
}

pub(crate) fn run_summary(after: &Snapshot, answered: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = if seconds > 0.0 { answered as f64 / seconds } else { 0.0 };
    let faults = match after.faults() {
        0 => "no error".to_owned(),
        faults => format!("{} errors", count(faults)),
    };
    format!("{} answers, {rate:.0} per second, {faults}", count(answered))
}
