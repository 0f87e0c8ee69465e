//! UTF-7, which Python reads: text that passes where only seven bits do (RFC 2152).
//!
//! Outside of the shifted parts, every ASCII character but `+` stands for itself, as Python has it too.

/// `bytes` as text; `None` where they are malformed.
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' if rest.first() == Some(&b'-') => {
                text.push('+');
                rest = rest.get(1..)?;
            }
            b'+' => {
                let len = rest.iter().take_while(|digit| value(**digit).is_some()).count();
                let (shifted, behind) = rest.split_at(len);
                // A shift to nothing is none.
                if shifted.is_empty() && !behind.is_empty() {
                    return None;
                }
                text.push_str(&unshift(shifted)?);
                rest = behind.strip_prefix(b"-").unwrap_or(behind);
            }
            0..=0x7f => text.push(byte.into()),
            _ => return None,
        }
    }
    Some(text)
}

/// UTF-16, most significant byte first, in base64 without padding.
fn unshift(digits: &[u8]) -> Option<String> {
    let (mut units, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(value(*digit)?);
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    // What is left fills a digit up, with zeros.
    if count >= 6 || bits != 0 {
        return None;
    }
    String::from_utf16(&units).ok()
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_the_examples_of_the_rfc_read() {
        let text = |bytes: &[u8]| decode(bytes);
        assert_eq!(text(b"A+ImIDkQ.").as_deref(), Some("A\u{2262}\u{391}."));
        assert_eq!(text(b"Hi Mom -+Jjo--!").as_deref(), Some("Hi Mom -\u{263a}-!"));
        assert_eq!(text(b"+ZeVnLIqe-").as_deref(), Some("日本語"));
        assert_eq!(text(b"1 +- 1 = 2").as_deref(), Some("1 + 1 = 2"));
        assert_eq!(text(b"+2D3cMA-").as_deref(), Some("🐰"));
    }

    #[test]
    fn is_malformed_text_refused() {
        for bytes in [&b"\x80"[..], b"+2D0-", b"+A-", b"+AAAA+", b"+ !", b"+AAB-"] {
            assert_eq!(decode(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
