//! `HttpsFuture`: a request in flight, with a time limit for the head of its response.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::CaptureConnection};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::{
    error::Target,
    silence::{Awaited, SilenceOf},
};
use crate::error::{BoxError, Presented};

pin_project! {
    /// The future of [`HttpsClient`](crate::HttpsClient).
    #[must_use = "futures do nothing unless polled"]
    pub struct HttpsFuture {
        // `None` once this future has returned, so that a request that timed out does not keep its connection.
        sending: Option<legacy::ResponseFuture>,
        target: Target,
        connection: CaptureConnection,
        // The client certificate, for the response to a token request.
        presented: Option<Presented>,
        awaited: Option<Awaited>,
        response_head_timeout: Option<Duration>,
        limit: Option<Pin<Box<Sleep>>>,
    }
}

impl HttpsFuture {
    pub(super) fn new(
        sending: legacy::ResponseFuture,
        target: Target,
        connection: CaptureConnection,
        response_head_timeout: Option<Duration>,
    ) -> Self {
        Self {
            sending: Some(sending),
            target,
            connection,
            presented: None,
            awaited: None,
            response_head_timeout,
            limit: None,
        }
    }

    /// Sets the client certificate of the connection, which goes into the extensions of the response.
    pub(super) fn presenting(mut self, certificate: Option<Presented>) -> Self {
        self.presented = certificate;
        self
    }
}

impl Future for HttpsFuture {
    type Output = Result<Response<Incoming>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(sending) = this.sending else {
            return Poll::Ready(Err("polled after completion".into()));
        };
        if let Poll::Ready(result) = Pin::new(sending).poll(cx) {
            *this.sending = None;
            if let Some(awaited) = this.awaited.take() {
                awaited.answered();
            }
            return Poll::Ready(match result {
                Ok(mut response) => {
                    response.extensions_mut().remove::<SilenceOf>();
                    if let Some(certificate) = this.presented.take() {
                        response.extensions_mut().insert(certificate);
                    }
                    Ok(response)
                }
                Err(error) => Err(this.target.failed(error)),
            });
        }

        // From here on, the request has a connection or waits for one. It can get another one if the first turns out to be closed.
        let metadata = this.connection.connection_metadata();
        let Some(connected) = &*metadata else {
            return Poll::Pending;
        };
        let silence = SilenceOf::find(connected).and_then(|silence| silence.0.upgrade());
        drop(metadata);
        if let Some(silence) = silence
            && !this
                .awaited
                .as_ref()
                .is_some_and(|awaited| awaited.is_over(&silence))
        {
            *this.awaited = Some(silence.request_sent(this.connection));
        }

        let Some(time) = *this.response_head_timeout else {
            return Poll::Pending;
        };
        let limit = this
            .limit
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(limit.as_mut().poll(cx));
        *this.sending = None;
        if let Some(awaited) = this.awaited.take() {
            awaited.timed_out(time);
        }
        Poll::Ready(Err(this.target.no_response_head(time)))
    }
}

impl fmt::Debug for HttpsFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsFuture").finish_non_exhaustive()
    }
}
