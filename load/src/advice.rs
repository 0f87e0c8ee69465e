//! What a user can do about an error of a run.

/// The next step after an error, where one is known.
pub(crate) fn next_step(call: &str, errno: &str, short: bool) -> Option<String> {
    let advice = match (call, errno) {
        ("connect", "ECONNREFUSED") => "is the server running, and on this port?",
        ("connect", "ENOENT") => "is the server running, and at this path?",
        (_, "EMFILE") => {
            "this process holds as many descriptors as RLIMIT_NOFILE allows: raise it with \
             `ulimit -n`, or spread over --processes"
        }
        (_, "ENFILE") => "the machine holds as many files as fs.file-max allows: raise it",
        (_, "EADDRNOTAVAIL") => {
            "no port is free at the source: add addresses with --source, or ports of the server \
             with --ports; net.ipv4.ip_local_port_range says how many there are"
        }
        ("connect", "ETIMEDOUT") => {
            "the server takes connections too slowly, or its backlog is full: try a slower --ramp \
             (net.core.somaxconn bounds the backlog)"
        }
        ("connect", "EHOSTUNREACH" | "ENETUNREACH") => {
            "is the host up, and does a firewall let you pass?"
        }
        (_, "ENOMEM" | "ENOBUFS") => "the kernel has no memory left for sockets: net.ipv4.tcp_mem",
        ("recv", "EOF") if !short => {
            "the server closed: its idle timeout, its limit of connections, or one reply for each \
             connection (then try --short)"
        }
        ("recv" | "send", "ECONNRESET" | "EPIPE") if !short => {
            "the server closed or reset the connection: its log may say why; if it answers one \
             request for each connection, try --short"
        }
        ("recv" | "send", "ECONNRESET" | "EPIPE" | "EOF") => {
            "the server closed before it had answered: its log may say why"
        }
        ("decode", _) => "does the server speak this protocol? --service says which is meant",
        _ => return None,
    };
    Some(advice.to_owned())
}
