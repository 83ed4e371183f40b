//! Searches the addresses of an issuer for its metadata.
//!
//! 1. One address is asked at a time. So a server that has its document at the first address gets one request, and none that it
//!    answers with 404 and logs. The price is a round trip for each address without a document, once for each process.
//! 2. The next address is asked when the last one has failed, or has been silent for [`SILENCE`]. In the latter case its response is
//!    still waited for. So an address that never answers costs a few seconds and does not use up the time of a caller.
//! 3. All addresses share one time budget, [`BUDGET`]. A renewal in the background has none, since nobody waits for it.
//! 4. The first document with a token endpoint is taken. One without is kept for other endpoints while the search goes on.
//! 5. A transient failure is reported before any other, because the address may have the document after all.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::Uri;

use super::{
    ServerMetadata,
    fetch::{self, Document, Explains, Http, Rules, Unavailable},
};
use crate::{
    base::{panic::catch_panic, timer},
    error::TokenError,
};

/// For how long an address may be silent before the next one is asked too. A healthy server answers sooner, over a fresh connection too.
const SILENCE: Duration = Duration::from_secs(3);

/// For how long the search may take if callers wait for it. A token cache waits as long for a token.
pub(super) const BUDGET: Duration = Duration::from_secs(30);

/// Metadata, and where they were found.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) metadata: Arc<ServerMetadata>,
    pub(super) uri: Uri,
    /// The error for an endpoint that the document lacks, if the document has no token endpoint.
    pub(super) incomplete: Option<TokenError>,
}

/// A request that is under way.
struct Attempt {
    uri: Uri,
    result: Pin<Box<dyn Future<Output = Result<Document, Unavailable>> + Send>>,
}

enum Event {
    Ended(Uri, Result<Document, Unavailable>),
    Silence,
    OutOfTime,
}

/// Returns the best metadata at `uris`, which are not empty. Without a runtime that has timers, the HTTP service alone limits the time.
pub(super) async fn search(
    http: &Http,
    issuer: &Arc<str>,
    uris: Vec<Uri>,
    budget: Option<Duration>,
    rules: Rules,
) -> Result<Found, TokenError> {
    let mut budget = pin!(elapsed(budget));
    let mut next = uris.into_iter();
    let mut attempts = Vec::new();
    let mut outcome = Outcome::default();
    let mut is_unreachable = false;
    loop {
        match next.next().filter(|_| !is_unreachable) {
            Some(uri) => attempts.push(Attempt {
                result: Box::pin(fetch::fetch(
                    http.clone(),
                    issuer.clone(),
                    uri.clone(),
                    rules,
                )),
                uri,
            }),
            None if attempts.is_empty() => return outcome.end(),
            None => {}
        }
        let has_next = next.len() > 0 && !is_unreachable;
        match next_event(&mut attempts, has_next, budget.as_mut()).await {
            Event::Ended(uri, Ok(document)) => {
                let is_complete = document.incomplete.is_none();
                outcome.found(uri, document);
                if is_complete {
                    return outcome.end();
                }
            }
            Event::Ended(_, Err(unavailable)) => {
                is_unreachable |= unavailable.is_unreachable;
                outcome.failed(unavailable);
            }
            Event::Silence => {}
            Event::OutOfTime => {
                let silent = attempts.first().map(|attempt| &attempt.uri);
                if let Some(uri) = silent {
                    outcome.failed(fetch::out_of_time(issuer, uri));
                }
                return outcome.end();
            }
        }
    }
}

async fn next_event(
    attempts: &mut Vec<Attempt>,
    has_next: bool,
    mut budget: Pin<&mut impl Future<Output = ()>>,
) -> Event {
    let mut silence = pin!(elapsed(has_next.then_some(SILENCE)));
    poll_fn(|cx| {
        for index in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[index].result.as_mut().poll(cx) {
                let uri = attempts.remove(index).uri;
                return Poll::Ready(Event::Ended(uri, result));
            }
        }
        if budget.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::OutOfTime);
        }
        silence.as_mut().poll(cx).map(|()| Event::Silence)
    })
    .await
}

/// Ends after this time, or never without a time or without timers.
///
/// The runtime of the caller that made the timer may end before it. A timer panics then.
pub(super) async fn elapsed(time: Option<Duration>) {
    let timer = time
        .filter(|_| !timer::is_known_to_be_missing())
        .and_then(timer::sleep);
    let has_elapsed = match timer {
        Some(timer) => catch_panic(timer).await.is_some(),
        None => false,
    };
    if !has_elapsed {
        pending::<()>().await;
    }
}

/// What the addresses have returned so far.
#[derive(Default)]
struct Outcome {
    found: Option<(Uri, Document)>,
    failed: Option<Unavailable>,
}

impl Outcome {
    /// Keeps the first document, unless this one is complete.
    fn found(&mut self, uri: Uri, document: Document) {
        if self.found.is_none() || document.incomplete.is_none() {
            self.found = Some((uri, document));
        }
    }

    /// Keeps the failure that explains most. Of two that explain as much, it is the first.
    fn failed(&mut self, unavailable: Unavailable) {
        let earlier = self.failed.as_ref().map(|failed| failed.explains);
        if earlier.is_none_or(|earlier| earlier < unavailable.explains) {
            self.failed = Some(unavailable);
        }
    }

    fn end(self) -> Result<Found, TokenError> {
        let failed = self.failed;
        let Some((uri, document)) = self.found else {
            return Err(failed.map_or_else(
                || TokenError::request("the issuer has no well-known URI"),
                |failed| failed.error,
            ));
        };
        let transient = failed.filter(|failed| failed.explains == Explains::Transient);
        let incomplete = document.incomplete.map(|incomplete| {
            // The other address may have a complete document.
            transient.map_or(incomplete, |transient| transient.error)
        });
        Ok(Found {
            metadata: document.metadata,
            uri,
            incomplete,
        })
    }
}
