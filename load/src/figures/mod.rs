//! From what was counted to a [`Report`]: figures, warnings, and how it ended.

mod ending;
#[cfg(test)]
pub(crate) mod tests;
mod warnings;

use hdrhistogram::Histogram;
use myriapod::sys;
use myriapod_machine::Machine as Found;

pub(crate) use self::ending::why_ended;
use self::ending::{exit_reason, exit_status};
use self::warnings::warnings;
use crate::advice::next_step;
use crate::history::History;
use crate::job::Job;
use crate::options::Plan;
use crate::ran::Ran;
use crate::report::{
    Bytes, Connections, CurvePoint, Curves, ErrorCount, Latencies, Latency, Machine, Messages,
    Noise, Rate, RateTried, Report, SCHEMA, Settings, Short, Threshold, Tls,
};

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn report(
    plan: &Plan,
    history: &History,
    ran: &Ran,
    find_rate: Vec<RateTried>,
) -> Report {
    let (job, options) = (&plan.job, &plan.options);
    let requested = u64::from(job.connections) + u64::from(job.idle);
    // What came until the last connection was closed belongs to the replies too.
    let closed = &ran.closed;
    let messages = since(&closed.messages, &ran.before.messages);
    let per_second =
        |number: u64, seconds: f64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
    let due = closed.due - ran.before.due;
    let offered = if job.rate.is_some() { due } else { messages.sent };
    let rate = Rate {
        // Nothing is offered while the last replies are awaited.
        offered: per_second(offered, ran.at_work.min(ran.seconds)),
        achieved: per_second(messages.ok, ran.seconds),
    };
    let established = if options.short { closed.established } else { ran.ramped.established };
    let connections = Connections {
        requested,
        established,
        idle: ran.ramped.established_idle,
        failed: closed.failed,
        lost: closed.lost,
        slow_closed: closed.slow_closed,
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
            next_step: next_step(call, errno, options.short),
        })
        .collect();
    let mut thresholds = Vec::new();
    if let Some(limit) = options.max_p99 {
        let (limit, measured) = (limit as f64, latency_ns.response.p99 as f64);
        let met = measured <= limit && latency_ns.response.count > 0;
        thresholds.push(Threshold { name: "max_p99_ns".to_owned(), limit, measured, met });
    }
    if let Some(limit) = options.min_rate {
        let measured = rate.achieved;
        let met = measured >= limit;
        thresholds.push(Threshold { name: "min_rate".to_owned(), limit, measured, met });
    }
    let noise = noise(plan, history, ran, options.find_rate);
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_s: history.started_unix_s,
        command: options.command.clone(),
        settings: settings(plan),
        machine: machine(),
        exit_status: 0,
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
        phases: history.phases.clone(),
        series: history.series.clone(),
        memory: history.memory.clone(),
        errors,
        server: ran.server.clone(),
        short: options.short.then_some(Short {
            closed_first_by_server: closed.closed_first_by_server,
            closed_first_by_client: closed.closed_first_by_client,
            reset: closed.reset,
            time_wait: ran.time_wait,
        }),
        tls: options.secure.is_some().then(|| Tls {
            protocol: "TLSv1.3".to_owned(),
            suite: closed.handshakes.suite.clone(),
            full: closed.handshakes.full,
            resumed: closed.handshakes.resumed,
            handshake_ns: latency(&history.handshakes),
        }),
        storms: ran.storms.clone(),
        noise,
        warnings: Vec::new(),
        thresholds,
        find_rate,
    };
    report.exit_status = exit_status(plan, &report, ran);
    report.exit_reason = exit_reason(plan, &report, ran);
    report.warnings = warnings(plan, &report, ran);
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

fn settings(plan: &Plan) -> Settings {
    let (job, options) = (&plan.job, &plan.options);
    Settings {
        host: plan.host.clone(),
        ports: job.targets.iter().map(|(_, port)| *port).collect(),
        embedded: plan.embedded > 0,
        service: job.service.name().to_owned(),
        framing: job.framing.clone().unwrap_or_else(|| job.service.framing().to_owned()),
        connections: job.connections.into(),
        idle: job.idle.into(),
        slow: job.slow.into(),
        reconnect: options.reconnect.into(),
        in_flight: job.in_flight.into(),
        content_bytes: plan.content_len as u64,
        request_bytes: plan.request_len as u64,
        loop_kind: if job.rate.is_some() { "open" } else { "closed" }.to_owned(),
        rate: job.rate,
        arrivals: job.rate.map(|_| arrivals(job).to_owned()),
        replay: job.replay.as_ref().map(|replay| replay.path.display().to_string()),
        speed: job.replay.as_ref().map(|replay| replay.speed),
        messages: job.messages,
        duration_s: job.messages.is_none().then_some(options.duration.as_secs_f64()),
        warmup_s: options.warmup.as_secs_f64(),
        hold_s: options.hold.as_secs_f64(),
        ramp: job.ramp,
        timeout_s: job.timeout.as_secs_f64(),
        short: job.short,
        threads: job.threads.into(),
        processes: plan.processes.into(),
        sources: job.sources.clone(),
        pin: options.pin,
        cpus: job.cpus.clone(),
        verification: plan.verification.clone(),
    }
}

const fn arrivals(job: &Job) -> &'static str {
    match (&job.replay, job.poisson) {
        (Some(_), _) => "recorded",
        (None, true) => "poisson",
        (None, false) => "constant",
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
fn noise(plan: &Plan, history: &History, ran: &Ran, searched: bool) -> Noise {
    // A run of no time says nothing.
    let seconds = if ran.at_work > 0.05 { ran.at_work } else { f64::INFINITY };
    let used = |(now, before): (&u64, &u64)| now.saturating_sub(*before) as f64 / 1e9 / seconds;
    let threads: Vec<f64> = ran.worked.cpu.iter().zip(&ran.before.cpu).map(used).collect();
    let ours: f64 = threads.iter().sum();
    let others = ran.busy.map(|busy| {
        let cpus = sys::available_cpus() as f64;
        let server = ran.server.as_ref().map_or(0.0, |server| server.cpus);
        ((busy.as_secs_f64() / seconds - ours - server) / cpus * 100.0).max(0.0)
    });
    let rates: Vec<f64> = history
        .series
        .iter()
        .filter(|second| second.phase == "run")
        .map(|second| second.rate)
        .collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
    let open = plan.job.rate.is_some();
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
