//! The pool by itself.

use super::*;

pub(super) const OWNER: Owner = Owner { connection: Key::from_bits(1), address: 0 };
pub(super) const FREE: AddressLimit = AddressLimit { near: usize::MAX, others: usize::MAX };

fn unsent(pool: &Pool, handle: Lent) -> Vec<u8> {
    pool.send(handle).unwrap().slices().flatten().copied().collect()
}

#[test]
fn does_a_receive_buffer_reserve_no_more_than_bytes_arrive() {
    let mut pool = Pool::new(10 << 20, FREE, |_| 0);
    let needed = 1_000_100;
    let handle =
        pool.lend_recv(OWNER, b"the beginning", Missing::new(needed, true), (0, true)).unwrap();
    assert_eq!(pool.lent(), FIRST_CAPACITY, "an announced length alone reserves nothing");
    let mut capacities = Vec::new();
    while pool.recv(handle).unwrap().unread().len() < needed {
        pool.make_room(handle).unwrap();
        let mut bytes = pool.take_bytes(handle);
        capacities.push(bytes.capacity());
        bytes.extend(vec![7; bytes.capacity() - bytes.len()]);
        assert!(pool.put_bytes(handle, bytes));
        assert_eq!(pool.lent(), *capacities.last().unwrap());
    }
    let kib = |kib: usize| kib << 10;
    let doubling = [4, 8, 16, 32, 64, 128, 256, 512].map(kib);
    assert_eq!(capacities, [&doubling[..], &[needed]].concat(), "the last step is exact");
    pool.return_recv(handle);
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn does_a_buffer_double_whose_framing_asks_for_one_byte_more() {
    const LEN: usize = 1_000_000;
    let mut pool = Pool::new(10 << 20, FREE, |_| 0);
    let handle = pool.lend_recv(OWNER, b"GET /", Missing::new(6, false), (0, true)).unwrap();
    let mut capacities = Vec::new();
    while pool.recv(handle).unwrap().unread().len() < LEN {
        pool.make_room(handle).unwrap();
        let mut bytes = pool.take_bytes(handle);
        capacities.push(bytes.capacity());
        bytes.resize(bytes.capacity(), 7);
        let len = bytes.len();
        assert!(pool.put_bytes(handle, bytes));
        pool.recv_mut(handle).unwrap().missing.needed = len + 1;
    }
    assert!(capacities.len() <= 12, "{capacities:?}");
    assert!(capacities[0] >= LEAST_ROOM, "{capacities:?}");
    pool.return_recv(handle);
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn is_nobody_refused_for_room_that_may_not_be_needed() {
    let mut pool = Pool::new(500, FREE, |_| 0);
    let handle = pool.lend_recv(OWNER, b"0123456789", Missing::new(11, false), (0, true)).unwrap();
    assert_eq!(pool.lent(), 11);
    let mut bytes = pool.take_bytes(handle);
    bytes.push(b'!');
    pool.put_bytes(handle, bytes);
    pool.recv_mut(handle).unwrap().missing.needed = 12;
    pool.make_room(handle).unwrap();
    assert_eq!(pool.lent(), 12);
    pool.return_recv(handle);
}

#[test]
fn does_making_room_drop_what_is_done_with_and_keep_the_rest() {
    let mut pool = Pool::new(1 << 20, FREE, |_| 0);
    let handle = pool.lend_recv(OWNER, b"donerest", Missing::new(8, false), (0, true)).unwrap();
    pool.recv_mut(handle).unwrap().start = 4;
    pool.recv_mut(handle).unwrap().missing.needed = 20;
    pool.make_room(handle).unwrap();
    assert_eq!(pool.recv(handle).unwrap().unread(), b"rest");
    let mut bytes = pool.take_bytes(handle);
    assert!(bytes.capacity() > bytes.len(), "there is room for a byte at least");
    bytes.push(b'!');
    pool.put_bytes(handle, bytes);
    assert_eq!(pool.recv(handle).unwrap().unread(), b"rest!");
    pool.return_recv(handle);
}

#[test]
fn does_a_buffer_come_back_whose_connection_has_closed() {
    let mut pool = Pool::new(1 << 20, FREE, |_| 0);
    let handle = pool.lend_recv(OWNER, b"some bytes", Missing::new(100, false), (0, true)).unwrap();
    let bytes = pool.take_bytes(handle);
    pool.return_recv(handle);
    assert!(!pool.put_bytes(handle, bytes), "there is no place for it any more");
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn is_a_queue_as_it_was_when_the_pool_is_full() {
    let mut pool = Pool::new(50_000, FREE, |_| 0);
    let handle = pool.lend_send(OWNER, 0).unwrap();
    pool.queue(handle, b"first").unwrap();
    let lent = pool.lent();
    // A part of it would fit behind the first.
    assert_eq!(pool.queue(handle, &[7; 60_000]), Err(PoolFull));
    assert_eq!((unsent(&pool, handle), pool.lent()), (b"first".to_vec(), lent));
    assert_eq!(pool.send(handle).unwrap().len(), 5);
    assert_eq!(pool.return_send(handle), 5);
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn does_a_refused_buffer_cost_nothing() {
    let mut pool = Pool::new(100_000, FREE, |_| 0);
    let handle =
        pool.lend_recv(OWNER, &[1; 60_000], Missing::new(200_000, true), (0, true)).unwrap();
    let lent = pool.lent();
    assert_eq!(
        pool.lend_recv(OWNER, &[1; 60_000], Missing::new(60_001, true), (0, true)),
        Err(PoolFull)
    );
    let mut bytes = pool.take_bytes(handle);
    bytes.resize(bytes.capacity(), 2);
    pool.put_bytes(handle, bytes);
    assert_eq!(pool.make_room(handle), Err(PoolFull));
    assert_eq!((pool.lent(), pool.held()), (lent, 1));
    pool.return_recv(handle);
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn does_a_used_buffer_not_lead_over_the_limit() {
    let mut pool = Pool::new(100_000, FREE, |_| 0);
    let used = pool
        .lend_recv(OWNER, &[1; FIRST_CAPACITY], Missing::new(FIRST_CAPACITY, false), (0, true))
        .unwrap();
    pool.return_recv(used);
    let large =
        pool.lend_recv(OWNER, &[1; 80_000], Missing::new(80_000, false), (0, true)).unwrap();
    let small = pool.lend_recv(OWNER, b"x", Missing::new(2, false), (0, true)).unwrap();
    assert!(pool.lent() <= 100_000, "{} bytes", pool.lent());
    pool.return_recv(large);
    pool.return_recv(small);
}

fn owner(connection: u64, address: u32) -> Owner {
    Owner { connection: Key::from_bits(connection), address }
}

fn hold(pool: &mut Pool, owner: Owner, bytes: usize) -> Result<Lent, PoolFull> {
    pool.lend_recv(owner, &vec![7; bytes], Missing::new(bytes, true), (0, true))
}

fn who_gave_way(pool: &mut Pool) -> Vec<u64> {
    std::iter::from_fn(|| pool.next_that_gave_way()).map(Key::to_bits).collect()
}

#[test]
fn do_the_oldest_of_who_holds_most_give_way() {
    let mut pool = Pool::new(100_000, FREE, |_| 0);
    let first = hold(&mut pool, owner(1, 5), 20_000).unwrap();
    let crowd: Vec<_> = (2..6).map(|nth| hold(&mut pool, owner(nth, 9), 20_000).unwrap()).collect();
    let needy = hold(&mut pool, owner(7, 6), 30_000).unwrap();
    assert_eq!(who_gave_way(&mut pool), [3, 2], "the first is older, and holds less");
    assert_eq!(pool.take_taken(), Taken { received: 40_000, unsent: 0 });
    assert_eq!(pool.recv(needy).unwrap().unread().len(), 30_000);
    // What gave way is still there to be returned, and holds nothing.
    assert_eq!((pool.lent(), pool.held()), (90_000, 6));
    [first, needy].into_iter().chain(crowd).for_each(|handle| pool.return_recv(handle));
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn is_the_one_refused_who_would_have_to_give_way() {
    let mut pool = Pool::new(100_000, FREE, |_| 0);
    let small = hold(&mut pool, owner(1, 5), 10_000).unwrap();
    let large = hold(&mut pool, owner(2, 6), 80_000).unwrap();
    assert_eq!(hold(&mut pool, owner(2, 6), 20_000), Err(PoolFull));
    assert_eq!(hold(&mut pool, owner(3, 7), 200_000), Err(PoolFull), "it never fits");
    assert!(!pool.made_some_give_way());
    [small, large].into_iter().for_each(|handle| pool.return_recv(handle));
}

#[test]
fn does_a_queue_of_replies_give_way_whole() {
    let mut pool = Pool::new(100_000, FREE, |_| 0);
    let queue = pool.lend_send(owner(1, 5), 0).unwrap();
    pool.queue(queue, &[1; 30_000]).unwrap();
    pool.queue_shared(queue, &Arc::from([2; 40_000]), 0).unwrap();
    assert_eq!(pool.queue_shared(queue, &Arc::from([2; 40_000]), 0), Err(PoolFull));
    assert!(!pool.made_some_give_way(), "nobody gives way to a push");
    let other = hold(&mut pool, owner(2, 6), 50_000).unwrap();
    assert_eq!(who_gave_way(&mut pool), [1]);
    assert_eq!(pool.take_taken(), Taken { received: 0, unsent: 70_000 });
    assert!(pool.is_taken(queue));
    assert_eq!(pool.return_send(queue), 0);
    pool.return_recv(other);
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn is_a_small_buffer_lent_beyond_the_limit_up_to_a_second() {
    let mut pool = Pool::new(80_000, FREE, |_| 0);
    let large = hold(&mut pool, owner(1, 5), 80_000).unwrap();
    let floor: Vec<_> = (2..4).map(|nth| hold(&mut pool, owner(nth, 6), FLOOR).unwrap()).collect();
    assert!(!pool.made_some_give_way());
    let another = hold(&mut pool, owner(4, 6), FLOOR).unwrap();
    assert_eq!(who_gave_way(&mut pool), [1], "beyond the second limit, others give way");
    [large, another].into_iter().chain(floor).for_each(|handle| pool.return_recv(handle));
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn may_an_address_hold_no_more_than_its_share() {
    let limit = AddressLimit { near: usize::MAX, others: 50_000 };
    let usages = crate::usage::Usages::new();
    let usage = usages.enter("192.0.2.1".parse().unwrap(), 10).unwrap();
    let mut pool = Pool::new(1 << 20, limit, |_| 0);
    pool.open_address(5, usage, false);
    let first = hold(&mut pool, owner(1, 5), 30_000).unwrap();
    let other = hold(&mut pool, owner(2, 6), 200_000).unwrap();
    let second = hold(&mut pool, owner(3, 5), 30_000).unwrap();
    assert_eq!(who_gave_way(&mut pool), [1], "of its own address, though another holds more");
    assert_eq!(hold(&mut pool, owner(4, 5), 60_000), Err(PoolFull));
    assert!(!pool.made_some_give_way(), "nobody gives way in vain");
    [first, second, other].into_iter().for_each(|handle| pool.return_recv(handle));
    assert_eq!((pool.lent(), pool.held()), (0, 0));
}

#[test]
fn has_a_peer_some_time_left_when_we_read_on() {
    let mut clock = Stopwatch::new(100, true);
    clock.run(350, false, 200);
    assert_eq!(clock.since(), None);
    // It was late when reading paused, but nobody had looked.
    clock.run(1_000, true, 200);
    assert_eq!(clock.since(), Some(805));
    clock.run(1_010, false, 200);
    clock.run(2_000, true, 400);
    assert_eq!(clock.since(), Some(1_795));
}
