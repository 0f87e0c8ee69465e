//! What a machine allows, and what its processes and processors have used.
//!
//! For the tools that measure servers or judge machines (`myriapod doctor`, `myriapod bench`). The
//! engine needs none of it. Nearly all is read from Linux's `/proc` and `/sys`; other systems tell
//! little of it.
//!
//! ```
//! let machine = myriapod_machine::Machine::read();
//! println!("{} processors, {:?}", machine.cpus, machine.kernel);
//! ```
#![forbid(unsafe_code)]

mod cgroup;
pub mod figures;
mod limits;
mod usage;

pub use cgroup::CgroupMemory;
pub use limits::{
    Conntrack, LocalPorts, Machine, Memory, OpenFiles, Overcommit, Privileges, ProcessorTime,
    TcpMemory,
};
pub use usage::{
    ProcessUsage, busy_time, end_with_parent, process_cpus, process_rss_bytes, process_usage,
    set_timer_slack, thread_cpu_time, time_wait_sockets,
};

use nix::unistd::SysconfVar;

/// `long sysconf(int name)`, for what every system has; 0 where it does not.
fn sysconf(name: SysconfVar) -> u64 {
    let value = nix::unistd::sysconf(name).ok().flatten();
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

/// Bytes of a page of memory.
fn page_size() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE)
}
