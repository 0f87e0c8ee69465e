#![doc = include_str!("guide.md")]

macro_rules! pages {
    ($($name:ident $file:literal)*) => {
        $(#[doc = include_str!($file)]
        pub mod $name {})*
    };
}

pages! {
    one_socket "one_socket.md"
    socket_state "socket_state.md"
    threads "threads.md"
    short_counts "short_counts.md"
    readiness "readiness.md"
    selector "selector.md"
    messages "messages.md"
    own_protocol "own_protocol.md"
    state "state.md"
    event_loop "event_loop.md"
    backpressure "backpressure.md"
    other_work "other_work.md"
    files "files.md"
    embedding "embedding.md"
    rooms "rooms.md"
    secure "secure.md"
    datagrams "datagrams.md"
    troubleshooting "troubleshooting.md"
    errors "errors.md"
    address_families "address_families.md"
    names "names.md"
    blocking "blocking.md"
    closing "closing.md"
    byte_order "byte_order.md"
    delay "delay.md"
}
