//! A request that cannot be sent at once. It goes through the states of [`needs`](super::needs).
//!
//! 1. While it waits for a token or a proof, it holds no reservation: its service is a clone that was not made ready.
//! 2. The bytes of a refused token are never sent again, even if the server returns the refused token again.
//! 3. After a wait, [`recheck`](super::recheck) decides whether its token and its proof are still good.
//! 4. If a stronger token cannot be fetched, the request is sent with the weaker one.
//! 5. If a resend fails before it is sent, the caller gets the response that caused it.
//! 6. Nothing is sent after the [`deadline`](super::deadline) of a gRPC request.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, Uri};
use tower_service::Service;

use super::{
    auth_headers::AuthHeaders,
    deadline::Deadline,
    follow_up::{FollowUp, ResendsLeft, RestoredRequest},
    grpc,
    needs::Needs,
    proof::{self, ProofFuture},
    recheck::{AfterWaiting, Recheck, UsableNow},
    refusal::{Objection, RefusalRules},
    resend::Resend,
    route::Route,
    watch_trailers,
};
use crate::{
    error::{BoxError, TokenError},
    token_cache::{Authorization, SentToken, TokenName, TokenSource},
};

/// See the [module](self).
pub(super) struct Unsent<S, B, R, ResBody> {
    needs: Needs,
    request: Option<Request<B>>,
    /// Where the request goes, if its own URI does not say it.
    target: Option<Uri>,
    service: S,
    deadline: Option<Deadline>,
    route: Route<S, R>,
    resends_left: ResendsLeft,
    resend_cause: Option<ResendCause<ResBody>>,
}

/// The response that caused a resend.
struct ResendCause<ResBody> {
    response: Response<ResBody>,
    /// The header that was refused.
    refused: Option<HeaderValue>,
}

/// A request that was sent.
pub(super) struct SentRequest<S, B, F, R: Resend<B>> {
    pub(super) sending: F,
    pub(super) token: SentToken,
    pub(super) follow_up: FollowUp<S, B, R>,
    pub(super) refusals: Option<Arc<RefusalRules>>,
}

/// The request was sent, or what the caller gets instead.
pub(super) type SendResult<S, B, F, R, ResBody> =
    Result<SentRequest<S, B, F, R>, Result<Response<ResBody>, BoxError>>;

impl<S, B, R, ResBody> Unsent<S, B, R, ResBody> {
    /// A request that was not sent yet. `service` is not ready.
    pub(super) fn first(
        needs: Needs,
        service: S,
        route: Route<S, R>,
        request: Request<B>,
        target: Option<Uri>,
    ) -> Self {
        Self {
            needs,
            deadline: Deadline::of(&request),
            request: Some(request),
            target,
            service,
            route,
            resends_left: ResendsLeft::ALL,
            resend_cause: None,
        }
    }

    /// A request that is resent because of `response`.
    pub(super) fn resend(
        restored: RestoredRequest<S, B, R>,
        response: Response<ResBody>,
        objection: Objection,
    ) -> Self {
        let refused = match objection {
            Objection::Token | Objection::Weakness => restored.authorization,
            // The token itself is good.
            Objection::Nonce => None,
        };
        let resends_left = match restored.route.stronger_tokens() {
            Some(_) => restored.resends_left,
            None => restored.resends_left.without_step_up(),
        };
        Self {
            needs: restored.route.token(),
            deadline: Deadline::of(&restored.request),
            request: Some(restored.request),
            target: restored.target,
            service: restored.service,
            route: restored.route,
            resends_left,
            resend_cause: Some(ResendCause { response, refused }),
        }
    }

    /// A request that is resent with a token of `stronger`, because `response` demands it.
    pub(super) fn resend_with(
        stronger: TokenSource,
        mut restored: RestoredRequest<S, B, R>,
        response: Response<ResBody>,
    ) -> Self {
        restored.route.source = stronger;
        watch_trailers::name_token(TokenName::NONE, restored.request.extensions_mut());
        Self::resend(restored, response, Objection::Weakness)
    }

    /// Waits for what the request needs, and sends it.
    pub(super) fn poll_send<F>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<SendResult<S, B, F, R, ResBody>>
    where
        S: Service<Request<B>, Response = Response<ResBody>, Future = F> + Clone,
        S::Error: Into<BoxError>,
        R: Resend<B>,
    {
        if let Some(deadline) = &mut self.deadline
            && deadline.poll_passed(cx).is_ready()
        {
            return Poll::Ready(Err(self.give_up(grpc::deadline_exceeded())));
        }
        loop {
            let next = match &mut self.needs {
                Needs::Token(token) => match ready!(token.as_mut().poll(cx)) {
                    Ok(authorization) => self.after_token(authorization),
                    Err(error) => self.without_token(error),
                },
                Needs::Proof {
                    proof,
                    authorization,
                    is_remote,
                    token_was_usable,
                } => match proof.as_mut().poll(cx) {
                    Poll::Ready(Ok(value)) => Ok(Needs::Service {
                        headers: AuthHeaders {
                            authorization: authorization.clone(),
                            proof: Some(value),
                            is_signed_remotely: *is_remote,
                        },
                        token_was_usable: *token_was_usable,
                    }),
                    Poll::Ready(Err(error)) => Err(self.not_sent(error)),
                    Poll::Pending => {
                        self.needs.note_wait(&self.route.source);
                        return Poll::Pending;
                    }
                },
                Needs::Service { .. } => match self.service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => match self.headers_to_send() {
                        Ok(Some(headers)) => return Poll::Ready(self.send(headers)),
                        Ok(None) => {
                            // Gives back what the ready service has reserved.
                            self.service = self.service.clone();
                            Ok(self.route.token())
                        }
                        Err(error) => Err(error),
                    },
                    Poll::Ready(Err(error)) => Err(error.into()),
                    Poll::Pending => {
                        self.needs.note_wait(&self.route.source);
                        return Poll::Pending;
                    }
                },
                Needs::Nothing => Err(polled_after_completion()),
            };
            match next {
                Ok(needs) => self.needs = needs,
                Err(error) => return Poll::Ready(Err(self.give_up(error))),
            }
        }
    }

    /// What the request needs once it has a token.
    fn after_token(&self, authorization: Authorization) -> Result<Needs, BoxError> {
        if let Some(tokens) = self.route.stronger_tokens() {
            tokens.note_fetched(&self.route.source);
        }
        if self.was_refused(&authorization) {
            return Err(REFUSED_AGAIN.into());
        }
        let proof = self.start_proof(&authorization);
        Ok(Needs::after_token(authorization, proof))
    }

    /// What the request needs if its token could not be fetched.
    fn without_token(&mut self, error: TokenError) -> Result<Needs, BoxError> {
        let tokens = self.route.stronger_tokens();
        match tokens.and_then(|tokens| tokens.note_failed(&self.route.source, &error)) {
            Some(weaker) if self.resend_cause.is_none() => {
                self.route.source = weaker;
                Ok(self.route.token())
            }
            _ => Err(self.not_sent(error)),
        }
    }

    /// Returns the headers to send, now that the service is ready. `None` if the request must wait again.
    fn headers_to_send(&mut self) -> Result<Option<AuthHeaders>, BoxError> {
        let Needs::Service {
            headers,
            token_was_usable,
        } = std::mem::replace(&mut self.needs, Needs::Nothing)
        else {
            return Err(polled_after_completion());
        };
        let usable = match token_was_usable {
            true => {
                let header = self.route.header().map(|header| &**header);
                self.route.source.usable_authorization(header)
            }
            false => None,
        };
        let mut facts = AfterWaiting {
            token_was_usable,
            is_signed_remotely: headers.is_signed_remotely,
            usable_now: match &usable {
                None => UsableNow::Nothing,
                Some(usable) if self.was_refused(usable) => UsableNow::Refused,
                Some(usable) if usable.token == headers.authorization.token => UsableNow::Same,
                Some(_) => UsableNow::Other,
            },
        };
        if let (Recheck::Renew, Some(authorization)) = (facts.recheck(), usable) {
            match self.renew(authorization) {
                Some(Ok(renewed)) => return Ok(Some(renewed)),
                Some(Err(error)) => return Err(self.not_sent(error)),
                // The signer no longer answers at once.
                None => facts.is_signed_remotely = true,
            }
        }
        match facts.recheck() {
            Recheck::Send => Ok(Some(headers)),
            Recheck::Renew | Recheck::StartOver => Ok(None),
            Recheck::GiveUp => Err(REFUSED_AGAIN.into()),
        }
    }

    /// Headers with a fresh proof. `None` if the proof cannot be made at once.
    fn renew(&self, authorization: Authorization) -> Option<Result<AuthHeaders, TokenError>> {
        let proof = match self.start_proof(&authorization) {
            None => None,
            Some(mut proof) => match proof::at_once(&mut proof)? {
                Ok(proof) => Some(proof),
                Err(error) => return Some(Err(error)),
            },
        };
        Some(Ok(AuthHeaders {
            authorization,
            proof,
            is_signed_remotely: false,
        }))
    }

    fn start_proof(&self, authorization: &Authorization) -> Option<ProofFuture> {
        let request = self.request.as_ref()?;
        let target = self.target.as_ref().unwrap_or(request.uri());
        proof::start(authorization, request, target)
    }

    fn was_refused(&self, authorization: &Authorization) -> bool {
        let cause = self.resend_cause.as_ref();
        cause.and_then(|cause| cause.refused.as_ref()) == Some(&authorization.value)
    }

    fn send<F>(&mut self, headers: AuthHeaders) -> SendResult<S, B, F, R, ResBody>
    where
        S: Service<Request<B>, Response = Response<ResBody>, Future = F> + Clone,
        R: Resend<B>,
    {
        let Some(mut request) = self.request.take() else {
            return Err(Err(polled_after_completion()));
        };
        if let Some(deadline) = &self.deadline
            && deadline.shorten(request.headers_mut()).is_err()
        {
            return Err(self.give_up(grpc::deadline_exceeded()));
        }
        let route = &self.route;
        let token = route.source.sent(headers.authorization.token, route.origin);
        let header = route.header().map(|header| &**header);
        let proof = headers.put_on(&mut request, self.target.as_ref(), header);
        let (request, follow_up) =
            FollowUp::of(request, proof, self.resends_left, &self.service, || {
                route.clone()
            });
        Ok(SentRequest {
            refusals: route.refusals().cloned(),
            sending: self.service.call(request),
            token,
            follow_up,
        })
    }

    fn not_sent(&self, error: TokenError) -> BoxError {
        match &self.request {
            Some(request) => grpc::not_sent(request, error),
            None => error.into(),
        }
    }

    fn give_up(&mut self, error: BoxError) -> Result<Response<ResBody>, BoxError> {
        self.needs = Needs::Nothing;
        match self.resend_cause.take() {
            Some(cause) => Ok(cause.response),
            None => Err(error),
        }
    }
}

const REFUSED_AGAIN: &str = "the server returned the refused token again";

pub(super) fn polled_after_completion() -> BoxError {
    "the future was polled after it had completed".into()
}
