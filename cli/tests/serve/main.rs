//! Does `myriapod serve` do what its help says? Asked of the program itself, over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

mod bad_peers;
mod config;
#[cfg(target_os = "linux")]
mod descriptors;
mod handover;
mod limits;
mod listening;
mod live;
mod log;
mod metrics;
#[path = "../common/pem.rs"]
mod pem;
#[path = "../common/program.rs"]
mod program;
mod proxies;
mod service_manager;
mod services;
mod stopping;
mod support;
mod threads;
mod tls;
mod usage;
