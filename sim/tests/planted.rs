//! Does the simulation see the bugs that are put in on purpose?

use std::process::Command;

/// Prints the table of docs/proofs.md. `.ci/run` runs the command itself.
#[test]
#[ignore = "builds the engine anew: cargo test -p myriapod-sim -- --ignored --nocapture"]
fn is_every_planted_bug_found() {
    let cargo = Command::new(env!("CARGO"))
        .args(["sim", "--planted"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        // They would take the place of the cfg that the alias sets.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&cargo.stdout);
    println!("{table}");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    assert!(!table.contains("NOT FOUND"), "{table}");
}
