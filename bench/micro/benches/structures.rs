//! The slab and the timing wheel, one operation each, with 1,000 and with 1,000,000 entries.

use std::hint::black_box;

use iai_callgrind::{library_benchmark, library_benchmark_group, main};
use myriapod::Key;
use myriapod::slab::Slab;
use myriapod::timer::{TimerEntries, TimerLinks, Wheel};

fn slab(len: u64) -> (Slab<u64>, Key) {
    let mut slab = Slab::new();
    let mut middle = None;
    for value in 0..len {
        let key = slab.insert(value).unwrap();
        if value == len / 2 {
            middle = Some(key);
        }
    }
    (slab, middle.unwrap())
}

#[library_benchmark]
#[bench::thousand(slab(1_000))]
#[bench::million(slab(1_000_000))]
fn slab_get((slab, key): (Slab<u64>, Key)) -> (Slab<u64>, Option<u64>) {
    let value = slab.get(black_box(key)).copied();
    (slab, value)
}

#[library_benchmark]
#[bench::thousand(slab(1_000))]
#[bench::million(slab(1_000_000))]
fn slab_remove_and_insert((mut slab, key): (Slab<u64>, Key)) -> (Slab<u64>, Option<Key>) {
    let value = slab.remove(black_box(key)).unwrap_or_default();
    let key = slab.insert(value).ok();
    (slab, key)
}

struct Entries(Vec<TimerLinks>);

impl TimerEntries for Entries {
    fn links(&mut self, index: u32) -> Option<&mut TimerLinks> {
        self.0.get_mut(index as usize)
    }
}

/// All armed, for between one and a thousand seconds from now.
fn wheel(len: u32) -> (Wheel, Entries) {
    let mut entries = Entries(vec![TimerLinks::UNARMED; len as usize]);
    let mut wheel = Wheel::new();
    for index in 0..len {
        wheel.arm(&mut entries, index, 100 + index.wrapping_mul(2_654_435_761) % 100_000);
    }
    (wheel, entries)
}

#[library_benchmark]
#[bench::thousand(wheel(1_000))]
#[bench::million(wheel(1_000_000))]
fn wheel_arm_anew((mut wheel, mut entries): (Wheel, Entries)) -> (Wheel, Entries) {
    wheel.arm(black_box(&mut entries), 7, 30_000);
    (wheel, entries)
}

#[library_benchmark]
#[bench::thousand(wheel(1_000))]
#[bench::million(wheel(1_000_000))]
fn wheel_cancel((mut wheel, mut entries): (Wheel, Entries)) -> (Wheel, Entries) {
    wheel.cancel(black_box(&mut entries), 7);
    (wheel, entries)
}

#[library_benchmark]
#[bench::thousand(wheel(1_000))]
#[bench::million(wheel(1_000_000))]
fn wheel_expire_none((mut wheel, mut entries): (Wheel, Entries)) -> (Wheel, Entries, Option<u32>) {
    let expired = wheel.expire(black_box(&mut entries), 50, &mut 64);
    (wheel, entries, expired)
}

library_benchmark_group!(
    name = structures;
    benchmarks = slab_get, slab_remove_and_insert, wheel_arm_anew, wheel_cancel, wheel_expire_none
);

main!(library_benchmark_groups = structures);
