//! What a request leaves behind until its response arrives: a copy to resend, and its proof.

use http::{HeaderValue, Request, Uri};

use super::{
    proof::SentProof,
    refusal::{NonceResend, Objection, SentNonce},
    request_copy::RequestCopy,
    resend::{Resend, Slot},
    route::Route,
};

/// What a response may require. A request with a bearer token that is never resent has none, and then this takes one word.
pub(super) struct FollowUp<S, B, R: Resend<B>> {
    /// It is not boxed, because each request that may be resent has one.
    resend: R::Slot<PossibleResend<S, B, R>>,
    /// Boxed, since most requests have none.
    pub(super) proof: Option<Box<SentProof>>,
}

pub(super) struct PossibleResend<S, B, R: Resend<B>> {
    copy: RequestCopy<B, R>,
    route: Route<S, R>,
    resends_left: ResendsLeft,
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
    pub(super) service: S,
    pub(super) route: Route<S, R>,
    pub(super) resends_left: ResendsLeft,
    /// The header with the token that it carried.
    pub(super) authorization: Option<HeaderValue>,
}

impl<S, B, R: Resend<B>> FollowUp<S, B, R> {
    pub(super) fn none() -> Self {
        Self {
            resend: Slot::empty(),
            proof: None,
        }
    }

    /// Drops the copy of the request.
    #[inline]
    pub(super) fn forget_resend(&mut self) {
        if R::IS_ON {
            self.resend = Slot::empty();
        }
    }

    /// The nonce of the proof, if the request had a proof.
    pub(super) fn sent_nonce(&self) -> Option<SentNonce> {
        let resend = match self.resend.get() {
            Some(resend) if resend.resends_left.nonce => NonceResend::Possible,
            Some(_) => NonceResend::Done,
            None => NonceResend::Impossible,
        };
        let nonce = self.proof.as_ref()?.nonce.clone();
        Some(SentNonce { nonce, resend })
    }
}

impl<S: Clone, B, R: Resend<B>> FollowUp<S, B, R> {
    /// Splits a request into the request to send and its follow-up. `inner` is the service that sends it.
    #[inline]
    pub(super) fn of(
        request: Request<B>,
        proof: Option<SentProof>,
        resends_left: ResendsLeft,
        inner: &S,
        route: impl FnOnce() -> Route<S, R>,
    ) -> (Request<B>, Self) {
        let proof = proof.map(Box::new);
        // A nonce is demanded only of a request with a proof.
        let may_be_resent =
            resends_left.token || resends_left.weakness || (resends_left.nonce && proof.is_some());
        if !R::IS_ON || !may_be_resent {
            let resend = Slot::empty();
            return (request, Self { resend, proof });
        }
        let route = route();
        let (request, body) = route.resend.save(request);
        let follow_up = Self::resendable(&request, body, proof, resends_left, inner, route);
        (request, follow_up)
    }

    /// The follow-up of a request that may be resent. `body` is what is kept of its body, and `inner` is the service that sends it.
    // It is large, and a call would move it one more time.
    #[inline(always)]
    pub(super) fn resendable(
        request: &Request<B>,
        body: R::Saved,
        proof: Option<Box<SentProof>>,
        resends_left: ResendsLeft,
        inner: &S,
        route: Route<S, R>,
    ) -> Self {
        route.parts.keep_spare(inner);
        let header = route.header().map(|header| &**header);
        let resend = Slot::full(PossibleResend {
            copy: RequestCopy::of(request, body, header, proof.is_some()),
            route,
            resends_left,
        });
        Self { resend, proof }
    }

    /// Restores the request, if there is a copy and this objection has not caused a resend yet.
    pub(super) fn restore(&mut self, objection: Objection) -> Option<RestoredRequest<S, B, R>> {
        let PossibleResend {
            mut copy,
            route,
            mut resends_left,
        } = self.resend.take()?;
        if !resends_left.take(objection) {
            return None;
        }
        Some(RestoredRequest {
            authorization: copy.authorization.take(),
            request: copy.restore()?,
            target: self.proof.take().map(|proof| proof.target),
            service: route.service()?,
            route,
            resends_left,
        })
    }
}
