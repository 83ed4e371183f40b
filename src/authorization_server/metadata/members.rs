//! Reads the members of a metadata document, and notices those that must not be repeated.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

/// The member that names the endpoints for TLS clients (RFC 8705 §5).
pub(super) const ALIASES: &str = "mtls_endpoint_aliases";

/// The members of a metadata document.
pub(super) struct Members {
    /// The last value of a repeated member. A number that is too large for any type is left out, and does not fail the rest.
    pub(super) values: Map<String, Value>,
    /// A member that says where requests go, and that the document contains twice.
    ///
    /// Programs disagree about which value counts, so another program may have checked the other one.
    pub(super) repeated: Option<String>,
}

impl Members {
    /// Reads the metadata of an authorization server. Returns `None` if the document is not a JSON object.
    pub(super) fn of_server(document: &[u8]) -> Option<Self> {
        Self::read(document, |name| {
            matches!(name, "issuer" | "jwks_uri" | ALIASES) || name.ends_with("_endpoint")
        })
    }

    /// Reads the metadata of a protected resource. Returns `None` if the document is not a JSON object.
    pub(super) fn of_resource(document: &[u8]) -> Option<Self> {
        Self::read(document, |name| {
            matches!(name, "resource" | "authorization_servers" | "jwks_uri")
        })
    }

    fn read(document: &[u8], must_be_unique: fn(&str) -> bool) -> Option<Self> {
        let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
        let RawMembers(members) = serde_json::from_slice(document).ok()?;
        let aliases = members.iter().rfind(|(name, _)| name == ALIASES);
        let aliases = aliases.and_then(|(_, value)| serde_json::from_str(value.get()).ok());
        let RawMembers(aliases) = aliases.unwrap_or_default();
        let repeated = first_repeated(&members, must_be_unique)
            .or_else(|| first_repeated(&aliases, |_| true))
            .map(str::to_owned);
        let values = members.into_iter().filter_map(|(name, value)| {
            let value = serde_json::from_str(value.get()).ok()?;
            Some((name, value))
        });
        Some(Self {
            values: values.collect(),
            repeated,
        })
    }
}

/// Returns the name of the first member that is repeated, of those that must not be.
pub(crate) fn first_repeated<'a>(
    members: &'a [(String, &RawValue)],
    must_be_unique: fn(&str) -> bool,
) -> Option<&'a str> {
    let mut seen = HashSet::new();
    let mut names = members.iter().map(|(name, _)| &**name);
    names.find(|name| must_be_unique(name) && !seen.insert(*name))
}

/// Every member of a JSON object, in order, with its value as text.
#[derive(Default)]
pub(crate) struct RawMembers<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawMembersVisitor)
    }
}

struct RawMembersVisitor;

impl<'de> Visitor<'de> for RawMembersVisitor {
    type Value = RawMembers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(RawMembers(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_issuer_or_endpoint_is_noticed() {
        for (document, expected) in [
            (r#"{"issuer":1,"issuer":1}"#, Some("issuer")),
            (
                r#"{"token_endpoint":"a","x":1,"token_endpoint":"a"}"#,
                Some("token_endpoint"),
            ),
            (
                r#"{"token_endpoint":"a","token\u005fendpoint":"b"}"#,
                Some("token_endpoint"),
            ),
            (
                r#"{"revocation_endpoint":null,"revocation_endpoint":"b"}"#,
                Some("revocation_endpoint"),
            ),
            (
                r#"{"mtls_endpoint_aliases":{},"mtls_endpoint_aliases":{}}"#,
                Some(ALIASES),
            ),
            (
                r#"{"mtls_endpoint_aliases":{"token_endpoint":"a","token_endpoint":"b"}}"#,
                Some("token_endpoint"),
            ),
            (r#"{"claims_supported":[],"claims_supported":[]}"#, None),
            (
                r#"{"token_endpoint":"a","mtls_endpoint_aliases":{"token_endpoint":"b"}}"#,
                None,
            ),
            (r#"{"a_endpoint":"a","b_endpoint":"a"}"#, None),
            (r#"{"mtls_endpoint_aliases":[1,1]}"#, None),
        ] {
            let members = Members::of_server(document.as_bytes()).unwrap();
            assert_eq!(members.repeated.as_deref(), expected, "{document}");
        }
    }
}
