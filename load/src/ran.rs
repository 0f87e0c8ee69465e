//! [`Ran`]: all that is known of a run phase.

use std::time::Duration;

use crate::observer::Interruption;
use crate::report::{ServerFigures, Storm};
use crate::snapshot::{Latencies, Snapshot};

#[derive(Debug)]
pub(crate) struct Ran {
    /// From its begin to its last reply.
    pub(crate) seconds: f64,
    /// From its begin to its end, without the wait for the last replies.
    pub(crate) at_work: f64,
    pub(crate) latencies: Latencies,
    /// How things stood when it began, when it ended, after the last reply, and after closing.
    pub(crate) before: Snapshot,
    pub(crate) worked: Snapshot,
    pub(crate) after: Snapshot,
    pub(crate) closed: Snapshot,
    pub(crate) ramped: Snapshot,
    pub(crate) server: Option<ServerFigures>,
    pub(crate) stolen: Option<f64>,
    pub(crate) busy: Option<Duration>,
    pub(crate) clock_step: u64,
    pub(crate) time_wait: Option<u64>,
    pub(crate) storms: Vec<Storm>,
    /// Why it ended before its time.
    pub(crate) cut: Option<String>,
    /// Somebody ended it.
    pub(crate) interrupted: Option<Interruption>,
}
