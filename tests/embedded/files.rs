//! `file_server` and `file_client`: do files of any size go there and back, and nothing else?

use std::fs;
use std::path::{Path, PathBuf};

use myriapod::Client;
use myriapod::protocol::{ExtraHeaders, Head};
use serde_json::Value;

use crate::programs::{Running, example};
use crate::{start, stop};

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("myriapod-{}-{name}", std::process::id()));
        for inside in ["root", "client"] {
            fs::create_dir_all(folder.join(inside)).unwrap();
        }
        Self(folder)
    }

    fn server(&self) -> (Running, u16) {
        start("file_server", &[self.0.join("root").to_str().unwrap()])
    }

    /// Runs the client in its folder: what it prints, its status, what it says on standard error.
    fn run(&self, port: u16, arguments: &[&str]) -> (Vec<String>, Option<i32>, String) {
        let mut command = example("file_client");
        command.args(["127.0.0.1", &port.to_string()]).args(arguments);
        command.current_dir(self.0.join("client"));
        Running::start(command).finish()
    }

    /// The same; it must end well.
    fn client(&self, port: u16, arguments: &[&str]) -> Vec<String> {
        let (lines, status, errors) = self.run(port, arguments);
        assert_eq!(status, Some(0), "{errors}");
        lines
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _none = fs::remove_dir_all(&self.0);
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251 + (at >> 16)).to_le_bytes()[0]).collect()
}

/// What `sha256sum` says of no bytes at all.
const SUM_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn does_a_file_go_there_and_back() {
    let folder = Folder::new("there-and-back");
    let (server, port) = folder.server();
    for (name, len) in [("large", 5 << 20), ("small", 3), ("empty", 0)] {
        let there = folder.path("client").join(name);
        fs::write(&there, content(len)).unwrap();
        let put = folder.client(port, &["put", name]);
        fs::remove_file(&there).unwrap();
        let got = folder.client(port, &["get", name]);
        assert_eq!(put, got, "both print the sum");
        assert!(len > 0 || put == [SUM_OF_NOTHING], "{put:?}");
        assert!(fs::read(&there).unwrap() == content(len), "{name}");
    }
    let listed = folder.client(port, &["list"]);
    assert_eq!(
        listed,
        ["               0  empty", "       5,242,880  large", "               3  small"]
    );
    // Nothing is left of what was on its way.
    assert_eq!(fs::read_dir(folder.path("root")).unwrap().count(), 3);
    assert_eq!(stop(server), "3 files came, 2 went");
}

#[test]
fn does_a_name_lead_nowhere_else() {
    let folder = Folder::new("nowhere-else");
    fs::write(folder.path("secret"), "a secret").unwrap();
    fs::create_dir(folder.path("root").join("real")).unwrap();
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(folder.path(to), folder.path("root").join(name)).unwrap();
    };
    link("secret", "link");
    link("client", "folder");
    link("root/real", "inside");
    let (server, port) = folder.server();
    let mut client = Client::connect("127.0.0.1", port).unwrap();
    for (name, kind) in [
        ("../secret", "BadName"),
        ("real/../../secret", "BadName"),
        ("/etc/passwd", "BadName"),
        (".", "BadName"),
        ("", "BadName"),
        ("real//x", "BadName"),
        (".hidden", "BadName"),
        ("a\0b", "BadName"),
        ("real", "BadName"),
        ("link", "BadName"),
        ("folder/x", "BadName"),
        ("inside/x", "BadName"),
        ("none", "NotFound"),
        ("never/none", "NotFound"),
    ] {
        for action in ["get", "sum", "put"] {
            let mut extra = ExtraHeaders::new();
            extra.push("action", action).unwrap();
            extra.push("name", name).unwrap();
            let head = Head { extra: &extra, ..Head::binary("x") };
            let reply = client.request(&head, b"overwritten").unwrap();
            let is_put = action == "put";
            match reply.error_kind() {
                // A link is replaced as any file is, and so leads nowhere afterwards.
                None => assert!(is_put && (kind == "NotFound" || name == "link"), "{name:?}"),
                Some(_) if is_put => assert_ne!(kind, "NotFound", "{name:?}"),
                Some(said) => assert_eq!(said, kind, "{action} {name:?}"),
            }
        }
    }
    assert_eq!(client.connections(), 1, "no refusal ended it");
    assert_eq!(fs::read(folder.path("secret")).unwrap(), b"a secret");
    assert_eq!(fs::read_dir(folder.path("client")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.path("root/real")).unwrap().count(), 0);
    let mut listed = folder.client(port, &["list"]);
    listed.retain(|line| !line.contains("none"));
    assert_eq!(listed, ["              11  link"], "it is a file now");
    drop(client);
    stop(server);
}

#[test]
fn is_a_broken_download_resumed_and_checked() {
    let folder = Folder::new("resumed");
    let whole = content(1 << 20);
    fs::write(folder.path("root").join("file"), &whole).unwrap();
    let (server, port) = folder.server();
    let (file, part) = (folder.path("client/file"), folder.path("client/file.part"));
    fs::write(&part, &whole[..600_000]).unwrap();
    let said = folder.run(port, &["get", "file"]).2;
    assert!(said.starts_with("file: 600,000 of 1,048,576 bytes"), "{said}");
    assert!(fs::read(&file).unwrap() == whole && !part.exists());

    // What is there is of another file.
    fs::write(&part, b"other").unwrap();
    let said = folder.run(port, &["get", "file"]).2;
    assert!(said.trim_end().ends_with("\"file\" has changed meanwhile; get it again"), "{said}");
    assert!(!part.exists());
    folder.client(port, &["get", "file"]);
    stop(server);
}

#[test]
fn does_a_reader_that_stops_cost_the_server_nothing() {
    let folder = Folder::new("stops");
    let len = 1_u64 << 40;
    fs::File::create(folder.path("root").join("huge")).unwrap().set_len(len).unwrap();
    let (server, port) = folder.server();
    let mut readers: Vec<Client> =
        (0..4).map(|_| Client::connect("127.0.0.1", port).unwrap()).collect();
    for reader in &mut readers {
        let mut extra = ExtraHeaders::new();
        extra.push("action", "get").unwrap();
        extra.push("name", "huge").unwrap();
        reader.send(&Head { extra: &extra, ..Head::binary("x") }, b"").unwrap();
        let mut reply = reader.receive_stream().unwrap();
        assert_eq!(reply.content_len(), len);
        for _ in 0..100 {
            assert!(reply.next_piece().unwrap().is_some());
        }
        // It stays open, and nobody reads on.
        std::mem::forget(reply);
    }
    let listed = folder.client(port, &["list"]);
    assert_eq!(listed, ["1,099,511,627,776  huge"]);
    if let Some(peak) = peak_kib(server.pid()) {
        assert!(peak < 64 << 10, "{peak} KiB");
    }
    drop(readers);
    stop(server);
}

/// The most memory that a process has had, where the system says it.
fn peak_kib(pid: u32) -> Option<u64> {
    let status =
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A file that is put with half its content never gets its name.
#[test]
fn is_half_an_upload_gone_with_its_connection() {
    let folder = Folder::new("half");
    let (server, port) = folder.server();
    let mut client = Client::connect("127.0.0.1", port).unwrap();
    let mut extra = ExtraHeaders::new();
    extra.push("action", "put").unwrap();
    extra.push("name", "half").unwrap();
    let head = Head { extra: &extra, ..Head::binary("x") };
    let error = client.send_from(&head, 1_000_000, &mut &content(600_000)[..]).unwrap_err();
    assert_eq!(error.io_kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(client.awaited(), 0);
    // The same client connects anew.
    let mut extra = ExtraHeaders::new();
    extra.push("action", "list").unwrap();
    let head = Head { extra: &extra, ..Head::binary("x") };
    let listed = client.request(&head, b"").unwrap().json().unwrap();
    assert_eq!(listed, Value::Array(Vec::new()));
    drop(client);
    stop(server);
    assert_eq!(fs::read_dir(folder.path("root")).unwrap().count(), 0);
}
