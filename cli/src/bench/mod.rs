//! `myriapod bench`: load, and what came of it.

mod html;
mod report;
