//! What an authorization server says of itself.

use std::{collections::HashMap, fmt};

use http::{Uri, uri::Scheme};
use serde_json::{Map, Value, value::RawValue};

use crate::base::{Quoted, secure_uri::check_secure, uri::is_loopback};

/// What an authorization server says of itself ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2),
/// [OpenID Connect Discovery 1.0 §3](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata)).
///
/// [`TokenEndpoint::metadata`](crate::TokenEndpoint::metadata) obtains it.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::ServerMetadata;
///
/// fn authorization_endpoint(metadata: &ServerMetadata) -> Option<&str> {
///     metadata.get("authorization_endpoint")?.as_str()
/// }
/// ```
#[derive(Clone)]
pub struct ServerMetadata {
    issuer: Box<str>,
    /// Whether the issuer is on this machine.
    is_local: bool,
    token_endpoint: Uri,
    mtls_token_endpoint: Option<Uri>,
    methods: Option<Vec<String>>,
    algorithms: Option<Vec<String>>,
    dpop_algorithms: Option<Vec<String>>,
    json: Value,
}

/// Why a document is not the metadata of the issuer.
#[derive(Debug, PartialEq)]
pub(super) enum Unusable {
    /// It is no JSON object, or one of something else, so it may be what a server shows for all that it does not know.
    NoDocument(&'static str),
    /// It is what a server says of itself, and wrong.
    Wrong(String),
}

impl ServerMetadata {
    /// Reads the document that `issuer` publishes.
    pub(super) fn parse(document: &[u8], issuer: &str, allow_http: bool) -> Result<Self, Unusable> {
        let members = members(document).ok_or_else(|| {
            match document.iter().find(|b| !b.is_ascii_whitespace()) {
                None => Unusable::NoDocument("the answer is empty"),
                Some(b'<') => Unusable::NoDocument("the answer is a page instead of JSON"),
                Some(b'{') => {
                    Unusable::NoDocument("the answer is JSON that is broken or ends too early")
                }
                Some(_) => Unusable::NoDocument("the answer is something else than a JSON object"),
            }
        })?;
        // "The "issuer" value returned MUST be identical to the authorization server's issuer identifier value" (RFC 8414 §3.3):
        // without that one server could pass for another. Not even a slash at the end is forgiven.
        match members.get("issuer") {
            Some(Value::String(named)) if named == issuer => {}
            Some(Value::String(named)) => {
                return Err(Unusable::Wrong(format!(
                    "they are of another issuer, `{}`; give the issuer exactly as its server writes it",
                    Quoted(named)
                )));
            }
            Some(_) => return Err(Unusable::Wrong("their `issuer` is not a text".into())),
            None => return Err(Unusable::NoDocument("the answer names no `issuer`")),
        }
        let wrong = |why: String| Unusable::Wrong(why);
        let is_local = issuer.parse().is_ok_and(|issuer| is_loopback(&issuer));
        let guard = EndpointGuard {
            is_local,
            allow_http,
        };
        let token_endpoint = guard.endpoint(&members, TOKEN_ENDPOINT).map_err(wrong)?;
        let mtls_token_endpoint = guard.alias(&members, TOKEN_ENDPOINT).map_err(wrong)?;
        let list = |name| {
            let names = members.get(name).and_then(strings)?;
            Some(names.map(str::to_owned).collect())
        };
        Ok(Self {
            issuer: issuer.into(),
            is_local,
            token_endpoint: token_endpoint
                .ok_or_else(|| wrong("they name no `token_endpoint`".into()))?,
            mtls_token_endpoint,
            methods: list("token_endpoint_auth_methods_supported"),
            algorithms: list("token_endpoint_auth_signing_alg_values_supported"),
            dpop_algorithms: list("dpop_signing_alg_values_supported"),
            json: Value::Object(members),
        })
    }

    /// The URI of any endpoint, if the metadata name it. With `by_alias`, that for TLS clients if there is one (RFC 8705 §5).
    ///
    /// # Errors
    ///
    /// What is wrong with the URI, as a sentence.
    pub(crate) fn endpoint(
        &self,
        name: &str,
        by_alias: bool,
        allow_http: bool,
    ) -> Result<Option<Uri>, String> {
        let Value::Object(members) = &self.json else {
            return Ok(None);
        };
        let guard = EndpointGuard {
            is_local: self.is_local,
            allow_http,
        };
        match by_alias {
            true => match guard.alias(members, name)? {
                Some(alias) => Ok(Some(alias)),
                None => guard.endpoint(members, name),
            },
            false => guard.endpoint(members, name),
        }
    }

    /// The strings of a member that is a list.
    pub(super) fn list(&self, name: &str) -> Option<impl Iterator<Item = &str> + Clone> {
        self.get(name).and_then(strings)
    }

    /// The issuer, exactly as it was asked for and as its server writes it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where token requests go.
    #[must_use]
    pub fn token_endpoint(&self) -> &Uri {
        &self.token_endpoint
    }

    /// Where token requests go over a connection with a client certificate, if that is another place: the `token_endpoint` of
    /// `mtls_endpoint_aliases` ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)).
    #[must_use]
    pub fn mtls_token_endpoint(&self) -> Option<&Uri> {
        self.mtls_token_endpoint.as_ref()
    }

    /// The methods of client authentication that the server supports; `None` if it does not say, which means
    /// `client_secret_basic`.
    #[must_use]
    pub fn token_endpoint_auth_methods_supported(&self) -> Option<&[String]> {
        self.methods.as_deref()
    }

    /// The algorithms (`alg`) of client assertions that the server supports, if it says.
    #[must_use]
    pub fn token_endpoint_auth_signing_alg_values_supported(&self) -> Option<&[String]> {
        self.algorithms.as_deref()
    }

    /// The algorithms (`alg`) of DPoP proofs that the server supports, if it says
    /// ([RFC 9449 §5.1](https://www.rfc-editor.org/rfc/rfc9449#section-5.1)).
    #[must_use]
    pub fn dpop_signing_alg_values_supported(&self) -> Option<&[String]> {
        self.dpop_algorithms.as_deref()
    }

    /// Any member, as it came.
    ///
    /// # Security
    ///
    /// Only what this crate uses itself has been checked: of another endpoint, see that it is `https`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json.get(name)
    }

    /// The whole document: a JSON object.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl fmt::Debug for ServerMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMetadata")
            .field("issuer", &self.issuer)
            .field("token_endpoint", &self.token_endpoint)
            .finish_non_exhaustive()
    }
}

const TOKEN_ENDPOINT: &str = "token_endpoint";

/// Which URIs an endpoint may have.
#[derive(Clone, Copy)]
struct EndpointGuard {
    /// Whether the issuer is on this machine.
    is_local: bool,
    allow_http: bool,
}

impl EndpointGuard {
    fn endpoint(self, members: &Map<String, Value>, name: &str) -> Result<Option<Uri>, String> {
        self.check(members.get(name), format_args!("`{name}`"))
    }

    /// The endpoint for TLS clients.
    fn alias(self, members: &Map<String, Value>, name: &str) -> Result<Option<Uri>, String> {
        const ALIASES: &str = "mtls_endpoint_aliases";
        let alias = members.get(ALIASES).and_then(|aliases| aliases.get(name));
        self.check(alias, format_args!("`{name}` of `{ALIASES}`"))
    }

    fn check(self, value: Option<&Value>, name: fmt::Arguments<'_>) -> Result<Option<Uri>, String> {
        let Some(text) = value.and_then(Value::as_str) else {
            return Ok(None);
        };
        let uri = text
            .parse()
            .map_err(|_| format!("the {name} is not a URI"))?;
        check_secure(&uri, self.allow_http).map_err(|why| format!("the {name} {why}"))?;
        // A server elsewhere must not make a client send its secrets to whatever listens on this machine.
        if !self.allow_http && !self.is_local && uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(format!(
                "the {name} is plain http on this machine, and the issuer is not on this machine"
            ));
        }
        Ok(Some(uri))
    }
}

/// The strings of a list.
fn strings(list: &Value) -> Option<impl Iterator<Item = &str> + Clone> {
    let list = list.as_array()?.iter();
    Some(list.filter_map(Value::as_str))
}

/// The members of a JSON object. Of one that stands twice the last counts, and one that no type can hold is left out: a number
/// beyond all bounds is no reason to refuse the rest.
fn members(document: &[u8]) -> Option<Map<String, Value>> {
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    let members: HashMap<String, &RawValue> = serde_json::from_slice(document).ok()?;
    let members = members.into_iter().filter_map(|(name, value)| {
        let value = serde_json::from_str(value.get()).ok()?;
        Some((name, value))
    });
    Some(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://as.example/t";

    fn parse(document: &str) -> Result<ServerMetadata, String> {
        ServerMetadata::parse(document.as_bytes(), ISSUER, false).map_err(|error| match error {
            Unusable::NoDocument(why) => why.to_owned(),
            Unusable::Wrong(why) => why,
        })
    }

    #[test]
    fn what_is_read() {
        let metadata = parse(
            "\u{feff}{\"odd\": 1e999, \"issuer\": \"https://other.example\", \"issuer\": \"https://as.example/t\",
              \"token_endpoint\": \"https://as.example/t/token?p=1\", \"x\": [1],
              \"mtls_endpoint_aliases\": {\"token_endpoint\": \"https://mtls.example:9/token\"},
              \"token_endpoint_auth_methods_supported\": [\"a\", 1, \"b\"],
              \"token_endpoint_auth_signing_alg_values_supported\": \"ES256\",
              \"dpop_signing_alg_values_supported\": [\"ES256\"]}",
        )
        .unwrap();

        assert_eq!(metadata.issuer(), ISSUER);
        assert_eq!(*metadata.token_endpoint(), "https://as.example/t/token?p=1");
        assert_eq!(
            *metadata.mtls_token_endpoint().unwrap(),
            "https://mtls.example:9/token"
        );
        let methods = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            metadata.token_endpoint_auth_methods_supported(),
            Some(&methods[..])
        );
        assert_eq!(
            metadata.token_endpoint_auth_signing_alg_values_supported(),
            None
        );
        assert_eq!(
            metadata.dpop_signing_alg_values_supported(),
            Some(&["ES256".to_owned()][..])
        );
        assert_eq!(metadata.get("x"), Some(&serde_json::json!([1])));
        assert_eq!(metadata.get("odd"), None);
        assert_eq!(metadata.json()["issuer"], ISSUER);
    }

    #[test]
    fn odd_members_are_left_out() {
        for odd in [
            r#""mtls_endpoint_aliases": [1]"#,
            r#""mtls_endpoint_aliases": {"token_endpoint": null}"#,
            r#""token_endpoint_auth_methods_supported": null"#,
            r#""token_endpoint_auth_methods_supported": "none""#,
        ] {
            let document = format!(
                r#"{{"issuer": "{ISSUER}", "token_endpoint": "https://as.example/token", {odd}}}"#
            );
            let metadata = parse(&document).unwrap();
            assert_eq!(metadata.mtls_token_endpoint(), None, "{odd}");
            assert_eq!(
                metadata.token_endpoint_auth_methods_supported(),
                None,
                "{odd}"
            );
        }
    }

    #[test]
    fn what_is_refused() {
        let with = |issuer: &str, rest: &str| format!(r#"{{"issuer": {issuer}, {rest}}}"#);
        let token = r#""token_endpoint": "https://as.example/token""#;
        let own = format!("\"{ISSUER}\"");
        for (document, why) in [
            (String::new(), "the answer is empty"),
            ("<html>".into(), "the answer is a page"),
            ("[]".into(), "the answer is something else"),
            ("null".into(), "the answer is something else"),
            (r#"{"issuer": "#.into(), "the answer is JSON that is broken"),
            ("{}".into(), "the answer names no `issuer`"),
            (with("1", token), "their `issuer` is not a text"),
            (
                with(&own, r#""token_endpoint": "http://localhost/token""#),
                "the `token_endpoint` is plain http on this machine",
            ),
            (
                with(r#""https://as.example/t/""#, token),
                "they are of another issuer, `https://as.example/t/`",
            ),
            (
                with(r#""https://AS.example/t""#, token),
                "they are of another issuer",
            ),
            (
                with(r#""https://as.example""#, token),
                "they are of another issuer",
            ),
            (with(&own, r#""x": 1"#), "they name no `token_endpoint`"),
            (
                with(&own, r#""token_endpoint": 1"#),
                "they name no `token_endpoint`",
            ),
            (
                with(&own, r#""token_endpoint": "a b""#),
                "the `token_endpoint` is not a URI",
            ),
            (
                with(&own, r#""token_endpoint": "/token""#),
                "the `token_endpoint` is not absolute",
            ),
            (
                with(&own, r#""token_endpoint": "http://as.example/token""#),
                "the `token_endpoint` is plain http",
            ),
            (
                with(&own, r#""token_endpoint": "https://u:p@as.example/""#),
                "the `token_endpoint` contains a user name",
            ),
            (
                with(
                    &own,
                    &format!(
                        r#"{token}, "mtls_endpoint_aliases": {{"token_endpoint": "http://as.example/"}}"#
                    ),
                ),
                "the `token_endpoint` of `mtls_endpoint_aliases` is plain http",
            ),
        ] {
            let error = parse(&document).unwrap_err();
            assert!(error.starts_with(why), "{document}: {error}");
        }
    }
}
