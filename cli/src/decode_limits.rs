//! [`DecodeLimitArgs`]: how long the parts of a message may be that is read here.

use myriapod::protocol::DecodeLimits;

use crate::failure::Failure;
use crate::units::Size;

/// The longest header that two bytes can announce.
const HEADER_LEN_CEILING: usize = 65_535;

/// The bounds on the messages that `send` and `decode` accept.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DecodeLimitArgs {
    /// The longest JSON header that is accepted; 65535 at most
    #[arg(long, value_name = "SIZE",
        default_value_t = Size(DecodeLimits::default().max_header_len))]
    max_header_len: Size,
    /// The longest content that is accepted, and what is held in memory: 65536, 64KiB, 1MiB
    #[arg(long, value_name = "SIZE",
        default_value_t = Size(DecodeLimits::default().max_content_len))]
    max_content_len: Size,
}

impl DecodeLimitArgs {
    pub(crate) fn to_limits(&self) -> Result<DecodeLimits, Failure> {
        check("--max-header-len", self.max_header_len, HEADER_LEN_CEILING)?;
        check("--max-content-len", self.max_content_len, DecodeLimits::MAX_CONTENT_LEN)?;
        Ok(DecodeLimits {
            max_header_len: self.max_header_len.0,
            max_content_len: self.max_content_len.0,
        })
    }
}

fn check(flag: &str, size: Size, ceiling: usize) -> Result<(), Failure> {
    if size.0 > ceiling {
        return Err(Failure::usage(format_args!("{flag} ({}) must be at most {ceiling}", size.0)));
    }
    Ok(())
}
