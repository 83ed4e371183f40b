//! A request that cannot be sent at once: it waits for a token, for a proof, then for its service.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, Uri, header::AUTHORIZATION};
use tower_service::Service;

use super::{
    kept::{Again, Kept, Reasons},
    proof::{self, Proven, Proving},
    resend::Resend,
};
use crate::{
    dpop::DPOP,
    error::{BoxError, TokenError},
    token_cache::{Authorization, TokenName, TokenSource},
};

/// A request that is on its way at last.
pub(super) struct Sent<S, B, F, R: Resend<B>> {
    pub(super) sending: F,
    pub(super) token: TokenName,
    pub(super) kept: Option<Box<Kept<S, B, R>>>,
}

pub(super) type Step<S, B, F, R, ResBody> = Result<Sent<S, B, F, R>, End<ResBody>>;

/// What the caller gets.
pub(super) type End<ResBody> = Result<Response<ResBody>, BoxError>;

type Waiting = Pin<Box<dyn Future<Output = Result<Authorization, TokenError>> + Send>>;

/// A request that waits for its token, for the proof that goes with it, and then for its service.
pub(super) struct Cold<S, B, R, ResBody> {
    state: State,
    request: Option<Request<B>>,
    /// Where the request goes, if its own URI does not say it.
    target: Option<Uri>,
    source: TokenSource,
    service: S,
    resend: R,
    reasons: Reasons,
    refusal: Option<Refusal<ResBody>>,
    /// Whether it had to wait for its proof or for its service when the token was there, which may have ended meanwhile.
    is_late: bool,
    /// Whether it takes waiting to make a proof, as with a key that is elsewhere.
    is_remote: bool,
}

enum State {
    Waiting(Waiting),
    Proving(Proving, Authorization),
    Readying(Ticket),
    Sent,
}

/// What to put on the request.
struct Ticket {
    authorization: Authorization,
    proof: Option<HeaderValue>,
}

/// The response on account of which a request is sent once more; what the caller gets if that comes to nothing.
struct Refusal<ResBody> {
    response: Response<ResBody>,
    /// What must not be sent again.
    authorization: Option<HeaderValue>,
}

impl<S, B, R, ResBody> Cold<S, B, R, ResBody> {
    /// A request for which there is no token now, or no proof, which is then `begun` already: a key service that was asked is not asked
    /// again. `service` is not ready: it holds nothing meanwhile.
    pub(super) fn new(
        source: TokenSource,
        request: Request<B>,
        target: Option<Uri>,
        service: S,
        resend: R,
        begun: Option<(Proving, Authorization)>,
    ) -> Self {
        let is_begun = begun.is_some();
        Self {
            state: match begun {
                Some((proving, authorization)) => State::Proving(proving, authorization),
                None => State::wait(&source),
            },
            request: Some(request),
            target,
            source,
            service,
            resend,
            reasons: Reasons::ALL,
            refusal: None,
            is_late: is_begun,
            is_remote: is_begun,
        }
    }

    /// A request that is sent once more on account of `response`, and never with what was `refused` of it.
    pub(super) fn again(
        again: Again<S, B, R>,
        response: Response<ResBody>,
        refused: Option<HeaderValue>,
    ) -> Self {
        Self {
            state: State::wait(&again.source),
            request: Some(again.request),
            target: again.target,
            source: again.source,
            service: again.service,
            resend: again.resend,
            reasons: again.reasons,
            refusal: Some(Refusal {
                response,
                authorization: refused,
            }),
            is_late: false,
            is_remote: false,
        }
    }

    /// Whether this is what was refused.
    fn was_refused(&self, authorization: &Authorization) -> bool {
        let refused = self.refusal.as_ref().and_then(|r| r.authorization.as_ref());
        refused == Some(&authorization.value)
    }

    /// The end of a request that cannot be sent once more is the refusal that came.
    fn give_up(&mut self, error: impl Into<BoxError>) -> End<ResBody> {
        self.state = State::Sent;
        match self.refusal.take() {
            Some(refusal) => Ok(refusal.response),
            None => Err(error.into()),
        }
    }

    /// What comes once there is a token.
    fn with(&mut self, authorization: Authorization) -> Result<State, End<ResBody>> {
        if self.was_refused(&authorization) {
            return Err(self.give_up(polled_after_completion()));
        }
        Ok(match self.prove(&authorization) {
            Some(proving) => State::Proving(proving, authorization),
            None => State::Readying(Ticket {
                authorization,
                proof: None,
            }),
        })
    }

    fn prove(&self, authorization: &Authorization) -> Option<Proving> {
        let request = self.request.as_ref()?;
        let target = self.target.as_ref().unwrap_or(request.uri());
        proof::prove(authorization.bound.as_ref()?, request.method(), target)
    }

    /// Notes that the token is there, and something else has to be waited for. A token that was over when it came is sent all the same,
    /// once, to those who waited for it: else a service that is never ready at once would have tokens fetched without end.
    fn note_wait(&mut self) {
        self.is_late |= self.source.usable_authorization().is_some();
    }

    /// What to put on a request that is late: the token may have ended meanwhile, and a proof grows old. `None` if that has to be waited
    /// for.
    fn renew(&self, ticket: Ticket) -> Option<Result<Ticket, TokenError>> {
        let authorization = self.source.usable_authorization()?;
        let is_same = authorization.token == ticket.authorization.token;
        if self.is_remote {
            // To wait for another proof would be to wait for the service again, and so on.
            return is_same.then_some(Ok(ticket));
        }
        let proof = match self.prove(&authorization) {
            None => None,
            Some(mut proving) => match proof::at_once(&mut proving) {
                Some(Ok(proof)) => Some(proof),
                Some(Err(error)) => return Some(Err(error)),
                None if is_same => ticket.proof,
                None => return None,
            },
        };
        Some(Ok(Ticket {
            authorization,
            proof,
        }))
    }

    pub(super) fn poll_sending<F>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Step<S, B, F, R, ResBody>>
    where
        S: Service<Request<B>, Response = Response<ResBody>, Future = F> + Clone,
        S::Error: Into<BoxError>,
        R: Resend<B>,
    {
        loop {
            match &mut self.state {
                State::Waiting(waiting) => match ready!(waiting.as_mut().poll(cx)) {
                    Ok(authorization) => match self.with(authorization) {
                        Ok(state) => self.state = state,
                        Err(end) => return Poll::Ready(Err(end)),
                    },
                    Err(error) => return Poll::Ready(Err(self.give_up(error))),
                },
                State::Proving(proving, authorization) => match proving.as_mut().poll(cx) {
                    Poll::Ready(Ok(proof)) => {
                        let authorization = authorization.clone();
                        self.state = State::Readying(Ticket {
                            authorization,
                            proof: Some(proof),
                        });
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.give_up(error))),
                    Poll::Pending => {
                        self.is_remote = true;
                        self.note_wait();
                        return Poll::Pending;
                    }
                },
                State::Readying(_) => {
                    match self.service.poll_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(self.give_up(error))),
                        Poll::Pending => {
                            self.note_wait();
                            return Poll::Pending;
                        }
                    }
                    let State::Readying(mut ticket) =
                        std::mem::replace(&mut self.state, State::Sent)
                    else {
                        continue;
                    };
                    if self.is_late {
                        ticket = match self.renew(ticket) {
                            Some(Ok(ticket)) if self.was_refused(&ticket.authorization) => {
                                let end = self.give_up(polled_after_completion());
                                return Poll::Ready(Err(end));
                            }
                            Some(Ok(ticket)) => ticket,
                            Some(Err(error)) => return Poll::Ready(Err(self.give_up(error))),
                            None => {
                                self.is_late = false;
                                self.service = self.service.clone();
                                self.state = State::wait(&self.source);
                                continue;
                            }
                        };
                    }
                    return Poll::Ready(self.send(ticket));
                }
                State::Sent => return Poll::Ready(Err(self.give_up(polled_after_completion()))),
            }
        }
    }

    fn send<F>(&mut self, ticket: Ticket) -> Step<S, B, F, R, ResBody>
    where
        S: Service<Request<B>, Response = Response<ResBody>, Future = F> + Clone,
        R: Resend<B>,
    {
        let Some(mut request) = self.request.take() else {
            return Err(Err(polled_after_completion()));
        };
        let Authorization {
            value,
            token,
            bound,
        } = ticket.authorization;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, value);
        if let Some(proof) = ticket.proof {
            headers.insert(DPOP, proof);
        }
        token.tell(request.extensions_mut());
        let proven = bound.map(|token| {
            let target = self.target.as_ref().unwrap_or(request.uri());
            Proven::new(token, target.clone())
        });
        let (resend, reasons) = (&self.resend, self.reasons);
        let (request, kept) = Kept::of(
            request,
            proven,
            resend,
            reasons,
            &self.source,
            &self.service,
        );
        Ok(Sent {
            sending: self.service.call(request),
            token,
            kept,
        })
    }
}

impl State {
    fn wait(source: &TokenSource) -> Self {
        Self::Waiting(Box::pin(source.clone().wait_for_authorization()))
    }
}

pub(super) fn polled_after_completion() -> BoxError {
    "the future was polled after it had completed".into()
}
