//! What a token request takes that must first obtain something: credentials, signatures, where to go. Once, or twice for a nonce.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Uri, response::Parts};

use super::{
    decode::Binding,
    encode::{OwnedTarget, Prepared},
};
use crate::{
    dpop::Role,
    error::{Rotates, TokenError},
    message::{TokenRequest, TokenResponse},
    secret::UsedSecret,
};

/// A request whose credentials are being obtained.
pub(super) type Preparing = Pin<Box<dyn Future<Output = Result<Prepared, TokenError>> + Send>>;

/// What it takes to make a request that must first obtain something, once or twice.
pub(super) struct Preparation<S, B> {
    pub(super) plan: Arc<Plan>,
    pub(super) request_body: fn(Bytes) -> B,
    /// A clone that holds no reservation: to obtain a credential may take a call through the same stack.
    pub(super) service: S,
    pub(super) secret: Option<UsedSecret>,
    /// Where the request went.
    pub(super) uri: Uri,
    is_second: bool,
}

/// A request that must first obtain something, and where it goes.
pub(super) struct Plan {
    pub(super) request: TokenRequest,
    pub(super) target: OwnedTarget,
    pub(super) allow_bearer: bool,
}

impl Plan {
    fn prepare(self: Arc<Self>) -> Preparing {
        Box::pin(async move { self.target.obtain_and_encode(&self.request).await })
    }

    pub(super) fn binding(&self) -> Binding<'_> {
        Binding {
            key: self.target.dpop.as_ref(),
            allow_bearer: self.allow_bearer,
        }
    }
}

impl<S, B> Preparation<S, B> {
    pub(super) fn begin(plan: Plan, request_body: fn(Bytes) -> B, service: S) -> (Self, Preparing) {
        let plan = Arc::new(plan);
        let preparing = plan.clone().prepare();
        let preparation = Self {
            plan,
            request_body,
            service,
            secret: None,
            uri: Uri::default(),
            is_second: false,
        };
        (preparation, preparing)
    }

    /// Prepares the request once more, if the server demands a proof with its nonce. That may have used up a client assertion, too,
    /// so all that can be new is new.
    ///
    /// What a server said whose answer broke off is not known, so that is no demand.
    pub(super) fn again(
        &mut self,
        result: &Result<TokenResponse, TokenError>,
        is_whole: bool,
    ) -> Option<Preparing> {
        let is_demanded = is_whole
            && self.plan.target.dpop.is_some()
            && !self.is_second
            && result.as_ref().is_err_and(TokenError::demands_nonce);
        if !is_demanded {
            return None;
        }
        self.is_second = true;
        Some(self.plan.clone().prepare())
    }

    /// The secret that the request was made with, for the error that the server answered with.
    pub(super) fn used_secret(&mut self) -> Option<Box<dyn Rotates>> {
        let secret = self.secret.take()?;
        Some(Box::new(secret))
    }

    /// A success can hand out the next nonce as well (RFC 9449 §8.2).
    pub(super) fn note_nonce(&self, parts: &Parts) {
        if let Some(key) = &self.plan.target.dpop {
            key.note_nonce(Role::AuthorizationServer, &self.uri, &parts.headers);
        }
    }
}
