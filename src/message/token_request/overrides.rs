//! The settings of a single request that override those of the token endpoint or the cache.

use std::{fmt, sync::Arc, time::Duration};

use http::Extensions;

use super::TokenRequest;
#[cfg(any(feature = "authorization-code", feature = "dpop"))]
use crate::dpop::DpopKey;
use crate::{client_authentication::ClientAuthentication, message::IdTokenChecks};

/// # Overrides for this request
impl TokenRequest {
    /// Sends this request to another token endpoint. Default is the URI of the [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. If the URI is invalid, the request
    /// fails before anything is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, TokenRequest};
    ///
    /// let request = TokenRequest::client_credentials()
    ///     .token_endpoint("https://blue.example/token")
    ///     .client_authentication(ClientAuthentication::client_secret_basic("blue", "secret"));
    /// ```
    #[must_use]
    pub fn token_endpoint(mut self, uri: impl fmt::Display) -> Self {
        self.0.set_endpoint("token endpoint", uri);
        self
    }

    /// Sends this request as another client. Default is the client of the [`TokenEndpoint`](crate::TokenEndpoint).
    #[must_use]
    pub fn client_authentication(mut self, client: ClientAuthentication) -> Self {
        self.0.extras_mut().client_authentication = Some(client);
        self
    }

    /// Sets the minimum time between two requests of a cache while the user has not decided.
    ///
    /// Pass the `interval` from the response that contained the device code
    /// ([RFC 8628 §3.2](https://www.rfc-editor.org/rfc/rfc8628#section-3.2)) or the `auth_req_id`. Less than one second counts as one
    /// second. The interval is ignored when requests are compared. Default is 5 seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// let request = TokenRequest::device_code("GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS")
    ///     .polling_interval(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn polling_interval(mut self, interval: Duration) -> Self {
        self.0.extras_mut().polling_interval = Some(interval);
        self
    }

    /// Requests a token that is bound to this key ([RFC 9449 §5](https://www.rfc-editor.org/rfc/rfc9449#section-5)).
    ///
    /// A cache stores one token for each key. Default is the key of the [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{DpopKey, TokenRequest};
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::jwt::InvalidKey> {
    /// let request = TokenRequest::client_credentials().dpop(DpopKey::generate()?);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.0.extras_mut().dpop = Some(key);
        self
    }

    /// Checks the ID token in the response, if there is one. Default is that it is not checked.
    ///
    /// If it does not pass, the request fails. The checks are ignored when requests are compared, and do not apply to later renewals.
    ///
    /// # Examples
    ///
    /// See [`IdTokenChecks`].
    #[must_use]
    pub fn id_token_checks(mut self, checks: IdTokenChecks) -> Self {
        self.0.extras_mut().id_token_checks = Some(Arc::new(checks));
        self
    }

    /// Returns the extensions that are added to the HTTP request.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.0.extensions()
    }

    /// Returns a mutable reference to the extensions of the HTTP request.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::TokenRequest;
    ///
    /// #[derive(Clone)]
    /// struct Deadline(u64);
    ///
    /// let mut request = TokenRequest::client_credentials();
    /// request.extensions_mut().insert(Deadline(30));
    /// ```
    #[must_use]
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.0.extras_mut().extensions
    }

    #[cfg(feature = "authorization-code")]
    pub(crate) fn bound_to(mut self, key: Option<DpopKey>) -> Self {
        if key.is_some() {
            self.0.extras_mut().dpop = key;
        }
        self
    }

    pub(crate) fn shared_id_token_checks(&self) -> Option<Arc<IdTokenChecks>> {
        self.0.extras().id_token_checks.clone()
    }

    pub(crate) fn polling_interval_override(&self) -> Option<Duration> {
        self.0.extras().polling_interval
    }
}
