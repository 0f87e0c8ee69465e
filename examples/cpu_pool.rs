//! Work for the processor on a pool of threads, while the event loop serves everybody else.
//!
//! ```text
//! $ cargo run --release --example cpu_pool -- 127.0.0.1 65432
//! listening on ('127.0.0.1', 65432)
//! 2 threads count primes
//! $ cargo run --example app_client -- 127.0.0.1 65432 search 'primes below 50000000'
//! got result: 3001134 primes below 50000000
//! ```
//!
//! A handler that computes for a second keeps ten thousand connections waiting for a second. So it
//! defers its reply and hands the work over; the worker that has done it answers, from another thread. (The
//! tutorial's advice is a `ProcessPoolExecutor`: Python's threads do not compute at the same time.)
//!
//! Beside it: `app_client`. Watch: that a short question is answered while a long one is computed.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use command::Stop;
use myriapod::{Deferred, HandlerError, HandlerResult, Message, Reply, Server, sys};
use serde::Deserialize;

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

/// Jobs that may wait; a later client is told so at once.
const MAX_WAITING: usize = 64;
/// What a client may ask for: some seconds' work.
const MAX_LIMIT: u64 = 500_000_000;

#[derive(Deserialize)]
struct Request {
    action: String,
    value: String,
}

/// Count the primes below `limit`, and answer.
struct Job {
    limit: u64,
    answer: Deferred,
}

fn main() -> ExitCode {
    command::run("<host> <port>", |arguments| match arguments {
        [host, port] => serve(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: u16) -> Result<(), Stop> {
    // With one, a short job would wait for a long one.
    let threads = sys::available_cpus().max(2);
    let jobs = start_pool(threads)?;
    let mut server = Server::builder()
        .listen(host, port)
        .answer(move |message, reply| answer(&message, reply, &jobs))?;
    let port = server.addresses()[0].port().unwrap_or(port);
    println!("listening on ({}, {port})", python_repr::text(host));
    println!("{threads} threads count primes");
    server.run()?;
    Ok(())
}

/// Runs on the event loop: it must be quick.
fn answer(message: &Message<'_>, reply: &mut Reply<'_>, jobs: &SyncSender<Job>) -> HandlerResult {
    let Request { action, value } = message.json_as()?;
    if action != "search" {
        return Err(HandlerError::new("InvalidAction", format!("invalid action '{action}'.")));
    }
    let Some(limit) = value.strip_prefix("primes below ") else {
        reply.json(&serde_json::json!({ "result": format!("No match for '{value}'.") }))?;
        return Ok(());
    };
    let limit = limit.parse().ok().filter(|&limit| limit <= MAX_LIMIT).ok_or_else(|| {
        HandlerError::new("InvalidValue", format!("a number of at most {MAX_LIMIT}, please"))
    })?;
    // From here on the connection waits for its answer, and nobody else does.
    let job = Job { limit, answer: reply.defer()? };
    println!("deferred {}: primes below {limit}", reply.connection());
    jobs.try_send(job).map_err(|_| HandlerError::new("Busy", "too many jobs wait already"))
}

fn start_pool(threads: usize) -> Result<SyncSender<Job>, sys::SystemError> {
    let (jobs, waiting) = sync_channel(MAX_WAITING);
    let waiting = Arc::new(Mutex::new(waiting));
    for number in 1..=threads {
        let waiting = Arc::clone(&waiting);
        sys::spawn(&format!("pool-{number}"), move || {
            while let Some(Job { limit, answer }) = next_job(&waiting) {
                let count = primes_below(limit);
                let result = format!("{count} primes below {limit}");
                // The event loop is woken and sends it. The client may have left meanwhile.
                if let Err(error) = answer.json(&serde_json::json!({ "result": result })) {
                    eprintln!("{error}");
                }
            }
        })?;
    }
    Ok(jobs)
}

fn next_job(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The sieve of Eratosthenes, in pieces that stay in the processor's cache.
fn primes_below(limit: u64) -> u64 {
    const PIECE: u64 = 1 << 16;
    let mut small: Vec<u64> = Vec::new();
    let mut count = 0;
    let mut start = 2;
    while start < limit {
        let end = (start + PIECE).min(limit);
        let mut composite = vec![false; usize::try_from(end - start).unwrap_or(0)];
        let mut cross_out = |prime: u64| {
            let first = (prime * prime).max(start.div_ceil(prime) * prime);
            for multiple in (first..end).step_by(usize::try_from(prime).unwrap_or(1)) {
                composite[usize::try_from(multiple - start).unwrap_or(0)] = true;
            }
        };
        small.iter().take_while(|&&prime| prime * prime < end).for_each(|&prime| cross_out(prime));
        if start == 2 {
            // The first piece has all the primes that the others need.
            for number in 2..end {
                if small.iter().take_while(|&&p| p * p <= number).all(|p| number % p != 0) {
                    small.push(number);
                    cross_out(number);
                }
            }
        }
        count += composite.iter().map(|&composite| u64::from(!composite)).sum::<u64>();
        start = end;
    }
    count
}
