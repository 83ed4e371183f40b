//! What one request does differently from what the service, or the cache, would do.

use std::time::Duration;

use http::{Extensions, Uri};

use super::TokenRequest;
use crate::client_authentication::ClientAuthentication;
#[cfg(feature = "dpop")]
use crate::dpop::DpopKey;

/// # What this one request does differently
impl TokenRequest {
    /// Sends this request to another token endpoint. Default is that of the service.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Uri;
    /// use tower_oauth2_client::{ClientAuthentication, TokenRequest};
    ///
    /// let request = TokenRequest::client_credentials()
    ///     .token_endpoint(Uri::from_static("https://blue.example/token"))
    ///     .client_authentication(ClientAuthentication::client_secret_basic("blue", "secret"));
    /// ```
    #[must_use]
    pub fn token_endpoint(mut self, uri: Uri) -> Self {
        self.0.extras_mut().endpoint = Some(uri);
        self
    }

    /// Sends this request as another client. Default is that of the service.
    #[must_use]
    pub fn client_authentication(mut self, client: ClientAuthentication) -> Self {
        self.0.extras_mut().client_authentication = Some(client);
        self
    }

    /// How long a cache waits at least between two requests while the user has not decided: the `interval` of the answer that brought the
    /// device code ([RFC 8628 §3.2](https://www.rfc-editor.org/rfc/rfc8628#section-3.2)) or the `auth_req_id`. Default is 5 seconds, and
    /// less than one second is one. It is not compared.
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

    /// Asks for a token that is bound to this key ([RFC 9449 §5](https://www.rfc-editor.org/rfc/rfc9449#section-5)). Default is
    /// that of the service. In a cache, tokens that are bound to different keys are different tokens.
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

    /// What travels down to the HTTP service in the extensions of the HTTP request.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.0.extensions()
    }

    /// Changes what travels down to the HTTP service in the extensions of the HTTP request.
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

    pub(crate) fn polling_interval_override(&self) -> Option<Duration> {
        self.0.extras().polling_interval
    }
}
