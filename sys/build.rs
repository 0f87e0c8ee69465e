//! Names what the target's system offers, so that the lists of systems stand here and nowhere else.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let linux = matches!(system.as_str(), "linux" | "android");
    let apple = env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
    let bsd = matches!(system.as_str(), "freebsd" | "netbsd" | "openbsd" | "dragonfly");
    let libkqueue = env::var_os("CARGO_CFG_MYRIAPOD_LIBKQUEUE").is_some();

    if libkqueue {
        link_libkqueue();
    }

    offer("has_epoll", linux);
    offer("has_eventfd", linux);
    offer("has_kqueue", apple || bsd || libkqueue);
    // poll(2) with a timeout in nanoseconds. NetBSD has it only since version 10.
    offer("has_ppoll", linux || (bsd && system != "netbsd"));
    offer("has_pollrdhup", linux || matches!(system.as_str(), "freebsd" | "illumos"));
    offer("has_pipe2", !apple);
}

/// The flags of a build reach everything but the examples in the documentation, which have to be
/// told once more.
fn link_libkqueue() {
    println!("cargo::rustc-cfg=myriapod_libkqueue");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut flags = flags.split('\u{1f}');
    while let Some(flag) = flags.next() {
        if let Some(folder) = flag.strip_prefix("-L") {
            let folder = if folder.is_empty() { flags.next() } else { Some(folder) };
            println!("cargo::rustc-link-search={}", folder.unwrap_or_default());
        }
    }
}

fn offer(name: &str, offered: bool) {
    println!("cargo::rustc-check-cfg=cfg({name})");
    if offered {
        println!("cargo::rustc-cfg={name}");
    }
}
