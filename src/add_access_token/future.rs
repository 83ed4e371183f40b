//! The future of `AddAccessToken`: waits for a token if there is none, notices refusals, and resends.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    follow_up::FollowUp,
    refusal::{self, Objection, RefusalRules, SentNonce},
    resend::Resend,
    unsent::{SentRequest, Unsent, polled_after_completion},
};
use crate::{
    error::BoxError,
    token_cache::{Invalidation, SentToken},
};

pin_project! {
    /// The future of [`AddAccessToken`](crate::AddAccessToken).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, F, R, ResBody>
    where
        R: Resend<B>,
    {
        #[pin]
        state: ResponseState<S, B, F, R, ResBody>,
    }
}

pin_project! {
    #[project = ResponseStateProj]
    enum ResponseState<S, B, F, R, ResBody>
    where
        R: Resend<B>,
    {
        Failed { error: Option<BoxError> },
        // What the warm path does not have is boxed, so that the warm path moves few bytes and allocates nothing.
        Sending {
            #[pin] sending: F,
            token: Option<SentToken>,
            follow_up: FollowUp<S, B, R>,
            // `None` is the default.
            refusals: Option<Arc<RefusalRules>>,
        },
        Unsent { unsent: Box<Unsent<S, B, R, ResBody>> },
    }
}

impl<S, B, F, R: Resend<B>, ResBody> ResponseFuture<S, B, F, R, ResBody> {
    pub(super) fn failed(error: BoxError) -> Self {
        Self {
            state: ResponseState::Failed { error: Some(error) },
        }
    }

    /// A request that the layer gave no token. Its response cannot refuse one.
    pub(super) fn without_token(sending: F) -> Self {
        Self {
            state: ResponseState::Sending {
                sending,
                token: None,
                follow_up: FollowUp::none(),
                refusals: None,
            },
        }
    }

    #[inline]
    pub(super) fn sending(
        sending: F,
        token: SentToken,
        follow_up: FollowUp<S, B, R>,
        refusals: Option<Arc<RefusalRules>>,
    ) -> Self {
        Self {
            state: ResponseState::Sending {
                sending,
                token: Some(token),
                follow_up,
                refusals,
            },
        }
    }

    pub(super) fn unsent(unsent: Unsent<S, B, R, ResBody>) -> Self {
        Self {
            state: ResponseState::Unsent {
                unsent: Box::new(unsent),
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
                ResponseStateProj::Sending {
                    sending,
                    token,
                    follow_up,
                    refusals,
                } => {
                    let response = match ready!(sending.poll(cx)) {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    };
                    let is_plain = refusals.is_none()
                        && !refusal::may_refuse_token(&response)
                        && follow_up.proof.is_none();
                    let Some(token) = token.filter(|_| !is_plain) else {
                        if let Some(token) = token.as_ref().filter(|token| token.is_news()) {
                            token.report(response.status());
                        }
                        // The copy of a body is not kept while the body of the response is read.
                        follow_up.forget_resend();
                        return Poll::Ready(Ok(response));
                    };
                    match react(response, token, follow_up, refusals.as_deref()) {
                        Ok(unsent) => ResponseState::Unsent {
                            unsent: Box::new(unsent),
                        },
                        Err(response) => {
                            follow_up.forget_resend();
                            return Poll::Ready(Ok(response));
                        }
                    }
                }
                ResponseStateProj::Unsent { unsent } => match ready!(unsent.poll_send(cx)) {
                    Ok(SentRequest {
                        sending,
                        token,
                        follow_up,
                        refusals,
                    }) => ResponseState::Sending {
                        sending,
                        token: Some(token),
                        follow_up,
                        refusals,
                    },
                    Err(result) => return Poll::Ready(result),
                },
                ResponseStateProj::Failed { error } => {
                    return Poll::Ready(Err(error.take().unwrap_or_else(polled_after_completion)));
                }
            };
            this.state.set(next);
        }
    }
}

/// Stores the nonce of a response, invalidates the token that it refuses, and requests the stronger one that it demands.
///
/// Returns the request, if it is to be resent, or the response for the caller.
fn react<S: Clone, B, R: Resend<B>, ResBody>(
    response: Response<ResBody>,
    token: SentToken,
    follow_up: &mut FollowUp<S, B, R>,
    rules: Option<&RefusalRules>,
) -> Result<Unsent<S, B, R, ResBody>, Response<ResBody>> {
    let (mut head, body) = response.into_parts();
    let sent = follow_up.sent_nonce();
    if let Some(proof) = follow_up.proof.as_deref() {
        proof.note_nonce(&head.headers);
    }
    let mut objection = refusal::objection(rules, &head, sent.as_ref());
    if objection == Some(Objection::Nonce) {
        if let Some(restored) = follow_up.restore(Objection::Nonce) {
            let response = Response::from_parts(head, body);
            return Ok(Unsent::resend(restored, response, Objection::Nonce));
        }
        // The request cannot be resent after all.
        let sent = sent.map(SentNonce::without_resend);
        objection = refusal::objection(rules, &head, sent.as_ref());
    }
    if let Some(stronger) = rules.and_then(|rules| rules.stronger_source(&head, &token)) {
        if objection == Some(Objection::Token) {
            refusal::mark(&mut head.extensions);
            token.refuse();
        }
        let response = Response::from_parts(head, body);
        return match follow_up.restore(Objection::Weakness) {
            Some(restored) => Ok(Unsent::resend_with(stronger, restored, response)),
            None => {
                if let Some(tokens) = rules.and_then(RefusalRules::stronger_tokens) {
                    tokens.start(&stronger);
                }
                Err(response)
            }
        };
    }
    if objection != Some(Objection::Token) {
        if !refusal::is_grpc_error(&head) {
            token.report(head.status);
        }
        return Err(Response::from_parts(head, body));
    }
    let may_resend = refusal::may_resend(rules, &head);
    refusal::mark(&mut head.extensions);
    // After too many refusals the cache keeps the refused token, and would return it again.
    let has_other = matches!(
        token.refuse(),
        Invalidation::Dropped | Invalidation::Replaced
    );
    let response = Response::from_parts(head, body);
    if may_resend
        && has_other
        && let Some(restored) = follow_up.restore(Objection::Token)
    {
        return Ok(Unsent::resend(restored, response, Objection::Token));
    }
    Err(response)
}

impl<S, B, F, R: Resend<B>, ResBody> fmt::Debug for ResponseFuture<S, B, F, R, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            ResponseState::Failed { .. } => "Failed",
            ResponseState::Sending { .. } => "Sending",
            ResponseState::Unsent { .. } => "Unsent",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
