//! [`ListenOptions`]: how to listen.

/// How to listen.
///
/// ```
/// use myriapod_sys::ListenOptions;
///
/// let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
/// assert!(options.reuse_address && options.nodelay);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// How many connections may wait to be accepted. Default: the system's maximum, to which the
    /// kernel cuts any larger number (`net.core.somaxconn`, `kern.ipc.somaxconn`).
    pub backlog: u32,
    /// `SO_REUSEADDR`: bind although connections of an earlier listener linger. Default: on.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`: several listeners share the port; on Linux the kernel spreads connections
    /// over them. Default: off.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY`: whether an IPv6 listener refuses IPv4. Default, `None`: as the system has it.
    pub v6_only: Option<bool>,
    /// `TCP_NODELAY`: send small messages at once. It is set on the listener, and Linux and the
    /// BSDs hand it down to accepted sockets; elsewhere call [`set_nodelay`](crate::set_nodelay)
    /// on those. Default: on.
    pub nodelay: bool,
    /// `SO_RCVBUF`: bytes that the kernel may hold for each accepted connection until they are read.
    /// Smaller ones bound its memory, and the throughput over long distances. Default, `None`: the
    /// kernel tunes it.
    pub receive_buffer: Option<usize>,
    /// `SO_SNDBUF`: bytes that it may hold until the peer has acknowledged them. Default, `None`: the
    /// kernel tunes it.
    pub send_buffer: Option<usize>,
    /// `TCP_NOTSENT_LOWAT`: bytes that it may hold before it has sent them, which a peer that does
    /// not read makes as many as the tuned send buffer takes, some megabytes. It costs no
    /// throughput, since what is on its way counts apart. Linux and Apple's systems; others ignore
    /// it. Default: 256 KiB; `None` for no bound.
    pub max_unsent: Option<u32>,
    /// Remove the file of a Unix socket that nobody answers on, rather than fail. Only a file that
    /// is a socket is ever removed. Default: on.
    pub remove_stale_unix: bool,
    /// Permissions of the file of a Unix socket, such as `0o660`: to connect, a program needs the
    /// right to write. Only the lowest nine bits count. Nobody can connect with wider permissions,
    /// not even for a moment. Default, `None`: all that the process's umask allows.
    pub unix_mode: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: i32::MAX.unsigned_abs(),
            reuse_address: true,
            reuse_port: false,
            v6_only: None,
            nodelay: true,
            receive_buffer: None,
            send_buffer: None,
            max_unsent: Some(256 << 10),
            remove_stale_unix: true,
            unix_mode: None,
        }
    }
}
