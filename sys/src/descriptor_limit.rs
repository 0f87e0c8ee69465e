//! [`DescriptorLimit`]: how many descriptors a process may hold.

/// How many descriptors this process may hold: `RLIMIT_NOFILE`, one more than the largest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What holds now.
    pub soft: u64,
    /// What an unprivileged process may raise it to.
    pub hard: u64,
}
