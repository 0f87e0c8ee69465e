//! What RFC 8446, section 7, derives from a secret.

use ring::aead::{LessSafeKey, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf;
use zeroize::Zeroize;

use crate::suite::Suite;

/// The longest secret of any suite.
pub(crate) const MOST_SECRET: usize = 48;

/// Bytes of a nonce, in every suite.
pub(crate) const IV_LEN: usize = 12;

/// How many bytes to derive.
struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label (RFC 8446, 7.1): fills `out`.
pub(crate) fn expand_label(
    secret: &hkdf::Prk,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) -> Result<(), Unspecified> {
    let total = u16::try_from(out.len()).map_err(|_| Unspecified)?.to_be_bytes();
    let label_len = [u8::try_from(PREFIX.len() + label.len()).map_err(|_| Unspecified)?];
    let context_len = [u8::try_from(context.len()).map_err(|_| Unspecified)?];
    let info = [&total[..], &label_len, PREFIX, label, &context_len, context];
    secret.expand(&info, Len(out.len()))?.fill(out)
}

const PREFIX: &[u8] = b"tls13 ";

/// The cipher of one direction, ready for use.
pub(crate) struct Cipher {
    pub(crate) key: LessSafeKey,
    pub(crate) iv: [u8; IV_LEN],
}

impl Cipher {
    /// Derives key and nonce from a traffic secret (RFC 8446, 7.3).
    pub(crate) fn wake(suite: Suite, secret: &[u8]) -> Result<Self, Unspecified> {
        let secret = hkdf::Prk::new_less_safe(suite.hkdf(), secret);
        let mut bytes = [0; 32];
        let key = bytes.get_mut(..suite.key_len()).ok_or(Unspecified)?;
        expand_label(&secret, b"key", b"", key)?;
        let key = UnboundKey::new(suite.aead(), key).map(LessSafeKey::new);
        bytes.zeroize();
        let mut iv = [0; IV_LEN];
        expand_label(&secret, b"iv", b"", &mut iv)?;
        Ok(Self { key: key?, iv })
    }

    /// Key and nonce as bytes, to compare them with those of others.
    pub(crate) fn raw(
        suite: Suite,
        secret: &[u8],
    ) -> Result<([u8; 32], [u8; IV_LEN]), Unspecified> {
        let secret = hkdf::Prk::new_less_safe(suite.hkdf(), secret);
        let (mut key, mut iv) = ([0; 32], [0; IV_LEN]);
        expand_label(&secret, b"key", b"", key.get_mut(..suite.key_len()).ok_or(Unspecified)?)?;
        expand_label(&secret, b"iv", b"", &mut iv)?;
        Ok((key, iv))
    }

    /// The nonce of the record with this number (RFC 8446, 5.3).
    pub(crate) fn nonce(&self, sequence: u64) -> ring::aead::Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().skip(4).zip(sequence.to_be_bytes()) {
            *byte ^= number;
        }
        ring::aead::Nonce::assume_unique_for_key(nonce)
    }
}

/// The secret that follows this one after a `KeyUpdate` (RFC 8446, 7.2), in its place.
pub(crate) fn next_secret(suite: Suite, secret: &mut [u8]) -> Result<(), Unspecified> {
    let mut next = [0; MOST_SECRET];
    let filled = next.get_mut(..secret.len()).ok_or(Unspecified)?;
    let prk = hkdf::Prk::new_less_safe(suite.hkdf(), secret);
    expand_label(&prk, b"traffic upd", b"", filled)?;
    secret.copy_from_slice(filled);
    next.zeroize();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8448, section 3: "derive write traffic keys for application data" of the server.
    #[test]
    fn are_key_and_iv_those_of_rfc_8448() {
        let secret = hex("a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643");
        let (key, iv) = Cipher::raw(Suite::Aes128Gcm, &secret).expect("lengths are right");
        assert_eq!(key[..16], hex("9f02283b6c9c07efc26bb9f2ac92e356")[..]);
        assert_eq!(iv[..], hex("cf782b88dd83549aadf1e984")[..]);
        // The client's.
        let secret = hex("9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5");
        let (key, iv) = Cipher::raw(Suite::Aes128Gcm, &secret).expect("lengths are right");
        assert_eq!(key[..16], hex("17422dda596ed5d9acd890e3c63f5051")[..]);
        assert_eq!(iv[..], hex("5b78923dee08579033e523d9")[..]);
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter_map(|digit| digit.to_digit(16))
            .filter_map(|digit| u8::try_from(digit).ok())
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }
}
