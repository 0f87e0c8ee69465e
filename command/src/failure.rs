//! [`Failure`]: why a command could not do its work, and what its user can do next.

use std::fmt;
use std::io;
use std::net::Ipv6Addr;

use myriapod::Error;
use myriapod::sys::{self, Errno};

/// The exit status of a command that could not do its work.
pub const FAILED: u8 = 1;

/// The exit status of a command that was called in a way that cannot work.
pub const WRONG_USAGE: u8 = 2;

/// Ends a command. Its `Display` includes the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong. Empty where there is nobody to tell, and then nothing is printed.
    pub message: String,
    /// What the user can do about it, where that is known.
    pub next_step: Option<String>,
    /// The exit status.
    pub code: u8,
}

impl Failure {
    /// A failure with status 1 and no advice.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), next_step: None, code: FAILED }
    }

    /// Arguments that cannot work together: status 2, as clap gives for those that it refuses.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: WRONG_USAGE, ..Self::new(message) }
    }

    /// The same with a next step.
    pub fn with_next_step(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// A call of the standard library failed: `io("read", "capture.bin", &error)`.
    pub fn io(call: &str, on: impl fmt::Display, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Self::new(format_args!("{call} {on}: {}", Errno::from_raw(raw))),
            None => Self::new(format_args!("{call} {on}: {error}")),
        }
    }

    /// Standard output could not be written. That its reader has left (`… | head`) is not worth a
    /// message, only a status.
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new("");
        }
        Self::io("write", "standard output", error)
    }
}

/// `MESSAGE; NEXT STEP`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next_step {
            Some(next_step) => write!(f, "; {next_step}"),
            None => Ok(()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::System(error) => error.into(),
            Error::Config(error) => Self::usage(as_flags(&error.to_string())),
            Error::Timeout { call: "connect", .. } => {
                Self::new(error).with_next_step("is the host up, and does a firewall let you pass?")
            }
            error => Self::new(error),
        }
    }
}

impl From<sys::SystemError> for Failure {
    fn from(error: sys::SystemError) -> Self {
        let next_step = next_step(&error);
        Self { next_step, ..Self::new(error) }
    }
}

/// What a user can do about an error of the system: what fits the call, else what the table of
/// errors says.
fn next_step(error: &sys::SystemError) -> Option<String> {
    let advice = match error {
        sys::SystemError::Call { call, errno, on } => {
            let unix = on.starts_with("unix:");
            if !unix && lacks_its_interface(on) {
                return Some(
                    "a link-local address needs the interface it is on, such as fe80::1%eth0: \
                     `ip -6 address` shows both"
                        .to_owned(),
                );
            }
            match (*call, *errno) {
                ("bind", Errno::EADDRINUSE) if unix => {
                    "something else is there, a server that answers or a file: choose another path"
                }
                ("bind", Errno::EADDRINUSE) => {
                    "another program listens there: choose another port, or 0 for any"
                }
                ("bind", Errno::EACCES) if unix => "choose a directory that you may write to",
                ("bind", Errno::EACCES) => {
                    "ports below 1024 need a privilege: choose a higher one, or 0 for any"
                }
                ("bind", Errno::EADDRNOTAVAIL) => {
                    "no interface of this machine has that address: try 127.0.0.1, or '' for all"
                }
                ("bind", Errno::ENOENT) if unix => "create its directory first",
                ("connect", Errno::ECONNREFUSED | Errno::ENOENT) => return Some(start_server(on)),
                ("connect", Errno::ETIMEDOUT | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {
                    "is the host up, and does a firewall let you pass?"
                }
                (_, Errno::EMFILE) => "allow more descriptors with `ulimit -n`",
                _ => error.advice()?,
            }
        }
        sys::SystemError::Resolve { reason, .. } if reason.starts_with("EAI_AGAIN") => {
            "no name server answered: try again, or give an address"
        }
        sys::SystemError::Resolve { host, .. } if host.contains(['[', ']', ':']) => {
            return Some(how_to_write(host));
        }
        sys::SystemError::Resolve { .. } => "check the name, or give an address such as 127.0.0.1",
        sys::SystemError::DescriptorTooLarge { .. } => "choose another --backend",
        _ => return None,
    };
    Some(advice.to_owned())
}

/// Whether an address is of `fe80::/10` and does not say on which interface. Without that, no call can
/// reach it. Source: RFC 4007, section 11.
fn lacks_its_interface(address: &str) -> bool {
    let ip = address.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(ip, _)| ip);
    let ip = ip.and_then(|ip| ip.parse::<Ipv6Addr>().ok());
    ip.is_some_and(|ip| ip.is_unicast_link_local())
}

/// How to write what was meant by a host with brackets or colons, which no name has.
fn how_to_write(host: &str) -> String {
    let (inner, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, rest)) => (ip, rest.strip_prefix(':')),
        None => match host.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') => (name, Some(port)),
            _ => (host, None),
        },
    };
    match port.filter(|port| port.parse::<u16>().is_ok()) {
        Some(port) => format!("host and port are two arguments: {inner} {port}"),
        None if host.starts_with('[') => format!("write it without brackets: {inner}"),
        None => "no name has a colon; an IPv6 address is written like ::1".to_owned(),
    }
}

/// How to start the server that nobody found at `address`.
fn start_server(address: &str) -> String {
    let place = match address.rsplit_once(':') {
        Some((host, port)) if !address.starts_with("unix:") => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            format!("{host} {port}")
        }
        _ => address.to_owned(),
    };
    format!("is the server running? start it with `myriapod serve {place}`")
}

/// `max_header_len` is `--max-header-len` on the command line.
fn as_flags(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        if word.contains('_') { format!("--{}", word.replace('_', "-")) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use myriapod::Limits;

    use super::*;

    #[test]
    fn does_a_failure_say_what_to_do_next() {
        let refused =
            |call, errno, on| Failure::from(sys::SystemError::call(call, errno, on)).to_string();
        assert_eq!(
            refused("bind", Errno::EADDRINUSE, "127.0.0.1:65432"),
            "bind 127.0.0.1:65432: EADDRINUSE (Address already in use); \
             another program listens there: choose another port, or 0 for any"
        );
        assert_eq!(
            refused("connect", Errno::ECONNREFUSED, "[::1]:65432"),
            "connect [::1]:65432: ECONNREFUSED (Connection refused); \
             is the server running? start it with `myriapod serve ::1 65432`"
        );
        assert_eq!(
            refused("connect", Errno::ENOENT, "unix:/tmp/a b"),
            "connect unix:/tmp/a b: ENOENT (No such file or directory); \
             is the server running? start it with `myriapod serve unix:/tmp/a b`"
        );
        assert_eq!(
            refused("recv", Errno::ECONNRESET, ""),
            "recv: ECONNRESET (Connection reset by peer); \
             take the connection for closed; the peer's log may say why"
        );
        let unexplained = Errno::from_name("ENOEXEC").unwrap();
        assert_eq!(refused("recv", unexplained, ""), "recv: ENOEXEC (Exec format error)");
    }

    #[test]
    fn does_a_host_with_brackets_or_colons_get_advice_that_helps() {
        let advice = |host: &str| {
            let reason = "EAI_NONAME (Name or service not known)".into();
            let error = sys::SystemError::Resolve { host: host.into(), reason };
            Failure::from(error).next_step.unwrap()
        };
        assert_eq!(advice("[::1]"), "write it without brackets: ::1");
        assert_eq!(advice("[::1]:65432"), "host and port are two arguments: ::1 65432");
        assert_eq!(advice("localhost:80"), "host and port are two arguments: localhost 80");
        assert_eq!(advice("::g"), "no name has a colon; an IPv6 address is written like ::1");
        assert!(advice("nowhere").starts_with("check the name"));
    }

    #[test]
    fn is_a_link_local_address_told_to_need_its_interface() {
        for (call, errno) in [("connect", Errno::EINVAL), ("bind", Errno::EINVAL)] {
            let error = sys::SystemError::call(call, errno, "[fe80::1]:65432");
            let advice = Failure::from(error).next_step.unwrap();
            assert!(advice.contains("fe80::1%eth0"), "{advice}");
        }
        let with = sys::SystemError::call("connect", Errno::ECONNREFUSED, "[fe80::1%2]:65432");
        assert!(!Failure::from(with).to_string().contains("interface"));
    }

    #[test]
    fn are_limits_called_by_their_flags() {
        let limits = Limits { low_water: 9, high_water: 8, ..Limits::default() };
        let failure = Failure::from(Error::from(limits.validate().unwrap_err()));
        assert_eq!(failure.code, WRONG_USAGE);
        assert!(failure.to_string().starts_with("--low-water (9) must be below --high-water (8)"));
    }

    #[test]
    fn is_a_reader_that_left_no_news() {
        let left = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::output(&left), Failure::new(""));
    }
}
