//! The metadata of one issuer: fetched once, shared, and renewed.
//!
//! One document is kept for all endpoints of the issuer. A document without a token endpoint does not replace one that has it.

use std::{
    fmt,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use http::Uri;
use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    ServerMetadata,
    fetch::{Http, Rules},
    search::{BUDGET, Found, search},
    server_metadata::TOKEN_ENDPOINT,
    well_known::well_known_uris,
};
use crate::{
    base::{
        clock::{Clock, Moment},
        panic::catch_panic,
        public_address::check_public,
        secure_uri::check_secure,
        single_flight::driven::Driven,
        sync::{Mutex, MutexGuard},
        uri,
    },
    error::{TokenError, TokenErrorKind},
};

/// Long enough that fetching costs nothing, short enough that a server that moves is found again soon.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// How long later callers wait for a fetch before they start another, and the minimum time between two renewals.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long metadata that cannot be renewed at the address where they were found are not looked for elsewhere.
///
/// Another address may have another document, so a short failure must not switch to it. A server that has moved its document must be
/// found again without a new process.
const LOYALTY: Duration = Duration::from_secs(24 * 3600);

type MetadataResult = Result<Arc<ServerMetadata>, TokenError>;
type SearchResult = Result<Found, TokenError>;

/// Fetches the metadata of an issuer. Clones share them.
#[derive(Clone)]
pub(crate) struct Discovery {
    inner: Arc<Inner>,
    pub(crate) lifetime: Duration,
    pub(crate) clock: Clock,
    /// Whether a client that does not authenticate by TLS uses the alias too.
    pub(crate) by_alias: bool,
    /// Whether the client may use methods and algorithms that the metadata do not list.
    pub(crate) allow_unlisted: bool,
}

/// What clones share. The lock is never held across an await, nor while user code runs.
struct Inner {
    /// As the user gave it.
    issuer: Arc<str>,
    /// Where the document is, if not at the well-known URIs, or what is wrong with that URI.
    metadata_uri: Option<Result<Uri, String>>,
    public_only: bool,
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
    /// Where they were found.
    uri: Uri,
    /// Of the fetch that returned them.
    number: u64,
    obtained: Moment,
}

struct MetadataFetch {
    number: u64,
    begun: Moment,
    /// Whether it renews a document. Then it may ask one address only, and it has no time budget.
    is_renewal: bool,
    /// Empty after the flight has landed, or when no caller waits for it.
    flight: Weak<Driven<SearchResult>>,
    /// The task that drives it, if no caller does.
    task: Option<AbortHandle>,
}

enum Availability {
    Usable(Arc<ServerMetadata>),
    /// With the number of the renewal and the renewal, which no task or caller drives yet.
    Stale(Arc<ServerMetadata>, u64, Arc<Driven<SearchResult>>),
    Fetching(Arc<Driven<SearchResult>>),
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
            inner: Inner::new(issuer.into(), None, false),
            lifetime: DEFAULT_LIFETIME,
            clock: Clock::default(),
            by_alias: false,
            allow_unlisted: false,
        }
    }

    /// Sets where the document is. Clones that were made before keep their place and their metadata.
    pub(crate) fn set_metadata_uri(&mut self, uri: impl fmt::Display) {
        let (issuer, public_only) = (self.inner.issuer.clone(), self.inner.public_only);
        self.inner = Inner::new(issuer, Some(uri::parse(uri)), public_only);
    }

    /// Refuses URIs on this machine and in private networks. Clones that were made before keep their rules and their metadata.
    pub(crate) fn set_public_only(&mut self) {
        let (issuer, uri) = (self.inner.issuer.clone(), self.inner.metadata_uri.clone());
        self.inner = Inner::new(issuer, uri, true);
    }

    /// Returns the issuer as the user gave it.
    pub(crate) fn issuer(&self) -> &Arc<str> {
        &self.inner.issuer
    }

    /// Returns the cached metadata if they are fresh. Otherwise all callers wait for one fetch.
    ///
    /// Metadata that are no longer fresh are used while they are renewed, and if that fails. A fetch that this call begins goes through
    /// `http`. If the caller needs the endpoint with this `member`, metadata that may lack it only for now are an error.
    pub(crate) async fn metadata(
        &self,
        http: &Http,
        rules: Rules,
        member: Option<&str>,
    ) -> MetadataResult {
        let rules = Rules {
            public_only: self.inner.public_only,
            ..rules
        };
        match self.look(http, rules, member)? {
            Availability::Usable(metadata) => Ok(metadata),
            Availability::Stale(metadata, number, renewal) => {
                Ok(self.renew(number, renewal).await.unwrap_or(metadata))
            }
            Availability::Fetching(flight) => serve(outcome_of(flight).await?, member),
        }
    }

    fn look(
        &self,
        http: &Http,
        rules: Rules,
        member: Option<&str>,
    ) -> Result<Availability, TokenError> {
        let now = self.clock.now();
        // Declared before the lock, so that it is dropped after it: it may be the last owner of a request of the user's HTTP service.
        let under_way;
        let mut state = self.inner.lock();
        under_way = state
            .fetch
            .as_ref()
            .filter(|fetch| !fetch.is_renewal)
            .and_then(|fetch| fetch.flight.upgrade());
        let cached = state.cached.as_ref();
        let cached = cached.filter(|cached| is_enough(&cached.metadata, member));
        let step = decide(
            now,
            self.lifetime,
            cached.map(|cached| cached.obtained),
            state.fetch.as_ref().map(|fetch| fetch.begun),
            under_way.is_some(),
        );
        Ok(match (step, cached, &under_way) {
            (Step::Use, Some(cached), _) => Availability::Usable(cached.metadata.clone()),
            (Step::Join, _, Some(flight)) => Availability::Fetching(flight.clone()),
            (_, Some(cached), _) => {
                let metadata = cached.metadata.clone();
                let uris = self.renewal_uris(now, cached, rules)?;
                let (number, flight) = self.begin(&mut state, now, http, (uris, None), rules);
                Availability::Stale(metadata, number, flight)
            }
            (_, None, _) => {
                let uris = self.inner.uris(rules)?;
                let budget = Some(BUDGET);
                let (_, flight) = self.begin(&mut state, now, http, (uris, budget), rules);
                Availability::Fetching(flight)
            }
        })
    }

    /// Where to renew metadata: at the address where they were found. After a day without success, at all addresses, that one first.
    fn renewal_uris(
        &self,
        now: Moment,
        cached: &CachedMetadata,
        rules: Rules,
    ) -> Result<Vec<Uri>, TokenError> {
        let all = self.inner.uris(rules)?;
        let mut uris = vec![cached.uri.clone()];
        let end = cached.obtained.after(self.lifetime).after(LOYALTY);
        if now.has_reached(end) {
            uris.extend(all.into_iter().filter(|uri| *uri != cached.uri));
        }
        Ok(uris)
    }

    fn begin(
        &self,
        state: &mut State,
        now: Moment,
        http: &Http,
        (uris, budget): (Vec<Uri>, Option<Duration>),
        rules: Rules,
    ) -> (u64, Arc<Driven<SearchResult>>) {
        state.fetches += 1;
        let number = state.fetches;
        let inner = Arc::downgrade(&self.inner);
        let (http, issuer) = (http.clone(), self.inner.issuer.clone());
        let flight = Driven::new(async move {
            let found = catch_panic(search(&http, &issuer, uris, budget, rules)).await;
            let outcome = found.unwrap_or_else(|| Err(panicked()));
            match inner.upgrade() {
                Some(inner) => inner.land(number, now, outcome),
                None => outcome,
            }
        });
        let last = state.fetch.replace(MetadataFetch {
            number,
            begun: now,
            is_renewal: budget.is_none(),
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
        renewal: Arc<Driven<SearchResult>>,
    ) -> Option<Arc<ServerMetadata>> {
        let Ok(runtime) = Handle::try_current() else {
            let renewed = note(&self.inner.issuer, outcome_of(renewal).await)?;
            return Some(renewed.metadata);
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
    fn new(
        issuer: Arc<str>,
        metadata_uri: Option<Result<Uri, String>>,
        public_only: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            issuer,
            metadata_uri,
            public_only,
            state: Mutex::default(),
        })
    }

    /// Where the document may be, in the order in which to look.
    fn uris(&self, rules: Rules) -> Result<Vec<Uri>, TokenError> {
        let refuse = |what: &str, why: String| {
            TokenError::request(format!("the request was not sent: the {what} {why}"))
        };
        let of_issuer = well_known_uris(&self.issuer, rules);
        let of_issuer = of_issuer.map_err(|why| refuse("issuer", why))?;
        let Some(given) = &self.metadata_uri else {
            return Ok(of_issuer);
        };
        let checked = given.clone().and_then(|uri| {
            check_secure(&uri, rules.allow_http)?;
            if rules.public_only {
                check_public(&uri)?;
            }
            Ok(vec![uri])
        });
        checked.map_err(|why| refuse("URI of the metadata", why))
    }

    /// Takes over what a search has found, and returns it. Metadata without a token endpoint do not replace metadata with one.
    fn land(&self, number: u64, begun: Moment, outcome: SearchResult) -> SearchResult {
        let mut state = self.lock();
        if let Some(fetch) = state.fetch.as_mut().filter(|fetch| fetch.number == number) {
            fetch.flight = Weak::new();
            fetch.task = None;
        }
        let found = outcome?;
        match &state.cached {
            Some(cached) if cached.metadata.why_incomplete().is_none() => {
                if let Some(error) = &found.incomplete {
                    let held = Found {
                        metadata: cached.metadata.clone(),
                        uri: cached.uri.clone(),
                        incomplete: None,
                    };
                    drop(state);
                    warn(&self.issuer, error);
                    return Ok(held);
                }
            }
            _ => {}
        }
        let cached = state.cached.as_ref();
        if cached.is_none_or(|cached| cached.number < number) {
            state.cached = Some(CachedMetadata {
                metadata: found.metadata.clone(),
                uri: found.uri.clone(),
                number,
                obtained: begun,
            });
        }
        Ok(found)
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

async fn outcome_of(flight: Arc<Driven<SearchResult>>) -> SearchResult {
    // A panic of the HTTP client is an error already; the flight is lost only by another panic.
    let outcome = flight.outcome().await;
    outcome.unwrap_or_else(|| Err(panicked()))
}

fn is_enough(metadata: &ServerMetadata, member: Option<&str>) -> bool {
    member.is_none_or(|member| metadata.is_enough_for(member))
}

/// What a caller gets that waited for a search. If another address may have the endpoint with this `member`, it is an error.
fn serve(found: Found, member: Option<&str>) -> MetadataResult {
    match found.incomplete {
        Some(error)
            if !is_enough(&found.metadata, member)
                && (error.is_transient() || member == Some(TOKEN_ENDPOINT)) =>
        {
            Err(error)
        }
        _ => Ok(found.metadata),
    }
}

/// Logs a renewal that failed, since no caller gets its error.
fn note(issuer: &str, outcome: SearchResult) -> Option<Found> {
    outcome.inspect_err(|error| warn(issuer, error)).ok()
}

fn warn(issuer: &str, error: &TokenError) {
    tracing::warn!(
        target: "tower_oauth2_client::metadata",
        issuer,
        %error,
        "failed to renew the metadata; the old metadata stays in use",
    );
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
