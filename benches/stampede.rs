//! The cost of 10,000 simultaneous callers on a cold cache over an endpoint that takes 50 ms, compared with the same number of tasks
//! that wait for one shared future.
//!
//! Run it with `cargo bench --bench stampede` or `cargo bench --bench stampede -- ROUNDS`. `README.md` in this folder explains the
//! results.
#![allow(
    clippy::disallowed_methods,
    reason = "benchmarks read the clock directly"
)]

mod support;

use std::{
    env,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use tokio::{
    runtime::{self, Runtime},
    task::JoinSet,
    time::sleep,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_oauth2_client::{
    AddAccessTokenLayer, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    TokenResponse,
};

use self::support::{
    Result,
    calls::{self, BoxError},
    median, process_time, token,
};

const CALLERS: u64 = 10_000;
const FEWER_CALLERS: u64 = 100;
const ROUNDS: usize = 15;
const ENDPOINT_TAKES: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let rounds = env::args().find_map(|argument| argument.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    let cases = cases();
    let mut costs = vec![Vec::new(); cases.len()];
    // Interleaved, so that disturbances of the machine affect all cases equally.
    for _ in 0..rounds.max(1) {
        for (case, costs) in cases.iter().zip(&mut costs) {
            costs.push(case.run()?);
        }
    }
    println!(
        "{:<52} {:>7} {:>8} {:>8} {:>13} {:>8} {:>10} {:>8} {:>7}",
        "case",
        "callers",
        "wall ms",
        "cpu ms",
        "ns cpu/caller",
        "x floor",
        "alloc/call",
        "requests",
        "tokens"
    );
    for (it, case) in cases.iter().enumerate() {
        let median_of = |it: usize, of: fn(&Cost) -> f64| median(costs[it].iter().map(of));
        let cpu = median_of(it, |cost| cost.cpu);
        // The floor is the case just before the one that is compared with it.
        let floor = it
            - usize::from(case.way != Way::SharedFuture && case.way != Way::SharedFutureThenCall);
        let allocations = median_of(it, |cost| cost.allocations) / case.callers as f64;
        println!(
            "{:<52} {:>7} {:>8.1} {:>8.2} {:>13.0} {:>8.2} {:>10} {:>8} {:>7}",
            case.name(),
            case.callers,
            median_of(it, |cost| cost.wall) * 1e3,
            cpu * 1e3,
            cpu * 1e9 / case.callers as f64,
            cpu / median_of(floor, |cost| cost.cpu),
            match case.threads {
                1 => format!("{allocations:.2}"),
                _ => "-".to_owned(),
            },
            median_of(it, |cost| cost.requests),
            median_of(it, |cost| cost.tokens),
        );
    }
    Ok(())
}

struct Case {
    way: Way,
    threads: usize,
    callers: u64,
    answer: Answer,
}

/// How callers get the token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    SharedFuture,
    TokenSource,
    SharedFutureThenCall,
    Layer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Token,
    /// A final error, which is not retried.
    InvalidClient,
    /// A transient error, as far as a client can tell.
    Unavailable,
}

#[derive(Clone)]
struct Cost {
    wall: f64,
    cpu: f64,
    /// Allocations of the thread that drives the runtime. With a single thread, these are all.
    allocations: f64,
    requests: f64,
    tokens: f64,
}

fn cases() -> Vec<Case> {
    use Way::{Layer, SharedFuture, SharedFutureThenCall, TokenSource};
    let mut cases = Vec::new();
    for (callers, threads, answer, ways) in [
        (
            CALLERS,
            1,
            Answer::Token,
            &[SharedFuture, TokenSource, SharedFutureThenCall, Layer][..],
        ),
        (
            CALLERS,
            2,
            Answer::Token,
            &[SharedFuture, TokenSource, SharedFutureThenCall, Layer],
        ),
        (
            FEWER_CALLERS,
            1,
            Answer::InvalidClient,
            &[SharedFuture, TokenSource],
        ),
        (
            CALLERS,
            1,
            Answer::InvalidClient,
            &[SharedFuture, TokenSource],
        ),
        (
            FEWER_CALLERS,
            1,
            Answer::Unavailable,
            &[SharedFuture, TokenSource],
        ),
        (
            CALLERS,
            1,
            Answer::Unavailable,
            &[SharedFuture, TokenSource],
        ),
    ] {
        cases.extend(ways.iter().map(|way| Case {
            way: *way,
            threads,
            callers,
            answer,
        }));
    }
    cases
}

impl Case {
    fn name(&self) -> String {
        let way = match self.way {
            Way::SharedFuture => "shared future",
            Way::TokenSource => "token source",
            Way::SharedFutureThenCall => "shared future, then a call",
            Way::Layer => "access token layer",
        };
        let threads = if self.threads == 1 {
            ""
        } else {
            ", two threads"
        };
        let answer = match self.answer {
            Answer::Token => "",
            Answer::InvalidClient => ", invalid_client",
            Answer::Unavailable => ", unavailable",
        };
        format!("{way}{threads}{answer}")
    }

    fn run(&self) -> Result<Cost> {
        let runtime = match self.threads {
            1 => runtime::Builder::new_current_thread().enable_all().build(),
            threads => runtime::Builder::new_multi_thread()
                .worker_threads(threads)
                .enable_all()
                .build(),
        }?;
        let requests = Arc::new(AtomicU64::new(0));
        let endpoint = endpoint(self.answer, requests.clone());
        let request = || TokenRequest::client_credentials().scope(token::SCOPE);
        // The cache must live until the measurement is over.
        let tokens = TokenCache::new(endpoint.clone());
        let source = tokens.source(request());
        let api = service_fn(calls::answer);

        let shared = || {
            let fetch = endpoint.clone().oneshot(request());
            let fetch = async move { fetch.await.ok()?.access_token().authorization().cloned() };
            fetch.boxed().shared()
        };
        let cost = match self.way {
            Way::SharedFuture => {
                let shared = shared();
                stampede(&runtime, self.callers, move || {
                    shared.clone().map(|token| token.is_some())
                })
            }
            Way::TokenSource => stampede(&runtime, self.callers, move || {
                let source = source.clone();
                async move { source.token().await.is_ok() }
            }),
            Way::SharedFutureThenCall => {
                let shared = shared();
                stampede(&runtime, self.callers, move || {
                    let (shared, api) = (shared.clone(), api);
                    async move {
                        let Some(token) = shared.await else {
                            return false;
                        };
                        let mut request = calls::request();
                        request.headers_mut().insert(AUTHORIZATION, token);
                        api.oneshot(request).await.is_ok()
                    }
                })
            }
            Way::Layer => {
                let layer = AddAccessTokenLayer::new(source).origin(calls::API)?;
                let api = layer.layer(api);
                stampede(&runtime, self.callers, move || {
                    let api = api.clone();
                    async move { api.oneshot(calls::request()).await.is_ok() }
                })
            }
        };
        let expected = if self.answer == Answer::Token {
            self.callers
        } else {
            0
        };
        assert_eq!(cost.tokens, expected as f64, "{}", self.name());
        Ok(Cost {
            requests: requests.load(Ordering::Relaxed) as f64,
            ..cost
        })
    }
}

/// Runs `callers` tasks to completion. `call` returns whether the caller got a token.
fn stampede<F>(runtime: &Runtime, callers: u64, mut call: impl FnMut() -> F) -> Cost
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut tokens = 0;
    let (mut wall, mut cpu) = (Duration::ZERO, Duration::ZERO);
    let counted = measure(|| {
        let (start, processor) = (Instant::now(), process_time());
        tokens = runtime.block_on(async {
            let mut tasks: JoinSet<bool> = (0..callers).map(|_| call()).collect();
            let mut tokens = 0;
            while let Some(outcome) = tasks.join_next().await {
                tokens += u64::from(outcome.expect("the caller does not panic"));
            }
            tokens
        });
        (wall, cpu) = (start.elapsed(), process_time() - processor);
    });
    Cost {
        wall: wall.as_secs_f64(),
        cpu: cpu.as_secs_f64(),
        allocations: counted.count_total as f64,
        requests: 0.0,
        tokens: tokens as f64,
    }
}

fn endpoint(
    answer: Answer,
    requests: Arc<AtomicU64>,
) -> impl Service<TokenRequest, Response = TokenResponse, Error: Into<BoxError> + Send, Future: Send>
+ Clone
+ Send
+ 'static {
    let body = token::body();
    let http = service_fn(move |_: Request<Full<Bytes>>| {
        requests.fetch_add(1, Ordering::Relaxed);
        let body = body.clone();
        async move {
            sleep(ENDPOINT_TAKES).await;
            Ok::<_, BoxError>(match answer {
                Answer::Token => token::response(body),
                Answer::InvalidClient => {
                    refusal(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#)
                }
                Answer::Unavailable => refusal(StatusCode::SERVICE_UNAVAILABLE, ""),
            })
        }
    });
    TokenEndpoint::new(
        http,
        token::URI,
        ClientAuthentication::client_secret_basic(token::CLIENT_ID, token::CLIENT_SECRET),
    )
}

fn refusal(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = token::response(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    response
}
