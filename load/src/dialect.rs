//! Which protocol a server speaks that is not the one it was asked in, by its first bytes.

/// How the servers of well-known protocols begin. Sources: RFC 4253, 9112, 5321, 959, 9051, 1939,
/// 8446, 6143; the protocols of Redis (RESP) and AMQP 0-9-1.
const BEGINNINGS: [(&[u8], &str); 15] = [
    (b"SSH-", "SSH"),
    (b"HTTP/", "HTTP"),
    (b"<!DOCTYPE", "HTTP"),
    (b"<html", "HTTP"),
    (b"-ERR", "Redis"),
    (b"-NOAUTH", "Redis"),
    (b"-DENIED", "Redis"),
    (b"+PONG", "Redis"),
    (b"220 ", "SMTP or FTP"),
    (b"220-", "SMTP or FTP"),
    (b"* OK", "IMAP"),
    (b"+OK", "POP3 or Redis"),
    (b"RFB 0", "VNC"),
    (b"AMQP", "AMQP"),
    // A record of TLS 1.0 or later: an alert, since it was sent no handshake.
    (b"\x15\x03", "TLS"),
];

/// The protocol, where it is known.
pub(crate) fn of(first: &[u8]) -> Option<&'static str> {
    if let [_, _, 0, 0, 10, ..] = first {
        // A packet with number 0 whose first byte is the version of the handshake.
        return Some("MySQL");
    }
    let known = |beginning: &[u8]| first.starts_with(beginning);
    BEGINNINGS.iter().find(|(beginning, _)| known(beginning)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_well_known_servers_told_by_their_first_bytes() {
        for (first, name) in [
            (&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], Some("SSH")),
            (b"HTTP/1.1 400 Bad Request\r\n", Some("HTTP")),
            (b"-ERR unknown command\r\n", Some("Redis")),
            (b"220 mail.example ESMTP\r\n", Some("SMTP or FTP")),
            (b"\x15\x03\x03\0\x02\x02\x16", Some("TLS")),
            (b"\x4a\0\0\0\x0a8.0.36\0", Some("MySQL")),
            (b"\0\x67{\"byteorder\"", None),
            (b"S", None),
            (b"", None),
        ] {
            assert_eq!(of(first), name, "{}", first.escape_ascii());
        }
    }
}
