//! Takes, hands out and lists files below one directory; no content is ever held in memory.
//!
//! ```text
//! $ cargo run --example file_server -- 127.0.0.1 65432 /srv/files
//! listening on 127.0.0.1:65432
//! ```
//!
//! A request is a header: `"action"` is `put` (the content is the file), `get` (from `"offset"` on),
//! `sum` or `list`; `"name"` is a path with `/` between its parts. A name leads to what is below the
//! directory and nowhere else: each part is opened by itself, and none may be `..` or a link.
//!
//! What is put is written to a hidden file as it comes, with its SHA-256, and gets its name when it
//! is whole. What is got is sent by the system. Writing makes the loop wait for the disk.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use command::Stop;
use myriapod::sys::Signal;
use myriapod::{
    Cause, Flow, Handler, HandlerError, HandlerResult, Intake, Message, MessageHead, Reply, Server,
    SocketAddr, View,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[macro_use]
#[path = "support/command.rs"]
mod command;

/// Names that one list has at most, and folders that it goes down.
const MOST_NAMES: usize = 10_000;
const MOST_DEPTH: usize = 8;

struct Files {
    root: PathBuf,
    uploads: u64,
}

/// A file that is being put.
struct Upload {
    folder: OwnedFd,
    /// Its name while it is not whole, and behind that.
    hidden: String,
    name: String,
    file: File,
    sum: Sha256,
    len: u64,
}

impl Files {
    /// The folder that holds a name, and the name's last part.
    fn find<'a>(&self, name: &'a str, makes: bool) -> Result<(OwnedFd, &'a str), HandlerError> {
        let mut parts: Vec<&str> = name.split('/').collect();
        let is_fine = |part: &&str| !part.is_empty() && !part.starts_with('.');
        if !parts.iter().all(|part| is_fine(part) && !part.contains('\0')) {
            return Err(HandlerError::new(
                "BadName",
                format!("{name:?} is no name of a file here"),
            ));
        }
        let last = parts.pop().unwrap_or_default();
        let mut folder = OwnedFd::from(File::open(&self.root)?);
        for part in parts {
            // Where a link stands, this fails: nobody leaves the directory through one.
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let opened = match openat(&folder, part, flags, Mode::empty()) {
                Err(Errno::ENOENT) if makes => mkdirat(&folder, part, Mode::S_IRWXU)
                    .and_then(|()| openat(&folder, part, flags, Mode::empty())),
                opened => opened,
            };
            folder = opened.map_err(|errno| refused(name, errno))?;
        }
        Ok((folder, last))
    }

    /// A file to read from.
    fn open(&self, name: &str) -> Result<(File, u64), HandlerError> {
        let (folder, last) = self.find(name, false)?;
        // Opening a pipe would wait for its writer.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = openat(&folder, last, flags, Mode::empty());
        let file = File::from(file.map_err(|errno| refused(name, errno))?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(HandlerError::new("BadName", format!("{name:?} is no file")));
        }
        Ok((file, about.len()))
    }

    fn begin_upload(&mut self, name: &str) -> Result<Upload, HandlerError> {
        let (folder, last) = self.find(name, true)?;
        self.uploads += 1;
        let hidden = format!(".{}.{}.part", std::process::id(), self.uploads);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&folder, hidden.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = File::from(file.map_err(|errno| refused(name, errno))?);
        Ok(Upload { folder, hidden, name: last.to_owned(), file, sum: Sha256::new(), len: 0 })
    }

    /// All files below a folder, by name.
    fn list(&self) -> std::io::Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut folders = vec![(self.root.clone(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if name.starts_with('.') || found.len() >= MOST_NAMES {
                    continue;
                }
                // Of a link, this is the link itself.
                let about = entry.metadata()?;
                if about.is_dir() && depth < MOST_DEPTH {
                    folders.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
                } else if about.is_file() {
                    found.push(json!({ "name": format!("{prefix}{name}"), "len": about.len() }));
                }
            }
        }
        found.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
        Ok(found)
    }
}

fn refused(name: &str, errno: Errno) -> HandlerError {
    let kind = match errno {
        Errno::ENOENT => "NotFound",
        Errno::ELOOP | Errno::ENOTDIR | Errno::EMLINK => "BadName",
        _ => "Failed",
    };
    HandlerError::new(kind, format!("open {name:?}: {errno}"))
}

fn text(message: &Message<'_>, key: &str) -> Result<String, HandlerError> {
    match message.header(key) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(HandlerError::new("BadRequest", format!("the header needs a text named {key:?}"))),
    }
}

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum_of(mut file: File) -> std::io::Result<String> {
    let mut sum = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hex(sum)),
            Ok(read) => sum.update(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Upload {
    /// It has its name by now, or is not whole.
    fn drop(&mut self) {
        let _gone = unlinkat(&self.folder, self.hidden.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

impl Handler for Files {
    type State = Option<Upload>;
    const STREAMS: bool = true;

    fn on_open(&mut self, _view: &mut View<'_>, _peer: &SocketAddr) -> Option<Upload> {
        None
    }

    fn on_head(
        &mut self,
        upload: &mut Option<Upload>,
        head: &MessageHead<'_>,
        _view: &mut View<'_>,
    ) -> Intake {
        if head.header("action").is_none_or(|action| action != "put") {
            return Intake::Hold;
        }
        match text(head, "name").and_then(|name| self.begin_upload(&name)) {
            Ok(begun) => *upload = Some(begun),
            Err(error) => return Intake::Refuse(error),
        }
        Intake::Stream
    }

    fn on_piece(
        &mut self,
        upload: &mut Option<Upload>,
        piece: &[u8],
        _view: &mut View<'_>,
    ) -> Result<Flow, HandlerError> {
        if let Some(upload) = upload
            && let Err(error) = upload.file.write_all(piece).map(|()| upload.sum.update(piece))
        {
            return Err(HandlerError::new("Failed", format!("write {:?}: {error}", upload.name)));
        }
        if let Some(upload) = upload {
            upload.len += piece.len() as u64;
        }
        Ok(Flow::Go)
    }

    fn on_end(&mut self, upload: &mut Option<Upload>, reply: &mut Reply<'_>) -> HandlerResult {
        let Some(mut upload) = upload.take() else { return Ok(()) };
        let folder = upload.folder.as_fd();
        renameat(folder, upload.hidden.as_str(), folder, upload.name.as_str())
            .map_err(|errno| refused(&upload.name, errno))?;
        let sum = hex(std::mem::take(&mut upload.sum));
        Ok(reply.json(&json!({ "len": upload.len, "sha256": sum }))?)
    }

    fn on_message(
        &mut self,
        _upload: &mut Option<Upload>,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        match text(&message, "action")?.as_str() {
            "get" => {
                let (file, len) = self.open(&text(&message, "name")?)?;
                let offset = message.header("offset").and_then(|offset| offset.as_u64());
                reply.header("len", &len)?;
                reply.file("application/octet-stream", file, offset.unwrap_or(0)..len)?;
            }
            // A large file takes a while: the loop does not wait for it.
            "sum" => {
                let (file, _) = self.open(&text(&message, "name")?)?;
                let deferred = reply.defer()?;
                std::thread::spawn(move || {
                    let _sent = match sum_of(file) {
                        Ok(sum) => deferred.json(&json!({ "sha256": sum })),
                        Err(error) => deferred.error(error),
                    };
                });
            }
            "list" => reply.json(&self.list()?)?,
            other => {
                let text = format!("{other:?} is none of put, get, sum and list");
                return Err(HandlerError::new("BadRequest", text));
            }
        }
        Ok(())
    }

    fn on_close(&mut self, upload: Option<Upload>, _view: &mut View<'_>, cause: Cause) {
        if let Some(upload) = upload {
            println!("{:?} was not put whole: {cause}", upload.name);
        }
    }
}

fn main() -> ExitCode {
    command::run("<host> <port> <directory>", |arguments| {
        let [host, port, root] = arguments else { return Err(Stop::Usage) };
        let root = Path::new(root).canonicalize();
        let root =
            root.map_err(|error| Stop::Failed(format!("open {:?}: {error}", arguments[2])))?;
        let mut server = Server::builder()
            .listen(host, command::port(port)?)
            .signals(&[Signal::Interrupt, Signal::Terminate])
            .build(Files { root, uploads: 0 })?;
        println!("listening on {}", server.addresses()[0]);
        server.run()?;
        let stats = server.stats();
        println!("{} files came, {} went", stats.streams_in, stats.streams_out);
        Ok(())
    })
}
