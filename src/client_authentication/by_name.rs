//! `ClientAuthentication::by_name`: a method by its registered name.

use std::borrow::Cow;

use super::ClientAuthentication;
#[cfg(feature = "jwt")]
use crate::jwt::SigningAlgorithm;
use crate::secret::Credential;

impl ClientAuthentication {
    /// Returns the method with this
    /// [registered name](https://www.iana.org/assignments/oauth-parameters/oauth-parameters.xhtml#token-endpoint-auth-method), such as
    /// the `token_endpoint_auth_method` of a registered client ([RFC 7591 §2](https://www.rfc-editor.org/rfc/rfc7591#section-2)).
    ///
    /// The names are `client_secret_basic`, `client_secret_post` and, with the feature `jwt`, `client_secret_jwt` (with HS256). For
    /// `none`, `tls_client_auth` and `self_signed_tls_client_auth` the secret is not used. `None` for any other name.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::by_name("client_secret_post", "client", "secret");
    /// assert_eq!(client, Some(ClientAuthentication::client_secret_post("client", "secret")));
    /// assert_eq!(ClientAuthentication::by_name("private_key_jwt", "client", "secret"), None);
    /// ```
    pub fn by_name(
        name: &str,
        client_id: impl Into<Cow<'static, str>>,
        secret: impl Into<Credential>,
    ) -> Option<Self> {
        Some(match name {
            "none" => Self::none(client_id),
            "client_secret_basic" => Self::client_secret_basic(client_id, secret),
            "client_secret_post" => Self::client_secret_post(client_id, secret),
            "tls_client_auth" | "self_signed_tls_client_auth" => Self::tls_client_auth(client_id),
            #[cfg(feature = "jwt")]
            "client_secret_jwt" => {
                Self::client_secret_jwt(client_id, secret, SigningAlgorithm::HS256)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_has_its_registered_name() {
        for name in [
            "none",
            "client_secret_basic",
            "client_secret_post",
            #[cfg(feature = "jwt")]
            "client_secret_jwt",
            "tls_client_auth",
            "self_signed_tls_client_auth",
        ] {
            let client = ClientAuthentication::by_name(name, "c", "s").unwrap();
            let names = client.registered_methods();
            assert!(
                names.contains(&name) || (names.is_empty() && name == "none"),
                "{name}"
            );
            assert_eq!(client.client_id(), "c");
        }
        for name in [
            "",
            "private_key_jwt",
            "Client_Secret_Basic",
            "client_secret_basic ",
        ] {
            let client = ClientAuthentication::by_name(name, "c", "s");
            assert_eq!(client, None, "{name}");
        }
    }
}
