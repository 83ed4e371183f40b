//! The metadata of one issuer: fetched once, shared, and renewed.

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

/// Long enough that fetching costs nothing, short enough that a server that moves is found again soon.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// How long later callers wait for a fetch before they start another, and the minimum time between two renewals.
const PATIENCE: Duration = Duration::from_secs(30);

type MetadataResult = Result<Arc<ServerMetadata>, TokenError>;

/// Fetches the metadata of an issuer. Clones share them.
#[derive(Clone)]
pub(crate) struct Discovery {
    inner: Arc<Inner>,
    pub(crate) lifetime: Duration,
    pub(crate) clock: Clock,
    /// Whether a client that does not authenticate by TLS uses the alias too.
    pub(crate) by_alias: bool,
}

/// What clones share. The lock is never held across an await, nor while user code runs.
struct Inner {
    issuer: Arc<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cached: Option<CachedMetadata>,
    /// The last fetch, even if it has ended.
    fetch: Option<MetadataFetch>,
    fetches: u64,
}

struct CachedMetadata {
    metadata: Arc<ServerMetadata>,
    /// Of the fetch that returned them.
    number: u64,
    obtained: Moment,
}

struct MetadataFetch {
    number: u64,
    begun: Moment,
    /// Empty after the flight has landed, or when no caller waits for it.
    flight: Weak<Driven<MetadataResult>>,
    /// The task that drives it, if no caller does.
    task: Option<AbortHandle>,
}

enum Availability {
    Usable(Arc<ServerMetadata>),
    /// With the number of the renewal and the renewal, which no task or caller drives yet.
    Stale(Arc<ServerMetadata>, u64, Arc<Driven<MetadataResult>>),
    Fetching(Arc<Driven<MetadataResult>>),
}

/// What a caller that needs the metadata does.
#[derive(Debug, PartialEq)]
enum Step {
    Use,
    UseAndRenew,
    Join,
    Fetch,
}

/// `obtained` is when the fetch of the cached metadata began, `begun` when the last fetch began.
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
        // Whether the renewal is under way or has failed, the old metadata stays in use.
        Some(_) if is_recent => Step::Use,
        Some(_) => Step::UseAndRenew,
        None if is_under_way && is_recent => Step::Join,
        None => Step::Fetch,
    }
}

impl Discovery {
    pub(crate) fn new(issuer: String) -> Self {
        Self {
            inner: Arc::new(Inner {
                issuer: issuer.into(),
                state: Mutex::default(),
            }),
            lifetime: DEFAULT_LIFETIME,
            clock: Clock::default(),
            by_alias: false,
        }
    }

    pub(crate) fn issuer(&self) -> &Arc<str> {
        &self.inner.issuer
    }

    /// Returns the cached metadata if they are fresh. Otherwise all callers wait for one fetch.
    ///
    /// Metadata that are no longer fresh are used while they are renewed, and if that fails. A fetch that this call begins goes through
    /// `http`.
    pub(crate) async fn metadata(&self, http: &Http, rules: Rules) -> MetadataResult {
        match self.look(http, rules) {
            Availability::Usable(metadata) => Ok(metadata),
            Availability::Stale(metadata, number, renewal) => {
                Ok(self.renew(number, renewal).await.unwrap_or(metadata))
            }
            Availability::Fetching(flight) => outcome_of(flight).await,
        }
    }

    fn look(&self, http: &Http, rules: Rules) -> Availability {
        let now = self.clock.now();
        // Declared before the lock, so that it is dropped after it: it may be the last owner of a request of the user's HTTP service.
        let under_way;
        let mut state = self.inner.lock();
        under_way = state
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.flight.upgrade());
        let step = decide(
            now,
            self.lifetime,
            state.cached.as_ref().map(|cached| cached.obtained),
            state.fetch.as_ref().map(|fetch| fetch.begun),
            under_way.is_some(),
        );
        let cached = state.cached.as_ref().map(|cached| cached.metadata.clone());
        match (step, cached, &under_way) {
            (Step::Use, Some(cached), _) => Availability::Usable(cached),
            (Step::Join, _, Some(flight)) => Availability::Fetching(flight.clone()),
            (_, cached, _) => {
                let (number, flight) = self.begin(&mut state, now, http, rules);
                match cached {
                    Some(cached) => Availability::Stale(cached, number, flight),
                    None => Availability::Fetching(flight),
                }
            }
        }
    }

    fn begin(
        &self,
        state: &mut State,
        now: Moment,
        http: &Http,
        rules: Rules,
    ) -> (u64, Arc<Driven<MetadataResult>>) {
        state.fetches += 1;
        let number = state.fetches;
        let inner = Arc::downgrade(&self.inner);
        let (http, issuer) = (http.clone(), self.inner.issuer.clone());
        let flight = Driven::new(async move {
            let fetched = catch_panic(fetch::fetch(&http, &issuer, rules)).await;
            let outcome = fetched.unwrap_or_else(|| Err(panicked())).map(Arc::new);
            if let Some(inner) = inner.upgrade() {
                inner.land(number, now, &outcome);
            }
            outcome
        });
        let last = state.fetch.replace(MetadataFetch {
            number,
            begun: now,
            flight: Arc::downgrade(&flight),
            task: None,
        });
        abort(last);
        (number, flight)
    }

    /// Renews in the background if there is a runtime, so that nobody has to wait.
    async fn renew(
        &self,
        number: u64,
        renewal: Arc<Driven<MetadataResult>>,
    ) -> Option<Arc<ServerMetadata>> {
        let Ok(runtime) = Handle::try_current() else {
            return note(&self.inner.issuer, outcome_of(renewal).await);
        };
        let issuer = self.inner.issuer.clone();
        let task = runtime.spawn(async move {
            note(&issuer, outcome_of(renewal).await);
        });
        let mut state = self.inner.lock();
        match state.fetch.as_mut().filter(|fetch| fetch.number == number) {
            Some(fetch) => fetch.task = Some(task.abort_handle()),
            // Another fetch has begun since.
            None => task.abort(),
        }
        None
    }
}

impl Inner {
    fn land(&self, number: u64, begun: Moment, outcome: &MetadataResult) {
        let mut state = self.lock();
        let is_newer = state
            .cached
            .as_ref()
            .is_none_or(|cached| cached.number < number);
        if let (Ok(metadata), true) = (outcome, is_newer) {
            state.cached = Some(CachedMetadata {
                metadata: metadata.clone(),
                number,
                obtained: begun,
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

impl Drop for Inner {
    /// A renewal ends with the last handle.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        abort(state.fetch.take());
    }
}

fn abort(fetch: Option<MetadataFetch>) {
    if let Some(task) = fetch.and_then(|fetch| fetch.task) {
        task.abort();
    }
}

async fn outcome_of(flight: Arc<Driven<MetadataResult>>) -> MetadataResult {
    // A panic of the HTTP client is an error already; the flight is lost only by another panic.
    let outcome = flight.outcome().await;
    outcome.unwrap_or_else(|| Err(panicked()))
}

/// Logs a renewal that failed, since no caller gets its error.
fn note(issuer: &str, outcome: MetadataResult) -> Option<Arc<ServerMetadata>> {
    outcome
        .inspect_err(|error| {
            tracing::warn!(
                target: "tower_oauth2_client::metadata",
                issuer,
                %error,
                "failed to renew the metadata; the old metadata stays in use",
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
    fn fresh_metadata_are_used_and_stale_metadata_are_renewed_once() {
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
    fn jump_of_the_wall_clock_renews() {
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
