//! Does memory that is given back leave, and come back when it is needed?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use myriapod_sys::release_pages;

#[test]
fn does_released_memory_leave_and_come_back() {
    const LEN: usize = 8 << 20;
    let mut buffer = vec![7; LEN];
    buffer.truncate(5);
    let before = resident(&buffer);
    let released = release_pages(&mut buffer);
    assert!((LEN - (256 << 10)..LEN).contains(&released), "{released} of {LEN} bytes");
    if let (Some(before), Some(after)) = (before, resident(&buffer)) {
        assert!(before >= LEN as u64 / 2 && after < before / 4, "{before}, then {after} bytes");
    }
    assert_eq!((buffer.as_slice(), buffer.capacity()), (&[7; 5][..], LEN));
    buffer.resize(LEN, 9);
    assert!(buffer[5..].iter().all(|byte| *byte == 9));
}

#[test]
fn is_a_buffer_without_a_whole_spare_page_left_alone() {
    assert_eq!(release_pages(&mut Vec::new()), 0);
    assert_eq!(release_pages(&mut Vec::with_capacity(100)), 0);
    assert_eq!(release_pages(&mut vec![1; 1 << 20]), 0);
}

/// Resident bytes of the mapping that holds `buffer`; `None` where the system does not tell.
fn resident(buffer: &[u8]) -> Option<u64> {
    let address = buffer.as_ptr() as u64;
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let mut lines = smaps.lines();
    lines.by_ref().find(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        range.is_some_and(|(start, end)| {
            let parse = |hex| u64::from_str_radix(hex, 16);
            parse(start).is_ok_and(|start| start <= address)
                && parse(end).is_ok_and(|end| address < end)
        })
    })?;
    let line = lines.find_map(|line| line.strip_prefix("Rss:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().unwrap() << 10)
}
