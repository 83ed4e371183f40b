//! A copy of the current token that one service instance has for itself.
//!
//! To clone a `HeaderValue` is to count on a cache line that all clones share, and threads would wait for each other there. So
//! each instance keeps bytes of its own, and what is shared is only read. The copy is made on the second call of an instance:
//! one that was cloned for a single request should not pay for it.

use std::sync::Arc;

use http::HeaderValue;

use super::{
    entry::{Entry, Invalidation},
    registry,
    source::TokenSource,
    state::Held,
};
use crate::{access_token::AccessToken, clock::Moment, token_endpoint::TokenError};

/// Which token a request bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenName {
    entry: u64,
    generation: u64,
}

impl TokenName {
    /// A token that no cache holds. No entry has this number.
    const NONE: Self = Self {
        entry: 0,
        generation: 0,
    };

    /// Says that the token was refused.
    pub(crate) fn refuse(self) -> Invalidation {
        match registry::find(self.entry) {
            Some(entry) => entry.invalidate(|held| held.generation == self.generation),
            None => Invalidation::Kept,
        }
    }
}

/// The value of the `Authorization` header for one request, and the name of the token in it.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) value: HeaderValue,
    pub(crate) token: TokenName,
}

impl TokenSource {
    /// What to put on a request now, if that is known without waiting.
    pub(crate) fn authorization(&self) -> Option<Authorization> {
        match self.entry() {
            Some(entry) => entry.usable(|held| authorization(entry, held)),
            None => self.fixed_token().and_then(fixed),
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
                    Some(token) => TokenError::unsupported_token_type(token.token_type()),
                    None => TokenError::request("no token"),
                })
            }
        }
    }
}

fn authorization(entry: &Arc<Entry>, held: &Held) -> Authorization {
    Authorization {
        value: held.authorization.clone(),
        token: TokenName {
            entry: entry.id(),
            generation: held.generation,
        },
    }
}

fn fixed(token: &AccessToken) -> Option<Authorization> {
    Some(Authorization {
        value: token.authorization()?.clone(),
        token: TokenName::NONE,
    })
}

/// The copy of one instance. A clone of it starts anew.
pub(crate) struct LocalCopy(Copied);

enum Copied {
    /// The instance has not been called yet.
    Unused,
    /// The next call makes a copy.
    Used,
    Copy {
        value: HeaderValue,
        token: TokenName,
        stale_at: Moment,
    },
}

impl LocalCopy {
    pub(crate) const fn new() -> Self {
        Self(Copied::Unused)
    }

    /// What to put on a request now, if that is known without waiting.
    #[inline]
    pub(crate) fn authorization(&mut self, source: &TokenSource) -> Option<Authorization> {
        if let (
            Copied::Copy {
                value,
                token,
                stale_at,
            },
            Some(entry),
        ) = (&self.0, source.entry())
        {
            if entry.generation() == token.generation && !entry.now().has_reached(*stale_at) {
                return Some(Authorization {
                    value: value.clone(),
                    token: *token,
                });
            }
        }
        self.authorization_by_source(source)
    }

    #[cold]
    fn authorization_by_source(&mut self, source: &TokenSource) -> Option<Authorization> {
        let Some(entry) = source.entry() else {
            return source.authorization();
        };
        if let Copied::Unused = self.0 {
            self.0 = Copied::Used;
            return source.authorization();
        }
        let (value, token, stale_at) = entry.usable(|held| {
            let Authorization { value, token } = authorization(entry, held);
            (value, token, held.stale_at)
        })?;
        self.0 = Copied::Copy {
            value: copy(&value)?,
            token,
            stale_at,
        };
        Some(Authorization { value, token })
    }
}

impl Clone for LocalCopy {
    fn clone(&self) -> Self {
        Self::new()
    }
}

/// The same value in bytes of its own.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    copy.set_sensitive(true);
    Some(copy)
}
