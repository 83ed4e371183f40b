//! A text as it reads after its escapes or its base64 are undone, with the place of each byte in the text.

use std::{iter, ops::Range};

/// The bytes of a text after an encoding was undone.
#[derive(Clone)]
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// The range of the original text that each byte is from.
    origins: Vec<(usize, usize)>,
}

/// Returns the text itself, and what it may be an encoding of.
pub(super) fn decodings(text: &[u8]) -> Vec<Decoded> {
    let plain = Decoded {
        bytes: text.to_vec(),
        origins: (0..text.len()).map(|index| (index, index + 1)).collect(),
    };
    // Escapes may be nested, as in a form within a string of JSON.
    let mut unescaped = vec![plain];
    for _ in 0..2 {
        let last = unescaped.last().map(|last| last.unescape(form_escape));
        unescaped.extend(last.flatten());
    }
    let mut decoded = Vec::new();
    for text in unescaped {
        let mut last = text.clone();
        while let Some(next) = last.unescape(string_escape).filter(|_| decoded.len() < 16) {
            decoded.push(next.clone());
            last = next;
        }
        for skipped in 0..4 {
            let from_base64 = text.from_base64(skipped);
            decoded.extend(from_base64.unescape(form_escape));
            decoded.push(from_base64);
        }
        decoded.push(text);
    }
    decoded
}

impl Decoded {
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
    fn unescape(&self, escape: fn(&[u8]) -> Option<(char, usize, bool)>) -> Option<Self> {
        let mut unescaped = Self::with_capacity(self.bytes.len());
        let (mut index, mut has_escape) = (0, false);
        while let Some(byte) = self.bytes.get(index) {
            let Some((c, length, is_byte)) = escape(&self.bytes[index..]) else {
                unescaped.push(*byte, self.origins[index]);
                index += 1;
                continue;
            };
            let origin = self.origin(index..index + length);
            let mut utf8 = [0; 4];
            let bytes = match is_byte {
                true => &[c as u8][..],
                false => c.encode_utf8(&mut utf8).as_bytes(),
            };
            for byte in bytes {
                unescaped.push(*byte, (origin.start, origin.end));
            }
            index += length;
            has_escape = true;
        }
        has_escape.then_some(unescaped)
    }

    /// Decodes each run of the characters of base64, without the first `skipped` of the run.
    fn from_base64(&self, skipped: usize) -> Self {
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
            decoded.push(0, (start, start));
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

/// Reads an escape of a form or a URI at the start of `text`: the character, the length of the escape, and whether it is one byte.
fn form_escape(text: &[u8]) -> Option<(char, usize, bool)> {
    match text {
        [b'+', ..] => Some((' ', 1, true)),
        [b'%', high, low, ..] => {
            let byte = hex(&[*high, *low])?;
            Some((char::from(u8::try_from(byte).ok()?), 3, true))
        }
        _ => None,
    }
}

/// Reads an escape of JSON or HTML at the start of `text`, as [`form_escape`] does.
fn string_escape(text: &[u8]) -> Option<(char, usize, bool)> {
    match text {
        [b'\\', b'u', digits @ ..] => {
            let first = hex(digits.get(..4)?)?;
            if let (0xd800..0xdc00, Some([b'\\', b'u', low @ ..])) = (first, digits.get(4..10)) {
                let low = hex(low)?.checked_sub(0xdc00)?;
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + low)
                    .map(|c| (c, 12, false));
            }
            char::from_u32(first).map(|c| (c, 6, false))
        }
        [b'\\', b'n', ..] => Some(('\n', 2, false)),
        [b'\\', b'r', ..] => Some(('\r', 2, false)),
        [b'\\', b't', ..] => Some(('\t', 2, false)),
        [b'\\', escaped @ (b'"' | b'\'' | b'\\' | b'/'), ..] => {
            Some((char::from(*escaped), 2, false))
        }
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
            Some((c, end + 1, false))
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
