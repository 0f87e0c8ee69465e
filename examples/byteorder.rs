//! Numbers and text from a machine of the other byte order.
//!
//! ```text
//! $ cargo run --example byteorder
//! this machine is 'little'-endian
//! ```
//!
//! Bytes have no order, numbers of several bytes do. The lengths in this protocol are in network
//! order, which is big-endian; content is in the sender's own, and the header says which.
//!
//! Beside it: nobody. Watch: the same bytes, read in both orders.

use std::process::ExitCode;

use command::Stop;
use myriapod::protocol::{ByteOrder, Decoder, Head, JsonHeader, encode};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

fn main() -> ExitCode {
    command::lesson(|| {
        println!("this machine is '{}'-endian", ByteOrder::NATIVE.name());
        one_number();
        binary_content()?;
        text()
    })
}

/// Python's `struct.pack('>H', 256)` and back.
fn one_number() {
    let network = 256_u16.to_be_bytes();
    println!("256 in network order is {}", python_repr::bytes(&network));
    println!("read in network order that is {}", u16::from_be_bytes(network));
    println!("read in the other order it is {}", u16::from_le_bytes(network));
}

/// The same two numbers from a machine of each kind: the header tells how to read them.
fn binary_content() -> Result<(), Stop> {
    let big = [&1_u32.to_be_bytes()[..], &(-0.5_f64).to_be_bytes()].concat();
    let little = [&1_u32.to_le_bytes()[..], &(-0.5_f64).to_le_bytes()].concat();
    for (byteorder, content) in [(ByteOrder::Big, big), (ByteOrder::Little, little)] {
        let head = Head { byteorder, ..Head::binary("binary/numbers") };
        let mut decoder = Decoder::new(JsonHeader::default());
        encode(decoder.buffer_mut(), &head, &content)?;
        let Some(message) = decoder.next_message()? else { continue };
        println!("from a '{}'-endian sender: {}", byteorder.name(), python_repr::bytes(&content));
        let (whole, fraction) = (message.read_u32(0), message.read_f64(4));
        if let (Some(whole), Some(fraction)) = (whole, fraction) {
            println!("    read as the header says: {whole} and {fraction}");
        }
    }
    Ok(())
}

/// UTF-16 has two bytes and more for a character, so it has an order too; UTF-8 has none.
fn text() -> Result<(), Stop> {
    let json = "\"né 🐶\"";
    let utf16 = |order: fn(u16) -> [u8; 2], mark: &str| {
        let units: Vec<u16> = mark.encode_utf16().chain(json.encode_utf16()).collect();
        units.into_iter().flat_map(order).collect::<Vec<u8>>()
    };
    let mark = "\u{feff}";
    for (what, byteorder, content_encoding, content) in [
        ("utf-8", ByteOrder::Big, "utf-8", json.as_bytes().to_vec()),
        ("utf-16 of a big-endian sender", ByteOrder::Big, "utf-16", utf16(u16::to_be_bytes, "")),
        ("utf-16-le, from any machine", ByteOrder::Big, "utf-16-le", utf16(u16::to_le_bytes, "")),
        ("utf-16 with a mark, which wins", ByteOrder::Big, "utf-16", utf16(u16::to_le_bytes, mark)),
    ] {
        let head = Head { byteorder, content_encoding, ..Head::json() };
        let mut decoder = Decoder::new(JsonHeader::default());
        encode(decoder.buffer_mut(), &head, &content)?;
        let Some(message) = decoder.next_message()? else { continue };
        println!("{what}: {}", python_repr::bytes(&content));
        println!("    is {}", python_repr::text(message.json()?.as_str().unwrap_or_default()));
    }
    Ok(())
}
