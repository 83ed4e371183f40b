//! Chooses how a client authenticates from what a server lists. Pure.

use super::{
    ServerMetadata,
    check_method::{AlgorithmNames, AuthenticationLists, check_method},
};
use crate::client_authentication::ClientAuthentication;

const LISTS: AuthenticationLists = AuthenticationLists::OF_TOKEN_ENDPOINT;

impl ServerMetadata {
    /// Returns the first of these clients that the token endpoint supports, or `None`.
    ///
    /// Give the ways in which your client can authenticate, the best one first. The server supports one if it lists its method
    /// (`token_endpoint_auth_methods_supported`) and the algorithm of its assertions
    /// (`token_endpoint_auth_signing_alg_values_supported`).
    ///
    /// A server without the list of methods supports `client_secret_basic`
    /// ([RFC 8414 §2](https://www.rfc-editor.org/rfc/rfc8414#section-2)), so that is chosen if it is among the clients. Otherwise the
    /// first one is, since many servers without a list support more. The list of algorithms is not a condition if it is missing.
    ///
    /// A [public client](ClientAuthentication::none) is always supported, since many servers do not list it. Put it last.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, Credential, ServerMetadata};
    ///
    /// fn client(metadata: &ServerMetadata) -> Option<ClientAuthentication> {
    ///     let secret = Credential::env("CLIENT_SECRET");
    ///     metadata.choose_client([
    ///         ClientAuthentication::client_secret_basic("client", secret.clone()),
    ///         ClientAuthentication::client_secret_post("client", secret),
    ///     ])
    /// }
    /// ```
    #[must_use]
    pub fn choose_client(
        &self,
        clients: impl IntoIterator<Item = ClientAuthentication>,
    ) -> Option<ClientAuthentication> {
        let is_supported = |client: &ClientAuthentication| {
            let algorithms = AlgorithmNames {
                assertion: client.algorithm_names(),
                proof: &[],
            };
            check_method(self, LISTS, client.registered_methods(), algorithms).is_ok()
        };
        let is_default = |client: &ClientAuthentication| {
            let methods = client.registered_methods();
            methods.contains(&"client_secret_basic")
        };
        let mut first = None;
        for client in clients.into_iter().filter(is_supported) {
            if self.list(LISTS.methods).is_some() || is_default(&client) {
                return Some(client);
            }
            first.get_or_insert(client);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use serde_json::{Value, json};

    use super::{super::Rules, *};

    fn metadata(methods: &Value, algorithms: &Value) -> ServerMetadata {
        let issuer = "https://as.example";
        let document = json!({
            "issuer": issuer,
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
        });
        let (document, source) = (document.to_string(), Uri::from_static(issuer));
        ServerMetadata::parse(document.as_bytes(), issuer, &source, Rules::default()).unwrap()
    }

    fn clients(names: &str) -> Vec<ClientAuthentication> {
        let names = names.split_whitespace();
        names
            .map(|name| ClientAuthentication::by_name(name, "c", "s").unwrap())
            .collect()
    }

    #[test]
    fn the_first_client_that_the_server_lists_is_chosen() {
        let all = "client_secret_post client_secret_basic tls_client_auth none";
        for (methods, names, expected) in [
            (
                json!(["client_secret_basic", "client_secret_post"]),
                all,
                "client_secret_post",
            ),
            (json!(["client_secret_basic"]), all, "client_secret_basic"),
            (
                json!(["self_signed_tls_client_auth"]),
                all,
                "tls_client_auth",
            ),
            (json!(["private_key_jwt"]), all, "none"),
            (json!([]), all, "none"),
            (json!(["none"]), "client_secret_post none", "none"),
            (json!(["client_secret_basic"]), "client_secret_post", ""),
            (json!([]), "client_secret_basic", ""),
            // Without a list, it is the default of the RFC.
            (json!(null), all, "client_secret_basic"),
            (
                json!(null),
                "none client_secret_basic",
                "client_secret_basic",
            ),
            (json!(null), "client_secret_post none", "client_secret_post"),
            (json!("client_secret_post"), all, "client_secret_basic"),
            (json!(null), "", ""),
        ] {
            let chosen = metadata(&methods, &json!(null)).choose_client(clients(names));
            assert_eq!(chosen, clients(expected).pop(), "{methods} {names}");
        }
    }

    #[cfg(feature = "jwt")]
    #[test]
    fn the_algorithm_of_an_assertion_must_be_listed_too() {
        for (algorithms, expected) in [
            (json!(null), "client_secret_jwt"),
            (json!(["ES256", "HS256"]), "client_secret_jwt"),
            (json!(["ES256"]), "client_secret_post"),
        ] {
            let methods = json!(["client_secret_post", "client_secret_jwt"]);
            let names = "client_secret_jwt client_secret_post";
            let chosen = metadata(&methods, &algorithms).choose_client(clients(names));
            assert_eq!(chosen, clients(expected).pop(), "{algorithms}");
        }
    }
}
