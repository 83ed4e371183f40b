//! Many simultaneous callers without a token, over an endpoint that takes 50 ms: how many requests it receives, and how long the callers
//! wait. Then the same over an endpoint that refuses.
#![allow(
    clippy::disallowed_methods,
    reason = "benchmarks read the clock directly"
)]

#[path = "../../support/mod.rs"]
mod support;

use std::{
    env,
    time::{Duration, Instant},
};

use peers::{
    BoxError, Peer,
    aws::Aws,
    azure::Azure,
    by_hand::{Locked, Precise, Swap},
    endpoint::Endpoint,
    google::Google,
    huskarl::Huskarl,
    ours::Ours,
    yup::Yup,
};
use tokio::{runtime, task::JoinSet, time::timeout};

use self::support::{median, process_time};

const ROUNDS: usize = 5;
const CALLERS: usize = 10_000;
const CALLERS_OF_A_FAILURE: usize = 100;
const ENDPOINT_TAKES: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Clone, Copy)]
enum Who {
    Ours,
    Swap,
    Locked,
    Huskarl,
    Google,
    Azure,
    Yup,
    Aws,
}

impl Who {
    const ALL: [Self; 8] = [
        Self::Ours,
        Self::Swap,
        Self::Locked,
        Self::Huskarl,
        Self::Google,
        Self::Azure,
        Self::Yup,
        Self::Aws,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "this crate",
            Self::Swap => "hand-written: ArcSwap and a mutex",
            Self::Locked => "hand-written: tokio RwLock",
            Self::Huskarl => "huskarl",
            Self::Google => "google-cloud-auth",
            Self::Azure => "azure_identity",
            Self::Yup => "yup-oauth2",
            Self::Aws => "aws-smithy-runtime",
        }
    }

    async fn measure(self, callers: usize, endpoint: Endpoint) -> Result<Cost, BoxError> {
        match self {
            Self::Ours => stampede(Ours::new(&endpoint), callers, &endpoint).await,
            Self::Swap => stampede(Swap::<Precise>::new(&endpoint), callers, &endpoint).await,
            Self::Locked => stampede(Locked::new(&endpoint), callers, &endpoint).await,
            Self::Huskarl => stampede(Huskarl::new(&endpoint)?, callers, &endpoint).await,
            Self::Google => stampede(Google::new(&endpoint).await?, callers, &endpoint).await,
            Self::Azure => stampede(Azure::new(&endpoint)?, callers, &endpoint).await,
            Self::Yup => stampede(Yup::new(&endpoint).await?, callers, &endpoint).await,
            Self::Aws => stampede(Aws::new(&endpoint)?, callers, &endpoint).await,
        }
    }
}

struct Cost {
    wall: f64,
    cpu: f64,
    requests: f64,
    tokens: f64,
    answered: f64,
}

fn main() -> support::Result<()> {
    let rounds = env::args().find_map(|argument| argument.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    let token = "x".repeat(800);
    println!(
        "{:<30} {:>9} {:>7} {:>9} {:>9} {:>9} {:>7} {:>9}",
        "peer", "endpoint", "callers", "wall ms", "cpu ms", "requests", "tokens", "answered"
    );
    for (what, callers) in [("token", CALLERS), ("failure", CALLERS_OF_A_FAILURE)] {
        let mut costs: Vec<Vec<Cost>> = Who::ALL.map(|_| Vec::new()).into();
        for round in 0..rounds.max(1) {
            for (who, costs) in Who::ALL.into_iter().zip(&mut costs) {
                // Peers that take seconds do so in every round.
                if round > 0 && costs.iter().any(|cost| cost.wall > 2.0) {
                    continue;
                }
                let endpoint = match what {
                    "token" => Endpoint::new(&token, ENDPOINT_TAKES),
                    _ => Endpoint::refusing(ENDPOINT_TAKES),
                };
                let runtime = runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()?;
                costs.push(runtime.block_on(who.measure(callers, endpoint))?);
                runtime.shutdown_background();
            }
        }
        for (who, costs) in Who::ALL.into_iter().zip(costs) {
            let median_of = |of: fn(&Cost) -> f64| median(costs.iter().map(of));
            println!(
                "{:<30} {:>9} {:>7} {:>9.1} {:>9.1} {:>9} {:>7} {:>9}",
                who.name(),
                what,
                callers,
                median_of(|cost| cost.wall) * 1e3,
                median_of(|cost| cost.cpu) * 1e3,
                median_of(|cost| cost.requests),
                median_of(|cost| cost.tokens),
                median_of(|cost| cost.answered),
            );
        }
    }
    Ok(())
}

async fn stampede(peer: impl Peer, callers: usize, endpoint: &Endpoint) -> Result<Cost, BoxError> {
    let (start, processor) = (Instant::now(), process_time());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let peer = peer.clone();
        tasks.spawn(async move { peer.authorization().await.is_ok() });
    }
    let (mut tokens, mut answered) = (0, 0);
    let all = async {
        while let Some(outcome) = tasks.join_next().await {
            answered += 1;
            tokens += usize::from(outcome.expect("the caller does not panic"));
        }
    };
    // Callers without a result by then are not counted as answered.
    let _ = timeout(PATIENCE, all).await;
    Ok(Cost {
        wall: start.elapsed().as_secs_f64(),
        cpu: (process_time() - processor).as_secs_f64(),
        requests: endpoint.requests() as f64,
        tokens: tokens as f64,
        answered: answered as f64,
    })
}
