//! One world: a selector, a random history of what is done with it, and a model.

use std::time::Duration;

use myriapod::sys::sim::{Faults, Rng, World};
use myriapod::sys::{self, Errno, Socket};
use myriapod::{Interest, Key, Selector};

use crate::run::Life;

/// Waits within which whatever is ready must have been reported.
const WAITS: u32 = 8;

/// What the model knows of one registered socket.
struct Watched {
    key: Key,
    number: u64,
    interest: Interest,
    theirs: Option<Socket>,
    /// Bytes that were sent to it and not received.
    pending: usize,
    /// Waits since it has been ready.
    overlooked: u32,
}

/// Lives through one world.
pub(crate) fn run(life: &mut Life) -> Result<(), String> {
    let mut rng = life.rng.clone();
    let mut selector: Selector<u64> = Selector::new().map_err(|error| error.to_string())?;
    life.world.set_faults(Faults::random(&mut rng));
    let mut watched: Vec<Watched> = Vec::new();
    let (mut gone, mut next) = (Vec::new(), 0);
    for _ in 0..rng.between(50, 600) {
        life.step += 1;
        let at = rng.index(watched.len());
        match rng.below(12) {
            0 | 1 if watched.len() < 20 => {
                // A lack of descriptors is no news here.
                let Ok((ours, theirs)) = Socket::pair() else { continue };
                let interest = any_interest(&mut rng);
                let registered = selector.register(ours, interest, next);
                let key = match registered {
                    Ok(key) => key,
                    Err(error) if is_full(&error) => continue,
                    Err(error) => return Err(error.to_string()),
                };
                if gone.contains(&key) {
                    return Err(format!("{key:?} names a second socket"));
                }
                let theirs = Some(theirs);
                watched.push(Watched {
                    key,
                    number: next,
                    interest,
                    theirs,
                    pending: 0,
                    overlooked: 0,
                });
                next += 1;
            }
            2 | 3 => {
                let Some(one) = watched.get_mut(at) else { continue };
                let interest = any_interest(&mut rng);
                match selector.modify(one.key, interest) {
                    Ok(()) => (one.interest, one.overlooked) = (interest, 0),
                    // It is watched as before.
                    Err(error) if is_full(&error) && one.interest.is_empty() => {}
                    Err(error) => return Err(error.to_string()),
                }
                if selector.interest(one.key) != Some(one.interest) {
                    return Err(format!("{:?} is not watched as it was asked to be", one.key));
                }
            }
            4 if !watched.is_empty() => {
                let one = watched.swap_remove(at);
                gone.push(one.key);
                let data = if rng.chance(500) {
                    selector.unregister(one.key).map(|(_, data)| data)
                } else {
                    selector.close(one.key)
                };
                if data != Some(one.number) || selector.get(one.key).is_some() {
                    return Err(format!("{:?} gave back {data:?}", one.key));
                }
            }
            5 | 6 => {
                let Some(one) = watched.get_mut(at) else { continue };
                let Some(theirs) = &one.theirs else { continue };
                let len = rng.len(1, 50);
                match theirs.send(&vec![b'x'; len]) {
                    Ok(sent) => one.pending += sent,
                    Err(errno) if errno.would_block() => {}
                    Err(errno) => return Err(format!("send: {errno}")),
                }
            }
            7 => {
                let Some(one) = watched.get_mut(at) else { continue };
                one.theirs = None;
            }
            8 => {
                let Some(one) = watched.get_mut(at) else { continue };
                receive(&selector, one, rng.len(1, 100))?;
            }
            9 => life.world.pass(Duration::from_millis(rng.between(0, 100))),
            _ => {
                let timeout = Duration::from_millis(rng.below(5));
                let count = selector.select(Some(timeout)).map_err(|error| error.to_string())?;
                life.messages += count as u64;
                let mut seen = Vec::new();
                while let Some(ready) = selector.next_ready() {
                    let Some(one) = watched.iter().find(|one| one.key == ready.key) else {
                        return Err(format!("an event for {:?}, which is gone", ready.key));
                    };
                    if (ready.readiness & one.interest).is_empty() {
                        return Err(format!("{ready:?}, where {:?} was asked for", one.interest));
                    }
                    if selector.get(ready.key) != Some(&one.number) {
                        return Err(format!("{:?} has another's data", ready.key));
                    }
                    if seen.contains(&ready.key) {
                        return Err(format!("two events for {:?} in one wait", ready.key));
                    }
                    seen.push(ready.key);
                }
                notice(&life.world, &selector, &mut watched, &seen)?;
            }
        }
        if selector.len() != watched.len() {
            return Err(format!("{} are registered, not {}", selector.len(), watched.len()));
        }
    }
    drop(watched);
    drop(selector);
    match life.world.open_descriptors() {
        0 => Ok(()),
        left => Err(format!("{left} descriptors are left")),
    }
}

/// Whether a poller had no room.
fn is_full(error: &sys::SystemError) -> bool {
    matches!(error.errno(), Some(Errno::ENOMEM | Errno::ENOSPC))
}

fn any_interest(rng: &mut Rng) -> Interest {
    let all = [Interest::NONE, Interest::READABLE, Interest::WRITABLE, Interest::BOTH];
    rng.pick(&all).copied().unwrap_or(Interest::NONE)
}

/// Whatever is ready (bytes or the end have arrived, there is room) is so until something is done
/// about it, and is reported soon.
fn notice(
    world: &World,
    selector: &Selector<u64>,
    watched: &mut [Watched],
    seen: &[Key],
) -> Result<(), String> {
    for one in watched {
        let Some(source) = selector.source(one.key) else {
            return Err(format!("{:?} has no socket", one.key));
        };
        let (arrived, _) = sys::queue_sizes(source).map_err(|error| error.to_string())?;
        let is_ready = world.is_ready(source, one.interest);
        if arrived > 0 && one.interest.is_readable() && !is_ready {
            return Err(format!("{:?} has {arrived} bytes, and is not readable", one.key));
        }
        if !is_ready || seen.contains(&one.key) {
            one.overlooked = 0;
            continue;
        }
        one.overlooked += 1;
        if one.overlooked > WAITS {
            return Err(format!("{:?} is ready, and no wait says so", one.key));
        }
    }
    Ok(())
}

fn receive(selector: &Selector<u64>, one: &mut Watched, len: usize) -> Result<(), String> {
    let Some(source) = selector.source(one.key) else {
        return Err(format!("{:?} has no socket", one.key));
    };
    match sys::recv(source, &mut vec![0; len]) {
        Ok(0) if one.theirs.is_some() => Err("the end came before its time".to_owned()),
        Ok(received) => {
            one.pending = one.pending.checked_sub(received).ok_or("bytes that nobody sent")?;
            Ok(())
        }
        Err(Errno::ECONNRESET) if one.theirs.is_none() => Ok(()),
        Err(errno) if errno.would_block() => Ok(()),
        Err(errno) => Err(format!("recv: {errno}")),
    }
}
