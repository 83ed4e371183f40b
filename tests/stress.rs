//! Thousands of callers and an unreliable server, with real threads and real time. No request is sent without a valid token.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt};
use tower_oauth2_client::{
    RefreshWindow, TokenCache, TokenError, TokenRequest, TokenResponse,
    add_access_token::CloneBody,
    test_util::{AuthorizationServer, Failure},
};

use self::cache_support::{Body, api_layer, call, endpoint, millis, now, request, secs};

/// A test that takes longer has deadlocked.
const DEADLOCK: Duration = secs(120);

/// Each caller has its own layer, as in a process with many clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_callers_on_a_cold_cache_share_one_fetch() {
    const CALLERS: usize = 10_000;
    for (failure, fetches) in [
        (Failure::delay(millis(100)), 1),
        // A transient failure costs one more request, and no caller sees an error.
        (Failure::status(503).delayed(millis(50)), 2),
    ] {
        let server = AuthorizationServer::new();
        server.fail_next(failure);
        let api = Api::over(&server);
        let cache = TokenCache::new(api.recording_endpoint(&server));
        let barrier = Arc::new(Barrier::new(CALLERS));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let service = api_layer(cache.source(request())).layer(api.clone());
            let barrier = barrier.clone();
            callers.spawn(async move {
                barrier.wait().await;
                service.oneshot(call()).await.unwrap().status()
            });
        }
        let statuses = timeout(DEADLOCK, callers.join_all()).await.unwrap();
        assert!(statuses.iter().all(|status| *status == StatusCode::OK));
        assert_eq!(api.requests.load(SeqCst), CALLERS);
        assert_eq!(server.token_requests(), fetches);
        assert_eq!(server.in_flight_peak(), 1);
    }
}

/// Tokens live for two seconds. The server is slow, fails three times out of ten, and sometimes revokes all tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_thousand_requests_complete_with_an_unreliable_server() {
    const CALLERS: usize = 100;
    const REQUESTS: usize = 2_000;
    /// A caller pauses after this many requests, so that they spread over several lifetimes.
    const BURST: usize = 20;
    /// The pauses after refusals double, so more revocations would take too long.
    const MAX_REVOCATIONS: usize = 3;

    let server = AuthorizationServer::builder()
        .access_token_lifetime(LIFETIME)
        .build();
    server.fail_when(|_| {
        let slow = millis(fastrand::u64(..300));
        Some(match fastrand::u8(..10) {
            0 => Failure::drop_connection().delayed(slow),
            1 => Failure::status(503).delayed(slow),
            2 => Failure::status(500).delayed(slow),
            _ => Failure::delay(slow),
        })
    });
    let api = Api::over(&server);
    let cache = TokenCache::builder(api.recording_endpoint(&server))
        .refresh_window(RefreshWindow::new())
        .build();
    let layer = api_layer(cache.source(request())).resend(CloneBody);
    let done = Arc::new(AtomicBool::new(false));

    let revoking = tokio::spawn({
        let (server, done) = (server.clone(), done.clone());
        let source = cache.source(request());
        async move {
            let mut revocations = 0;
            while !done.load(SeqCst) {
                // Revoke only a token that is in use, so that some request is refused.
                if source.peek().is_some() && revocations < MAX_REVOCATIONS {
                    server.revoke_all();
                    revocations += 1;
                    sleep(millis(fastrand::u64(1_000..4_000))).await;
                }
                sleep(millis(10)).await;
            }
            revocations
        }
    });

    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut service = layer.layer(api.clone());
        callers.spawn(async move {
            let mut retries = 0_usize;
            for number in 0..REQUESTS {
                // Sometimes use a fresh clone, as callers that clone the service for each request do.
                if (caller + number) % 3 == 0 {
                    service = service.clone();
                }
                while !is_accepted(&mut service).await {
                    retries += 1;
                    sleep(millis(5)).await;
                }
                if number % BURST == 0 {
                    sleep(millis(fastrand::u64(20..80))).await;
                }
            }
            retries
        });
    }
    let started = now();
    let retries: usize = timeout(DEADLOCK, callers.join_all())
        .await
        .expect("deadlock")
        .into_iter()
        .sum();
    let took = now() - started;
    done.store(true, SeqCst);
    let revocations = revoking.await.unwrap();

    let (requests, refused) = (api.requests.load(SeqCst), api.refused.load(SeqCst));
    println!(
        "{requests} requests in {took:?}, {refused} refused, {retries} retries; {} token requests for \
         {} tokens, {revocations} revocations",
        server.token_requests(),
        server.issued(),
    );
    assert_eq!(requests - refused, CALLERS * REQUESTS);
    assert_eq!(api.without_token.load(SeqCst), 0, "sent without a token");
    assert_eq!(api.expired.load(SeqCst), 0, "sent with an expired token");
    assert_eq!(server.in_flight_peak(), 1);
    // One fetch per second, two per revocation (for the token in use and the token being fetched), and a second attempt for each.
    let seconds = usize::try_from(took.as_secs()).unwrap() + 1;
    assert!(server.token_requests() <= 2 * (seconds + 2 * revocations));
    // The server was unreliable enough for the test to be meaningful.
    assert!(took > 2 * LIFETIME, "{took:?}");
    assert!(refused > 0 && revocations > 0);
}

const LIFETIME: Duration = secs(2);

/// Returns whether the API accepted the request. The only permitted error is a transient [`TokenError`].
async fn is_accepted<S>(service: &mut S) -> bool
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<tower_oauth2_client::BoxError>,
{
    match service
        .ready()
        .await
        .map_err(Into::into)
        .unwrap()
        .call(call())
        .await
    {
        Ok(response) if response.status() == StatusCode::OK => true,
        Ok(response) => {
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            false
        }
        Err(error) => {
            let error = error.into();
            let error = TokenError::find_in_chain(&*error).expect("not a token error");
            assert!(error.is_transient(), "{error}");
            false
        }
    }
}

/// An in-process API that knows when each token expires, and counts requests that must not happen.
#[derive(Clone)]
struct Api {
    server: AuthorizationServer,
    expiries: Arc<RwLock<HashMap<String, Instant>>>,
    requests: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    without_token: Arc<AtomicUsize>,
    expired: Arc<AtomicUsize>,
}

impl Api {
    fn over(server: &AuthorizationServer) -> Self {
        Self {
            server: server.clone(),
            expiries: Arc::default(),
            requests: Arc::default(),
            refused: Arc::default(),
            without_token: Arc::default(),
            expired: Arc::default(),
        }
    }

    /// Returns the token endpoint of the server and records when each token expires.
    ///
    /// A token expires `expires_in` after its request was sent. For the server it expires a little later, since the server rounds
    /// `expires_in` down to whole seconds and counts from when the request arrived.
    fn recording_endpoint(
        &self,
        server: &AuthorizationServer,
    ) -> impl Service<TokenRequest, Response = TokenResponse, Error = TokenError, Future: Send>
    + Clone
    + Send
    + 'static {
        let (endpoint, expiries) = (endpoint(server), self.expiries.clone());
        tower::service_fn(move |request: TokenRequest| {
            let (endpoint, expiries) = (endpoint.clone(), expiries.clone());
            async move {
                let sent = now();
                let response = endpoint.oneshot(request).await?;
                let expiry = sent + response.expires_in().unwrap();
                let token = response.access_token().expose_secret().to_owned();
                expiries.write().unwrap().insert(token, expiry);
                Ok(response)
            }
        })
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let arrived = now();
        self.requests.fetch_add(1, SeqCst);
        let value = request.headers().get(AUTHORIZATION);
        let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let expiry = token.and_then(|token| self.expiries.read().unwrap().get(token).copied());
        match expiry {
            None => self.without_token.fetch_add(1, SeqCst),
            Some(expiry) if arrived >= expiry => self.expired.fetch_add(1, SeqCst),
            Some(_) => 0,
        };
        match self.server.check_bearer(request.headers()) {
            Ok(()) => Response::new(Full::from("hello")),
            Err(refusal) => {
                self.refused.fetch_add(1, SeqCst);
                refusal
            }
        }
    }
}

impl Service<Request<Body>> for Api {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.answer(&request)))
    }
}
