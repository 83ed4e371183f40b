//! The members of the JSON object that the RFCs define, read in one pass without building a tree.

use std::{borrow::Cow, fmt, time::Duration};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Beyond this a lifetime is a mistake, not a promise.
const MAX_EXPIRES_IN: f64 = 10.0 * 365.0 * 24.0 * 3600.0;

/// The members of RFC 6749 §5.1 and §5.2, RFC 8693 §2.2.1 and OpenID Connect Core §3.1.3.3.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) access_token: Member<'a>,
    pub(super) token_type: Member<'a>,
    pub(super) expires_in: Option<Duration>,
    pub(super) refresh_in: Option<Duration>,
    pub(super) refresh_token: Member<'a>,
    pub(super) scope: Member<'a>,
    pub(super) id_token: Member<'a>,
    pub(super) issued_token_type: Member<'a>,
    pub(super) error: Member<'a>,
    pub(super) error_description: Member<'a>,
    pub(super) error_uri: Member<'a>,
    /// One of the above that stands twice; its last value counts.
    pub(super) repeated: Option<&'static str>,
}

/// The value of a member that should be a text.
#[derive(Default)]
pub(super) enum Member<'a> {
    /// Not there, or `null`.
    #[default]
    Absent,
    /// A text.
    Text(Cow<'a, str>),
    /// A list of texts, joined by spaces, as some servers send `scope`.
    List(String),
    /// Anything else.
    Other,
}

impl Member<'_> {
    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.into_owned()),
            Self::Absent | Self::List(_) | Self::Other => None,
        }
    }

    pub(super) fn text_or_list(self) -> Option<String> {
        match self {
            Self::List(words) => Some(words),
            other => other.text(),
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::List(_) | Self::Other => None,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl<'a> Members<'a> {
    /// Reads the object. Anything else than an object is an error.
    pub(super) fn parse(body: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(body)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut seen = Vec::with_capacity(NAMES.len());
        while let Some(Key(name)) = map.next_key()? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&name) {
                members.repeated = Some(name);
            }
            seen.push(name);
            let member = match name {
                "access_token" => &mut members.access_token,
                "token_type" => &mut members.token_type,
                "refresh_token" => &mut members.refresh_token,
                "scope" => &mut members.scope,
                "id_token" => &mut members.id_token,
                "issued_token_type" => &mut members.issued_token_type,
                "error" => &mut members.error,
                "error_description" => &mut members.error_description,
                "error_uri" => &mut members.error_uri,
                _ => {
                    // As raw text: a number too large for any type of serde would fail the whole object.
                    let value: &RawValue = map.next_value()?;
                    let time = seconds(value.get());
                    match name {
                        "expires_in" => members.expires_in = time,
                        _ => members.refresh_in = time,
                    }
                    continue;
                }
            };
            // By way of its raw text, too: `1e400` is no text, but no reason to refuse the object.
            let value: &RawValue = map.next_value()?;
            *member = serde_json::from_str(value.get()).unwrap_or(Member::Other);
        }
        Ok(members)
    }
}

const NAMES: [&str; 11] = [
    "access_token",
    "token_type",
    "expires_in",
    "refresh_in",
    "refresh_token",
    "scope",
    "id_token",
    "issued_token_type",
    "error",
    "error_description",
    "error_uri",
];

/// The name of a member, if it is one of [`NAMES`].
struct Key(Option<&'static str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(Key(NAMES.into_iter().find(|known| *known == name)))
            }
        }
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Member::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut words: Option<String> = Some(String::new());
        while let Some(member) = seq.next_element()? {
            words = match (words, member) {
                (Some(mut words), Member::Text(word)) => {
                    if !words.is_empty() {
                        words.push(' ');
                    }
                    words.push_str(&word);
                    Some(words)
                }
                _ => None,
            };
        }
        Ok(words.map_or(Member::Other, Member::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

/// A time in the JSON text of its value: a number, or a number as a text.
fn seconds(json: &str) -> Option<Duration> {
    let number = json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'));
    // To Rust, `inf` and `NaN` are numbers.
    if json.contains(['n', 'N']) {
        return None;
    }
    let seconds: f64 = number.unwrap_or(json).trim().parse().ok()?;
    if seconds > MAX_EXPIRES_IN {
        return None;
    }
    Some(Duration::from_secs_f64(seconds.max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_in_is_read_from_whatever_servers_send() {
        for (json, expected) in [
            ("3599", Some(3599.0)),
            ("3599.0", Some(3599.0)),
            ("\"3599\"", Some(3599.0)),
            ("\" 3599 \"", Some(3599.0)),
            ("1.5", Some(1.5)),
            ("\"1.5\"", Some(1.5)),
            ("3e2", Some(300.0)),
            ("0", Some(0.0)),
            ("-1", Some(0.0)),
            ("-1e400", Some(0.0)),
            ("315360000", Some(315_360_000.0)),
            ("315360001", None),
            ("1e20", None),
            ("1e400", None),
            ("18446744073709551616", None),
            ("null", None),
            ("true", None),
            ("\"\"", None),
            ("\"soon\"", None),
            ("\"NaN\"", None),
            ("\"inf\"", None),
            ("\"-inf\"", None),
            ("\"-Infinity\"", None),
            ("[]", None),
            ("{}", None),
        ] {
            let expected = expected.map(Duration::from_secs_f64);
            assert_eq!(seconds(json), expected, "{json}");
        }
    }

    #[test]
    fn a_number_beyond_all_types_is_no_reason_to_refuse_the_object() {
        for value in ["1e400", "[1e400]", "{\"a\":-1e400}"] {
            let body = format!(r#"{{"scope":{value},"access_token":"a"}}"#);
            let members = Members::parse(body.as_bytes()).unwrap();
            assert!(matches!(members.scope, Member::Other), "{value}");
            assert_eq!(members.access_token.as_text(), Some("a"));
        }
    }

    #[test]
    fn a_list_of_words_is_a_scope() {
        let members = Members::parse(br#"{"scope":["a","b"],"error":["a",1]}"#).unwrap();
        assert_eq!(members.scope.text_or_list().as_deref(), Some("a b"));
        assert!(matches!(members.error, Member::Other));
    }

    #[test]
    fn a_member_that_stands_twice_is_noticed() {
        let body = br#"{"access_token":"a","x":1,"x":2,"access_token":"b"}"#;
        let members = Members::parse(body).unwrap();
        assert_eq!(members.repeated, Some("access_token"));
    }
}
