//! Drops every future after each of its polls. Other callers still get their result, nothing is fetched twice, and nothing leaks.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::JoinHandle,
    time::{Sleep, advance, sleep, timeout},
};
use tokio_test::task;
use tower::{Layer, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, IssuedToken, TokenCache, TokenEndpoint,
    TokenRequest, TokenSource,
    add_access_token::CloneBody,
    test_util::{AuthorizationServer, ManualClock},
};

use self::cache_support::{
    Body, Http, api_layer, at_once, bearer, call, client, millis, request, secs, settle,
};

/// How long each step of the network takes.
const STEP: Duration = millis(50);

/// Polls twice within each step, so that a future is dropped at every point where it can wait.
const POLL_EVERY: Duration = millis(25);

/// A task that takes longer has lost a wake-up.
const LOST_WAKE_UP: Duration = secs(60);

/// One slow HTTP client for the authorization server and the API, which allows one request at a time.
struct Rig {
    server: AuthorizationServer,
    cache: TokenCache,
    http: Http,
    permits: Arc<Semaphore>,
    /// Cloned by every request and every body in flight.
    alive: Arc<()>,
    calls: Arc<AtomicUsize>,
}

impl Rig {
    fn new() -> Self {
        Self::with_client(client())
    }

    fn with_client(client: ClientAuthentication) -> Self {
        let server = AuthorizationServer::builder()
            .access_token_lifetime(secs(1000))
            .build();
        let permits = Arc::new(Semaphore::new(1));
        let alive = Arc::new(());
        let calls = Arc::default();
        let http = slow_http(&server, &permits, &alive, &calls);
        let uri = server.token_endpoint();
        let cache = TokenCache::builder(TokenEndpoint::new(http.clone(), uri, client))
            .clock(ManualClock::new().clock())
            .build();
        Self {
            server,
            cache,
            http,
            permits,
            alive,
            calls,
        }
    }

    fn source(&self) -> TokenSource {
        self.cache.source(request())
    }

    fn requests(&self) -> usize {
        self.server.token_requests()
    }

    /// Returns the number of requests that reached the API.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Asserts that no task, permit or request is left once nobody waits.
    async fn assert_nothing_leaks(&self) {
        settle().await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, 0, "a task leaked");
        assert_eq!(self.permits.available_permits(), 1, "a permit leaked");
        // One reference is in `self`, the other in the HTTP service.
        assert_eq!(Arc::strong_count(&self.alive), 2, "a request leaked");
    }
}

fn slow_http(
    server: &AuthorizationServer,
    permits: &Arc<Semaphore>,
    alive: &Arc<()>,
    calls: &Arc<AtomicUsize>,
) -> Http {
    let (server, alive, calls) = (server.clone(), Arc::new(alive.clone()), calls.clone());
    let network = tower::service_fn(move |request: Request<Body>| {
        let (server, calls) = (server.clone(), calls.clone());
        let alive = Arc::clone(&*alive);
        async move {
            sleep(STEP).await;
            let answer = if request.uri().host() == Some("as.test") {
                let (parts, body) = server.oneshot(request).await?.into_parts();
                Response::from_parts(parts, body.collect().await?.to_bytes())
            } else {
                calls.fetch_add(1, Ordering::SeqCst);
                match server.check_bearer(request.headers()) {
                    Ok(()) => Response::new(Bytes::from_static(b"hello")),
                    Err(refusal) => refusal.map(|_| Bytes::from_static(b"refused")),
                }
            };
            sleep(STEP).await;
            Ok::<_, BoxError>(answer.map(|body| SlowBody::new(body, alive)))
        }
    });
    let stack = ServiceBuilder::new()
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(permits.clone()))
        .service(network);
    // The cache collects the body itself; above the layer nobody reads it.
    Http::new(stack.and_then(|response: Response<SlowBody>| async move {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, BoxError>(Response::from_parts(parts, Full::new(body)))
    }))
}

/// A body that arrives in two parts, each after a delay.
struct SlowBody {
    parts: VecDeque<Bytes>,
    sleep: Pin<Box<Sleep>>,
    _alive: Arc<()>,
}

impl SlowBody {
    fn new(mut body: Bytes, alive: Arc<()>) -> Self {
        let first = body.split_to(body.len() / 2);
        Self {
            parts: [first, body].into(),
            sleep: Box::pin(sleep(STEP)),
            _alive: alive,
        }
    }
}

impl http_body::Body for SlowBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        ready!(self.sleep.as_mut().poll(cx));
        self.sleep = Box::pin(sleep(STEP));
        Poll::Ready(self.parts.pop_front().map(|part| Ok(Frame::data(part))))
    }
}

/// Polls a future `polls` times, advancing time in between, and drops it. Returns its output if it completed.
async fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = task::spawn(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.poll() {
            return Some(output);
        }
        settle().await;
        advance(POLL_EVERY).await;
        settle().await;
    }
    None
}

/// Runs a scenario with more and more polls until it returns `true`: its future has completed.
///
/// The future must be pending for at least `min_polls` polls.
async fn for_each_poll(min_polls: usize, scenario: impl AsyncFn(usize) -> bool) {
    let mut polls = 0;
    while !scenario(polls).await {
        polls += 1;
        assert!(polls < 1000, "the future never completes");
    }
    assert!(polls >= min_polls, "completed after only {polls} polls");
}

/// Awaits a task, and fails the test if a wake-up was lost.
async fn output<T>(task: JoinHandle<T>) -> T {
    let finished = timeout(LOST_WAKE_UP, task).await;
    finished.expect("a wake-up was lost").unwrap()
}

fn spawn_token(source: &TokenSource) -> JoinHandle<IssuedToken> {
    let source = source.clone();
    tokio::spawn(async move { source.token().await.unwrap() })
}

fn spawn_renew(source: &TokenSource) -> JoinHandle<IssuedToken> {
    let source = source.clone();
    tokio::spawn(async move { source.renew().await.unwrap() })
}

mod source {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dropped_token_call_does_not_cancel_the_fetch() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let before = spawn_token(&source);
            settle().await;
            let token = poll_and_drop(source.token(), polls).await;
            let after = spawn_token(&source);
            let (before, after) = (output(before).await, output(after).await);
            assert_eq!(before, after);
            assert_eq!(rig.requests(), 1, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            token.is_some_and(|token| token.unwrap() == before)
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_only_caller_does_not_cancel_the_fetch() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let token = poll_and_drop(source.token(), polls).await;
            sleep(secs(1)).await;
            let fetches = usize::from(polls > 0);
            assert_eq!(rig.requests(), fetches, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            if polls > 0 {
                at_once(source.token()).unwrap();
            }
            token.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_token_call_does_not_cancel_the_replacement_of_an_expired_token() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let expired = source.token().await.unwrap();
            advance(secs(1000)).await;
            let before = spawn_token(&source);
            let token = poll_and_drop(source.token(), polls).await;
            let after = spawn_token(&source);
            let (before, after) = (output(before).await, output(after).await);
            assert_eq!(before, after);
            assert_ne!(before, expired);
            assert_eq!(rig.requests(), 2, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            token.is_some()
        })
        .await;
    }

    /// This holds at every point of the fetch.
    #[tokio::test(start_paused = true)]
    async fn dropping_the_last_handle_cancels_the_fetch() {
        for_each_poll(8, async |polls| {
            let Rig {
                server,
                cache,
                http,
                permits,
                alive,
                ..
            } = Rig::new();
            let source = cache.source(request());
            let token = poll_and_drop(source.token(), polls).await;
            drop((source, cache, http));
            settle().await;
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
            assert_eq!(permits.available_permits(), 1);
            assert_eq!(Arc::strong_count(&alive), 1);
            assert!(server.token_requests() <= 1);
            token.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_renew_call_does_not_cancel_the_renewal() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let old = source.token().await.unwrap();
            advance(secs(1)).await;
            let before = spawn_renew(&source);
            settle().await;
            let renewed = poll_and_drop(source.renew(), polls).await;
            let served = at_once(source.token()).unwrap();
            let before = output(before).await;
            assert!([&old, &before].contains(&&served));
            assert_ne!(before, old);
            assert_eq!(at_once(source.token()).unwrap(), before);
            assert_eq!(rig.requests(), 2, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            renewed.is_some()
        })
        .await;
    }

    /// The renewal waits for the one-second spacing between fetches.
    #[tokio::test(start_paused = true)]
    async fn dropped_renew_call_does_not_cancel_a_delayed_renewal() {
        for_each_poll(40, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let old = source.token().await.unwrap();
            let before = spawn_renew(&source);
            settle().await;
            let renewed = poll_and_drop(source.renew(), polls).await;
            assert_ne!(output(before).await, old);
            assert_eq!(rig.requests(), 2, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            renewed.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_warm_up_call_does_not_cancel_the_fetch() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let warmed = poll_and_drop(source.warm_up(), polls).await;
            output(spawn_token(&source)).await;
            assert_eq!(rig.requests(), 1, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            warmed.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_changed_call_does_not_lose_the_change() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let mut changes = source.subscribe();
            let other = tokio::spawn({
                let mut changes = source.subscribe();
                async move { changes.changed().await.unwrap().unwrap() }
            });
            settle().await;
            let fetching = spawn_token(&source);
            let seen = poll_and_drop(changes.changed(), polls).await;
            let token = output(fetching).await;
            assert_eq!(output(other).await, token);
            match &seen {
                Some(seen) => assert_eq!(seen.as_ref().unwrap(), &Some(token)),
                // The next call still sees the change.
                None => assert_eq!(at_once(changes.changed()).unwrap(), Some(token)),
            }
            assert!(task::spawn(changes.changed()).poll().is_pending());
            assert_eq!(rig.requests(), 1);
            rig.assert_nothing_leaks().await;
            seen.is_some()
        })
        .await;
    }
}

mod layer {
    use super::*;

    type HttpResult = Result<Response<Body>, BoxError>;

    /// Sends three requests and drops the second one after each of its polls.
    ///
    /// `prepare` sets up the initial token; `fetches` is the expected number of token requests.
    async fn drop_one_of_three_requests(
        min_polls: usize,
        prepare: impl AsyncFn(&Rig),
        fetches: usize,
    ) {
        for_each_poll(min_polls, async |polls| {
            let rig = Rig::new();
            prepare(&rig).await;
            let layer = api_layer(rig.source()).resend(CloneBody);
            let service = layer.layer(rig.http.clone());
            let send = || tokio::spawn(service.clone().oneshot(call()));

            let before = send();
            settle().await;
            let response: Option<HttpResult> =
                poll_and_drop(service.clone().oneshot(call()), polls).await;
            let after = send();
            for response in [output(before).await, output(after).await] {
                assert_eq!(response.unwrap().status(), StatusCode::OK);
            }
            assert_eq!(rig.requests(), fetches, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            response.is_some_and(|response| response.unwrap().status() == StatusCode::OK)
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_request_with_a_cached_token_does_not_affect_others() {
        let warm = async |rig: &Rig| rig.source().warm_up().await.unwrap();
        drop_one_of_three_requests(8, warm, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_request_that_waits_for_a_token_does_not_affect_others() {
        drop_one_of_three_requests(20, async |_: &Rig| {}, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_request_that_is_resent_does_not_affect_others() {
        let revoked = async |rig: &Rig| {
            rig.source().warm_up().await.unwrap();
            rig.server.revoke_all();
        };
        drop_one_of_three_requests(20, revoked, 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn request_dropped_before_its_token_arrives_is_not_sent() {
        for_each_poll(12, async |polls| {
            let rig = Rig::new();
            let service = api_layer(rig.source()).layer(rig.http.clone());
            let response = poll_and_drop(service.clone().oneshot(call()), polls).await;
            let has_token = rig.source().peek().is_some();
            sleep(secs(1)).await;
            let calls = rig.calls();
            assert!(calls == 0 || has_token);
            assert!(calls == 1 || response.is_none());
            rig.assert_nothing_leaks().await;

            let next = tokio::spawn(service.oneshot(call()));
            output(next).await.unwrap();
            assert_eq!(rig.requests(), 1, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            response.is_some()
        })
        .await;
    }

    /// The cache learns of the refusal as soon as the response arrives, so the next request gets a new token.
    #[tokio::test(start_paused = true)]
    async fn refused_token_is_replaced_after_its_request_is_dropped() {
        for_each_poll(20, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let revoked = source.token().await.unwrap();
            rig.server.revoke_all();
            let layer = api_layer(source.clone()).resend(CloneBody);
            let service = layer.layer(rig.http.clone());
            let response = poll_and_drop(service.clone().oneshot(call()), polls).await;
            sleep(secs(1)).await;
            rig.assert_nothing_leaks().await;
            assert!(rig.requests() <= 2);
            assert!(rig.calls() <= 2);

            let next = tokio::spawn(service.oneshot(call()));
            assert_eq!(output(next).await.unwrap().status(), StatusCode::OK);
            assert_ne!(source.peek(), Some(revoked));
            assert_eq!(rig.requests(), 2, "dropped after {polls} polls");
            rig.assert_nothing_leaks().await;
            response.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_request_with_a_fixed_token_leaks_nothing() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = TokenSource::fixed(bearer("fixed"));
            let service = api_layer(source).layer(rig.http.clone());
            let response = poll_and_drop(service.clone().oneshot(call()), polls).await;
            rig.assert_nothing_leaks().await;
            let next = tokio::spawn(service.oneshot(call()));
            output(next).await.unwrap();
            rig.assert_nothing_leaks().await;
            response.is_some()
        })
        .await;
    }
}

mod endpoint {
    use super::*;

    async fn drop_one_of_two_requests(min_polls: usize, client: ClientAuthentication) {
        for_each_poll(min_polls, async |polls| {
            let rig = Rig::with_client(client.clone());
            let uri = rig.server.token_endpoint();
            let endpoint = TokenEndpoint::new(rig.http.clone(), uri, client.clone());
            let response = poll_and_drop(endpoint.clone().oneshot(request()), polls).await;
            let in_flight = rig.server.in_flight_peak();
            assert!(in_flight <= 1);
            rig.assert_nothing_leaks().await;

            let other = tokio::spawn(endpoint.oneshot(request()));
            output(other).await.unwrap();
            rig.assert_nothing_leaks().await;
            response.is_some_and(|response| response.is_ok())
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_token_request_with_a_fixed_secret_leaks_nothing() {
        drop_one_of_two_requests(8, client()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_token_request_with_a_provided_secret_leaks_nothing() {
        let secret = Credential::from_fn(|| async {
            sleep(STEP).await;
            Ok::<_, BoxError>("secret")
        });
        drop_one_of_two_requests(
            10,
            ClientAuthentication::client_secret_basic("client", secret),
        )
        .await;
    }

    /// The provider uses the same HTTP client, which allows one request at a time.
    #[tokio::test(start_paused = true)]
    async fn dropped_token_request_whose_assertion_uses_the_same_client_leaks_nothing() {
        for_each_poll(16, async |polls| {
            let rig = Rig::new();
            let http = rig.http.clone();
            let assertion = Credential::from_fn(move || {
                let http = http.clone();
                async move {
                    let response = http.oneshot(call()).await?;
                    Ok::<_, BoxError>(format!("assertion-{}", response.status().as_u16()))
                }
            });
            let grant = TokenRequest::jwt_bearer(assertion);
            let endpoint =
                TokenEndpoint::new(rig.http.clone(), rig.server.token_endpoint(), client());
            let response = poll_and_drop(endpoint.clone().oneshot(grant.clone()), polls).await;
            settle().await;
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
            assert_eq!(rig.permits.available_permits(), 1);

            let other = tokio::spawn(endpoint.oneshot(grant));
            // The server does not know the assertion; it only matters that it received the request.
            output(other).await.unwrap_err();
            let requests = rig.requests();
            assert!((1..=2).contains(&requests), "{requests}");
            response.is_some()
        })
        .await;
    }
}
