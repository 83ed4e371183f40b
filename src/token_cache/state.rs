//! What an entry of the cache knows, and what follows from it. Pure: the time is an argument.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use super::refresh_window::Windows;
use crate::{access_token::AccessToken, clock::Moment, token_endpoint::TokenError};

/// A token that the cache holds.
pub(crate) struct Held {
    /// Names this token among all that its entry ever held.
    pub(crate) generation: u64,
    pub(crate) token: AccessToken,
    pub(crate) authorization: HeaderValue,
    pub(crate) stale_at: Moment,
    pub(crate) expires_at: Moment,
}

/// The state of an entry, and what its callers get.
pub(crate) enum Condition<'a> {
    /// There is a token, and nothing is to be done.
    Fresh(&'a Arc<Held>),
    /// There is a token, and it is time to renew it.
    Stale(&'a Arc<Held>),
    /// There is a token, but it is over.
    Expired,
    /// There is no usable token, and it is too early to ask again.
    Failed(&'a Failure),
    /// There is no token.
    Empty,
}

/// In which state an entry is.
pub(crate) fn classify<'a>(
    held: Option<&'a Arc<Held>>,
    failure: Option<&'a Failure>,
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

/// Why a token is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    First,
    Stale,
    Expired,
    Refused,
    Asked,
}

impl Reason {
    /// As it stands in the events of `tracing`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Asked => "asked for",
        }
    }
}

/// When a new token is to be renewed and when it is over.
///
/// A server that hands out the token that is held already, with no more life in it, would be asked again and again: such a
/// token is not renewed early a second time.
pub(crate) fn deadlines(
    sent: Moment,
    windows: Windows,
    held: Option<&Held>,
    token: &AccessToken,
) -> (Moment, Moment) {
    let expires_at = sent.after(windows.usable);
    let same = held.filter(|held| held.token == *token);
    let stale_at = match same {
        Some(held) if held.expires_at.after(EXTENSION).has_reached(expires_at) => expires_at,
        _ => sent.after(windows.fresh),
    };
    (stale_at, expires_at)
}

/// A token that lives on for less than this has not been extended: seconds are what servers count in.
const EXTENSION: Duration = Duration::from_secs(2);

/// The last fetch failed.
pub(crate) struct Failure {
    pub(crate) error: TokenError,
    pub(crate) streak: u32,
    pub(crate) pause: Duration,
    retry_at: Moment,
}

impl Failure {
    /// The failure after `previous`, with the pause that it brings. `jitter` is from 0 to 1.
    pub(crate) fn after(
        previous: Option<&Self>,
        error: TokenError,
        now: Moment,
        jitter: f64,
    ) -> Self {
        let streak = previous.map_or(1, |previous| previous.streak.saturating_add(1));
        let pause = pause(&error, streak, jitter);
        Self {
            error,
            streak,
            pause,
            retry_at: now.after(pause),
        }
    }

    /// Whether it is too early to ask again.
    pub(crate) fn is_pausing(&self, now: Moment) -> bool {
        !now.has_reached(self.retry_at)
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const FIRST_PAUSE_TERMINAL: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(60);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How long nobody asks after so many failures in a row.
///
/// A wrong secret is remembered a little longer than a bad moment of the network: nothing heals it but a person.
fn pause(error: &TokenError, streak: u32, jitter: f64) -> Duration {
    let first = if error.is_transient() {
        FIRST_PAUSE
    } else {
        FIRST_PAUSE_TERMINAL
    };
    let pause = first
        .saturating_mul(2_u32.saturating_pow(streak.saturating_sub(1)))
        .min(MAX_PAUSE)
        .mul_f64(0.5 + jitter / 2.0);
    match error.retry_after() {
        Some(retry_after) => pause.max(retry_after.min(MAX_RETRY_AFTER)),
        None => pause,
    }
}

/// How often the tokens of an entry were refused of late.
///
/// An API that refuses every token (a wrong audience) must not make everybody else's token new with each of its calls. So
/// two refusals in a row renew at once; after that one in a pause does, and the pause doubles.
#[derive(Default)]
pub(crate) struct Refusals {
    streak: u32,
    last: Option<Moment>,
    pause_until: Option<Moment>,
}

const FREE_REFUSALS: u32 = 2;
const FIRST_REFUSAL_PAUSE: Duration = Duration::from_secs(5);
const MAX_REFUSAL_PAUSE: Duration = Duration::from_secs(300);
/// After so long without a refusal, the next one is the first again.
const QUIET: Duration = Duration::from_secs(60);

impl Refusals {
    /// Notes that the token that is held was refused; says whether it is to be dropped.
    pub(crate) fn note(&mut self, now: Moment) -> bool {
        let pause = self.pause();
        let quiet = QUIET.max(pause.saturating_mul(2));
        if self
            .last
            .is_none_or(|last| now.has_reached(last.after(quiet)))
        {
            *self = Self::default();
        }
        self.last = Some(now);
        if self
            .pause_until
            .is_some_and(|until| !now.has_reached(until))
        {
            return false;
        }
        self.streak = self.streak.saturating_add(1);
        if self.streak >= FREE_REFUSALS {
            self.pause_until = Some(now.after(self.pause()));
        }
        true
    }

    /// The pause after the last of the refusals that were counted.
    fn pause(&self) -> Duration {
        match self.streak.checked_sub(FREE_REFUSALS) {
            Some(doublings) => FIRST_REFUSAL_PAUSE
                .saturating_mul(2_u32.saturating_pow(doublings))
                .min(MAX_REFUSAL_PAUSE),
            None => Duration::ZERO,
        }
    }
}
