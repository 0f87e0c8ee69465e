//! Where bytes are in others, without the crate that is quick at it.

/// Where `needle` begins in `haystack` for the first time. An empty one is nowhere.
pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return None;
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}
