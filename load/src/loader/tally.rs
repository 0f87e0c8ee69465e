//! [`Tally`]: what has happened so far, counted.

use std::collections::BTreeMap;

use super::wire::Shaken;
use crate::connection::{Asked, Fate};
use crate::job::Phase;
use crate::snapshot::{Latencies, Snapshot, histogram};

/// Counts of one thread. It knows nothing of sockets and of time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) state: Snapshot,
    pub(super) latencies: Latencies,
    errors: BTreeMap<(Phase, &'static str, String), u64>,
}

impl Tally {
    /// A call failed. What comes in while replies are awaited belongs to the run.
    pub(super) fn error(&mut self, phase: Phase, call: &'static str, errno: String) {
        let phase = if phase == Phase::Drain { Phase::Run } else { phase };
        *self.errors.entry((phase, call, errno)).or_default() += 1;
    }

    /// What became of a request, or what a reply turned out to be.
    #[inline]
    pub(super) fn fate(&mut self, fate: Fate, now: u64) {
        let messages = &mut self.state.messages;
        match fate {
            Fate::Ok(asked) => {
                if asked.measured {
                    messages.ok += 1;
                    self.record(asked, now);
                }
            }
            Fate::Late(asked) => {
                messages.late += 1;
                messages.sent += u64::from(!asked.measured);
                self.record(asked, now);
            }
            Fate::Wrong(asked) => {
                messages.wrong += 1;
                messages.sent += u64::from(!asked.measured);
            }
            Fate::Duplicate => messages.duplicate += 1,
        }
    }

    #[inline]
    fn record(&mut self, asked: Asked, now: u64) {
        self.latencies.service.saturating_record(now.saturating_sub(asked.sent));
        self.latencies.response.saturating_record(now.saturating_sub(asked.due));
        self.state.last_reply = now;
    }

    /// A reply in a storm: who has it is served again. Its latency counts from the storm's begin.
    #[cold]
    pub(super) fn served(&mut self, fate: Fate, now: u64) {
        if let Fate::Ok(asked) = fate {
            self.state.served += 1;
            self.record(asked, now);
        }
    }

    /// A handshake is over, after so many nanoseconds.
    pub(super) fn shaken(&mut self, took: u64, shaken: Shaken) {
        self.latencies.handshake.saturating_record(took);
        let counts = &mut self.state.handshakes;
        *(if shaken.resumed { &mut counts.resumed } else { &mut counts.full }) += 1;
        if counts.suite.is_empty() {
            shaken.suite.clone_into(&mut counts.suite);
        }
    }

    /// A request will not be answered any more. Its wait until now counts, or a server that drops
    /// what it is slow to answer would look well.
    pub(super) fn lost(&mut self, asked: Asked, now: u64) {
        self.state.messages.sent += u64::from(!asked.measured);
        self.state.messages.lost += 1;
        self.latencies.response.saturating_record(now.saturating_sub(asked.due));
    }

    /// What was due and will not be sent any more: its wait until now counts, or a server that
    /// stalls to the end would look well.
    pub(super) fn unsent(&mut self, due: u64, now: u64) {
        self.latencies.response.saturating_record(now.saturating_sub(due));
        self.state.messages.unsent += 1;
        self.state.due += 1;
    }

    /// The connection that asked who closes was none of the run's.
    pub(super) const fn forget_probe(&mut self) {
        self.state.opened = 0;
        self.state.closed_first_by_server = 0;
        self.state.closed_first_by_client = 0;
        self.state.reset = 0;
    }

    /// Forgets messages and latencies; the connections are still there.
    pub(super) fn reset(&mut self) {
        let Snapshot { open, established, established_idle, opened, failed, lost, .. } = self.state;
        let (slow_closed, served) = (self.state.slow_closed, self.state.served);
        let (stopped, stranger) = (self.state.stopped.take(), self.state.stranger.take());
        let handshakes = std::mem::take(&mut self.state.handshakes);
        self.state = Snapshot {
            open,
            established,
            established_idle,
            opened,
            failed,
            lost,
            stopped,
            stranger,
            slow_closed,
            served,
            handshakes,
            ..Snapshot::default()
        };
        let handshake = std::mem::replace(&mut self.latencies.handshake, histogram());
        self.latencies = Latencies { handshake, ..Latencies::default() };
    }

    /// How things stand; with latencies, takes those.
    pub(super) fn snapshot(&mut self, latencies: bool) -> Snapshot {
        let errors = self.errors.iter().map(|((phase, call, errno), count)| {
            (*phase, (*call).to_owned(), errno.clone(), *count)
        });
        Snapshot {
            errors: errors.collect(),
            latencies: latencies.then(|| std::mem::take(&mut self.latencies)),
            ..self.state.clone()
        }
    }
}
