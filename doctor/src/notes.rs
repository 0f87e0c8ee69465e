//! What bounds no number of connections, and is worth knowing: how fast they can come, what they
//! can hold, and how well the machine measures.

use std::fmt::Display;

use myriapod_machine::Machine;

use super::verdict::{Note, Plan, Remedy, Side};
use myriapod_machine::figures::{bytes, grouped};

/// Backlogs below this make a rush of peers wait for retransmissions.
const BACKLOG: u64 = 4_096;

/// What one busy connection has in its buffers at least: the kernel counts whole pages.
const PAGE: u64 = 4_096;

/// The clocks that a program can read without a system call.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];

/// Above this share of stolen time, figures of different runs cannot be compared.
const STOLEN: f64 = 0.01;

/// The notes for this machine. `set` is the command that sets a kernel's variable.
pub(super) fn notes(
    plan: &Plan,
    machine: &Machine,
    set: &dyn Fn(&str, &dyn Display) -> Remedy,
) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |name: &str, reading: String, says: String, remedy: Option<Remedy>| {
        notes.push(Note { name: name.to_owned(), reading, says, remedy });
    };
    if plan.side != Side::Client {
        if let Some(backlog) = machine.somaxconn {
            let remedy = (backlog < BACKLOG).then(|| set("net.core.somaxconn", &BACKLOG));
            let says =
                "peers that one listener keeps waiting; those beyond try again a second later";
            note("net.core.somaxconn", grouped(backlog), says.to_owned(), remedy);
        }
        if let Some(backlog) = machine.tcp_max_syn_backlog {
            let cookies = machine.tcp_syncookies.is_none_or(|cookies| cookies > 0);
            let short = !cookies && backlog < BACKLOG;
            let remedy = short.then(|| set("net.ipv4.tcp_max_syn_backlog", &BACKLOG));
            let says = if cookies {
                "handshakes under way on one listener; SYN cookies take over beyond"
            } else {
                "handshakes under way on one listener; those beyond are dropped"
            };
            note("net.ipv4.tcp_max_syn_backlog", grouped(backlog), says.to_owned(), remedy);
        }
    }
    if let Some(ports) = machine.local_ports.filter(|_| plan.side == Side::Server) {
        note(
            "net.ipv4.ip_local_port_range",
            format!("{}-{}", ports.first, ports.last),
            format!(
                "{} connections from each source address to each port of a server, where clients \
                 run here (--side both)",
                grouped(ports.count())
            ),
            None,
        );
    }
    if let Some(memory) = machine.tcp_memory {
        let left = memory.max.saturating_sub(memory.used);
        note(
            "net.ipv4.tcp_mem",
            format!("{} of {} used", bytes(memory.used), bytes(memory.max)),
            format!(
                "enough for {} ends with unread or unsent bytes at the same moment; those at rest \
                 hold none",
                grouped(left / PAGE)
            ),
            None,
        );
    }
    if let Some(overcommit) = machine.overcommit {
        let says = match overcommit.mode {
            0 => "memory is promised by a guess: fine",
            1 => "memory is always promised: fine",
            _ => "memory is promised up to a limit, see above",
        };
        note("vm.overcommit_memory", overcommit.mode.to_string(), says.to_owned(), None);
    }
    let loops = plan.threads.max(1);
    let cpus = machine.cpus.max(1);
    let says = if loops > cpus {
        format!("{loops} event loops share them: more than one for each gains nothing")
    } else if plan.side == Side::Both && cpus < 2 {
        "a load generator and its server share it, so that neither shows what it could do alone"
            .to_owned()
    } else {
        "an event loop keeps one busy at most".to_owned()
    };
    note("processors", machine.cpus.to_string(), says, None);
    if let Some(source) = &machine.clock_source {
        let fast = FAST_CLOCKS.contains(&source.as_str());
        let says = if fast {
            "read without a system call"
        } else {
            "read by a system call, which makes every timestamp slow"
        };
        let list = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
        let remedy = (!fast).then(|| Remedy::Run(format!("cat {list}")));
        note("clock source", source.clone(), says.to_owned(), remedy);
    }
    if let Some(time) = machine.processor_time {
        let share = time.stolen_share();
        let says = if share > STOLEN {
            "the host gives this machine's processors to others: repeat what you measure"
        } else {
            "the host leaves this machine its processors"
        };
        let reading = format!("{:.2} % of processor time since the start", share * 100.0);
        note("stolen time", reading, says.to_owned(), None);
    }
    notes
}
