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

impl AuthenticationLists {
    /// For the token endpoint, and for those whose clients authenticate as they do there.
    pub(crate) const OF_TOKEN_ENDPOINT: Self = Self {
        methods: "token_endpoint_auth_methods_supported",
        algorithms: "token_endpoint_auth_signing_alg_values_supported",
    };

    /// For an endpoint at which no client authenticates.
    pub(crate) const NONE: Self = Self {
        methods: "",
        algorithms: "",
    };
}

/// The names of the algorithms of what a client signs, such as `EdDSA` and `Ed25519`. Empty for what it does not sign.
#[derive(Clone, Copy, Default)]
pub(crate) struct AlgorithmNames {
    pub(crate) assertion: &'static [&'static str],
    pub(crate) proof: &'static [&'static str],
}

/// The names that a server lists. `None` for what the client does not sign, and if there is no list.
#[derive(Clone, Copy, Default)]
pub(crate) struct ListedNames {
    pub(crate) assertion: Option<&'static str>,
    pub(crate) proof: Option<&'static str>,
}

const PROOF_ALGORITHMS: &str = "dpop_signing_alg_values_supported";

/// Returns the first names of the algorithms that the server lists, because a server knows an algorithm only by the names that it lists.
pub(crate) fn listed_names(
    metadata: &ServerMetadata,
    lists: AuthenticationLists,
    names: AlgorithmNames,
) -> ListedNames {
    let listed = |names: &'static [&'static str], list| {
        let is_listed = |name: &str| {
            let mut listed = metadata.list(list).into_iter().flatten();
            listed.any(|listed| listed == name)
        };
        names.iter().copied().find(|name| is_listed(name))
    };
    ListedNames {
        assertion: listed(names.assertion, lists.algorithms),
        proof: listed(names.proof, PROOF_ALGORITHMS),
    }
}

/// Checks that the server supports one of `methods`, the algorithm of the client assertion, and that of the DPoP proof.
///
/// What is empty is not checked. Neither is a list that the metadata does not contain: by RFC 8414 §2, a server without a list
/// supports `client_secret_basic`, but many servers without a list support more.
///
/// # Errors
///
/// If the server does not support one of them. The error is a sentence.
pub(crate) fn check_method(
    metadata: &ServerMetadata,
    lists: AuthenticationLists,
    methods: &[&str],
    algorithms: AlgorithmNames,
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
        algorithms.assertion,
        lists.algorithms,
    )?;
    supports(
        "algorithm of the DPoP proof",
        algorithms.proof,
        PROOF_ALGORITHMS,
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

    use super::{super::Rules, *};

    const LISTS: AuthenticationLists = AuthenticationLists::OF_TOKEN_ENDPOINT;

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
        ServerMetadata::parse(document.as_bytes(), issuer, &source, Rules::default()).unwrap()
    }

    fn names(name: Option<&'static str>) -> &'static [&'static str] {
        match name {
            None => &[],
            Some("ES256") => &["ES256"],
            Some("RS256") => &["RS256"],
            Some("EdDSA") => &["EdDSA", "Ed25519"],
            Some(other) => panic!("{other}"),
        }
    }

    #[test]
    fn first_name_that_the_server_lists_is_chosen() {
        let both = ["EdDSA", "Ed25519"];
        for (listed, expected) in [
            (json!({}), None),
            (json!(["ES256"]), None),
            (json!(["Ed25519", "ES256"]), Some("Ed25519")),
            (json!(["Ed25519", "EdDSA"]), Some("EdDSA")),
        ] {
            let metadata = metadata(&match listed.is_array() {
                true => json!({
                    "token_endpoint_auth_signing_alg_values_supported": listed,
                    "dpop_signing_alg_values_supported": listed,
                }),
                false => listed,
            });
            let names = AlgorithmNames {
                assertion: names(Some(both[0])),
                proof: names(Some(both[0])),
            };
            let found = listed_names(&metadata, LISTS, names);
            assert_eq!((found.assertion, found.proof), (expected, expected));
            let found = listed_names(&metadata, LISTS, AlgorithmNames::default());
            assert_eq!((found.assertion, found.proof), (None, None));
        }
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
                Some("algorithm of the DPoP proof `EdDSA`, `Ed25519`; its metadata lists `ES256`"),
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
            let algorithms = AlgorithmNames {
                assertion: names(alg),
                proof: names(dpop_alg),
            };
            let result = check_method(&metadata(listed), LISTS, methods, algorithms);
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
            check_method(
                &metadata(&listed),
                LISTS,
                &either,
                AlgorithmNames::default()
            ),
            Ok(())
        );
    }
}
