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
    cold::{Cold, Sent, polled_after_completion},
    kept::Kept,
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
        Sending { #[pin] sending: F, token: Option<TokenName>, kept: Option<Box<Kept<S, B, R>>> },
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
                kept: None,
            },
        }
    }

    #[inline]
    pub(super) fn sending(sending: F, token: TokenName, kept: Option<Box<Kept<S, B, R>>>) -> Self {
        Self {
            state: State::Sending {
                sending,
                token: Some(token),
                kept,
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
                    kept,
                } => {
                    let response = match ready!(sending.poll(cx)) {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    };
                    let is_plain = kept.is_none() && !challenge::may_refuse_token(&response);
                    let Some(token) = token.filter(|_| !is_plain) else {
                        return Poll::Ready(Ok(response));
                    };
                    let again = react(response, token, kept.take());
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
                        kept,
                    }) => State::Sending {
                        sending,
                        token: Some(token),
                        kept,
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

/// What a response means for the token that the request bore: the request once more, or the response for the caller.
fn react<S, B, R: Resend<B>, ResBody>(
    mut response: Response<ResBody>,
    token: TokenName,
    kept: Option<Box<Kept<S, B, R>>>,
) -> Result<Cold<S, B, R, ResBody>, Response<ResBody>> {
    let mut is_demand = false;
    if let Some(Kept {
        proven: Some(proven),
        ..
    }) = kept.as_deref()
    {
        proven.note_nonce(response.headers());
        is_demand = challenge::demands_nonce(&response);
    }
    // A demand goes first: a server that takes tokens of both kinds may say beside it that it saw no bearer token.
    let is_refusal = !is_demand && challenge::refuses_token(&response);
    if is_refusal {
        response.extensions_mut().insert(AccessTokenRefused);
    }
    let again = match kept {
        _ if is_refusal && token.refuse() == Invalidation::StillInUse => None,
        Some(kept) if is_refusal => kept.again(|reasons| &mut reasons.refusal),
        Some(kept) if is_demand => kept.again(|reasons| &mut reasons.nonce),
        _ => None,
    };
    match again {
        Some(mut again) => {
            // What a demand for a nonce came for is good.
            let refused = again.authorization.take().filter(|_| is_refusal);
            Ok(Cold::again(again, response, refused))
        }
        None => Err(response),
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
