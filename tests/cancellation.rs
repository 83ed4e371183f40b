//! Every future, dropped after each of its polls: the others get what they wait for, nothing is fetched twice, and nothing is kept.
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
    AccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, Credential, TokenCache,
    TokenEndpoint, TokenRequest, TokenSource,
    add_access_token::CloneBody,
    test_util::{AuthorizationServer, ManualClock},
};

use self::cache_support::{
    Body, Http, at_once, bearer, call, client, millis, request, secs, settle,
};

/// What every step of the network takes.
const STEP: Duration = millis(50);

/// A future is polled twice in each step, so that it is dropped at every point at which it can wait.
const POLL_EVERY: Duration = millis(25);

/// Nothing here takes so long unless a wake-up was lost.
const LOST: Duration = secs(60);

/// One HTTP client for the authorization server and the API, slow at every point, that lets one request in at a time.
struct Rig {
    server: AuthorizationServer,
    cache: TokenCache,
    http: Http,
    permits: Arc<Semaphore>,
    /// Counted by every request and every body that is under way.
    alive: Arc<()>,
    calls: Arc<AtomicUsize>,
}

impl Rig {
    fn new() -> Self {
        Self::authenticating(client())
    }

    fn authenticating(client: ClientAuthentication) -> Self {
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

    /// Requests to the API that came as far as to be answered.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Nobody waits for anything any more, so nothing must be left.
    async fn assert_nothing_is_kept(&self) {
        settle().await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, 0, "a task is left");
        assert_eq!(self.permits.available_permits(), 1, "a permit is kept");
        // Its own, and that of the service that the cache and this rig share.
        assert_eq!(Arc::strong_count(&self.alive), 2, "a request is left");
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
    // Below the cache a body is collected; above the layer nobody reads it.
    Http::new(stack.and_then(|response: Response<SlowBody>| async move {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, BoxError>(Response::from_parts(parts, Full::new(body)))
    }))
}

/// A body that comes in two parts, each after a while.
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

/// Polls a future so many times while the world goes on, and drops it. The output, if it came to one.
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

/// Runs a scenario with ever more polls, until it says that its future came to its end.
async fn for_each_poll(fewest: usize, scenario: impl AsyncFn(usize) -> bool) {
    let mut polls = 0;
    while !scenario(polls).await {
        polls += 1;
        assert!(polls < 1000, "it never ends");
    }
    assert!(polls >= fewest, "it waits at more points than {polls}");
}

/// What somebody else gets who waits on a task.
async fn output<T>(task: JoinHandle<T>) -> T {
    let finished = timeout(LOST, task).await;
    finished.expect("a wake-up was lost").unwrap()
}

fn spawn_token(source: &TokenSource) -> JoinHandle<AccessToken> {
    let source = source.clone();
    tokio::spawn(async move { source.token().await.unwrap() })
}

fn spawn_renew(source: &TokenSource) -> JoinHandle<AccessToken> {
    let source = source.clone();
    tokio::spawn(async move { source.renew().await.unwrap() })
}

mod source {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn token_of_an_empty_cache() {
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
            rig.assert_nothing_is_kept().await;
            token.is_some_and(|token| token.unwrap() == before)
        })
        .await;
    }

    /// Nobody else waits, and the token is there all the same.
    #[tokio::test(start_paused = true)]
    async fn token_of_an_empty_cache_alone() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let token = poll_and_drop(source.token(), polls).await;
            sleep(secs(1)).await;
            let fetches = usize::from(polls > 0);
            assert_eq!(rig.requests(), fetches, "dropped after {polls} polls");
            rig.assert_nothing_is_kept().await;
            if polls > 0 {
                at_once(source.token()).unwrap();
            }
            token.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn token_in_place_of_an_expired_one() {
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
            rig.assert_nothing_is_kept().await;
            token.is_some()
        })
        .await;
    }

    /// With the last handle goes the fetch, wherever it is.
    #[tokio::test(start_paused = true)]
    async fn token_together_with_the_last_handle() {
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
    async fn renew() {
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
            rig.assert_nothing_is_kept().await;
            renewed.is_some()
        })
        .await;
    }

    /// The second a renewal waits for is one of the points.
    #[tokio::test(start_paused = true)]
    async fn renew_within_the_second() {
        for_each_poll(40, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let old = source.token().await.unwrap();
            let before = spawn_renew(&source);
            settle().await;
            let renewed = poll_and_drop(source.renew(), polls).await;
            assert_ne!(output(before).await, old);
            assert_eq!(rig.requests(), 2, "dropped after {polls} polls");
            rig.assert_nothing_is_kept().await;
            renewed.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn warm_up() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let warmed = poll_and_drop(source.warm_up(), polls).await;
            output(spawn_token(&source)).await;
            assert_eq!(rig.requests(), 1, "dropped after {polls} polls");
            rig.assert_nothing_is_kept().await;
            warmed.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn changed() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let mut changes = source.subscribe();
            let other = tokio::spawn({
                let mut changes = source.subscribe();
                async move { changes.changed().await.unwrap() }
            });
            settle().await;
            let fetching = spawn_token(&source);
            let seen = poll_and_drop(changes.changed(), polls).await;
            let token = output(fetching).await;
            assert_eq!(output(other).await, token);
            match &seen {
                Some(seen) => assert_eq!(seen.as_ref(), Some(&token)),
                // It is told to whoever asks again.
                None => assert_eq!(at_once(changes.changed()), Some(token)),
            }
            assert!(task::spawn(changes.changed()).poll().is_pending());
            assert_eq!(rig.requests(), 1);
            rig.assert_nothing_is_kept().await;
            seen.is_some()
        })
        .await;
    }
}

mod layer {
    use super::*;

    type Answered = Result<Response<Body>, BoxError>;

    /// Drops a request between two others after each of its polls.
    ///
    /// `prepare` says with which token it begins; `fetches` is how many there are in all, whoever asks.
    async fn one_of_three(fewest: usize, prepare: impl AsyncFn(&Rig), fetches: usize) {
        for_each_poll(fewest, async |polls| {
            let rig = Rig::new();
            prepare(&rig).await;
            let layer = AddAccessTokenLayer::new(rig.source()).resend(CloneBody);
            let service = layer.layer(rig.http.clone());
            let send = || tokio::spawn(service.clone().oneshot(call()));

            let before = send();
            settle().await;
            let answered: Option<Answered> =
                poll_and_drop(service.clone().oneshot(call()), polls).await;
            let after = send();
            for answered in [output(before).await, output(after).await] {
                assert_eq!(answered.unwrap().status(), StatusCode::OK);
            }
            assert_eq!(rig.requests(), fetches, "dropped after {polls} polls");
            rig.assert_nothing_is_kept().await;
            answered.is_some_and(|answered| answered.unwrap().status() == StatusCode::OK)
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn response_with_a_token_at_hand() {
        let warm = async |rig: &Rig| rig.source().warm_up().await.unwrap();
        one_of_three(8, warm, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn response_that_waits_for_its_token() {
        one_of_three(20, async |_: &Rig| {}, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn response_whose_request_is_sent_once_more() {
        let revoked = async |rig: &Rig| {
            rig.source().warm_up().await.unwrap();
            rig.server.revoke_all();
        };
        one_of_three(20, revoked, 2).await;
    }

    /// Dropped before its token is there, it was not sent.
    #[tokio::test(start_paused = true)]
    async fn response_that_waits_alone() {
        for_each_poll(12, async |polls| {
            let rig = Rig::new();
            let service = AddAccessTokenLayer::new(rig.source()).layer(rig.http.clone());
            let answered = poll_and_drop(service.clone().oneshot(call()), polls).await;
            let has_token = rig.source().peek().is_some();
            sleep(secs(1)).await;
            let calls = rig.calls();
            assert!(calls == 0 || has_token);
            assert!(calls == 1 || answered.is_none());
            rig.assert_nothing_is_kept().await;

            let next = tokio::spawn(service.oneshot(call()));
            output(next).await.unwrap();
            assert_eq!(rig.requests(), 1, "dropped after {polls} polls");
            rig.assert_nothing_is_kept().await;
            answered.is_some()
        })
        .await;
    }

    /// A refusal is told to the cache as soon as it is seen; what comes after it is for those who come after it.
    #[tokio::test(start_paused = true)]
    async fn response_whose_request_is_sent_once_more_alone() {
        for_each_poll(20, async |polls| {
            let rig = Rig::new();
            let source = rig.source();
            let revoked = source.token().await.unwrap();
            rig.server.revoke_all();
            let layer = AddAccessTokenLayer::new(source.clone()).resend(CloneBody);
            let service = layer.layer(rig.http.clone());
            let answered = poll_and_drop(service.clone().oneshot(call()), polls).await;
            sleep(secs(1)).await;
            rig.assert_nothing_is_kept().await;
            assert!(rig.requests() <= 2);
            assert!(rig.calls() <= 2);

            let next = tokio::spawn(service.oneshot(call()));
            assert_eq!(output(next).await.unwrap().status(), StatusCode::OK);
            assert_ne!(source.peek(), Some(revoked));
            assert_eq!(rig.requests(), 2, "dropped after {polls} polls");
            rig.assert_nothing_is_kept().await;
            answered.is_some()
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn response_with_a_fixed_token() {
        for_each_poll(8, async |polls| {
            let rig = Rig::new();
            let source = TokenSource::fixed(bearer("fixed"));
            let service = AddAccessTokenLayer::new(source).layer(rig.http.clone());
            let answered = poll_and_drop(service.clone().oneshot(call()), polls).await;
            rig.assert_nothing_is_kept().await;
            let next = tokio::spawn(service.oneshot(call()));
            output(next).await.unwrap();
            rig.assert_nothing_is_kept().await;
            answered.is_some()
        })
        .await;
    }
}

mod endpoint {
    use super::*;

    async fn one_of_two(fewest: usize, client: ClientAuthentication) {
        for_each_poll(fewest, async |polls| {
            let rig = Rig::authenticating(client.clone());
            let uri = rig.server.token_endpoint();
            let endpoint = TokenEndpoint::new(rig.http.clone(), uri, client.clone());
            let answered = poll_and_drop(endpoint.clone().oneshot(request()), polls).await;
            let in_flight = rig.server.in_flight_peak();
            assert!(in_flight <= 1);
            rig.assert_nothing_is_kept().await;

            let other = tokio::spawn(endpoint.oneshot(request()));
            output(other).await.unwrap();
            rig.assert_nothing_is_kept().await;
            answered.is_some_and(|answered| answered.is_ok())
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn response_with_a_known_secret() {
        one_of_two(8, client()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn response_with_a_secret_from_a_provider() {
        let secret = Credential::from_fn(|| async {
            sleep(STEP).await;
            Ok::<_, BoxError>("secret")
        });
        one_of_two(
            10,
            ClientAuthentication::client_secret_basic("client", secret),
        )
        .await;
    }

    /// The provider goes through the very client that lets one request in at a time.
    #[tokio::test(start_paused = true)]
    async fn response_with_an_assertion_that_comes_by_the_same_client() {
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
            let answered = poll_and_drop(endpoint.clone().oneshot(grant.clone()), polls).await;
            settle().await;
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
            assert_eq!(rig.permits.available_permits(), 1);

            let other = tokio::spawn(endpoint.oneshot(grant));
            // The server knows no such assertion: what counts is that it was asked.
            output(other).await.unwrap_err();
            let asked = rig.requests();
            assert!((1..=2).contains(&asked), "{asked}");
            answered.is_some()
        })
        .await;
    }
}
