//! Descriptors that pass to another process over a Unix socket.

use super::descriptor::{AsFd, BorrowedFd, Descriptor, call_number};
use super::kernel::{Kernel, Object};
use super::threads::call;
use crate::{Errno, Result};

/// The most descriptors that are passed at once.
pub const MAX_PASSED: usize = 253;

/// Sends bytes, and duplicates of descriptors with the first of them.
///
/// # Errors
///
/// Those of [`send`](crate::send); `EINVAL` without bytes, or with more than [`MAX_PASSED`]
/// descriptors.
pub fn send_descriptors(
    fd: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    if bytes.is_empty() || descriptors.len() > MAX_PASSED {
        return Err(Errno::EINVAL);
    }
    let number = fd.as_fd().number();
    call(|kernel| {
        kernel.enter_at(call_number::SEND, number);
        let end = kernel.stream(number)?;
        let duplicate = |descriptor: &BorrowedFd<'_>| {
            kernel.object(descriptor.number()).and_then(|object| object.duplicate())
        };
        let objects: Vec<Object> = descriptors.iter().map(duplicate).collect::<Result<_, _>>()?;
        let to = kernel.ends.get(&end).and_then(|end| Some((end.given, end.other?)));
        if let Some((with, other)) = to
            && !objects.is_empty()
            && let Some(other) = kernel.ends.get_mut(&other)
        {
            // They are on their way before anybody can receive the byte.
            other.passed.push_back((with, objects));
            kernel.has_duplicates = true;
        }
        let sent = kernel.give(end, std::iter::once(bytes));
        if sent.is_err()
            && !descriptors.is_empty()
            && let Some((_, other)) = to
            && let Some(other) = kernel.ends.get_mut(&other)
        {
            // The sender has them all still.
            other.passed.pop_back();
        }
        sent
    })
}

/// Receives into the spare capacity of `bytes`, and appends the descriptors that came along.
///
/// # Errors
///
/// As [`recv_append`](crate::recv_append); `EMFILE` where this process has no room for them: they are
/// lost then.
pub fn recv_descriptors(
    fd: impl AsFd,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<Descriptor>,
) -> Result<usize, Errno> {
    let spare = bytes.capacity() - bytes.len();
    if spare == 0 {
        return Err(Errno::EINVAL);
    }
    let number = fd.as_fd().number();
    let (received, opened) = call(|kernel| {
        kernel.enter_at(call_number::RECV, number);
        receive(kernel, number, spare)
    })?;
    // Also where there is no room for the rest: these are to be closed.
    let opened = opened.into_iter().map(|opened| opened.map(Descriptor::new));
    let opened: Vec<Result<Descriptor, Errno>> = opened.collect();
    let opened: Vec<Descriptor> = opened.into_iter().collect::<Result<_, _>>()?;
    bytes.extend_from_slice(&received);
    descriptors.extend(opened);
    Ok(received.len())
}

type Received = (Vec<u8>, Vec<Result<i32, Errno>>);

/// What has come up to the next byte with descriptors, and those of the first byte.
fn receive(kernel: &mut Kernel, number: i32, spare: usize) -> Result<Received, Errno> {
    let end = kernel.stream(number)?;
    let from = kernel.ends.get(&end).map_or(0, |end| end.received);
    let next = kernel
        .ends
        .get(&end)
        .and_then(|end| end.passed.iter().map(|(with, _)| *with).find(|with| *with > from));
    let most =
        next.map_or(spare, |next| spare.min(usize::try_from(next - from).unwrap_or(usize::MAX)));
    let bytes = kernel.take(end, most)?;
    let Some(at) = kernel.ends.get_mut(&end) else { return Ok((bytes, Vec::new())) };
    let is_due = !bytes.is_empty() && at.passed.front().is_some_and(|(with, _)| *with == from);
    let objects = if is_due { at.passed.pop_front() } else { None };
    let mut opened = Vec::new();
    for object in objects.into_iter().flat_map(|(_, objects)| objects) {
        let again = object.duplicate()?;
        opened.push(kernel.open(object).inspect_err(|_| kernel.end_unless_held(&again)));
    }
    Ok((bytes, opened))
}

/// Everybody is the same user.
///
/// # Errors
///
/// None.
pub fn peer_user(_fd: impl AsFd) -> Result<u32> {
    Ok(user())
}

/// The only user.
#[must_use]
pub fn user() -> u32 {
    0
}
