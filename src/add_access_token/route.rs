//! What a request goes through when it is sent later, or sent again.

use std::sync::{Arc, PoisonError};

use super::{
    needs::Needs, refusal::RefusalRules, step_up::StrongerTokens, token_choice::TokenRules,
};
use crate::{
    base::{
        origin_id::OriginId,
        sync::{Mutex, OnceLock},
    },
    token_cache::{TokenHeader, TokenSource},
};

/// What the clones of a service share.
pub(super) struct ServiceParts<S> {
    pub(super) rules: TokenRules,
    /// Cloned when a request is resent. So a request that may be resent need not clone the inner service, which can be costly.
    ///
    /// The lock makes these parts `Sync` even if the inner service is not.
    spare: OnceLock<Mutex<S>>,
}

impl<S> ServiceParts<S> {
    pub(super) fn new(rules: TokenRules) -> Self {
        Self {
            rules,
            spare: OnceLock::new(),
        }
    }

    /// The same parts for another inner service.
    pub(super) fn without_spare(&self) -> Self {
        Self::new(self.rules.clone())
    }

    pub(super) fn has_spare(&self) -> bool {
        self.spare.get().is_some()
    }
}

impl<S: Clone> ServiceParts<S> {
    /// Makes sure that there is a spare clone of the inner service.
    #[inline]
    pub(super) fn keep_spare(&self, inner: &S) {
        self.spare.get_or_init(|| Mutex::new(inner.clone()));
    }

    /// A clone of the inner service that is not ready.
    fn spare(&self) -> Option<S> {
        let spare = self.spare.get()?.lock();
        Some(spare.unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Where a request gets its token from, and how it is sent.
pub(super) struct Route<S, R> {
    pub(super) parts: Arc<ServiceParts<S>>,
    pub(super) source: TokenSource,
    pub(super) origin: Option<OriginId>,
    /// How the body is kept.
    pub(super) resend: R,
}

impl<S, R> Route<S, R> {
    /// The header that carries the token. `None` is `Authorization`.
    pub(super) fn header(&self) -> Option<&Arc<TokenHeader>> {
        self.parts.rules.header.as_ref()
    }

    /// What refuses the token. `None` is the default.
    pub(super) fn refusals(&self) -> Option<&Arc<RefusalRules>> {
        self.parts.rules.refusals.as_ref()
    }

    pub(super) fn stronger_tokens(&self) -> Option<&StrongerTokens> {
        self.refusals()?.stronger_tokens()
    }

    /// The token, which is waited for.
    pub(super) fn token(&self) -> Needs {
        Needs::token_of(&self.source, self.header())
    }
}

impl<S: Clone, R> Route<S, R> {
    /// The service that resends a request. `None` if [`keep_spare`](ServiceParts::keep_spare) was not called.
    pub(super) fn service(&self) -> Option<S> {
        self.parts.spare()
    }
}

impl<S, R: Clone> Clone for Route<S, R> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            source: self.source.clone(),
            origin: self.origin,
            resend: self.resend.clone(),
        }
    }
}
