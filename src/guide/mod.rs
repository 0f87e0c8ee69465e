#![doc = include_str!("guide.md")]

macro_rules! pages {
    ($($name:ident $file:literal)*) => {
        $(#[doc = include_str!($file)]
        pub mod $name {})*
    };
}

pages! {
    ladder "ladder.md"
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
    glossary "glossary.md"
    delay "delay.md"
    queues "queues.md"
    time_wait "time_wait.md"
    half_open "half_open.md"
    signals "signals.md"
    timers "timers.md"
    many_threads "many_threads.md"
    edge "edge.md"
    fairness "fairness.md"
    duplicates "duplicates.md"
    memory "memory.md"
    measuring "measuring.md"
    million "million.md"
    io_uring "io_uring.md"
}
