//! What a request leaves behind until its response arrives: a copy to resend, and its proof.

use std::sync::Arc;

use http::{HeaderValue, Request, Uri, header::AUTHORIZATION, request};

use super::{
    needs::Needs,
    proof::SentProof,
    refusal::{NonceResend, Objection, RefusalRules, SentNonce},
    resend::Resend,
    step_up::StrongerTokens,
};
use crate::{
    base::origin_id::OriginId,
    dpop::DPOP,
    token_cache::{TokenHeader, TokenSource},
};

/// What a response may require. A request with a bearer token that is never resent has none.
pub(super) struct FollowUp<S, B, R: Resend<B>> {
    copy: Option<RequestCopy<S, B, R>>,
    /// Boxed, since most requests have none.
    pub(super) proof: Option<Box<SentProof>>,
}

/// A copy of a request, with the headers that it was sent with.
struct RequestCopy<S, B, R: Resend<B>> {
    parts: request::Parts,
    body: R::Saved,
    route: Route<S, R>,
    resends_left: ResendsLeft,
}

/// What a request goes through: `source` gives it a token, `resend` copies its body, and `service` sends it to `origin`.
#[derive(Clone)]
pub(super) struct Route<S, R> {
    pub(super) source: TokenSource,
    pub(super) origin: Option<OriginId>,
    pub(super) resend: R,
    pub(super) service: S,
    /// `None` is `Authorization`.
    pub(super) header: Option<Arc<TokenHeader>>,
    /// `None` is the default.
    pub(super) refusals: Option<Arc<RefusalRules>>,
}

impl<S, R> Route<S, R> {
    /// The token, which is waited for.
    pub(super) fn token(&self) -> Needs {
        Needs::token_of(&self.source, self.header.as_ref())
    }

    pub(super) fn stronger_tokens(&self) -> Option<&StrongerTokens> {
        self.refusals.as_ref()?.stronger_tokens()
    }
}

/// Which objections may still cause a resend. Each may cause one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResendsLeft {
    token: bool,
    nonce: bool,
    weakness: bool,
}

impl ResendsLeft {
    pub(super) const ALL: Self = Self {
        token: true,
        nonce: true,
        weakness: true,
    };

    /// Without stepping up, no response objects to a weak token.
    pub(super) fn without_step_up(self) -> Self {
        let weakness = false;
        Self { weakness, ..self }
    }

    /// Uses up the resend for an objection. Returns whether there was one left.
    fn take(&mut self, objection: Objection) -> bool {
        std::mem::take(match objection {
            Objection::Token => &mut self.token,
            Objection::Nonce => &mut self.nonce,
            Objection::Weakness => &mut self.weakness,
        })
    }
}

/// A request as it was before it got its token.
pub(super) struct RestoredRequest<S, B, R> {
    pub(super) request: Request<B>,
    /// Where it goes, if its own URI does not say it.
    pub(super) target: Option<Uri>,
    pub(super) route: Route<S, R>,
    pub(super) resends_left: ResendsLeft,
    /// The header with the token that it carried.
    pub(super) authorization: Option<HeaderValue>,
}

impl<S, B, R: Resend<B>> FollowUp<S, B, R> {
    /// Splits a request into the request to send and its follow-up. The service of `route` need not be ready.
    pub(super) fn of(
        request: Request<B>,
        proof: Option<SentProof>,
        resends_left: ResendsLeft,
        route: impl FnOnce() -> Route<S, R>,
    ) -> (Request<B>, Option<Box<Self>>) {
        let proof = proof.map(Box::new);
        // A nonce is demanded only of a request with a proof.
        let may_be_resent =
            resends_left.token || resends_left.weakness || (resends_left.nonce && proof.is_some());
        if !R::IS_ON || !may_be_resent {
            let follow_up = proof
                .is_some()
                .then(|| Box::new(Self { copy: None, proof }));
            return (request, follow_up);
        }
        let (parts, body) = request.into_parts();
        let route = route();
        let (body, saved) = route.resend.save(body);
        let follow_up = Box::new(Self {
            copy: Some(RequestCopy {
                parts: parts.clone(),
                body: saved,
                route,
                resends_left,
            }),
            proof,
        });
        (Request::from_parts(parts, body), Some(follow_up))
    }

    /// The nonce of the proof, if the request had a proof.
    pub(super) fn sent_nonce(&self) -> Option<SentNonce> {
        let resend = match &self.copy {
            Some(copy) if copy.resends_left.nonce => NonceResend::Possible,
            Some(_) => NonceResend::Done,
            None => NonceResend::Impossible,
        };
        let nonce = self.proof.as_ref()?.nonce.clone();
        Some(SentNonce { nonce, resend })
    }

    /// Restores the request, if there is a copy and this objection has not caused a resend yet.
    pub(super) fn restore(self, objection: Objection) -> Option<RestoredRequest<S, B, R>> {
        let mut copy = self.copy?;
        if !copy.resends_left.take(objection) {
            return None;
        }
        let headers = &mut copy.parts.headers;
        let authorization = match &copy.route.header {
            None => headers.remove(AUTHORIZATION),
            Some(header) => headers.remove(&header.name),
        };
        if self.proof.is_some() {
            // A proof is for one request and one token.
            headers.remove(DPOP);
        }
        let body = R::restore(copy.body)?;
        Some(RestoredRequest {
            request: Request::from_parts(copy.parts, body),
            target: self.proof.map(|proof| proof.target),
            route: copy.route,
            resends_left: copy.resends_left,
            authorization,
        })
    }
}
