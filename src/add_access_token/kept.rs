//! What is kept of a request while it is on its way.

use http::{Request, request};

use super::{proof::Proven, resend::Resend};
use crate::token_cache::TokenSource;

/// What is kept of a request while it is on its way. There is none for one that bears a bearer token and is not sent again.
pub(super) struct Kept<S, B, R: Resend<B>> {
    pub(super) saved: Option<Saved<S, B, R>>,
    /// Boxed, since most requests have none.
    pub(super) proven: Option<Box<Proven>>,
}

/// What it takes to send a request once more. The parts bear the headers with the token that was sent.
pub(super) struct Saved<S, B, R: Resend<B>> {
    pub(super) parts: request::Parts,
    pub(super) body: R::Saved,
    pub(super) source: TokenSource,
    pub(super) service: S,
    pub(super) resend: R,
    pub(super) reasons: Reasons,
}

impl<S, B, R: Resend<B>> Kept<S, B, R> {
    /// Keeps what a request is made of. `service` need not be ready.
    pub(super) fn save(
        request: Request<B>,
        resend: R,
        source: TokenSource,
        service: S,
    ) -> (Request<B>, Box<Self>) {
        let (parts, body) = request.into_parts();
        let (body, saved) = resend.save(body);
        let kept = Box::new(Self {
            saved: Some(Saved {
                parts: parts.clone(),
                body: saved,
                source,
                service,
                resend,
                reasons: Reasons::ALL,
            }),
            proven: None,
        });
        (Request::from_parts(parts, body), kept)
    }

    /// Keeps how to take in the nonce of the response, and nothing to send the request once more.
    pub(super) fn proven(proven: Proven) -> Box<Self> {
        Box::new(Self {
            saved: None,
            proven: Some(Box::new(proven)),
        })
    }
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
