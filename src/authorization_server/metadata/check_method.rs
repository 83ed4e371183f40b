//! Whether the server supports the way in which the client authenticates.

use std::fmt;

use super::ServerMetadata;
use crate::base::Quoted;

/// The members of the metadata that list how a client can authenticate at an endpoint.
#[derive(Clone, Copy)]
pub(crate) struct AuthenticationLists {
    pub(crate) methods: &'static str,
    /// The algorithms of client assertions.
    pub(crate) algorithms: &'static str,
}

/// Checks that the server supports one of `methods`, the algorithm of the client assertion, and that of the DPoP proof.
///
/// An empty list of methods is not checked. Neither is a list that the metadata does not contain: by RFC 8414 §2, a server without a list
/// supports `client_secret_basic`, but many servers without a list support more.
///
/// # Errors
///
/// If the server does not support one of them. The error is a sentence.
pub(crate) fn check_method(
    metadata: &ServerMetadata,
    lists: AuthenticationLists,
    methods: &[&str],
    alg: Option<&str>,
    dpop_alg: Option<&str>,
) -> Result<(), String> {
    let supports = |what, wanted: &[&str], list| match metadata.list(list) {
        Some(supported)
            if !wanted.is_empty() && !supported.clone().any(|name| wanted.contains(&name)) =>
        {
            Err(format!(
                "the server does not support the {what} {}; its metadata lists {}",
                Names(wanted),
                Names(&supported.collect::<Vec<_>>())
            ))
        }
        _ => Ok(()),
    };
    supports("client authentication method", methods, lists.methods)?;
    supports(
        "algorithm of the client assertion",
        alg.as_slice(),
        lists.algorithms,
    )?;
    supports(
        "algorithm of the DPoP proof",
        dpop_alg.as_slice(),
        "dpop_signing_alg_values_supported",
    )
}

struct Names<'a>(&'a [&'a str]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // More than any server lists.
        const MAX: usize = 20;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, name) in self.0.iter().take(MAX).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}`{}`", Quoted(name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LISTS: AuthenticationLists = AuthenticationLists {
        methods: "token_endpoint_auth_methods_supported",
        algorithms: "token_endpoint_auth_signing_alg_values_supported",
    };

    fn metadata(more: &Value) -> ServerMetadata {
        let mut document = json!({
            "issuer": "https://as.example",
            "token_endpoint": "https://as.example/token",
        });
        for (name, value) in more.as_object().unwrap() {
            document[name] = value.clone();
        }
        let document = document.to_string();
        let issuer = "https://as.example";
        let source = issuer.parse().unwrap();
        ServerMetadata::parse(document.as_bytes(), issuer, &source, false).unwrap()
    }

    #[test]
    fn only_listed_methods_and_algorithms_are_supported() {
        let all = json!({
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["PS256", "ES256"],
            "dpop_signing_alg_values_supported": ["ES256"],
        });
        let none = json!({});
        let empty = json!({ "token_endpoint_auth_methods_supported": [] });
        let either = ["tls_client_auth", "self_signed_tls_client_auth"];
        for (listed, methods, alg, dpop_alg, expected) in [
            (&all, &["client_secret_post"][..], None, None, None),
            (&all, &["private_key_jwt"], Some("ES256"), None, None),
            (
                &all,
                &["private_key_jwt"],
                Some("ES256"),
                Some("ES256"),
                None,
            ),
            (&all, &[], None, None, None),
            (
                &all,
                &["client_secret_basic"],
                None,
                None,
                Some(
                    "client authentication method `client_secret_basic`; its metadata lists `client_secret_post`, `private_key_jwt`",
                ),
            ),
            (
                &all,
                &either,
                None,
                None,
                Some(
                    "client authentication method `tls_client_auth`, `self_signed_tls_client_auth`; its metadata lists",
                ),
            ),
            (
                &all,
                &["private_key_jwt"],
                Some("RS256"),
                None,
                Some(
                    "algorithm of the client assertion `RS256`; its metadata lists `PS256`, `ES256`",
                ),
            ),
            (
                &all,
                &["client_secret_post"],
                None,
                Some("EdDSA"),
                Some("algorithm of the DPoP proof `EdDSA`; its metadata lists `ES256`"),
            ),
            (
                &none,
                &["client_secret_post"],
                Some("RS256"),
                Some("RS256"),
                None,
            ),
            (
                &empty,
                &["client_secret_post"],
                None,
                None,
                Some("client authentication method `client_secret_post`; its metadata lists none"),
            ),
        ] {
            let result = check_method(&metadata(listed), LISTS, methods, alg, dpop_alg);
            match expected {
                None => assert_eq!(result, Ok(()), "{methods:?}"),
                Some(expected) => {
                    let error = result.unwrap_err();
                    assert!(error.contains(expected), "{error}");
                }
            }
        }
    }

    #[test]
    fn one_of_two_tls_methods_is_enough() {
        let listed =
            json!({ "token_endpoint_auth_methods_supported": ["self_signed_tls_client_auth"] });
        let either = ["tls_client_auth", "self_signed_tls_client_auth"];
        assert_eq!(
            check_method(&metadata(&listed), LISTS, &either, None, None),
            Ok(())
        );
    }
}
