//! Made-up machines, and what is said of them.

#![allow(clippy::unwrap_used, reason = "tests fail by it")]

use std::path::PathBuf;

use myriapod::sys::{Backend, DescriptorLimit};
use myriapod_machine::{
    CgroupMemory, Conntrack, LocalPorts, Machine, Memory, OpenFiles, Overcommit, Privileges,
    ProcessorTime,
};

use super::verdict::{Plan, Readings, Remedy, Side, Verdict, judge};

const NOBODY: Privileges = Privileges { root: false, resource: false, admin: false };
const ROOT: Privileges = Privileges { root: true, resource: true, admin: true };

/// A machine with room for millions, but for what a test changes.
fn readings(change: impl FnOnce(&mut Readings)) -> Readings {
    let machine = Machine {
        descriptors: Some(DescriptorLimit { soft: 1024, hard: 20_000 }),
        nr_open: Some(1 << 20),
        privileges: Some(NOBODY),
        files: Some(OpenFiles { max: 10_000_000, open: 1_000 }),
        local_ports: Some(LocalPorts { first: 32_768, last: 60_999, reserved: 0 }),
        somaxconn: Some(4_096),
        tcp_max_syn_backlog: Some(2_048),
        tcp_syncookies: Some(1),
        memory: Some(Memory { total: 64 << 30, available: 60 << 30 }),
        epoll_watches: Some(5_000_000),
        overcommit: Some(Overcommit { mode: 0, limit: 1 << 30, committed: 1 << 20 }),
        cpus: 2,
        clock_source: Some("tsc".to_owned()),
        ..Machine::default()
    };
    let mut readings = Readings { machine, descriptors: Some(20_000) };
    change(&mut readings);
    readings
}

/// What nothing but the machine itself bounds.
fn unbounded(readings: &mut Readings) {
    readings.descriptors = Some(1 << 20);
    readings.machine.privileges = Some(ROOT);
}

fn plan() -> Plan {
    Plan { backend: Backend::Poll, ..Plan::default() }
}

fn first_command(verdict: &Verdict) -> &str {
    let limit = verdict.first().unwrap();
    let command = limit.remedies.iter().find_map(|remedy| match remedy {
        Remedy::Run(command) => Some(command.as_str()),
        Remedy::Do(_) => None,
    });
    command.unwrap_or_default()
}

#[cfg(target_os = "linux")]
#[test]
fn is_the_limit_that_bites_first_named_with_its_command() {
    type Change = fn(&mut Readings);
    let group = |readings: &mut Readings| {
        readings.machine.memory_cgroups = vec![CgroupMemory {
            limit_file: PathBuf::from("/g/memory.max"),
            version: 2,
            limit: 10 << 20,
            used: 3 << 20,
            reclaimable: 1 << 20,
        }];
    };
    let cases: [(&str, Change, u64, &str, &str); 11] = [
        (
            "an ordinary user",
            |_| {},
            20_000 - 64,
            "RLIMIT_NOFILE",
            "sudo prlimit --pid $$ --nofile=1000064:1000064",
        ),
        (
            "a soft limit that we raise ourselves",
            |readings| {
                readings.machine.descriptors = Some(DescriptorLimit { soft: 64, hard: 500 });
                readings.descriptors = Some(500);
            },
            500 - 64,
            "RLIMIT_NOFILE",
            "sudo prlimit --pid $$ --nofile=1000064:1000064",
        ),
        (
            "root in a container",
            |readings| readings.machine.privileges = Some(Privileges { root: true, ..NOBODY }),
            20_000 - 64,
            "RLIMIT_NOFILE",
            "",
        ),
        ("root", unbounded, (1 << 20) - 64, "fs.nr_open", "sysctl -w fs.nr_open=2097088"),
        (
            "hardly a descriptor",
            |readings| readings.descriptors = Some(10),
            1,
            "RLIMIT_NOFILE",
            "sudo prlimit --pid $$ --nofile=1000064:1000064",
        ),
        (
            "few files on the machine",
            |readings| readings.machine.files = Some(OpenFiles { max: 5_000, open: 1_000 }),
            4_000,
            "fs.file-max",
            "sudo sysctl -w fs.file-max=1002000",
        ),
        (
            "few watches",
            |readings| readings.machine.epoll_watches = Some(7_000),
            7_000,
            "fs.epoll.max_user_watches",
            "sudo sysctl -w fs.epoll.max_user_watches=1001000",
        ),
        (
            "connections that are tracked",
            |readings| readings.machine.conntrack = Some(Conntrack { max: 900, count: 100 }),
            800,
            "net.netfilter.nf_conntrack_max",
            "sudo sysctl -w net.netfilter.nf_conntrack_max=1001100",
        ),
        (
            "little memory",
            |readings| {
                readings.machine.memory = Some(Memory { total: 64 << 20, available: 40_560_000 });
            },
            10_000,
            "memory",
            "",
        ),
        (
            "memory that is promised to others",
            |readings| {
                let (limit, committed) = (1 << 30, (1 << 30) - 56_000);
                readings.machine.overcommit = Some(Overcommit { mode: 2, limit, committed });
            },
            1_000,
            "vm.overcommit_memory",
            "sudo sysctl -w vm.overcommit_memory=0",
        ),
        (
            "a small control group",
            group,
            (8 << 20) / 4_056,
            "/g/memory.max",
            "echo 4059037696 | sudo tee /g/memory.max",
        ),
    ];
    for (what, change, ceiling, name, command) in cases {
        let verdict = judge(&Plan::default(), &readings(change));
        assert_eq!(verdict.ceiling, Some(ceiling), "{what}");
        assert_eq!(verdict.first().unwrap().name, name, "{what}");
        assert_eq!(first_command(&verdict), command, "{what}");
        let allows: Vec<_> = verdict.limits.iter().map(|limit| limit.allows).collect();
        assert!(allows.is_sorted_by_key(|allows| allows.unwrap_or(u64::MAX)), "{allows:?}");
    }
}

#[test]
fn does_one_sentence_say_where_it_stops_and_why() {
    let of = |connections, change: fn(&mut Readings)| {
        judge(&Plan { connections, ..plan() }, &readings(change)).sentence()
    };
    let because = "RLIMIT_NOFILE is 20,000, of which 64 are kept for everything else, and this \
                   user may not raise it.";
    assert_eq!(of(None, |_| {}), format!("19,936 connections in one process: {because}"));
    assert_eq!(
        of(Some(50_000), |_| {}),
        format!(
            "50,000 connections cannot be reached; it stops at 19,936 in one process: {because}"
        )
    );
    assert_eq!(
        of(Some(1), |_| {}),
        format!("1 connection can be reached; it would stop at 19,936 in one process: {because}")
    );
    let little = |readings: &mut Readings| {
        readings.machine.memory = Some(Memory { total: 64 << 20, available: 40_560_000 });
    };
    assert_eq!(
        of(None, little),
        "about 10,000 connections on this machine: 38.7 MiB of memory are available, and a \
         connection at rest takes about 4,056 bytes of it."
    );
    let nothing = judge(&Plan { connections: Some(9), ..plan() }, &Readings::default());
    assert_eq!(nothing.sentence(), "No limit is known here.");
    assert!(nothing.suffices() && nothing.warning().is_none());
    assert_eq!(nothing.unknown, ["fs.nr_open", "RLIMIT_NOFILE", "fs.file-max", "memory"]);
}

#[test]
fn can_as_many_be_reached_as_are_allowed_and_not_one_more() {
    for (asked, suffices) in [(1, true), (19_936, true), (19_937, false)] {
        let verdict = judge(&Plan { connections: Some(asked), ..plan() }, &readings(|_| {}));
        assert_eq!(verdict.suffices(), suffices, "{asked}");
        assert_eq!(verdict.warning().is_some(), !suffices, "{asked}");
    }
}

#[test]
fn do_both_ends_and_their_processes_count() {
    let ceiling_of = |plan: Plan, name: &str| {
        let verdict = judge(&plan, &readings(|_| {}));
        let limit = verdict.limits.iter().find(|limit| limit.name == name);
        limit.and_then(|limit| limit.allows)
    };
    let both = Plan { side: Side::Both, processes: 10, sources: 5, ports: 2, ..plan() };
    for (name, server, client, both_ends) in [
        ("RLIMIT_NOFILE", 19_936, 19_936, 199_360),
        ("fs.file-max", 9_999_000, 9_999_000, 4_999_500),
        ("net.ipv4.ip_local_port_range", 0, 28_232, 282_320),
        ("memory", (60 << 30) / 4_056, (60 << 30) / 4_056, (60 << 30) / 8_112),
    ] {
        let none_for_servers = if server == 0 { None } else { Some(server) };
        assert_eq!(ceiling_of(plan(), name), none_for_servers, "{name}");
        let clients = Plan { side: Side::Client, ..plan() };
        assert_eq!(ceiling_of(clients, name), Some(client), "{name}");
        assert_eq!(ceiling_of(both.clone(), name), Some(both_ends), "{name}");
    }
    let loops = Plan { threads: 3, ..plan() };
    assert_eq!(ceiling_of(loops, "RLIMIT_NOFILE"), Some(20_000 - 64 - 16));
    let select = Plan { backend: Backend::Select, ..plan() };
    assert_eq!(ceiling_of(select, "FD_SETSIZE"), Some(1024 - 64));
}

#[test]
fn is_no_command_given_for_what_suffices() {
    let verdict = judge(&Plan { connections: Some(30_000), ..plan() }, &readings(|_| {}));
    for limit in &verdict.limits {
        let short = limit.allows.is_some_and(|allows| allows < 30_000);
        assert_eq!(!limit.remedies.is_empty(), short, "{limit:?}");
    }
}

#[test]
fn are_privileges_taken_into_account() {
    let verdict = judge(&plan(), &readings(unbounded));
    let files = verdict.limits.iter().find(|limit| limit.name == "fs.file-max").unwrap();
    assert_eq!(files.allows, None, "root may exceed it");
    assert_eq!(verdict.first().unwrap().name, "fs.nr_open");
}

#[test]
fn does_an_odd_clock_or_a_greedy_host_get_a_note() {
    let odd = readings(|readings| {
        readings.machine.clock_source = Some("acpi_pm".to_owned());
        readings.machine.processor_time = Some(ProcessorTime { total: 1_000, stolen: 20 });
        readings.machine.somaxconn = Some(128);
        readings.machine.tcp_syncookies = Some(0);
    });
    let verdict = judge(&plan(), &odd);
    let note = |name: &str| verdict.notes.iter().find(|note| note.name == name).unwrap();
    assert!(note("clock source").says.contains("system call"));
    assert!(note("stolen time").reading.starts_with("2.00 %"));
    assert!(note("stolen time").says.contains("repeat"));
    let set = |text: &str| Some(Remedy::Run(text.to_owned()));
    assert_eq!(note("net.core.somaxconn").remedy, set("sudo sysctl -w net.core.somaxconn=4096"));
    let syn = "sudo sysctl -w net.ipv4.tcp_max_syn_backlog=4096";
    assert_eq!(note("net.ipv4.tcp_max_syn_backlog").remedy, set(syn));
}

#[test]
fn is_fs_nr_open_raised_before_a_limit_of_descriptors_beyond_it() {
    let commands = |connections: u64| {
        let verdict = judge(&Plan { connections: Some(connections), ..plan() }, &readings(|_| {}));
        let commands = verdict.limits.into_iter().flat_map(|limit| limit.remedies);
        let commands = commands.filter_map(|remedy| match remedy {
            Remedy::Run(command) if command.contains("open") || command.contains("nofile") => {
                Some(command)
            }
            _ => None,
        });
        commands.collect::<Vec<_>>()
    };
    let prlimit = "sudo prlimit --pid $$ --nofile=2000064:2000064";
    let sysctl = "sudo sysctl -w fs.nr_open=2000064";
    // The last is that of fs.nr_open itself.
    assert_eq!(commands(2_000_000), [sysctl, prlimit, sysctl]);
    let most = (1 << 20) - 64;
    assert_eq!(commands(most), ["sudo prlimit --pid $$ --nofile=1048576:1048576"]);
}
