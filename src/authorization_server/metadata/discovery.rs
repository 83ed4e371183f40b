//! The metadata of one issuer: obtained once, shared, and renewed.

use std::{
    fmt,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    ServerMetadata,
    fetch::{self, Http, Rules},
};
use crate::{
    base::{
        clock::{Clock, Moment},
        panic::catch_panic,
        single_flight::driven::Driven,
        sync::{Mutex, MutexGuard},
    },
    error::{TokenError, TokenErrorKind},
};

/// Long enough that asking costs nothing, short enough that a server that moves is found again within a shift.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// How long a fetch is waited for by those who come later, and the least time between two renewals.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a fetch came to.
type Outcome = Result<Arc<ServerMetadata>, TokenError>;

/// Obtains the metadata of an issuer. Clones share what was obtained.
#[derive(Clone)]
pub(crate) struct Discovery {
    shared: Arc<Shared>,
    pub(crate) lifetime: Duration,
    pub(crate) clock: Clock,
    /// Whether a client that does not prove itself by TLS goes to the alias, too.
    pub(crate) by_alias: bool,
}

/// The lock is never held across an await, nor while code of the user runs.
struct Shared {
    issuer: Arc<str>,
    http: Arc<Http>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// The last fetch, under way or not.
    fetch: Option<Fetch>,
    fetches: u64,
}

struct Held {
    metadata: Arc<ServerMetadata>,
    /// Of the fetch that brought it.
    number: u64,
    obtained: Moment,
}

struct Fetch {
    number: u64,
    begun: Moment,
    /// Nothing once it has landed, or nobody waits for it any more.
    flight: Weak<Driven<Outcome>>,
    /// What drives it, if no token request does.
    task: Option<AbortHandle>,
}

enum Found {
    Usable(Arc<ServerMetadata>),
    /// With the renewal, which nobody drives yet, and its number.
    Stale(Arc<ServerMetadata>, u64, Arc<Driven<Outcome>>),
    Nothing(Arc<Driven<Outcome>>),
}

/// What is to be done by who needs the metadata.
#[derive(Debug, PartialEq)]
enum Step {
    Use,
    UseAndRenew,
    Join,
    Fetch,
}

/// `obtained` is when what is held was asked for, `begun` when the last fetch began.
fn decide(
    now: Moment,
    lifetime: Duration,
    obtained: Option<Moment>,
    begun: Option<Moment>,
    is_under_way: bool,
) -> Step {
    let is_recent = begun.is_some_and(|begun| !now.has_reached(begun.after(PATIENCE)));
    match obtained {
        Some(obtained) if !now.has_reached(obtained.after(lifetime)) => Step::Use,
        // Whether the renewal is under way or has failed: the old ones serve meanwhile.
        Some(_) if is_recent => Step::Use,
        Some(_) => Step::UseAndRenew,
        None if is_under_way && is_recent => Step::Join,
        None => Step::Fetch,
    }
}

impl Discovery {
    pub(crate) fn new(issuer: String, http: Http) -> Self {
        Self {
            shared: Arc::new(Shared {
                issuer: issuer.into(),
                http: Arc::new(http),
                state: Mutex::default(),
            }),
            lifetime: DEFAULT_LIFETIME,
            clock: Clock::system(),
            by_alias: false,
        }
    }

    pub(crate) fn issuer(&self) -> &Arc<str> {
        &self.shared.issuer
    }

    /// What is held, as long as it is fresh; else what the one fetch brings that everybody waits for.
    ///
    /// What is no longer fresh serves while it is renewed, and after that failed.
    pub(crate) async fn metadata(&self, rules: Rules) -> Outcome {
        match self.look(rules) {
            Found::Usable(metadata) => Ok(metadata),
            Found::Stale(metadata, number, renewal) => {
                Ok(self.renew(number, renewal).await.unwrap_or(metadata))
            }
            Found::Nothing(flight) => outcome_of(flight).await,
        }
    }

    fn look(&self, rules: Rules) -> Found {
        let now = self.clock.now();
        // Before the lock, so that it is dropped after it: it may be the last to hold a request of the user's HTTP service.
        let under_way;
        let mut state = self.shared.lock();
        under_way = state
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.flight.upgrade());
        let step = decide(
            now,
            self.lifetime,
            state.held.as_ref().map(|held| held.obtained),
            state.fetch.as_ref().map(|fetch| fetch.begun),
            under_way.is_some(),
        );
        let held = state.held.as_ref().map(|held| held.metadata.clone());
        match (step, held, &under_way) {
            (Step::Use, Some(held), _) => Found::Usable(held),
            (Step::Join, _, Some(flight)) => Found::Nothing(flight.clone()),
            (_, held, _) => {
                let (number, flight) = self.begin(&mut state, now, rules);
                match held {
                    Some(held) => Found::Stale(held, number, flight),
                    None => Found::Nothing(flight),
                }
            }
        }
    }

    fn begin(&self, state: &mut State, now: Moment, rules: Rules) -> (u64, Arc<Driven<Outcome>>) {
        state.fetches += 1;
        let number = state.fetches;
        let shared = Arc::downgrade(&self.shared);
        let (http, issuer) = (self.shared.http.clone(), self.shared.issuer.clone());
        let flight = Driven::new(async move {
            let fetched = catch_panic(fetch::fetch(&http, &issuer, rules)).await;
            let outcome = fetched.unwrap_or_else(|| Err(panicked())).map(Arc::new);
            if let Some(shared) = shared.upgrade() {
                shared.land(number, now, &outcome);
            }
            outcome
        });
        let last = state.fetch.replace(Fetch {
            number,
            begun: now,
            flight: Arc::downgrade(&flight),
            task: None,
        });
        abort(last);
        (number, flight)
    }

    /// In the background if there is a runtime: nobody need wait for it then.
    async fn renew(
        &self,
        number: u64,
        renewal: Arc<Driven<Outcome>>,
    ) -> Option<Arc<ServerMetadata>> {
        let Ok(runtime) = Handle::try_current() else {
            return note(&self.shared.issuer, outcome_of(renewal).await);
        };
        let issuer = self.shared.issuer.clone();
        let task = runtime.spawn(async move {
            note(&issuer, outcome_of(renewal).await);
        });
        let mut state = self.shared.lock();
        match state.fetch.as_mut().filter(|fetch| fetch.number == number) {
            Some(fetch) => fetch.task = Some(task.abort_handle()),
            // Another one has been begun since.
            None => task.abort(),
        }
        None
    }
}

impl Shared {
    fn land(&self, number: u64, asked: Moment, outcome: &Outcome) {
        let mut state = self.lock();
        let is_newer = state.held.as_ref().is_none_or(|held| held.number < number);
        if let (Ok(metadata), true) = (outcome, is_newer) {
            state.held = Some(Held {
                metadata: metadata.clone(),
                number,
                obtained: asked,
            });
        }
        if let Some(fetch) = state.fetch.as_mut().filter(|fetch| fetch.number == number) {
            fetch.flight = Weak::new();
            fetch.task = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    /// A renewal ends with the last handle.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        abort(state.fetch.take());
    }
}

fn abort(fetch: Option<Fetch>) {
    if let Some(task) = fetch.and_then(|fetch| fetch.task) {
        task.abort();
    }
}

async fn outcome_of(flight: Arc<Driven<Outcome>>) -> Outcome {
    // A panic of the HTTP client is an outcome, so the flight is lost only by another one.
    let outcome = flight.outcome().await;
    outcome.unwrap_or_else(|| Err(panicked()))
}

/// Tells of a renewal that failed, which nobody else hears of.
fn note(issuer: &str, outcome: Outcome) -> Option<Arc<ServerMetadata>> {
    outcome
        .inspect_err(|error| {
            tracing::warn!(
                target: "tower_oauth2_client::metadata",
                issuer,
                %error,
                "the metadata could not be renewed; those from before are used",
            );
        })
        .ok()
}

fn panicked() -> TokenError {
    let message = "the HTTP client panicked while it fetched the metadata of the issuer";
    TokenError::metadata(TokenErrorKind::Service, message, None, None, None)
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_when() {
        const fn at(seconds: u64) -> Moment {
            let seconds = Duration::from_secs(seconds);
            Moment::new(seconds, seconds)
        }
        let lifetime = Duration::from_secs(100);
        for (now, obtained, begun, is_under_way, expected) in [
            (0, None, None, false, Step::Fetch),
            (1, None, Some(0), true, Step::Join),
            (1, None, Some(0), false, Step::Fetch),
            (30, None, Some(0), true, Step::Fetch),
            (99, Some(0), Some(0), false, Step::Use),
            (100, Some(0), Some(0), false, Step::UseAndRenew),
            (101, Some(0), Some(100), true, Step::Use),
            (129, Some(0), Some(100), false, Step::Use),
            (130, Some(0), Some(100), false, Step::UseAndRenew),
            (130, Some(0), Some(100), true, Step::UseAndRenew),
            (131, Some(130), Some(130), false, Step::Use),
        ] {
            assert_eq!(
                decide(
                    at(now),
                    lifetime,
                    obtained.map(at),
                    begun.map(at),
                    is_under_way
                ),
                expected,
                "{now} {obtained:?} {begun:?} {is_under_way}"
            );
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_renews() {
        let seconds = Duration::from_secs;
        let then = Moment::new(seconds(10), seconds(10));
        let now = Moment::new(seconds(10), seconds(9000));
        let lifetime = seconds(100);
        assert_eq!(
            decide(now, lifetime, Some(then), Some(then), false),
            Step::UseAndRenew
        );
    }
}
