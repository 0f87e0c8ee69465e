//! Do the commands that find out what is wrong tell the truth?

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

mod errors;
mod paper;
mod ping;
mod resolve;
#[cfg(target_os = "linux")]
mod sockets;
mod support;
