//! Helpers that the tests of the cache and of the layer share.
#![allow(dead_code, unreachable_pub)]

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use tokio::{
    runtime::{self, Runtime},
    time::Instant,
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, IssuedToken, RefreshWindow,
    TokenCache, TokenEndpoint, TokenRequest, TokenResponse, TokenSource, TokenType,
    test_util::{AuthorizationServer, Failure, ManualClock},
    token_cache::TokenCacheBuilder,
};

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns a runtime that runs only while a test blocks on it.
pub fn current_thread() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// A cache over an in-process authorization server, with clocks that the test moves.
///
/// A token becomes stale at exactly half of its lifetime, so that no test depends on jitter.
pub struct Fixture {
    pub server: AuthorizationServer,
    pub clock: ManualClock,
    pub cache: TokenCache,
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with_lifetime(secs(100))
    }

    pub fn with_lifetime(lifetime: Duration) -> Self {
        let server = AuthorizationServer::builder().access_token_lifetime(lifetime);
        Self::over(server.build())
    }

    pub fn over(server: AuthorizationServer) -> Self {
        Self::with(server, |builder| builder)
    }

    pub fn with(
        server: AuthorizationServer,
        configure: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
    ) -> Self {
        let clock = ManualClock::new();
        let times = Arc::<Mutex<Vec<_>>>::default();
        let recorded = times.clone();
        let endpoint = endpoint(&server).map_request(move |request: TokenRequest| {
            recorded.lock().unwrap().push(now());
            request
        });
        let window = RefreshWindow::new().first(0.5..=0.5).later(0.5..=0.5);
        let builder = TokenCache::builder(endpoint)
            .clock(clock.clock())
            .refresh_window(window);
        Self {
            server,
            clock,
            cache: configure(builder).build(),
            times,
        }
    }

    /// Returns a fixture and a source that has not fetched a token yet.
    pub fn with_source() -> (Self, TokenSource) {
        let fixture = Self::new();
        let source = fixture.source();
        (fixture, source)
    }

    /// Returns a fixture, a source, and the token that the source has just fetched.
    pub async fn with_token() -> (Self, TokenSource, IssuedToken) {
        let (fixture, source) = Self::with_source();
        let token = source.token().await.unwrap();
        (fixture, source, token)
    }

    pub fn source(&self) -> TokenSource {
        self.cache.source(request())
    }

    pub fn requests(&self) -> usize {
        self.server.token_requests()
    }

    /// Returns when each token request was sent.
    pub fn request_times(&self) -> Vec<Instant> {
        self.times.lock().unwrap().clone()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; tests measure tokio's clock"
)]
pub fn now() -> Instant {
    Instant::now()
}

pub fn request() -> TokenRequest {
    TokenRequest::client_credentials().scope("api1")
}

pub fn endpoint(server: &AuthorizationServer) -> TokenEndpoint<AuthorizationServer> {
    TokenEndpoint::new(server.clone(), server.token_endpoint(), client())
}

pub fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

pub fn bearer(text: impl Into<String>) -> AccessToken {
    AccessToken::new(text, TokenType::BEARER).unwrap()
}

/// Returns a token response with a lifetime of one hour.
pub fn token_response(text: impl Into<String>) -> TokenResponse {
    let response = TokenResponse::builder(bearer(text));
    response.expires_in(secs(3600)).build()
}

/// Makes every token request fail, with the number of the attempt in the error description.
pub fn numbered_failures(server: &AuthorizationServer, status: u16, code: &'static str) {
    let number = AtomicUsize::new(0);
    server.fail_when(move |_| {
        let number = number.fetch_add(1, Ordering::Relaxed) + 1;
        let body = format!(r#"{{"error":"{code}","error_description":"attempt {number}"}}"#);
        Some(
            Failure::status(status)
                .content_type("application/json")
                .body(body),
        )
    });
}

type Answering = Pin<Box<dyn Future<Output = Result<TokenResponse, BoxError>> + Send>>;

/// A token endpoint that answers from a function of the number of the request, which starts at 1.
#[derive(Clone)]
pub struct Endpoint {
    calls: Arc<AtomicUsize>,
    answer: Arc<dyn Fn(usize) -> Answering + Send + Sync>,
}

impl Endpoint {
    pub fn new<F>(answer: impl Fn(usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<TokenResponse, BoxError>> + Send + 'static,
    {
        Self {
            calls: Arc::default(),
            answer: Arc::new(move |call| Box::pin(answer(call))),
        }
    }

    /// Creates an endpoint that issues `token-1`, `token-2` and so on.
    pub fn counting() -> Self {
        Self::new(|call| async move { Ok(token_response(format!("token-{call}"))) })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Service<TokenRequest> for Endpoint {
    type Response = TokenResponse;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: TokenRequest) -> Answering {
        (self.answer)(self.calls.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// Returns the output of a future that must complete on its first poll.
#[track_caller]
pub fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = tokio_test::task::spawn(future);
    match future.poll() {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is pending"),
    }
}

/// Runs every task that can make progress, without advancing time.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Requests a token from `n` tasks at once and returns all results.
pub async fn call_all(
    source: &TokenSource,
    n: usize,
) -> Vec<Result<IssuedToken, tower_oauth2_client::TokenError>> {
    let callers: Vec<_> = (0..n)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        })
        .collect();
    let mut results = Vec::with_capacity(n);
    for caller in callers {
        results.push(caller.await.unwrap());
    }
    results
}

/// Returns the distinct error messages; panics if a result is `Ok`.
pub fn error_texts(
    results: Vec<Result<IssuedToken, tower_oauth2_client::TokenError>>,
) -> HashSet<String> {
    let texts = results
        .into_iter()
        .map(|result| result.unwrap_err().to_string());
    texts.collect()
}

/// Returns the distinct tokens; panics if a result is `Err`.
pub fn token_texts(
    results: Vec<Result<IssuedToken, tower_oauth2_client::TokenError>>,
) -> HashSet<String> {
    let texts = results
        .into_iter()
        .map(|result| result.unwrap().expose_secret().to_owned());
    texts.collect()
}

pub type Body = Full<Bytes>;
/// An HTTP client whose type is erased.
pub type Http = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

pub const API: &str = "https://api.test/orders";

/// Returns the layer that sends the token of `source` to the origin of [`API`].
pub fn api_layer(source: TokenSource) -> AddAccessTokenLayer {
    AddAccessTokenLayer::new(source).origin(API).unwrap()
}

/// A request to the API, with a body.
pub fn call() -> Request<Body> {
    call_to(API)
}

pub fn call_to(uri: &str) -> Request<Body> {
    let request = Request::post(uri).header("x-request", "1");
    request.body(Full::from("the body")).unwrap()
}

/// A request that an API received.
#[derive(Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub extensions: Extensions,
    pub body: Bytes,
}

impl Seen {
    /// Returns the `Authorization` header, if any; panics if there are two.
    #[track_caller]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        let mut values = self.headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next();
        assert!(values.next().is_none(), "two Authorization headers");
        value
    }
}

/// An in-process API that records its requests and answers from a function.
#[derive(Clone)]
pub struct Api {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Respond>,
}

type Respond = dyn Fn(&Seen) -> Response<Body> + Send + Sync;

impl Api {
    pub fn new(answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self {
            seen: Arc::default(),
            answer: Arc::new(answer),
        }
    }

    /// Creates an API that answers every request with 200.
    pub fn content() -> Self {
        Self::new(|_| Response::new(Full::from("hello")))
    }

    /// Creates an API that accepts only valid tokens of the server.
    pub fn checking(server: &AuthorizationServer) -> Self {
        let server = server.clone();
        Self::new(move |seen| match server.check_bearer(&seen.headers) {
            Ok(()) => Response::new(Full::from("hello")),
            Err(refusal) => refusal,
        })
    }

    /// Creates an API that refuses every token.
    pub fn refusing() -> Self {
        Self::new(|_| refusal())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("no request")
    }
}

/// Returns a 401 with an `invalid_token` challenge.
pub fn refusal() -> Response<Body> {
    Response::builder()
        .status(401)
        .header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
        .body(Full::from("refused"))
        .unwrap()
}

impl Service<Request<Body>> for Api {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let seen = Seen {
                method: parts.method,
                uri: parts.uri,
                headers: parts.headers,
                extensions: parts.extensions,
                body: body.collect().await?.to_bytes(),
            };
            api.seen.lock().unwrap().push(seen.clone());
            Ok((api.answer)(&seen))
        })
    }
}

/// Returns one HTTP client for both: the host `as.test` is the server, every other host is the API.
pub fn network(server: &AuthorizationServer, api: &Api) -> Http {
    let (server, api) = (server.clone(), api.clone());
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let (server, api) = (server.clone(), api.clone());
        async move {
            if request.uri().host() != Some("as.test") {
                return api.oneshot(request).await;
            }
            let (parts, body) = server.oneshot(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Response::from_parts(parts, Full::new(body)))
        }
    }))
}
