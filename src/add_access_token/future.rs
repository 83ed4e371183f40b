//! The future of `AddAccessToken`: send, or wait for a token first; notice a refusal; perhaps send once more.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION, request};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{challenge, resend::Resend, service::AccessTokenRefused};
use crate::{
    error::BoxError,
    token_cache::{Authorization, Invalidation, TokenName, TokenSource},
    token_endpoint::error::TokenError,
};

pin_project! {
    /// The future of [`AddAccessToken`](super::AddAccessToken).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, F, R, ResBody>
    where
        R: Resend<B>,
    {
        #[pin]
        state: State<S, B, F, R, ResBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, R, ResBody>
    where
        R: Resend<B>,
    {
        Failed { error: Option<BoxError> },
        // Boxed is only what the warm path does not have, so that it moves few bytes and allocates none.
        Sending { #[pin] sending: F, token: Option<TokenName>, saved: Option<Box<Saved<S, B, R>>> },
        Cold { cold: Box<Cold<S, B, R, ResBody>> },
    }
}

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
struct Sent<S, B, F, R: Resend<B>> {
    sending: F,
    token: TokenName,
    saved: Option<Box<Saved<S, B, R>>>,
}

type Step<S, B, F, R, ResBody> = Result<Sent<S, B, F, R>, End<ResBody>>;

/// What the caller gets.
type End<ResBody> = Result<Response<ResBody>, BoxError>;

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
        }
    }

    /// A request that is sent once more, if there is another token than the one that was refused.
    fn again(
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
        })
    }

    /// The end of a request that cannot be sent once more is the refusal that came.
    fn give_up(&mut self, error: BoxError) -> End<ResBody> {
        match self.refusal.take() {
            Some((_, refusal)) => Ok(refusal),
            None => Err(error),
        }
    }

    fn poll_sending<F>(&mut self, cx: &mut Context<'_>) -> Poll<Step<S, B, F, R, ResBody>>
    where
        S: Service<Request<B>, Response = Response<ResBody>, Future = F> + Clone,
        S::Error: Into<BoxError>,
        R: Resend<B>,
    {
        if let Some(waiting) = &mut self.waiting {
            let authorization = ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
            match (authorization, &self.refusal) {
                (Err(error), _) => return Poll::Ready(Err(self.give_up(error.into()))),
                (Ok(another), Some((refused, _))) if another.value == *refused => {
                    return Poll::Ready(Err(self.give_up(polled_after_completion())));
                }
                (Ok(authorization), _) => self.authorization = Some(authorization),
            }
        }
        if let Err(error) = ready!(self.service.poll_ready(cx)) {
            return Poll::Ready(Err(self.give_up(error.into())));
        }
        let (Some(mut request), Some(Authorization { value, token })) =
            (self.request.take(), self.authorization.take())
        else {
            return Poll::Ready(Err(Err(polled_after_completion())));
        };
        request.headers_mut().insert(AUTHORIZATION, value);
        request.extensions_mut().insert(token);
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

impl<S, B, F, R: Resend<B>, ResBody> ResponseFuture<S, B, F, R, ResBody> {
    pub(super) fn failed(error: BoxError) -> Self {
        Self {
            state: State::Failed { error: Some(error) },
        }
    }

    /// A request without a token of ours: its response is none of our business.
    pub(super) fn bare(sending: F) -> Self {
        Self {
            state: State::Sending {
                sending,
                token: None,
                saved: None,
            },
        }
    }

    #[inline]
    pub(super) fn sending(
        sending: F,
        token: TokenName,
        saved: Option<Box<Saved<S, B, R>>>,
    ) -> Self {
        Self {
            state: State::Sending {
                sending,
                token: Some(token),
                saved,
            },
        }
    }

    pub(super) fn cold(cold: Cold<S, B, R, ResBody>) -> Self {
        Self {
            state: State::Cold {
                cold: Box::new(cold),
            },
        }
    }
}

impl<S, B, R, ResBody> Future for ResponseFuture<S, B, S::Future, R, ResBody>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    R: Resend<B>,
{
    type Output = Result<Response<ResBody>, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Sending {
                    sending,
                    token,
                    saved,
                } => {
                    let mut response = match ready!(sending.poll(cx)) {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    };
                    let Some(token) = token.filter(|_| challenge::refuses_token(&response)) else {
                        return Poll::Ready(Ok(response));
                    };
                    response.extensions_mut().insert(AccessTokenRefused);
                    let is_replaceable = token.refuse() != Invalidation::Kept;
                    let again = match saved.take().filter(|_| is_replaceable) {
                        Some(saved) => Cold::again(*saved, response),
                        None => Err(response),
                    };
                    match again {
                        Ok(cold) => State::Cold {
                            cold: Box::new(cold),
                        },
                        Err(refusal) => return Poll::Ready(Ok(refusal)),
                    }
                }
                StateProj::Cold { cold } => match ready!(cold.poll_sending(cx)) {
                    Ok(Sent {
                        sending,
                        token,
                        saved,
                    }) => State::Sending {
                        sending,
                        token: Some(token),
                        saved,
                    },
                    Err(end) => return Poll::Ready(end),
                },
                StateProj::Failed { error } => {
                    return Poll::Ready(Err(error.take().unwrap_or_else(polled_after_completion)));
                }
            };
            this.state.set(next);
        }
    }
}

fn polled_after_completion() -> BoxError {
    "the future was polled after it had completed".into()
}

impl<S, B, F, R: Resend<B>, ResBody> fmt::Debug for ResponseFuture<S, B, F, R, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Failed { .. } => "Failed",
            State::Sending { .. } => "Sending",
            State::Cold { .. } => "Cold",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
