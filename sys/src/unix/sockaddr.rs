//! The kernel's form of an address: `struct sockaddr_storage` and a length.

use std::ffi::OsStr;
use std::mem::{offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::{Result, SocketAddr, SystemError, UnixAddr};

/// Every form that the kernel writes or reads. All of it is zeroed when it is made.
#[derive(Clone, Copy)]
#[repr(C)]
union Form {
    storage: libc::sockaddr_storage,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
    bytes: [u8; size_of::<libc::sockaddr_storage>()],
}

/// An address as system calls take and return it.
#[derive(Clone, Copy)]
pub(crate) struct Sockaddr {
    form: Form,
    len: libc::socklen_t,
}

const FAMILY_END: usize =
    offset_of!(libc::sockaddr_storage, ss_family) + size_of::<libc::sa_family_t>();
const PATH_START: usize = offset_of!(libc::sockaddr_un, sun_path);
const PATH_ROOM: usize = size_of::<libc::sockaddr_un>() - PATH_START;
const ABSTRACT_NAMES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A size of a system structure as the kernel's type for it.
#[expect(clippy::cast_possible_truncation, reason = "all sizes are below 129")]
const fn socklen(len: usize) -> libc::socklen_t {
    debug_assert!(len <= size_of::<libc::sockaddr_storage>());
    len as libc::socklen_t
}

/// A family's number as the address structures hold it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "AF_INET, AF_INET6 and AF_UNIX are small and positive everywhere"
)]
const fn family(number: libc::c_int) -> libc::sa_family_t {
    number as libc::sa_family_t
}

impl Sockaddr {
    /// Room for any address, to be filled through [`as_mut_ptr`](Self::as_mut_ptr) and
    /// [`len_mut`](Self::len_mut).
    pub(crate) fn empty() -> Self {
        // SAFETY: every member of the union consists of integers, for which zero is a value.
        let form = unsafe { std::mem::zeroed() };
        Self { form, len: socklen(size_of::<libc::sockaddr_storage>()) }
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.form).cast()
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len
    }

    /// The two pointers that a call such as `getsockname` fills.
    pub(crate) fn as_out(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.form).cast(), &raw mut self.len)
    }

    /// The same, of the length that the kernel said in another place than [`as_out`](Self::as_out)'s.
    pub(crate) fn with_len(self, len: libc::socklen_t) -> Self {
        Self { len: len.min(socklen(size_of::<libc::sockaddr_storage>())), ..self }
    }

    /// Copies what getaddrinfo points to.
    ///
    /// # Safety
    ///
    /// `from` points to `len` readable bytes.
    pub(crate) unsafe fn copy_from(from: *const libc::sockaddr, len: libc::socklen_t) -> Self {
        let mut copy = Self::empty();
        copy.len = len.min(copy.len);
        let room: *mut u8 = (&raw mut copy.form).cast();
        // SAFETY: the caller vouches for `len` bytes behind `from`; no more than the form's own
        // size is copied, and a new local cannot overlap.
        unsafe { room.copy_from_nonoverlapping(from.cast(), copy.len as usize) };
        copy
    }

    fn bytes(&self) -> &[u8; size_of::<libc::sockaddr_storage>()] {
        // SAFETY: the form was zeroed in full when it was made, so all its bytes are initialised.
        unsafe { &self.form.bytes }
    }

    /// The kernel's form of `address`.
    ///
    /// # Errors
    ///
    /// [`SystemError::InvalidAddress`] where a Unix path or name is too long, empty, holds a zero byte,
    /// or where the system has no abstract names.
    pub(crate) fn encode(address: &SocketAddr) -> Result<Self> {
        // The length member that the BSDs have is filled in by their kernels.
        let mut new = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                new.form.v4.sin_family = family(libc::AF_INET);
                new.form.v4.sin_port = v4.port().to_be();
                new.form.v4.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                new.len = socklen(size_of::<libc::sockaddr_in>());
            }
            SocketAddr::V6(v6) => {
                new.form.v6.sin6_family = family(libc::AF_INET6);
                new.form.v6.sin6_port = v6.port().to_be();
                new.form.v6.sin6_flowinfo = v6.flowinfo();
                new.form.v6.sin6_addr.s6_addr = v6.ip().octets();
                new.form.v6.sin6_scope_id = v6.scope_id();
                new.len = socklen(size_of::<libc::sockaddr_in6>());
            }
            SocketAddr::Unix(unix) => new.put_unix(unix)?,
        }
        Ok(new)
    }

    fn put_unix(&mut self, unix: &UnixAddr) -> Result<()> {
        let refuse =
            |reason| Err(SystemError::InvalidAddress { given: unix.to_string().into(), reason });
        self.form.unix.sun_family = family(libc::AF_UNIX);
        // Where the bytes go, and how many count: a path counts its terminating zero.
        let (bytes, start, len) = match unix {
            UnixAddr::Unnamed => (&[][..], 0, 0),
            UnixAddr::Path(path) => {
                let bytes = path.as_os_str().as_bytes();
                if bytes.is_empty() {
                    return refuse("an empty path names no socket");
                }
                if bytes.contains(&0) {
                    return refuse("a path cannot hold a zero byte");
                }
                (bytes, 0, bytes.len() + 1)
            }
            UnixAddr::Abstract(_) if !ABSTRACT_NAMES => {
                return refuse("this system has no abstract names");
            }
            UnixAddr::Abstract(name) => (name.as_slice(), 1, name.len() + 1),
        };
        if len > PATH_ROOM {
            return refuse("too long for the kernel");
        }
        let at = PATH_START + start;
        // SAFETY: the form was zeroed in full when it was made, so all its bytes are initialised,
        // and its other members are integers, for which every byte will do.
        let room = unsafe { &mut self.form.bytes };
        room[at..at + bytes.len()].copy_from_slice(bytes);
        self.len = socklen(PATH_START + len);
        Ok(())
    }

    /// What the kernel's form says, read no further than the length it came with.
    ///
    /// # Errors
    ///
    /// [`SystemError::InvalidAddress`] where it is shorter than its family demands, or of another family.
    pub(crate) fn decode(&self) -> Result<SocketAddr> {
        let len = self.len as usize;
        let refuse = |reason| {
            let shown = &self.bytes()[..len.min(FAMILY_END)];
            Err(SystemError::InvalidAddress { given: format!("{shown:02x?}").into(), reason })
        };
        if len < FAMILY_END {
            return refuse("too short to name a family");
        }
        // SAFETY: zeroed in full when it was made; any integer is a value.
        let storage = unsafe { &self.form.storage };
        match libc::c_int::from(storage.ss_family) {
            libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: as above.
                let v4 = unsafe { &self.form.v4 };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Ok(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let v6 = unsafe { &self.form.v6 };
                Ok(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(v6.sin6_addr.s6_addr),
                    u16::from_be(v6.sin6_port),
                    v6.sin6_flowinfo,
                    v6.sin6_scope_id,
                )))
            }
            libc::AF_INET | libc::AF_INET6 => refuse("too short for its family"),
            libc::AF_UNIX => Ok(SocketAddr::Unix(self.decode_unix(len))),
            _ => refuse("neither IPv4 nor IPv6 nor Unix"),
        }
    }

    fn decode_unix(&self, len: usize) -> UnixAddr {
        // Linux counts one byte more than the structure has for a path that fills it.
        let name = self.bytes().get(PATH_START..len).unwrap_or_default();
        match name {
            [0, abstract_name @ ..] if ABSTRACT_NAMES => UnixAddr::Abstract(abstract_name.to_vec()),
            [] | [0, ..] => UnixAddr::Unnamed,
            path => {
                let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                UnixAddr::Path(PathBuf::from(OsStr::from_bytes(&path[..end])))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(address: impl Into<SocketAddr>) {
        let address = address.into();
        assert_eq!(Sockaddr::encode(&address).unwrap().decode(), Ok(address));
    }

    #[test]
    fn does_every_address_survive_the_kernels_form() {
        there_and_back(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 65432));
        there_and_back(SocketAddrV4::new(Ipv4Addr::BROADCAST, u16::MAX));
        there_and_back(SocketAddrV6::new("2001:db8::7".parse().unwrap(), 1, 0x0002_3456, 9));
        there_and_back(UnixAddr::Unnamed);
        there_and_back(UnixAddr::Path("/tmp/a b".into()));
        there_and_back(UnixAddr::Path(OsStr::from_bytes(b"/tmp/\xff\xfe").into()));
        there_and_back(UnixAddr::Path("/".repeat(PATH_ROOM - 1).into()));
        if ABSTRACT_NAMES {
            there_and_back(UnixAddr::Abstract(b"name".to_vec()));
            there_and_back(UnixAddr::Abstract(b"with\0zero\0".to_vec()));
            there_and_back(UnixAddr::Abstract(vec![b'x'; PATH_ROOM - 1]));
        }
    }

    #[test]
    fn are_the_bytes_those_of_the_manual() {
        // ip(7): port and address in network byte order.
        let v4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1), 0x1234);
        let encoded = Sockaddr::encode(&v4.into()).unwrap();
        assert_eq!(encoded.len(), 16);
        assert_eq!(encoded.bytes()[2..8], [0x12, 0x34, 127, 0, 0, 1]);
        // unix(7): a path ends with a zero that counts.
        let path = Sockaddr::encode(&UnixAddr::Path("/a".into()).into()).unwrap();
        assert_eq!(path.len() as usize, PATH_START + 3);
        assert_eq!(path.bytes()[PATH_START..PATH_START + 3], *b"/a\0");
    }

    #[test]
    fn is_a_malformed_unix_address_refused() {
        for (unix, reason) in [
            (UnixAddr::Path("".into()), "an empty path names no socket"),
            (UnixAddr::Path("/a\0b".into()), "a path cannot hold a zero byte"),
            (UnixAddr::Path("/".repeat(PATH_ROOM).into()), "too long for the kernel"),
            (
                UnixAddr::Abstract(vec![b'x'; PATH_ROOM]),
                if ABSTRACT_NAMES {
                    "too long for the kernel"
                } else {
                    "this system has no abstract names"
                },
            ),
        ] {
            let given = unix.to_string().into();
            let refused = Sockaddr::encode(&unix.into()).map(|encoded| encoded.len());
            assert_eq!(refused, Err(SystemError::InvalidAddress { given, reason }));
        }
    }

    #[test]
    fn is_the_kernels_form_read_no_further_than_its_length() {
        let v4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80).into();
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 0).into();
        for address in [&v4, &v6] {
            let mut short = Sockaddr::encode(address).unwrap();
            while short.len > 0 {
                short.len -= 1;
                assert!(
                    matches!(short.decode(), Err(SystemError::InvalidAddress { .. })),
                    "{}",
                    short.len
                );
            }
        }
        let mut path = Sockaddr::encode(&UnixAddr::Path("/abc".into()).into()).unwrap();
        path.len -= 3;
        assert_eq!(path.decode(), Ok(UnixAddr::Path("/a".into()).into()));
    }

    #[test]
    fn is_a_path_without_room_for_its_zero_read_whole() {
        // Linux then returns a length of one more than the structure has.
        let mut full = Sockaddr::empty();
        full.form.unix.sun_family = family(libc::AF_UNIX);
        let name = b"/".repeat(PATH_ROOM);
        // SAFETY: the form was zeroed in full.
        let bytes = unsafe { &mut full.form.bytes };
        bytes[PATH_START..PATH_START + PATH_ROOM].copy_from_slice(&name);
        full.len = socklen(PATH_START + PATH_ROOM + 1);
        assert_eq!(full.decode(), Ok(UnixAddr::Path(OsStr::from_bytes(&name).into()).into()));
    }

    #[test]
    fn is_an_unknown_family_refused() {
        let mut other = Sockaddr::empty();
        other.form.storage.ss_family = family(libc::AF_APPLETALK);
        assert!(other.decode().unwrap_err().to_string().contains("neither IPv4 nor IPv6 nor Unix"));
    }
}
