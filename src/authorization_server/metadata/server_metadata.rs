//! `ServerMetadata`: the metadata of an authorization server.

use std::{fmt, sync::Arc};

use http::{Uri, uri::Scheme};
use serde_json::Value;

use super::{
    fetch::Rules,
    lists::{Lists, strings},
    members::{ALIASES, Members},
    unusable::Unusable,
    well_known::is_same_issuer,
};
use crate::base::{
    Quoted,
    public_address::check_public,
    secure_uri::check_secure,
    uri::{Printable, is_loopback},
};

/// The metadata of an authorization server ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2),
/// [OpenID Connect Discovery 1.0 §3](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata)).
///
/// [`TokenEndpoint::metadata`](crate::TokenEndpoint::metadata) returns it.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::ServerMetadata;
///
/// fn supports_pkce(metadata: &ServerMetadata) -> bool {
///     let methods = metadata.code_challenge_methods_supported();
///     methods.is_some_and(|methods| methods.iter().any(|method| method == "S256"))
/// }
/// ```
#[derive(Clone)]
pub struct ServerMetadata {
    /// As the server writes it.
    issuer: Arc<str>,
    /// Whether the document comes from this machine.
    is_local: bool,
    public_only: bool,
    /// Or why the document is of no use for a token endpoint.
    token_endpoint: Result<Uri, Box<str>>,
    /// Every other URI that may be used, by the name of its member.
    uris: Vec<(Box<str>, Uri)>,
    /// The same for TLS clients.
    aliases: Vec<(Box<str>, Uri)>,
    lists: Lists,
    json: Value,
}

impl ServerMetadata {
    /// Reads the document of `issuer`, which comes from `source`.
    pub(super) fn parse(
        document: &[u8],
        issuer: &str,
        source: &Uri,
        rules: Rules,
    ) -> Result<Self, Unusable> {
        let Members {
            values: members,
            repeated,
        } = Members::of_server(document).ok_or_else(|| Unusable::no_object(document))?;
        let issuer: Arc<str> = match members.get("issuer") {
            Some(Value::String(named)) if is_same_issuer(issuer, named) => named.as_str().into(),
            Some(Value::String(named)) => {
                return Err(Unusable::Wrong(format!(
                    "it belongs to another issuer, `{}`; write the issuer exactly as its server does",
                    Quoted(named)
                )));
            }
            Some(_) => return Err(Unusable::Wrong("its `issuer` is not a string".into())),
            None => return Err(Unusable::NoDocument("the response names no `issuer`")),
        };
        if let Some(name) = repeated {
            return Err(Unusable::repeated(&name));
        }
        let json = Value::Object(members);
        let is_local = is_loopback(source);
        let guard = EndpointGuard {
            is_local,
            allow_http: rules.allow_http,
            public_only: rules.public_only,
        };
        let token_endpoint = guard
            .alias(&json, TOKEN_ENDPOINT)
            .and_then(|_| guard.endpoint(&json, TOKEN_ENDPOINT))
            .and_then(|uri| uri.ok_or_else(|| "it contains no `token_endpoint`".to_owned()));
        Ok(Self {
            issuer,
            is_local,
            public_only: rules.public_only,
            token_endpoint: token_endpoint.map_err(Into::into),
            uris: usable_uris(Some(&json), |name| guard.endpoint(&json, name)),
            aliases: usable_uris(json.get(ALIASES), |name| guard.alias(&json, name)),
            lists: Lists::of(&json, &LISTS),
            json,
        })
    }

    /// Returns the URI in a member, if it may be used.
    pub(super) fn uri(&self, name: &str) -> Option<&Uri> {
        find(&self.uris, name)
    }

    /// Returns the strings of one of [`LISTS`].
    pub(super) fn stored_list(&self, name: &str) -> Option<&[String]> {
        self.lists.get(name)
    }

    /// Returns why the document is of no use for a token endpoint, or `None` if it is.
    ///
    /// Such a document may still name other endpoints.
    pub(super) fn why_incomplete(&self) -> Option<&str> {
        self.token_endpoint.as_ref().err().map(|why| &**why)
    }

    /// Returns whether the endpoint with this member need not be looked for in another document.
    ///
    /// The most that another document could have is a token endpoint, or what a document without one lacks too.
    pub(super) fn is_enough_for(&self, member: &str) -> bool {
        self.token_endpoint.is_ok()
            || (member != TOKEN_ENDPOINT && self.get(member).is_some_and(Value::is_string))
    }

    /// Returns the URI of any endpoint, if the metadata names it. With `by_alias`, it is that for TLS clients if there is one (RFC 8705
    /// §5).
    ///
    /// # Errors
    ///
    /// If the URI is invalid or must not be used. The error is a sentence.
    pub(crate) fn endpoint(
        &self,
        name: &str,
        by_alias: bool,
        allow_http: bool,
    ) -> Result<Option<Uri>, String> {
        let guard = EndpointGuard {
            is_local: self.is_local,
            allow_http,
            public_only: self.public_only,
        };
        let alias = match by_alias {
            true => guard.alias(&self.json, name)?,
            false => None,
        };
        match alias {
            Some(alias) => Ok(Some(alias)),
            None => guard.endpoint(&self.json, name),
        }
    }

    /// Returns the strings of a member that is a list.
    pub(super) fn list(&self, name: &str) -> Option<impl Iterator<Item = &str> + Clone> {
        self.get(name).and_then(strings)
    }

    pub(crate) fn shared_issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Returns the issuer, exactly as its server writes it.
    ///
    /// It is the issuer that you gave, except that one of the two may have a slash in place of an empty path. This text is the audience
    /// of client assertions.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the URI of the token endpoint.
    ///
    /// `None` if the server names none ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2) allows it), or one that must
    /// not be used.
    #[must_use]
    pub fn token_endpoint(&self) -> Option<&Uri> {
        self.token_endpoint.as_ref().ok()
    }

    /// Returns the URI of the token endpoint for clients with a TLS certificate, if it is another one: the `token_endpoint` of
    /// `mtls_endpoint_aliases` ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)).
    #[must_use]
    pub fn mtls_token_endpoint(&self) -> Option<&Uri> {
        self.mtls_endpoint_alias(TOKEN_ENDPOINT)
    }

    /// Returns the URI of an endpoint for clients with a TLS certificate, if it is another one than for other clients.
    ///
    /// `name` is the name of its member, such as `revocation_endpoint`. The aliases are in `mtls_endpoint_aliases`
    /// ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)). An alias that must not be used is left out.
    #[must_use]
    pub fn mtls_endpoint_alias(&self, name: &str) -> Option<&Uri> {
        find(&self.aliases, name)
    }

    /// Returns any member, unchanged.
    ///
    /// # Security
    ///
    /// The member is not checked. A method of its own, such as [`authorization_endpoint`](Self::authorization_endpoint), returns only a
    /// URI that may be used. Before you use any other, check that it is `https`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json.get(name)
    }

    /// Returns the whole document, a JSON object.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl fmt::Debug for ServerMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMetadata")
            .field("issuer", &Quoted(&self.issuer))
            .field("token_endpoint", &self.token_endpoint().map(Printable))
            .finish_non_exhaustive()
    }
}

pub(super) const TOKEN_ENDPOINT: &str = "token_endpoint";

/// Which URIs an endpoint may have.
#[derive(Clone, Copy)]
struct EndpointGuard {
    /// Whether the document comes from this machine.
    is_local: bool,
    allow_http: bool,
    public_only: bool,
}

impl EndpointGuard {
    fn endpoint(self, json: &Value, name: &str) -> Result<Option<Uri>, String> {
        self.check(json.get(name), format_args!("`{name}`"))
    }

    /// The endpoint for TLS clients.
    fn alias(self, json: &Value, name: &str) -> Result<Option<Uri>, String> {
        let alias = json.get(ALIASES).and_then(|aliases| aliases.get(name));
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
        if self.public_only {
            check_public(&uri).map_err(|why| format!("the {name} {why}"))?;
        }
        // A remote server must not make a client send its secrets to another program on this machine.
        if !self.allow_http && !self.is_local && uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(format!(
                "the {name} is plain http on this machine, but the metadata comes from another machine"
            ));
        }
        Ok(Some(uri))
    }
}

/// The members that have an accessor for their strings.
const LISTS: [&str; 17] = [
    "acr_values_supported",
    "authorization_details_types_supported",
    "backchannel_token_delivery_modes_supported",
    "code_challenge_methods_supported",
    "dpop_signing_alg_values_supported",
    "grant_types_supported",
    "id_token_signing_alg_values_supported",
    "introspection_endpoint_auth_methods_supported",
    "prompt_values_supported",
    "protected_resources",
    "response_modes_supported",
    "response_types_supported",
    "revocation_endpoint_auth_methods_supported",
    "scopes_supported",
    "subject_types_supported",
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
];

/// The URIs in an object that may be used, by the names of their members.
fn usable_uris(
    object: Option<&Value>,
    check: impl Fn(&str) -> Result<Option<Uri>, String>,
) -> Vec<(Box<str>, Uri)> {
    let members = object.and_then(Value::as_object).into_iter().flatten();
    let names = members
        .map(|(name, _)| &**name)
        .filter(|name| name.ends_with("_endpoint") || *name == "jwks_uri");
    names
        .filter_map(|name| Some((name.into(), check(name).ok()??)))
        .collect()
}

fn find<'a>(uris: &'a [(Box<str>, Uri)], name: &str) -> Option<&'a Uri> {
    let mut uris = uris.iter();
    uris.find(|(other, _)| **other == *name).map(|(_, uri)| uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://as.example/t";

    fn parse(document: &str) -> Result<ServerMetadata, String> {
        let parsed = ServerMetadata::parse(
            document.as_bytes(),
            ISSUER,
            &Uri::from_static(ISSUER),
            Rules::default(),
        );
        parsed.map_err(|error| match error {
            Unusable::NoDocument(why) => why.to_owned(),
            Unusable::Wrong(why) => why,
        })
    }

    #[test]
    fn members_are_read_and_the_last_of_a_repeated_one_counts() {
        let metadata = parse(
            "\u{feff}{\"odd\": 1e999, \"x\": 1, \"issuer\": \"https://as.example/t\",
              \"token_endpoint\": \"https://as.example/t/token?p=1\", \"x\": [1],
              \"mtls_endpoint_aliases\": {\"token_endpoint\": \"https://mtls.example:9/token\"},
              \"token_endpoint_auth_methods_supported\": [\"a\", 1, \"b\"],
              \"token_endpoint_auth_signing_alg_values_supported\": \"ES256\",
              \"dpop_signing_alg_values_supported\": [\"ES256\"]}",
        )
        .unwrap();

        assert_eq!(metadata.issuer(), ISSUER);
        assert_eq!(
            *metadata.token_endpoint().unwrap(),
            "https://as.example/t/token?p=1"
        );
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
    fn a_repeated_issuer_or_endpoint_is_refused() {
        let other = "https://other.example/token";
        for repeated in [
            format!(r#""token_endpoint": "{other}""#),
            format!(r#""issuer": "{ISSUER}""#),
            format!(
                r#""mtls_endpoint_aliases": {{"token_endpoint": "{other}", "token_endpoint": "{other}"}}"#
            ),
        ] {
            for document in [
                format!(
                    r#"{{{repeated}, "issuer": "{ISSUER}", "token_endpoint": "https://as.example/token"}}"#
                ),
                format!(
                    r#"{{"issuer": "{ISSUER}", "token_endpoint": "https://as.example/token", {repeated}}}"#
                ),
            ] {
                let error = parse(&document).unwrap_err();
                assert!(error.ends_with("twice"), "{error}: {document}");
            }
        }
    }

    #[test]
    fn any_endpoint_is_checked_when_it_is_used() {
        let document = format!(
            r#"{{"issuer": "{ISSUER}", "token_endpoint": "https://as.example/token",
                "revocation_endpoint": "https://as.example/revoke",
                "plain": "http://as.example/plain", "local": "http://localhost/local", "other": 1,
                "mtls_endpoint_aliases": {{"revocation_endpoint": "https://mtls.example/revoke"}}}}"#
        );
        let metadata = parse(&document).unwrap();
        for (name, by_alias, allow_http, expected) in [
            (
                "revocation_endpoint",
                false,
                false,
                Ok(Some("https://as.example/revoke")),
            ),
            (
                "revocation_endpoint",
                true,
                false,
                Ok(Some("https://mtls.example/revoke")),
            ),
            (
                "token_endpoint",
                true,
                false,
                Ok(Some("https://as.example/token")),
            ),
            ("absent", false, false, Ok(None)),
            ("other", false, false, Ok(None)),
            ("plain", false, true, Ok(Some("http://as.example/plain"))),
            ("plain", false, false, Err("the `plain` is plain http")),
            (
                "local",
                false,
                false,
                Err("the `local` is plain http on this machine"),
            ),
        ] {
            let found = metadata.endpoint(name, by_alias, allow_http);
            match expected {
                Ok(uri) => assert_eq!(found.unwrap().map(|uri| uri.to_string()).as_deref(), uri),
                Err(why) => assert!(found.unwrap_err().starts_with(why), "{name}"),
            }
        }
    }

    #[test]
    fn members_of_other_types_are_ignored() {
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
    fn documents_without_the_token_endpoint_of_the_issuer_are_refused() {
        let with = |issuer: &str, rest: &str| format!(r#"{{"issuer": {issuer}, {rest}}}"#);
        let token = r#""token_endpoint": "https://as.example/token""#;
        let own = format!("\"{ISSUER}\"");
        for (document, why) in [
            (String::new(), "the response is empty"),
            ("<html>".into(), "the response is a page"),
            ("[]".into(), "the response is something other"),
            ("null".into(), "the response is something other"),
            (
                r#"{"issuer": "#.into(),
                "the response is JSON that is broken",
            ),
            ("{}".into(), "the response names no `issuer`"),
            (with("1", token), "its `issuer` is not a string"),
            (
                with(&own, r#""token_endpoint": "http://localhost/token""#),
                "the `token_endpoint` is plain http on this machine",
            ),
            (
                with(r#""https://as.example/t/""#, token),
                "it belongs to another issuer, `https://as.example/t/`",
            ),
            (
                with(r#""https://AS.example/t""#, token),
                "it belongs to another issuer",
            ),
            (
                with(r#""https://as.example""#, token),
                "it belongs to another issuer",
            ),
            (with(&own, r#""x": 1"#), "it contains no `token_endpoint`"),
            (
                with(&own, r#""token_endpoint": 1"#),
                "it contains no `token_endpoint`",
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
            let error = match parse(&document) {
                Ok(metadata) => metadata.why_incomplete().unwrap().to_owned(),
                Err(error) => error,
            };
            assert!(error.starts_with(why), "{document}: {error}");
        }
    }

    #[test]
    fn a_document_is_enough_for_an_endpoint_that_no_better_document_would_have() {
        for (members, member, expected) in [
            (
                r#""token_endpoint": "https://as.example/token""#,
                "token_endpoint",
                true,
            ),
            (
                r#""token_endpoint": "https://as.example/token""#,
                "revocation_endpoint",
                true,
            ),
            (r#""token_endpoint": "/token""#, "token_endpoint", false),
            (
                r#""revocation_endpoint": "https://as.example/r""#,
                "token_endpoint",
                false,
            ),
            (
                r#""revocation_endpoint": "https://as.example/r""#,
                "revocation_endpoint",
                true,
            ),
            (
                r#""revocation_endpoint": null"#,
                "revocation_endpoint",
                false,
            ),
        ] {
            let metadata = parse(&format!(r#"{{"issuer": "{ISSUER}", {members}}}"#)).unwrap();
            assert_eq!(
                metadata.is_enough_for(member),
                expected,
                "{members} {member}"
            );
        }
    }

    #[test]
    fn plain_http_on_this_machine_is_allowed_if_the_document_comes_from_it() {
        for (issuer, source, expected) in [
            ("https://as.example", "http://localhost/d", true),
            ("http://localhost", "http://localhost/d", true),
            ("http://localhost", "https://as.example/d", false),
            ("https://as.example", "https://as.example/d", false),
        ] {
            let document =
                format!(r#"{{"issuer": "{issuer}", "token_endpoint": "http://127.0.0.1/token"}}"#);
            let source = Uri::from_static(source);
            let parsed =
                ServerMetadata::parse(document.as_bytes(), issuer, &source, Rules::default());
            assert_eq!(
                parsed.unwrap().token_endpoint().is_some(),
                expected,
                "{source}"
            );
        }
    }
}
