//! What an entry knows about its token, and which state follows from that. Pure: the time is an argument.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use super::{
    entry::Entry, kept_members::KeptMembers, pauses::FailedFetch, refresh_window::Lifespan,
};
use crate::{
    base::clock::{Clock, Moment},
    error::{CalledEndpoint, TokenError},
    message::{AccessToken, TokenRequest},
};

/// A token in the cache, and the moments of its life. What every call reads comes first.
#[repr(C)]
pub(crate) struct CachedToken {
    /// Identifies this token among all of its entry.
    pub(crate) generation: u64,
    pub(crate) stale_at: Moment,
    /// The end of its use, a leeway before `server_expires_at`.
    pub(crate) expires_at: Moment,
    pub(crate) authorization: HeaderValue,
    pub(crate) token: AccessToken,
    pub(crate) server_expires_at: Moment,
    /// A refusal before this moment counts as one soon after the token was issued.
    pub(crate) young_until: Moment,
    /// When its request was sent, or when it was found in a store.
    pub(crate) sent: Moment,
    /// How old it was then.
    pub(crate) age_when_sent: Duration,
    /// Whether the server did not say how long it lives.
    pub(crate) is_lifetime_guessed: bool,
    /// The client and the host that issued it. All tokens of one endpoint share this.
    pub(crate) called: Option<Arc<CalledEndpoint>>,
    pub(crate) clock: Clock,
    /// The request of its entry.
    pub(crate) request: TokenRequest,
    /// `None` if the response says nothing that the request does not, and the cache keeps no members of it.
    pub(crate) kept: Option<Arc<KeptMembers>>,
}

impl CachedToken {
    /// How old the token is, by the monotonic clock.
    pub(crate) fn age(&self, now: Moment) -> Duration {
        self.age_when_sent.saturating_add(now.time_since(self.sent))
    }
}

/// The state of an entry, with what its callers get.
pub(crate) enum Condition<'a> {
    /// There is a usable token, and nothing is to be done.
    Fresh(&'a Arc<CachedToken>),
    /// There is a usable token, and its renewal is due.
    Stale(&'a Arc<CachedToken>),
    /// There is a token, but it has expired.
    Expired,
    /// There is no usable token, and the pause after a failure has not ended.
    Failed(&'a FailedFetch),
    /// There is no token.
    Empty,
}

/// Returns the state of an entry.
pub(crate) fn classify<'a>(
    cached: Option<&'a Arc<CachedToken>>,
    failure: Option<&'a FailedFetch>,
    now: Moment,
) -> Condition<'a> {
    match (cached, failure) {
        (Some(cached), _) if !now.has_reached(cached.stale_at) => Condition::Fresh(cached),
        (Some(cached), _) if !now.has_reached(cached.expires_at) => Condition::Stale(cached),
        (_, Some(failure)) if failure.is_pausing(now) => Condition::Failed(failure),
        (Some(_), _) => Condition::Expired,
        (None, _) => Condition::Empty,
    }
}

/// Returns when a new token is to be renewed.
///
/// A server may return the previous token again, without extending its life. Such a token is not renewed early a second time:
/// otherwise the cache would ask again and again.
pub(crate) fn stale_at(
    sent: Moment,
    lifespan: Lifespan,
    previous: Option<&CachedToken>,
    token: &AccessToken,
) -> Moment {
    let ends_at = sent.after(lifespan.lifetime);
    let is_same_life = previous.is_some_and(|previous| {
        let extended = previous.server_expires_at.after(MIN_EXTENSION);
        previous.token == *token && extended.has_reached(ends_at)
    });
    let fresh = if is_same_life {
        lifespan.usable
    } else {
        lifespan.fresh
    };
    sent.after(fresh)
}

/// Servers count in seconds, so a smaller difference does not extend a life.
const MIN_EXTENSION: Duration = Duration::from_secs(2);

/// The status of the token of one request; see [`TokenCache::status`](super::TokenCache::status).
#[derive(Clone, Debug)]
pub struct TokenStatus {
    request: TokenRequest,
    state: TokenState,
    expires_in: Option<Duration>,
    last_error: Option<TokenError>,
    /// What the endpoint noted when it issued the token.
    called: Option<Arc<CalledEndpoint>>,
}

/// The state of a token in a cache; see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenState {
    /// The token is usable, and nothing is to be done.
    Fresh,
    /// The token is usable, and the next caller starts its renewal.
    Stale,
    /// The token has expired.
    Expired,
    /// There is no usable token, and the pause after a failed fetch has not ended.
    Failed,
    /// There is no token yet, or an API refused it.
    Empty,
}

impl TokenStatus {
    pub(super) fn new(entry: &Entry) -> Self {
        let now = entry.now();
        let (cached, failure) = entry.inspect();
        let state = match classify(cached.as_ref(), failure.as_ref(), now) {
            Condition::Fresh(_) => TokenState::Fresh,
            Condition::Stale(_) => TokenState::Stale,
            Condition::Expired => TokenState::Expired,
            Condition::Failed(_) => TokenState::Failed,
            Condition::Empty => TokenState::Empty,
        };
        Self {
            request: entry.request().clone(),
            state,
            expires_in: cached.as_ref().map(|cached| now.until(cached.expires_at)),
            called: cached.and_then(|cached| cached.called.clone()),
            last_error: failure.map(|failure| failure.error),
        }
    }

    /// Returns the request for the token, whose getters tell whose token it is. They return no secret.
    #[must_use]
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Returns the [label](TokenRequest::label) of the request. If equal requests have different labels, it is that of the first.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.request.get_label()
    }

    /// Returns the id of the client that fetched the token, or for which the last fetch failed.
    ///
    /// It is `None` if neither the request nor an endpoint has named it yet.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        let of_token = self.called.as_ref().and_then(|it| it.client_id.as_deref());
        of_token
            .or_else(|| self.last_error.as_ref()?.client_id())
            .or_else(|| self.request.named_client_id())
    }

    /// Returns the host that issued the token, or at which the last fetch failed, with its port if the URI names one.
    ///
    /// It is `None` if neither the request nor an endpoint has named it yet.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let of_token = self.called.as_ref().and_then(|it| it.host.as_deref());
        of_token
            .or_else(|| self.last_error.as_ref()?.host())
            .or_else(|| self.request.named_host())
    }

    /// Returns the state of the token.
    #[must_use]
    pub fn state(&self) -> TokenState {
        self.state
    }

    /// Returns how long the token stays usable: zero if it has expired, `None` if there is none.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// Returns the error of the last fetch, if it failed.
    #[must_use]
    pub fn last_error(&self) -> Option<&TokenError> {
        self.last_error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{message::TokenType, token_cache::refresh_window::RefreshWindow};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Holds for every later reading of the clocks, and for every previous token.
        #[test]
        fn token_is_never_served_after_it_expires(
            sent in moments(),
            now in moments(),
            lifetime in durations(),
            refresh_in in prop::option::of(durations()),
            jitter in 0.0..1.0,
            previous in prop::option::of((moments(), durations(), any::<bool>())),
        ) {
            let lifespan = RefreshWindow::new().lifespan(lifetime, true, jitter).renewed_in(refresh_in);
            let previous = previous.map(|(sent, lifetime, same)| {
                let text = if same { "token" } else { "another" };
                cached(text, sent, sent.after(lifetime))
            });
            let new = token("token");
            let stale_at = stale_at(sent, lifespan, previous.as_ref(), &new);
            let expires_at = sent.after(lifespan.usable);
            prop_assert!(expires_at.has_reached(stale_at));

            let new = Arc::new(cached("token", stale_at, expires_at));
            match classify(Some(&new), None, now) {
                Condition::Fresh(_) => prop_assert!(!now.has_reached(stale_at) && !now.has_reached(expires_at)),
                Condition::Stale(_) => prop_assert!(now.has_reached(stale_at) && !now.has_reached(expires_at)),
                Condition::Expired => prop_assert!(now.has_reached(expires_at)),
                Condition::Failed(_) | Condition::Empty => prop_assert!(false),
            }
        }
    }

    /// Servers count in seconds: the end of the same token may differ by two from one response to the next.
    #[test]
    fn same_token_is_renewed_early_again_only_if_its_life_was_extended() {
        let secs = |secs| Moment::new(Duration::from_secs(secs), Duration::from_secs(secs));
        let lifespan = RefreshWindow::new().lifespan(Duration::from_secs(100), false, 0.5);
        for (previous, text, sent, fresh) in [
            (None, "token", 50, 80),
            (Some(150), "another", 50, 80),
            (Some(150), "token", 50, 95),
            (Some(149), "token", 50, 95),
            (Some(148), "token", 50, 95),
            (Some(147), "token", 50, 80),
            (Some(100), "token", 50, 80),
            // The server has shortened its life.
            (Some(170), "token", 50, 95),
        ] {
            let previous = previous.map(|ends_at| cached("token", secs(0), secs(ends_at)));
            let found = stale_at(secs(sent), lifespan, previous.as_ref(), &token(text));
            assert_eq!(found, secs(sent + fresh), "{fresh} {text}");
        }
    }

    fn token(text: &str) -> AccessToken {
        AccessToken::new(text, TokenType::BEARER).unwrap()
    }

    fn cached(text: &str, stale_at: Moment, expires_at: Moment) -> CachedToken {
        CachedToken {
            generation: 1,
            token: token(text),
            authorization: HeaderValue::from_static("Bearer"),
            stale_at,
            expires_at,
            server_expires_at: expires_at,
            young_until: expires_at,
            sent: stale_at,
            age_when_sent: Duration::ZERO,
            is_lifetime_guessed: false,
            called: None,
            clock: Clock::system(),
            request: TokenRequest::client_credentials(),
            kept: None,
        }
    }

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..=20_u64).prop_map(Duration::from_secs),
            (0..=20_000_000_000_u64).prop_map(Duration::from_nanos),
            (0.0..=315_360_000.0).prop_map(Duration::from_secs_f64),
        ]
    }

    fn moments() -> impl Strategy<Value = Moment> {
        (durations(), durations()).prop_map(|(monotonic, wall)| Moment::new(monotonic, wall))
    }
}
