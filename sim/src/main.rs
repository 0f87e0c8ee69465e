//! cargo sim

#[cfg(not(myriapod_sim))]
compile_error!(
    "this program needs `--cfg myriapod_sim`, which `cargo sim` sets; \
     RUSTFLAGS in the environment take its place: unset them, or add the cfg there"
);

fn main() {
    let world = myriapod::sys::sim::World::enter(1, myriapod::sys::sim::Faults::none());
    let mut server = myriapod::Server::builder()
        .listen("10.0.0.1", 7)
        .answer(|message: myriapod::Message<'_>, reply: &mut myriapod::Reply<'_>| {
            reply.echo(&message)?;
            Ok(())
        })
        .unwrap();
    let peer = myriapod::sys::sim::Remote::connect(
        &myriapod::SocketAddr::from(([10, 0, 0, 2], 1)),
        &server.addresses()[0],
    );
    let mut request = Vec::new();
    myriapod::protocol::encode(&mut request, &myriapod::protocol::Head::binary("x"), b"hello")
        .unwrap();
    for _ in 0..10 {
        server.event_loop().run_once(Some(std::time::Duration::from_millis(1))).unwrap();
        if peer.is_connected() && !request.is_empty() {
            peer.send(&request).unwrap();
            request.clear();
        }
    }
    println!("{:?} {:?}", peer.recv(1000).map(|b| String::from_utf8_lossy(&b).into_owned()), world);
    println!("{}", server.stats());
}
