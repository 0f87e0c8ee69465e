//! What the commands of myriapod share: a failure with its next step, units as they are typed, lines
//! for people, and the sockets of this machine.
//!
//! For `myriapod` and the crates behind its larger commands. The library needs none of it.
#![forbid(unsafe_code)]

pub mod failure;
pub mod interrupt;
pub mod json;
pub mod json_log;
pub mod log_writer;
mod patient;
pub mod sockets;
pub mod terminal;
pub mod tls;
pub mod units;
