//! Does the file of a Unix socket belong to the process that made it?
//!
//! A test program of its own: a forked child holds a copy of each descriptor until it ends, so a
//! listener that another test has just closed would still listen.

mod support;

use myriapod_sys::{SocketAddr, SocketFile, UnixAddr};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use support::{TempDir, listen};

#[test]
fn is_a_socket_file_left_alone_by_a_forked_child() {
    let dir = TempDir::new();
    let address = dir.unix("parent");
    let SocketAddr::Unix(UnixAddr::Path(path)) = &address else { unreachable!() };
    let _listener = listen(&address);
    let mut file = Some(SocketFile::of(&address).unwrap().unwrap());
    // SAFETY: the child drops one value, and ends without the exit handlers of this process.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(file.take());
            // SAFETY: does not return.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).unwrap();
        }
    }
    assert!(path.exists());
    drop(file);
    assert!(!path.exists());
}
