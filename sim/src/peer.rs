//! [`Peer`]: one client, its temper, and whether it has got exactly what it was owed.

use std::collections::VecDeque;

use myriapod::SocketAddr;
use myriapod::sys::Errno;
use myriapod::sys::sim::{Remote, Rng};

use crate::framing::FramingKind;
use crate::raw;
use crate::replies::{Came, Replies};
use crate::request::{Answer, Question, Request, Verb};

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    /// One request after the other.
    Polite,
    /// All requests at once.
    Pipelining,
    /// Byte by byte.
    Dribbling,
    /// Ends its side as soon as it has asked everything, and reads on.
    HalfClosing,
    /// Reads nothing.
    Mute,
    /// Stops in the middle of a message.
    Stalling,
    /// Sends bytes that are no message, behind some that are.
    Garbling,
    /// Is cut off without a word.
    Vanishing,
    /// Closes in the middle of everything.
    Leaving,
    /// Resets in the middle of everything.
    Resetting,
    /// Has asked everything, and stays.
    Staying,
}

const TEMPERS: [Temper; 11] = [
    Temper::Polite,
    Temper::Pipelining,
    Temper::Dribbling,
    Temper::HalfClosing,
    Temper::Mute,
    Temper::Stalling,
    Temper::Garbling,
    Temper::Vanishing,
    Temper::Leaving,
    Temper::Resetting,
    Temper::Staying,
];

/// How a stream ended, as the peer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Broken(Errno),
}

/// A request on the wire.
#[derive(Clone, Copy, Debug)]
struct Asked {
    header_end: u64,
    end: u64,
    is_answered: bool,
    /// Something is pushed before the answer.
    is_pushed: bool,
}

/// What makes requests as long and as many as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) framing: FramingKind,
    pub(crate) most_requests: usize,
    pub(crate) longest_answer: usize,
    pub(crate) longest_padding: usize,
    /// The most that a header and a content may have.
    pub(crate) max_header_len: usize,
    pub(crate) max_content_len: usize,
    /// Chances per thousand.
    pub(crate) later: u16,
    pub(crate) trouble: u16,
}

impl Habits {
    /// The longest answer that one message may get.
    pub(crate) fn longest_answer_at_once(&self) -> usize {
        match self.framing {
            FramingKind::Raw => raw::longest_answer(self),
            FramingKind::JsonHeader | FramingKind::Padded => {
                self.longest_answer.max(self.longest_padding + 100)
            }
        }
    }
}

/// A client.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) number: u32,
    pub(crate) temper: Temper,
    pub(crate) remote: Option<Remote>,
    /// Everything that it will ever send, and how much of that is sent.
    wire: Vec<u8>,
    sent: usize,
    /// Where each request ends in `wire`, and what answers it.
    plan: VecDeque<(usize, Option<Answer>)>,
    /// Each request that it will ever send.
    history: Vec<Asked>,
    /// How many of its requests were there when a stop began.
    pub(crate) asked_at_stop: Option<u32>,
    /// The answers that are owed, the next one first, with the number of their request. Those of
    /// `plan` whose request is sent whole.
    owed: VecDeque<(u32, Answer)>,
    /// The verbs it used.
    pub(crate) verbs: Vec<Verb>,
    pub(crate) garbled: bool,
    /// The server closes after its last request.
    pub(crate) ends: bool,
    replies: Replies,
    /// How many of its messages are requests that were sent whole.
    pub(crate) asked: u32,
    pub(crate) answered: u64,
    pub(crate) pushed: u64,
    /// The last push to it alone, and the last to all.
    last_push: [Option<u64>; 2],
    /// The last request of which a push has come before the answer.
    last_pushed: Option<u32>,
    /// Requests whose answer came without the push before it, which may have found no room.
    pub(crate) without_push: Vec<u32>,
    pub(crate) received: u64,
    pub(crate) finished: bool,
    pub(crate) vanished: bool,
    /// It has closed or reset, itself.
    pub(crate) left: bool,
    pub(crate) end: Option<End>,
    /// What a send has said; the receiving side is not told again.
    send_error: Option<Errno>,
}

impl Peer {
    /// A peer with a plan.
    pub(crate) fn new(number: u32, rng: &mut Rng, habits: Habits) -> Self {
        let temper = rng.pick(&TEMPERS).copied().unwrap_or(Temper::Polite);
        let mut peer = Self {
            number,
            temper,
            remote: None,
            wire: Vec::new(),
            sent: 0,
            plan: VecDeque::new(),
            history: Vec::new(),
            asked_at_stop: None,
            owed: VecDeque::new(),
            verbs: Vec::new(),
            garbled: false,
            ends: false,
            replies: Replies::new(habits.framing),
            asked: 0,
            answered: 0,
            pushed: 0,
            last_push: [None; 2],
            last_pushed: None,
            without_push: Vec::new(),
            received: 0,
            finished: false,
            vanished: false,
            left: false,
            end: None,
            send_error: None,
        };
        peer.make_plan(rng, habits);
        peer
    }

    fn make_plan(&mut self, rng: &mut Rng, habits: Habits) {
        if habits.framing == FramingKind::Raw {
            return self.make_raw_plan(rng, habits);
        }
        let count = rng.len(0, habits.most_requests);
        for sequence in 0..u32::try_from(count).unwrap_or_default() {
            let verb = self.any_verb(rng, habits);
            let padding = if rng.chance(700) { rng.len(0, 40) } else { habits.longest_padding };
            let mut padding = rng.len(0, padding);
            let fills = rng.chance(10);
            let verb = if fills { Verb::Nothing } else { verb };
            let question = Question { peer: self.number, sequence, verb };
            if fills {
                padding = habits.max_content_len - question.len();
            }
            let Ok(request) = Request::new(habits.framing, question, padding, rng.chance(200))
            else {
                continue;
            };
            let ends = request.ends;
            self.add(request);
            if ends {
                self.ends = true;
                return;
            }
        }
        if self.temper == Temper::Garbling {
            self.garbled = true;
            self.ends = true;
            let begin = self.wire.len();
            let Habits { framing, max_header_len, max_content_len, .. } = habits;
            self.add(Request::garbage(framing, rng, max_header_len, max_content_len));
            // It may be refused before it is there as a whole.
            if let Some((end, _)) = self.plan.back_mut() {
                *end = begin + 1;
            }
        }
    }

    /// Without framing each byte is a request of its own: the server may get any number at once.
    fn make_raw_plan(&mut self, rng: &mut Rng, habits: Habits) {
        for byte in raw::wire(rng, habits) {
            let request = raw::request(byte);
            self.ends |= request.ends;
            self.add(request);
        }
    }

    fn any_verb(&self, rng: &mut Rng, habits: Habits) -> Verb {
        if rng.chance(habits.trouble) {
            let troubles = [
                Verb::Abandon,
                Verb::Error,
                Verb::BadJson,
                Verb::Close,
                Verb::CloseLater,
                Verb::Panic,
                Verb::CloseNow,
                Verb::Reset,
            ];
            return rng.pick(&troubles).copied().unwrap_or(Verb::Error);
        }
        if rng.chance(habits.later) {
            return Verb::Later;
        }
        match rng.below(9) {
            0 | 1 => Verb::Sized(rng.len(0, habits.longest_answer)),
            2 => Verb::Json,
            3 => Verb::Nothing,
            4 => Verb::Push,
            _ => Verb::Echo,
        }
    }

    fn add(&mut self, request: Request) {
        self.wire.extend_from_slice(&request.wire);
        if !self.verbs.contains(&request.verb) {
            self.verbs.push(request.verb);
        }
        self.history.push(Asked {
            header_end: (self.wire.len() - request.wire.len() + request.header_len) as u64,
            end: self.wire.len() as u64,
            is_answered: request.answer.is_some(),
            is_pushed: request.verb == Verb::Push,
        });
        self.plan.push_back((self.wire.len(), request.answer));
    }

    /// Connects.
    pub(crate) fn connect(&mut self, from: &SocketAddr, to: &SocketAddr) {
        self.remote = Some(Remote::connect(from, to));
    }

    /// How much of its bytes it is willing to send.
    fn stop(&self) -> usize {
        match self.temper {
            Temper::Stalling => self.wire.len() - self.wire.len() / 3,
            _ => self.wire.len(),
        }
    }

    /// Whether everything that it wanted to send is sent.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.sent >= self.stop()
    }

    /// Bytes that it has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent as u64
    }

    /// Whether an answer to a request that was sent whole is still to come.
    pub(crate) fn is_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether the beginning of a message has come, and not its end.
    pub(crate) fn has_half_a_message(&self) -> bool {
        self.replies.has_half_a_reply()
    }

    /// Everything that it will ever send.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// How many answers are.
    pub(crate) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Whether it will do nothing more by itself.
    pub(crate) fn is_done(&self) -> bool {
        self.remote.is_none()
    }

    /// Whether it takes everything that comes and stays for it, so that nothing may be missing.
    pub(crate) fn is_faithful(&self) -> bool {
        !self.left && !self.vanished && self.temper != Temper::Mute
    }

    /// Sends at most `most` bytes. Returns whether any went.
    pub(crate) fn send(&mut self, most: usize) -> bool {
        let stop = self.stop();
        let Some(remote) = &self.remote else { return false };
        if self.sent >= stop || self.finished || self.end.is_some() || !remote.is_connected() {
            return false;
        }
        let to = self.sent.saturating_add(most.max(1)).min(stop);
        let sent = match remote.send(self.wire.get(self.sent..to).unwrap_or_default()) {
            Ok(sent) => sent,
            Err(errno) => {
                if !errno.would_block() {
                    self.send_error = Some(errno);
                }
                return false;
            }
        };
        self.sent += sent;
        while let Some((end, _)) = self.plan.front()
            && *end <= self.sent
        {
            let Some((_, answer)) = self.plan.pop_front() else { break };
            self.owed.extend(answer.map(|answer| (self.asked, answer)));
            self.asked += 1;
        }
        sent > 0
    }

    /// Receives at most `most` bytes, and holds what is whole against what is owed. Returns whether
    /// anything came.
    pub(crate) fn receive(&mut self, most: usize) -> Result<bool, String> {
        let Some(remote) = &self.remote else { return Ok(false) };
        if self.end.is_some() || remote.is_connecting() {
            return Ok(false);
        }
        match remote.recv(most.max(1)) {
            Ok(bytes) if bytes.is_empty() => {
                self.end = Some(self.send_error.map_or(End::Finished, End::Broken));
            }
            Ok(bytes) => {
                self.received += bytes.len() as u64;
                self.replies.feed(&bytes);
                self.take_replies()?;
            }
            Err(errno) if errno.would_block() => return Ok(false),
            Err(errno) => self.end = Some(End::Broken(errno)),
        }
        Ok(true)
    }

    fn take_replies(&mut self) -> Result<(), String> {
        let number = self.number;
        while let Some(came) =
            self.replies.next(number, self.owed.front().map(|(_, answer)| answer))?
        {
            match came {
                // Its connection ends with that.
                Came::Refused => return Ok(()),
                Came::Answer => {
                    let Some((asked, _)) = self.owed.pop_front() else { continue };
                    let is_pushed = self.history.get(asked as usize).is_some_and(|to| to.is_pushed);
                    if is_pushed && self.last_pushed != Some(asked) {
                        self.without_push.push(asked);
                    }
                    self.answered += 1;
                }
                Came::PushBefore(asked) => {
                    if self.owed.front().is_none_or(|(next, _)| *next != asked) {
                        let next = self.owed.front().map(|(next, _)| next);
                        return Err(format!(
                            "peer {number}: what was pushed with message {asked} came before the \
                             answer to {next:?}"
                        ));
                    }
                    self.last_pushed = Some(asked);
                    self.pushed += 1;
                }
                Came::Push { is_to_all, number: push } => {
                    // Broadcasts keep their order, and pushes theirs.
                    let last = &mut self.last_push[usize::from(is_to_all)];
                    if last.is_some_and(|last| push <= last) {
                        return Err(format!("peer {number}: push {push} after {last:?}"));
                    }
                    *last = Some(push);
                    self.pushed += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether the last push to all that it has got is the one with this number.
    pub(crate) fn has_got_push(&self, number: u64) -> bool {
        self.last_push[1] == Some(number)
    }

    /// The server is told to stop: what has arrived there by now is to be handled.
    pub(crate) fn note_stop(&mut self) {
        let Some(remote) = &self.remote else { return };
        if !remote.is_accepted() {
            return;
        }
        let arrived = self.sent - remote.on_its_way().min(self.sent);
        let whole = self.history.partition_point(|asked| asked.end <= arrived as u64);
        self.asked_at_stop = Some(u32::try_from(whole).unwrap_or(u32::MAX));
    }

    /// How many answers it must have had once this many of its bytes were received.
    pub(crate) fn answers_due(&self, received: u64) -> u64 {
        let whole = self.history.iter().take_while(|asked| asked.end <= received);
        whole.filter(|asked| asked.is_answered).count() as u64
    }

    /// The message that was unfinished when so many bytes were received: where it began, and where
    /// its header ends.
    pub(crate) fn unfinished(&self, received: u64) -> Option<(u64, u64)> {
        let at = self.history.partition_point(|asked| asked.end <= received);
        let begin = at.checked_sub(1).and_then(|before| self.history.get(before));
        let begin = begin.map_or(0, |before| before.end);
        let asked = self.history.get(at).filter(|_| begin < received)?;
        Some((begin, asked.header_end))
    }

    /// The largest buffer that what waits of it may need, once so many of its requests are handled
    /// and so many of its bytes received; none where nothing waits.
    pub(crate) fn buffer_needed(&self, handled: u32, received: u64) -> Option<u64> {
        let handled = handled as usize;
        let begin = handled.checked_sub(1).and_then(|last| self.history.get(last));
        let begin = begin.map_or(0, |last| last.end);
        let waits = received.checked_sub(begin).filter(|waits| *waits > 0)?;
        let whole = self.history.get(handled).map_or(0, |asked| asked.end - begin);
        // One that is full grows for a byte more.
        Some(whole.max(waits + 1))
    }

    fn is_connected(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::is_connected)
    }

    /// Ends its side of the stream.
    pub(crate) fn finish(&mut self) {
        if let Some(remote) = &self.remote
            && !self.finished
        {
            remote.finish();
            self.finished = true;
        }
    }

    /// Closes.
    pub(crate) fn leave(&mut self) {
        self.left = true;
        self.remote = None;
    }

    /// Closes by a reset.
    pub(crate) fn reset(&mut self) {
        self.left = true;
        if let Some(remote) = self.remote.take() {
            remote.reset();
        }
    }

    /// Is cut off.
    pub(crate) fn vanish(&mut self) {
        if let Some(remote) = &self.remote {
            remote.vanish();
            self.vanished = true;
        }
    }

    /// Does something, after its temper.
    pub(crate) fn act(&mut self, rng: &mut Rng) -> Result<(), String> {
        if self.vanished || self.remote.is_none() {
            return Ok(());
        }
        let most = match self.temper {
            Temper::Dribbling => 1,
            Temper::Pipelining => usize::MAX,
            _ => rng.len(1, 400),
        };
        let waits = self.temper == Temper::Polite && self.is_owed();
        if !waits && rng.chance(700) {
            self.send(most);
        }
        if self.temper != Temper::Mute && rng.chance(700) {
            self.receive(rng.len(1, 2000))?;
        }
        if self.end.is_some() {
            self.remote = None;
            return Ok(());
        }
        match self.temper {
            Temper::HalfClosing if self.has_sent_all() && self.is_connected() => self.finish(),
            Temper::Vanishing if rng.chance(30) => self.vanish(),
            Temper::Leaving if rng.chance(30) => self.leave(),
            Temper::Resetting if rng.chance(30) => self.reset(),
            _ => {}
        }
        Ok(())
    }

    /// Brings things to an end, without haste or malice. Returns whether anything happened.
    pub(crate) fn conclude(&mut self) -> Result<bool, String> {
        let Some(remote) = &self.remote else { return Ok(false) };
        if self.vanished {
            self.remote = None;
            return Ok(true);
        }
        if remote.is_connecting() {
            return Ok(false);
        }
        let mut moved = self.send(usize::MAX);
        if self.temper != Temper::Mute {
            moved |= self.receive(usize::MAX)?;
        }
        if self.end.is_some() {
            self.remote = None;
            return Ok(true);
        }
        let stays = matches!(self.temper, Temper::Staying | Temper::Mute | Temper::Stalling);
        let done = self.has_sent_all() && !self.is_owed() && !self.ends;
        if done && !stays && !self.finished {
            self.finish();
            moved = true;
        }
        Ok(moved)
    }
}
