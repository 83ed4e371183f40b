//! What is kept of a request while it is on its way.

use http::{HeaderValue, Request, Uri, header::AUTHORIZATION, request};

use super::{proof::Proven, resend::Resend};
use crate::{dpop::DPOP, token_cache::TokenSource};

/// What is kept of a request while it is on its way. There is none for one that bears a bearer token and is not sent again.
pub(super) struct Kept<S, B, R: Resend<B>> {
    saved: Option<Saved<S, B, R>>,
    /// Boxed, since most requests have none.
    pub(super) proven: Option<Box<Proven>>,
}

/// What it takes to send a request once more. The parts bear the headers with the token that was sent.
struct Saved<S, B, R: Resend<B>> {
    parts: request::Parts,
    body: R::Saved,
    source: TokenSource,
    service: S,
    resend: R,
    reasons: Reasons,
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

/// A request as it was, without its token.
pub(super) struct Again<S, B, R> {
    pub(super) request: Request<B>,
    /// Where it goes, if its own URI does not say it.
    pub(super) target: Option<Uri>,
    pub(super) source: TokenSource,
    pub(super) service: S,
    pub(super) resend: R,
    pub(super) reasons: Reasons,
    /// The header with the token that it bore.
    pub(super) authorization: Option<HeaderValue>,
}

impl<S, B, R: Resend<B>> Kept<S, B, R> {
    /// Keeps of a request that is about to be sent what its response may call for. `service` need not be ready.
    pub(super) fn of(
        request: Request<B>,
        proven: Option<Proven>,
        resend: &R,
        reasons: Reasons,
        source: &TokenSource,
        service: &S,
    ) -> (Request<B>, Option<Box<Self>>)
    where
        S: Clone,
    {
        let proven = proven.map(Box::new);
        // A demand for a nonce comes only after a proof.
        let may_come_again = reasons.refusal || (reasons.nonce && proven.is_some());
        if !R::IS_ON || !may_come_again {
            let kept = proven.is_some().then(|| {
                Box::new(Self {
                    saved: None,
                    proven,
                })
            });
            return (request, kept);
        }
        let (parts, body) = request.into_parts();
        let (body, saved) = resend.save(body);
        let kept = Box::new(Self {
            saved: Some(Saved {
                parts: parts.clone(),
                body: saved,
                source: source.clone(),
                service: service.clone(),
                resend: resend.clone(),
                reasons,
            }),
            proven,
        });
        (Request::from_parts(parts, body), Some(kept))
    }

    /// The request once more, if it can be had and was not yet sent again for this `reason`.
    pub(super) fn again(self, reason: fn(&mut Reasons) -> &mut bool) -> Option<Again<S, B, R>> {
        let mut saved = self.saved?;
        if !std::mem::take(reason(&mut saved.reasons)) {
            return None;
        }
        let authorization = saved.parts.headers.remove(AUTHORIZATION);
        if self.proven.is_some() {
            // It was for one request and one token.
            saved.parts.headers.remove(DPOP);
        }
        let body = R::restore(saved.body)?;
        Some(Again {
            request: Request::from_parts(saved.parts, body),
            target: self.proven.map(|proven| proven.target),
            source: saved.source,
            service: saved.service,
            resend: saved.resend,
            reasons: saved.reasons,
            authorization,
        })
    }
}
