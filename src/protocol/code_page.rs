//! Code pages of DOS, which Python names and the WHATWG does not: 437 (the United States) and 850
//! (Western Europe).
//!
//! Source: the tables of the Unicode consortium,
//! <https://www.unicode.org/Public/MAPPINGS/VENDORS/MICSFT/PC/>.

/// A code page: its characters from 0x80 on. Below, it is ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CodePage(&'static str);

const CP437: CodePage = CodePage(
    "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ\
    áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
);

const CP850: CodePage = CodePage(
    "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒ\
    áíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐\
    └┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀\
    ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}",
);

impl CodePage {
    /// The code page with this name of Python's, in small letters and with `-`.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "cp437" | "437" | "ibm437" => Some(CP437),
            "cp850" | "850" | "ibm850" => Some(CP850),
            _ => None,
        }
    }

    /// `bytes` as text: every byte is a character.
    pub(super) fn decode(self, bytes: &[u8]) -> String {
        let upper: Vec<char> = self.0.chars().collect();
        let one = |byte: &u8| match byte.checked_sub(0x80) {
            None => char::from(*byte),
            Some(place) => {
                upper.get(usize::from(place)).copied().unwrap_or(char::REPLACEMENT_CHARACTER)
            }
        };
        bytes.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_code_page_a_character_for_every_byte() {
        for page in [CP437, CP850] {
            assert_eq!(page.0.chars().count(), 128);
            let all: Vec<u8> = (0..=255).collect();
            assert!(!page.decode(&all).contains(char::REPLACEMENT_CHARACTER));
        }
        assert_eq!(CP437.decode(b"\x84\xe1\xf1\xff"), "äß±\u{a0}");
        assert_eq!(CP850.decode(b"\x84\xe1\xd0\xf0"), "äßð\u{ad}");
    }
}
