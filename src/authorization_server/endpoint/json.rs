//! Chosen members of a JSON object, read in one pass without building a tree.

use std::{borrow::Cow, fmt, ops::Range, time::Duration};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

/// The maximum lifetime, ten years. A longer one, such as the largest integer of a server, stands for "forever".
const MAX_SECONDS: f64 = 10.0 * 365.0 * 24.0 * 3600.0;

/// What servers that send a time instead of a lifetime send from November 2023 to January 2038, in seconds and in milliseconds.
///
/// The end is excluded: it is the largest integer of 32 bits, which stands for "forever".
const UNIX_TIMES: [Range<f64>; 2] = [
    1_700_000_000.0..2_147_483_647.0,
    1_700_000_000_000.0..2_147_483_647_000.0,
];

/// Members of a JSON object, in the order of the requested names.
pub(crate) struct JsonObject<'a, const N: usize> {
    pub(crate) values: [JsonValue<'a>; N],
    /// A member that is in the object twice; its last value counts.
    pub(crate) repeated: Option<&'static str>,
}

/// The value of a member that should be a string.
#[derive(Default)]
pub(crate) enum JsonValue<'a> {
    /// Absent, or `null`.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(f64),
    /// A list of strings, joined by spaces, as some servers send `scope`.
    List(String),
    /// `false`, or an object without members.
    Empty,
    /// Anything else.
    Other,
}

impl JsonValue<'_> {
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    }

    pub(crate) fn text_or_list(self) -> Option<String> {
        match self {
            Self::List(words) => Some(words),
            other => other.text(),
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number of seconds, also as a string. A negative one is zero, and a large one is ten years. A time, and what
    /// is too large for any integer, is `None`.
    pub(crate) fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Number(seconds) => duration(*seconds),
            // To Rust, `inf` and `NaN` are numbers.
            Self::Text(text) if !text.contains(['n', 'N']) => {
                let text = text.trim();
                duration(text.parse().map(rounded).or_else(|_| text.parse()).ok()?)
            }
            _ => None,
        }
    }

    /// Whether this, as the member `error`, says that there is no error, whatever comes with it.
    pub(crate) fn says_none(&self) -> bool {
        match self {
            Self::Absent | Self::Empty => true,
            Self::Number(number) => *number == 0.0,
            Self::List(words) => words.is_empty(),
            Self::Text(text) => text.is_empty(),
            Self::Other => false,
        }
    }

    /// Whether this is a string that contains anything.
    pub(crate) fn is_some_text(&self) -> bool {
        self.as_text().is_some_and(|text| !text.is_empty())
    }
}

fn duration(seconds: f64) -> Option<Duration> {
    // No integer of a server is larger.
    const END: f64 = 18_446_744_073_709_551_616.0;
    let is_time = UNIX_TIMES.iter().any(|times| times.contains(&seconds));
    (seconds < END && !is_time).then(|| Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS)))
}

/// The largest integers are rounded down, so that they stay integers.
fn rounded(number: u64) -> f64 {
    (number & !0x7ff).max(number.min(1 << 53)) as f64
}

impl<'a, const N: usize> JsonObject<'a, N> {
    /// Reads the members with these names.
    ///
    /// # Errors
    ///
    /// If `body` is anything but a JSON object.
    pub(crate) fn read(body: &'a [u8], names: &[&'static str; N]) -> serde_json::Result<Self> {
        Self::visit(body, names, false).or_else(|_| Self::visit(body, names, true))
    }

    fn visit(
        body: &'a [u8],
        names: &[&'static str; N],
        by_raw_text: bool,
    ) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let object = json.deserialize_map(ObjectVisitor { names, by_raw_text })?;
        json.end()?;
        Ok(object)
    }
}

struct ObjectVisitor<'n, const N: usize> {
    names: &'n [&'static str; N],
    /// Whether each value is taken as raw text first. Otherwise a number that is too large for any type of serde fails the whole
    /// object; but everything is read twice then.
    by_raw_text: bool,
}

impl<'de, const N: usize> Visitor<'de> for ObjectVisitor<'_, N> {
    type Value = JsonObject<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [const { JsonValue::Absent }; N];
        let mut seen = [false; N];
        let mut repeated = None;
        while let Some(index) = map.next_key_seed(Index(self.names))? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut seen[index], true) {
                repeated = Some(self.names[index]);
            }
            values[index] = match self.by_raw_text {
                false => map.next_value()?,
                true => from_raw_text(map.next_value()?),
            };
        }
        Ok(JsonObject { values, repeated })
    }
}

/// `1e400` is a number to Rust's own parser. What serde has no type for is no string.
fn from_raw_text(value: &RawValue) -> JsonValue<'_> {
    let json = value.get();
    serde_json::from_str(json)
        .unwrap_or_else(|_| json.parse().map_or(JsonValue::Other, JsonValue::Number))
}

/// The position of the name of a member among these names, if it is one of them.
struct Index<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Index<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Index<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

impl<'de> Deserialize<'de> for JsonValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = JsonValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(JsonValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(JsonValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(JsonValue::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(match value {
            true => JsonValue::Other,
            false => JsonValue::Empty,
        })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(JsonValue::Number(rounded(number)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(JsonValue::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(JsonValue::Number(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut words: Option<String> = Some(String::new());
        while let Some(member) = seq.next_element()? {
            words = match (words, member) {
                (Some(mut words), JsonValue::Text(word)) => {
                    if !words.is_empty() {
                        words.push(' ');
                    }
                    words.push_str(&word);
                    Some(words)
                }
                _ => None,
            };
        }
        Ok(words.map_or(JsonValue::Other, JsonValue::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        if map.next_entry::<IgnoredAny, IgnoredAny>()?.is_none() {
            return Ok(JsonValue::Empty);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(JsonValue::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_from_whatever_servers_send() {
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
            ("315360001", Some(MAX_SECONDS)),
            ("1000000000", Some(MAX_SECONDS)),
            ("1699999999", Some(MAX_SECONDS)),
            ("1700000000", None),
            ("1764362400", None),
            ("\"1764362400\"", None),
            ("1764362400.5", None),
            ("2147483646", None),
            ("2147483647", Some(MAX_SECONDS)),
            ("\"2147483647\"", Some(MAX_SECONDS)),
            ("4294967295", Some(MAX_SECONDS)),
            ("1764362400000", None),
            ("9007199254740991", Some(MAX_SECONDS)),
            ("9223372036854775807", Some(MAX_SECONDS)),
            ("18446744073709551615", Some(MAX_SECONDS)),
            ("\"18446744073709551615\"", Some(MAX_SECONDS)),
            ("1e19", Some(MAX_SECONDS)),
            ("18446744073709551616", None),
            ("1e20", None),
            ("1e400", None),
            ("\"1e400\"", None),
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
            let body = format!(r#"{{"expires_in":{json}}}"#);
            let object = JsonObject::read(body.as_bytes(), &["expires_in"]).unwrap();
            assert_eq!(object.values[0].seconds(), expected, "{json}");
        }
    }

    #[test]
    fn a_number_too_large_for_any_type_does_not_fail_the_object() {
        for value in ["1e400", "[1e400]", "{\"a\":-1e400}"] {
            let body = format!(r#"{{"scope":{value},"access_token":"a"}}"#);
            let object = JsonObject::read(body.as_bytes(), &["scope", "access_token"]);
            let [scope, access_token] = object.unwrap().values;
            assert!(scope.as_text().is_none(), "{value}");
            assert_eq!(access_token.as_text(), Some("a"));
        }
    }

    #[test]
    fn a_list_of_strings_is_joined_by_spaces() {
        let body = br#"{"scope":["a","b"],"error":["a",1]}"#;
        let [scope, error] = JsonObject::read(body, &["scope", "error"]).unwrap().values;
        assert_eq!(scope.text_or_list().as_deref(), Some("a b"));
        assert!(matches!(error, JsonValue::Other));
    }

    #[test]
    fn a_repeated_member_is_noticed_and_its_last_value_counts() {
        let body = br#"{"access_token":"a","x":1,"x":2,"access_token":"b"}"#;
        let object = JsonObject::read(body, &["scope", "access_token"]).unwrap();
        assert_eq!(object.repeated, Some("access_token"));
        assert_eq!(object.values[1].as_text(), Some("b"));
    }
}
