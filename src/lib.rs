//! myriapod
#![forbid(unsafe_code)]
