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
    /// A number.
    Number(f64),
    /// A list of texts, joined by spaces, as some servers send `scope`.
    List(String),
    /// Anything else.
    Other,
}

impl Member<'_> {
    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.into_owned()),
            _ => None,
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
            _ => None,
        }
    }

    /// A time: a number, or a number as a text.
    fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Number(seconds) => duration(*seconds),
            // To Rust, `inf` and `NaN` are numbers.
            Self::Text(text) if !text.contains(['n', 'N']) => duration(text.trim().parse().ok()?),
            _ => None,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl<'a> Members<'a> {
    /// Reads the object. Anything else than an object is an error.
    pub(super) fn parse(body: &'a [u8]) -> serde_json::Result<Self> {
        Self::read(body, MembersVisitor { by_raw_text: false })
            .or_else(|_| Self::read(body, MembersVisitor { by_raw_text: true }))
    }

    fn read(body: &'a [u8], visitor: MembersVisitor) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let members = json.deserialize_map(visitor)?;
        json.end()?;
        Ok(members)
    }
}

struct MembersVisitor {
    /// Whether each value is taken as raw text first. A number too large for any type of serde would else fail the whole object;
    /// but all is read twice then.
    by_raw_text: bool,
}

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut seen = [false; NAMES.len()];
        while let Some(Key(index)) = map.next_key()? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let name = NAMES[index];
            if std::mem::replace(&mut seen[index], true) {
                members.repeated = Some(name);
            }
            let value = match self.by_raw_text {
                false => map.next_value()?,
                true => from_raw_text(map.next_value()?),
            };
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
                "expires_in" => {
                    members.expires_in = value.seconds();
                    continue;
                }
                _ => {
                    members.refresh_in = value.seconds();
                    continue;
                }
            };
            *member = value;
        }
        Ok(members)
    }
}

/// `1e400` is a number to Rust's own parser, and what serde has no type for is no text.
fn from_raw_text(value: &RawValue) -> Member<'_> {
    let json = value.get();
    serde_json::from_str(json)
        .unwrap_or_else(|_| json.parse().map_or(Member::Other, Member::Number))
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

/// The name of a member, if it is one of [`NAMES`], by its place there.
struct Key(Option<usize>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(Key(NAMES.iter().position(|known| *known == name)))
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

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Member::Number(number))
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

fn duration(seconds: f64) -> Option<Duration> {
    (seconds <= MAX_EXPIRES_IN).then(|| Duration::from_secs_f64(seconds.max(0.0)))
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
            let body = format!(r#"{{"refresh_in":{json},"expires_in":{json}}}"#);
            let members = Members::parse(body.as_bytes()).unwrap();
            assert_eq!(members.expires_in, expected, "{json}");
            assert_eq!(members.refresh_in, expected, "{json}");
        }
    }

    #[test]
    fn a_number_beyond_all_types_is_no_reason_to_refuse_the_object() {
        for value in ["1e400", "[1e400]", "{\"a\":-1e400}"] {
            let body = format!(r#"{{"scope":{value},"access_token":"a"}}"#);
            let members = Members::parse(body.as_bytes()).unwrap();
            assert!(members.scope.as_text().is_none(), "{value}");
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
