//! Does `myriapod bench` see what a server does wrong, and say nothing wrong itself?

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod faults;
mod framings;
mod kept;
mod loads;
mod options;
mod replay;
mod results;
mod support;
mod tls;
