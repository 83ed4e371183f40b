//! The metadata of one issuer: fetched once, shared, and renewed.
//!
//! One document is kept for all endpoints of the issuer. A document without a token endpoint does not replace one that has it.

use std::{fmt, sync::Arc, time::Duration};

use http::Uri;
use tokio::runtime::Handle;

use super::{
    ServerMetadata,
    fetch::{Http, Rules},
    freshness::{Step, decide, renewal_uris},
    held::{Held, MetadataFetch, SearchResult, State, abort, note},
    search::{BUDGET, Found, search},
    server_metadata::TOKEN_ENDPOINT,
};
use crate::{
    base::{
        clock::{Clock, Moment},
        panic::catch_panic,
        single_flight::driven::Driven,
        uri,
    },
    error::{TokenError, TokenErrorKind},
};

/// Long enough that fetching costs nothing, short enough that a server that moves is found again soon.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

type MetadataResult = Result<Arc<ServerMetadata>, TokenError>;

/// Fetches the metadata of an issuer. Clones share them.
#[derive(Clone)]
pub(crate) struct Discovery {
    held: Arc<Held>,
    pub(crate) lifetime: Duration,
    pub(crate) clock: Clock,
    /// Whether a client that does not authenticate by TLS uses the alias too.
    pub(crate) by_alias: bool,
    /// Whether the client may use methods and algorithms that the metadata do not list.
    pub(crate) allow_unlisted: bool,
}

enum Availability {
    Usable(Arc<ServerMetadata>),
    /// With the number of the renewal and the renewal, which no task or caller drives yet.
    Stale(Arc<ServerMetadata>, u64, Arc<Driven<SearchResult>>),
    Fetching(Arc<Driven<SearchResult>>),
}

impl Discovery {
    pub(crate) fn new(issuer: String) -> Self {
        Self {
            held: Held::new(issuer.into(), None, false),
            lifetime: DEFAULT_LIFETIME,
            clock: Clock::default(),
            by_alias: false,
            allow_unlisted: false,
        }
    }

    /// Sets where the document is. Clones that were made before keep their place and their metadata.
    pub(crate) fn set_metadata_uri(&mut self, uri: impl fmt::Display) {
        let (issuer, public_only) = (self.held.issuer.clone(), self.held.public_only);
        self.held = Held::new(issuer, Some(uri::parse(uri)), public_only);
    }

    /// Refuses URIs on this machine and in private networks. Clones that were made before keep their rules and their metadata.
    pub(crate) fn set_public_only(&mut self) {
        let (issuer, uri) = (self.held.issuer.clone(), self.held.metadata_uri.clone());
        self.held = Held::new(issuer, uri, true);
    }

    /// Returns the issuer as the user gave it.
    pub(crate) fn issuer(&self) -> &Arc<str> {
        &self.held.issuer
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
            public_only: self.held.public_only,
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
        let mut state = self.held.lock();
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
                let all = self.held.uris(rules)?;
                let uris = renewal_uris(all, &cached.uri, now, self.lifetime, cached.obtained);
                let (number, flight) = self.begin(&mut state, now, http, (uris, None), rules);
                Availability::Stale(metadata, number, flight)
            }
            (_, None, _) => {
                let uris = self.held.uris(rules)?;
                let budget = Some(BUDGET);
                let (_, flight) = self.begin(&mut state, now, http, (uris, budget), rules);
                Availability::Fetching(flight)
            }
        })
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
        let held = Arc::downgrade(&self.held);
        let (http, issuer) = (http.clone(), self.held.issuer.clone());
        let flight = Driven::new(async move {
            let found = catch_panic(search(&http, &issuer, uris, budget, rules)).await;
            let outcome = found.unwrap_or_else(|| Err(panicked()));
            match held.upgrade() {
                Some(held) => held.land(number, now, outcome),
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
            let renewed = note(&self.held.issuer, outcome_of(renewal).await)?;
            return Some(renewed.metadata);
        };
        let issuer = self.held.issuer.clone();
        let task = runtime.spawn(async move {
            note(&issuer, outcome_of(renewal).await);
        });
        let mut state = self.held.lock();
        match state.fetch.as_mut().filter(|fetch| fetch.number == number) {
            Some(fetch) => fetch.task = Some(task.abort_handle()),
            // Another fetch has begun since.
            None => task.abort(),
        }
        None
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
