//! [`Stream`]: what one side of a TCP connection sent, put together from segments.

use std::collections::BTreeMap;

/// The bytes of one side, and when they came.
///
/// Segments may come twice, overlap and change places (RFC 9293, section 3.10.7.4). What a capture has
/// no segment for ends the stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    /// From so many bytes on they came at this time, in nanoseconds; ascending.
    times: Vec<(usize, u64)>,
    /// The sequence number of the first byte.
    first: u32,
    /// Segments behind a gap: where they begin, when they came, and their bytes.
    ahead: BTreeMap<usize, (u64, Vec<u8>)>,
}

impl Stream {
    /// Of a connection whose SYN had this sequence number.
    pub(super) const fn new(syn: u32) -> Self {
        Self {
            bytes: Vec::new(),
            times: Vec::new(),
            first: syn.wrapping_add(1),
            ahead: BTreeMap::new(),
        }
    }

    /// The sequence number of its SYN.
    pub(super) const fn syn(&self) -> u32 {
        self.first.wrapping_sub(1)
    }

    /// When the byte at this place came.
    pub(super) fn at(&self, place: usize) -> u64 {
        let behind = self.times.partition_point(|(from, _)| *from <= place);
        let last = self.times.get(behind.saturating_sub(1));
        last.map_or(0, |(_, at)| *at)
    }

    /// Whether bytes are missing, and later ones are there.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// A segment has come.
    pub(super) fn add(&mut self, sequence: u32, at: u64, payload: &[u8]) {
        // How far its first byte is from the next that is missing: sequence numbers go round.
        let next = self.bytes.len();
        let wrapped = u32::try_from(next & 0xffff_ffff).unwrap_or(0);
        let distance = sequence.wrapping_sub(self.first).wrapping_sub(wrapped).cast_signed();
        let known = usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX);
        if distance > 0 {
            let kept = self.ahead.entry(next + known).or_insert_with(|| (at, Vec::new()));
            if kept.1.len() < payload.len() {
                kept.1 = payload.to_vec();
            }
            return;
        }
        self.append(at, payload.get(known..).unwrap_or_default());
        while let Some(entry) = self.ahead.first_entry() {
            let (place, missing) = (*entry.key(), self.bytes.len());
            if place > missing {
                return;
            }
            let (at, bytes) = entry.remove();
            self.append(at, bytes.get(missing - place..).unwrap_or_default());
        }
    }

    fn append(&mut self, at: u64, new: &[u8]) {
        if new.is_empty() {
            return;
        }
        // What came early waited for what was missing, as the server saw it.
        let at = self.times.last().map_or(at, |(_, last)| at.max(*last));
        self.times.push((self.bytes.len(), at));
        self.bytes.extend_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(first: u32, segments: &[(u32, &[u8])]) -> Stream {
        let mut stream = Stream::new(first.wrapping_sub(1));
        for (nth, (offset, bytes)) in segments.iter().enumerate() {
            stream.add(first.wrapping_add(*offset), 10 * (nth as u64 + 1), bytes);
        }
        stream
    }

    #[test]
    fn are_segments_put_together_in_any_order() {
        // Also where sequence numbers go round.
        for first in [1, 1000, u32::MAX - 3, u32::MAX, 0x8000_0000] {
            for segments in [
                &[(0, &b"abc"[..]), (3, b"def"), (6, b"gh")][..],
                &[(3, b"def"), (0, b"abc"), (6, b"gh")],
                &[(6, b"gh"), (3, b"def"), (0, b"abc")],
                &[(0, b"abc"), (0, b"abc"), (2, b"cdefg"), (0, b"abcdefgh")],
                &[(3, b"d"), (3, b"defg"), (0, b"abc"), (5, b"fgh"), (1, b"b")],
            ] {
                let stream = stream(first, segments);
                assert_eq!(stream.bytes, b"abcdefgh", "{first} {segments:?}");
                assert!(!stream.has_gap());
            }
        }
    }

    #[test]
    fn does_a_gap_end_a_stream() {
        let stream = stream(7, &[(0, b"abc"), (5, b"fgh")]);
        assert_eq!(stream.bytes, b"abc");
        assert!(stream.has_gap());
    }

    #[test]
    fn does_a_byte_have_the_time_of_its_segment() {
        let stream = stream(7, &[(3, b"def"), (0, b"abc"), (6, b"gh")]);
        let times: Vec<_> = (0..8).map(|place| stream.at(place)).collect();
        // The second segment came first, and could not be read before the first.
        assert_eq!(times, [20, 20, 20, 20, 20, 20, 30, 30]);
    }
}
