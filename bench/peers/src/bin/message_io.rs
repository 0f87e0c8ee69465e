//! message-io: its own framing, a length in front of each message, sent back from the callback.

#![forbid(unsafe_code)]

use message_io::network::{NetEvent, Transport};
use message_io::node;
use myriapod_peers::{Result, announce};

fn main() -> Result<()> {
    myriapod_sys::raise_descriptor_limit()?;
    let (handler, listener) = node::split::<()>();
    let (_, address) = handler.network().listen(Transport::FramedTcp, "127.0.0.1:0")?;
    announce(address.port());
    listener.for_each(move |event| {
        if let NetEvent::Message(endpoint, message) = event.network() {
            handler.network().send(endpoint, message);
        }
    });
    Ok(())
}
