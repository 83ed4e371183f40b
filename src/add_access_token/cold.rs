//! A request that cannot be sent at once: it waits for a token, then for its service. And what it takes to send one once more.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION, request};
use tower_service::Service;

use super::resend::Resend;
use crate::{
    error::BoxError,
    token_cache::{Authorization, TokenName, TokenSource},
    token_endpoint::error::TokenError,
};

/// What it takes to send a request once more. The parts bear the header with the token that was sent.
pub(super) struct Saved<S, B, R: Resend<B>> {
    parts: request::Parts,
    body: R::Saved,
    source: TokenSource,
    service: S,
}

impl<S, B, R: Resend<B>> Saved<S, B, R> {
    /// Keeps what a request is made of. `service` need not be ready.
    pub(super) fn save(
        request: Request<B>,
        resend: &R,
        source: TokenSource,
        service: S,
    ) -> (Request<B>, Box<Self>) {
        let (parts, body) = request.into_parts();
        let (body, saved) = resend.save(body);
        let saved = Self {
            parts: parts.clone(),
            body: saved,
            source,
            service,
        };
        (Request::from_parts(parts, body), Box::new(saved))
    }
}

/// A request that is on its way at last.
pub(super) struct Sent<S, B, F, R: Resend<B>> {
    pub(super) sending: F,
    pub(super) token: TokenName,
    pub(super) saved: Option<Box<Saved<S, B, R>>>,
}

pub(super) type Step<S, B, F, R, ResBody> = Result<Sent<S, B, F, R>, End<ResBody>>;

/// What the caller gets.
pub(super) type End<ResBody> = Result<Response<ResBody>, BoxError>;

type Waiting = Pin<Box<dyn Future<Output = Result<Authorization, TokenError>> + Send>>;

/// A request that waits for its token, and then for its service.
pub(super) struct Cold<S, B, R, ResBody> {
    waiting: Option<Waiting>,
    authorization: Option<Authorization>,
    request: Option<Request<B>>,
    source: TokenSource,
    service: S,
    resend: Option<R>,
    refusal: Option<(HeaderValue, Response<ResBody>)>,
    /// Whether the service was not ready when the token was there.
    is_late: bool,
}

impl<S, B, R, ResBody> Cold<S, B, R, ResBody> {
    /// A request for which there is no token now. `service` is not ready: it holds nothing while the token is awaited.
    pub(super) fn new(source: TokenSource, request: Request<B>, service: S, resend: R) -> Self {
        Self {
            waiting: Some(Box::pin(source.clone().wait_for_authorization())),
            authorization: None,
            request: Some(request),
            source,
            service,
            resend: Some(resend),
            refusal: None,
            is_late: false,
        }
    }

    /// A request that is sent once more, if there is another token than the one that was refused.
    pub(super) fn again(
        mut saved: Saved<S, B, R>,
        refusal: Response<ResBody>,
    ) -> Result<Self, Response<ResBody>>
    where
        R: Resend<B>,
    {
        let sent = saved.parts.headers.remove(AUTHORIZATION);
        let (Some(sent), Some(body)) = (sent, R::restore(saved.body)) else {
            return Err(refusal);
        };
        Ok(Self {
            waiting: Some(Box::pin(saved.source.clone().wait_for_authorization())),
            authorization: None,
            request: Some(Request::from_parts(saved.parts, body)),
            source: saved.source,
            service: saved.service,
            resend: None,
            refusal: Some((sent, refusal)),
            is_late: false,
        })
    }

    /// Whether this is what was refused.
    fn was_refused(&self, value: &HeaderValue) -> bool {
        let refused = self.refusal.as_ref().map(|(refused, _)| refused);
        refused == Some(value)
    }

    /// The end of a request that cannot be sent once more is the refusal that came.
    fn give_up(&mut self, error: BoxError) -> End<ResBody> {
        match self.refusal.take() {
            Some((_, refusal)) => Ok(refusal),
            None => Err(error),
        }
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
        let (mut request, token) = loop {
            if let Some(waiting) = &mut self.waiting {
                let authorization = ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
                match authorization {
                    Ok(authorization) if self.was_refused(&authorization.value) => {
                        return Poll::Ready(Err(self.give_up(polled_after_completion())));
                    }
                    Ok(authorization) => self.authorization = Some(authorization),
                    Err(error) => return Poll::Ready(Err(self.give_up(error.into()))),
                }
            }
            match self.service.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.give_up(error.into()))),
                Poll::Pending => {
                    self.is_late = true;
                    return Poll::Pending;
                }
            }
            let (Some(mut request), Some(Authorization { value, token })) =
                (self.request.take(), self.authorization.take())
            else {
                return Poll::Ready(Err(Err(polled_after_completion())));
            };
            if !self.is_late {
                request.headers_mut().insert(AUTHORIZATION, value);
                break (request, token);
            }
            // The token may have ended while the service was awaited.
            if let Some(token) = self.source.authorize(request.headers_mut()) {
                let value = request.headers().get(AUTHORIZATION);
                if value.is_some_and(|value| self.was_refused(value)) {
                    return Poll::Ready(Err(self.give_up(polled_after_completion())));
                }
                break (request, token);
            }
            self.is_late = false;
            self.request = Some(request);
            self.service = self.service.clone();
            self.waiting = Some(Box::pin(self.source.clone().wait_for_authorization()));
        };
        token.tell(request.extensions_mut());
        let saved;
        (request, saved) = match &self.resend {
            Some(resend) if R::IS_ON => {
                let (source, service) = (self.source.clone(), self.service.clone());
                let (request, saved) = Saved::save(request, resend, source, service);
                (request, Some(saved))
            }
            _ => (request, None),
        };
        Poll::Ready(Ok(Sent {
            sending: self.service.call(request),
            token,
            saved,
        }))
    }
}

pub(super) fn polled_after_completion() -> BoxError {
    "the future was polled after it had completed".into()
}
