//! What servers want to be different: the type of an assertion, its client id, an empty or a short secret.

use std::borrow::Cow;

use super::{ClientAuthentication, Method};

/// What differs from the method's default.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Settings {
    pub(super) assertion_type: Option<Cow<'static, str>>,
    pub(super) omits_client_id: bool,
    pub(super) allows_empty_secret: bool,
    #[cfg(feature = "jwt")]
    pub(super) allows_short_secret: bool,
}

pub(super) const EMPTY_SECRET: &str = "`client_secret` is empty; if the client really has an empty secret, say so with \
     `ClientAuthentication::allow_empty_secret`, and if it has none, use `ClientAuthentication::none`";

/// # Settings for some servers
impl ClientAuthentication {
    /// Sets `client_assertion_type`, the type of the client assertion
    /// ([RFC 7521 §4.2](https://www.rfc-editor.org/rfc/rfc7521#section-4.2)).
    ///
    /// Default is `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, and `…:saml2-bearer` for
    /// [`saml2_client_assertion`](Self::saml2_client_assertion). With a method that sends no assertion, the request fails before anything is
    /// sent. With a type of your own, it is not checked whether the server's metadata list the method.
    ///
    /// # Examples
    ///
    /// A workload whose identity is a SPIFFE JWT-SVID, which names the client itself
    /// ([OAuth SPIFFE client authentication](https://datatracker.ietf.org/doc/draft-ietf-oauth-spiffe-client-auth/), for example Keycloak):
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, Credential};
    ///
    /// let client = ClientAuthentication::client_assertion(
    ///     "spiffe://example.org/orders",
    ///     Credential::file("/var/run/secrets/spiffe/svid.jwt"),
    /// )
    /// .client_assertion_type("urn:ietf:params:oauth:client-assertion-type:jwt-spiffe")
    /// .without_client_id();
    /// ```
    #[must_use]
    pub fn client_assertion_type(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.settings.assertion_type = Some(uri.into());
        self
    }

    /// Leaves the parameter `client_id` out of requests with a client assertion.
    ///
    /// It is optional there, because the assertion names the client
    /// ([RFC 7521 §4.2](https://www.rfc-editor.org/rfc/rfc7521#section-4.2)). Default is that it is sent, which most servers accept and some
    /// need. Use this for a server that compares it with the subject of the assertion and knows the client by another name, as with
    /// SPIFFE. The client id may then be empty, unless this crate signs the assertion.
    ///
    /// With a method that sends no assertion, the request fails before anything is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, Credential};
    ///
    /// let assertion = Credential::file("/var/run/secrets/tokens/oauth");
    /// let client = ClientAuthentication::client_assertion("", assertion).without_client_id();
    /// ```
    #[must_use]
    pub fn without_client_id(mut self) -> Self {
        self.settings.omits_client_id = true;
        self
    }

    /// Accepts an empty client secret. Default is that a request with one fails before anything is sent.
    ///
    /// The empty secret is sent like any other: `client_secret=`, or `id:` in the `Authorization` header. Some servers register clients with
    /// an empty secret ([RFC 6749 §2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1)), for example UAA of Cloud Foundry for its
    /// client `cf`. To leave the parameter out, use [`none`](Self::none).
    ///
    /// With a method that sends no secret, the request fails before anything is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::client_secret_basic("cf", "").allow_empty_secret();
    /// ```
    #[must_use]
    pub fn allow_empty_secret(mut self) -> Self {
        self.settings.allows_empty_secret = true;
        self
    }

    /// Accepts a secret that is too short for the algorithm of [`client_secret_jwt`](Self::client_secret_jwt). Default is that a request
    /// with one fails before anything is sent. An empty secret always does.
    ///
    /// Use it for a server that issues short secrets and nevertheless expects this method.
    ///
    /// # Security
    ///
    /// Whoever sees an assertion can search for the secret offline, and a short secret is found.
    /// [RFC 7518 §3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2) therefore requires as many bytes as the hash has: 32 for HS256.
    /// Prefer a longer secret, or [`private_key_jwt`](Self::private_key_jwt).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, jwt::SigningAlgorithm};
    ///
    /// let client =
    ///     ClientAuthentication::client_secret_jwt("client", "twenty bytes, issued", SigningAlgorithm::HS256)
    ///         .danger_allow_short_secret();
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn danger_allow_short_secret(mut self) -> Self {
        self.settings.allows_short_secret = true;
        self
    }

    /// Returns an error message if a setting does not fit the method.
    pub(super) fn check_settings(&self) -> Result<(), String> {
        let settings = &self.settings;
        if settings.assertion_type.as_deref() == Some("") {
            return Err("`client_assertion_type` is empty".into());
        }
        let sends_assertion = match self.method {
            Method::Assertion(..) => true,
            #[cfg(feature = "jwt")]
            Method::SignedJwt(_) => true,
            _ => false,
        };
        let sends_secret = matches!(
            self.method,
            Method::Basic(_) | Method::BasicRaw(_) | Method::Post(_)
        );
        #[cfg(feature = "jwt")]
        let short_secret = (
            "danger_allow_short_secret",
            settings.allows_short_secret && !self.signs_with_secret(),
            "does not sign with a secret",
        );
        for (setting, is_wrong, why) in [
            (
                "client_assertion_type",
                settings.assertion_type.is_some() && !sends_assertion,
                "sends no client assertion",
            ),
            (
                "without_client_id",
                settings.omits_client_id && !sends_assertion,
                "sends no client assertion",
            ),
            (
                "allow_empty_secret",
                settings.allows_empty_secret && !sends_secret,
                "sends no client secret",
            ),
            #[cfg(feature = "jwt")]
            short_secret,
        ] {
            if is_wrong {
                let method = self.method();
                return Err(format!(
                    "`{setting}` is set, but `{method}` {why}; remove one of them"
                ));
            }
        }
        Ok(())
    }

    /// Whether the server knows the client by its credential alone, because no client id is sent.
    #[cfg(feature = "token-store")]
    pub(crate) fn is_known_by_credential(&self) -> bool {
        self.client_id.is_empty() || self.settings.omits_client_id
    }

    /// Returns the parameters of a client that sends an assertion.
    pub(super) fn assertion_parameters<'a>(
        &'a self,
        default_type: &'static str,
        assertion: &'a str,
    ) -> Vec<(&'static str, &'a str)> {
        let own_type = self.settings.assertion_type.as_deref();
        let mut parameters = Vec::with_capacity(3);
        if !self.settings.omits_client_id {
            parameters.push(("client_id", &*self.client_id));
        }
        parameters.push(("client_assertion_type", own_type.unwrap_or(default_type)));
        parameters.push(("client_assertion", assertion));
        parameters
    }
}
