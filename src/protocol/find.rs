//! Where bytes are in others, by the fastest means that there is.

/// Where `needle` begins in `haystack` for the first time. An empty one is nowhere.
pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    match *needle {
        [] => None,
        [byte] => memchr::memchr(byte, haystack),
        _ => memchr::memmem::find(haystack, needle),
    }
}
