//! tokio: a task for each connection, on the runtime of one thread, since one processor is what
//! every server here has. Bytes: a buffer in each task; with `--shared-buffer` a task waits until its
//! socket is readable and borrows the thread's. Messages: `tokio-util`'s `Framed` with `serde_json`.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io::ErrorKind;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use myriapod_peers::message::{self, Header, MAX_CONTENT_LEN};
use myriapod_peers::{Job, Result, listen};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Encoder, Framed};

/// What a task reads at once.
const BUFFER: usize = 4096;

async fn echo_bytes(mut stream: TcpStream) -> Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..len]).await?;
    }
}

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 << 10].into());
}

async fn echo_bytes_from_a_shared_buffer(mut stream: TcpStream) -> Result<()> {
    loop {
        stream.readable().await?;
        let rest = SHARED.with_borrow_mut(|buffer| -> Result<Option<Vec<u8>>> {
            let len = match stream.try_read(buffer) {
                Ok(0) => return Ok(None),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(Vec::new())),
                Err(error) => return Err(error.into()),
            };
            let sent = match stream.try_write(&buffer[..len]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error.into()),
            };
            Ok(Some(buffer[sent..len].to_vec()))
        })?;
        match rest {
            None => return Ok(()),
            Some(rest) if rest.is_empty() => {}
            Some(rest) => stream.write_all(&rest).await?,
        }
    }
}

/// The header of a message, which outlives the buffer that it came in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OwnedHeader {
    byteorder: String,
    content_type: String,
    content_encoding: String,
    content_length: usize,
}

#[derive(Debug)]
struct Message {
    header: OwnedHeader,
    content: Bytes,
}

/// Keeps the header while the content is still to come.
#[derive(Debug, Default)]
struct Codec {
    header: Option<OwnedHeader>,
}

impl Decoder for Codec {
    type Item = Message;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Message>> {
        if self.header.is_none() {
            let Some(prefix) = input.first_chunk::<2>() else { return Ok(None) };
            let len = usize::from(u16::from_be_bytes(*prefix));
            let Some(header) = input.get(2..2 + len) else { return Ok(None) };
            let header: OwnedHeader = serde_json::from_slice(header)?;
            if header.content_length > MAX_CONTENT_LEN {
                return Err("content too long".into());
            }
            input.advance(2 + len);
            self.header = Some(header);
        }
        match self.header.take() {
            Some(header) if input.len() >= header.content_length => {
                let content = input.split_to(header.content_length).freeze();
                Ok(Some(Message { header, content }))
            }
            header => {
                self.header = header;
                Ok(None)
            }
        }
    }
}

impl Encoder<Message> for Codec {
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn encode(&mut self, message: Message, out: &mut BytesMut) -> Result<()> {
        let header = Header {
            byteorder: message.header.byteorder.as_str().into(),
            content_type: message.header.content_type.as_str().into(),
            content_encoding: message.header.content_encoding.as_str().into(),
            content_length: message.content.len(),
        };
        let start = out.len();
        out.put_u16(0);
        serde_json::to_writer((&mut *out).writer(), &header)?;
        let len = u16::try_from(out.len() - start - 2)?;
        out[start..start + 2].copy_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&message.content);
        Ok(())
    }
}

/// The reply to a message.
fn answer(job: Job, message: Message) -> Result<Message> {
    if job != Job::Search {
        return Ok(message);
    }
    let content: Bytes = message::search(&message.content)?.into();
    let header = OwnedHeader {
        byteorder: "little".to_owned(),
        content_type: "text/json".to_owned(),
        content_encoding: "utf-8".to_owned(),
        content_length: content.len(),
    };
    Ok(Message { header, content })
}

async fn serve_messages(stream: TcpStream, job: Job) -> Result<()> {
    let mut framed = Framed::new(stream, Codec::default());
    while let Some(message) = framed.next().await {
        framed.feed(answer(job, message?)?).await?;
        // Flushes once no further message is there, not for each.
        while let Some(Some(message)) = framed.next().now_or_never() {
            framed.feed(answer(job, message?)?).await?;
        }
        framed.flush().await?;
    }
    Ok(())
}

async fn serve() -> Result<()> {
    let job = Job::from_args()?;
    let shared_buffer = std::env::args().any(|arg| arg == "--shared-buffer");
    let listener = TcpListener::from_std(listen()?)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accept: {error}");
                continue;
            }
        };
        stream.set_nodelay(true)?;
        match job {
            Job::Raw if shared_buffer => {
                drop(tokio::spawn(echo_bytes_from_a_shared_buffer(stream)))
            }
            Job::Raw => drop(tokio::spawn(echo_bytes(stream))),
            Job::Echo | Job::Search => drop(tokio::spawn(serve_messages(stream, job))),
        }
    }
}

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve())
}
