//! The future of a call: obtain credentials, wait for the service, send, collect.

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
    EndpointCall,
    about::CallAbout,
    decode,
    preparation::{Draft, Preparation, Preparing},
    sent_secrets::SentSecrets,
};
use crate::{
    base::clock,
    error::{BoxError, Presented, SentTo, TokenError},
};

pin_project! {
    /// The future of a call of an endpoint.
    pub(crate) struct CallFuture<C, S, B, F, ResBody>
    where
        ResBody: Body,
        ResBody::Error: Into<BoxError>,
    {
        #[pin]
        state: State<B, F, ResBody>,
        call: C,
        limit: usize,
        // What to check if the server does not accept the client.
        what_to_check: &'static str,
        // What was sent, until the response has been read.
        sent: Option<SentSecrets>,
        preparation: Option<Preparation<C, S, B>>,
        about: CallAbout,
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
        Readying { request: Option<(Request<B>, SentSecrets)> },
        Sending { #[pin] sending: F, sent_to: SentTo },
        Collecting { #[pin] body: Collect<Limited<ResBody>>, parts: Option<Parts> },
    }
}

impl<C, S, B, F, ResBody> CallFuture<C, S, B, F, ResBody>
where
    C: EndpointCall,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    pub(super) fn failed(call: C, error: TokenError, about: CallAbout) -> Self {
        Self {
            state: State::Failed { error: Some(error) },
            call,
            limit: 0,
            what_to_check: "",
            sent: None,
            preparation: None,
            about,
        }
    }

    pub(super) fn prepare(
        call: C,
        draft: Draft<C>,
        request_body: fn(Bytes) -> B,
        service: S,
        limit: usize,
        about: CallAbout,
    ) -> Self {
        let what_to_check = draft.call.what_to_check(&draft.client);
        let (preparation, preparing) = Preparation::begin(draft, request_body, service);
        Self {
            state: State::Preparing { preparing },
            call,
            limit,
            what_to_check,
            sent: None,
            preparation: Some(preparation),
            about,
        }
    }

    pub(super) fn sending(
        call: C,
        sending: F,
        sent_to: SentTo,
        sent: SentSecrets,
        what_to_check: &'static str,
        limit: usize,
        about: CallAbout,
    ) -> Self {
        Self {
            state: State::Sending { sending, sent_to },
            call,
            limit,
            what_to_check,
            sent: Some(sent),
            preparation: None,
            about,
        }
    }
}

impl<C, S, B, ResBody> Future for CallFuture<C, S, B, S::Future, ResBody>
where
    C: EndpointCall,
    S: Service<Request<B>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<C::Response, TokenError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match (this.state.as_mut().project(), &mut *this.preparation) {
                (StateProj::Failed { error }, _) => {
                    let error = error.take().unwrap_or_else(polled_after_completion);
                    return Poll::Ready(Err(this.about.error(error)));
                }
                (StateProj::Preparing { preparing }, Some(preparation)) => {
                    match ready!(preparing.as_mut().poll(cx)) {
                        Ok(prepared) => {
                            this.about.note_uri(prepared.request.uri());
                            State::Readying {
                                request: Some(preparation.end(prepared)),
                            }
                        }
                        Err(error) => State::Failed { error: Some(error) },
                    }
                }
                (StateProj::Readying { request }, Some(Preparation { service, .. })) => {
                    match (ready!(service.poll_ready(cx)), request.take()) {
                        (Ok(()), Some((request, sent))) => {
                            *this.sent = Some(sent);
                            State::Sending {
                                sent_to: SentTo::of(&request),
                                sending: service.call(request),
                            }
                        }
                        (Ok(()), None) => State::Failed { error: None },
                        (Err(error), _) => State::Failed {
                            error: Some(TokenError::not_ready(C::NAMES.endpoint, error.into())),
                        },
                    }
                }
                (StateProj::Sending { sending, sent_to }, preparation) => {
                    let response = ready!(sending.poll(cx)).map_err(Into::into);
                    let response = response.and_then(|response| {
                        sent_to.check(&response)?;
                        Ok(response)
                    });
                    match response {
                        Ok(response) => {
                            let (parts, body) = response.into_parts();
                            // At once, since `Date` is compared with the time of arrival.
                            if let Some(preparation) = preparation {
                                preparation.note_headers(&parts);
                            }
                            let done = this.call.decode_without_body();
                            // If the body does not matter, the call does not wait for its end.
                            if let Some(done) = done.filter(|_| parts.status.is_success()) {
                                this.state.set(State::Failed { error: None });
                                return Poll::Ready(Ok(done));
                            }
                            State::Collecting {
                                body: Limited::new(body, *this.limit).collect(),
                                parts: Some(parts),
                            }
                        }
                        Err(error) => State::Failed {
                            error: Some(TokenError::service(C::NAMES.endpoint, error)),
                        },
                    }
                }
                (StateProj::Collecting { body, parts }, preparation) => {
                    let body = ready!(body.poll(cx)).map(|collected| collected.to_bytes());
                    let Some(mut parts) = parts.take() else {
                        return Poll::Ready(Err(polled_after_completion()));
                    };
                    let dpop = preparation.as_ref().and_then(Preparation::dpop);
                    let certificate = parts.extensions.remove::<Presented>();
                    let (limit, now) = (*this.limit, clock::wall_now());
                    let result = decode::decode(this.call, parts, body, limit, dpop, now);
                    let sent = this.sent.take();
                    let result = result.map_err(|error| match sent {
                        Some(sent) if error.quotes_the_server() => {
                            let mask = sent.mask();
                            error.masking(|text| mask.apply(text))
                        }
                        _ => error,
                    });
                    let result =
                        result.map_err(|error| error.if_client_refused(this.what_to_check));
                    let again = preparation.as_mut().and_then(|it| it.again(&result));
                    if let Some(preparing) = again {
                        this.state.set(State::Preparing { preparing });
                        continue;
                    }
                    let provided = preparation.as_mut().map(Preparation::take_provided);
                    let mut provided = provided.unwrap_or_default();
                    provided.set_certificate(certificate);
                    let result = result
                        .map_err(|error| this.about.error(error.with_provided(provided.boxed())));
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

fn polled_after_completion() -> TokenError {
    TokenError::request("the future was polled after it had completed")
}

impl<C, S, B, F, ResBody> fmt::Debug for CallFuture<C, S, B, F, ResBody>
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

/// Defines the public `ResponseFuture` of the service of one endpoint.
macro_rules! response_future {
    ($(#[$doc:meta])* $call:ty => $response:ty) => {
        pin_project_lite::pin_project! {
            $(#[$doc])*
            #[must_use = "futures do nothing unless polled"]
            pub struct ResponseFuture<S, B>
            where
                S: crate::authorization_server::http_service::HttpService<B>,
            {
                #[pin]
                inner: crate::authorization_server::endpoint::CallFuture<$call, S, B, S::Sending, S::ResponseBody>,
            }
        }

        impl<S, B> std::future::Future for ResponseFuture<S, B>
        where
            S: crate::authorization_server::http_service::HttpService<B>,
        {
            type Output = Result<$response, crate::error::TokenError>;

            fn poll(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Self::Output> {
                self.project().inner.poll(cx)
            }
        }

        impl<S, B> std::fmt::Debug for ResponseFuture<S, B>
        where
            S: crate::authorization_server::http_service::HttpService<B>,
        {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.inner, f)
            }
        }
    };
}

pub(crate) use response_future;
