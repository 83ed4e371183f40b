//! `ReqwestService`: makes `reqwest::Client` a service for `http` requests.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use reqwest::{Client, ResponseBuilderExt, Url};
use sync_wrapper::SyncWrapper;
use tower_service::Service;

use crate::{
    error::{BoxError, FollowedRedirect, NotSent},
    message::NoAccessToken,
};

type Pending = <Client as Service<reqwest::Request>>::Future;

/// A [`reqwest::Client`] as a `Service<http::Request<B>>`.
///
/// Use it as the inner service of a [`TokenEndpoint`](crate::TokenEndpoint), or of an
/// [`AddAccessTokenLayer`](crate::AddAccessTokenLayer). The request body need not be `Sync`, so those of axum and tonic work too.
///
/// You can convert reqwest's own types: `http::Request::try_from` accepts a [`reqwest::Request`], and `reqwest::Response::from` returns a
/// [`reqwest::Response`] with its URL.
///
/// # Redirects
///
/// By default, reqwest follows redirects, and sends the request body again if the status is 307 or 308. The body or the headers of a token
/// request contain the client's secret, so this adapter prevents that. The body of a token request cannot be sent again, and a response
/// from another URL than the requested one is an error. The token endpoint reports it as
/// [`UnexpectedStatus`](crate::TokenErrorKind::UnexpectedStatus), like a redirect that was not followed. For other requests, the client's
/// redirect policy applies.
///
/// # Security
///
/// Build the client with `redirect::Policy::none()`. When reqwest 0.13 follows a redirect to another origin, it removes `Authorization`
/// from the first request there, but not from the next one, if that origin then redirects to another of its own URLs: it gets the
/// client's secret or the access token. reqwest never removes the headers that were set with [`TokenRequest::header`](crate::TokenRequest::header). This
/// adapter notices a followed redirect only afterwards.
///
/// # Errors
///
/// Returns the errors of reqwest. If the client failed to connect, the error is wrapped in [`NotSent`]. If the request timed out, the error
/// is wrapped in an `io::Error` of the kind `TimedOut`.
///
/// # Examples
///
/// ```
/// use http::Uri;
/// use tower_oauth2_client::{ClientAuthentication, ReqwestService, TokenEndpoint};
///
/// let endpoint: TokenEndpoint<ReqwestService> = TokenEndpoint::new(
///     ReqwestService::new(reqwest::Client::new()),
///     "https://as.example/token",
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// );
/// ```
#[derive(Clone)]
pub struct ReqwestService {
    client: Client,
}

impl ReqwestService {
    /// Sends requests through `client`, with its connection pool, timeouts and TLS settings.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl From<Client> for ReqwestService {
    fn from(client: Client) -> Self {
        Self::new(client)
    }
}

impl<B> Service<Request<B>> for ReqwestService
where
    B: Body + Send + 'static,
    B::Data: Into<Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<reqwest::Body>;
    type Error = BoxError;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<reqwest::Request>::poll_ready(&mut self.client, cx)
            .map_err(|error| boxed(error, false))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_token_request = request.extensions().get::<NoAccessToken>().is_some();
        let body_taken = Arc::new(AtomicBool::new(false));
        // To reqwest, a wrapped body is a stream, which it cannot send twice.
        let request = request.map(|body| {
            reqwest::Body::wrap(Watched {
                is_end_stream: body.is_end_stream(),
                size_hint: body.size_hint(),
                body: SyncWrapper::new(body),
                taken: body_taken.clone(),
            })
        });
        let state = match reqwest::Request::try_from(request) {
            Ok(request) => State::Pending {
                asked: is_token_request.then(|| request.url().clone()),
                body_taken,
                pending: self.client.call(request),
            },
            Err(error) => State::Failed {
                error: Some(NotSent::new(error).into()),
            },
        };
        ReqwestFuture { state }
    }
}

impl fmt::Debug for ReqwestService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestService").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`ReqwestService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ReqwestFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        // `body_taken` is set when the body is first polled, which needs a connection.
        Pending { #[pin] pending: Pending, asked: Option<Url>, body_taken: Arc<AtomicBool> },
        Failed { error: Option<BoxError> },
    }
}

impl Future for ReqwestFuture {
    type Output = Result<Response<reqwest::Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProj::Pending {
                pending,
                asked,
                body_taken,
            } => match ready!(pending.poll(cx)) {
                Ok(response) => match asked {
                    Some(asked) if asked != response.url() => Err(FollowedRedirect.into()),
                    _ => Ok(with_url(response)),
                },
                Err(error) => {
                    let body_taken = body_taken.load(Ordering::Relaxed);
                    Err(match asked {
                        // If the body was already taken, only a redirect causes another attempt to connect.
                        Some(_) if error.is_redirect() || (body_taken && error.is_connect()) => {
                            FollowedRedirect.into()
                        }
                        Some(_) => boxed(error.without_url(), body_taken),
                        None => boxed(error, body_taken),
                    })
                }
            },
            StateProj::Failed { error } => Err(error
                .take()
                .unwrap_or_else(|| "polled after completion".into())),
        })
    }
}

pin_project! {
    /// A body that is `Sync` and records when it is first polled. http-body-util's `map_frame` would lose the body's length.
    ///
    /// A shared reference to it never reaches the inner body. So what the inner body says of itself is kept after each change.
    struct Watched<B> {
        #[pin]
        body: SyncWrapper<B>,
        is_end_stream: bool,
        size_hint: SizeHint,
        taken: Arc<AtomicBool>,
    }
}

impl<B: Body> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.taken.store(true, Ordering::Relaxed);
        let mut body = this.body.get_pin_mut();
        let polled = body.as_mut().poll_frame(cx);
        *this.is_end_stream = body.is_end_stream();
        *this.size_hint = body.size_hint();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_end_stream
    }

    #[allow(clippy::clone_on_copy, reason = "`Copy` since http-body 1.1 only")]
    fn size_hint(&self) -> SizeHint {
        self.size_hint.clone()
    }
}

impl fmt::Debug for ReqwestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestFuture").finish_non_exhaustive()
    }
}

/// Converts the response and keeps its URL.
///
/// reqwest's conversion drops the URL, but its conversion back reads the URL from the extensions.
fn with_url(response: reqwest::Response) -> Response<reqwest::Body> {
    let bearer = Response::builder().url(response.url().clone()).body(());
    let mut response = Response::<reqwest::Body>::from(response);
    if let Ok(bearer) = bearer {
        let extensions = bearer.into_parts().0.extensions;
        response.extensions_mut().extend(extensions);
    }
    response
}

/// Wraps an error of reqwest so that [`crate::error`] recognizes a timeout or a failure to connect.
fn boxed(error: reqwest::Error, body_taken: bool) -> BoxError {
    let (is_connect, is_timeout) = (error.is_connect(), error.is_timeout());
    let error: BoxError = match is_timeout {
        true => io::Error::new(io::ErrorKind::TimedOut, error).into(),
        false => error.into(),
    };
    match is_connect && !body_taken {
        true => NotSent::new(error).into(),
        false => error,
    }
}
