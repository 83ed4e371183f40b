//! The copy of the header's value that each service instance owns.
//!
//! Cloning a `HeaderValue` bumps a reference count on a shared cache line, and threads would wait for each other there. So each
//! instance of a service owns a copy of the bytes, and only reads what is shared. An instance makes its copy on its second call: one
//! that was cloned for a single request should not pay for a copy.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::{
    entry::Entry,
    header::{Authorization, TokenHeader},
    sent_token::TokenName,
    source::TokenSource,
};
use crate::base::clock::Moment;

/// The copy that one service instance owns. A clone starts without one.
pub(crate) struct LocalCopy(CopyState);

enum CopyState {
    /// The instance has not been called yet.
    Unused,
    /// The next call makes a copy.
    Used,
    Copied {
        value: HeaderValue,
        token: TokenName,
        /// Until then, the copy is usable without a look at the entry.
        recheck_at: Moment,
        expires_at: Moment,
    },
}

/// How often an instance with a stale token tries to start the renewal, which takes a lock.
const RECHECK: Duration = Duration::from_millis(100);

impl LocalCopy {
    pub(crate) const fn new() -> Self {
        Self(CopyState::Unused)
    }

    /// Sets the header of a request if there is a usable token that needs no proof.
    #[inline]
    pub(crate) fn authorize(
        &mut self,
        headers: &mut HeaderMap,
        source: &TokenSource,
        header: Option<&TokenHeader>,
    ) -> Option<TokenName> {
        let (value, token) = match (&self.0, source.entry()) {
            (
                CopyState::Copied {
                    value,
                    token,
                    recheck_at,
                    ..
                },
                Some(entry),
            ) if entry.generation() == token.generation
                && !entry.now().has_reached(*recheck_at) =>
            {
                (value.clone(), *token)
            }
            (CopyState::Used | CopyState::Copied { .. }, Some(entry)) => {
                self.recheck(entry, header)?
            }
            (_, _) => {
                self.0 = CopyState::Used;
                source.unbound(header)?
            }
        };
        // One call for all cases, so that it is inlined.
        TokenHeader::set(header, headers, value);
        Some(token)
    }

    /// Keeps the copy if it is only stale; otherwise makes a new one.
    #[cold]
    fn recheck(
        &mut self,
        entry: &Arc<Entry>,
        header: Option<&TokenHeader>,
    ) -> Option<(HeaderValue, TokenName)> {
        let now = entry.now();
        match &mut self.0 {
            CopyState::Copied {
                value,
                token,
                recheck_at,
                expires_at,
            } if entry.generation() == token.generation && !now.has_reached(*expires_at) => {
                entry.try_renew_if_due(now);
                *recheck_at = now.after(RECHECK.min(now.until(*expires_at)));
                Some((value.clone(), *token))
            }
            _ => {
                let (shared, stale_at, expires_at) = entry.usable(|cached| {
                    let shared = Authorization::cached(entry, cached, header);
                    (shared, cached.stale_at, cached.expires_at)
                })?;
                let Authorization {
                    value,
                    token,
                    bound: None,
                } = shared
                else {
                    return None;
                };
                self.0 = CopyState::Copied {
                    value: copy(&value)?,
                    token,
                    recheck_at: stale_at,
                    expires_at,
                };
                Some((value, token))
            }
        }
    }
}

impl Clone for LocalCopy {
    fn clone(&self) -> Self {
        Self::new()
    }
}

/// Copies the bytes of a value, so that its clones share no reference count with it.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    let bytes = Zeroizing::new(value.as_bytes().to_vec());
    let mut copy = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    copy.set_sensitive(true);
    Some(copy)
}
