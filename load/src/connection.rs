//! [`Queue`]: what was asked on one connection and not answered yet. No sockets and no clock.

use std::collections::VecDeque;

use crate::message::{Messages, Verdict};

/// Requests that are kept although their time is over, should they still be answered. Those of
/// before then are lost.
const MOST_OVERDUE: usize = 4096;

/// A request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    number: u32,
    /// Its time is over, and its place was given to another.
    overdue: bool,
    /// A later one was answered before it.
    overtaken: bool,
    /// It belongs to the figures: the warm-up's do not.
    pub(crate) measured: bool,
    /// When it was due and when it was sent, in nanoseconds of the clock.
    pub(crate) due: u64,
    pub(crate) sent: u64,
}

/// What became of a request, or what a reply turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Ok(Asked),
    Late(Asked),
    Wrong(Asked),
    /// A reply that nobody waits for.
    Duplicate,
}

/// The requests of one connection, in the order in which they were sent.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    asked: VecDeque<Asked>,
    /// The next request's number.
    next: u32,
    overdue: u32,
}

impl Queue {
    /// Requests that hold a place: those whose time is not over.
    pub(crate) fn waiting(&self) -> usize {
        self.asked.len() - self.overdue as usize
    }

    /// Notes a request, and returns its number.
    #[inline]
    pub(crate) fn ask(&mut self, due: u64, sent: u64, measured: bool) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let asked = Asked { number, overdue: false, overtaken: false, measured, due, sent };
        self.asked.push_back(asked);
        number
    }

    /// What a reply is to this connection, and whether a place has become free by it.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        connection: u32,
        messages: &Messages,
        verdict: Verdict,
        now: u64,
        timeout: u64,
    ) -> (Fate, bool) {
        // Nearly always it is the first in the queue.
        let first = self.asked.front().map(|asked| messages.tag_of(connection, asked.number));
        let at = match verdict {
            Verdict::Tag(tag) if first == Some(tag) => 0,
            Verdict::Tag(tag) => {
                return self.answer_out_of_turn(connection, messages, tag, now, timeout);
            }
            Verdict::Right => 0,
            Verdict::Wrong => return self.wrong(),
        };
        self.take(at, now, timeout)
    }

    fn take(&mut self, at: usize, now: u64, timeout: u64) -> (Fate, bool) {
        let Some(asked) = self.remove(at) else { return (Fate::Duplicate, false) };
        let fate = if asked.overtaken {
            Fate::Wrong(asked)
        } else if now.saturating_sub(asked.sent) > timeout {
            Fate::Late(asked)
        } else {
            Fate::Ok(asked)
        };
        (fate, !asked.overdue)
    }

    #[cold]
    fn answer_out_of_turn(
        &mut self,
        connection: u32,
        messages: &Messages,
        tag: u64,
        now: u64,
        timeout: u64,
    ) -> (Fate, bool) {
        let is_it = |asked: &Asked| messages.tag_of(connection, asked.number) == tag;
        if let Some(at) = self.asked.iter().position(is_it) {
            for before in self.asked.iter_mut().take(at) {
                before.overtaken = true;
            }
            return self.take(at, now, timeout);
        }
        // How long ago the request with this tag was sent, if it was.
        let mask = messages.tag_mask();
        let ago = messages.tag_of(connection, self.next).wrapping_sub(tag) & mask;
        if ago >= 1 && ago <= u64::from(self.next).min(mask / 2) {
            return (Fate::Duplicate, false);
        }
        self.wrong()
    }

    /// A reply that is nobody's answer stands for the first that could still be answered in turn.
    #[cold]
    fn wrong(&mut self) -> (Fate, bool) {
        let in_turn = |asked: &Asked| !asked.overtaken && !asked.overdue;
        let at = self.asked.iter().position(in_turn).unwrap_or(0);
        match self.remove(at) {
            Some(asked) => (Fate::Wrong(asked), !asked.overdue),
            None => (Fate::Duplicate, false),
        }
    }

    fn remove(&mut self, at: usize) -> Option<Asked> {
        let asked = if at == 0 { self.asked.pop_front() } else { self.asked.remove(at) }?;
        self.overdue -= u32::from(asked.overdue);
        Some(asked)
    }

    /// Gives the places of those free whose time is over, and returns how many that were. Those
    /// that cannot be kept any longer go to `lost`.
    pub(crate) fn expire(&mut self, now: u64, timeout: u64, lost: &mut Vec<Asked>) -> usize {
        let mut freed = 0;
        for asked in &mut self.asked {
            if now.saturating_sub(asked.sent) <= timeout {
                break;
            }
            if !asked.overdue {
                asked.overdue = true;
                freed += 1;
            }
        }
        self.overdue += u32::try_from(freed).unwrap_or(u32::MAX);
        while self.overdue as usize > MOST_OVERDUE {
            lost.extend(self.remove(0));
        }
        freed
    }

    /// All that will never be answered, since the connection is over.
    pub(crate) fn abandon(&mut self) -> impl Iterator<Item = Asked> + use<> {
        self.overdue = 0;
        std::mem::take(&mut self.asked).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, Service};

    const TIMEOUT: u64 = 1000;

    /// A connection with number 5 and the replies that come to it.
    struct Talk {
        queue: Queue,
        messages: Messages,
        fates: Vec<&'static str>,
    }

    impl Talk {
        fn new(service: Service, content: usize, asked: u64) -> Self {
            let messages = Messages::new(service, None, &Content::Bytes(content)).unwrap();
            let mut queue = Queue::default();
            for number in 0..asked {
                queue.ask(number, number, true);
            }
            Self { queue, messages, fates: Vec::new() }
        }

        fn reply(&mut self, verdict: Verdict, now: u64) -> bool {
            let (fate, freed) = self.queue.answer(5, &self.messages, verdict, now, TIMEOUT);
            self.fates.push(match fate {
                Fate::Ok(_) => "ok",
                Fate::Late(_) => "late",
                Fate::Wrong(_) => "wrong",
                Fate::Duplicate => "duplicate",
            });
            freed
        }

        fn replies(&mut self, numbers: &[u32]) {
            for &number in numbers {
                let tag = Verdict::Tag(self.messages.tag_of(5, number));
                self.reply(tag, 10);
            }
        }

        /// The fates, and how many were lost in the end.
        fn end(mut self) -> (Vec<&'static str>, usize) {
            let lost = self.queue.abandon().count();
            (self.fates, lost)
        }
    }

    #[test]
    fn is_each_fault_called_by_its_name() {
        for content in [1, 2, 64] {
            let talk = |numbers: &[u32]| {
                let mut talk = Talk::new(Service::Raw, content, 4);
                talk.replies(numbers);
                talk.end()
            };
            assert_eq!(talk(&[0, 1, 2, 3]), (vec!["ok"; 4], 0));
            // One is never answered.
            assert_eq!(talk(&[0, 2, 3]), (vec!["ok"; 3], 1));
            // Two change places.
            assert_eq!(talk(&[0, 2, 1, 3]), (vec!["ok", "ok", "wrong", "ok"], 0));
            // One comes twice, at once and later.
            assert_eq!(talk(&[0, 0, 1, 2, 3]), (vec!["ok", "duplicate", "ok", "ok", "ok"], 0));
            assert_eq!(talk(&[0, 1, 2, 3, 1]).0, ["ok", "ok", "ok", "ok", "duplicate"]);
            // One is answered with what belongs to a request that was not sent yet.
            assert_eq!(talk(&[4, 1, 2, 3]), (vec!["wrong", "ok", "ok", "ok"], 0));
        }
    }

    #[test]
    fn is_the_answer_of_another_connection_wrong() {
        let mut talk = Talk::new(Service::Echo, 64, 2);
        let others = Verdict::Tag(talk.messages.tag_of(6, 0));
        assert!(talk.reply(others, 10));
        talk.replies(&[1]);
        assert_eq!(talk.end(), (vec!["wrong", "ok"], 0));
    }

    #[test]
    fn does_a_corrupt_reply_stand_for_the_next_in_turn() {
        let mut talk = Talk::new(Service::Raw, 64, 3);
        talk.replies(&[1]);
        talk.reply(Verdict::Wrong, 10);
        assert_eq!(talk.end(), (vec!["ok", "wrong"], 1));
    }

    #[test]
    fn is_what_comes_after_its_time_late() {
        let mut talk = Talk::new(Service::Padded, 64, 2);
        let mut lost = Vec::new();
        assert_eq!(talk.queue.expire(TIMEOUT, TIMEOUT, &mut lost), 0);
        assert_eq!(talk.queue.expire(TIMEOUT + 1, TIMEOUT, &mut lost), 1);
        assert_eq!((talk.queue.waiting(), lost.len()), (1, 0));
        // Its place was given away before.
        assert!(!talk.reply(Verdict::Right, TIMEOUT + 1));
        assert!(talk.reply(Verdict::Right, TIMEOUT + 1));
        assert!(!talk.reply(Verdict::Right, TIMEOUT + 1));
        assert_eq!(talk.end(), (vec!["late", "ok", "duplicate"], 0));
    }

    #[test]
    fn is_a_reply_that_nobody_asked_for_a_duplicate() {
        let mut talk = Talk::new(Service::Echo, 64, 0);
        talk.reply(Verdict::Wrong, 1);
        talk.reply(Verdict::Right, 1);
        assert_eq!(talk.end(), (vec!["duplicate", "duplicate"], 0));
    }

    #[test]
    fn is_the_number_of_overdue_ones_bounded() {
        let mut talk = Talk::new(Service::Echo, 64, 0);
        let mut lost = Vec::new();
        for now in 0..10_000 {
            talk.queue.ask(now, now, true);
            talk.queue.expire(now, TIMEOUT, &mut lost);
        }
        assert_eq!(talk.queue.asked.len(), MOST_OVERDUE + 1001);
        assert_eq!(lost.len(), 10_000 - talk.queue.asked.len());
    }
}
