//! Seeded worlds: the engine, your handler and your framing on a simulated kernel, with a network that
//! splits, delays and loses, and peers that come, go, half-close and reset.
//!
//! One number decides everything that happens in a world, so a failure can be repeated exactly. Write
//! a `trial::Trial`: which server it is, what peers say, and what they must hear. `trial::check`
//! lives through as many worlds as you like, makes the first that fails smaller, and says how to
//! repeat it.
//!
//! The simulated kernel is part of `myriapod-sys` and is chosen when that is compiled, for the whole
//! program. So worlds run in a program or a test of their own:
//!
//! ```text
//! RUSTFLAGS="--cfg myriapod_sim" cargo test --test worlds --target-dir target/worlds
//! ```
//!
//! `examples/tickets.rs` is one with a bug in its handler, which is found within 200 seeds:
//!
//! ```text
//! cargo sim-example tickets
//! ```
//!
//! `cargo sim` is the same for the engine itself, with an oracle that knows what each message owes.
#![forbid(unsafe_code)]

#[cfg(myriapod_sim)]
pub mod cut;
#[cfg(myriapod_sim)]
pub mod pcap;
#[cfg(myriapod_sim)]
pub mod trial;
