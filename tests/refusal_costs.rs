//! How many tokens refusals cost, and how many calls: replicas that revoke each other's tokens, lifetimes that nobody tells, APIs that
//! refuse everything.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    future::{Future, ready},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep, sleep_until},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, TokenCache, TokenRequest, TokenResponse, TokenSource,
    add_access_token::CloneBody,
    test_util::ManualClock,
    token_cache::{Invalidation, TokenCacheBuilder},
};

use self::cache_support::{Body, bearer, call_to, millis, now, refusal, request, secs};

/// An authorization server and an API in one, which know the tokens by their numbers.
#[derive(Clone)]
struct Server(Arc<Inner>);

struct Inner {
    /// When each token was issued.
    issued: Mutex<Vec<Instant>>,
    /// Whether a token is good: its number, the number of tokens, and its age.
    is_good: Box<dyn Fn(usize, usize, Duration) -> bool + Send + Sync>,
    expires_in: Option<Duration>,
    latency: Range<u64>,
    token_latency: Range<u64>,
}

impl Server {
    fn new(
        expires_in: Option<Duration>,
        is_good: impl Fn(usize, usize, Duration) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            issued: Mutex::default(),
            is_good: Box::new(is_good),
            expires_in,
            latency: LATENCY,
            token_latency: LATENCY,
        }))
    }

    /// A server where a new token revokes the last one of the same client, as Doorkeeper with `revoke_previous_client_credentials_token`.
    fn with_one_token() -> Self {
        Self::new(Some(secs(7200)), |number, issued, _| number + 1 == issued)
    }

    /// A server whose tokens live for this time, which it does not say.
    fn untold(lifetime: Duration) -> Self {
        Self::new(None, move |_, _, age| age < lifetime)
    }

    fn token_requests(&self) -> usize {
        self.0.issued.lock().unwrap().len()
    }

    /// Takes a while to answer token requests, after it has issued the token.
    fn with_slow_tokens(mut self) -> Self {
        Arc::get_mut(&mut self.0).unwrap().token_latency = 100..200;
        self
    }

    async fn latency(&self) {
        latency(&self.0.latency).await;
    }

    fn source(
        &self,
        configure: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
    ) -> TokenSource {
        let server = self.clone();
        let endpoint = service_fn(move |_: TokenRequest| {
            let server = server.clone();
            async move {
                server.latency().await;
                let number = {
                    let mut issued = server.0.issued.lock().unwrap();
                    issued.push(now());
                    issued.len() - 1
                };
                latency(&server.0.token_latency).await;
                let mut response = TokenResponse::builder(bearer(number.to_string()));
                if let Some(expires_in) = server.0.expires_in {
                    response = response.expires_in(expires_in);
                }
                Ok::<_, BoxError>(response.build())
            }
        });
        let builder = TokenCache::builder(endpoint).clock(ManualClock::new().clock());
        configure(builder).build().source(request())
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        self.latency().await;
        let header = request.headers()[AUTHORIZATION].to_str()?;
        let number: usize = header.strip_prefix("Bearer ").unwrap().parse()?;
        let is_good = {
            let issued = self.0.issued.lock().unwrap();
            (self.0.is_good)(number, issued.len(), now() - issued[number])
        };
        self.latency().await;
        Ok(match is_good {
            true => Response::new(Full::default()),
            false => refusal(),
        })
    }

    fn api(
        &self,
    ) -> impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = BoxError,
        Future = impl Future<Output = Result<Response<Body>, BoxError>> + Send,
    > + Clone
    + Send
    + 'static {
        let server = self.clone();
        service_fn(move |request| {
            let server = server.clone();
            async move { server.answer(request).await }
        })
    }

    fn layer(&self, source: TokenSource) -> AddAccessTokenLayer {
        AddAccessTokenLayer::new(source).origin(API).unwrap()
    }
}

async fn latency(range: &Range<u64>) {
    sleep(millis(fastrand::u64(range.clone()))).await;
}

/// In milliseconds, of each way.
const LATENCY: Range<u64> = 2..10;

const API: &str = "https://api.test/";

/// Calls the API at this pace from several tasks. Returns how many calls succeeded.
async fn succeeded<S>(api: S, tasks: usize, calls: usize, pace: Duration) -> usize
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let mut calling = JoinSet::new();
    let begun = now();
    for task in 0..tasks {
        let mut api = api.clone();
        let offset = pace * task as u32 / tasks as u32;
        calling.spawn(async move {
            let mut succeeded = 0;
            for call in 0..calls / tasks {
                sleep_until(begun + offset + pace * call as u32).await;
                let response = api.ready().await.unwrap().call(call_to(API)).await;
                succeeded += usize::from(response.unwrap().status() == StatusCode::OK);
            }
            succeeded
        });
    }
    calling.join_all().await.into_iter().sum()
}

/// Like [`succeeded`], with or without resending.
async fn calls_succeed(
    server: &Server,
    source: TokenSource,
    is_resent: bool,
    (tasks, calls, pace): (usize, usize, Duration),
) -> usize {
    let layer = AddAccessTokenLayer::new(source).origin(API).unwrap();
    match is_resent {
        true => {
            let api = layer.resend(CloneBody).layer(server.api());
            succeeded(api, tasks, calls, pace).await
        }
        false => succeeded(layer.layer(server.api()), tasks, calls, pace).await,
    }
}

mod replicas {
    use super::*;

    const CALLS: usize = 400;

    /// Returns how many of 400 calls of each replica succeed, how many tokens that costs, and how long it takes.
    async fn run(
        replicas: usize,
        is_resent: bool,
        tasks: usize,
        pace: Duration,
    ) -> (Vec<usize>, usize, Duration) {
        let server = Server::with_one_token();
        let begun = now();
        let mut calling = JoinSet::new();
        for _ in 0..replicas {
            let (server, source) = (server.clone(), server.source(|builder| builder));
            calling.spawn(async move {
                calls_succeed(&server, source, is_resent, (tasks, CALLS, pace)).await
            });
        }
        let succeeded = calling.join_all().await;
        let took = now() - begun;
        println!(
            "{replicas} replicas, {tasks} tasks, a call each {pace:?}, resent: {is_resent}: {succeeded:?} of {CALLS} calls \
             in {took:?}, {} token requests",
            server.token_requests(),
        );
        (succeeded, server.token_requests(), took)
    }

    /// Each call of a replica that is refused is resent, once the other replica has had time to use its token.
    #[tokio::test(start_paused = true)]
    async fn nearly_all_calls_of_replicas_that_revoke_each_others_tokens_succeed() {
        for replicas in [2, 3] {
            for (tasks, pace) in [
                (1, 0),
                (1, 20),
                (1, 50),
                (1, 100),
                (8, 0),
                (8, 50),
                (8, 200),
            ] {
                let (succeeded, token_requests, took) =
                    run(replicas, true, tasks, millis(pace)).await;
                for succeeded in succeeded {
                    assert!(succeeded * 100 >= CALLS * 95, "{succeeded}");
                }
                // Each replica fetches two tokens at once, and then at most about one a second.
                let bound = replicas * (took.as_secs() as usize + 4);
                assert!(token_requests <= bound, "{token_requests} of {bound}");
            }
        }
    }

    /// Then each token costs the call whose refusal ends it.
    #[tokio::test(start_paused = true)]
    async fn without_resending_each_token_costs_the_calls_that_were_under_way() {
        for (tasks, pace) in [(1, 0), (1, 20), (1, 50), (8, 50), (8, 200)] {
            let (succeeded, token_requests, _) = run(2, false, tasks, millis(pace)).await;
            let lost = 2 * CALLS - succeeded.iter().sum::<usize>();
            assert!(lost <= (token_requests + 2) * (tasks + 1), "{lost}");
            for succeeded in succeeded {
                assert!(succeeded * 100 >= CALLS * 90, "{succeeded}");
            }
        }
    }
}

mod untold_lifetimes {
    use super::*;

    async fn run(lifetime: Duration, is_resent: bool, learn: bool) -> (usize, usize) {
        let server = Server::untold(lifetime);
        let source = server.source(|builder| builder.learn_lifetime(learn));
        let calls = (5, 500, millis(100));
        let succeeded = calls_succeed(&server, source, is_resent, calls).await;
        println!(
            "tokens of {lifetime:?}, resent: {is_resent}, learned: {learn}: {succeeded} of 500 calls, {} token requests",
            server.token_requests(),
        );
        (succeeded, server.token_requests())
    }

    #[tokio::test(start_paused = true)]
    async fn nearly_all_calls_succeed_although_nobody_says_how_long_tokens_live() {
        for lifetime in [millis(1_200), secs(2), secs(3), secs(5)] {
            let (succeeded, token_requests) = run(lifetime, true, true).await;
            assert!(succeeded >= 495, "{succeeded}");
            let seconds = 10.0 / lifetime.as_secs_f64();
            let bound = (2.0 * seconds) as usize + 4;
            assert!(token_requests <= bound, "{token_requests} of {bound}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_resending_the_first_two_refusals_teach_the_lifetime() {
        let (learned, _) = run(secs(2), false, true).await;
        let (not_learned, _) = run(secs(2), false, false).await;
        assert!(learned >= 485, "{learned}");
        assert!(learned > not_learned, "{learned} {not_learned}");
    }

    /// Over an hour, with one call a second: the cache keeps trying longer lifetimes, and that costs few calls.
    #[tokio::test(start_paused = true)]
    async fn few_calls_are_lost_in_the_long_run() {
        let server = Server::untold(secs(60));
        let source = server.source(|builder| builder);
        let succeeded = calls_succeed(&server, source, false, (1, 3_600, secs(1))).await;
        println!(
            "tokens of 60 s: {succeeded} of 3600 calls, {} token requests",
            server.token_requests()
        );
        assert!(succeeded >= 3_580, "{succeeded}");
        assert!(server.token_requests() <= 85);
    }

    /// The tokens lived for two seconds at first, and then forever.
    #[tokio::test(start_paused = true)]
    async fn a_learned_lifetime_grows_back_when_tokens_live_longer() {
        let begun = now();
        let server = Server::new(None, move |_, _, age| {
            age < secs(2) || now() - begun > secs(20)
        });
        let source = server.source(|builder| builder);
        calls_succeed(&server, source.clone(), true, (1, 200, millis(100))).await;
        let before = server.token_requests();
        assert!(before >= 8, "{before}");
        calls_succeed(&server, source.clone(), true, (1, 3 * 3_600, secs(1))).await;
        let learned = server.token_requests();
        calls_succeed(&server, source, true, (1, 3_600, secs(1))).await;
        let later = server.token_requests() - learned;
        println!(
            "{before} token requests, {} while it grows, {later} in the hour after",
            learned - before
        );
        // Renewed at most each 0.75 of the default lifetime of five minutes.
        assert!(later <= 17, "{later}");
    }
}

mod apis_that_refuse {
    use super::*;

    /// Returns how many tokens an hour of calls costs, three a second. The judge gets the number of the token, of the call, and of the
    /// call among those with this token.
    async fn hour(
        name: &str,
        judge: impl Fn(usize, usize, usize) -> bool + Clone + Send + Sync + 'static,
    ) -> usize {
        let server = Server::new(Some(secs(1_000_000)), |_, _, _| true);
        let source = server.source(|builder| builder);
        let seen = Arc::new(Mutex::new((0, 0, 0)));
        let api = service_fn(move |request: Request<Body>| {
            let header = request.headers()[AUTHORIZATION].to_str().unwrap();
            let token = header.strip_prefix("Bearer ").unwrap().parse().unwrap();
            let mut seen = seen.lock().unwrap();
            let (last, call, of_token) = *seen;
            *seen = (
                token,
                call + 1,
                if token == last { of_token + 1 } else { 1 },
            );
            let is_good = judge(token, call, seen.2 - 1);
            ready(Ok::<_, BoxError>(match is_good {
                true => Response::new(Full::default()),
                false => refusal(),
            }))
        });
        let mut api = AddAccessTokenLayer::new(source)
            .origin(API)
            .unwrap()
            .layer(api);
        let begun = now();
        while now() - begun < secs(3_600) {
            let sending = api.ready().await.unwrap().call(call_to(API));
            sending.await.unwrap();
            advance(millis(333)).await;
        }
        println!("{name}: {} token requests an hour", server.token_requests());
        server.token_requests()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_of_every_kind_costs_a_bounded_number_of_tokens() {
        // Four within seconds, then pauses of 5, 10, 20 … 300 seconds.
        let refuses_everything = hour("every call is refused", |_, _, _| false).await;
        assert!(refuses_everything <= 22, "{refuses_everything}");
        // The first probe shows that the token is not the reason.
        let alternates = hour("every second call is refused", |_, call, _| call % 2 == 0).await;
        assert!(alternates <= 40, "{alternates}");
        let by_chance = hour("calls are refused by chance", |_, _, _| fastrand::bool()).await;
        // Each probe costs eight tokens, and finds out with a probability of one half.
        assert!(by_chance <= 200, "{by_chance}");
        // Nothing tells these from a server that revokes tokens. The limit of a minute holds.
        let once = hour("each token is accepted once", |_, _, call| call == 0).await;
        assert!(once <= 60 * 60, "{once}");
        let ten = hour("each token is accepted ten times", |_, _, call| call < 10).await;
        assert!(ten <= 60 * 60, "{ten}");
        let first = hour("only the first token is accepted", |token, _, _| token == 0).await;
        assert!(first <= 1, "{first}");
        let second = hour(
            "only the first token is accepted, for a minute",
            |token, call, _| token == 0 && call < 180,
        );
        assert!(second.await <= 22);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_a_minute_can_be_set() {
        for per_minute in [0, 1, 5, 60] {
            let server = Server::new(Some(secs(1_000_000)), |_, _, _| true);
            let source = server.source(|builder| {
                let builder = builder.refusal_pauses(Duration::ZERO..=Duration::ZERO);
                builder.max_replacements_per_minute(per_minute)
            });
            let begun = now();
            while now() - begun < secs(60) {
                let token = source.token().await.unwrap();
                let kept = source.invalidate(&token) == Invalidation::Kept;
                assert!(kept || per_minute > 0);
                advance(millis(10)).await;
            }
            // The first token, and one that is sent for when its turn comes, after the end of the minute.
            assert!(server.token_requests() <= per_minute as usize + 2);
        }
        let server = Server::new(Some(secs(1_000_000)), |_, _, _| true);
        let source = server.source(|builder| {
            let builder = builder.refusal_pauses(Duration::ZERO..=Duration::ZERO);
            builder.max_replacements_per_minute(u32::MAX)
        });
        for _ in 0..1_000 {
            let token = source.token().await.unwrap();
            assert_eq!(source.invalidate(&token), Invalidation::Dropped);
        }
    }

    /// An API with the wrong audience, beside one at another origin that accepts every token.
    #[tokio::test(start_paused = true)]
    async fn users_at_another_origin_are_not_affected() {
        let server = Server::new(Some(secs(1_000_000)), |_, _, _| true);
        let source = server.source(|builder| builder);
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        let api = service_fn(move |request: Request<Body>| {
            let is_good = request.uri().host() == Some("good.test");
            counted.fetch_add(usize::from(is_good), SeqCst);
            ready(Ok::<_, BoxError>(match is_good {
                true => Response::new(Full::default()),
                false => refusal(),
            }))
        });
        let layer = AddAccessTokenLayer::new(source);
        let layer = layer.origins(["https://good.test", "https://bad.test"]);
        let mut api = layer.unwrap().layer(api);
        for _ in 0..3_600 {
            for uri in [
                "https://good.test/a",
                "https://bad.test/b",
                "https://good.test/c",
            ] {
                let response = api.ready().await.unwrap().call(call_to(uri)).await;
                let is_good = response.unwrap().status() == StatusCode::OK;
                assert_eq!(is_good, uri.contains("good"));
            }
            advance(secs(1)).await;
        }
        assert_eq!(accepted.load(SeqCst), 2 * 3_600);
        // The first, two at once, and one after each pause of 5, 10, 20, 40, 80, 160 and then 300 seconds.
        assert!(server.token_requests() <= 20, "{}", server.token_requests());
    }
}

mod acceptance {
    use super::*;

    /// The status of an error may come from a proxy that has not looked at the token, as 14 does.
    #[tokio::test(start_paused = true)]
    async fn a_grpc_error_accepts_no_token() {
        for (grpc_status, is_acceptance) in [
            (None, true),
            (Some("0"), true),
            (Some("5"), false),
            (Some("14"), false),
        ] {
            let server = Server::new(Some(secs(7200)), |_, _, _| true);
            let source = server.source(|builder| builder);
            let calls = Arc::new(AtomicUsize::new(0));
            let api = service_fn(move |_: Request<Body>| {
                let grpc_status = match calls.fetch_add(1, SeqCst) % 2 {
                    0 => grpc_status,
                    _ => Some("16"),
                };
                let mut response = Response::builder().header("content-type", "application/grpc");
                if let Some(grpc_status) = grpc_status {
                    response = response.header("grpc-status", grpc_status);
                }
                ready(Ok::<_, BoxError>(response.body(Body::default()).unwrap()))
            });
            let mut api = server.layer(source.clone()).layer(api);
            for _ in 0..6 {
                let response = api.ready().await.unwrap().call(call_to(API)).await;
                response.unwrap();
                advance(secs(2)).await;
            }
            source.token().await.unwrap();
            let expected = if is_acceptance { 4 } else { 3 };
            assert_eq!(server.token_requests(), expected, "{grpc_status:?}");
        }
    }

    /// Accepts the first two calls with each token at every origin, and refuses the third.
    fn third_is_refused() -> impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = BoxError,
        Future = impl Future<Output = Result<Response<Body>, BoxError>> + Send,
    > + Clone {
        let calls = Arc::new(Mutex::new(std::collections::HashMap::<_, usize>::new()));
        service_fn(move |request: Request<Body>| {
            let key = (
                request.uri().clone(),
                request.headers()[AUTHORIZATION].clone(),
            );
            let mut calls = calls.lock().unwrap();
            let call = calls.entry(key).or_default();
            *call += 1;
            ready(Ok(match *call {
                ..3 => Response::new(Full::default()),
                _ => refusal(),
            }))
        })
    }

    /// Returns how many token requests were sent after each call.
    async fn token_requests(
        layer: impl Fn(TokenSource) -> AddAccessTokenLayer,
        uri: &str,
    ) -> Vec<usize> {
        let server = Server::new(Some(secs(7200)), |_, _, _| true);
        let mut api = layer(server.source(|builder| builder)).layer(third_is_refused());
        let mut sent = Vec::new();
        for _ in 0..15 {
            let response = api.ready().await.unwrap().call(call_to(uri)).await;
            response.unwrap();
            advance(secs(3)).await;
            sent.push(server.token_requests());
        }
        sent
    }

    /// However the origin is known: it is the only one, one of several, any, or that of a URI without an authority.
    #[tokio::test(start_paused = true)]
    async fn accepted_tokens_are_replaced_at_once_at_every_kind_of_origin() {
        let expected = [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5];
        let named = |source| AddAccessTokenLayer::new(source).origin(API).unwrap();
        assert_eq!(token_requests(named, API).await, expected);
        assert_eq!(token_requests(named, "/path").await, expected);
        let several = |source| named(source).origin("https://other.test").unwrap();
        assert_eq!(token_requests(several, API).await, expected);
        assert_eq!(
            token_requests(several, "https://OTHER.test:443/a").await,
            expected
        );
        let any = |source| AddAccessTokenLayer::new(source).danger_any_https_origin();
        assert_eq!(token_requests(any, API).await, expected);
        let both = |source| named(source).danger_any_https_origin();
        assert_eq!(token_requests(both, API).await, expected);
        assert_eq!(
            token_requests(both, "https://another.test/").await,
            expected
        );
        assert_eq!(token_requests(both, "/path").await, expected);
    }

    /// A success that carried another token, or none, proves nothing.
    #[tokio::test(start_paused = true)]
    async fn only_a_success_with_the_very_token_counts() {
        for status in [200, 204, 299, 302, 304, 400, 403, 404, 500] {
            let server = Server::new(Some(secs(7200)), |_, _, _| true);
            let source = server.source(|builder| builder);
            let calls = Arc::new(AtomicUsize::new(0));
            let api = service_fn(move |_: Request<Body>| {
                let response = match calls.fetch_add(1, SeqCst) % 2 {
                    0 => Response::builder()
                        .status(status)
                        .body(Full::default())
                        .unwrap(),
                    _ => refusal(),
                };
                ready(Ok::<_, BoxError>(response))
            });
            let mut api = server.layer(source.clone()).layer(api);
            for _ in 0..6 {
                let response = api.ready().await.unwrap().call(call_to(API)).await;
                response.unwrap();
                advance(secs(2)).await;
            }
            // Three were replaced, or two and the third was kept.
            source.token().await.unwrap();
            let expected = if status < 300 { 4 } else { 3 };
            assert_eq!(server.token_requests(), expected, "{status}");
        }
    }
}

/// Refusals whose reason is not the token, or not its lifetime.
mod other_reasons {
    use super::*;

    fn by_chance() -> bool {
        fastrand::bool()
    }

    /// The refusals of requests that were sent before a token was kept on trial do not end the trial.
    #[tokio::test(start_paused = true)]
    async fn an_api_that_refuses_by_chance_is_found_out_among_many_concurrent_calls() {
        for expires_in in [Some(secs(1_000_000)), None] {
            let server = Server::new(expires_in, |_, _, _| by_chance());
            let source = server.source(|builder| builder.default_lifetime(secs(1_000_000)));
            calls_succeed(&server, source, false, (16, 16 * 6_000, millis(30))).await;
            let token_requests = server.token_requests();
            println!("{expires_in:?}: {token_requests} token requests in three minutes");
            // Each probe costs eight tokens, and finds out with a probability of one half.
            assert!(token_requests <= 200, "{token_requests}");
        }
    }

    /// The second does not make the cache believe the first again.
    #[tokio::test(start_paused = true)]
    async fn two_apis_that_refuse_by_chance_are_both_found_out() {
        for origins in [1, 2] {
            let server = Server::new(Some(secs(1_000_000)), |_, _, _| by_chance());
            let uris: Vec<_> = (0..origins)
                .map(|n| format!("https://api{n}.test/"))
                .collect();
            let layer = AddAccessTokenLayer::new(server.source(|builder| builder));
            let mut api = layer.origins(&uris).unwrap().layer(server.api());
            for _ in 0..2_000 {
                for uri in &uris {
                    api.ready().await.unwrap().call(call_to(uri)).await.unwrap();
                }
                sleep(millis(300)).await;
            }
            let token_requests = server.token_requests();
            println!("{origins} origins: {token_requests} token requests");
            assert!(token_requests <= 200 * origins, "{token_requests}");
        }
    }

    /// An API whose refusals say nothing about the token does not teach how long it lives.
    #[tokio::test(start_paused = true)]
    async fn an_api_that_refuses_by_chance_teaches_no_lifetime() {
        let server = Server::new(None, |_, _, _| by_chance());
        let source = server.source(|builder| builder);
        calls_succeed(&server, source, false, (1, 3_600 * 3, millis(333))).await;
        let token_requests = server.token_requests();
        println!("{token_requests} token requests in an hour");
        // Renewed each 225 seconds.
        assert!(token_requests <= 16 + 200, "{token_requests}");
    }

    /// The server revokes the old token when the renewal arrives there, which refuses the requests that are under way.
    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_revokes_the_old_token_teaches_no_lifetime() {
        let server = Server::new(None, |number, issued, _| number + 1 == issued).with_slow_tokens();
        let source = server.source(|builder| builder.default_lifetime(secs(20)));
        calls_succeed(&server, source, true, (16, 16 * 9_000, millis(20))).await;
        let token_requests = server.token_requests();
        println!("{token_requests} token requests in three minutes");
        // Renewed each 15 seconds.
        assert!(token_requests <= 16, "{token_requests}");
    }
}
