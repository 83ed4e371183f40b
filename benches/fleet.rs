//! How many token requests of a fleet reach the server during one simulated hour, and when. All instances start at the same moment.
//!
//! Run it with `cargo bench --bench fleet`, or with `cargo bench --bench fleet -- FILE.csv` to write a file that `benches/plot` draws.
//! `README.md` in this folder explains the results.
#![allow(
    clippy::disallowed_methods,
    reason = "the simulation uses tokio's paused clock"
)]

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{self, Instant};
use tower::{Service, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, RefreshWindow, TokenCache, TokenEndpoint, TokenRequest,
    TokenResponse,
    test_util::ManualClock,
    token_store::{MemoryTokenStore, ShareTokens, StoreKey, StoreKeys},
};

const FLEETS: [usize; 2] = [1_000, 10_000];
const HOUR: Duration = Duration::from_secs(3600);
const LIFETIME: Duration = Duration::from_secs(300);
const BIN: Duration = Duration::from_secs(10);
const BINS: usize = (HOUR.as_secs() / BIN.as_secs()) as usize;
/// The first bin after the start phase. No client can spread the requests of the start, because no instance has a token.
const SECOND_LIFETIME: usize = (LIFETIME.as_secs() / BIN.as_secs()) as usize;
const ENDPOINT_TAKES: Duration = Duration::from_millis(50);
const DOWN_FROM: Duration = Duration::from_secs(1200);
const DOWN_FOR: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// The defaults of the cache.
    Jitter,
    /// Every renewal happens at the same fraction of the lifetime.
    NoJitter,
    /// The defaults, and all instances share their tokens through a store in memory.
    SharedStore,
    /// The defaults, and a server that answers with 503 for two minutes.
    Down,
}

impl Scenario {
    const ALL: [Self; 4] = [Self::Jitter, Self::NoJitter, Self::SharedStore, Self::Down];

    fn name(self) -> &'static str {
        match self {
            Self::Jitter => "defaults",
            Self::NoJitter => "no jitter",
            Self::SharedStore => "shared store",
            Self::Down => "down for two minutes",
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // cargo passes `--bench` to every benchmark.
    let file = env::args().skip(1).find(|argument| argument != "--bench");
    let mut csv = String::from("scenario,instances,second,requests,without_token\n");
    println!(
        "{:<22} {:>9} {:>9} | from the second lifetime on, in bins of 10 s: {:>6} {:>8} {:>7} | {:>21} | {:>13}",
        "scenario",
        "instances",
        "requests",
        "mean",
        "peak",
        "x mean",
        "requests per lifetime",
        "without token"
    );
    for instances in FLEETS {
        for scenario in Scenario::ALL {
            let bins = simulate(scenario, instances);
            print(scenario, instances, &bins);
            for (bin, (requests, without)) in bins.iter().enumerate() {
                let second = bin as u64 * BIN.as_secs();
                writeln!(
                    csv,
                    "{},{instances},{second},{requests},{without}",
                    scenario.name()
                )?;
            }
        }
    }
    match file {
        Some(file) => Ok(fs::write(file, csv)?),
        None => Ok(()),
    }
}

/// For each bin: the number of requests that reached the server, and the number of instances without a token at its end.
type Bins = Vec<(u64, usize)>;

fn print(scenario: Scenario, instances: usize, bins: &Bins) {
    let later = &bins[SECOND_LIFETIME..];
    let total: u64 = bins.iter().map(|(requests, _)| requests).sum();
    let sum: u64 = later.iter().map(|(requests, _)| requests).sum();
    let peak = later
        .iter()
        .map(|(requests, _)| *requests)
        .max()
        .unwrap_or(0);
    let mean = sum as f64 / later.len() as f64;
    let lifetimes = (HOUR - LIFETIME).as_secs_f64() / LIFETIME.as_secs_f64();
    let without = bins.iter().map(|(_, without)| *without).max().unwrap_or(0);
    println!(
        "{:<22} {:>9} {:>9} | {:>52.1} {:>8} {:>7.2} | {:>21.3} | {:>11.2} %",
        scenario.name(),
        instances,
        total,
        mean,
        peak,
        peak as f64 / mean,
        sum as f64
            / lifetimes
            / if scenario == Scenario::SharedStore {
                1.0
            } else {
                instances as f64
            },
        100.0 * without as f64 / instances as f64,
    );
}

fn simulate(scenario: Scenario, instances: usize) -> Bins {
    // Every run uses the same random numbers: the whole simulation runs on this thread.
    fastrand::seed(instances as u64);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run(scenario, instances))
}

async fn run(scenario: Scenario, instances: usize) -> Bins {
    let server = Arc::new(Server::new(scenario));
    let clock = ManualClock::new();
    let window = match scenario {
        Scenario::NoJitter => RefreshWindow::new().first(0.8..=0.8).later(0.8..=0.8),
        _ => RefreshWindow::new(),
    };
    let store = MemoryTokenStore::new();
    let keys = StoreKeys::new("fleet", StoreKey::generate().expect("random numbers"));
    let sources: Vec<_> = (0..instances)
        .map(|_| {
            let endpoint = server.endpoint();
            let share = ShareTokens::new(store.clone(), keys.clone(), "the simulated server");
            let tokens = TokenCache::builder(endpoint);
            let tokens = match scenario == Scenario::SharedStore {
                true => tokens.share(share),
                false => tokens,
            };
            let tokens = tokens
                .clock(clock.clock())
                .refresh_window(window.clone())
                .max_entries(1);
            tokens
                .build()
                .source(TokenRequest::client_credentials().scope("api1"))
        })
        .collect();
    for source in &sources {
        // This renews like an instance under constant load: as soon as a token is stale and, after a failed renewal, as soon as the
        // pause is over.
        source.keep_warm().expect("a runtime");
    }
    let mut without = Vec::with_capacity(BINS);
    for bin in 1..=BINS as u32 {
        time::sleep_until(server.start + BIN * bin).await;
        without.push(
            sources
                .iter()
                .filter(|source| source.peek().is_none())
                .count(),
        );
    }
    let requests = server.requests.lock().expect("no thread panics").clone();
    requests.into_iter().zip(without).collect()
}

/// A token endpoint that counts the requests it receives.
struct Server {
    scenario: Scenario,
    start: Instant,
    requests: Mutex<Vec<u64>>,
}

impl Server {
    fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            start: Instant::now(),
            requests: Mutex::new(vec![0; BINS]),
        }
    }

    fn endpoint(self: &Arc<Self>) -> impl TokenService {
        let server = self.clone();
        TokenEndpoint::new(
            service_fn(move |_: Request<Full<Bytes>>| answer(server.clone())),
            "https://as.example/token",
            ClientAuthentication::client_secret_basic("client", "secret"),
        )
    }

    fn is_down(&self, at: Duration) -> bool {
        self.scenario == Scenario::Down && at >= DOWN_FROM && at < DOWN_FROM + DOWN_FOR
    }
}

async fn answer(server: Arc<Server>) -> Result<Response<Full<Bytes>>, BoxError> {
    let at = server.start.elapsed();
    let bin = (at.as_secs() / BIN.as_secs()) as usize;
    let number = {
        let mut requests = server.requests.lock().expect("no thread panics");
        if let Some(requests) = requests.get_mut(bin) {
            *requests += 1;
        }
        requests.iter().sum::<u64>()
    };
    time::sleep(ENDPOINT_TAKES).await;
    if server.is_down(at) {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    }
    let lifetime = LIFETIME.as_secs();
    Ok(Response::new(Full::from(format!(
        r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":{lifetime}}}"#
    ))))
}

trait TokenService:
    Service<TokenRequest, Response = TokenResponse, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> TokenService for S where
    S: Service<TokenRequest, Response = TokenResponse, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static
{
}
