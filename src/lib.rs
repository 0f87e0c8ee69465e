//! myriapod
#![forbid(unsafe_code)]

pub mod slab;
pub mod timer;
