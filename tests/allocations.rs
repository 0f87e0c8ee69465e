//! Does the hot path allocate? Counted by an allocator of this test's own.

#![expect(clippy::panic, reason = "a helper of tests fails as a test does")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use myriapod::protocol::{
    ByteOrder, Decoded, ExtraHeaders, Framing, Head, JsonHeader, Message, Padded, Raw, encode,
    encode_padded,
};

struct Counting;

thread_local! {
    /// Allocations of this thread: other threads of the test run do not disturb.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps
// the contract; counting touches no memory that is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout, as `alloc` passes on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as for `dealloc`; the caller answers for `new_size`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(mut work: impl FnMut()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Decodes once to learn, then counts.
fn allocations_of_decoding(framing: &mut impl Framing, wires: &[&[u8]]) -> u64 {
    let decode = |framing: &mut dyn Framing| {
        for wire in wires {
            let Ok(Decoded::Message(frame)) = framing.decode(wire) else { panic!() };
            let message = Message::new(wire, &frame);
            black_box((message.content(), message.content_type(), message.is_json()));
        }
    };
    for _ in 0..8 {
        decode(framing);
    }
    allocations(|| decode(framing))
}

#[test]
fn is_the_counter_awake() {
    assert!(allocations(|| drop(black_box(vec![1_u8]))) > 0);
}

#[test]
fn does_decoding_a_predicted_header_allocate() {
    let mut wires = Vec::new();
    for (head, content) in [
        (Head::json(), &b"[1, 2, 3, 4]"[..]),
        (Head::json(), b"{}"),
        (Head::binary("a/b"), b""),
        (Head { byteorder: ByteOrder::Big, ..Head::json() }, b"[]"),
    ] {
        let mut wire = Vec::new();
        encode(&mut wire, &head, content).unwrap();
        wires.push(wire);
    }
    // PHP escapes the slash.
    let escaped = br#"{"byteorder":"big","content-type":"text\/json","content-encoding":"utf-8","content-length":0}"#;
    let mut wire = vec![0, u8::try_from(escaped.len()).unwrap()];
    wire.extend(escaped);
    wires.push(wire);

    let wires: Vec<&[u8]> = wires.iter().map(Vec::as_slice).collect();
    assert_eq!(allocations_of_decoding(&mut JsonHeader::default(), &wires), 0);
}

#[test]
fn do_the_other_framings_allocate() {
    let mut wire = Vec::new();
    encode_padded(&mut wire, "Hello World!").unwrap();
    assert_eq!(allocations_of_decoding(&mut Padded::default(), &[&wire]), 0);
    assert_eq!(allocations_of_decoding(&mut Raw, &[b"abc"]), 0);
}

#[test]
fn does_encoding_with_known_headers_allocate() {
    let mut framing = JsonHeader::default();
    let mut out = Vec::with_capacity(4096);
    let mut id = ExtraHeaders::new();
    id.push("id", &12345).unwrap();
    let heads = [Head::json(), Head::binary("image/png"), Head { extra: &id, ..Head::json() }];
    let encode = |framing: &mut JsonHeader, out: &mut Vec<u8>| {
        for head in &heads {
            for content in [&b"short"[..], b"longer content"] {
                out.clear();
                let mark = framing.begin(out, head).unwrap();
                out.extend_from_slice(content);
                framing.finish(out, mark, head).unwrap();
                framing.encode(out, head, content).unwrap();
            }
        }
    };
    encode(&mut framing, &mut out);
    assert_eq!(allocations(|| encode(&mut framing, &mut out)), 0);
}

#[test]
fn does_copying_further_keys_allocate() {
    let mut extra = ExtraHeaders::new();
    extra.push("id", &7).unwrap();
    extra.push("tags", &["a", "b"]).unwrap();
    let mut wire = Vec::new();
    encode(&mut wire, &Head { extra: &extra, ..Head::json() }, b"[]").unwrap();
    let Ok(Decoded::Message(frame)) = JsonHeader::default().decode(&wire) else { panic!() };

    let mut copied = ExtraHeaders::new();
    let mut copy = || {
        copied.clear();
        copied.push_raw_from(&Message::new(&wire, &frame)).unwrap();
    };
    copy();
    assert_eq!(allocations(copy), 0);
    assert_eq!(copied, extra);
}
