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
        ("handshake", text) => return Some(of_handshake(text)?.to_owned()),
        ("decode", _) => "does the server speak this protocol? --service says which is meant",
        _ => return None,
    };
    Some(advice.to_owned())
}

/// The next step after a handshake of TLS that failed.
fn of_handshake(text: &str) -> Option<&'static str> {
    let has = |part: &str| text.contains(part);
    Some(if has("are no TLS record") {
        "the server does not speak TLS: leave out --tls, or start it with --tls-cert"
    } else if has("UnknownIssuer") {
        "--tls-ca FILE names the authority, --tls-pin HEX the certificate itself"
    } else if has("not valid for name") {
        "--tls-name NAME says which name the server's certificate must have"
    } else if has("expired") {
        "the server's certificate has expired: it needs a new one, or --tls-pin HEX names it"
    } else if has("ApplicationVerificationFailure") {
        "the certificate is not the pinned one: `serve --tls-self-signed` prints its SHA-256"
    } else if has("certificate_required") || has("CertificateRequired") {
        "the server asks for a certificate: --tls-cert FILE --tls-key FILE"
    } else if has("ETIMEDOUT") {
        "the server has too many handshakes to do: try fewer --connections or a slower --ramp"
    } else {
        return None;
    })
}
