//! Masks secrets in the text of a server, which may echo the request in any encoding.

use std::ops::Range;

use zeroize::Zeroizing;

use super::decoded::{Decoded, visit_decodings};

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// A part of a secret that is as long as this is masked, too: servers cut what they echo.
const PART: usize = 8;

/// How many characters of a text are kept.
const MAX: usize = 50_000;

/// A shorter secret is no secret, and its text is part of too many words.
const MIN: usize = 4;

/// Words of ordinary error messages. Masking them would hide the message and reveal the secret.
const ORDINARY: [&str; 19] = [
    "access",
    "assertion",
    "bearer",
    "client",
    "code",
    "device",
    "error",
    "expired",
    "grant",
    "invalid",
    "missing",
    "password",
    "refresh",
    "secret",
    "test",
    "token",
    "unknown",
    "user",
    "wrong",
];

/// The secrets to mask.
#[derive(Default)]
pub(crate) struct Mask {
    /// The folded secrets that are masked as a whole.
    whole: Vec<Zeroizing<Vec<u8>>>,
    /// The sorted parts of the others.
    parts: Zeroizing<Vec<u64>>,
}

impl Mask {
    /// Adds a secret. Of a long one, each part is masked.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < PART {
            return self.add_whole(secret);
        }
        let parts = secret.as_bytes().windows(PART).map(number);
        self.parts.extend(parts);
    }

    /// Adds a text that is probably no secret. It is masked only as a whole.
    pub(crate) fn add_whole(&mut self, text: &str) {
        if text.len() >= MIN && !ORDINARY.iter().any(|word| word.eq_ignore_ascii_case(text)) {
            let folded = text.bytes().map(folded).collect();
            self.whole.push(Zeroizing::new(folded));
        }
    }

    /// Call this after the last `add`.
    pub(crate) fn ready(mut self) -> Self {
        self.parts.sort_unstable();
        self
    }

    /// Returns the text with the secrets masked, or `None` if there are none in it. A text that takes long to search is cut.
    pub(crate) fn apply(&self, text: &str) -> Option<String> {
        if let Some((end, _)) = text.char_indices().nth(MAX) {
            let text = &text[..end];
            let masked = self.apply(text);
            return Some(format!("{}...", masked.as_deref().unwrap_or(text)));
        }
        let mut is_secret = vec![false; text.len()];
        visit_decodings(text.as_bytes(), &mut |decoded| {
            self.find(decoded, |range| is_secret[range].fill(true));
        });
        if !is_secret.contains(&true) {
            return None;
        }
        let mut masked = String::with_capacity(text.len());
        let mut was_secret = false;
        for (index, c) in text.char_indices() {
            let is_secret = is_secret[index..index + c.len_utf8()].contains(&true);
            match (is_secret, was_secret) {
                (true, false) => masked.push_str(REDACTED),
                (true, true) => {}
                (false, _) => masked.push(c),
            }
            was_secret = is_secret;
        }
        Some(masked)
    }

    fn find(&self, decoded: &Decoded, mut found: impl FnMut(Range<usize>)) {
        let bytes = &decoded.bytes;
        for (start, part) in bytes.windows(PART).enumerate() {
            if self.parts.binary_search(&number(part)).is_ok() {
                found(decoded.origin(start..start + PART));
            }
        }
        for secret in &self.whole {
            for (start, part) in bytes.windows(secret.len()).enumerate() {
                if part.iter().copied().map(folded).eq(secret.iter().copied()) {
                    found(decoded.origin(start..start + secret.len()));
                }
            }
        }
    }
}

/// A folded part as a number.
fn number(part: &[u8]) -> u64 {
    let bytes = part.iter().copied().map(folded);
    bytes.fold(0, |number, byte| number << 8 | u64::from(byte))
}

/// Makes bytes equal that servers exchange: the cases of a letter, and `+` and the space for which it stands in a form.
fn folded(byte: u8) -> u8 {
    match byte {
        b'+' => b' ',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };

    use super::*;

    const SECRET: &str = "p+q%2B:/=$é \"x\" 日本";

    fn mask() -> Mask {
        let mut mask = Mask::default();
        mask.add(SECRET);
        mask.ready()
    }

    fn form(text: &str) -> String {
        form_urlencoded::byte_serialize(text.as_bytes()).collect()
    }

    fn escape_plus(text: &str) -> String {
        text.replace('+', "\\u002B")
    }

    #[test]
    fn a_short_secret_is_masked_in_every_encoding() {
        let mut mask = Mask::default();
        mask.add("a+b ?>~");
        let mask = mask.ready();
        let pair = BASE64_STANDARD.encode("c:a+b ?>~");
        assert!(pair.contains('+'));
        for echo in [
            "a+b ?>~".to_owned(),
            form("a+b ?>~"),
            "a+b%20?%3E~".to_owned(),
            escape_plus("a%2Bb+%3F%3E%7E"),
            pair.replace('+', "&#43;"),
            escape_plus(&pair),
        ] {
            let shown = mask.apply(&format!("bad {echo}!")).unwrap_or_default();
            assert!(
                shown == "bad [redacted]!" || shown == "bad [redacted]==!",
                "{echo}: {shown}"
            );
        }
    }

    /// Tests use such a text as a secret that is not the right one.
    #[test]
    fn an_ordinary_word_is_not_masked() {
        for word in ["wrong", "Wrong", "unknown", "expired", "missing", "invalid"] {
            let mut mask = Mask::default();
            mask.add(word);
            let mask = mask.ready();
            let text = format!("the client secret is {word}");
            assert_eq!(mask.apply(&text), None, "{word}");
        }
    }

    #[test]
    fn a_secret_is_masked_in_every_encoding() {
        let pair = format!("client:{SECRET}");
        let body = format!("grant_type=x&client_secret={}&a=b", form(SECRET));
        let json = serde_json::to_string(SECRET).unwrap();
        for (name, echo) in [
            ("raw", SECRET.to_owned()),
            ("form", form(SECRET)),
            ("percent", form(SECRET).replace('+', "%20")),
            ("lower case", form(SECRET).to_lowercase()),
            ("upper case", SECRET.to_ascii_uppercase()),
            ("twice", form(&form(SECRET))),
            ("body", body.clone()),
            ("JSON", json.clone()),
            ("JSON twice", serde_json::to_string(&json).unwrap()),
            ("HTML", SECRET.replace('"', "&quot;")),
            ("base64", BASE64_STANDARD.encode(SECRET)),
            ("base64url", BASE64_URL_SAFE_NO_PAD.encode(SECRET)),
            ("pair", BASE64_STANDARD.encode(&pair)),
            (
                "form pair",
                BASE64_STANDARD.encode(format!("c:{}", form(SECRET))),
            ),
            ("base64 of a body", BASE64_STANDARD.encode(&body)),
            ("form of a pair", form(&BASE64_STANDARD.encode(&pair))),
            ("tail", BASE64_STANDARD.encode(&pair)[3..].to_owned()),
            // As .NET does it.
            ("pair in JSON", escape_plus(&BASE64_STANDARD.encode(&pair))),
            (
                "pair in HTML",
                BASE64_STANDARD.encode(&pair).replace('+', "&#x2B;"),
            ),
            ("form in JSON", escape_plus(&form(SECRET))),
            ("form in HTML", form(SECRET).replace('+', "&#43;")),
            // As `encodeURI` of JavaScript does it.
            ("URI", form(SECRET).replace('+', "%20").replace("%2B", "+")),
        ] {
            let shown = mask().apply(&format!("bad credentials {echo}, or expired"));
            let shown = shown.unwrap_or_else(|| panic!("{name}: nothing is masked"));
            assert!(shown.starts_with("bad credentials "), "{name}: {shown}");
            assert!(shown.ends_with(", or expired"), "{name}: {shown}");
            for part in ["p+q%2B", "2B", "日本", "5pel", "cCtx", "P+Q"] {
                assert!(!shown.contains(part), "{name}: {shown}");
            }
        }
    }

    #[test]
    fn a_part_of_a_long_secret_is_masked() {
        let mut mask = Mask::default();
        mask.add("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.signature");
        let mask = mask.ready();
        for (text, expected) in [
            ("token eyJhbGciOiJS... is bad", "token [redacted]... is bad"),
            ("ends in J9.eyJzdWIi", "ends in [redacted]"),
            ("eyJhbGc is too short", "eyJhbGc is too short"),
        ] {
            let masked = mask.apply(text).unwrap_or_else(|| text.to_owned());
            assert_eq!(masked, expected);
        }
    }

    #[test]
    fn a_message_without_a_secret_stays_as_it_is() {
        let mut mask = Mask::default();
        for secret in ["", "abc", "secret", "hunter2"] {
            mask.add(secret);
        }
        mask.add_whole("https://api.example/");
        let mask = mask.ready();
        for text in [
            "",
            "client secret abc for https://api.other/",
            "é%zz&#xFFFFFFF;\\u12",
        ] {
            assert_eq!(mask.apply(text), None);
        }
        let long = "é".repeat(60_000);
        let masked = mask.apply(&long).unwrap();
        assert_eq!(masked, format!("{}...", &long[..100_000]));
        let masked = mask
            .apply("hunter2 hunter22 at https://api.example/")
            .unwrap();
        assert_eq!(masked, "[redacted] [redacted]2 at [redacted]");
    }
}
