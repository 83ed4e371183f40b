//! `ProtectedResource::discover`: fetches the metadata of an API.

use std::{
    fmt,
    future::{Future, IntoFuture, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;

use super::{
    super::{
        fetch::{self, Explains, Http, Rules, Subject, Unavailable},
        search::{BUDGET, elapsed},
    },
    ProtectedResource, guards,
};
use crate::{
    authorization_server::http_service::HttpService,
    base::uri::{self, Printable},
    error::{TokenError, TokenErrorKind},
    message::Challenge,
};

const MAX_RESPONSE_BODY: usize = 1024 * 1024;

impl ProtectedResource {
    /// Fetches the metadata of the API at `url` through `http`. Await the result.
    ///
    /// `url` is the URL of a request to the API, or of the API itself. It is taken as a `&str`, a `String`, a `Uri`, a `Url`, or
    /// anything else that prints it. A query is not part of the addresses that are asked.
    ///
    /// The document is at one of these addresses ([RFC 9728 §3](https://www.rfc-editor.org/rfc/rfc9728#section-3)):
    ///
    /// 1. That of the `resource_metadata` of a challenge, if there is one: see [`challenges`](DiscoverProtectedResource::challenges). No
    ///    other address is asked then.
    /// 2. `/.well-known/oauth-protected-resource` followed by the path of the URL.
    /// 3. The same without the path, if the second has no usable document. After a transient failure it is not asked, because it may
    ///    have another document.
    ///
    /// Nothing is kept: each call fetches.
    ///
    /// # Errors
    ///
    /// * [`TokenErrorKind::Request`]: the URL is invalid or must not be used. Nothing was sent.
    /// * [`TokenErrorKind::InvalidResponse`]: the API names metadata, itself or its authorization servers in a way that is
    ///   refused; see [Security](#security). The message says why.
    /// * Otherwise why the metadata could not be fetched.
    ///
    /// # Security
    ///
    /// The API is not trusted:
    ///
    /// 1. The address in a challenge must have the origin (scheme, host and port) of the URL.
    /// 2. The `resource` in the document must have that origin too, and its path must be that of the URL or the first segments of it. So
    ///    an API gets no tokens for another one, and no API speaks for its neighbor.
    /// 3. The URL and the issuers must be `https`. They must not be on this machine or in a private network, as an address in any
    ///    spelling or as a name such as `localhost.`, `as.internal` or one without a dot. Otherwise an API could make this client call
    ///    machines that only this client can reach. Nothing is resolved: a public name can still have a private address, which only the
    ///    HTTP client can refuse. See [`danger_allow_internal_addresses`](DiscoverProtectedResource::danger_allow_internal_addresses).
    /// 4. Redirects are not followed here, and must not be followed by the HTTP client. A request carries no token and no credential.
    /// 5. The body has a [limit](DiscoverProtectedResource::max_response_body), and so has
    ///    [the time](DiscoverProtectedResource::timeout).
    ///
    /// Give the issuers to an [`Issuer`](crate::Issuer) with
    /// [`public_addresses_only`](crate::Issuer::public_addresses_only), which checks their endpoints in the same way.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Response;
    /// use tower_oauth2_client::{Challenge, HttpsClient, ProtectedResource, TokenError};
    ///
    /// /// `refused` is a 401 of `https://api.example/mcp`.
    /// async fn where_to_get_a_token<B>(
    ///     http: HttpsClient,
    ///     refused: &Response<B>,
    /// ) -> Result<Vec<String>, TokenError> {
    ///     let challenges = Challenge::all(refused.headers());
    ///     let resource = ProtectedResource::discover(http, "https://api.example/mcp")
    ///         .challenges(&challenges)
    ///         .await?;
    ///     Ok(resource.authorization_servers().to_vec())
    /// }
    /// ```
    pub fn discover<S>(http: S, url: impl fmt::Display) -> DiscoverProtectedResource<S> {
        DiscoverProtectedResource {
            http,
            url: uri::parse(url),
            named: None,
            request_body: Full::new,
            timeout: BUDGET,
            rules: Rules {
                allow_http: false,
                public_only: true,
                limit: MAX_RESPONSE_BODY,
            },
        }
    }
}

/// Fetches the [`ProtectedResource`] when it is awaited. Made by [`ProtectedResource::discover`].
///
/// # Cancel safety
///
/// Dropping the future drops the request.
///
/// # Examples
///
/// See [`ProtectedResource::discover`].
#[must_use = "nothing is fetched until it is awaited"]
pub struct DiscoverProtectedResource<S, B = Full<Bytes>> {
    http: S,
    url: Result<Uri, String>,
    named: Option<String>,
    request_body: fn(Bytes) -> B,
    timeout: Duration,
    rules: Rules,
}

impl<S, B> DiscoverProtectedResource<S, B> {
    /// Looks at the address that the first of these challenges with a
    /// [`resource_metadata`](Challenge::resource_metadata) names. Default is the well-known addresses.
    pub fn challenges(mut self, challenges: &[Challenge]) -> Self {
        let mut named = challenges.iter().filter_map(Challenge::resource_metadata);
        self.named = named.next().map(str::to_owned);
        self
    }

    /// Sets the function that makes the request body of `S` from its bytes. Default is `Full::new`.
    ///
    /// See [`TokenEndpoint::request_body`](crate::TokenEndpoint::request_body).
    pub fn request_body<C>(self, request_body: fn(Bytes) -> C) -> DiscoverProtectedResource<S, C> {
        DiscoverProtectedResource {
            http: self.http,
            url: self.url,
            named: self.named,
            request_body,
            timeout: self.timeout,
            rules: self.rules,
        }
    }

    /// Sets how many bytes the body of a response may have; more is an error. Default is 1 MiB.
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.rules.limit = bytes;
        self
    }

    /// Sets how long all requests together may take. Default is 30 seconds.
    ///
    /// Without a tokio runtime that has timers, only the HTTP client limits the time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Allows plain `http` for the API and its issuers. Default is that it is refused.
    ///
    /// # Security
    ///
    /// Anybody in the network can change the document, and so decide where a client gets its tokens.
    pub fn danger_allow_http(mut self) -> Self {
        self.rules.allow_http = true;
        self
    }

    /// Allows addresses and names of this machine and of private networks, for the API and for its issuers. Plain `http` is then allowed
    /// on this machine. Default is that they are refused.
    ///
    /// Set it for tests, or for an API of your own network whose operator you trust.
    ///
    /// # Security
    ///
    /// The API decides which machines in the network of this client are called.
    pub fn danger_allow_internal_addresses(mut self) -> Self {
        self.rules.public_only = false;
        self
    }
}

impl<S, B> IntoFuture for DiscoverProtectedResource<S, B>
where
    S: HttpService<B>,
    B: 'static,
{
    type Output = Result<ProtectedResource, TokenError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let http = Http::new(self.http, self.request_body);
        let (url, named, rules, timeout) = (self.url, self.named, self.rules, self.timeout);
        Box::pin(async move {
            let checked = url.and_then(|url| {
                guards::check_url(&url, rules)?;
                Ok(url)
            });
            let url = checked.map_err(|why| {
                TokenError::request(format!(
                    "the request was not sent: the URL of the resource {why}"
                ))
            })?;
            let uris = guards::metadata_uris(&url, named.as_deref()).map_err(refused)?;
            search(&http, &url, uris, timeout, rules).await
        })
    }
}

impl<S, B> fmt::Debug for DiscoverProtectedResource<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoverProtectedResource")
            .field("url", &self.url.as_ref().map(Printable))
            .finish_non_exhaustive()
    }
}

/// Asks one address after the other, until one has a good document or fails transiently.
async fn search(
    http: &Http,
    url: &Uri,
    uris: Vec<Uri>,
    timeout: Duration,
    rules: Rules,
) -> Result<ProtectedResource, TokenError> {
    let mut timeout = pin!(elapsed(Some(timeout)));
    let name = format!("{:?}", Printable(url));
    let subject = Subject {
        what: "resource",
        name: &name,
        if_none: "check the URL, or take the address of the document from a challenge of the resource",
    };
    let mut worst: Option<Unavailable> = None;
    for uri in uris {
        let fetched = unless(timeout.as_mut(), fetch(http, subject, url, &uri, rules)).await;
        let unavailable = match fetched.unwrap_or_else(|| Err(fetch::late(subject, &uri))) {
            Ok(resource) => return Ok(resource),
            Err(unavailable) => unavailable,
        };
        let is_final = unavailable.explains == Explains::Transient || unavailable.is_unreachable;
        let explains = |worst: &Unavailable| worst.explains >= unavailable.explains;
        if !worst.as_ref().is_some_and(explains) || is_final {
            worst = Some(unavailable);
        }
        if is_final {
            break;
        }
    }
    Err(worst.map_or_else(
        || TokenError::request("the resource has no well-known URI"),
        |worst| worst.error,
    ))
}

async fn fetch(
    http: &Http,
    subject: Subject<'_>,
    url: &Uri,
    uri: &Uri,
    rules: Rules,
) -> Result<ProtectedResource, Unavailable> {
    let answer = fetch::get(http, subject, uri, rules.limit).await?;
    match ProtectedResource::parse(&answer.raw, url, rules) {
        Ok(resource) => Ok(resource),
        Err(unusable) => Err(fetch::refused(unusable, subject, uri, answer)),
    }
}

/// Returns the output of `work`, or `None` if `timeout` ends first.
async fn unless<F: Future>(
    mut timeout: Pin<&mut impl Future<Output = ()>>,
    work: F,
) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timeout.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// The error of an address in a challenge that is refused.
fn refused(why: String) -> TokenError {
    TokenError::metadata(TokenErrorKind::InvalidResponse, why, None, None, None)
}
