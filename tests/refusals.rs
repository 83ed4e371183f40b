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
    add_access_token::{CloneBody, Resend},
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
            latency: 2..10,
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

    async fn latency(&self) {
        sleep(millis(fastrand::u64(self.0.latency.clone()))).await;
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
                server.latency().await;
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

    #[tokio::test(start_paused = true)]
    async fn explore() {
        for replicas in [2, 3, 5, 10] {
            for is_resent in [true, false] {
                for (tasks, pace) in [
                    (1, 0),
                    (1, 20),
                    (1, 50),
                    (1, 100),
                    (8, 50),
                    (8, 200),
                    (8, 0),
                    (40, 200),
                ] {
                    run(replicas, is_resent, tasks, millis(pace)).await;
                }
            }
        }
    }
}
