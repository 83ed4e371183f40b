//! Judges the challenges of a `WWW-Authenticate` or `Proxy-Authenticate` header.

use http::{HeaderValue, header::GetAll};

use crate::{
    dpop::USE_DPOP_NONCE,
    message::challenge::{Item, Items, code},
};

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
