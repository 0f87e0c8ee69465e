//! A connection without its socket, for servers that are built on readiness alone.

use crate::{Job, Result, message};

/// What is kept for a connection: the start of a message, and replies that the socket did not take.
/// Both are empty, and own no memory, while it is idle.
#[derive(Debug, Default)]
pub struct Session {
    input: Vec<u8>,
    /// What still has to be sent.
    pub output: Vec<u8>,
}

impl Session {
    /// Appends to `replies` what answers the bytes that have come.
    pub fn receive(&mut self, job: Job, received: &[u8], replies: &mut Vec<u8>) -> Result<()> {
        if job == Job::Raw {
            replies.extend_from_slice(received);
            return Ok(());
        }
        if self.input.is_empty() {
            let used = answer_all(job, received, replies)?;
            self.input.extend_from_slice(&received[used..]);
            return Ok(());
        }
        self.input.extend_from_slice(received);
        let used = answer_all(job, &self.input, replies)?;
        if used == self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..used);
        }
        Ok(())
    }
}

/// Answers all whole messages, and tells how many bytes they were.
fn answer_all(job: Job, input: &[u8], replies: &mut Vec<u8>) -> Result<usize> {
    let mut used = 0;
    while let Some(message) = message::decode(&input[used..])? {
        message::answer(job, &message, replies)?;
        used += message.len;
    }
    Ok(used)
}
