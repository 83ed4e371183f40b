//! A copy of the current token that one service instance has for itself.
//!
//! To clone a `HeaderValue` is to count on a cache line that all clones share, and threads would wait for each other there. So
//! each instance keeps bytes of its own, and what is shared is only read. The copy is made on the second call of an instance:
//! one that was cloned for a single request should not pay for it.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use super::{
    entries,
    entry::{Entry, Invalidation},
    source::TokenSource,
    state::CachedToken,
};
use crate::{
    base::clock::Moment,
    error::{TokenError, TokenErrorKind::UnsupportedTokenType},
    message::{AccessToken, TokenType},
};

/// Which token a request bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenName {
    entry: NonZeroU64,
    generation: u64,
}

impl TokenName {
    /// A token that no cache holds. No entry has this number.
    pub(crate) const NONE: Self = Self {
        entry: NonZeroU64::MAX,
        generation: 0,
    };

    /// Puts the name where there is a place for it.
    #[inline]
    pub(crate) fn tell(self, extensions: &mut Extensions) {
        if let Some(place) = extensions.get_mut() {
            *place = self;
        }
    }

    /// Says that the token was refused.
    pub(crate) fn refuse(self) -> Invalidation {
        match entries::find_by_id(self.entry) {
            Some(entry) => entry.invalidate(|held| held.generation == self.generation),
            None => Invalidation::StillInUse,
        }
    }
}

/// The value of the `Authorization` header for one request, and the name of the token in it.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) value: HeaderValue,
    pub(crate) token: TokenName,
    /// The token itself, if it takes a proof to use it.
    pub(crate) bound: Option<AccessToken>,
}

impl TokenSource {
    /// Puts the header on a request, if there is a token that can be used now and takes no proof.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) -> Option<TokenName> {
        let mut put = |token: &AccessToken, value: &HeaderValue, name| {
            if token.binding().is_some() {
                return None;
            }
            headers.insert(AUTHORIZATION, value.clone());
            Some(name)
        };
        match self.entry() {
            Some(entry) => entry
                .usable(|held| put(&held.token, &held.authorization, name(entry, held)))
                .flatten(),
            None => {
                let token = self.fixed_token()?;
                put(token, token.sendable()?, TokenName::NONE)
            }
        }
    }

    /// What to put on a request, if there is a token that can be used now.
    pub(crate) fn usable_authorization(&self) -> Option<Authorization> {
        match self.entry() {
            Some(entry) => entry.usable(|held| authorization(entry, held)),
            None => fixed(self.fixed_token()?),
        }
    }

    /// What to put on a request, waiting for it if need be.
    pub(crate) async fn wait_for_authorization(self) -> Result<Authorization, TokenError> {
        match self.entry() {
            Some(entry) => {
                let held = entry.clone().token().await?;
                Ok(authorization(entry, &held))
            }
            None => {
                let token = self.fixed_token();
                token.and_then(fixed).ok_or_else(|| match token {
                    Some(token) => unsupported_token_type(token.token_type()),
                    None => TokenError::request("no token"),
                })
            }
        }
    }
}

fn authorization(entry: &Entry, held: &CachedToken) -> Authorization {
    Authorization {
        value: held.authorization.clone(),
        token: name(entry, held),
        bound: bound(&held.token),
    }
}

fn name(entry: &Entry, held: &CachedToken) -> TokenName {
    TokenName {
        entry: entry.id(),
        generation: held.generation,
    }
}

fn fixed(token: &AccessToken) -> Option<Authorization> {
    Some(Authorization {
        value: token.sendable()?.clone(),
        token: TokenName::NONE,
        bound: bound(token),
    })
}

fn bound(token: &AccessToken) -> Option<AccessToken> {
    token.binding().map(|_| token.clone())
}

/// The copy of one instance. A clone of it starts anew.
pub(crate) struct LocalCopy(CopyState);

enum CopyState {
    /// The instance has not been called yet.
    Unused,
    /// The next call makes a copy.
    Used,
    Copy {
        value: HeaderValue,
        token: TokenName,
        /// Good without a further look until then.
        look_at: Moment,
        expires_at: Moment,
    },
}

/// A stale token is served all the same; its renewal is seen to now and then, since that takes a lock.
const RECHECK: Duration = Duration::from_millis(100);

impl LocalCopy {
    pub(crate) const fn new() -> Self {
        Self(CopyState::Unused)
    }

    /// Puts the header on a request, if there is a token that can be used now.
    #[inline]
    pub(crate) fn authorize(
        &mut self,
        headers: &mut HeaderMap,
        source: &TokenSource,
    ) -> Option<TokenName> {
        match (&self.0, source.entry()) {
            (
                CopyState::Copy {
                    value,
                    token,
                    look_at,
                    ..
                },
                Some(entry),
            ) if entry.generation() == token.generation && !entry.now().has_reached(*look_at) => {
                headers.insert(AUTHORIZATION, value.clone());
                Some(*token)
            }
            (CopyState::Used | CopyState::Copy { .. }, Some(entry)) => self.look(headers, entry),
            (_, _) => {
                self.0 = CopyState::Used;
                source.authorize(headers)
            }
        }
    }

    /// Goes on with the copy if it is only stale, else makes another.
    #[cold]
    fn look(&mut self, headers: &mut HeaderMap, entry: &Arc<Entry>) -> Option<TokenName> {
        let now = entry.now();
        match &mut self.0 {
            CopyState::Copy {
                value,
                token,
                look_at,
                expires_at,
            } if entry.generation() == token.generation && !now.has_reached(*expires_at) => {
                entry.try_renew_if_due(now);
                *look_at = now.after(RECHECK.min(now.until(*expires_at)));
                headers.insert(AUTHORIZATION, value.clone());
                Some(*token)
            }
            _ => {
                let (shared, stale_at, expires_at) = entry
                    .usable(|held| (authorization(entry, held), held.stale_at, held.expires_at))?;
                let Authorization {
                    value,
                    token,
                    bound: None,
                } = shared
                else {
                    return None;
                };
                self.0 = CopyState::Copy {
                    value: copy(&value)?,
                    token,
                    look_at: stale_at,
                    expires_at,
                };
                headers.insert(AUTHORIZATION, value);
                Some(token)
            }
        }
    }
}

impl Clone for LocalCopy {
    fn clone(&self) -> Self {
        Self::new()
    }
}

/// The same value in bytes of its own.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    let bytes = Zeroizing::new(value.as_bytes().to_vec());
    let mut copy = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    copy.set_sensitive(true);
    Some(copy)
}

pub(super) fn unsupported_token_type(token_type: &TokenType) -> TokenError {
    let message = if *token_type == TokenType::DPOP {
        "a DPoP token cannot be sent without its key; set it by `TokenEndpoint::dpop` (feature `dpop`)".into()
    } else {
        format!(
            "a token of the type {token_type:?} cannot be sent; this crate sends Bearer and DPoP"
        )
    };
    TokenError::new(UnsupportedTokenType, message, None)
}
