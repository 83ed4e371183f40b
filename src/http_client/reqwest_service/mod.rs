//! `ReqwestService`: makes `reqwest::Client` a service for `http` requests.

mod body;
mod future;

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header::USER_AGENT};
use http_body::Body;
use reqwest::{Client, ClientBuilder, redirect::Policy};
use tower_service::Service;

pub use self::future::ReqwestFuture;
use self::{body::Watched, future::boxed};
use crate::{
    add_access_token::BufferBody,
    base::request_headers::CRATE_NAME,
    error::{BoxError, NotSent},
    message::NoAccessToken,
};

/// A [`reqwest::Client`](https://docs.rs/reqwest/0.13/reqwest/struct.Client.html) as a `Service<http::Request<B>>`.
///
/// Use it as the inner service of a [`TokenEndpoint`](crate::TokenEndpoint), or of an
/// [`AddAccessTokenLayer`](crate::AddAccessTokenLayer). Create one for each: the type of the request body differs, and the compiler infers
/// it from the use. Clones of one client share its connections. The request body need not be `Sync`, so those of axum and tonic work
/// too.
///
/// Where you have to name the type, as in a struct, `ReqwestService` is the service for [`reqwest::Body`](https://docs.rs/reqwest/0.13/reqwest/struct.Body.html), and
/// `ReqwestService<Full<Bytes>>` is the one below a token endpoint.
///
/// # Which way to use reqwest
///
/// * **One request**: [`bearer_auth`](https://docs.rs/reqwest/0.13/reqwest/struct.RequestBuilder.html#method.bearer_auth) with the token of a source, as shown below. No
///   layer, no service.
/// * **Code that calls `client.get(..).send()`**: `reqwest-middleware`. With the feature `reqwest-middleware`,
///   [`AddAccessTokenLayer`](crate::AddAccessTokenLayer#reqwest-middleware) is such a middleware.
/// * **A tower stack** with timeouts, limits or retries of tower, and every `TokenEndpoint`: this service.
///
/// # Versions
///
/// This service is for reqwest 0.13. Over another version, or another client, write a function, which takes only a few lines:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, header::USER_AGENT};
/// use http_body_util::{BodyExt, Full};
/// use tower::service_fn;
/// use tower_oauth2_client::{BoxError, ClientAuthentication, TokenCache, TokenEndpoint};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = reqwest::Client::builder() // of reqwest 0.12
///     .redirect(reqwest::redirect::Policy::none())
///     .build()?;
/// let http = service_fn(move |request: Request<Full<Bytes>>| {
///     let client = client.clone();
///     async move {
///         let (head, body) = request.into_parts();
///         let body = body.collect().await?.to_bytes();
///         let request = reqwest::Request::try_from(Request::from_parts(head, body))?;
///         let response = client.execute(request).await?;
///         Ok::<Response<reqwest::Body>, BoxError>(response.into())
///     }
/// });
/// let tokens = TokenCache::new(TokenEndpoint::new(
///     http,
///     "https://as.example/token",
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// ));
/// # Ok(())
/// # }
/// ```
///
/// Such a function does not notice a followed redirect, so the client must follow none. Wrap the error of a failed connection in
/// [`NotSent`]. Versions before 0.12 have the types of `http` 0.2: copy the method, the URL, the headers and the body.
///
/// # Redirects
///
/// By default, reqwest follows redirects, and sends the request body again if the status is 307 or 308. The body or the headers of a token
/// request contain the client's secret, so this adapter prevents that. The body of a token request cannot be sent again, and a response
/// from another URL than the requested one is an error. The token endpoint reports it as
/// [`UnexpectedStatus`](crate::TokenErrorKind::UnexpectedStatus), like a redirect that was not followed. For other requests, the client's
/// redirect policy applies.
///
/// # Security
///
/// Use [`without_redirects`](Self::without_redirects), or build the client with `redirect::Policy::none()`. When reqwest 0.13 follows a
/// redirect to another origin, it removes `Authorization` from the first request there, but not from the next one, if that origin then
/// redirects to another of its own URLs: it gets the client's secret or the access token. reqwest never removes the headers that were set
/// with [`TokenRequest::header`](crate::TokenRequest::header). This adapter notices a followed redirect only afterwards.
///
/// # User agent
///
/// The user agent of the client stays: `ClientBuilder::user_agent`, or a default header. If the client has none, requests to an
/// authorization server carry that of this crate. reqwest adds its default headers only where a request has none, so this adapter
/// removes that of this crate from a request if the client has its own. A `User-Agent` that is set with
/// [`TokenRequest::header`](crate::TokenRequest::header) wins over both.
///
/// # Errors
///
/// Returns the errors of reqwest. If the client failed to connect, the error is wrapped in [`NotSent`]. If the request timed out, the error
/// is wrapped in an `io::Error` of the kind `TimedOut`.
///
/// # Examples
///
/// A token endpoint and an API over one client. A request of reqwest's builder converts to one of `http`, and the response converts back:
///
/// ```
/// use http::Request;
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_oauth2_client::{
///     AddAccessTokenLayer, BoxError, ClientAuthentication, ReqwestService, TokenCache, TokenEndpoint,
///     TokenRequest,
/// };
///
/// # async fn example() -> Result<(), BoxError> {
/// let client = reqwest::Client::builder()
///     .redirect(reqwest::redirect::Policy::none())
///     .build()?;
/// let tokens = TokenCache::new(TokenEndpoint::new(
///     ReqwestService::new(client.clone()),
///     "https://as.example/token",
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// ));
/// let source = tokens.source(TokenRequest::client_credentials().scope("orders"));
///
/// let mut api = ServiceBuilder::new()
///     .layer(AddAccessTokenLayer::new(source).origin("https://api.example")?)
///     .service(ReqwestService::new(client.clone()));
///
/// let request = client.post("https://api.example/orders").body("7").build()?;
/// let response = api.ready().await?.call(Request::try_from(request)?).await?;
/// let text = reqwest::Response::from(response).text().await?;
/// # Ok(())
/// # }
/// ```
///
/// One request without any service:
///
/// ```
/// use tower_oauth2_client::{BoxError, TokenSource};
///
/// # async fn example(client: reqwest::Client, source: TokenSource) -> Result<(), BoxError> {
/// let request = client.get("https://api.example/orders");
/// let response = request.bearer_auth(source.token().await?.expose_secret()).send().await?;
/// # Ok(())
/// # }
/// ```
///
/// Compared with the layer, that line does not check where the request goes, and does not resend it. A 401 invalidates nothing, unless
/// you call [`invalidate`](crate::TokenSource::invalidate) with the token. A token that is bound to a DPoP key needs a proof, which only
/// the layer makes.
pub struct ReqwestService<B = reqwest::Body> {
    client: Client,
    may_have_user_agent: bool,
    body: PhantomData<fn(B)>,
}

impl<B> ReqwestService<B> {
    /// Sends requests through `client`, with its connection pool, timeouts, TLS settings and redirect policy.
    ///
    /// # Security
    ///
    /// The client should follow no redirects, as one of [`without_redirects`](Self::without_redirects) does.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            may_have_user_agent: may_have_user_agent(&client),
            client,
            body: PhantomData,
        }
    }

    /// Builds a client that follows no redirects, whatever the policy of `builder` is.
    ///
    /// # Errors
    ///
    /// Returns an error if [`reqwest::ClientBuilder::build`](https://docs.rs/reqwest/0.13/reqwest/struct.ClientBuilder.html#method.build) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::{ClientAuthentication, ReqwestService, TokenCache, TokenEndpoint};
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = reqwest::Client::builder().timeout(Duration::from_secs(10));
    /// let tokens = TokenCache::new(TokenEndpoint::new(
    ///     ReqwestService::without_redirects(builder)?,
    ///     "https://as.example/token",
    ///     ClientAuthentication::client_secret_basic("client", "secret"),
    /// ));
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_redirects(builder: ClientBuilder) -> reqwest::Result<Self> {
        builder.redirect(Policy::none()).build().map(Self::new)
    }

    /// Returns the client, for example to build requests with it or to share its connections.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl<B> From<Client> for ReqwestService<B> {
    fn from(client: Client) -> Self {
        Self::new(client)
    }
}

// A derived impl would demand that the body is `Clone`.
impl<B> Clone for ReqwestService<B> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            ..*self
        }
    }
}

// One impl, so that the compiler infers the body: a service for every `B` makes `ready()` ambiguous.
impl<B> Service<Request<B>> for ReqwestService<B>
where
    B: Body + Send + 'static,
    B::Data: Into<Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<reqwest::Body>;
    type Error = BoxError;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<reqwest::Request>::poll_ready(&mut self.client, cx)
            .map_err(|error| boxed(error, false, None))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let headers = request.headers_mut();
        if self.may_have_user_agent
            && headers
                .get(USER_AGENT)
                .is_some_and(|name| name == CRATE_NAME)
        {
            headers.remove(USER_AGENT);
        }
        let is_token_request = request.extensions().get::<NoAccessToken>().is_some();
        let body_taken = Arc::new(AtomicBool::new(false));
        // To reqwest, a wrapped body is a stream, which it cannot send twice.
        let request =
            request.map(|body| reqwest::Body::wrap(Watched::new(body, body_taken.clone())));
        match reqwest::Request::try_from(request) {
            Ok(request) => {
                let asked = is_token_request.then(|| request.url().clone());
                ReqwestFuture::pending(self.client.call(request), asked, body_taken)
            }
            Err(error) => ReqwestFuture::failed(NotSent::new(error).into()),
        }
    }
}

impl BufferBody<reqwest::Body> {
    /// Buffers the bodies of reqwest's requests, up to `limit` bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AddAccessTokenLayer, TokenSource, add_access_token::BufferBody};
    ///
    /// # fn example(source: TokenSource) -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = AddAccessTokenLayer::new(source)
    ///     .origin("https://api.example")?
    ///     .resend(BufferBody::reqwest(64 * 1024));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reqwest(limit: usize) -> Self {
        Self::new(limit, reqwest::Body::wrap)
    }
}

/// Whether the client may add a user agent of its own.
///
/// reqwest shows its default headers by `Debug` only. `false` needs the list of them without a user agent; if reqwest prints another
/// text, its user agent stays. A quote within a value is printed as `\"`, so no value can pass for a name.
fn may_have_user_agent(client: &Client) -> bool {
    let shown = format!("{client:?}");
    !shown.contains("default_headers: {") || shown.contains("\"user-agent\":")
}

impl<B> fmt::Debug for ReqwestService<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestService").finish_non_exhaustive()
    }
}
