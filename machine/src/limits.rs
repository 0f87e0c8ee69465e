//! What the machine and its settings allow a process: [`Machine`], read from `/proc` and `/sys`.

use std::fs;
use std::path::{Path, PathBuf};

use myriapod_sys::{DescriptorLimit, available_cpus, descriptor_limit};

use crate::cgroup::{CgroupMemory, memory_cgroups};
use crate::page_size;

/// What decides how many connections this machine holds, and how well it measures.
///
/// A field is `None`, or a list empty, where the system does not tell: all but the descriptors are
/// read from Linux's `/proc` and `/sys`. Bytes are bytes, also where the system counts pages.
///
/// ```
/// let machine = myriapod_machine::Machine::read();
/// if let Some(files) = machine.files {
///     println!("{} of {} files are open", files.open, files.max);
/// }
/// ```
///
/// Sources: `proc_sys_fs(5)`, `ip(7)`, `tcp(7)`, `listen(2)`, `epoll(7)`, `proc_meminfo(5)`,
/// `proc_stat(5)`, `cgroups(7)`, `capabilities(7)`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Machine {
    /// `RLIMIT_NOFILE` of this process.
    pub descriptors: Option<DescriptorLimit>,
    /// `fs.nr_open`: what `RLIMIT_NOFILE` can be raised to by anybody.
    pub nr_open: Option<u64>,
    /// What a process of the superuser may do here.
    pub privileges: Option<Privileges>,
    /// Open files of the whole machine.
    pub files: Option<OpenFiles>,
    /// `net.ipv4.ip_local_port_range`: the ports that outgoing connections are given.
    pub local_ports: Option<LocalPorts>,
    /// `net.core.somaxconn`: the longest backlog of a listener.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`: connections half-way through their handshake.
    pub tcp_max_syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_syncookies`: 0 never, 1 when that backlog is full, 2 always.
    pub tcp_syncookies: Option<u64>,
    /// Memory of all TCP buffers together.
    pub tcp_memory: Option<TcpMemory>,
    /// Memory of the machine.
    pub memory: Option<Memory>,
    /// The memory control groups of this process that have a limit, the innermost first.
    pub memory_cgroups: Vec<CgroupMemory>,
    /// The connections that the packet filter keeps track of; `None` also where it is not loaded.
    pub conntrack: Option<Conntrack>,
    /// `fs.epoll.max_user_watches`: descriptors that one user's processes may watch with epoll.
    pub epoll_watches: Option<u64>,
    /// How the system promises memory.
    pub overcommit: Option<Overcommit>,
    /// Processors that this process can use at once.
    pub cpus: usize,
    /// The name of the first processor's model.
    pub cpu_model: Option<String>,
    /// Name and release of the kernel, such as `Linux 6.1.0`.
    pub kernel: Option<String>,
    /// What the clock reads, such as `tsc`.
    pub clock_source: Option<String>,
    /// Processor time since the machine started.
    pub processor_time: Option<ProcessorTime>,
}

/// What this process may do that others may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Whether it runs as user 0.
    pub root: bool,
    /// `CAP_SYS_RESOURCE`, in the machine's own user namespace: raise a hard limit.
    pub resource: bool,
    /// `CAP_SYS_ADMIN` there: open files beyond `fs.file-max`.
    pub admin: bool,
}

/// `fs.file-max` and `fs.file-nr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// How many may be open.
    pub max: u64,
    /// How many are.
    pub open: u64,
}

/// `net.ipv4.ip_local_port_range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPorts {
    /// The first that is given.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// How many between them are kept back: `net.ipv4.ip_local_reserved_ports`.
    pub reserved: u16,
}

impl LocalPorts {
    /// How many there are: as many connections can one source address have to one destination.
    #[must_use]
    pub fn count(&self) -> u64 {
        let all = u64::from(self.last).saturating_sub(self.first.into()) + 1;
        all.saturating_sub(self.reserved.into())
    }
}

/// `net.ipv4.tcp_mem` and what is used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpMemory {
    /// Where buffers stop growing, in bytes.
    pub pressure: u64,
    /// What is never exceeded, in bytes.
    pub max: u64,
    /// What is used, in bytes.
    pub used: u64,
}

/// Memory of the machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that the kernel can use.
    pub total: u64,
    /// What can be had without swapping.
    pub available: u64,
}

/// `net.netfilter.nf_conntrack_max` and `nf_conntrack_count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// How many connections may be kept track of.
    pub max: u64,
    /// How many are; 0 where no rule asks for it.
    pub count: u64,
}

/// `vm.overcommit_memory`, and the limit that holds in its mode 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overcommit {
    /// 0 a guess, 1 always, 2 never beyond `limit`.
    pub mode: u64,
    /// Bytes that may be promised to programs in mode 2.
    pub limit: u64,
    /// Bytes that are promised.
    pub committed: u64,
}

/// Ticks of all processors together, from the first line of `/proc/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ProcessorTime {
    /// All, idle ones included.
    pub total: u64,
    /// Those that the host gave to others while this machine had something to do.
    pub stolen: u64,
}

impl ProcessorTime {
    /// Reads what has passed since the machine started; the difference of two such readings tells
    /// what happened between them. `None` where the system does not tell.
    #[must_use]
    pub fn read() -> Option<Self> {
        if cfg!(any(target_os = "linux", target_os = "android")) {
            Files { root: PathBuf::from("/") }.processor_time()
        } else {
            None
        }
    }

    /// What passed since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }

    /// The share that was stolen, from 0 to 1.
    #[must_use]
    pub fn stolen_share(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
        let share = self.stolen as f64 / self.total.max(1) as f64;
        share
    }
}

impl Machine {
    /// Reads all of it, some twenty small files.
    #[must_use]
    pub fn read() -> Self {
        let here = if cfg!(any(target_os = "linux", target_os = "android")) {
            Files { root: PathBuf::from("/") }.machine()
        } else {
            Self { kernel: Some(std::env::consts::OS.to_owned()), ..Self::default() }
        };
        Self { descriptors: descriptor_limit().ok(), cpus: available_cpus(), ..here }
    }
}

/// The files of `/proc` and `/sys`, below another root in tests.
pub(crate) struct Files {
    pub(crate) root: PathBuf,
}

impl Files {
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        fs::read_to_string(self.root.join(path.strip_prefix("/").unwrap_or(path))).ok()
    }

    /// The first number of a file.
    pub(crate) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        numbers(&self.text(path)?).first().copied()
    }

    /// The number behind a key, in a file of lines such as `key value` or `key: value kB`.
    pub(crate) fn value(&self, path: impl AsRef<Path>, key: &str) -> Option<u64> {
        value(&self.text(path)?, key)
    }

    fn machine(&self) -> Machine {
        let sysctl = |name: &str| self.number(Path::new("/proc/sys").join(name));
        Machine {
            descriptors: None,
            nr_open: sysctl("fs/nr_open"),
            privileges: self.privileges(),
            files: self.open_files(),
            local_ports: self.local_ports(),
            somaxconn: sysctl("net/core/somaxconn"),
            tcp_max_syn_backlog: sysctl("net/ipv4/tcp_max_syn_backlog"),
            tcp_syncookies: sysctl("net/ipv4/tcp_syncookies"),
            tcp_memory: self.tcp_memory(page_size()),
            memory: self.memory(),
            memory_cgroups: memory_cgroups(self),
            conntrack: self.conntrack(),
            epoll_watches: sysctl("fs/epoll/max_user_watches"),
            overcommit: self.overcommit(),
            cpus: 0,
            cpu_model: self.cpu_model(),
            kernel: self.kernel(),
            clock_source: self
                .text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .map(|name| name.trim().to_owned()),
            processor_time: self.processor_time(),
        }
    }

    fn privileges(&self) -> Option<Privileges> {
        const CAP_SYS_ADMIN: u32 = 21;
        const CAP_SYS_RESOURCE: u32 = 24;
        let status = self.text("/proc/self/status")?;
        let line = |key| status.lines().find_map(|line| line.strip_prefix(key));
        let effective = u64::from_str_radix(line("CapEff:")?.trim(), 16).ok()?;
        let user = numbers(line("Uid:")?).get(1).copied()?;
        // In a user namespace of its own, a process has capabilities that the machine's limits do
        // not know of. The machine's own namespace maps all users to themselves.
        let map = numbers(&self.text("/proc/self/uid_map")?);
        let own = map == [0, 0, u64::from(u32::MAX)];
        let may = |capability: u32| own && effective & (1 << capability) != 0;
        Some(Privileges {
            root: user == 0,
            resource: may(CAP_SYS_RESOURCE),
            admin: may(CAP_SYS_ADMIN),
        })
    }

    fn open_files(&self) -> Option<OpenFiles> {
        match numbers(&self.text("/proc/sys/fs/file-nr")?)[..] {
            [open, _, max] => Some(OpenFiles { max, open }),
            _ => None,
        }
    }

    fn local_ports(&self) -> Option<LocalPorts> {
        let range = numbers(&self.text("/proc/sys/net/ipv4/ip_local_port_range")?);
        let [first, last] = range[..] else { return None };
        let reserved = self.text("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
        // Ranges such as `8080,9000-9010`, ascending and not overlapping.
        let inside = reserved.trim().split(',').filter_map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let (from, to) = (from.parse::<u64>().ok()?.max(first), to.parse::<u64>().ok()?);
            (to.min(last) + 1).checked_sub(from)
        });
        Some(LocalPorts {
            first: first.try_into().ok()?,
            last: last.try_into().ok()?,
            reserved: inside.sum::<u64>().try_into().ok()?,
        })
    }

    fn tcp_memory(&self, page: u64) -> Option<TcpMemory> {
        let limits = numbers(&self.text("/proc/sys/net/ipv4/tcp_mem")?);
        let [_, pressure, max] = limits[..] else { return None };
        let sockets = self.text("/proc/net/sockstat").unwrap_or_default();
        let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
        let mut words = tcp.split_ascii_whitespace().skip_while(|&word| word != "mem");
        let used = words.nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0_u64);
        let bytes = |pages: u64| pages.saturating_mul(page);
        Some(TcpMemory { pressure: bytes(pressure), max: bytes(max), used: bytes(used) })
    }

    fn memory(&self) -> Option<Memory> {
        let text = self.text("/proc/meminfo")?;
        let bytes = |key| value(&text, key).map(|kib| kib.saturating_mul(1024));
        Some(Memory { total: bytes("MemTotal")?, available: bytes("MemAvailable")? })
    }

    fn conntrack(&self) -> Option<Conntrack> {
        let read = |name| self.number(Path::new("/proc/sys/net/netfilter").join(name));
        Some(Conntrack { max: read("nf_conntrack_max")?, count: read("nf_conntrack_count")? })
    }

    fn overcommit(&self) -> Option<Overcommit> {
        let bytes = |key| Some(self.value("/proc/meminfo", key)?.saturating_mul(1024));
        Some(Overcommit {
            mode: self.number("/proc/sys/vm/overcommit_memory")?,
            limit: bytes("CommitLimit")?,
            committed: bytes("Committed_AS")?,
        })
    }

    fn cpu_model(&self) -> Option<String> {
        let text = self.text("/proc/cpuinfo")?;
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }

    fn kernel(&self) -> Option<String> {
        let read = |name| self.text(Path::new("/proc/sys/kernel").join(name));
        Some(format!("{} {}", read("ostype")?.trim(), read("osrelease")?.trim()))
    }

    fn processor_time(&self) -> Option<ProcessorTime> {
        let text = self.text("/proc/stat")?;
        let ticks = numbers(text.lines().next()?.strip_prefix("cpu ")?);
        // user nice system idle iowait irq softirq steal; guests are in the first two already.
        let stolen = *ticks.get(7)?;
        Some(ProcessorTime { total: ticks.iter().take(8).sum(), stolen })
    }
}

/// The leading numbers of a text.
fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect()
}

fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        // Not a longer key that begins the same.
        rest.starts_with(char::is_whitespace).then(|| numbers(rest).first().copied())?
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by it")]

    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A machine of files in a folder of its own.
    pub(crate) struct MadeUp(pub(crate) Files);

    impl MadeUp {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("myriapod-machine-{}-{number}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for (path, text) in files {
                let path = root.join(path.trim_start_matches('/'));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(Files { root })
        }
    }

    impl Drop for MadeUp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.root);
        }
    }

    #[test]
    fn is_each_file_read_as_the_kernel_writes_it() {
        let made_up = MadeUp::new(&[
            ("/proc/sys/fs/nr_open", "1048576\n"),
            ("/proc/sys/fs/file-nr", "690\t0\t2466170\n"),
            ("/proc/sys/fs/epoll/max_user_watches", "5491511\n"),
            ("/proc/sys/net/core/somaxconn", "4096\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("/proc/sys/net/ipv4/ip_local_reserved_ports", "80,32760-32769,40000,60999-61005\n"),
            ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "2048\n"),
            ("/proc/sys/net/ipv4/tcp_mem", "287898\t383867\t575796\n"),
            ("/proc/net/sockstat", "sockets: used 16\nTCP: inuse 1 orphan 0 tw 1 alloc 1 mem 40\n"),
            ("/proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
            ("/proc/sys/net/netfilter/nf_conntrack_count", "7\n"),
            ("/proc/sys/vm/overcommit_memory", "2\n"),
            (
                "/proc/meminfo",
                "MemTotal:       24684084 kB\nMemFree:         4953292 kB\n\
                 MemAvailable:   23535252 kB\nCommitLimit:    12342040 kB\nCommitted_AS:     1000 kB\n",
            ),
            ("/proc/self/status", "Name:\tx\nUid:\t0\t1000\t0\t0\nCapEff:\t000001fffeffffff\n"),
            ("/proc/self/uid_map", "         0          0 4294967295\n"),
            ("/proc/stat", "cpu  26 1 16 78 15 0 10 102 5 0\ncpu0 1 2 3\n"),
            ("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some Processor @ 2GHz\n"),
            ("/proc/sys/kernel/ostype", "Linux\n"),
            ("/proc/sys/kernel/osrelease", "6.1.0\n"),
            ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ]);
        let expected = Machine {
            nr_open: Some(1_048_576),
            privileges: Some(Privileges { root: false, resource: false, admin: true }),
            files: Some(OpenFiles { max: 2_466_170, open: 690 }),
            local_ports: Some(LocalPorts { first: 32768, last: 60999, reserved: 4 }),
            somaxconn: Some(4096),
            tcp_max_syn_backlog: Some(2048),
            tcp_memory: Some(TcpMemory {
                pressure: 383_867 * 4096,
                max: 575_796 * 4096,
                used: 40 * 4096,
            }),
            memory: Some(Memory { total: 24_684_084 << 10, available: 23_535_252 << 10 }),
            conntrack: Some(Conntrack { max: 262_144, count: 7 }),
            epoll_watches: Some(5_491_511),
            overcommit: Some(Overcommit {
                mode: 2,
                limit: 12_342_040 << 10,
                committed: 1000 << 10,
            }),
            cpu_model: Some("Some Processor @ 2GHz".to_owned()),
            kernel: Some("Linux 6.1.0".to_owned()),
            clock_source: Some("tsc".to_owned()),
            processor_time: Some(ProcessorTime { total: 248, stolen: 102 }),
            ..Machine::default()
        };
        if page_size() == 4096 {
            assert_eq!(made_up.0.machine(), expected);
        }
        assert_eq!(made_up.0.local_ports().unwrap().count(), 28_232 - 4);
    }

    #[test]
    fn is_nothing_made_up_where_the_system_does_not_tell() {
        let nothing = MadeUp::new(&[]);
        assert_eq!(nothing.0.machine(), Machine::default());
        let odd = MadeUp::new(&[
            ("/proc/sys/fs/nr_open", "many\n"),
            ("/proc/sys/fs/file-nr", "1 2\n"),
            ("/proc/stat", "cpu  1 2 3\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "70000 80000\n"),
            ("/proc/self/status", "CapEff:\tzz\n"),
        ]);
        assert_eq!(odd.0.machine(), Machine::default());
    }

    #[test]
    fn does_a_capability_of_another_namespace_count_for_nothing() {
        let status = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n";
        for (map, may) in [("0 0 4294967295\n", true), ("0 100000 65536\n", false)] {
            let made_up =
                MadeUp::new(&[("/proc/self/status", status), ("/proc/self/uid_map", map)]);
            let expected = Privileges { root: true, resource: may, admin: may };
            assert_eq!(made_up.0.privileges(), Some(expected));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn is_this_machine_read_whole() {
        let machine = Machine::read();
        let descriptors = machine.descriptors.unwrap();
        assert!(descriptors.hard <= machine.nr_open.unwrap() || descriptors.hard == u64::MAX);
        let memory = machine.memory.unwrap();
        assert!(memory.available <= memory.total && memory.total > 1 << 20);
        let files = machine.files.unwrap();
        assert!(files.open > 0 && files.open <= files.max);
        assert!(machine.processor_time.unwrap().total > 0);
        assert!(machine.cpus >= 1 && machine.kernel.unwrap().starts_with("Linux "));
        assert!(machine.privileges.is_some() && machine.overcommit.is_some());
        // Container runtimes may hide these, and then they are unknown.
        println!("{:?} {:?}", machine.epoll_watches, machine.local_ports);
    }
}
