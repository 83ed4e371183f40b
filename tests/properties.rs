//! Properties of a cache that hold for any lifetime, jitter, latency and call pattern; on paused time.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use proptest::{prelude::*, test_runner::TestCaseError};
use tokio::{
    runtime,
    time::{Instant, sleep},
};
use tokio_test::task;
use tower_oauth2_client::{
    RefreshWindow, TokenCache, TokenEndpoint, TokenSource, test_util::ManualClock,
};

use self::cache_support::{client, millis, now, request, secs};

/// A server with a fixed token lifetime and latency, and callers that keep asking for a token.
#[derive(Clone, Debug)]
struct Simulation {
    expires_in: f64,
    window: [f64; 4],
    latency: Duration,
    /// Which token requests succeed; repeated as needed.
    outcomes: Vec<bool>,
    /// The pauses between calls as parts of the lifetime; repeated as needed.
    call_gaps: Vec<f64>,
    seed: u64,
}

/// A token request as the server sees it. The number of the request is the text of its token.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    succeeded: bool,
}

/// Timers fire at whole milliseconds, never early.
const TICK: Duration = millis(1);

type Log = Arc<Mutex<Vec<Sent>>>;

const CALLS: usize = 120;

/// Tolerance for lifetimes that cache and test round differently.
const ROUNDING: Duration = Duration::from_micros(1);

impl Simulation {
    fn lifetime(&self) -> Duration {
        Duration::from_secs_f64(self.expires_in.max(0.0))
    }

    /// Returns how long a token can be used. The docs of `RefreshWindow` say: up to "a twentieth of its lifetime, at least 10
    /// milliseconds and at most 10 seconds" before its end.
    fn usable(&self) -> Duration {
        let lifetime = self.lifetime();
        lifetime.saturating_sub((lifetime / 20).clamp(millis(10), secs(10)))
    }

    /// Returns the earliest and the latest time at which a token is renewed.
    fn renewal(&self, is_first: bool) -> (Duration, Duration) {
        let [a, b] = match is_first {
            true => [self.window[0], self.window[1]],
            false => [self.window[2], self.window[3]],
        };
        let at = |part: f64| (self.lifetime().mul_f64(part.clamp(0.05, 0.95))).min(self.usable());
        (at(a.min(b)), at(a.max(b)))
    }

    fn source(&self, log: &Log) -> TokenSource {
        let [a, b, c, d] = self.window;
        let (simulation, log) = (self.clone(), log.clone());
        let http = tower::service_fn(move |_: Request<Full<Bytes>>| {
            let mut log = log.lock().unwrap();
            let number = log.len();
            let succeeded = simulation.outcomes[number % simulation.outcomes.len()];
            log.push(Sent {
                at: now(),
                succeeded,
            });
            let (status, body) = match succeeded {
                true => {
                    let expires_in = simulation.expires_in;
                    (
                        200,
                        format!(r#"{{"access_token":"{number}","expires_in":{expires_in}}}"#),
                    )
                }
                false => (503, String::new()),
            };
            let answer = Response::builder()
                .status(status)
                .body(Full::<Bytes>::from(body));
            let latency = simulation.latency;
            async move {
                sleep(latency).await;
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        let cache =
            TokenCache::builder(TokenEndpoint::new(http, "https://as.test/token", client()))
                .clock(ManualClock::new().clock())
                .refresh_window(RefreshWindow::new().first(a..=b).later(c..=d))
                .build();
        cache.source(request())
    }

    /// Runs the calls, checks each result, and returns the requests that were sent.
    fn run(&self) -> Result<Vec<Sent>, TestCaseError> {
        fastrand::seed(self.seed);
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let log = Log::default();
            let source = self.source(&log);
            for call in 0..CALLS {
                self.check_call(&source, &log).await?;
                let part = self.call_gaps[call % self.call_gaps.len()];
                sleep(self.lifetime().mul_f64(part).max(millis(1))).await;
                self.check_renewal(&log)?;
            }
            let sent = log.lock().unwrap().clone();
            Ok(sent)
        })
    }

    async fn check_call(&self, source: &TokenSource, log: &Log) -> Result<(), TestCaseError> {
        let at = |number: usize| log.lock().unwrap()[number].at;
        let newest = {
            let log = log.lock().unwrap();
            // The newest token that has arrived.
            let mut answered = log.iter().filter(|sent| sent.succeeded);
            answered
                .rfind(|sent| now() >= sent.at + self.latency + TICK)
                .copied()
        };
        let mut calling = task::spawn(source.token());
        let at_once = calling.poll();
        let waits = at_once.is_pending();
        if let Some(newest) = newest {
            let is_usable = now() - newest.at + ROUNDING < self.usable();
            prop_assert!(
                !(is_usable && waits),
                "a caller waits although a usable token exists"
            );
        }
        let result = match at_once {
            Poll::Ready(result) => result,
            Poll::Pending => calling.await,
        };
        match result {
            Ok(token) if !waits => {
                let age = now() - at(token.expose_secret().parse().unwrap());
                prop_assert!(age < self.usable() + ROUNDING, "{age:?} old");
                prop_assert!(age < self.lifetime(), "{age:?} old");
            }
            Ok(token) => {
                // A waiting caller gets the token that arrived, even if it has already expired.
                let number: usize = token.expose_secret().parse().unwrap();
                prop_assert_eq!(number, log.lock().unwrap().len() - 1);
                let age = now() - at(number);
                prop_assert!(
                    age >= self.latency && age <= self.latency + TICK,
                    "{age:?} old"
                );
            }
            Err(error) => {
                prop_assert!(error.is_transient(), "{error}");
                if let Some(newest) = newest {
                    let age = now() - newest.at;
                    prop_assert!(
                        age + ROUNDING > self.usable(),
                        "an error although a token of {age:?} exists"
                    );
                }
            }
        }
        Ok(())
    }

    /// Checks that a stale token is being renewed. A caller has just asked, so only a pause after a failure may delay it.
    fn check_renewal(&self, log: &Log) -> Result<(), TestCaseError> {
        let log = log.lock().unwrap();
        let Some(last) = log.last().filter(|last| last.succeeded) else {
            return Ok(());
        };
        let is_first = log.iter().filter(|sent| sent.succeeded).count() == 1;
        let longest = self.call_gaps.iter().fold(0.0_f64, |a, b| a.max(*b));
        let step = self.lifetime().mul_f64(longest).max(millis(1));
        let latest = self.renewal(is_first).1.max(secs(1)).max(self.latency) + 2 * step + millis(2);
        let age = now() - last.at;
        prop_assert!(age <= latest, "not renewed for {age:?}");
        Ok(())
    }
}

/// Checks that at most one fetch per second is sent. A fetch has one attempt, or two if the first one fails while callers wait.
///
/// After consecutive failures there is a pause of at least half a second, which doubles up to half a minute. While the last token is
/// usable, it is shorter if six attempts would not fit into the rest of its life otherwise.
fn check_spacing(simulation: &Simulation, sent: &[Sent]) -> Result<(), TestCaseError> {
    let mut last_was_retry = false;
    let mut failures = 0;
    let mut usable_until = None;
    for pair in sent.windows(2) {
        if pair[0].succeeded {
            usable_until = Some(pair[0].at + simulation.usable());
        }
        let gap = pair[1].at - pair[0].at;
        // The pause after a failed fetch is always longer than the one before a second attempt.
        let is_retry =
            !pair[0].succeeded && !last_was_retry && gap <= simulation.latency + millis(401);
        last_was_retry = is_retry;
        if is_retry {
            prop_assert!(gap >= simulation.latency + millis(200), "{gap:?}");
            continue;
        }
        prop_assert!(gap >= secs(1), "{gap:?}");
        failures = if pair[0].succeeded { 0 } else { failures + 1 };
        if failures > 0 {
            let usual = millis(500) * 2_u32.saturating_pow(failures - 1).min(60);
            let failed_at = pair[0].at + simulation.latency;
            let left = usable_until.map_or(Duration::ZERO, |until| until - failed_at);
            let pause = match left.is_zero() {
                true => usual,
                false => usual.min(shortened(left, failures).max(secs(1))),
            };
            prop_assert!(
                gap >= simulation.latency + pause,
                "{gap:?} after {failures} failures"
            );
        }
    }
    Ok(())
}

/// Returns the shortest pause after this many failures while a token is usable for `left`.
fn shortened(left: Duration, failures: u32) -> Duration {
    match 6_u32.saturating_sub(failures) {
        0 => left.saturating_sub(ROUNDING),
        remaining => left / (remaining + 1) / 2,
    }
}

fn lifetimes() -> impl Strategy<Value = f64> {
    prop_oneof![
        -10.0..=0.0,
        0.0..0.2,
        0.2..20.0,
        20.0..7200.0,
        7200.0..=315_360_000.0,
        (-10..=315_360_000_i64).prop_map(|seconds| seconds as f64),
    ]
}

fn simulations(
    part: impl Strategy<Value = f64> + Clone,
    outcomes: impl Strategy<Value = Vec<bool>>,
) -> impl Strategy<Value = Simulation> {
    let latency = prop_oneof![Just(0_u64), 1..100_u64, 100..5_000_u64].prop_map(millis);
    let call_gaps = prop::collection::vec(0.001..0.15, 1..8);
    let window = [part.clone(), part.clone(), part.clone(), part];
    (
        lifetimes(),
        window,
        latency,
        outcomes,
        call_gaps,
        any::<u64>(),
    )
        .prop_map(|(expires_in, window, latency, outcomes, call_gaps, seed)| {
            let mut simulation = Simulation {
                expires_in,
                window,
                latency,
                outcomes,
                call_gaps,
                seed,
            };
            // A token that expires before it arrives is an error, which the scenarios cover.
            if !simulation.usable().is_zero() {
                let half = (simulation.usable() / 2).as_millis() as u64;
                simulation.latency = simulation.latency.min(millis(half));
            }
            simulation
        })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// This holds for any bounds, sensible or not. Renewals are also at least one second apart.
    #[test]
    fn tokens_are_not_renewed_before_their_window(simulation in simulations(-0.5..1.5, Just(vec![true]))) {
        let sent = simulation.run()?;
        check_spacing(&simulation, &sent)?;
        for (number, pair) in sent.windows(2).enumerate() {
            let gap = pair[1].at - pair[0].at;
            let earliest = simulation.renewal(number == 0).0;
            prop_assert!(gap + ROUNDING >= earliest, "renewed after {gap:?}, before {earliest:?}");
            prop_assert!(gap >= secs(1));
        }
    }

    /// The bounds are at least 0.5, as those for later renewals are by default.
    #[test]
    fn at_most_two_fetches_succeed_within_a_lifetime(simulation in simulations(0.5..1.0, Just(vec![true]))) {
        let sent = simulation.run()?;
        for three in sent.windows(3) {
            let time = three[2].at - three[0].at;
            prop_assert!(time + ROUNDING >= simulation.lifetime(), "{time:?}");
        }
    }

    #[test]
    fn at_most_two_fetches_succeed_within_a_lifetime_by_default(simulation in simulations(Just(0.0), Just(vec![true]))) {
        let simulation = Simulation { window: [0.4, 0.9, 0.75, 0.85], ..simulation };
        let sent = simulation.run()?;
        for three in sent.windows(3) {
            let time = three[2].at - three[0].at;
            prop_assert!(time + ROUNDING >= simulation.lifetime(), "{time:?}");
        }
    }

    #[test]
    fn failures_do_not_replace_tokens_and_are_spaced_out(
        simulation in simulations(0.05..0.95, prop::collection::vec(any::<bool>(), 1..6)),
    ) {
        let sent = simulation.run()?;
        check_spacing(&simulation, &sent)?;
    }
}
