//! The future of `AddAccessToken`: send, or wait for a token first; notice a refusal; perhaps send once more.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    AccessTokenRefused, challenge,
    cold::{Cold, Saved, Sent, polled_after_completion},
    resend::Resend,
};
use crate::{
    error::BoxError,
    token_cache::{Invalidation, TokenName},
};

pin_project! {
    /// The future of [`AddAccessToken`](crate::AddAccessToken).
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
