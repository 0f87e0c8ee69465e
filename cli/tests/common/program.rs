//! The program under test.

/// What cargo has built with the tests, or what `MYRIAPOD_COMMAND` names: so the command is asked as
/// it is released, and the tests need not be optimized for that.
pub(crate) fn program() -> String {
    std::env::var("MYRIAPOD_COMMAND").unwrap_or_else(|_| env!("CARGO_BIN_EXE_myriapod").to_owned())
}

/// Whether that is optimized: what it costs means little otherwise.
#[allow(dead_code, reason = "only the tests that count ask")]
pub(crate) fn is_optimized() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("MYRIAPOD_COMMAND").is_some()
}
