//! From the method that a client has registered to its `ClientAuthentication`. Pure.

use serde_json::Value;

use super::client_metadata::InvalidClientMetadata;
#[cfg(feature = "jwt")]
use crate::jwt::{PublicKey, Signer, SigningAlgorithm};
use crate::{base::Quoted, client_authentication::ClientAuthentication, secret::Credential};

/// What decides how a client authenticates.
#[derive(Clone, Copy)]
pub(super) struct RegisteredClient<'a> {
    pub(super) client_id: &'a str,
    /// `token_endpoint_auth_method`
    pub(super) method: &'a str,
    pub(super) secret: Option<&'a Credential>,
    /// `token_endpoint_auth_signing_alg`
    pub(super) algorithm: Option<&'a str>,
    #[cfg_attr(not(feature = "jwt"), allow(dead_code))]
    pub(super) jwks: Option<&'a Value>,
}

impl RegisteredClient<'_> {
    /// Returns the authentication of a client that needs nothing else.
    pub(super) fn authentication(self) -> Result<ClientAuthentication, InvalidClientMetadata> {
        let id = self.client_id.to_owned();
        Ok(match self.method {
            "none" => ClientAuthentication::none(id),
            "client_secret_basic" => ClientAuthentication::client_secret_basic(id, self.secret()?),
            "client_secret_post" => ClientAuthentication::client_secret_post(id, self.secret()?),
            "client_secret_jwt" => self.client_secret_jwt(self.secret()?)?,
            "tls_client_auth" | "self_signed_tls_client_auth" => {
                ClientAuthentication::tls_client_auth(id)
            }
            "private_key_jwt" => {
                return Err(invalid(
                    "the client authenticates by `private_key_jwt`; use the method `private_key_jwt` with its key",
                ));
            }
            other => {
                return Err(InvalidClientMetadata(format!(
                    "the client authenticates by `{}`, which this crate does not know; \
                     use one of the constructors of `ClientAuthentication`",
                    Quoted(other)
                )));
            }
        })
    }

    fn secret(self) -> Result<Credential, InvalidClientMetadata> {
        self.secret.cloned().ok_or_else(|| {
            InvalidClientMetadata(format!(
                "the client authenticates by `{}`, but has no `client_secret`",
                Quoted(self.method)
            ))
        })
    }

    #[cfg(feature = "jwt")]
    fn client_secret_jwt(
        self,
        secret: Credential,
    ) -> Result<ClientAuthentication, InvalidClientMetadata> {
        let algorithm = match self.algorithm {
            None => SigningAlgorithm::HS256,
            Some(name) => name.parse().map_err(|_| {
                InvalidClientMetadata(format!(
                    "the algorithm `{}` of the client assertions is not supported",
                    Quoted(name)
                ))
            })?,
        };
        let id = self.client_id.to_owned();
        Ok(ClientAuthentication::client_secret_jwt(
            id, secret, algorithm,
        ))
    }

    #[cfg(not(feature = "jwt"))]
    fn client_secret_jwt(
        self,
        _: Credential,
    ) -> Result<ClientAuthentication, InvalidClientMetadata> {
        let _ = self.algorithm;
        Err(invalid(
            "the client authenticates by `client_secret_jwt`, which needs the feature `jwt` of this crate",
        ))
    }

    /// Returns the authentication of a client that signs with `signer`.
    #[cfg(feature = "jwt")]
    pub(super) fn private_key_jwt(
        self,
        signer: impl Signer + 'static,
    ) -> Result<ClientAuthentication, InvalidClientMetadata> {
        if self.method != "private_key_jwt" {
            return Err(InvalidClientMetadata(format!(
                "the client authenticates by `{}`, and not by `private_key_jwt`",
                Quoted(self.method)
            )));
        }
        if self.has_key(&signer) == Some(false) {
            return Err(invalid(
                "`jwks` of the client does not contain the public key of the signer",
            ));
        }
        let id = self.client_id.to_owned();
        Ok(ClientAuthentication::private_key_jwt(id, signer))
    }

    /// Whether the client has registered the public key of `signer`. `None` if either is not known.
    #[cfg(feature = "jwt")]
    fn has_key(self, signer: &impl Signer) -> Option<bool> {
        let wanted = signer.public_key()?;
        let keys = self.jwks?.get("keys")?.as_array()?;
        let mut keys = keys
            .iter()
            .filter_map(|key| PublicKey::from_jwk(&key.to_string()).ok());
        Some(keys.any(|key| key.thumbprint() == wanted.thumbprint()))
    }
}

pub(super) fn invalid(why: &str) -> InvalidClientMetadata {
    InvalidClientMetadata(why.to_owned())
}

#[cfg(all(test, feature = "jwt"))]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jwt::SigningKey;

    fn client<'a>(method: &'a str, secret: Option<&'a Credential>) -> RegisteredClient<'a> {
        RegisteredClient {
            client_id: "c",
            method,
            secret,
            algorithm: None,
            jwks: None,
        }
    }

    #[test]
    fn the_registered_method_decides_the_authentication() {
        let secret = Credential::fixed("SECRET");
        let secret = Some(&secret);
        for (method, secret, expected) in [
            ("none", None, Ok("none(\"c\")")),
            ("none", secret, Ok("none(\"c\")")),
            (
                "client_secret_basic",
                secret,
                Ok("client_secret_basic(\"c\")"),
            ),
            (
                "client_secret_post",
                secret,
                Ok("client_secret_post(\"c\")"),
            ),
            ("client_secret_jwt", secret, Ok("client_secret_jwt(\"c\")")),
            ("tls_client_auth", None, Ok("tls_client_auth(\"c\")")),
            (
                "self_signed_tls_client_auth",
                None,
                Ok("tls_client_auth(\"c\")"),
            ),
            ("client_secret_basic", None, Err("has no `client_secret`")),
            ("client_secret_post", None, Err("has no `client_secret`")),
            ("client_secret_jwt", None, Err("has no `client_secret`")),
            (
                "private_key_jwt",
                None,
                Err("use the method `private_key_jwt`"),
            ),
            (
                "attest_jwt_client_auth",
                secret,
                Err("this crate does not know"),
            ),
            ("", secret, Err("this crate does not know")),
        ] {
            let result = client(method, secret).authentication();
            match (result, expected) {
                (Ok(client), Ok(expected)) => assert_eq!(format!("{client:?}"), expected),
                (Err(error), Err(expected)) => {
                    let error = error.to_string();
                    assert!(
                        error.contains(expected) && !error.contains("SECRET"),
                        "{error}"
                    );
                }
                (result, _) => panic!("{method}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_key_of_a_client_must_be_registered_if_that_can_be_known() {
        let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let other = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let jwks = |key: &SigningKey| json!({ "keys": ["odd", {}, key.public_jwk()] });
        for (method, jwks, expected) in [
            ("private_key_jwt", None, None),
            ("private_key_jwt", Some(jwks(&key)), None),
            ("private_key_jwt", Some(json!("odd")), None),
            (
                "private_key_jwt",
                Some(jwks(&other)),
                Some("does not contain"),
            ),
            (
                "client_secret_basic",
                Some(jwks(&key)),
                Some("and not by `private_key_jwt`"),
            ),
        ] {
            let registered = RegisteredClient {
                jwks: jwks.as_ref(),
                ..client(method, None)
            };
            let error = registered.private_key_jwt(key.clone()).err();
            let error = error.map(|error| error.to_string());
            match (&error, expected) {
                (None, None) => {}
                (Some(error), Some(expected)) => assert!(error.contains(expected), "{error}"),
                _ => panic!("{error:?} {expected:?}"),
            }
        }
    }

    #[test]
    fn an_unknown_algorithm_is_an_error() {
        let secret = Credential::fixed("s");
        for (algorithm, is_good) in [("HS512", true), ("none", false), ("HS1", false)] {
            let registered = RegisteredClient {
                algorithm: Some(algorithm),
                ..client("client_secret_jwt", Some(&secret))
            };
            assert_eq!(registered.authentication().is_ok(), is_good, "{algorithm}");
        }
    }
}
