//! [`Fault`]: what went wrong on a secure connection, by name.

use std::fmt;

/// What went wrong on a secure connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The handshake was refused, by us or by the library that carries it out.
    HandshakeFailed,
    /// The handshake was not finished in time.
    HandshakeTimeout,
    /// Too many handshakes are under way.
    TooManyHandshakes,
    /// The secrets that were heard are not those that the handshake ended with.
    SecretMismatch,
    /// The first bytes are no record: plain text was sent to a port for TLS.
    NotARecord,
    /// A record is longer than RFC 8446 allows.
    RecordOverflow,
    /// A record cannot be decrypted.
    BadRecordMac,
    /// A message that may not come at this time.
    UnexpectedMessage,
    /// A handshake message does not end with its record.
    SplitHandshake,
    /// A message has the wrong length.
    DecodeError,
    /// A message has a value that does not exist.
    IllegalParameter,
    /// Too many `KeyUpdate` messages, with no data between them.
    TooManyKeyUpdates,
    /// Too many records in a row without data.
    TooManyEmptyRecords,
    /// The peer has sent this alert, and ended the connection by it.
    PeerAlert(u8),
    /// No further record can be encrypted or decrypted.
    Exhausted,
    /// The stream ended without `close_notify`: something may be missing.
    Truncated,
}

/// Alerts of RFC 8446, section 6, that this crate sends or passes over.
pub(crate) mod alert {
    pub(crate) const CLOSE_NOTIFY: u8 = 0;
    pub(crate) const UNEXPECTED_MESSAGE: u8 = 10;
    pub(crate) const BAD_RECORD_MAC: u8 = 20;
    pub(crate) const RECORD_OVERFLOW: u8 = 22;
    pub(crate) const HANDSHAKE_FAILURE: u8 = 40;
    pub(crate) const ILLEGAL_PARAMETER: u8 = 47;
    pub(crate) const DECODE_ERROR: u8 = 50;
    pub(crate) const INTERNAL_ERROR: u8 = 80;
    pub(crate) const USER_CANCELED: u8 = 90;
}

impl Fault {
    /// The name: one word, the same in every version of this crate.
    ///
    /// ```
    /// assert_eq!(myriapod_tls::Fault::BadRecordMac.name(), "BadRecordMac");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HandshakeFailed => "HandshakeFailed",
            Self::HandshakeTimeout => "HandshakeTimeout",
            Self::TooManyHandshakes => "TooManyHandshakes",
            Self::SecretMismatch => "SecretMismatch",
            Self::NotARecord => "NotARecord",
            Self::RecordOverflow => "RecordOverflow",
            Self::BadRecordMac => "BadRecordMac",
            Self::UnexpectedMessage => "UnexpectedMessage",
            Self::SplitHandshake => "SplitHandshake",
            Self::DecodeError => "DecodeError",
            Self::IllegalParameter => "IllegalParameter",
            Self::TooManyKeyUpdates => "TooManyKeyUpdates",
            Self::TooManyEmptyRecords => "TooManyEmptyRecords",
            Self::PeerAlert(_) => "PeerAlert",
            Self::Exhausted => "Exhausted",
            Self::Truncated => "Truncated",
        }
    }

    /// The alert that the peer is sent; `None` where it is sent none.
    ///
    /// ```
    /// # use myriapod_tls::Fault;
    /// assert_eq!(Fault::TooManyKeyUpdates.alert(), Some(10), "unexpected_message");
    /// assert_eq!(Fault::PeerAlert(40).alert(), None, "an alert is not answered");
    /// ```
    #[must_use]
    pub const fn alert(self) -> Option<u8> {
        Some(match self {
            Self::HandshakeFailed => alert::HANDSHAKE_FAILURE,
            Self::SecretMismatch | Self::Exhausted => alert::INTERNAL_ERROR,
            Self::RecordOverflow => alert::RECORD_OVERFLOW,
            Self::BadRecordMac => alert::BAD_RECORD_MAC,
            Self::UnexpectedMessage
            | Self::SplitHandshake
            | Self::TooManyKeyUpdates
            | Self::TooManyEmptyRecords => alert::UNEXPECTED_MESSAGE,
            Self::DecodeError => alert::DECODE_ERROR,
            Self::IllegalParameter => alert::ILLEGAL_PARAMETER,
            // Who has given up, or is gone, is told nothing.
            Self::HandshakeTimeout
            | Self::TooManyHandshakes
            | Self::NotARecord
            | Self::PeerAlert(_)
            | Self::Truncated => return None,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::HandshakeFailed => "the handshake failed",
            Self::HandshakeTimeout => "the handshake was not finished in time",
            Self::TooManyHandshakes => "too many handshakes are under way",
            Self::SecretMismatch => "the secrets heard are not those of the handshake",
            Self::NotARecord => "the first bytes are no TLS record: was plain text sent?",
            Self::RecordOverflow => "a record is too long",
            Self::BadRecordMac => "a record cannot be decrypted",
            Self::UnexpectedMessage => "a message came that may not come now",
            Self::SplitHandshake => "a handshake message does not end with its record",
            Self::DecodeError => "a message has the wrong length",
            Self::IllegalParameter => "a message has a value that does not exist",
            Self::TooManyKeyUpdates => "too many KeyUpdate messages without data between them",
            Self::TooManyEmptyRecords => "too many records in a row without data",
            Self::PeerAlert(code) => {
                return match alert_name(*code) {
                    Some(name) => write!(f, "the peer sent the alert {name} ({code})"),
                    None => write!(f, "the peer sent the alert {code}"),
                };
            }
            Self::Exhausted => "no further record can be encrypted or decrypted",
            Self::Truncated => "the stream ended without close_notify",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Fault {}

/// The name that RFC 8446, section 6, gives an alert.
#[must_use]
pub fn alert_name(code: u8) -> Option<&'static str> {
    Some(match code {
        alert::CLOSE_NOTIFY => "close_notify",
        alert::UNEXPECTED_MESSAGE => "unexpected_message",
        alert::BAD_RECORD_MAC => "bad_record_mac",
        alert::RECORD_OVERFLOW => "record_overflow",
        alert::HANDSHAKE_FAILURE => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        alert::ILLEGAL_PARAMETER => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        alert::DECODE_ERROR => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        alert::INTERNAL_ERROR => "internal_error",
        86 => "inappropriate_fallback",
        alert::USER_CANCELED => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => return None,
    })
}
