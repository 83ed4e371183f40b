//! A text as it reads after its escapes or its base64 are undone, with the place of each byte in the text.

use std::{iter, ops::Range};

/// The bytes of a text after an encoding was undone.
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// The range of the original text that each byte is from.
    origins: Vec<(usize, usize)>,
}

/// How often escapes of strings are undone, and those of forms.
const NESTED_STRINGS: usize = 8;
const NESTED_FORMS: usize = 2;

/// Calls `visit` with the text itself, and with what it may be an encoding of. One decoding is in memory at a time.
pub(super) fn visit_decodings(text: &[u8], visit: &mut impl FnMut(&Decoded)) {
    let plain = Decoded {
        bytes: text.to_vec(),
        origins: (0..text.len()).map(|index| (index, index + 1)).collect(),
    };
    // Escapes may be nested: a form within a string of JSON, a string within a form, base64 in which a string has escaped the `+`.
    let innermost_string = plain.unescape_strings(visit);
    for string in [Some(plain), innermost_string].into_iter().flatten() {
        let mut form = string;
        form.visit(visit);
        for _ in 0..NESTED_FORMS {
            let Some(unescaped) = form.unescape(form_escape) else {
                break;
            };
            form = unescaped;
            form.visit(visit);
            form.unescape_strings(visit);
        }
    }
}

impl Decoded {
    /// Calls `visit` with the text, and with what it may be the base64 of.
    fn visit(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        for skipped in 0..4 {
            let from_base64 = self.decode_base64(skipped);
            visit(&from_base64);
            if let Some(unescaped) = from_base64.unescape(form_escape) {
                visit(&unescaped);
            }
        }
    }

    /// Undoes the escapes of strings again and again, and calls `visit` with each result. Returns the last one.
    fn unescape_strings(&self, visit: &mut impl FnMut(&Self)) -> Option<Self> {
        let mut last = self.unescape(string_escape)?;
        visit(&last);
        for _ in 1..NESTED_STRINGS {
            let Some(next) = last.unescape(string_escape) else {
                break;
            };
            visit(&next);
            last = next;
        }
        Some(last)
    }

    /// The range of the original text that these bytes are from.
    pub(super) fn origin(&self, range: Range<usize>) -> Range<usize> {
        match self.origins.get(range) {
            Some([first, .., last]) => first.0..last.1,
            Some([only]) => only.0..only.1,
            _ => 0..0,
        }
    }

    fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            origins: Vec::with_capacity(capacity),
        }
    }

    fn push(&mut self, byte: u8, origin: (usize, usize)) {
        self.bytes.push(byte);
        self.origins.push(origin);
    }

    /// Undoes escapes. `None` if there are none.
    fn unescape(&self, escape: fn(&[u8]) -> Option<Escape>) -> Option<Self> {
        let mut unescaped = Self::with_capacity(self.bytes.len());
        let (mut index, mut has_escape) = (0, false);
        while let Some(byte) = self.bytes.get(index) {
            let Some(Escape { meaning, length }) = escape(&self.bytes[index..]) else {
                unescaped.push(*byte, self.origins[index]);
                index += 1;
                continue;
            };
            let origin = self.origin(index..index + length);
            let origin = (origin.start, origin.end);
            match meaning {
                Meaning::Byte(byte) => unescaped.push(byte, origin),
                Meaning::Char(c) => {
                    let mut utf8 = [0; 4];
                    let utf8 = c.encode_utf8(&mut utf8).bytes();
                    utf8.for_each(|byte| unescaped.push(byte, origin));
                }
            }
            index += length;
            has_escape = true;
        }
        has_escape.then_some(unescaped)
    }

    /// Decodes each run of the characters of base64, without the first `skipped` of the run.
    fn decode_base64(&self, skipped: usize) -> Self {
        let mut decoded = Self::with_capacity(self.bytes.len());
        let mut start = 0;
        for run in self.bytes.split(|byte| sextet(*byte).is_none()) {
            let groups = run.get(skipped..).unwrap_or_default().chunks(4);
            for (number, group) in groups.enumerate() {
                let from = start + skipped + 4 * number;
                let origin = self.origin(from..from + group.len());
                let sextets = group.iter().filter_map(|byte| sextet(*byte));
                let sextets = sextets.chain(iter::repeat(0)).take(4);
                let bits = sextets.fold(0, |bits: u32, sextet| bits << 6 | u32::from(sextet));
                for byte in bits.to_be_bytes()[1..]
                    .iter()
                    .take(group.len().saturating_sub(1))
                {
                    decoded.push(*byte, (origin.start, origin.end));
                }
            }
            // Two runs are two texts.
            if !run.is_empty() {
                decoded.push(0, (start, start));
            }
            start += run.len() + 1;
        }
        decoded
    }
}

/// The value of a character of base64, of either alphabet.
fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// An escape at the start of a text.
struct Escape {
    meaning: Meaning,
    /// The length of the escape.
    length: usize,
}

enum Meaning {
    Byte(u8),
    Char(char),
}

impl Escape {
    fn byte(byte: u8, length: usize) -> Self {
        let meaning = Meaning::Byte(byte);
        Self { meaning, length }
    }

    fn char(c: char, length: usize) -> Self {
        let meaning = Meaning::Char(c);
        Self { meaning, length }
    }
}

/// Reads an escape of a form or a URI.
fn form_escape(text: &[u8]) -> Option<Escape> {
    match text {
        [b'+', ..] => Some(Escape::byte(b' ', 1)),
        [b'%', high, low, ..] => {
            let byte = u8::try_from(hex(&[*high, *low])?).ok()?;
            Some(Escape::byte(byte, 3))
        }
        _ => None,
    }
}

/// Reads an escape of JSON or HTML.
fn string_escape(text: &[u8]) -> Option<Escape> {
    match text {
        [b'\\', b'u', digits @ ..] => {
            let first = hex(digits.get(..4)?)?;
            if let (0xd800..0xdc00, Some([b'\\', b'u', low @ ..])) = (first, digits.get(4..10)) {
                let low = hex(low)?.checked_sub(0xdc00)?;
                let c = char::from_u32(0x10000 + ((first - 0xd800) << 10) + low)?;
                return Some(Escape::char(c, 12));
            }
            Some(Escape::char(char::from_u32(first)?, 6))
        }
        [b'\\', b'n', ..] => Some(Escape::byte(b'\n', 2)),
        [b'\\', b'r', ..] => Some(Escape::byte(b'\r', 2)),
        [b'\\', b't', ..] => Some(Escape::byte(b'\t', 2)),
        [b'\\', escaped @ (b'"' | b'\'' | b'\\' | b'/'), ..] => Some(Escape::byte(*escaped, 2)),
        [b'&', ..] => {
            let end = text.iter().take(10).position(|byte| *byte == b';')?;
            let c = match &text[1..end] {
                b"amp" => '&',
                b"lt" => '<',
                b"gt" => '>',
                b"quot" => '"',
                b"apos" => '\'',
                [b'#', b'x' | b'X', digits @ ..] => char::from_u32(hex(digits)?)?,
                [b'#', digits @ ..] => {
                    char::from_u32(std::str::from_utf8(digits).ok()?.parse().ok()?)?
                }
                _ => return None,
            };
            Some(Escape::char(c, end + 1))
        }
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(digits, 16).ok())?
}
