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

use super::{
    decode::{self, Binding},
    encode::Prepared,
    preparation::{Plan, Preparation, Preparing},
};
use crate::{
    base::clock,
    error::{BoxError, TokenError},
    message::TokenResponse,
};

pin_project! {
    /// The future of [`TokenEndpoint`](super::TokenEndpoint).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, F, ResBody>
    where
        ResBody: Body,
        ResBody::Error: Into<BoxError>,
    {
        #[pin]
        state: State<B, F, ResBody>,
        limit: usize,
        preparation: Option<Preparation<S, B>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B, F, ResBody>
    where
        ResBody: Body,
        ResBody::Error: Into<BoxError>,
    {
        Failed { error: Option<TokenError> },
        Preparing { preparing: Preparing },
        Readying { request: Option<Request<B>> },
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
        Self {
            state: State::Failed { error: Some(error) },
            limit: 0,
            preparation: None,
        }
    }

    pub(super) fn prepare(
        plan: Plan,
        request_body: fn(Bytes) -> B,
        service: S,
        limit: usize,
    ) -> Self {
        let (preparation, preparing) = Preparation::begin(plan, request_body, service);
        Self {
            state: State::Preparing { preparing },
            limit,
            preparation: Some(preparation),
        }
    }

    pub(super) fn sending(sending: F, limit: usize) -> Self {
        Self {
            state: State::Sending { sending },
            limit,
            preparation: None,
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
            let next = match (this.state.as_mut().project(), &mut *this.preparation) {
                (StateProj::Failed { error }, _) => {
                    let error = error.take();
                    return Poll::Ready(Err(error.unwrap_or_else(polled_after_completion)));
                }
                (StateProj::Preparing { preparing }, Some(preparation)) => {
                    match ready!(preparing.as_mut().poll(cx)) {
                        Ok(Prepared { request, secret }) => {
                            preparation.secret = secret;
                            preparation.uri = request.uri().clone();
                            State::Readying {
                                request: Some(request.map(preparation.request_body)),
                            }
                        }
                        Err(error) => State::Failed { error: Some(error) },
                    }
                }
                (StateProj::Readying { request }, Some(Preparation { service, .. })) => {
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
                (StateProj::Sending { sending }, _) => match ready!(sending.poll(cx)) {
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
                (StateProj::Collecting { body, parts }, preparation) => {
                    let body = ready!(body.poll(cx)).map(|collected| collected.to_bytes());
                    let Some(parts) = parts.take() else {
                        return Poll::Ready(Err(polled_after_completion()));
                    };
                    let limit = *this.limit;
                    let result = match preparation {
                        None => decode_collected(parts, body, limit, Binding::default()),
                        Some(preparation) => {
                            preparation.note_nonce(&parts);
                            let binding = preparation.plan.binding();
                            let is_whole = body.is_ok();
                            let result = decode_collected(parts, body, limit, binding);
                            match preparation.again(&result, is_whole) {
                                Some(preparing) => {
                                    this.state.set(State::Preparing { preparing });
                                    continue;
                                }
                                None => result
                                    .map_err(|error| error.with_secret(preparation.used_secret())),
                            }
                        }
                    };
                    this.state.set(State::Failed { error: None });
                    return Poll::Ready(result);
                }
                // There is a preparation wherever one is needed.
                (StateProj::Preparing { .. } | StateProj::Readying { .. }, None) => {
                    State::Failed { error: None }
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
    binding: Binding<'_>,
) -> Result<TokenResponse, TokenError> {
    let now = clock::wall_now();
    match body {
        Ok(body) => decode::decode(parts, body, now, binding),
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
