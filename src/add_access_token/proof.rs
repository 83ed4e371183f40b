//! The DPoP proof of a request whose token is bound to a key (RFC 9449 §7).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::{dpop::Role, error::TokenError, message::AccessToken};

/// A proof that is being made.
pub(super) type Proving = Pin<Box<dyn Future<Output = Result<HeaderValue, TokenError>> + Send>>;

/// Makes a proof for a request to `target` that bears `token`. `None` for a token that takes none.
pub(super) fn prove(token: &AccessToken, method: &Method, target: &Uri) -> Option<Proving> {
    let binding = token.binding()?.clone();
    let (method, target) = (method.clone(), target.clone());
    Some(Box::pin(async move {
        let hash = Some(&*binding.token_hash);
        let role = Role::ResourceServer;
        binding.key.prove(role, &method, &target, hash).await
    }))
}

/// The proof, if it can be made without waiting, as with a key in this process.
pub(super) fn at_once(proving: &mut Proving) -> Option<Result<HeaderValue, TokenError>> {
    match proving
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(proof) => Some(proof),
        Poll::Pending => None,
    }
}

/// A request that went out with a proof.
pub(super) struct Proven {
    token: AccessToken,
    pub(super) target: Uri,
}

impl Proven {
    pub(super) fn new(token: AccessToken, target: Uri) -> Self {
        Self { token, target }
    }

    /// Takes in the nonce of a response, which comes with successes, too (RFC 9449 §8.2).
    pub(super) fn note_nonce(&self, headers: &HeaderMap) {
        if let Some(binding) = self.token.binding() {
            let role = Role::ResourceServer;
            binding.key.note_nonce(role, &self.target, headers);
        }
    }
}
