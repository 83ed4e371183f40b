//! Compares the cache and the layer with a model of their docs: both take the same random steps and must look the same.
#![cfg(feature = "test-util")]

#[path = "../cache_support/mod.rs"]
mod cache_support;
mod model;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use proptest::{prelude::*, test_runner::TestCaseError};
use tokio::{
    runtime,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AccessToken, BoxError, IssuedToken, RefreshWindow, TokenCache, TokenEndpoint, TokenError,
    TokenSource, add_access_token::CloneBody, test_util::ManualClock,
};

use self::{
    cache_support::{Body, api_layer, bearer, call, client, millis, now, refusal, request, settle},
    model::{Caller, Choices, Mismatch, Mode, Model, Output, Sent, Server},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes on both clocks.
    Sleep(i64),
    /// This percentage of the current token lifetime passes.
    SleepPercent(i64),
    /// The wall clock jumps forward or back, as after a suspend or when it is set.
    MoveWall(i64),
    Call(Caller),
    /// A token is reported as refused: the newest for 0, the one before it for 1, and so on.
    Invalidate(usize),
    InvalidateAll,
    /// The API refuses every token that was requested so far.
    Revoke,
    Server(Server),
}

/// The state of the server and of the API.
struct Backend {
    start: Instant,
    server: Server,
    sent: Vec<Sent>,
    /// How many of the tokens are revoked.
    revoked: usize,
}

type Shared = Arc<Mutex<Backend>>;
type Http = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

const FIRST: Server = Server {
    mode: Mode::Token,
    latency: 20,
    lifetime: 100_000,
    refresh_in: None,
};

/// The real cache, and the outputs of its callers.
struct Real {
    backend: Shared,
    clock: ManualClock,
    cache: TokenCache,
    source: TokenSource,
    outputs: Arc<Mutex<Vec<Option<Output>>>>,
    api: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
}

impl Real {
    async fn new() -> Self {
        // Aligns the clock with the timers, which fire at whole milliseconds.
        sleep(millis(1)).await;
        let backend = Arc::new(Mutex::new(Backend {
            start: now(),
            server: FIRST,
            sent: Vec::new(),
            revoked: 0,
        }));
        let clock = ManualClock::new();
        let cache = TokenCache::builder(TokenEndpoint::new(
            server(&backend),
            "https://as.test/token",
            client(),
        ))
        .clock(clock.clock())
        .refresh_window(RefreshWindow::new().first(0.5..=0.5).later(0.75..=0.75))
        // Otherwise the cache would draw how long a caller waits for its turn.
        .max_replacements_per_minute(u32::MAX)
        .build();
        let source = cache.source(request());
        let layer = api_layer(source.clone()).resend(CloneBody);
        Self {
            api: BoxCloneSyncService::new(layer.layer(api(&backend))),
            backend,
            clock,
            cache,
            source,
            outputs: Arc::default(),
        }
    }

    fn now(&self) -> i64 {
        let elapsed = now() - self.backend.lock().unwrap().start;
        i64::try_from(elapsed.as_millis()).unwrap()
    }

    fn sent(&self) -> Vec<Sent> {
        self.backend.lock().unwrap().sent.clone()
    }

    fn newest(&self, nth: usize) -> Option<usize> {
        self.sent().len().checked_sub(nth + 1)
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Sleep(time) => sleep(millis(time.unsigned_abs())).await,
            Step::SleepPercent(percent) => {
                let lifetime = self.backend.lock().unwrap().server.lifetime;
                sleep(millis((lifetime * percent / 100).unsigned_abs())).await;
            }
            Step::MoveWall(by) if by < 0 => self.clock.set_wall_back(millis(by.unsigned_abs())),
            Step::MoveWall(by) => self.clock.suspend(millis(by.unsigned_abs())),
            Step::Call(caller) => self.call(caller).await,
            Step::Invalidate(nth) => {
                if let Some(id) = self.newest(nth) {
                    self.source.invalidate(&token(id));
                }
            }
            Step::InvalidateAll => self.cache.invalidate_all(),
            Step::Revoke => {
                let mut backend = self.backend.lock().unwrap();
                backend.revoked = backend.sent.len();
            }
            Step::Server(server) => self.backend.lock().unwrap().server = server,
        }
        settle().await;
    }

    async fn call(&mut self, caller: Caller) {
        let index = {
            let mut outputs = self.outputs.lock().unwrap();
            outputs.push(None);
            outputs.len() - 1
        };
        let (source, outputs) = (self.source.clone(), self.outputs.clone());
        let record = move |output| outputs.lock().unwrap()[index] = Some(output);
        match caller {
            Caller::Token => drop(tokio::spawn(async move {
                record(token_output(source.token().await))
            })),
            Caller::Renew => drop(tokio::spawn(async move {
                record(token_output(source.renew().await))
            })),
            Caller::Request | Caller::ResentRequest(_) => {
                let response = self.api.ready().await.unwrap().call(call());
                tokio::spawn(async move { record(response_output(response.await).await) });
            }
        }
    }
}

fn token(id: usize) -> AccessToken {
    bearer(format!("token-{id}"))
}

fn id(token: &str) -> usize {
    token.strip_prefix("token-").unwrap().parse().unwrap()
}

fn token_output(result: Result<IssuedToken, TokenError>) -> Output {
    match result {
        Ok(token) => Output::Token(id(token.expose_secret())),
        Err(error) => error_output(&error),
    }
}

/// Reads the number of the request from the server's text in the error message.
fn error_output(error: &TokenError) -> Output {
    let text = error.to_string();
    Output::Error(text.split_once("request <").map(|(_, rest)| {
        let (number, _) = rest.split_once('>').unwrap();
        number.parse().unwrap()
    }))
}

async fn response_output(result: Result<Response<Body>, BoxError>) -> Output {
    match result {
        Ok(response) => {
            let is_refused = response.status() == 401;
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let id = id(std::str::from_utf8(&body).unwrap());
            if is_refused {
                Output::Refused(id)
            } else {
                Output::Token(id)
            }
        }
        Err(error) => error_output(TokenError::find_in_chain(&*error).unwrap()),
    }
}

fn server(
    backend: &Shared,
) -> impl Service<Request<Body>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let backend = backend.clone();
    tower::service_fn(move |_: Request<Body>| {
        let (id, server) = {
            let mut backend = backend.lock().unwrap();
            let elapsed = now() - backend.start;
            assert_eq!(elapsed.subsec_nanos() % 1_000_000, 0, "{elapsed:?}");
            let at = i64::try_from(elapsed.as_millis()).unwrap();
            backend.sent.push(Sent { at });
            (backend.sent.len() - 1, backend.server)
        };
        async move {
            if server.mode == Mode::Silent {
                std::future::pending::<()>().await;
            }
            sleep(millis(server.latency.unsigned_abs())).await;
            Ok(answer(id, server))
        }
    })
}

fn answer(id: usize, server: Server) -> Response<Full<Bytes>> {
    let error =
        |code: &str| format!(r#"{{"error":"{code}","error_description":"request <{id}>"}}"#);
    let answer = Response::builder();
    let answer = match server.mode {
        Mode::Token | Mode::Silent => {
            let refresh_in = match server.refresh_in {
                Some(time) => format!(r#","refresh_in":{}"#, time / 1000),
                None => String::new(),
            };
            let lifetime = server.lifetime / 1000;
            let body =
                format!(r#"{{"access_token":"token-{id}","expires_in":{lifetime}{refresh_in}}}"#);
            answer.body(body)
        }
        Mode::Transient => answer.status(503).body(error("temporarily_unavailable")),
        Mode::Terminal => answer.status(401).body(error("invalid_client")),
        Mode::RetryAfter(seconds) => answer
            .status(429)
            .header("retry-after", seconds)
            .body(error("temporarily_unavailable")),
    };
    answer.unwrap().map(Full::from)
}

/// Returns an API whose responses contain the token that they received.
fn api(backend: &Shared) -> Http {
    let backend = backend.clone();
    Http::new(tower::service_fn(move |request: Request<Body>| {
        let value = request.headers()[AUTHORIZATION].to_str().unwrap();
        let token = value.strip_prefix("Bearer ").unwrap().to_owned();
        let is_revoked = id(&token) < backend.lock().unwrap().revoked;
        let body = Full::from(token);
        let response = match is_revoked {
            true => refusal().map(|_| body),
            false => Response::new(body),
        };
        async move { Ok::<_, BoxError>(response) }
    }))
}

/// Runs a step in a model, after `real` has run it. `server` is the state before the step.
fn follow(
    mut model: Model,
    step: Step,
    server: Server,
    real: &Real,
    newest: Option<usize>,
    choices: &mut Choices,
) -> Result<Model, Mismatch> {
    let (now, sent) = (real.now(), real.sent());
    match step {
        Step::Sleep(_) | Step::SleepPercent(_) => {}
        Step::MoveWall(by) => model.move_wall(by),
        Step::Call(caller) => model.call(now, caller, choices),
        Step::Invalidate(_) => {
            if let Some(id) = newest {
                model.invalidate(now, id);
            }
        }
        Step::InvalidateAll => model.invalidate_all(now, choices),
        Step::Revoke => model.revoke(),
        Step::Server(_) => {}
    }
    model.run(now, server, &sent, choices)?;
    if model.sent() != sent.len() {
        return Err(format!("{} requests, not {}", model.sent(), sent.len()));
    }
    let outputs: Vec<_> = model.outputs().collect();
    let seen = real.outputs.lock().unwrap();
    if outputs != *seen {
        return Err(format!("callers get {outputs:?}, not {seen:?}"));
    }
    let peeked = real.source.peek().map(|token| id(token.expose_secret()));
    if model.peek(now) != peeked {
        return Err(format!(
            "peek returns {:?}, not {peeked:?}",
            model.peek(now)
        ));
    }
    Ok(model)
}

async fn compare(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut real = Real::new().await;
    let mut models = vec![Model::new()];
    for (number, step) in steps.iter().copied().enumerate() {
        let server = real.backend.lock().unwrap().server;
        let newest = match step {
            Step::Invalidate(nth) => real.newest(nth),
            _ => None,
        };
        real.run(step).await;

        let mut mismatches = Vec::new();
        let mut matching = Vec::new();
        for model in models {
            let mut choices = Some(Choices::default());
            while let Some(mut current) = choices {
                match follow(model.clone(), step, server, &real, newest, &mut current) {
                    Ok(model) => matching.push(model),
                    Err(mismatch) => mismatches.push(mismatch),
                }
                choices = current.advance();
            }
        }
        models = matching;
        let at = real.now();
        prop_assert!(
            !models.is_empty(),
            "step {number}, {step:?}, at {at}: {mismatches:#?}"
        );
        prop_assert!(models.len() < 1000, "too many models match");
    }
    Ok(())
}

fn servers() -> impl Strategy<Value = Server> {
    let mode = prop_oneof![
        6 => Just(Mode::Token),
        3 => Just(Mode::Transient),
        2 => Just(Mode::Terminal),
        1 => (0..400_i64).prop_map(Mode::RetryAfter),
        1 => Just(Mode::Silent),
    ];
    // Never zero: the API answers at once, and the order of two answers at the same instant is unspecified.
    let latency = prop_oneof![Just(1), 1..500_i64, 500..5_000_i64];
    let lifetime =
        prop_oneof![0..3_i64, 3..30_i64, 30..2_000_i64].prop_map(|seconds| seconds * 1000);
    let refresh_in = prop_oneof![
        4 => Just(None),
        1 => (0..300_i64).prop_map(|seconds| Some(seconds * 1000)),
    ];
    (mode, latency, lifetime, refresh_in).prop_map(|(mode, latency, lifetime, refresh_in)| Server {
        mode,
        latency,
        lifetime,
        refresh_in,
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let time = || prop_oneof![3 => 1..300_i64, 4 => 300..3_000_i64, 4 => 3_000..60_000_i64, 1 => 60_000..2_000_000_i64];
    prop_oneof![
        10 => time().prop_map(Step::Sleep),
        5 => (0..120_i64).prop_map(Step::SleepPercent),
        1 => time().prop_map(Step::MoveWall),
        1 => time().prop_map(|time| Step::MoveWall(-time)),
        6 => Just(Step::Call(Caller::Token)),
        2 => Just(Step::Call(Caller::Renew)),
        6 => Just(Step::Call(Caller::Request)),
        2 => (0..3_usize).prop_map(Step::Invalidate),
        1 => Just(Step::InvalidateAll),
        2 => Just(Step::Revoke),
        4 => servers().prop_map(Step::Server),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_behaves_as_documented(steps in prop::collection::vec(steps(), 1..80), seed: u64) {
        // All jitter comes from this seed, so that a failure can be reproduced.
        fastrand::seed(seed);
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(compare(steps))?;
    }
}
