//! Real threads and real time: thousands of callers, a server on its worst day, and no request without a good token.
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
    AddAccessTokenLayer, RefreshWindow, TokenCache, TokenError, TokenRequest, TokenResponse,
    add_access_token::CloneBody,
    test_util::{AuthorizationServer, Failure},
};

use self::cache_support::{Body, call, endpoint, millis, now, request, secs};

/// Nothing here takes so long unless it hangs.
const DEADLOCK: Duration = secs(120);

/// All of them through layers of their own, as in a process with many clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_callers_on_a_cold_cache_make_one_fetch() {
    const CALLERS: usize = 10_000;
    for (failure, fetches) in [
        (Failure::delay(millis(100)), 1),
        // A bad moment is one more request, and still nobody's error.
        (Failure::status(503).delayed(millis(50)), 2),
    ] {
        let server = AuthorizationServer::new();
        server.fail_next(failure);
        let api = Api::over(&server);
        let cache = TokenCache::new(api.recording(&server));
        let barrier = Arc::new(Barrier::new(CALLERS));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let service = AddAccessTokenLayer::new(cache.source(request())).layer(api.clone());
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

/// Tokens of two seconds from a server that fails three times in ten and is slow in between, and that now and then revokes
/// what it has issued.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_thousand_requests_complete_on_the_servers_worst_day() {
    const CALLERS: usize = 100;
    const REQUESTS: usize = 2_000;
    /// A caller rests after so many, so that the requests spread over several lifetimes.
    const BURST: usize = 20;
    /// The pauses after refusals double, and this is to end.
    const MOST_REVOCATIONS: usize = 3;

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
    let cache = TokenCache::builder(api.recording(&server))
        .refresh_window(RefreshWindow::new())
        .build();
    let layer = AddAccessTokenLayer::new(cache.source(request())).resend(CloneBody);
    let done = Arc::new(AtomicBool::new(false));

    let revoking = tokio::spawn({
        let (server, done) = (server.clone(), done.clone());
        let source = cache.source(request());
        async move {
            let mut revocations = 0;
            while !done.load(SeqCst) {
                // One that nobody has would be refused to nobody.
                if source.peek().is_some() && revocations < MOST_REVOCATIONS {
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
            let mut unanswered = 0_usize;
            for number in 0..REQUESTS {
                // Some use a service once, as those do who clone it for each request.
                if (caller + number) % 3 == 0 {
                    service = service.clone();
                }
                while !is_answered(&mut service).await {
                    unanswered += 1;
                    sleep(millis(5)).await;
                }
                if number % BURST == 0 {
                    sleep(millis(fastrand::u64(20..80))).await;
                }
            }
            unanswered
        });
    }
    let begun = now();
    let unanswered: usize = timeout(DEADLOCK, callers.join_all())
        .await
        .expect("a deadlock")
        .into_iter()
        .sum();
    let took = now() - begun;
    done.store(true, SeqCst);
    let revocations = revoking.await.unwrap();

    let (requests, refused) = (api.requests.load(SeqCst), api.refused.load(SeqCst));
    println!(
        "{requests} requests in {took:?}, {refused} refused, {unanswered} without an answer at first; {} token requests for \
         {} tokens, {revocations} revocations",
        server.token_requests(),
        server.issued(),
    );
    assert_eq!(requests - refused, CALLERS * REQUESTS);
    assert_eq!(api.bare.load(SeqCst), 0, "sent without a token");
    assert_eq!(api.expired.load(SeqCst), 0, "sent with an expired token");
    assert_eq!(server.in_flight_peak(), 1);
    // Once a second, once for each token that was revoked (the one in use, the one on its way), and a second attempt for those for
    // which callers waited.
    let seconds = usize::try_from(took.as_secs()).unwrap() + 1;
    assert!(server.token_requests() <= 2 * (seconds + 2 * revocations));
    // The day was bad enough to mean something.
    assert!(took > 2 * LIFETIME, "{took:?}");
    assert!(refused > 0 && revocations > 0);
}

const LIFETIME: Duration = secs(2);

/// Whether a request got an answer from the API that is not a refusal; an error is one of the token, and nothing else.
async fn is_answered<S>(service: &mut S) -> bool
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
            let error =
                TokenError::find_in_chain(&*error).expect("no error but that there is no token");
            assert!(error.is_transient(), "{error}");
            false
        }
    }
}

/// An API in process that knows from when on each token is over, and counts what must not come.
#[derive(Clone)]
struct Api {
    server: AuthorizationServer,
    ends: Arc<RwLock<HashMap<String, Instant>>>,
    requests: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    bare: Arc<AtomicUsize>,
    expired: Arc<AtomicUsize>,
}

impl Api {
    fn over(server: &AuthorizationServer) -> Self {
        Self {
            server: server.clone(),
            ends: Arc::default(),
            requests: Arc::default(),
            refused: Arc::default(),
            bare: Arc::default(),
            expired: Arc::default(),
        }
    }

    /// The token endpoint of the server. A token is over when `expires_in` has passed since it was asked for: the server says
    /// whole seconds, rounded down, and counts from when the request came, so for itself it is over a little later.
    fn recording(
        &self,
        server: &AuthorizationServer,
    ) -> impl Service<TokenRequest, Response = TokenResponse, Error = TokenError, Future: Send>
    + Clone
    + Send
    + 'static {
        let (endpoint, ends) = (endpoint(server), self.ends.clone());
        tower::service_fn(move |request: TokenRequest| {
            let (endpoint, ends) = (endpoint.clone(), ends.clone());
            async move {
                let sent = now();
                let response = endpoint.oneshot(request).await?;
                let end = sent + response.expires_in().unwrap();
                let token = response.access_token().expose_secret().to_owned();
                ends.write().unwrap().insert(token, end);
                Ok(response)
            }
        })
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let arrived = now();
        self.requests.fetch_add(1, SeqCst);
        let value = request.headers().get(AUTHORIZATION);
        let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let end = token.and_then(|token| self.ends.read().unwrap().get(token).copied());
        match end {
            None => self.bare.fetch_add(1, SeqCst),
            Some(end) if arrived >= end => self.expired.fetch_add(1, SeqCst),
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
