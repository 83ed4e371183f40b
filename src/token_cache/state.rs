//! What an entry of the cache knows, and what follows from it. Pure: the time is an argument.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use super::{entry::Entry, pauses::FailedFetch, refresh_window::Lifespan};
use crate::{
    base::clock::Moment,
    error::TokenError,
    message::{AccessToken, TokenRequest},
};

/// A token that the cache holds.
pub(crate) struct CachedToken {
    /// Names this token among all that its entry ever held.
    pub(crate) generation: u64,
    pub(crate) token: AccessToken,
    pub(crate) authorization: HeaderValue,
    pub(crate) stale_at: Moment,
    pub(crate) expires_at: Moment,
    /// When it is over by the server's word.
    pub(crate) server_expires_at: Moment,
    /// Refused before then, it was refused soon after it was issued.
    pub(crate) young_until: Moment,
}

/// The state of an entry, and what its callers get.
pub(crate) enum Condition<'a> {
    /// There is a token, and nothing is to be done.
    Fresh(&'a Arc<CachedToken>),
    /// There is a token, and it is time to renew it.
    Stale(&'a Arc<CachedToken>),
    /// There is a token, but it is over.
    Expired,
    /// There is no usable token, and it is too early to ask again.
    Failed(&'a FailedFetch),
    /// There is no token.
    Empty,
}

/// In which state an entry is.
pub(crate) fn classify<'a>(
    held: Option<&'a Arc<CachedToken>>,
    failure: Option<&'a FailedFetch>,
    now: Moment,
) -> Condition<'a> {
    match (held, failure) {
        (Some(held), _) if !now.has_reached(held.stale_at) => Condition::Fresh(held),
        (Some(held), _) if !now.has_reached(held.expires_at) => Condition::Stale(held),
        (_, Some(failure)) if failure.is_pausing(now) => Condition::Failed(failure),
        (Some(_), _) => Condition::Expired,
        (None, _) => Condition::Empty,
    }
}

/// When a new token is to be renewed.
///
/// A server that hands out the token that is held already, with no more life in it, would be asked again and again: such a
/// token is not renewed early a second time.
pub(crate) fn stale_at(
    sent: Moment,
    windows: Lifespan,
    held: Option<&CachedToken>,
    token: &AccessToken,
) -> Moment {
    let server_expires_at = sent.after(windows.lifetime);
    let same = held.filter(|held| held.token == *token);
    match same {
        Some(held)
            if held
                .server_expires_at
                .after(MIN_EXTENSION)
                .has_reached(server_expires_at) =>
        {
            sent.after(windows.usable)
        }
        _ => sent.after(windows.fresh),
    }
}

/// A token that lives on for less than this has not been extended: seconds are what servers count in.
const MIN_EXTENSION: Duration = Duration::from_secs(2);

/// How the token of one request stands; see [`TokenCache::status`](super::TokenCache::status).
#[derive(Clone, Debug)]
pub struct TokenStatus {
    request: TokenRequest,
    state: TokenState,
    expires_in: Option<Duration>,
    last_error: Option<TokenError>,
}

/// The state of a token in a cache; see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenState {
    /// It can be used, and nothing is to be done.
    Fresh,
    /// It can be used, and the next caller starts its renewal.
    Stale,
    /// It is over.
    Expired,
    /// There is none, and it is too early to ask again.
    Failed,
    /// There is none yet, or it was refused.
    Empty,
}

impl TokenStatus {
    pub(super) fn of(entry: &Entry) -> Self {
        let now = entry.now();
        let (held, failure) = entry.inspect();
        let state = match classify(held.as_ref(), failure.as_ref(), now) {
            Condition::Fresh(_) => TokenState::Fresh,
            Condition::Stale(_) => TokenState::Stale,
            Condition::Expired => TokenState::Expired,
            Condition::Failed(_) => TokenState::Failed,
            Condition::Empty => TokenState::Empty,
        };
        Self {
            request: entry.request().clone(),
            state,
            expires_in: held.map(|held| now.until(held.expires_at)),
            last_error: failure.map(|failure| failure.error),
        }
    }

    /// What the token was or will be asked for with. `Debug` shows it without its secrets.
    #[must_use]
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> TokenState {
        self.state
    }

    /// How long the token can still be used: zero if it is over, `None` if there is none.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// Why the last fetch failed, if it did.
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

        /// Whatever the clocks do after it was fetched, and whatever token was held before.
        #[test]
        fn a_token_is_never_served_past_its_end(
            sent in moments(),
            now in moments(),
            lifetime in durations(),
            refresh_in in prop::option::of(durations()),
            jitter in 0.0..1.0,
            before in prop::option::of((moments(), durations(), any::<bool>())),
        ) {
            let windows = RefreshWindow::new().of(lifetime, true, jitter).renewed_in(refresh_in);
            let before = before.map(|(sent, lifetime, same)| {
                let text = if same { "token" } else { "another" };
                held(text, sent, sent.after(lifetime))
            });
            let new = token("token");
            let stale_at = stale_at(sent, windows, before.as_ref(), &new);
            let expires_at = sent.after(windows.usable);
            prop_assert!(expires_at.has_reached(stale_at));

            let new = Arc::new(held("token", stale_at, expires_at));
            match classify(Some(&new), None, now) {
                Condition::Fresh(_) => prop_assert!(!now.has_reached(stale_at) && !now.has_reached(expires_at)),
                Condition::Stale(_) => prop_assert!(now.has_reached(stale_at) && !now.has_reached(expires_at)),
                Condition::Expired => prop_assert!(now.has_reached(expires_at)),
                Condition::Failed(_) | Condition::Empty => prop_assert!(false),
            }
        }
    }

    fn token(text: &str) -> AccessToken {
        AccessToken::new(text, TokenType::BEARER).unwrap()
    }

    fn held(text: &str, stale_at: Moment, expires_at: Moment) -> CachedToken {
        CachedToken {
            generation: 1,
            token: token(text),
            authorization: HeaderValue::from_static("Bearer"),
            stale_at,
            expires_at,
            server_expires_at: expires_at,
            young_until: expires_at,
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
