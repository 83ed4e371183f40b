//! Judges the challenges of a `WWW-Authenticate` or `Proxy-Authenticate` header.

use http::{HeaderValue, header::GetAll};

use crate::dpop::USE_DPOP_NONCE;

const INVALID_TOKEN: &str = "invalid_token";
const INVALID_DPOP_PROOF: &str = "invalid_dpop_proof";

/// The errors that another token of the same kind would not change.
const OTHER_ERRORS: [&str; 6] = [
    "insufficient_scope",
    "insufficient_user_authentication",
    "insufficient_claims",
    "invalid_request",
    INVALID_DPOP_PROOF,
    USE_DPOP_NONCE,
];

/// What the challenges of a response say about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChallengeSays {
    InvalidToken,
    /// One of [`OTHER_ERRORS`].
    OtherError,
    /// There is no challenge, or none has an error of these.
    Nothing,
}

impl ChallengeSays {
    pub(super) fn of(challenges: ChallengeFields<'_>) -> Self {
        let mut has_other_error = false;
        let is_invalid = any_error(challenges, |error| {
            has_other_error |= OTHER_ERRORS
                .iter()
                .any(|other| error.eq_ignore_ascii_case(other));
            error.eq_ignore_ascii_case(INVALID_TOKEN)
        });
        match (is_invalid, has_other_error) {
            (true, _) => Self::InvalidToken,
            (false, true) => Self::OtherError,
            (false, false) => Self::Nothing,
        }
    }
}

/// Whether the challenges ask for another DPoP proof.
pub(super) fn is_about_proof(challenges: ChallengeFields<'_>) -> bool {
    any_error(challenges, |error| {
        [USE_DPOP_NONCE, INVALID_DPOP_PROOF]
            .iter()
            .any(|code| error.eq_ignore_ascii_case(code))
    })
}

/// The fields of a `WWW-Authenticate` or `Proxy-Authenticate` header.
type ChallengeFields<'a> = GetAll<'a, HeaderValue>;

fn any_error(challenges: ChallengeFields<'_>, mut test: impl FnMut(&str) -> bool) -> bool {
    challenges.iter().any(|value| {
        let field = String::from_utf8_lossy(value.as_bytes());
        Errors::of(&field).any(&mut test)
    })
}

/// The words in a field that may be an error code.
///
/// These are the values of the parameters named `error`, under any scheme. Some servers do not keep the syntax of RFC 9110 §11.6.1, so
/// words that belong to no parameter count as well; that includes the schemes. Text inside the value of another parameter does not count.
struct Errors<'a>(Items<'a>);

impl<'a> Errors<'a> {
    fn of(field: &'a str) -> Self {
        Self(Items::of(field))
    }
}

impl<'a> Iterator for Errors<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0.find_map(|item| match item {
            Item::Word(word) => Some(word),
            Item::Quoted(text) => Some(code(text)),
            Item::Parameter(name, value) => name.eq_ignore_ascii_case("error").then(|| code(value)),
        })
    }
}

/// A part of a field. The text of a quoted string still has its escapes.
pub(super) enum Item<'a> {
    /// A scheme, a token68, or a word in broken syntax.
    Word(&'a str),
    /// A quoted string that belongs to no parameter.
    Quoted(&'a str),
    Parameter(&'a str, &'a str),
}

/// The parts of a field.
pub(super) struct Items<'a>(&'a str);

impl<'a> Items<'a> {
    pub(super) fn of(field: &'a str) -> Self {
        Self(field)
    }

    /// Takes a token of RFC 9110 §5.6.2, or a token68 of §11.2, off the front. Empty if there is none.
    fn word(&mut self) -> &'a str {
        let end = self.0.find(|c| !is_word_char(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    /// Takes the rest of a quoted string off the front. A string that does not end takes everything.
    fn quoted(&mut self, quote: char) -> &'a str {
        let text = self.0;
        let mut chars = text.char_indices();
        while let Some((index, c)) = chars.next() {
            if c == quote {
                self.0 = &text[index + c.len_utf8()..];
                return &text[..index];
            }
            if c == '\\' {
                chars.next();
            }
        }
        self.0 = "";
        text
    }

    /// Takes a value off the front: a quoted string, or a word.
    fn value(&mut self) -> &'a str {
        for quote in ['"', '\''] {
            if let Some(quoted) = self.0.strip_prefix(quote) {
                self.0 = quoted;
                return self.quoted(quote);
            }
        }
        self.word()
    }

    /// Takes `=` off the front, with the white space around it.
    fn equals_sign(&mut self) -> bool {
        match self.0.trim_start_matches(WHITE_SPACE).strip_prefix('=') {
            Some(rest) => {
                self.0 = rest.trim_start_matches(WHITE_SPACE);
                true
            }
            None => false,
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let is_start = |c| is_word_char(c) || c == '"' || c == '\'';
        let start = self.0.find(is_start)?;
        self.0 = &self.0[start..];
        if self.0.starts_with(['"', '\'']) {
            return Some(Item::Quoted(self.value()));
        }
        let word = self.word();
        Some(match self.equals_sign() {
            true => Item::Parameter(word, self.value()),
            false => Item::Word(word),
        })
    }
}

const WHITE_SPACE: [char; 2] = [' ', '\t'];

/// The first word of a text.
pub(super) fn code(text: &str) -> &str {
    let text = text.trim_start_matches(|c| !is_word_char(c));
    let end = text.find(|c| !is_word_char(c)).unwrap_or(text.len());
    &text[..end]
}

/// A character of a token (RFC 9110 §5.6.2) or of a token68 (§11.2). The apostrophe is missing, because some servers quote with it.
fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&*+-.^_`|~/".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn error_codes_are_found_and_other_parameters_are_not_searched() {
        for (field, expected) in [
            ("", &[][..]),
            ("Bearer", &["Bearer"]),
            ("Bearer error=\"a\"", &["Bearer", "a"]),
            ("Bearer realm=\"x\", ERROR = a", &["Bearer", "a"]),
            ("Bearer error='a', realm='b, c=d'", &["Bearer", "a"]),
            ("Bearer error=\" a: it has expired\"", &["Bearer", "a"]),
            ("Bearer realm=\"it's\", error=a;x=y", &["Bearer", "a"]),
            (
                "Bearer realm=\"b \\\" error=\\\"c\", error=\"a",
                &["Bearer", "a"],
            ),
            (
                "Bearer error_description=\"error=b\", error=a",
                &["Bearer", "a"],
            ),
            (
                "Negotiate YII/+a==, Bearer error=a",
                &["Negotiate", "Bearer", "a"],
            ),
            (", ,Bearer ,realm=\"x\" , error=\"a\"", &["Bearer", "a"]),
            // Broken syntax.
            (
                "OAuth \"Some Platform\" \"a\" \"b c\"",
                &["OAuth", "Some", "a", "b"],
            ),
            ("Bearer realm=\"x, error=\"a\"", &["Bearer", "a", ""]),
            ("{\"error\":\"a\"}", &["error", "a"]),
            ("Bearer error: a", &["Bearer", "error", "a"]),
            ("Bearer error=\\\"a\\\"", &["Bearer", "", "a"]),
            ("\u{e9}=\"\u{e9}\"\u{e9}error=a", &["", "a"]),
            ("Bearer =", &[]),
        ] {
            let found: Vec<_> = Errors::of(field).collect();
            assert_eq!(found, expected, "{field}");
        }
    }

    /// The time grows with the length, not with its square: that would take hours.
    #[test]
    fn a_field_of_a_megabyte_is_read_at_once() {
        for part in [
            "\"",
            "'",
            "\\",
            "\\\"",
            "=",
            "a=",
            "a=\"",
            "a='",
            "a ",
            "a, ",
            " ",
            ",",
            "error=x ",
            "error=\"x\",",
            "\u{e9}",
        ] {
            let field = part.repeat((1 << 20) / part.len());
            Errors::of(&field).for_each(drop);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Every word is part of the field, and no field takes more words than it has characters.
        #[test]
        fn any_field_is_read_to_its_end(field in "([a-z]{0,3}|error|[=\"', \\\\]|\\PC){0,40}") {
            let mut words = 0;
            for word in Errors::of(&field) {
                prop_assert!(field.contains(word));
                words += 1;
            }
            prop_assert!(words <= field.len());
        }

        /// In syntax that keeps to the RFC, only parameters named `error` count, whatever the values of the others are.
        #[test]
        fn values_of_other_parameters_are_never_taken_for_an_error(
            value in "\\PC{0,20}|[a-z =,\"'\\\\]{0,20}",
            name in "realm|scope|error_description|error_uri|x",
            is_last in any::<bool>(),
        ) {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let field = match is_last {
                true => format!("Bearer error=\"code\", {name}=\"{quoted}\""),
                false => format!("Bearer {name}=\"{quoted}\", error=\"code\""),
            };
            let found: Vec<_> = Errors::of(&field).collect();
            prop_assert_eq!(found, ["Bearer", "code"], "{}", field);
        }
    }
}
