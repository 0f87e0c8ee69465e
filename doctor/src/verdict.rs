//! From readings to a verdict: how many connections each limit allows, which bites first, and what
//! lifts it. Nothing here asks the system anything.

use myriapod::sys::Backend;
use myriapod::{
    EventLoop, Handler, HandlerResult, Message, Reply, ServerBuilder, SocketAddr, View,
};
use myriapod_machine::{CgroupMemory, Machine};
use serde::Serialize;

use myriapod_machine::figures::{bytes, grouped};

/// What a connection that is at rest costs one end in kernel memory, in bytes: its socket, inode,
/// file, directory entry and epoll item. Measured on Linux 6.18; see "What doctor counts with" in
/// docs/doctor.md.
pub(crate) const KERNEL_BYTES: u64 = 4_000;

/// The part of it that a control group of version 1 counts at a server's end: the socket itself is
/// made before anybody has accepted it, and counted to nobody.
pub(crate) const KERNEL_BYTES_ACCEPTED_V1: u64 = 1_700;

/// What it costs in user memory, by our own account.
const USER_BYTES: u64 = EventLoop::<Nothing>::BYTES_PER_CONNECTION as u64;

/// A handler that keeps nothing of a connection, as the services of `serve`.
struct Nothing;

impl Handler for Nothing {
    type State = ();

    fn on_open(&mut self, _: &mut View<'_>, _: &SocketAddr) {}

    fn on_message(&mut self, (): &mut (), _: Message<'_>, _: &mut Reply<'_>) -> HandlerResult {
        Ok(())
    }
}

/// Descriptors of `bench` that are no connections.
const CLIENT_DESCRIPTORS: u64 = 64;

/// What commands lift a limit to where nothing is asked for.
const GOAL: u64 = 1_000_000;

/// Which ends of the connections are on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Those that accept.
    Server,
    /// Those that connect.
    Client,
    /// Both, in processes of their own.
    Both,
}

impl Side {
    fn connects(self) -> bool {
        self != Self::Server
    }

    fn accepts(self) -> bool {
        self != Self::Client
    }

    fn ends(self) -> u64 {
        if self == Self::Both { 2 } else { 1 }
    }
}

/// What somebody is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which ends of the connections are here.
    pub side: Side,
    /// Connections at once, where a number is asked for.
    pub connections: Option<u64>,
    /// How many processes each end here is divided among; at least 1.
    pub processes: u64,
    /// Event loops of a server process; at least 1.
    pub threads: usize,
    /// What the event loops wait with.
    pub backend: Backend,
    /// Source addresses that clients connect from; at least 1.
    pub sources: u64,
    /// Ports that they connect to; at least 1.
    pub ports: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            side: Side::Server,
            connections: None,
            processes: 1,
            threads: 1,
            backend: Backend::native(),
            sources: 1,
            ports: 1,
        }
    }
}

/// What the system tells.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Readings {
    pub(crate) machine: Machine,
    /// Descriptors that a process of ours may hold, once it has raised its limit as far as it may.
    pub(crate) descriptors: Option<u64>,
}

/// What a limit is the limit of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Process,
    Machine,
    User,
    ControlGroup,
    /// One source address and one destination address and port.
    Route,
}

/// What can be done about a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// A command for a shell.
    Run(String),
    /// Something else.
    Do(String),
}

/// One of the things that bound how many connections there can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// By the system's own name.
    pub name: String,
    /// How many connections it allows; `None` where it sets no bound.
    pub allows: Option<u64>,
    /// Whether that is an estimate.
    pub estimated: bool,
    pub scope: Scope,
    /// What was read.
    pub reading: String,
    /// Why it allows no more, as it stands in a sentence.
    pub because: String,
    /// What lifts it, where it has to be lifted.
    pub remedies: Vec<Remedy>,
}

/// Something that bounds no number of connections, and is worth knowing all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub name: String,
    pub reading: String,
    pub says: String,
    pub remedy: Option<Remedy>,
}

/// What will be reached, and what stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Which ends of the connections are here.
    pub side: Side,
    /// How many processes each end here is divided among.
    pub processes: u64,
    /// Connections that are asked for.
    pub asked: Option<u64>,
    /// Connections that can be had; `None` where no limit is known.
    pub ceiling: Option<u64>,
    /// All limits, in the order in which they bite.
    pub limits: Vec<Limit>,
    /// What is no limit and should be known.
    pub notes: Vec<Note>,
    /// Readings that this system does not give.
    pub unknown: Vec<&'static str>,
}

/// Judges.
pub(crate) fn judge(plan: &Plan, readings: &Readings) -> Verdict {
    let judge = Judge { plan, machine: &readings.machine, descriptors: readings.descriptors };
    let mut unknown = Vec::new();
    let mut limits = Vec::new();
    let mut take = |name, limit: Option<Limit>| match limit {
        Some(limit) => limits.push(limit),
        None => unknown.push(name),
    };
    // Of two that allow the same, the one that stands first here is named.
    take("fs.nr_open", judge.nr_open());
    take("RLIMIT_NOFILE", judge.descriptor_limit());
    take("fs.file-max", judge.files());
    take("memory", judge.memory());
    if plan.backend == Backend::Epoll {
        take("fs.epoll.max_user_watches", judge.watches());
    }
    if plan.side.connects() {
        take("net.ipv4.ip_local_port_range", judge.ports());
    }
    limits.extend(judge.machine.memory_cgroups.iter().map(|group| judge.memory_group(group)));
    limits.extend(judge.select());
    limits.extend(judge.conntrack());
    limits.extend(judge.overcommit());
    limits.sort_by_key(|limit| limit.allows.unwrap_or(u64::MAX));
    let ceiling = limits.first().and_then(|limit| limit.allows);
    let goal = judge.goal(ceiling);
    for (nth, limit) in limits.iter_mut().enumerate() {
        // The first is worth lifting in any case; the others, where they do not suffice.
        let enough = limit.allows.is_none_or(|allows| allows >= goal);
        let first = nth == 0 && plan.connections.is_none();
        if enough && !first {
            limit.remedies.clear();
        }
    }
    Verdict {
        side: plan.side,
        processes: plan.processes,
        asked: plan.connections,
        ceiling,
        limits,
        notes: judge.notes(),
        unknown,
    }
}

struct Judge<'a> {
    plan: &'a Plan,
    machine: &'a Machine,
    descriptors: Option<u64>,
}

impl Judge<'_> {
    /// How many connections the remedies are for.
    fn goal(&self, ceiling: Option<u64>) -> u64 {
        match (self.plan.connections, ceiling) {
            (Some(asked), _) => asked,
            (None, Some(ceiling)) if ceiling >= GOAL => ceiling.saturating_mul(2),
            (None, _) => GOAL,
        }
    }

    /// How many descriptors one process needs for its part of as many connections.
    fn descriptors_for(&self, connections: u64) -> u64 {
        connections.div_ceil(self.plan.processes).saturating_add(self.reserved())
    }

    /// Descriptors of one process that are no connections.
    fn reserved(&self) -> u64 {
        let server = ServerBuilder::reserved_descriptors(self.plan.threads);
        if self.plan.side.accepts() { server.max(CLIENT_DESCRIPTORS) } else { CLIENT_DESCRIPTORS }
    }

    fn connections_of(&self, descriptors: u64) -> u64 {
        descriptors.saturating_sub(self.reserved()).max(1).saturating_mul(self.plan.processes)
    }

    fn run(&self, command: impl std::fmt::Display) -> Remedy {
        let root = self.machine.privileges.is_none_or(|privileges| privileges.root);
        Remedy::Run(if root { command.to_string() } else { format!("sudo {command}") })
    }

    fn set(&self, name: &str, value: impl std::fmt::Display) -> Remedy {
        self.run(format_args!("sysctl -w {name}={value}"))
    }

    fn nr_open(&self) -> Option<Limit> {
        let nr_open = self.machine.nr_open?;
        let allows = self.connections_of(nr_open);
        let need = self.descriptors_for(self.goal(Some(allows)));
        Some(Limit {
            name: "fs.nr_open".to_owned(),
            allows: Some(allows),
            estimated: false,
            scope: Scope::Process,
            reading: format!("{} descriptors in a process", grouped(nr_open)),
            because: format!(
                "fs.nr_open lets no process have more than {} descriptors, of which {} are kept \
                 for everything else",
                grouped(nr_open),
                self.reserved()
            ),
            remedies: vec![self.set("fs.nr_open", need)],
        })
    }

    fn descriptor_limit(&self) -> Option<Limit> {
        let now = self.machine.descriptors?;
        let descriptors = self.descriptors.unwrap_or(now.soft);
        let allows = self.connections_of(descriptors);
        let privileges = self.machine.privileges;
        let may_raise = privileges.is_some_and(|privileges| privileges.resource);
        let at_top = self.machine.nr_open.is_some_and(|nr_open| descriptors >= nr_open);
        let need = self.descriptors_for(self.goal(Some(allows)));
        let limits = match now.hard {
            u64::MAX => format!("{} soft, hard without limit", grouped(now.soft)),
            hard => format!("{} soft, {} hard", grouped(now.soft), grouped(hard)),
        };
        let reading = if descriptors > now.soft {
            format!("{limits}; raised to {} by ourselves", grouped(descriptors))
        } else {
            limits
        };
        let because = format!(
            "RLIMIT_NOFILE is {}, of which {} are kept for everything else, {}",
            grouped(descriptors),
            self.reserved(),
            match privileges {
                _ if at_top => "and fs.nr_open lets it be no higher",
                Some(privileges) if privileges.root => {
                    "and root may not raise it here (no CAP_SYS_RESOURCE)"
                }
                _ => "and this user may not raise it",
            }
        );
        let mut remedies = Vec::new();
        // Nobody may raise a limit of descriptors beyond it, see setrlimit(2).
        if at_top || self.machine.nr_open.is_some_and(|nr_open| need > nr_open) {
            remedies.push(self.set("fs.nr_open", need));
        }
        if may_raise {
            // We raise it ourselves.
        } else if privileges.is_some_and(|privileges| privileges.root) {
            remedies.push(Remedy::Do(format!(
                "the container or service has to be started with it allowed: \
                 docker run --ulimit nofile={need}:{need}, or LimitNOFILE={need} in a systemd unit"
            )));
        } else {
            remedies.push(Remedy::Run(format!("sudo prlimit --pid $$ --nofile={need}:{need}")));
        }
        let each = descriptors.saturating_sub(self.reserved()).max(1);
        let processes = self.goal(Some(allows)).div_ceil(each);
        remedies.push(Remedy::Do(match self.plan.side {
            Side::Server => {
                format!("or {} servers, each on a port of its own", grouped(processes))
            }
            Side::Client => format!("or bench --processes {processes}"),
            Side::Both => format!(
                "or {} servers, each on a port of its own, and bench --processes {processes}",
                grouped(processes)
            ),
        }));
        Some(Limit {
            name: "RLIMIT_NOFILE".to_owned(),
            allows: Some(allows),
            estimated: false,
            scope: Scope::Process,
            reading,
            because,
            remedies,
        })
    }

    /// `select` watches small descriptors only.
    fn select(&self) -> Option<Limit> {
        if self.plan.backend != Backend::Select {
            return None;
        }
        let most = myriapod::sys::select::DESCRIPTORS as u64;
        Some(Limit {
            name: "FD_SETSIZE".to_owned(),
            allows: Some(self.connections_of(most)),
            estimated: false,
            scope: Scope::Process,
            reading: format!("select watches descriptors below {}", grouped(most)),
            because: format!("select cannot watch descriptors from {} on", grouped(most)),
            remedies: vec![Remedy::Do("choose another --backend".to_owned())],
        })
    }

    fn files(&self) -> Option<Limit> {
        let files = self.machine.files?;
        let ends = self.plan.side.ends();
        let exempt = self.machine.privileges.is_some_and(|privileges| privileges.admin);
        let left = files.max.saturating_sub(files.open);
        let allows = left / ends;
        let goal = self.goal(Some(allows));
        let need = goal.saturating_mul(ends).saturating_add(files.open + 1_000);
        let exemption = if exempt { "; CAP_SYS_ADMIN exempts from it" } else { "" };
        Some(Limit {
            name: "fs.file-max".to_owned(),
            allows: if exempt { None } else { Some(allows) },
            estimated: false,
            scope: Scope::Machine,
            reading: format!(
                "{} files on the machine, {} open{exemption}",
                grouped(files.max),
                grouped(files.open)
            ),
            because: format!(
                "fs.file-max lets the whole machine have {} files, of which {} are open",
                grouped(files.max),
                grouped(files.open)
            ),
            remedies: vec![self.set("fs.file-max", need)],
        })
    }

    fn watches(&self) -> Option<Limit> {
        let watches = self.machine.epoll_watches?;
        // Both ends watch theirs, and share the user's allowance.
        let allows = watches / self.plan.side.ends();
        let need = self.goal(Some(allows)).saturating_mul(self.plan.side.ends()) + 1_000;
        Some(Limit {
            name: "fs.epoll.max_user_watches".to_owned(),
            allows: Some(allows),
            estimated: false,
            scope: Scope::User,
            reading: format!("{} descriptors watched by one user's processes", grouped(watches)),
            because: format!(
                "fs.epoll.max_user_watches lets one user's processes watch {} descriptors",
                grouped(watches)
            ),
            remedies: vec![self.set("fs.epoll.max_user_watches", need)],
        })
    }

    fn ports(&self) -> Option<Limit> {
        let ports = self.machine.local_ports?;
        let routes = self.plan.sources.saturating_mul(self.plan.ports);
        let allows = ports.count().saturating_mul(routes);
        let goal = self.goal(Some(allows));
        let enough = goal.div_ceil(ports.count().max(1)).max(1);
        let mut remedies = Vec::new();
        let wide = "1024 65535";
        if ports.first > 1024 || ports.last < u16::MAX {
            let name = "net.ipv4.ip_local_port_range";
            remedies.push(self.run(format_args!("sysctl -w {name}=\"{wide}\"")));
        }
        remedies.push(Remedy::Do(format!(
            "or {} source addresses (bench --source), or as many target ports (bench --ports)",
            grouped(enough)
        )));
        Some(Limit {
            name: "net.ipv4.ip_local_port_range".to_owned(),
            allows: Some(allows),
            estimated: false,
            scope: Scope::Route,
            reading: format!(
                "{} ports for each pair of source address and target port",
                grouped(ports.count())
            ),
            because: format!(
                "net.ipv4.ip_local_port_range gives a source address {} ports for each target \
                 port, and there {}",
                grouped(ports.count()),
                match routes {
                    1 => "is one such pair".to_owned(),
                    routes => format!("are {} such pairs", grouped(routes)),
                }
            ),
            remedies,
        })
    }

    /// Bytes of memory for one connection: `kernel` for each end that is here, and our own.
    fn bytes_each(&self, accepted: u64) -> u64 {
        let user = USER_BYTES * self.plan.side.ends();
        let accepted = if self.plan.side.accepts() { accepted } else { 0 };
        let connected = if self.plan.side.connects() { KERNEL_BYTES } else { 0 };
        user + accepted + connected
    }

    fn memory(&self) -> Option<Limit> {
        let memory = self.machine.memory?;
        let each = self.bytes_each(KERNEL_BYTES);
        let allows = memory.available / each;
        Some(Limit {
            name: "memory".to_owned(),
            allows: Some(allows),
            estimated: true,
            scope: Scope::Machine,
            reading: format!(
                "{} of {} available; a connection at rest takes about {} bytes",
                bytes(memory.available),
                bytes(memory.total),
                grouped(each)
            ),
            because: format!(
                "{} of memory are available, and a connection at rest takes about {} bytes of it",
                bytes(memory.available),
                grouped(each)
            ),
            remedies: vec![Remedy::Do(
                "more memory: most of this is the kernel's own, which is never swapped out"
                    .to_owned(),
            )],
        })
    }

    fn memory_group(&self, group: &CgroupMemory) -> Limit {
        let accepted = if group.version == 1 { KERNEL_BYTES_ACCEPTED_V1 } else { KERNEL_BYTES };
        let each = self.bytes_each(accepted);
        let available = group.available();
        let allows = available / each;
        let used = group.limit.saturating_sub(available);
        let need = self.goal(Some(allows)).saturating_mul(each).saturating_add(used);
        // To the next MiB, which the kernel would round down to a page.
        let need = need.div_ceil(1 << 20) << 20;
        let file = group.limit_file.display();
        let root = self.machine.privileges.is_none_or(|privileges| privileges.root);
        let command = if root {
            format!("echo {need} > {file}")
        } else {
            format!("echo {need} | sudo tee {file}")
        };
        Limit {
            name: group.limit_file.to_string_lossy().into_owned(),
            allows: Some(allows),
            estimated: true,
            scope: Scope::ControlGroup,
            reading: format!(
                "{} of {} available; a connection at rest takes about {} bytes of it",
                bytes(available),
                bytes(group.limit),
                grouped(each)
            ),
            because: format!(
                "the control group's memory ({file}) has {} left of {}, a connection at rest takes \
                 about {} bytes of it, and beyond that the kernel kills the process",
                bytes(available),
                bytes(group.limit),
                grouped(each)
            ),
            remedies: vec![Remedy::Run(command)],
        }
    }

    fn conntrack(&self) -> Option<Limit> {
        let conntrack = self.machine.conntrack?;
        let tracks = conntrack.count > 0;
        let allows = conntrack.max.saturating_sub(conntrack.count);
        let need = self.goal(Some(allows)).saturating_add(conntrack.count + 1_000);
        Some(Limit {
            name: "net.netfilter.nf_conntrack_max".to_owned(),
            allows: tracks.then_some(allows),
            estimated: false,
            scope: Scope::Machine,
            reading: if tracks {
                format!(
                    "{} connections tracked at most, {} are",
                    grouped(conntrack.max),
                    grouped(conntrack.count)
                )
            } else {
                format!(
                    "{} connections tracked at most; none is, so no rule asks for it",
                    grouped(conntrack.max)
                )
            },
            because: format!(
                "net.netfilter.nf_conntrack_max lets the packet filter track {} connections, of \
                 which {} are in use, and drops those beyond",
                grouped(conntrack.max),
                grouped(conntrack.count)
            ),
            remedies: vec![self.set("net.netfilter.nf_conntrack_max", need)],
        })
    }

    /// Where memory is not promised beyond a limit, our own part counts against it.
    fn overcommit(&self) -> Option<Limit> {
        let overcommit = self.machine.overcommit.filter(|overcommit| overcommit.mode == 2)?;
        let left = overcommit.limit.saturating_sub(overcommit.committed);
        Some(Limit {
            name: "vm.overcommit_memory".to_owned(),
            allows: Some(left / (USER_BYTES * self.plan.side.ends())),
            estimated: true,
            scope: Scope::Machine,
            reading: format!("2: {} left to be promised to programs", bytes(left)),
            because: format!(
                "vm.overcommit_memory is 2, and {} are left to be promised to programs",
                bytes(left)
            ),
            remedies: vec![self.set("vm.overcommit_memory", 0)],
        })
    }

    fn notes(&self) -> Vec<Note> {
        super::notes::notes(self.plan, self.machine, &|name, value| self.set(name, value))
    }
}
