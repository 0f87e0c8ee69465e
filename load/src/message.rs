//! [`Messages`]: requests made ahead, and what their replies can be checked for.
//!
//! Each request carries a tag of up to 16 hexadecimal digits: the number of its connection and its
//! own. A service that gives the content back gives the tag back too, so that each reply can be
//! traced to its request.

use std::ops::Range;

use myriapod::protocol::{
    AnyFraming, AnyStream, DecodeLimits, Decoded, Frame, Framing, FramingSpec, Head, Input,
    JsonHeader, Message, Padded, encode,
};
use serde::{Deserialize, Serialize};

use crate::dialect;

/// Digits of a whole tag.
const TAG_LEN: usize = 16;

/// What stands before and behind the tag in the content of a search.
const SEARCH_START: &[u8] = br#"{"action": "search", "value": ""#;
const SEARCH_END: &[u8] = br#""}"#;

/// What the search service answers, before and behind the value.
const NO_MATCH_START: &[u8] = br#"{"result": "No match for '"#;
const NO_MATCH_END: &[u8] = br#"'."}"#;

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Searches in JSON-header messages.
    Search,
    /// JSON-header messages that come back.
    Echo,
    /// Bytes that come back.
    Raw,
    /// The tutorial's first program: texts behind a length of 64 characters.
    Padded,
    /// Whatever the server answers: any whole reply is right.
    Any,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Search, Self::Echo, Self::Raw, Self::Padded, Self::Any];

    /// Its name, as it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Echo => "echo",
            Self::Raw => "raw",
            Self::Padded => "padded",
            Self::Any => "any",
        }
    }

    /// The framing of its messages, where none is asked for.
    #[must_use]
    pub const fn framing(self) -> &'static str {
        match self {
            Self::Search | Self::Echo | Self::Any => "json-header",
            Self::Raw => "raw",
            Self::Padded => "padded",
        }
    }
}

/// The content of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// So many bytes, made up, with a tag.
    Bytes(usize),
    /// These, without a tag.
    Given(Vec<u8>),
    /// A whole request as it goes over the wire, and the content of every reply.
    Exchange(Vec<u8>, Vec<u8>),
}

/// What is known of the reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    /// The bytes before and behind the request's tag.
    Tagged(Vec<u8>, Vec<u8>),
    /// The same for every request.
    Same(Vec<u8>),
    /// The same for every request, as the first reply has shown; none yet.
    Learned(Option<Vec<u8>>),
    /// Anything.
    Any,
}

/// Nothing is too long for a client that knows what it has asked.
const LIMITS: DecodeLimits =
    DecodeLimits { max_header_len: 65_535, max_content_len: DecodeLimits::MAX_CONTENT_LEN };

/// How replies are told apart.
#[derive(Clone, Debug)]
enum Cut {
    Json(Box<JsonHeader>),
    /// As this framing says.
    Framed(Box<AnyFraming>),
    /// So many bytes each.
    Fixed(usize),
}

impl Reply {
    /// To a request with this content, whose tag is there.
    fn to(service: Service, content: &[u8], tag: &Range<usize>) -> Self {
        match service {
            Service::Any => Self::Any,
            Service::Padded => Self::Same(Padded::RECEIVED.as_bytes().to_vec()),
            Service::Search if tag.is_empty() => Self::Learned(None),
            Service::Search => {
                let value = content.get(SEARCH_START.len()..tag.start).unwrap_or_default();
                Self::Tagged([NO_MATCH_START, value].concat(), NO_MATCH_END.to_vec())
            }
            Service::Echo | Service::Raw if tag.is_empty() => Self::Same(content.to_vec()),
            Service::Echo | Service::Raw => {
                let start = content.get(..tag.start).unwrap_or_default();
                let end = content.get(tag.end..).unwrap_or_default();
                Self::Tagged(start.to_vec(), end.to_vec())
            }
        }
    }
}

impl Cut {
    fn new(service: Service, reply_len: usize) -> Self {
        match service {
            Service::Search | Service::Echo | Service::Any => {
                Self::Json(Box::new(JsonHeader::new(LIMITS)))
            }
            Service::Raw => Self::Fixed(reply_len),
            Service::Padded => Self::Fixed(Padded::RECEIVED.len()),
        }
    }
}

/// What a reply turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Right, and the answer to the request with this tag.
    Tag(u64),
    /// Right; which request it answers cannot be told.
    Right,
    Wrong,
}

/// What the bytes received begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A reply of so many bytes.
    Reply(usize, Verdict),
    /// So many bytes must be there before looking again makes sense.
    Incomplete(usize),
    /// No reply; there is no way on behind it.
    Broken(String),
}

/// Makes requests and judges replies; one for each thread.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    /// A whole request.
    request: Vec<u8>,
    /// Where in it the tag is; empty where it has none.
    tag: Range<usize>,
    content_len: usize,
    reply: Reply,
    cut: Cut,
    frame: Frame,
    /// The first wrong reply's bytes, to be shown.
    pub(crate) first_wrong: Option<Vec<u8>>,
    service: Service,
}

impl Messages {
    /// # Errors
    ///
    /// A content that this service cannot have, in words.
    pub(crate) fn new(
        service: Service,
        framing: Option<&FramingSpec>,
        content: &Content,
    ) -> Result<Self, String> {
        if let Some(framing) = framing.filter(|framing| framing.to_string() != service.framing()) {
            return Self::framed(service, framing, content);
        }
        let (content, tag) = match content {
            Content::Bytes(len) => made_up(service, *len)?,
            Content::Given(bytes) => (bytes.clone(), 0..0),
            Content::Exchange(request, reply) => {
                return Self::exchange(service, request, reply);
            }
        };
        if content.is_empty() {
            return Err("a request needs a content of at least 1 byte".to_owned());
        }
        let mut request = Vec::new();
        let head = if content.starts_with(SEARCH_START) || service == Service::Search {
            Head::json()
        } else {
            Head::binary("application/octet-stream")
        };
        match service {
            Service::Search | Service::Echo | Service::Any => {
                encode(&mut request, &head, &content).map_err(|error| error.to_string())?;
            }
            Service::Raw => request.extend_from_slice(&content),
            Service::Padded => {
                if std::str::from_utf8(&content).is_err() {
                    return Err("the padded protocol carries UTF-8 text".to_owned());
                }
                request.extend_from_slice(format!("{:<64}", content.len()).as_bytes());
                request.extend_from_slice(&content);
            }
        }
        let before = request.len() - content.len();
        let reply = Reply::to(service, &content, &tag);
        Ok(Self {
            tag: before + tag.start..before + tag.end,
            content_len: content.len(),
            request,
            reply,
            cut: Cut::new(service, content.len()),
            frame: Frame::new(),
            first_wrong: None,
            service,
        })
    }

    /// In a framing that is not the service's own.
    fn framed(service: Service, spec: &FramingSpec, content: &Content) -> Result<Self, String> {
        let name = service.name();
        let (content, tag) = match content {
            Content::Bytes(len) => made_up(service, *len)?,
            Content::Given(bytes) => (bytes.clone(), 0..0),
            Content::Exchange(..) => return Err("an exchange has a framing of its own".to_owned()),
        };
        if matches!(service, Service::Raw | Service::Padded) {
            return Err(format!("--service {name} has a framing of its own, and not {spec}"));
        }
        let least = SEARCH_START.len() + SEARCH_END.len() + 1;
        if *spec == FramingSpec::JsonStream && !tag.is_empty() && content.len() < least {
            return Err(format!("a request of JSON has at least {least} bytes of content"));
        }
        let mut writer = AnyFraming::new(spec, LIMITS).for_client();
        let mut request = Vec::new();
        writer
            .encode(&mut request, &Head::json(), &content)
            .map_err(|error| format!("--framing {spec} cannot carry it: {error}"))?;
        let mut server = AnyFraming::new(spec, LIMITS);
        let found = server.find(&request).ok().flatten();
        let comes_back = |frame: &Frame| {
            frame.len() == request.len() && Message::new(&request, frame).content() == content
        };
        if content.is_empty() || !found.as_ref().is_some_and(comes_back) {
            return Err(format!("--framing {spec} cannot carry it: it is not one whole message"));
        }
        // Behind a header, or in front of what ends it.
        let frame = found.unwrap_or_default();
        let before =
            Message::new(&request, &frame).content().as_ptr().addr() - request.as_ptr().addr();
        let reply = Reply::to(service, &content, &tag);
        let is_bare =
            matches!(spec, FramingSpec::Raw | FramingSpec::Padded { padded_replies: false, .. });
        let cut = match (!is_bare, &reply) {
            (true, _) => Cut::Framed(Box::new(writer)),
            (false, Reply::Tagged(start, end)) => Cut::Fixed(start.len() + tag.len() + end.len()),
            (false, Reply::Same(reply)) => Cut::Fixed(reply.len()),
            (false, Reply::Learned(_) | Reply::Any) => {
                return Err(format!(
                    "with --framing {spec} nothing says where the reply to that ends"
                ));
            }
        };
        Ok(Self {
            tag: before + tag.start..before + tag.end,
            content_len: content.len(),
            request,
            reply,
            cut,
            frame: Frame::new(),
            first_wrong: None,
            service,
        })
    }

    /// Any request, and what every reply holds.
    fn exchange(service: Service, request: &[u8], reply: &[u8]) -> Result<Self, String> {
        Ok(Self {
            tag: 0..0,
            content_len: request.len(),
            request: request.to_vec(),
            reply: Reply::Same(reply.to_vec()),
            cut: Cut::new(service, reply.len()),
            frame: Frame::new(),
            first_wrong: None,
            service,
        })
    }

    pub(crate) const fn request_len(&self) -> usize {
        self.request.len()
    }

    pub(crate) const fn content_len(&self) -> usize {
        self.content_len
    }

    /// The tag of the message `number` of connection `connection`, as far as it fits.
    pub(crate) fn tag_of(&self, connection: u32, number: u32) -> u64 {
        let digits = self.tag.len();
        let (connection, number) = (u64::from(connection), u64::from(number));
        if digits >= TAG_LEN {
            return connection << 32 | number;
        }
        // Neighbours should not have the same digits.
        number.wrapping_add(connection.wrapping_mul(0x9e37_79b1)) & self.tag_mask()
    }

    /// The bits of a tag that messages carry.
    pub(crate) fn tag_mask(&self) -> u64 {
        match self.tag.len() {
            digits if digits >= TAG_LEN => u64::MAX,
            digits => (1 << (4 * digits)) - 1,
        }
    }

    /// Appends a request.
    #[inline]
    pub(crate) fn write(&self, out: &mut Vec<u8>, tag: u64) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let start = out.len();
        out.extend_from_slice(&self.request);
        let Some(place) = out.get_mut(start + self.tag.start..start + self.tag.end) else { return };
        let mut rest = tag;
        for digit in place.iter_mut().rev() {
            *digit = DIGITS[(rest & 15) as usize];
            rest >>= 4;
        }
    }

    /// Looks at the reply that `input` starts with.
    #[inline]
    pub(crate) fn find(&mut self, input: &mut [u8]) -> Found {
        let (len, verdict) = match &mut self.cut {
            Cut::Fixed(len) => match input.get(..*len) {
                Some(bytes) => (*len, judge(&mut self.reply, self.tag.len(), bytes)),
                None => return Found::Incomplete(*len),
            },
            Cut::Framed(framing) => {
                let mut start = 0;
                loop {
                    let rest = input.get_mut(start..).unwrap_or_default();
                    let missing = Found::Incomplete(start + rest.len() + 1);
                    if rest.is_empty() {
                        return missing;
                    }
                    let (mut stream, mut answer) = (AnyStream::default(), Vec::new());
                    let bytes = Input::new(rest, &mut answer);
                    match framing.decode(&mut stream, bytes, &mut self.frame) {
                        Ok(Decoded::Message) => break,
                        Ok(Decoded::Skip(len)) => start += len,
                        Ok(_) => return missing,
                        Err(error) => {
                            self.keep_wrong(input);
                            return Found::Broken(format!("{} ({error})", error.name()));
                        }
                    }
                }
                let message = Message::new(input.get(start..).unwrap_or_default(), &self.frame);
                let verdict = judge(&mut self.reply, self.tag.len(), message.content());
                (start + self.frame.len(), verdict)
            }
            Cut::Json(framing) => {
                if !framing.predict(&(), input, &mut self.frame) {
                    let mut answer = Vec::new();
                    let bytes = Input::new(input, &mut answer);
                    match framing.decode(&mut (), bytes, &mut self.frame) {
                        Ok(Decoded::Message) => {}
                        Ok(Decoded::Incomplete { .. }) if !may_be_message(input) => {
                            self.keep_wrong(input);
                            return Found::Broken("no message".to_owned());
                        }
                        Ok(Decoded::Incomplete { needed, .. }) => return Found::Incomplete(needed),
                        Ok(_) => return Found::Incomplete(input.len() + 1),
                        Err(error) => {
                            self.keep_wrong(input);
                            return Found::Broken(format!("{} ({error})", error.kind()));
                        }
                    }
                }
                let message = Message::new(input, &self.frame);
                let verdict = judge(&mut self.reply, self.tag.len(), message.content());
                (self.frame.len(), verdict)
            }
        };
        if verdict == Verdict::Wrong {
            self.keep_wrong(input.get(..len).unwrap_or_default());
        }
        Found::Reply(len, verdict)
    }

    /// Whether a reply may begin with these bytes, which are not a whole one. Else they are kept as
    /// wrong.
    pub(crate) fn may_begin(&mut self, partial: &[u8]) -> bool {
        let same = |whole: &[u8]| whole.iter().zip(partial).all(|(one, other)| one == other);
        let may = match (&self.cut, &self.reply) {
            (Cut::Json(_), _) => may_be_message(partial),
            (Cut::Framed(_), _) => true,
            (_, Reply::Tagged(start, _) | Reply::Same(start) | Reply::Learned(Some(start))) => {
                same(start)
            }
            (_, Reply::Learned(None) | Reply::Any) => true,
        };
        if !may {
            self.keep_wrong(partial);
        }
        may
    }

    /// What is to be said of a server whose first bytes are these, which are no reply; `None` where
    /// it may speak our protocol and answer wrongly.
    pub(crate) fn stranger(&self, first: &[u8]) -> Option<String> {
        let named = dialect::of(first).map(|name| format!("the server speaks {name}"));
        let nameless = || "what the server sends is no message of this protocol".to_owned();
        let is_json = matches!(self.cut, Cut::Json(_));
        named.or_else(|| (is_json && !may_be_message(first)).then(nameless))
    }

    #[cold]
    fn keep_wrong(&mut self, bytes: &[u8]) {
        if self.first_wrong.is_none() {
            self.first_wrong = Some(bytes.get(..400).unwrap_or(bytes).to_vec());
        }
    }

    /// What replies can be checked for, in words.
    pub(crate) fn verification(&self) -> String {
        let digits = self.tag.len();
        match (&self.reply, self.service) {
            (Reply::Tagged(..), _) if digits >= TAG_LEN => {
                "every reply's content is checked and traced to its request by connection and \
                 number"
                    .to_owned()
            }
            (Reply::Tagged(..), _) => format!(
                "every reply's content is checked; {digits} digits tell its request from the {} \
                 around it",
                1_u64 << (4 * digits)
            ),
            (Reply::Same(_), Service::Padded) => {
                "every reply must be the same text; number and content are checked, order and \
                 which request it answers cannot be told"
                    .to_owned()
            }
            (Reply::Same(_), _) => {
                "every reply must be the content sent; number and content are checked, order and \
                 which request it answers cannot be told (--content BYTES can)"
                    .to_owned()
            }
            (Reply::Any, _) => {
                "every whole reply is right, in the order in which they come; what is in them is not \
                 checked"
                    .to_owned()
            }
            (Reply::Learned(_), _) => {
                "every reply must be as the first one was; whether that is right, and which \
                 request a reply answers, cannot be told (--content BYTES can)"
                    .to_owned()
            }
        }
    }
}

/// The content of a reply against what it should be.
#[inline]
fn judge(reply: &mut Reply, digits: usize, content: &[u8]) -> Verdict {
    match reply {
        Reply::Tagged(start, end) => {
            let tagged = content.strip_prefix(start.as_slice());
            let Some((tag, rest)) = tagged.and_then(|rest| rest.split_at_checked(digits)) else {
                return Verdict::Wrong;
            };
            match parse_tag(tag) {
                Some(tag) if rest == end.as_slice() => Verdict::Tag(tag),
                _ => Verdict::Wrong,
            }
        }
        Reply::Same(expected) | Reply::Learned(Some(expected)) => {
            if content == expected.as_slice() { Verdict::Right } else { Verdict::Wrong }
        }
        Reply::Any => Verdict::Right,
        Reply::Learned(learned) => {
            *learned = Some(content.to_vec());
            Verdict::Right
        }
    }
}

/// Whether a message may begin with these bytes: behind the two of its length, a JSON object does,
/// perhaps after white space.
fn may_be_message(input: &[u8]) -> bool {
    input.get(2).is_none_or(|byte| matches!(byte, b'{' | b' ' | b'\t' | b'\n' | b'\r'))
}

#[inline]
fn parse_tag(digits: &[u8]) -> Option<u64> {
    let mut tag = 0;
    for &digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        tag = tag << 4 | u64::from(value);
    }
    Some(tag)
}

/// A content of `len` bytes, and where its tag is.
fn made_up(service: Service, len: usize) -> Result<(Vec<u8>, Range<usize>), String> {
    let around = SEARCH_START.len() + SEARCH_END.len();
    if service == Service::Search && len <= around {
        return Err(format!("a search has at least {} bytes of content", around + 1));
    }
    let json = !matches!(service, Service::Raw | Service::Padded) && len > around;
    let (start, end): (&[u8], &[u8]) = if json { (SEARCH_START, SEARCH_END) } else { (b"", b"") };
    let room = len - start.len() - end.len();
    let digits = room.min(TAG_LEN);
    // The tag stands last, so that what is cut off anywhere is missed.
    let mut content = start.to_vec();
    content.resize(start.len() + room - digits, b'x');
    let tag = content.len()..content.len() + digits;
    content.resize(tag.end, b'0');
    content.extend_from_slice(end);
    Ok((content, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(service: Service, content: &Content) -> Messages {
        Messages::new(service, None, content).unwrap()
    }

    /// Cuts a reply off its header and puts another content into it.
    fn json(content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, &Head::json(), content).unwrap();
        bytes
    }

    #[test]
    fn is_an_echo_traced_to_its_request() {
        for service in [Service::Echo, Service::Raw] {
            for len in [1, 15, 16, 17, 34, 49, 64, 100_000] {
                let mut messages = messages(service, &Content::Bytes(len));
                let tag = messages.tag_of(7, 0x0102_0304);
                let mut wire = Vec::new();
                messages.write(&mut wire, tag);
                assert_eq!(wire.len(), messages.request_len());
                assert_eq!(messages.find(&mut wire), Found::Reply(wire.len(), Verdict::Tag(tag)));
                let last = wire.len() - 1;
                assert!(matches!(messages.find(&mut wire[..last]), Found::Incomplete(_)));
                wire[last] ^= 0x80;
                assert_eq!(messages.find(&mut wire), Found::Reply(wire.len(), Verdict::Wrong));
                assert_eq!(messages.first_wrong.as_ref().map(Vec::len), Some(wire.len().min(400)));
            }
        }
    }

    #[test]
    fn is_the_answer_to_a_search_traced_to_it() {
        for len in [34, 49, 64, 200] {
            let mut messages = messages(Service::Search, &Content::Bytes(len));
            let tag = messages.tag_of(3, 9);
            let mut wire = Vec::new();
            messages.write(&mut wire, tag);
            let content = &wire[wire.len() - len..];
            let value = &content[SEARCH_START.len()..len - SEARCH_END.len()];
            let mut right = json(&[NO_MATCH_START, value, NO_MATCH_END].concat());
            assert_eq!(messages.find(&mut right), Found::Reply(right.len(), Verdict::Tag(tag)));
            let mut other = json(&[NO_MATCH_START, b"another", NO_MATCH_END].concat());
            assert_eq!(messages.find(&mut other), Found::Reply(other.len(), Verdict::Wrong));
        }
        assert!(Messages::new(Service::Search, None, &Content::Bytes(33)).is_err());
    }

    #[test]
    fn does_what_has_no_tag_have_to_be_the_same() {
        let mut padded = messages(Service::Padded, &Content::Bytes(64));
        let mut wire = Vec::new();
        padded.write(&mut wire, 0);
        assert_eq!((wire.len(), &wire[..3]), (128, &b"64 "[..]));
        assert_eq!(padded.find(&mut b"Msg received+".to_vec()), Found::Reply(12, Verdict::Right));
        assert_eq!(padded.find(&mut b"Msg receive?".to_vec()), Found::Reply(12, Verdict::Wrong));
        assert_eq!(padded.find(&mut b"Msg".to_vec()), Found::Incomplete(12));

        let given = br#"{"action": "search", "value": "ring"}"#.to_vec();
        let mut search = messages(Service::Search, &Content::Given(given));
        let (mut one, mut other) = (json(b"[1]"), json(b"[2]"));
        assert_eq!(search.find(&mut one), Found::Reply(one.len(), Verdict::Right));
        assert_eq!(search.find(&mut one), Found::Reply(one.len(), Verdict::Right));
        assert_eq!(search.find(&mut other), Found::Reply(other.len(), Verdict::Wrong));
    }

    #[test]
    fn is_what_is_no_message_broken() {
        let mut echo = messages(Service::Echo, &Content::Bytes(64));
        let Found::Broken(why) = echo.find(&mut b"\0\x02[]".to_vec()) else { panic!() };
        assert!(why.starts_with("HeaderNotObject"), "{why}");
    }

    #[test]
    fn do_few_digits_tell_neighbours_apart() {
        let messages = messages(Service::Raw, &Content::Bytes(2));
        assert_eq!(messages.tag_mask(), 0xff);
        let tags: std::collections::BTreeSet<u64> =
            (0..256).map(|number| messages.tag_of(1, number)).collect();
        assert_eq!(tags.len(), 256);
        assert_ne!(messages.tag_of(1, 0), messages.tag_of(2, 0));
    }
}
