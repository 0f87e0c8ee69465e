//! Refuses to go on where the cfg did not arrive that makes the engine run on a simulated kernel.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_asked_for = env::var_os("CARGO_FEATURE_SIMULATED").is_some();
    if is_asked_for && env::var_os("CARGO_CFG_MYRIAPOD_SIM").is_none() {
        println!(
            "cargo::error=this program needs `--cfg myriapod_sim`, which `cargo sim` sets; \
             RUSTFLAGS in the environment take its place: unset them, or add the cfg there"
        );
    }
}
