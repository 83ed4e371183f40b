//! Accessors for the endpoints, lists and flags in the metadata of a server.

use http::Uri;
use serde_json::Value;

use super::ServerMetadata;

/// # Other endpoints
///
/// Each is `None` if the server does not name it, or names a URI that must not be used: it must be absolute and `https`, without a user
/// name. Plain `http` on this machine is accepted only in a document that comes from this machine.
///
/// ```
/// use http::Uri;
/// use tower_oauth2_client::ServerMetadata;
///
/// fn where_to_sign_in(metadata: &ServerMetadata) -> Option<&Uri> {
///     metadata.authorization_endpoint()
/// }
/// ```
impl ServerMetadata {
    /// Returns the URI of the authorization endpoint, to which a user's browser is sent ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn authorization_endpoint(&self) -> Option<&Uri> {
        self.uri("authorization_endpoint")
    }

    /// Returns the URI of the endpoint for dynamic client registration ([RFC 7591 §3](https://www.rfc-editor.org/rfc/rfc7591#section-3)).
    #[must_use]
    pub fn registration_endpoint(&self) -> Option<&Uri> {
        self.uri("registration_endpoint")
    }

    /// Returns the URI of the revocation endpoint ([RFC 7009 §2](https://www.rfc-editor.org/rfc/rfc7009#section-2)).
    #[must_use]
    pub fn revocation_endpoint(&self) -> Option<&Uri> {
        self.uri("revocation_endpoint")
    }

    /// Returns the URI of the introspection endpoint ([RFC 7662 §2](https://www.rfc-editor.org/rfc/rfc7662#section-2)).
    #[must_use]
    pub fn introspection_endpoint(&self) -> Option<&Uri> {
        self.uri("introspection_endpoint")
    }

    /// Returns the URI of the UserInfo endpoint ([OpenID Connect Discovery 1.0 §3](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata)).
    #[must_use]
    pub fn userinfo_endpoint(&self) -> Option<&Uri> {
        self.uri("userinfo_endpoint")
    }

    /// Returns the URI of the endpoint for pushed authorization requests ([RFC 9126 §5](https://www.rfc-editor.org/rfc/rfc9126#section-5)).
    #[must_use]
    pub fn pushed_authorization_request_endpoint(&self) -> Option<&Uri> {
        self.uri("pushed_authorization_request_endpoint")
    }

    /// Returns the URI of the device authorization endpoint ([RFC 8628 §4](https://www.rfc-editor.org/rfc/rfc8628#section-4)).
    #[must_use]
    pub fn device_authorization_endpoint(&self) -> Option<&Uri> {
        self.uri("device_authorization_endpoint")
    }

    /// Returns the URI of the backchannel authentication endpoint ([CIBA §4](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#rfc.section.4)).
    #[must_use]
    pub fn backchannel_authentication_endpoint(&self) -> Option<&Uri> {
        self.uri("backchannel_authentication_endpoint")
    }

    /// Returns the URI of the endpoint that ends the session of a user ([OpenID Connect RP-Initiated Logout 1.0 §2.1](https://openid.net/specs/openid-connect-rpinitiated-1_0.html#OPMetadata)).
    #[must_use]
    pub fn end_session_endpoint(&self) -> Option<&Uri> {
        self.uri("end_session_endpoint")
    }

    /// Returns the URI of the document with the public keys of the server ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn jwks_uri(&self) -> Option<&Uri> {
        self.uri("jwks_uri")
    }
}

/// # What the server supports
///
/// Each list is `None` if the server has no such list. What is not a string in a list is left out.
impl ServerMetadata {
    /// Returns the words of a scope that the server supports.
    ///
    /// A server may leave out some of them ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn scopes_supported(&self) -> Option<&[String]> {
        self.stored_list("scopes_supported")
    }

    /// Returns the grant types that the server supports.
    ///
    /// A server without the list supports `authorization_code` and `implicit`, but many support more ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn grant_types_supported(&self) -> Option<&[String]> {
        self.stored_list("grant_types_supported")
    }

    /// Returns the response types that the authorization endpoint supports.
    ///
    /// See [RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2).
    #[must_use]
    pub fn response_types_supported(&self) -> Option<&[String]> {
        self.stored_list("response_types_supported")
    }

    /// Returns the response modes that the authorization endpoint supports.
    ///
    /// A server without the list supports `query` and `fragment` ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn response_modes_supported(&self) -> Option<&[String]> {
        self.stored_list("response_modes_supported")
    }

    /// Returns the PKCE methods that the server supports.
    ///
    /// By the RFC, a server without the list does not support PKCE ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn code_challenge_methods_supported(&self) -> Option<&[String]> {
        self.stored_list("code_challenge_methods_supported")
    }

    /// Returns the types of `authorization_details` that the server supports.
    ///
    /// See [RFC 9396 §10](https://www.rfc-editor.org/rfc/rfc9396#section-10).
    #[must_use]
    pub fn authorization_details_types_supported(&self) -> Option<&[String]> {
        self.stored_list("authorization_details_types_supported")
    }

    /// Returns how the server delivers the tokens of a backchannel authentication: `poll`, `ping` or `push`.
    ///
    /// See [CIBA §4](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#rfc.section.4).
    #[must_use]
    pub fn backchannel_token_delivery_modes_supported(&self) -> Option<&[String]> {
        self.stored_list("backchannel_token_delivery_modes_supported")
    }

    /// Returns the authentication context classes that the server supports.
    ///
    /// See [OpenID Connect Discovery 1.0 §3](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata).
    #[must_use]
    pub fn acr_values_supported(&self) -> Option<&[String]> {
        self.stored_list("acr_values_supported")
    }

    /// Returns the values of `prompt` that the server supports.
    ///
    /// See [Initiating User Registration via OpenID Connect 1.0 §4.2](https://openid.net/specs/openid-connect-prompt-create-1_0.html#section-4.2).
    #[must_use]
    pub fn prompt_values_supported(&self) -> Option<&[String]> {
        self.stored_list("prompt_values_supported")
    }

    /// Returns the types of subject identifiers that the server supports.
    ///
    /// See [OpenID Connect Discovery 1.0 §3](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata).
    #[must_use]
    pub fn subject_types_supported(&self) -> Option<&[String]> {
        self.stored_list("subject_types_supported")
    }

    /// Returns the algorithms (`alg`) of ID tokens that the server supports.
    ///
    /// See [OpenID Connect Discovery 1.0 §3](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata).
    #[must_use]
    pub fn id_token_signing_alg_values_supported(&self) -> Option<&[String]> {
        self.stored_list("id_token_signing_alg_values_supported")
    }

    /// Returns the resource identifiers of the APIs that the server issues tokens for.
    ///
    /// See [RFC 9728 §4](https://www.rfc-editor.org/rfc/rfc9728#section-4).
    #[must_use]
    pub fn protected_resources(&self) -> Option<&[String]> {
        self.stored_list("protected_resources")
    }

    /// Returns the client authentication methods that the token endpoint supports.
    ///
    /// `None` means `client_secret_basic` ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn token_endpoint_auth_methods_supported(&self) -> Option<&[String]> {
        self.stored_list("token_endpoint_auth_methods_supported")
    }

    /// Returns the algorithms (`alg`) of client assertions that the token endpoint supports.
    ///
    /// See [RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2).
    #[must_use]
    pub fn token_endpoint_auth_signing_alg_values_supported(&self) -> Option<&[String]> {
        self.stored_list("token_endpoint_auth_signing_alg_values_supported")
    }

    /// Returns the client authentication methods that the revocation endpoint supports.
    ///
    /// `None` means `client_secret_basic` ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)).
    #[must_use]
    pub fn revocation_endpoint_auth_methods_supported(&self) -> Option<&[String]> {
        self.stored_list("revocation_endpoint_auth_methods_supported")
    }

    /// Returns the client authentication methods that the introspection endpoint supports.
    ///
    /// See [RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2).
    #[must_use]
    pub fn introspection_endpoint_auth_methods_supported(&self) -> Option<&[String]> {
        self.stored_list("introspection_endpoint_auth_methods_supported")
    }

    /// Returns the algorithms (`alg`) of DPoP proofs that the server supports.
    ///
    /// See [RFC 9449 §5.1](https://www.rfc-editor.org/rfc/rfc9449#section-5.1).
    #[must_use]
    pub fn dpop_signing_alg_values_supported(&self) -> Option<&[String]> {
        self.stored_list("dpop_signing_alg_values_supported")
    }

    /// Returns whether authorization responses contain the issuer in `iss`.
    ///
    /// See [RFC 9207 §3](https://www.rfc-editor.org/rfc/rfc9207#section-3). `false` if the server does not say so.
    #[must_use]
    pub fn authorization_response_iss_parameter_supported(&self) -> bool {
        self.flag("authorization_response_iss_parameter_supported")
    }

    /// Returns whether the server accepts only authorization requests that were pushed.
    ///
    /// See [RFC 9126 §5](https://www.rfc-editor.org/rfc/rfc9126#section-5). `false` if the server does not say so.
    #[must_use]
    pub fn require_pushed_authorization_requests(&self) -> bool {
        self.flag("require_pushed_authorization_requests")
    }

    /// Returns whether a client can have the URL of its metadata document as its client id.
    ///
    /// See [OAuth Client ID Metadata Document](https://datatracker.ietf.org/doc/draft-ietf-oauth-client-id-metadata-document/). `false` if the server does not say so.
    #[must_use]
    pub fn client_id_metadata_document_supported(&self) -> bool {
        self.flag("client_id_metadata_document_supported")
    }

    /// Returns whether the server can bind access tokens to the TLS certificate of a client.
    ///
    /// See [RFC 8705 §3.3](https://www.rfc-editor.org/rfc/rfc8705#section-3.3). `false` if the server does not say so.
    #[must_use]
    pub fn tls_client_certificate_bound_access_tokens(&self) -> bool {
        self.flag("tls_client_certificate_bound_access_tokens")
    }

    /// Returns whether backchannel authentication requests may contain `user_code`.
    ///
    /// See [CIBA §4](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html#rfc.section.4). `false` if the server does not say so.
    #[must_use]
    pub fn backchannel_user_code_parameter_supported(&self) -> bool {
        self.flag("backchannel_user_code_parameter_supported")
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Rules, *};

    type UriAccessor = fn(&ServerMetadata) -> Option<&Uri>;
    type ListAccessor = fn(&ServerMetadata) -> Option<&[String]>;
    type FlagAccessor = fn(&ServerMetadata) -> bool;

    const URIS: [(&str, UriAccessor); 12] = [
        ("token_endpoint", ServerMetadata::token_endpoint),
        (
            "authorization_endpoint",
            ServerMetadata::authorization_endpoint,
        ),
        (
            "registration_endpoint",
            ServerMetadata::registration_endpoint,
        ),
        ("revocation_endpoint", ServerMetadata::revocation_endpoint),
        (
            "introspection_endpoint",
            ServerMetadata::introspection_endpoint,
        ),
        ("userinfo_endpoint", ServerMetadata::userinfo_endpoint),
        (
            "pushed_authorization_request_endpoint",
            ServerMetadata::pushed_authorization_request_endpoint,
        ),
        (
            "device_authorization_endpoint",
            ServerMetadata::device_authorization_endpoint,
        ),
        (
            "backchannel_authentication_endpoint",
            ServerMetadata::backchannel_authentication_endpoint,
        ),
        ("end_session_endpoint", ServerMetadata::end_session_endpoint),
        ("jwks_uri", ServerMetadata::jwks_uri),
        ("absent_endpoint", |_| None),
    ];

    const LISTS: [(&str, ListAccessor); 17] = [
        ("acr_values_supported", ServerMetadata::acr_values_supported),
        (
            "authorization_details_types_supported",
            ServerMetadata::authorization_details_types_supported,
        ),
        (
            "backchannel_token_delivery_modes_supported",
            ServerMetadata::backchannel_token_delivery_modes_supported,
        ),
        (
            "code_challenge_methods_supported",
            ServerMetadata::code_challenge_methods_supported,
        ),
        (
            "dpop_signing_alg_values_supported",
            ServerMetadata::dpop_signing_alg_values_supported,
        ),
        (
            "grant_types_supported",
            ServerMetadata::grant_types_supported,
        ),
        (
            "id_token_signing_alg_values_supported",
            ServerMetadata::id_token_signing_alg_values_supported,
        ),
        (
            "introspection_endpoint_auth_methods_supported",
            ServerMetadata::introspection_endpoint_auth_methods_supported,
        ),
        (
            "prompt_values_supported",
            ServerMetadata::prompt_values_supported,
        ),
        ("protected_resources", ServerMetadata::protected_resources),
        (
            "response_modes_supported",
            ServerMetadata::response_modes_supported,
        ),
        (
            "response_types_supported",
            ServerMetadata::response_types_supported,
        ),
        (
            "revocation_endpoint_auth_methods_supported",
            ServerMetadata::revocation_endpoint_auth_methods_supported,
        ),
        ("scopes_supported", ServerMetadata::scopes_supported),
        (
            "subject_types_supported",
            ServerMetadata::subject_types_supported,
        ),
        (
            "token_endpoint_auth_methods_supported",
            ServerMetadata::token_endpoint_auth_methods_supported,
        ),
        (
            "token_endpoint_auth_signing_alg_values_supported",
            ServerMetadata::token_endpoint_auth_signing_alg_values_supported,
        ),
    ];

    const FLAGS: [(&str, FlagAccessor); 5] = [
        (
            "authorization_response_iss_parameter_supported",
            ServerMetadata::authorization_response_iss_parameter_supported,
        ),
        (
            "require_pushed_authorization_requests",
            ServerMetadata::require_pushed_authorization_requests,
        ),
        (
            "client_id_metadata_document_supported",
            ServerMetadata::client_id_metadata_document_supported,
        ),
        (
            "tls_client_certificate_bound_access_tokens",
            ServerMetadata::tls_client_certificate_bound_access_tokens,
        ),
        (
            "backchannel_user_code_parameter_supported",
            ServerMetadata::backchannel_user_code_parameter_supported,
        ),
    ];

    fn parse(document: &Value) -> ServerMetadata {
        let issuer = "https://as.example";
        let source = Uri::from_static(issuer);
        ServerMetadata::parse(
            document.to_string().as_bytes(),
            issuer,
            &source,
            Rules::default(),
        )
        .unwrap()
    }

    fn with(name: &str, value: &Value) -> ServerMetadata {
        parse(&json!({ "issuer": "https://as.example", name: value }))
    }

    #[test]
    fn each_accessor_reads_its_own_member_and_no_other() {
        for (name, _) in URIS {
            let metadata = with(name, &json!("https://as.example/it"));
            for (other, uri) in URIS {
                let found = uri(&metadata).is_some();
                assert_eq!(found, name == other && name != "absent_endpoint", "{name}");
            }
        }
        for (name, _) in LISTS {
            let metadata = with(name, &json!(["a", 1, "b"]));
            for (other, list) in LISTS {
                let expected = ["a".to_owned(), "b".to_owned()];
                let expected = (name == other).then_some(&expected[..]);
                assert_eq!(list(&metadata), expected, "{name} {other}");
            }
        }
        for (name, _) in FLAGS {
            let metadata = with(name, &json!(true));
            for (other, flag) in FLAGS {
                assert_eq!(flag(&metadata), name == other, "{name} {other}");
            }
        }
    }

    #[test]
    fn members_of_other_types_are_ignored() {
        for odd in [
            json!(null),
            json!(1),
            json!({ "a": ["b"] }),
            json!("true"),
            json!([]),
        ] {
            for (name, uri) in URIS {
                assert_eq!(uri(&with(name, &odd)), None, "{name} {odd}");
            }
            for (name, flag) in FLAGS {
                assert!(!flag(&with(name, &odd)), "{name} {odd}");
            }
            for (name, list) in LISTS {
                let expected = odd.is_array().then_some(&[][..]);
                assert_eq!(list(&with(name, &odd)), expected, "{name} {odd}");
            }
        }
    }

    #[test]
    fn a_uri_that_must_not_be_used_is_left_out() {
        for uri in [
            "",
            "/relative",
            "as.example",
            "javascript:alert(1)",
            "ftp://as.example/",
            "http://as.example/",
            "http://localhost/",
            "https://user@as.example/",
            "https://as.example:x/",
            "https:///path",
        ] {
            for (name, accessor) in URIS {
                assert_eq!(accessor(&with(name, &json!(uri))), None, "{name} {uri}");
                let aliases = with("mtls_endpoint_aliases", &json!({ name: uri }));
                assert_eq!(aliases.mtls_endpoint_alias(name), None, "{name} {uri}");
            }
        }
    }

    #[test]
    fn any_endpoint_can_have_an_alias() {
        let aliases = json!({
            "revocation_endpoint": "https://mtls.example/r",
            "pushed_authorization_request_endpoint": "https://mtls.example/p",
            "x": "https://mtls.example/x",
        });
        let metadata = with("mtls_endpoint_aliases", &aliases);
        for (name, expected) in [
            ("revocation_endpoint", Some("https://mtls.example/r")),
            (
                "pushed_authorization_request_endpoint",
                Some("https://mtls.example/p"),
            ),
            ("token_endpoint", None),
        ] {
            let alias = metadata.mtls_endpoint_alias(name).map(Uri::to_string);
            assert_eq!(alias.as_deref(), expected, "{name}");
        }
        for odd in [json!([1]), json!("https://as.example"), json!(null)] {
            let metadata = with("mtls_endpoint_aliases", &odd);
            assert_eq!(metadata.mtls_endpoint_alias("revocation_endpoint"), None);
        }
    }
}
