//! Whether the server takes what the client is about to send.

use std::fmt;

use super::ServerMetadata;
use crate::base::Quoted;

/// What is wrong, in words, if the server supports none of `methods`, or not the algorithm of the client assertion or of the
/// DPoP proof.
///
/// An empty list of methods is not checked. Neither is what the metadata do not list: RFC 8414 §2 has it that a server without a
/// list takes `client_secret_basic`, but many a server that says nothing takes more.
pub(crate) fn check_method(
    metadata: &ServerMetadata,
    methods: &[&str],
    alg: Option<&str>,
    dpop_alg: Option<&str>,
) -> Result<(), String> {
    let supports = |what, asked: &[&str], supported: Option<&[String]>| match supported {
        Some(supported)
            if !asked.is_empty() && !supported.iter().any(|name| asked.contains(&&**name)) =>
        {
            Err(format!(
                "the server does not support the {what} {}; its metadata list {}",
                Names(asked),
                Names(supported)
            ))
        }
        _ => Ok(()),
    };
    supports(
        "client authentication method",
        methods,
        metadata.token_endpoint_auth_methods_supported(),
    )?;
    supports(
        "algorithm of the client assertion",
        alg.as_slice(),
        metadata.token_endpoint_auth_signing_alg_values_supported(),
    )?;
    supports(
        "algorithm of the DPoP proof",
        dpop_alg.as_slice(),
        metadata.dpop_signing_alg_values_supported(),
    )
}

struct Names<'a, T>(&'a [T]);

impl<T: AsRef<str>> fmt::Display for Names<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // More than any server has.
        const MAX: usize = 20;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, name) in self.0.iter().take(MAX).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}`{}`", Quoted(name.as_ref()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata(more: &Value) -> ServerMetadata {
        let mut document = json!({
            "issuer": "https://as.example",
            "token_endpoint": "https://as.example/token",
        });
        for (name, value) in more.as_object().unwrap() {
            document[name] = value.clone();
        }
        let document = document.to_string();
        ServerMetadata::parse(document.as_bytes(), "https://as.example", false).unwrap()
    }

    #[test]
    fn what_the_server_lists_is_what_it_takes() {
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
                    "client authentication method `client_secret_basic`; its metadata list `client_secret_post`, `private_key_jwt`",
                ),
            ),
            (
                &all,
                &either,
                None,
                None,
                Some(
                    "client authentication method `tls_client_auth`, `self_signed_tls_client_auth`; its metadata list",
                ),
            ),
            (
                &all,
                &["private_key_jwt"],
                Some("RS256"),
                None,
                Some(
                    "algorithm of the client assertion `RS256`; its metadata list `PS256`, `ES256`",
                ),
            ),
            (
                &all,
                &["client_secret_post"],
                None,
                Some("EdDSA"),
                Some("algorithm of the DPoP proof `EdDSA`; its metadata list `ES256`"),
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
                Some("client authentication method `client_secret_post`; its metadata list none"),
            ),
        ] {
            let result = check_method(&metadata(listed), methods, alg, dpop_alg);
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
            check_method(&metadata(&listed), &either, None, None),
            Ok(())
        );
    }
}
