//! What is kept of a request while it is on its way.

use http::{Request, Uri, request};

use super::{proof::Proven, resend::Resend};
use crate::{dpop::DPOP, token_cache::TokenSource};

/// What is kept of a request while it is on its way. There is none for one that bears a bearer token and is not sent again.
pub(super) struct Kept<S, B, R: Resend<B>> {
    pub(super) saved: Option<Saved<S, B, R>>,
    pub(super) proven: Option<Proven>,
}

impl<S, B, R: Resend<B>> Kept<S, B, R> {
    /// What it takes to send the request once more, without its proof: that was for one request and one token.
    pub(super) fn into_saved(self) -> Option<Saved<S, B, R>> {
        let mut saved = self.saved?;
        if self.proven.is_some() {
            saved.parts.headers.remove(DPOP);
        }
        Some(saved)
    }
}

/// What it takes to send a request once more. The parts bear the headers with the token that was sent.
pub(super) struct Saved<S, B, R: Resend<B>> {
    pub(super) parts: request::Parts,
    pub(super) body: R::Saved,
    pub(super) source: TokenSource,
    pub(super) service: S,
    pub(super) resend: R,
    pub(super) target: Option<Uri>,
    pub(super) reasons: Reasons,
}

/// For which reasons a request may still be sent once more, each of them once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reasons {
    /// Its token was refused.
    pub(super) refusal: bool,
    /// The server demanded another nonce in the proof.
    pub(super) nonce: bool,
}

impl Reasons {
    pub(super) const ALL: Self = Self {
        refusal: true,
        nonce: true,
    };
}

impl<S, B, R: Resend<B>> Saved<S, B, R> {
    /// Keeps what a request is made of. `service` need not be ready.
    pub(super) fn save(
        request: Request<B>,
        resend: R,
        source: TokenSource,
        service: S,
    ) -> (Request<B>, Self) {
        let (parts, body) = request.into_parts();
        let (body, saved) = resend.save(body);
        let saved = Self {
            parts: parts.clone(),
            body: saved,
            source,
            service,
            resend,
            target: None,
            reasons: Reasons::ALL,
        };
        (Request::from_parts(parts, body), saved)
    }
}
