//! What the clones of a [`Discovery`](super::discovery::Discovery) share: the last document, and the last fetch.
//!
//! The lock is never held across an await, nor while user code runs.

use std::sync::{Arc, PoisonError, Weak};

use http::Uri;
use tokio::task::AbortHandle;

use super::{ServerMetadata, fetch::Rules, search::Found, well_known::well_known_uris};
use crate::{
    base::{
        clock::Moment,
        public_address::check_public,
        secure_uri::check_secure,
        single_flight::driven::Driven,
        sync::{Mutex, MutexGuard},
    },
    error::TokenError,
};

pub(super) type SearchResult = Result<Found, TokenError>;

/// See the [module](self).
pub(super) struct Held {
    /// As the user gave it.
    pub(super) issuer: Arc<str>,
    /// Where the document is, if not at the well-known URIs, or what is wrong with that URI.
    pub(super) metadata_uri: Option<Result<Uri, String>>,
    pub(super) public_only: bool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) cached: Option<CachedMetadata>,
    /// The last fetch, even if it has ended.
    pub(super) fetch: Option<MetadataFetch>,
    pub(super) fetches: u64,
}

pub(super) struct CachedMetadata {
    pub(super) metadata: Arc<ServerMetadata>,
    /// Where they were found.
    pub(super) uri: Uri,
    /// Of the fetch that returned them.
    pub(super) number: u64,
    pub(super) obtained: Moment,
}

pub(super) struct MetadataFetch {
    pub(super) number: u64,
    pub(super) begun: Moment,
    /// Whether it renews a document. Then it may ask one address only, and it has no time budget.
    pub(super) is_renewal: bool,
    /// Empty after the flight has landed, or when no caller waits for it.
    pub(super) flight: Weak<Driven<SearchResult>>,
    /// The task that drives it, if no caller does.
    pub(super) task: Option<AbortHandle>,
}

impl Held {
    pub(super) fn new(
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
    pub(super) fn uris(&self, rules: Rules) -> Result<Vec<Uri>, TokenError> {
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
    pub(super) fn land(&self, number: u64, begun: Moment, outcome: SearchResult) -> SearchResult {
        let mut state = self.lock();
        if let Some(fetch) = state.fetch.as_mut().filter(|fetch| fetch.number == number) {
            fetch.flight = Weak::new();
            fetch.task = None;
        }
        let found = outcome?;
        if let Some(error) = &found.incomplete
            && let Some(cached) = &state.cached
            && cached.metadata.why_incomplete().is_none()
        {
            let held = Found {
                metadata: cached.metadata.clone(),
                uri: cached.uri.clone(),
                incomplete: None,
            };
            drop(state);
            warn(&self.issuer, error);
            return Ok(held);
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    /// A renewal ends with the last handle.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        abort(state.fetch.take());
    }
}

pub(super) fn abort(fetch: Option<MetadataFetch>) {
    if let Some(task) = fetch.and_then(|fetch| fetch.task) {
        task.abort();
    }
}

/// Logs a renewal that failed, since no caller gets its error.
pub(super) fn note(issuer: &str, outcome: SearchResult) -> Option<Found> {
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
