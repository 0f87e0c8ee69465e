//! Does `myriapod check` tell servers apart? Real servers: the tutorial's in Python, others in C with
//! one mistake each, a line of Node, and our own. Each must fail exactly its list.
//!
//! A plain `cargo test` asks a few quick rungs of a few of them. The whole table takes many minutes:
//!
//! ```text
//! MYRIAPOD_CHECK_MATRIX=1 cargo test -p myriapod-cli --test check -- --test-threads 1 --nocapture
//! ```
//!
//! `.ci/proof check` does that. The process must be allowed 1,200 open files. It needs `python3` and `cc`, and `node` for one server; what is not
//! there is said.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by it; what is skipped is said"
)]

mod command;
mod ladder;
mod matrix;
mod servers;
mod short;
