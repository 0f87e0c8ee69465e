//! What one process does to another: tell it something, or end it with those that it started.

use nix::sys::signal::{Signal as Number, kill, killpg};
use nix::unistd::Pid;

use crate::{Errno, Result, Signal, SystemError};

/// `int kill(pid_t pid, int sig)`: sends a signal to the process `pid`.
///
/// ```no_run
/// use myriapod_sys::{Signal, send_signal};
///
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// send_signal(child.id(), Signal::Terminate)?;
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`]: `ESRCH` if there is no such process, `EPERM` if it is not ours, `EINVAL` for
/// the number 0 or one that no process can have.
///
/// Source: kill(2).
pub fn send_signal(pid: u32, signal: Signal) -> Result<()> {
    let call = |errno| SystemError::call("kill", errno, format_args!("{signal} to process {pid}"));
    kill(one(pid).map_err(call)?, signal.number()).map_err(|errno| call(errno.into()))
}

/// `int killpg(int pgrp, int sig)` with `SIGKILL`: ends all processes of the group that `leader`
/// leads.
///
/// # Errors
///
/// [`SystemError::Call`]: `ESRCH` if the group has no process, `EPERM` if none of them is ours, `EINVAL`
/// for the number 0 or one that no process can have.
///
/// Source: killpg(3).
pub fn kill_group(leader: u32) -> Result<()> {
    let call = |errno| SystemError::call("killpg", errno, format_args!("group {leader}"));
    killpg(one(leader).map_err(call)?, Number::SIGKILL).map_err(|errno| call(errno.into()))
}

/// Exactly one process: to the system, 0 and negative numbers mean many.
fn one(pid: u32) -> Result<Pid, Errno> {
    match i32::try_from(pid) {
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::Command;

    use super::*;

    #[test]
    fn does_a_process_get_the_signal_and_a_group_its_end() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        send_signal(child.id(), Signal::Terminate).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(15));

        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        kill_group(child.id()).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn is_a_number_that_means_many_processes_refused() {
        for pid in [0, u32::MAX, 1 << 31] {
            assert_eq!(send_signal(pid, Signal::User1).unwrap_err().errno(), Some(Errno::EINVAL));
            assert_eq!(kill_group(pid).unwrap_err().errno(), Some(Errno::EINVAL));
        }
    }
}
