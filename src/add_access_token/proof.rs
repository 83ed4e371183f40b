//! The DPoP proof of a request whose token is bound to a key (RFC 9449 §7).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use std::sync::Arc;

use http::{HeaderMap, Request, Uri};

use crate::{
    dpop::{Proof, Role},
    error::TokenError,
    message::AccessToken,
    token_cache::Authorization,
};

/// Makes a proof.
pub(super) type ProofFuture = Pin<Box<dyn Future<Output = Result<Proof, TokenError>> + Send>>;

/// Starts to make the proof of a request to `target`. `None` if the token needs no proof.
pub(super) fn start<B>(
    authorization: &Authorization,
    request: &Request<B>,
    target: &Uri,
) -> Option<ProofFuture> {
    let binding = authorization.bound.as_ref()?.binding()?.clone();
    let (method, target) = (request.method().clone(), target.clone());
    Some(Box::pin(async move {
        let hash = Some(&*binding.token_hash);
        let role = Role::ResourceServer;
        binding.key.prove(role, &method, &target, hash).await
    }))
}

/// The proof, if it can be made without waiting, as with a key in this process.
pub(super) fn at_once(proof: &mut ProofFuture) -> Option<Result<Proof, TokenError>> {
    match proof.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(proof) => Some(proof),
        Poll::Pending => None,
    }
}

/// Remembers the proof that a request was sent with, for the nonce of its response.
pub(super) struct SentProof {
    token: AccessToken,
    pub(super) target: Uri,
    /// The nonce in the proof, if it had one.
    pub(super) nonce: Option<Arc<str>>,
}

impl SentProof {
    pub(super) fn new(token: AccessToken, target: Uri, nonce: Option<Arc<str>>) -> Self {
        Self {
            token,
            target,
            nonce,
        }
    }

    /// Stores the nonce of a response. Successful responses carry nonces, too (RFC 9449 §8.2).
    pub(super) fn note_nonce(&self, headers: &HeaderMap) {
        if let Some(binding) = self.token.binding() {
            let role = Role::ResourceServer;
            binding.key.note_headers(role, &self.target, headers);
        }
    }
}
