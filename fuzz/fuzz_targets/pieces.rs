//! A stream and the pieces in which it arrives, made from one input.

/// Bytes at the input's end that say how long the pieces are.
const LENGTHS: usize = 8;

/// The stream, and its pieces: their lengths are the last bytes of the input, over and over.
pub fn split(input: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let (stream, lengths) = input.split_at(input.len().saturating_sub(LENGTHS));
    let mut rest = stream;
    let mut pieces = Vec::new();
    for &len in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        // An empty piece changes nothing, and eight of them would never end.
        let (piece, behind) = rest.split_at((usize::from(len) + 1).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    (stream, pieces)
}
