//! Puts files on a `file_server`, gets them, lists them.
//!
//! ```text
//! $ cargo run --example file_client -- 127.0.0.1 65432 put holiday.mp4
//! holiday.mp4: 4,812,004,113 of 4,812,004,113 bytes
//! 7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730
//! ```
//!
//! What is got goes to a file beside the other, `NAME.part`, until it is whole and its SHA-256 is that
//! of the server's file. Where such a file is left of an earlier attempt, only the rest is asked for.
//! On a terminal, standard error shows how far it is; elsewhere, it gets a line for each tenth.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use command::Stop;
use myriapod::protocol::{ExtraHeaders, Head};
use myriapod::{Client, ClientOptions, Message};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[macro_use]
#[path = "support/command.rs"]
mod command;

/// Counts, shows and sums up what goes through.
struct Progress<T> {
    inner: T,
    name: String,
    done: u64,
    len: u64,
    shown: u64,
    is_terminal: bool,
    sum: Sha256,
}

impl<T> Progress<T> {
    fn new(inner: T, name: &str, done: u64, len: u64, sum: Sha256) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let (name, shown) = (name.to_owned(), u64::MAX);
        let mut progress = Self { inner, name, done, len, shown, is_terminal, sum };
        progress.show();
        progress
    }

    fn note(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.done += bytes.len() as u64;
        self.show();
    }

    /// Draws a line anew for each hundredth, or writes one for each tenth.
    fn show(&mut self) {
        let steps = if self.is_terminal { 100 } else { 10 };
        let step = (self.done.min(self.len) * steps).checked_div(self.len).unwrap_or(steps);
        if step == self.shown {
            return;
        }
        self.shown = step;
        let Self { name, done, len, .. } = self;
        let (done, len) = (grouped(*done), grouped(*len));
        let mut stderr = std::io::stderr();
        let _shown = if self.is_terminal {
            let filled = usize::try_from(step * 3 / 10).unwrap_or(0);
            let bar = format!("{:<30}", "#".repeat(filled));
            let end = if step == steps { "\n" } else { "" };
            write!(stderr, "\r{name}: [{bar}] {done} of {len} bytes{end}")
        } else {
            writeln!(stderr, "{name}: {done} of {len} bytes")
        };
    }
}

impl<T: Read> Read for Progress<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.note(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Progress<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.note(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn action(action: &str, name: &str, offset: u64) -> Result<ExtraHeaders, Stop> {
    let mut extra = ExtraHeaders::new();
    extra.push("action", action)?;
    extra.push("name", name)?;
    extra.push("offset", &offset)?;
    Ok(extra)
}

/// What a reply says, unless it is an error.
fn answer(reply: &Message<'_>) -> Result<Value, Stop> {
    let content = reply.json()?;
    if reply.error_kind().is_some() { Err(said(&content)) } else { Ok(content) }
}

/// The content of an error reply.
fn said(content: &Value) -> Stop {
    Stop::Failed(content["result"].as_str().unwrap_or("the server gives no reason").to_owned())
}

fn on(path: &str) -> impl Fn(std::io::Error) -> Stop {
    move |error| Stop::Failed(format!("open {path:?}: {error}"))
}

/// The last part of a path.
fn last(name: &str) -> Result<&str, Stop> {
    let last = Path::new(name).file_name().and_then(|last| last.to_str());
    last.ok_or_else(|| Stop::Argument(format!("{name:?} names no file")))
}

fn put(client: &mut Client, path: &str) -> Result<(), Stop> {
    let file = File::open(path).map_err(on(path))?;
    let (len, extra) = (file.metadata()?.len(), action("put", last(path)?, 0)?);
    let head = Head { extra: &extra, ..Head::binary("application/octet-stream") };
    let mut source = Progress::new(file, path, 0, len, Sha256::new());
    client.send_from(&head, len, &mut source)?;
    let sum = hex(source.sum);
    let answer = answer(&client.receive()?)?;
    if answer["sha256"] != sum.as_str() {
        return Err(Stop::Failed(format!("{path:?} has changed on its way; put it again")));
    }
    println!("{sum}");
    Ok(())
}

/// The sum of what an earlier attempt has left.
fn sum_of(part: &mut File) -> std::io::Result<(Sha256, u64)> {
    let (mut sum, mut len, mut piece) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        match part.read(&mut piece) {
            Ok(0) => return Ok((sum, len)),
            Ok(read) => {
                sum.update(&piece[..read]);
                len += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn get(client: &mut Client, name: &str) -> Result<(), Stop> {
    let path = last(name)?;
    let part = format!("{path}.part");
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(&part);
    let file = file.as_mut().map_err(|error| Stop::Failed(format!("open {part:?}: {error}")))?;
    let (sum, offset) = sum_of(file)?;

    let extra = action("get", name, offset)?;
    client.send(&Head { extra: &extra, ..Head::json() }, b"null")?;
    let mut reply = client.receive_stream()?;
    if reply.head().error_kind().is_some() {
        let mut text = Vec::new();
        reply.copy_to(&mut text)?;
        if offset == 0 {
            let _gone = std::fs::remove_file(&part);
        }
        return Err(said(&serde_json::from_slice(&text).unwrap_or_default()));
    }
    let len = reply.head().header("len").and_then(|len| len.as_u64()).unwrap_or(0);
    let mut to = Progress::new(file, name, offset, len, sum);
    reply.copy_to(&mut to)?;
    drop(reply);
    let sum = hex(to.sum);

    let extra = action("sum", name, 0)?;
    let reply = client.request(&Head { extra: &extra, ..Head::json() }, b"null")?;
    if answer(&reply)?["sha256"] != sum.as_str() {
        std::fs::remove_file(&part)?;
        return Err(Stop::Failed(format!("{name:?} has changed meanwhile; get it again")));
    }
    std::fs::rename(&part, path)?;
    println!("{sum}");
    Ok(())
}

fn list(client: &mut Client) -> Result<(), Stop> {
    let extra = action("list", "", 0)?;
    let reply = client.request(&Head { extra: &extra, ..Head::json() }, b"null")?;
    for file in answer(&reply)?.as_array().into_iter().flatten() {
        let len = file["len"].as_u64().unwrap_or(0);
        println!("{:>16}  {}", grouped(len), file["name"].as_str().unwrap_or_default());
    }
    Ok(())
}

fn main() -> ExitCode {
    command::run("<host> <port> put <file> | get <name> | list", |arguments| {
        let [host, port, rest @ ..] = arguments else { return Err(Stop::Usage) };
        // The server may sum up a large file for some minutes.
        let read_timeout = Duration::from_secs(600);
        let options = ClientOptions { read_timeout, ..ClientOptions::default() };
        let connect = || Ok::<_, Stop>(Client::connect_with(host, command::port(port)?, options)?);
        match rest {
            ["put", path] => put(&mut connect()?, path),
            ["get", name] => get(&mut connect()?, name),
            ["list"] => list(&mut connect()?),
            _ => Err(Stop::Usage),
        }
    })
}
