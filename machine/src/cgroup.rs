//! Control groups: how much memory the groups of this process may use.

use std::path::{Path, PathBuf};

use crate::limits::Files;

/// A memory control group that has a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMemory {
    /// The file that holds the limit, such as `/sys/fs/cgroup/app.slice/memory.max`.
    pub limit_file: PathBuf,
    /// 1 or 2.
    pub version: u8,
    /// What its processes may use together, in bytes.
    pub limit: u64,
    /// What they use, in bytes.
    pub used: u64,
    /// The part of it that is given back when memory is short: cached files, in bytes.
    pub reclaimable: u64,
}

impl CgroupMemory {
    /// Bytes that can still be had.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used.saturating_sub(self.reclaimable))
    }
}

/// The names of the files of one version.
struct Version {
    number: u8,
    limit: &'static str,
    used: &'static str,
    /// Keys of `memory.stat`, with the groups below included.
    cached: [&'static str; 2],
}

const VERSIONS: [Version; 2] = [
    Version {
        number: 1,
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        cached: ["total_inactive_file", "total_active_file"],
    },
    Version {
        number: 2,
        limit: "memory.max",
        used: "memory.current",
        cached: ["inactive_file", "active_file"],
    },
];

/// Version 1 writes the largest multiple of a page for "no limit".
const UNLIMITED: u64 = 1 << 62;

/// Those of this process that have a limit, from the innermost to the outermost that is visible.
pub(crate) fn memory_cgroups(files: &Files) -> Vec<CgroupMemory> {
    let groups = files.text("/proc/self/cgroup").unwrap_or_default();
    let mounts = files.text("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for version in &VERSIONS {
        let Some((top, mut group)) = group_folder(&groups, &mounts, version.number) else {
            continue;
        };
        loop {
            found.extend(read_group(files, &group, version));
            if group == top || !group.pop() {
                break;
            }
        }
    }
    found
}

/// Where the hierarchy of memory groups is mounted, and this process' own group in it.
fn group_folder(groups: &str, mounts: &str, version: u8) -> Option<(PathBuf, PathBuf)> {
    // `4:memory:/path` or `0::/path`
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let ours = match version {
            1 => controllers.split(',').any(|controller| controller == "memory"),
            _ => controllers.is_empty(),
        };
        if ours { fields.next() } else { None }
    })?;
    // `31 23 0:28 ROOT MOUNTED_AT OPTIONS ... - TYPE SOURCE SUPER_OPTIONS`
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let ours = match (kind.next()?, version) {
            ("cgroup", 1) => kind.nth(1)?.split(',').any(|option| option == "memory"),
            ("cgroup2", 2) => true,
            _ => false,
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (Path::new(fields.next()?), PathBuf::from(fields.next()?));
        // Where a container sees only its own part of the tree, that part is all there is.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let hidden = below.components().any(|part| part.as_os_str() == "..");
        let group = if hidden { at.clone() } else { at.join(below) };
        ours.then_some((at, group))
    })
}

fn read_group(files: &Files, group: &Path, version: &Version) -> Option<CgroupMemory> {
    let limit_file = group.join(version.limit);
    // `max` is no number.
    let limit = files.number(&limit_file).filter(|&limit| limit < UNLIMITED)?;
    let used = files.number(group.join(version.used))?;
    let stat = group.join("memory.stat");
    let reclaimable = version.cached.iter().filter_map(|key| files.value(&stat, key)).sum();
    Some(CgroupMemory { limit_file, version: version.number, limit, used, reclaimable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::MadeUp;

    #[test]
    fn are_the_limits_of_all_groups_around_this_process_read() {
        let made_up = MadeUp::new(&[
            ("/proc/self/cgroup", "0::/app.slice/server.service\n"),
            (
                "/proc/self/mountinfo",
                "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
            ),
            ("/sys/fs/cgroup/app.slice/server.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/app.slice/server.service/memory.current", "1000\n"),
            ("/sys/fs/cgroup/app.slice/memory.max", "8388608\n"),
            ("/sys/fs/cgroup/app.slice/memory.current", "8000000\n"),
            (
                "/sys/fs/cgroup/app.slice/memory.stat",
                "anon 5\ninactive_file 1000\nactive_file 200\n",
            ),
            ("/sys/fs/cgroup/cgroup.procs", ""),
        ]);
        let expected = CgroupMemory {
            limit_file: PathBuf::from("/sys/fs/cgroup/app.slice/memory.max"),
            version: 2,
            limit: 8_388_608,
            used: 8_000_000,
            reclaimable: 1200,
        };
        assert_eq!(expected.available(), 8_388_608 - 8_000_000 + 1200);
        assert_eq!(memory_cgroups(&made_up.0), [expected]);
    }

    #[test]
    fn is_version_1_read_beside_a_version_2_that_has_no_memory() {
        let made_up = MadeUp::new(&[
            ("/proc/self/cgroup", "5:devices:/\n4:memory,hugetlb:/docker/abc\n0::/\n"),
            (
                "/proc/self/mountinfo",
                "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw\n",
            ),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "96000\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 100\n"),
        ]);
        let expected = CgroupMemory {
            limit_file: PathBuf::from("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
            version: 1,
            limit: 4_096_000,
            used: 96_000,
            reclaimable: 100,
        };
        assert_eq!(memory_cgroups(&made_up.0), [expected]);
    }

    #[test]
    fn is_no_limit_no_number() {
        let made_up = MadeUp::new(&[
            ("/proc/self/cgroup", "4:memory:/x\n0::/../..\n"),
            (
                "/proc/self/mountinfo",
                "35 31 0:32 / /m rw - cgroup cgroup rw,memory\n30 23 0:26 / /u rw - cgroup2 c rw\n",
            ),
            ("/m/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/m/x/memory.usage_in_bytes", "1\n"),
            ("/u/memory.max", "max\n"),
            ("/u/memory.current", "1\n"),
        ]);
        assert_eq!(memory_cgroups(&made_up.0), []);
    }
}
