//! `AddAccessTokenLayer`: what to put on requests, and on which.

use std::{fmt, sync::Arc};

use http::Uri;
use tower_layer::Layer;

use super::{
    guard::{Guard, InvalidOrigin},
    resend::NoResend,
    service::AddAccessToken,
};
use crate::token_cache::TokenSource;

/// Puts the token of a [`TokenSource`] on outgoing requests; see the [module](super) for the rules.
///
/// The wrapped service must be `Clone`. Only a request that has to wait for a token needs it: the instance that was made ready
/// is given up while it waits, and a clone is made ready afterwards. Over tower's `LoadShed` that means: such a request was let in
/// once, and may still be shed when its token is there.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::{AddAccessTokenLayer, TokenCache, TokenRequest};
///
/// # fn example<S>(tokens: TokenCache, http: S) {
/// let api = ServiceBuilder::new()
///     .layer(AddAccessTokenLayer::new(
///         tokens.source(TokenRequest::client_credentials().scope("api1")),
///     ))
///     .service(http);
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct AddAccessTokenLayer<R = NoResend> {
    source: TokenSource,
    guard: Guard,
    resend: R,
}

impl AddAccessTokenLayer {
    /// Puts the token of `source` on every request.
    pub fn new(source: TokenSource) -> Self {
        Self {
            source,
            guard: Guard::default(),
            resend: NoResend,
        }
    }
}

impl<R> AddAccessTokenLayer<R> {
    /// Names an origin (scheme, host and port) that may see the token; may be called several times. A request to any other
    /// origin goes without one. Default is that every origin gets it.
    ///
    /// A request without an authority in its URI, as tonic's generated clients make them, gets the token: where it goes is the
    /// business of the inner service.
    ///
    /// # Errors
    ///
    /// If the URI has no scheme or no host.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Uri;
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin(&Uri::from_static("https://api.example"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn origin(mut self, origin: &Uri) -> Result<Self, InvalidOrigin> {
        self.guard.allow_origin(origin)?;
        Ok(self)
    }

    /// Allows requests by plain `http` beyond this machine. Default is that they are an error.
    ///
    /// # Security
    ///
    /// The token crosses the network in the clear, unless something below protects the connection, for example the sidecar of a
    /// mesh.
    pub fn danger_allow_http(mut self) -> Self {
        self.guard.danger_allow_http();
        self
    }

    /// Sends a request whose token was refused once more, with another token. Default is [`NoResend`]: the refusal goes to the
    /// caller, and the next request gets another token.
    ///
    /// It happens at once, and once; never with the bytes that were refused, and not when tokens were refused too often of
    /// late. The caller gets the refusal that came then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::CloneBody};
    ///
    /// # fn example(source: TokenSource) {
    /// let layer = AddAccessTokenLayer::new(source).resend(CloneBody);
    /// # }
    /// ```
    pub fn resend<Q>(self, resend: Q) -> AddAccessTokenLayer<Q> {
        AddAccessTokenLayer {
            source: self.source,
            guard: self.guard,
            resend,
        }
    }
}

impl<S, R: Clone> Layer<S> for AddAccessTokenLayer<R> {
    type Service = AddAccessToken<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        AddAccessToken::new(
            inner,
            Arc::new((self.source.clone(), self.guard.clone())),
            self.resend.clone(),
        )
    }
}

impl<R> fmt::Debug for AddAccessTokenLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddAccessTokenLayer")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
