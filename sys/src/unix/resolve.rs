//! [`resolve`]: from what a user typed to addresses; [`host_name`]: what this machine is called.

use std::ffi::{CStr, CString};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::ptr;

use super::sockaddr::Sockaddr;
use crate::{Errno, Result, SocketAddr, SystemError, UnixAddr};

/// `int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct
/// addrinfo **list)`
///
/// The addresses of `host`, each with `port`, in the order in which they should be tried:
///
/// - `""` is every IPv4 interface, `0.0.0.0`;
/// - a numeric IPv4 or IPv6 address (also with `%scope`, the name or number of an interface) is
///   taken as it is, and nobody is asked;
/// - `unix:PATH` is a Unix socket, and `unix:@NAME` one with an abstract name (Linux); the port is
///   not used;
/// - anything else is asked of getaddrinfo, which may block for many seconds. All that it returns
///   is returned once, in its order.
///
/// ```
/// use myriapod_sys::resolve;
///
/// assert_eq!(resolve("::1", 65432)?[0].to_string(), "[::1]:65432");
/// assert_eq!(resolve("unix:/tmp/echo", 0)?[0].to_string(), "unix:/tmp/echo");
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Resolve`] where the name has no address; [`SystemError::InvalidAddress`] for a zero byte, an
/// unknown scope, or a Unix path that is empty or too long for the kernel.
///
/// Source: getaddrinfo(3), RFC 4007 section 11 (scopes).
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    if host.is_empty() {
        return Ok(vec![SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    if let Some(name) = host.strip_prefix("unix:") {
        return Ok(vec![unix(name)?]);
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(vec![SocketAddrV4::new(ip, port).into()]);
    }
    if let Some(v6) = numeric_v6(host, port)? {
        return Ok(vec![v6.into()]);
    }
    ask(host, port)
}

/// `int gethostname(char *name, size_t len)`
///
/// The name of this machine. [`resolve`] has its addresses, where it has any under that name.
///
/// ```
/// assert!(!myriapod_sys::host_name()?.is_empty());
/// # Ok::<(), myriapod_sys::SystemError>(())
/// ```
///
/// # Errors
///
/// [`SystemError::Call`]. A name that is not UTF-8 is returned with its odd bytes replaced.
///
/// Source: gethostname(2).
pub fn host_name() -> Result<String> {
    // POSIX allows 255 bytes; a zero always stays at the end.
    let mut name = [0_u8; 257];
    // SAFETY: all but the last byte of the array are ours to write for the call's length.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    super::socket::check(result).map_err(|errno| SystemError::call("gethostname", errno, ""))?;
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..len]).into_owned())
}

fn unix(name: &str) -> Result<SocketAddr> {
    let address = SocketAddr::Unix(match name.strip_prefix('@') {
        Some(name) if cfg!(any(target_os = "linux", target_os = "android")) => {
            UnixAddr::Abstract(name.as_bytes().to_vec())
        }
        _ => UnixAddr::Path(PathBuf::from(name)),
    });
    // Whether the kernel's form has room for it.
    Sockaddr::encode(&address)?;
    Ok(address)
}

fn numeric_v6(host: &str, port: u16) -> Result<Option<SocketAddrV6>> {
    let (ip, scope) = match host.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope)),
        None => (host, None),
    };
    let Ok(ip) = ip.parse::<Ipv6Addr>() else { return Ok(None) };
    let scope = match scope {
        None => 0,
        Some(scope) => scope
            .parse()
            .ok()
            .or_else(|| nix::net::if_::if_nametoindex(scope).ok())
            .ok_or_else(|| invalid(host, "no network interface has the name behind %"))?,
    };
    Ok(Some(SocketAddrV6::new(ip, port, 0, scope)))
}

fn invalid(given: &str, reason: &'static str) -> SystemError {
    SystemError::InvalidAddress { given: given.into(), reason }
}

/// What getaddrinfo allocated, freed when this goes.
struct List(*mut libc::addrinfo);

impl Drop for List {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the list came from getaddrinfo, and it is freed once.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

fn ask(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let name = CString::new(host).map_err(|_| invalid(host, "a name cannot hold a zero byte"))?;
    // SAFETY: the structure consists of integers and pointers, for which zero is a value.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = libc::AF_UNSPEC;
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list = List(ptr::null_mut());
    // SAFETY: `name` ends with a zero, no service is given, and all live for the call's length.
    let code =
        unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list.0) };
    if code != 0 {
        // Before anything else can change it.
        let errno = Errno::last();
        return Err(SystemError::Resolve { host: host.into(), reason: reason(code, errno).into() });
    }
    // SAFETY: getaddrinfo made the list, and it is freed at this function's end.
    let addresses = unsafe { collect(list.0, port) };
    if addresses.is_empty() {
        let reason = "no address of a family that we know".into();
        return Err(SystemError::Resolve { host: host.into(), reason });
    }
    Ok(addresses)
}

/// The addresses of a list, each once, with this port.
///
/// # Safety
///
/// `next` is null or points to an entry such as getaddrinfo makes, and so does each entry's own.
unsafe fn collect(mut next: *const libc::addrinfo, port: u16) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    // SAFETY: the caller vouches for it.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ai_next;
        if entry.ai_addr.is_null() {
            continue;
        }
        // SAFETY: the entry says how long its address is.
        let address = unsafe { Sockaddr::copy_from(entry.ai_addr, entry.ai_addrlen) };
        let address = match address.decode() {
            Ok(SocketAddr::V4(v4)) => SocketAddrV4::new(*v4.ip(), port).into(),
            Ok(SocketAddr::V6(v6)) => {
                SocketAddrV6::new(*v6.ip(), port, v6.flowinfo(), v6.scope_id()).into()
            }
            // A family that we cannot connect to.
            Ok(SocketAddr::Unix(_)) | Err(_) => continue,
        };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// `const char *gai_strerror(int code)`, behind the code's name.
fn reason(code: libc::c_int, errno: Errno) -> String {
    if code == libc::EAI_SYSTEM {
        return format!("EAI_SYSTEM ({errno})");
    }
    // SAFETY: no memory of ours is involved.
    let text = unsafe { libc::gai_strerror(code) };
    // SAFETY: for any code this is a string that ends with a zero and is never freed.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let name = match code {
        libc::EAI_AGAIN => "EAI_AGAIN",
        libc::EAI_BADFLAGS => "EAI_BADFLAGS",
        libc::EAI_FAIL => "EAI_FAIL",
        libc::EAI_FAMILY => "EAI_FAMILY",
        libc::EAI_MEMORY => "EAI_MEMORY",
        libc::EAI_NONAME => "EAI_NONAME",
        libc::EAI_SERVICE => "EAI_SERVICE",
        libc::EAI_SOCKTYPE => "EAI_SOCKTYPE",
        #[cfg(not(target_os = "freebsd"))]
        libc::EAI_NODATA => "EAI_NODATA",
        other => return format!("EAI {other} ({text})"),
    };
    format!("{name} ({text})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_list_taken_in_order_without_doubles_or_strangers() {
        let kernel = |address: &SocketAddr| Sockaddr::encode(address).unwrap();
        let v4 = kernel(&SocketAddr::from(([192, 0, 2, 1], 0)));
        let v6 = kernel(&SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 3).into());
        let unix = kernel(&UnixAddr::Path("/x".into()).into());
        // SAFETY: the structure consists of integers and pointers, for which zero is a value.
        let blank: libc::addrinfo = unsafe { std::mem::zeroed() };
        // The last first, as each points to the next; one has no address at all.
        let mut entries = Vec::with_capacity(6);
        let mut next = ptr::null_mut();
        let addresses = [Some(v4), Some(v6), None, Some(unix), Some(v6), Some(v4)];
        for address in addresses.iter().rev() {
            let (ai_addr, ai_addrlen) = match address {
                Some(address) => (address.as_ptr().cast_mut(), address.len()),
                None => (ptr::null_mut(), 0),
            };
            entries.push(Box::new(libc::addrinfo { ai_addr, ai_addrlen, ai_next: next, ..blank }));
            next = entries.last_mut().map_or(ptr::null_mut(), |entry| &raw mut **entry);
        }
        // SAFETY: the entries and the addresses live until the end.
        let found = unsafe { collect(next, 7) };
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:7", "[::1%3]:7"]);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn does_a_reason_name_the_code_and_what_the_system_says() {
        let said = |code| reason(code, Errno::EIO);
        assert_eq!(said(libc::EAI_NONAME), "EAI_NONAME (Name or service not known)");
        assert_eq!(said(libc::EAI_AGAIN), "EAI_AGAIN (Temporary failure in name resolution)");
        assert_eq!(said(libc::EAI_SYSTEM), "EAI_SYSTEM (EIO (I/O error))");
        assert_eq!(said(-9999), "EAI -9999 (Unknown error)");
    }
}
