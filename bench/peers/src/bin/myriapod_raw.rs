//! myriapod's own engine, with the framing that takes whatever has come for a message: the bytes are
//! sent back as they are, with all limits and deadlines on. `--backend NAME` chooses the API.

#![forbid(unsafe_code)]

use myriapod::protocol::Raw;
use myriapod::{Backend, HandlerResult, Message, Reply, Server};
use myriapod_peers::{Result, announce};

fn answer(message: Message<'_>, reply: &mut Reply<'_>) -> HandlerResult {
    reply.binary_with("", |out| out.append(message.content()))?;
    Ok(())
}

fn main() -> Result<()> {
    myriapod::sys::raise_descriptor_limit()?;
    let named = std::env::args().skip_while(|arg| arg != "--backend").nth(1);
    let backend = named.map_or_else(|| Ok(Backend::native()), |name| name.parse())?;
    let mut server = Server::builder()
        .listen("127.0.0.1", 0)
        .backend(backend)
        .build_with(Raw::default(), answer)?;
    let address = server.addresses().first().ok_or("no address")?;
    announce(address.port().ok_or("no port")?);
    server.run()?;
    Ok(())
}
