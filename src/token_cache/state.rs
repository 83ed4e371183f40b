//! What an entry of the cache knows, and what follows from it. Pure: the time is an argument.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;

use super::{failure::Failure, refresh_window::Windows};
use crate::{access_token::AccessToken, clock::Moment};

/// A token that the cache holds.
pub(crate) struct Held {
    /// Names this token among all that its entry ever held.
    pub(crate) generation: u64,
    pub(crate) token: AccessToken,
    pub(crate) authorization: HeaderValue,
    pub(crate) stale_at: Moment,
    pub(crate) expires_at: Moment,
    /// When it is over by the server's word.
    pub(crate) ends_at: Moment,
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

/// When a new token is to be renewed.
///
/// A server that hands out the token that is held already, with no more life in it, would be asked again and again: such a
/// token is not renewed early a second time.
pub(crate) fn stale_at(
    sent: Moment,
    windows: Windows,
    held: Option<&Held>,
    token: &AccessToken,
) -> Moment {
    let ends_at = sent.after(windows.lifetime);
    let same = held.filter(|held| held.token == *token);
    match same {
        Some(held) if held.ends_at.after(EXTENSION).has_reached(ends_at) => {
            sent.after(windows.usable)
        }
        _ => sent.after(windows.fresh),
    }
}

/// A token that lives on for less than this has not been extended: seconds are what servers count in.
const EXTENSION: Duration = Duration::from_secs(2);
