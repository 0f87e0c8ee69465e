//! Puts a server under load, checks every reply, and says what it took. `myriapod bench` is its
//! command.
//!
//! [`Options`] say what is asked for, [`Options::plan`] what that comes to on this machine, and
//! [`measure`] runs it: connections are opened (the ramp), held if asked for, warmed up, run, and
//! closed. A [`Report`] holds all that was found; [`page`] draws it. [`Clients`] is the same load in
//! small steps, for who measures something else meanwhile.
//!
//! Every request has one fate: answered rightly and in time, lost, wrong or late. In an open loop
//! (`rate`) messages are due whatever the server does, and response times count from then.
//!
//! ```no_run
//! use myriapod_load::{Options, measure};
//!
//! let options = Options {
//!     host: Some("127.0.0.1".to_owned()),
//!     ports: vec![65432],
//!     rate: Some(5000.0),
//!     ..Options::default()
//! };
//! let report = measure(options.plan()?, &mut ())?;
//! println!("{:.0} a second, p99 {} ns", report.rate.achieved, report.latency_ns.response.p99);
//! # Ok::<(), myriapod_load::Error>(())
//! ```
//!
//! Without a host, and with more than one process, the program that calls this must be `myriapod`
//! or know its commands `serve` and [`WORKER`]: they are started from the same file.
#![forbid(unsafe_code)]

mod advice;
mod clients;
mod clock;
mod connection;
mod dialect;
mod error;
mod figures;
mod find_rate;
mod history;
mod job;
mod loader;
mod message;
mod observer;
mod options;
pub mod page;
mod processors;
mod ran;
mod replay;
pub mod report;
mod rooms;
mod run;
mod schedule;
mod secure;
mod server;
mod snapshot;
mod summaries;
mod workers;

pub use self::clients::{Clients, Exchanged};
pub use self::error::{Error, Result};
pub use self::message::{Content, Service};
pub use self::observer::{Interruption, Now, Observer};
pub use self::options::{Options, Plan};
pub use self::replay::Replay;
pub use self::report::Report;
pub use self::rooms::{RoomLatency, RoomOptions, RoomReport, measure_rooms};
use self::run::Bench;
pub use self::secure::{Secure, Trusted};
pub use self::snapshot::Snapshot;
pub use self::workers::{WORKER, work};

/// Runs a plan, all phases of it, and reports.
///
/// # Errors
///
/// A server that cannot be started, processes that are not there, and what the system refuses. What
/// the server does wrong is no error but in the report.
pub fn measure(plan: Plan, observer: &mut dyn Observer) -> Result<Report> {
    if plan.options.find_rate {
        return find_rate::search(plan, observer);
    }
    let mut bench = Bench::start(plan, observer)?;
    let ramped = bench.ramp()?;
    let ran = bench.load(ramped)?;
    let report = figures::report(&bench.plan, &bench.history, &ran, Vec::new());
    bench.end()?;
    Ok(report)
}
