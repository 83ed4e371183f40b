//! The header that carries the token of a request, and the copy of its value that each service instance owns.
//!
//! Cloning a `HeaderValue` bumps a reference count on a shared cache line, and threads would wait for each other there. So each
//! instance of a service owns a copy of the bytes, and only reads what is shared. An instance makes its copy on its second call: one
//! that was cloned for a single request should not pay for a copy.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, header::AUTHORIZATION};
use zeroize::Zeroizing;

use super::{
    entries,
    entry::{Entry, Invalidation, News, SentTo},
    source::{SourceKind, TokenSource},
    state::CachedToken,
};
use crate::{
    base::{clock::Moment, origin_id::OriginId},
    error::{TokenError, TokenErrorKind::UnsupportedTokenType},
    message::{AccessToken, TokenType},
};

/// Identifies the token that a request carries.
///
/// A response that is on its way holds these two numbers instead of a reference count, which every request would have to write.
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

    fn new(entry: &Entry, cached: &CachedToken) -> Self {
        Self {
            entry: entry.id(),
            generation: cached.generation,
        }
    }

    /// Stores the name in the extensions if they have a place for it.
    #[inline]
    pub(crate) fn tell(self, extensions: &mut Extensions) {
        if let Some(place) = extensions.get_mut() {
            *place = self;
        }
    }

    /// Reports that an API refused the token, where it is not known which origin that was.
    pub(crate) fn refuse(self) -> Invalidation {
        self.refuse_at(SentTo::NOWHERE)
    }

    fn refuse_at(self, sent_to: SentTo) -> Invalidation {
        match entries::find_by_id(self.entry) {
            Some(entry) => entry.invalidate(sent_to, |cached| cached.generation == self.generation),
            None => Invalidation::Kept,
        }
    }
}

/// A token that is on its way to an origin.
///
/// It is small, because each request moves it several times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentToken {
    name: TokenName,
    sent_to: SentTo,
}

impl SentToken {
    /// Returns whether an acceptance by the origin would be news. In most cases it is not.
    #[inline]
    pub(crate) fn is_news(&self) -> bool {
        self.sent_to.news() != News::Nothing
    }

    /// Returns where the token was sent, if that is known.
    pub(crate) fn origin(&self) -> Option<OriginId> {
        self.sent_to.origin()
    }

    /// Reports the status of a response that does not refuse the token.
    #[cold]
    pub(crate) fn report(&self, status: StatusCode) {
        if !self.is_news() || !status.is_success() {
            return;
        }
        if let (Some(entry), Some(origin)) =
            (entries::find_by_id(self.name.entry), self.sent_to.origin())
        {
            entry.note_accepted(origin, self.name.generation, self.sent_to.news());
        }
    }

    /// Returns the entry of the token, if it is still there.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        entries::find_by_id(self.name.entry)
    }

    /// Reports that the origin refused the token.
    pub(crate) fn refuse(self) -> Invalidation {
        self.name.refuse_at(self.sent_to)
    }
}

/// A header that was chosen to carry tokens, in place of `Authorization`.
#[derive(Clone, Debug)]
pub(crate) struct TokenHeader {
    pub(crate) name: HeaderName,
    /// See [`AccessToken::value_with`].
    pub(crate) scheme: Option<Box<str>>,
}

impl TokenHeader {
    /// The value that carries a token in this header, if it can be sent.
    fn value<'a>(&self, token: &'a AccessToken) -> Option<&'a HeaderValue> {
        token.value_with(self.scheme.as_deref())
    }

    /// Sets the header of a request. Without a chosen header it is `Authorization`.
    #[inline]
    pub(crate) fn set(header: Option<&Self>, headers: &mut HeaderMap, value: HeaderValue) {
        match header {
            None => drop(headers.insert(AUTHORIZATION, value)),
            Some(header) => header.set_chosen(headers, value),
        }
    }

    #[inline(never)]
    fn set_chosen(&self, headers: &mut HeaderMap, value: HeaderValue) {
        headers.insert(&self.name, value);
    }
}

/// The value of the header that carries the token of one request, and the name of the token in it.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) value: HeaderValue,
    pub(crate) token: TokenName,
    /// The token itself, if each request also needs a proof.
    pub(crate) bound: Option<AccessToken>,
}

impl Authorization {
    fn cached(entry: &Entry, cached: &CachedToken, header: Option<&TokenHeader>) -> Self {
        Self {
            value: header
                .and_then(|header| header.value(&cached.token))
                .unwrap_or(&cached.authorization)
                .clone(),
            token: TokenName::new(entry, cached),
            bound: bound(&cached.token),
        }
    }

    fn fixed(token: &AccessToken, header: Option<&TokenHeader>) -> Option<Self> {
        Some(Self {
            value: match header {
                None => token.sendable(),
                Some(header) => header.value(token),
            }?
            .clone(),
            token: TokenName::NONE,
            bound: bound(token),
        })
    }
}

fn bound(token: &AccessToken) -> Option<AccessToken> {
    token.binding().map(|_| token.clone())
}

impl TokenSource {
    /// Sets the header of a request if there is a usable token that needs no proof.
    pub(crate) fn authorize(
        &self,
        headers: &mut HeaderMap,
        header: Option<&TokenHeader>,
    ) -> Option<TokenName> {
        let (value, token) = self.unbound(header)?;
        TokenHeader::set(header, headers, value);
        Some(token)
    }

    /// Returns the value of the header if there is a usable token that needs no proof.
    fn unbound(&self, header: Option<&TokenHeader>) -> Option<(HeaderValue, TokenName)> {
        if let Some(header) = header {
            return self.unbound_chosen(header);
        }
        match &self.0 {
            SourceKind::Cached { entry, .. } => entry
                .usable(|cached| {
                    let is_bound = cached.token.binding().is_some();
                    let name = TokenName::new(entry, cached);
                    (!is_bound).then(|| (cached.authorization.clone(), name))
                })
                .flatten(),
            SourceKind::Fixed(token) => {
                let value = token.sendable().filter(|_| token.binding().is_none())?;
                Some((value.clone(), TokenName::NONE))
            }
        }
    }

    /// Says where a token of this source is sent.
    #[inline]
    pub(crate) fn sent(&self, name: TokenName, origin: Option<OriginId>) -> SentToken {
        let sent_to = match &self.0 {
            SourceKind::Cached { entry, .. } => entry.sent_to(origin, name.generation),
            SourceKind::Fixed(_) => SentTo::NOWHERE,
        };
        SentToken { name, sent_to }
    }

    #[inline(never)]
    fn unbound_chosen(&self, header: &TokenHeader) -> Option<(HeaderValue, TokenName)> {
        let authorization = self.usable_authorization(Some(header))?;
        let is_bound = authorization.bound.is_some();
        (!is_bound).then_some((authorization.value, authorization.token))
    }

    /// Returns the header if there is a usable token.
    pub(crate) fn usable_authorization(
        &self,
        header: Option<&TokenHeader>,
    ) -> Option<Authorization> {
        match &self.0 {
            SourceKind::Cached { entry, .. } => {
                entry.usable(|cached| Authorization::cached(entry, cached, header))
            }
            SourceKind::Fixed(token) => Authorization::fixed(token, header),
        }
    }

    /// Returns the header, and waits for a usable token if there is none yet.
    pub(crate) async fn wait_for_authorization(
        self,
        header: Option<Arc<TokenHeader>>,
    ) -> Result<Authorization, TokenError> {
        let header = header.as_deref();
        match &self.0 {
            SourceKind::Cached { entry, .. } => {
                let cached = entry.clone().token().await?;
                Ok(Authorization::cached(entry, &cached, header))
            }
            SourceKind::Fixed(token) => Authorization::fixed(token, header)
                .ok_or_else(|| unsupported_token_type(token.token_type())),
        }
    }
}

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

pub(super) fn unsupported_token_type(token_type: &TokenType) -> TokenError {
    let message = if *token_type == TokenType::DPOP {
        "a DPoP token cannot be sent without its key; set it with `TokenEndpoint::dpop` (feature `dpop`)".into()
    } else if token_type.is_unknown() {
        format!(
            "a token of the unknown type `{token_type}` is not sent; if the API accepts it as a Bearer token, and it was requested \
             without a DPoP key, call `TokenEndpoint::token_type(TokenType::BEARER)`"
        )
    } else {
        format!(
            "a token of the type `{token_type}` cannot be sent; this crate sends Bearer and DPoP tokens"
        )
    };
    TokenError::new(UnsupportedTokenType, message, None)
}
