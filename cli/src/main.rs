//! The `myriapod` command.
fn main() {}
