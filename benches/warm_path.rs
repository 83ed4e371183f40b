//! What a request pays for its token while that token is fresh: every rule of the layer on, beside tower-http's fixed header.
//!
//! `README.md` beside this file says how to run it and how to read what it prints.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock by itself"
)]

use std::{
    env,
    error::Error,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    process::Command,
    sync::{Barrier, LazyLock},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_http::auth::AddAuthorizationLayer;
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, TokenCache, TokenRequest, TokenResponse,
    TokenSource, TokenType, add_access_token::CloneBody,
};

const TOKEN_LENGTH: usize = 800;
const LAUNCHES: usize = 11;
const ROUNDS: usize = 51;
const CALLS_PER_ROUND: u32 = 4_000;
const WARM_UP_CALLS: u32 = 100;

const BARE: &str = "bare";
const FLOOR: &str = "fixed token";

/// Parsed once, since that would cost more than all that is measured here.
static URI: LazyLock<Uri> =
    LazyLock::new(|| Uri::from_static("https://api.example/v1/items?limit=10"));

type Body = Full<Bytes>;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let token = "x".repeat(TOKEN_LENGTH);
    let source = source(&token)?;
    runtime.block_on(source.warm_up())?;
    let cases = cases(&token, source);

    // cargo passes `--bench` to every benchmark.
    let arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(&cases)?,
        ["--launch"] => launch(&cases),
        ["--list"] => cases.iter().for_each(|case| println!("{}", case.name())),
        ["--once", name, calls] => {
            let case = cases.iter().find(|case| case.name() == *name);
            let case = case.ok_or("no such case; `--list` names them")?;
            (case.run)(calls.parse()?);
        }
        _ => return Err("usage: [--list | --launch | --once CASE CALLS]".into()),
    }
    Ok(())
}

/// One service, called in one way.
struct Case {
    service: &'static str,
    usage: Usage,
    /// Calls so often on each thread.
    run: Box<dyn Fn(u32) -> Cost>,
}

/// Of one call, as seen by its thread.
#[derive(Clone, Copy, Default)]
struct Cost {
    nanos: f64,
    allocations: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Usage {
    /// One service instance.
    OneThread,
    /// An instance for each of two threads, both of one layer.
    TwoThreads,
    /// An instance cloned for each request.
    ClonePerRequest,
    /// An instance cloned for each request, on two threads.
    ClonePerRequestTwoThreads,
}

impl Usage {
    const ALL: [Self; 4] = [
        Self::OneThread,
        Self::TwoThreads,
        Self::ClonePerRequest,
        Self::ClonePerRequestTwoThreads,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::OneThread => "one thread",
            Self::TwoThreads => "two threads",
            Self::ClonePerRequest => "clone per request",
            Self::ClonePerRequestTwoThreads => "clone per request, two threads",
        }
    }

    fn threads(self) -> usize {
        match self {
            Self::OneThread | Self::ClonePerRequest => 1,
            Self::TwoThreads | Self::ClonePerRequestTwoThreads => 2,
        }
    }

    fn clones(self) -> bool {
        matches!(
            self,
            Self::ClonePerRequest | Self::ClonePerRequestTwoThreads
        )
    }
}

impl Case {
    fn name(&self) -> String {
        format!("{}, {}", self.service, self.usage.name())
    }
}

fn cases(token: &str, source: TokenSource) -> Vec<Case> {
    let inner = service_fn(answer);
    let mut cases = Vec::new();
    add_cases(&mut cases, BARE, inner);
    let fixed = AddAuthorizationLayer::bearer(token).as_sensitive(true);
    add_cases(&mut cases, FLOOR, fixed.layer(inner));
    let ours = AddAccessTokenLayer::new(source.clone());
    add_cases(&mut cases, "access token", ours.layer(inner));
    let resending = AddAccessTokenLayer::new(source).resend(CloneBody);
    add_cases(&mut cases, "access token, resend", resending.layer(inner));
    cases
}

fn add_cases<S>(cases: &mut Vec<Case>, name: &'static str, service: S)
where
    S: Service<Request<Body>> + Clone + Send + 'static,
{
    cases.extend(Usage::ALL.map(|usage| {
        let service = service.clone();
        Case {
            service: name,
            usage,
            run: Box::new(move |calls| run(&service, usage, calls)),
        }
    }));
}

/// Calls on threads of their own, even if it is one: malloc treats the main thread otherwise.
fn run<S>(service: &S, usage: Usage, calls: u32) -> Cost
where
    S: Service<Request<Body>> + Clone + Send,
{
    let barrier = Barrier::new(usage.threads());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..usage.threads())
            .map(|_| {
                let (service, barrier) = (service.clone(), &barrier);
                scope.spawn(move || run_thread(service, usage, calls, barrier))
            })
            .collect();
        let mut sum = Cost::default();
        for thread in threads {
            match thread.join() {
                Ok(cost) => {
                    sum.nanos += cost.nanos / usage.threads() as f64;
                    sum.allocations += cost.allocations / usage.threads() as f64;
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        sum
    })
}

fn run_thread<S>(mut service: S, usage: Usage, calls: u32, barrier: &Barrier) -> Cost
where
    S: Service<Request<Body>> + Clone,
{
    call_often(&mut service, usage, WARM_UP_CALLS);
    barrier.wait();
    let mut time = Duration::ZERO;
    let counted = allocation_counter::measure(|| {
        let start = Instant::now();
        call_often(&mut service, usage, calls);
        time = start.elapsed();
    });
    Cost {
        nanos: time.as_nanos() as f64 / f64::from(calls),
        allocations: counted.count_total as f64 / f64::from(calls),
    }
}

#[inline(never)]
fn call_often<S>(service: &mut S, usage: Usage, calls: u32)
where
    S: Service<Request<Body>> + Clone,
{
    for _ in 0..calls {
        if usage.clones() {
            call_once(&mut service.clone());
        } else {
            call_once(service);
        }
    }
}

/// Makes ready, calls, and polls to the end, with nothing in between that costs.
fn call_once<S: Service<Request<Body>>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    let future = pin!(service.call(black_box(request())));
    match future.poll(&mut cx) {
        Poll::Ready(Ok(response)) => drop(black_box(response)),
        Poll::Ready(Err(_)) | Poll::Pending => panic!("the service answers at once"),
    }
}

fn request() -> Request<Body> {
    let mut request = Request::new(Body::new(Bytes::from_static(b"{}")));
    *request.uri_mut() = URI.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("api.example"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("warm_path"));
    request
}

/// The inner service: answers at once, with the headers and the body of the request. Its future is boxed, as that of
/// hyper-util's client is, so it costs little to move.
type Answer = Ready<Result<Response<Body>, BoxError>>;

fn answer(request: Request<Body>) -> Pin<Box<Answer>> {
    let (parts, body) = black_box(request).into_parts();
    let mut response = Response::new(body);
    *response.headers_mut() = parts.headers;
    Box::pin(ready(Ok(response)))
}

fn source(token: &str) -> Result<TokenSource, Box<dyn Error>> {
    let token = AccessToken::new(token, TokenType::BEARER)?;
    let response = TokenResponse::builder(token)
        .expires_in(Duration::from_secs(3600))
        .build();
    let endpoint = service_fn(move |_: TokenRequest| ready(Ok::<_, BoxError>(response.clone())));
    Ok(TokenCache::new(endpoint).source(TokenRequest::client_credentials().scope("api1")))
}

/// Measures in launches of this very program, since where code and stack lie in memory is drawn at each, and moves the times
/// of all calls; then prints a line for each case.
fn measure(cases: &[Case]) -> Result<(), Box<dyn Error>> {
    let mut launches = Vec::new();
    for _ in 0..LAUNCHES {
        launches.push(launch_once(cases.len())?);
    }
    println!(
        "{:<52} {:>9} {:>10} {:>9} {:>12} {:>8}",
        "case", "ns/call", "over bare", "x floor", "allocations", "of ours"
    );
    let median_of = |of: &dyn Fn(&[Cost]) -> f64| median(launches.iter().map(|launch| of(launch)));
    for (index, case) in cases.iter().enumerate() {
        let bare = beside(cases, case, BARE);
        let floor = beside(cases, case, FLOOR);
        let over = |index: usize| median_of(&|it| it[index].nanos - it[bare].nanos);
        println!(
            "{:<52} {:>9.1} {:>10.1} {:>9.2} {:>12.2} {:>8.2}",
            case.name(),
            median_of(&|it| it[index].nanos),
            over(index),
            over(index) / over(floor),
            median_of(&|it| it[index].allocations),
            median_of(&|it| it[index].allocations - it[bare].allocations),
        );
    }
    Ok(())
}

/// What another process of this program prints: a line for each case.
fn launch_once(cases: usize) -> Result<Vec<Cost>, Box<dyn Error>> {
    let output = Command::new(env::current_exe()?).arg("--launch").output()?;
    let lines = String::from_utf8(output.stdout)?;
    let costs = lines.lines().map(|line| {
        let (nanos, allocations) = line.split_once(' ').ok_or("not a line of a launch")?;
        Ok(Cost {
            nanos: nanos.parse()?,
            allocations: allocations.parse()?,
        })
    });
    let costs = costs.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    match costs.len() == cases {
        true => Ok(costs),
        false => Err(format!("a launch ended with {}", output.status).into()),
    }
}

fn launch(cases: &[Case]) {
    let mut costs = vec![Vec::new(); cases.len()];
    // Interleaved, so that what disturbs the machine disturbs all cases alike.
    for _ in 0..ROUNDS {
        for (case, costs) in cases.iter().zip(&mut costs) {
            costs.push((case.run)(CALLS_PER_ROUND));
        }
    }
    for costs in costs {
        let nanos = median(costs.iter().map(|cost| cost.nanos));
        let allocations = median(costs.iter().map(|cost| cost.allocations));
        println!("{nanos} {allocations}");
    }
}

/// The same usage of another service.
fn beside(cases: &[Case], case: &Case, service: &str) -> usize {
    let is_it = |other: &Case| other.service == service && other.usage == case.usage;
    cases.iter().position(is_it).unwrap_or_default()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
