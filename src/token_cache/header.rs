//! The header that carries the token of a request.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use super::{
    entry::Entry,
    sent_token::TokenName,
    source::{SourceKind, TokenSource},
    state::CachedToken,
};
use crate::{
    error::{TokenError, TokenErrorKind::UnsupportedTokenType},
    message::{AccessToken, TokenType},
};

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
    pub(super) fn cached(
        entry: &Entry,
        cached: &CachedToken,
        header: Option<&TokenHeader>,
    ) -> Self {
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
    pub(super) fn unbound(&self, header: Option<&TokenHeader>) -> Option<(HeaderValue, TokenName)> {
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
