//! The future of `TokenEndpoint`: obtain credentials, wait for the service, send, collect.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, response::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Limited, combinators::Collect};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{TokenError, decode, encode::Prepared};
use crate::{clock, credential::UsedSecret, error::BoxError, token_response::TokenResponse};

/// A request whose credentials are being obtained.
pub(super) type Prepare = Pin<Box<dyn Future<Output = Result<Prepared, TokenError>> + Send>>;

pin_project! {
    /// The future of [`TokenEndpoint`](super::TokenEndpoint).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, F, ResBody>
    where
        ResBody: Body,
        ResBody::Error: Into<BoxError>,
    {
        #[pin]
        state: State<S, B, F, ResBody>,
        limit: usize,
        secret: Option<UsedSecret>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, ResBody>
    where
        ResBody: Body,
        ResBody::Error: Into<BoxError>,
    {
        Failed { error: Option<TokenError> },
        // The service is a clone that holds no reservation: to obtain a credential may take a call through the same stack.
        Preparing { prepare: Prepare, request_body: fn(Bytes) -> B, service: Option<S> },
        Readying { service: S, request: Option<Request<B>> },
        Sending { #[pin] sending: F },
        Collecting { #[pin] body: Collect<Limited<ResBody>>, parts: Option<Parts> },
    }
}

impl<S, B, F, ResBody> ResponseFuture<S, B, F, ResBody>
where
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    pub(super) fn failed(error: TokenError) -> Self {
        Self::new(State::Failed { error: Some(error) }, 0)
    }

    pub(super) fn prepare(
        prepare: Prepare,
        request_body: fn(Bytes) -> B,
        service: S,
        limit: usize,
    ) -> Self {
        let state = State::Preparing {
            prepare,
            request_body,
            service: Some(service),
        };
        Self::new(state, limit)
    }

    pub(super) fn sending(sending: F, limit: usize) -> Self {
        Self::new(State::Sending { sending }, limit)
    }

    fn new(state: State<S, B, F, ResBody>, limit: usize) -> Self {
        Self {
            state,
            limit,
            secret: None,
        }
    }
}

impl<S, B, ResBody> Future for ResponseFuture<S, B, S::Future, ResBody>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<TokenResponse, TokenError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Failed { error } => {
                    let error = error.take();
                    return Poll::Ready(Err(error.unwrap_or_else(polled_after_completion)));
                }
                StateProj::Preparing {
                    prepare,
                    request_body,
                    service,
                } => {
                    let prepared = ready!(prepare.as_mut().poll(cx));
                    match (prepared, service.take()) {
                        (Ok(Prepared { request, secret }), Some(service)) => {
                            *this.secret = secret;
                            State::Readying {
                                service,
                                request: Some(request.map(*request_body)),
                            }
                        }
                        (Ok(_), None) => State::Failed { error: None },
                        (Err(error), _) => State::Failed { error: Some(error) },
                    }
                }
                StateProj::Readying { service, request } => {
                    match (ready!(service.poll_ready(cx)), request.take()) {
                        (Ok(()), Some(request)) => State::Sending {
                            sending: service.call(request),
                        },
                        (Ok(()), None) => State::Failed { error: None },
                        (Err(error), _) => State::Failed {
                            error: Some(TokenError::not_ready(error.into())),
                        },
                    }
                }
                StateProj::Sending { sending } => match ready!(sending.poll(cx)) {
                    Ok(response) => {
                        let (parts, body) = response.into_parts();
                        State::Collecting {
                            body: Limited::new(body, *this.limit).collect(),
                            parts: Some(parts),
                        }
                    }
                    Err(error) => State::Failed {
                        error: Some(TokenError::service(error.into())),
                    },
                },
                StateProj::Collecting { body, parts } => {
                    let body = ready!(body.poll(cx)).map(|collected| collected.to_bytes());
                    let parts = parts.take();
                    this.state.set(State::Failed { error: None });
                    return Poll::Ready(match parts {
                        Some(parts) => decode_collected(parts, body, *this.limit)
                            .map_err(|error| error.with_secret(this.secret.take())),
                        None => Err(polled_after_completion()),
                    });
                }
            };
            this.state.set(next);
        }
    }
}

fn decode_collected(
    parts: Parts,
    body: Result<Bytes, BoxError>,
    limit: usize,
) -> Result<TokenResponse, TokenError> {
    let now = clock::wall_now();
    match body {
        Ok(body) => decode::decode(parts, body, now),
        Err(error) => Err(decode::decode_without_body(parts, error, limit, now)),
    }
}

fn polled_after_completion() -> TokenError {
    TokenError::request("the future was polled after it had completed")
}

impl<S, B, F, ResBody> fmt::Debug for ResponseFuture<S, B, F, ResBody>
where
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Failed { .. } => "Failed",
            State::Preparing { .. } => "Preparing",
            State::Readying { .. } => "Readying",
            State::Sending { .. } => "Sending",
            State::Collecting { .. } => "Collecting",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
