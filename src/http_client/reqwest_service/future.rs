//! `ReqwestFuture`: notices followed redirects, and converts the response or the error.

use std::{
    error::Error,
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

use http::Response;
use pin_project_lite::pin_project;
use reqwest::{Client, ResponseBuilderExt, Url};
use tower_service::Service;

use crate::error::{BoxError, FollowedRedirect, NotSent};

type Pending = <Client as Service<reqwest::Request>>::Future;

pin_project! {
    /// The future of [`ReqwestService`](crate::ReqwestService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ReqwestFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Pending { #[pin] pending: Pending, asked: Option<Url>, body_taken: Arc<AtomicBool> },
        Failed { error: Option<BoxError> },
    }
}

impl ReqwestFuture {
    /// `asked` is the URL of a token request. `body_taken` is set when the body is first polled, which needs a connection.
    pub(super) fn pending(
        pending: Pending,
        asked: Option<Url>,
        body_taken: Arc<AtomicBool>,
    ) -> Self {
        Self {
            state: State::Pending {
                pending,
                asked,
                body_taken,
            },
        }
    }

    pub(super) fn failed(error: BoxError) -> Self {
        Self {
            state: State::Failed { error: Some(error) },
        }
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
                        Some(asked) => boxed(error.without_url(), body_taken, Some(asked)),
                        None => boxed(error, body_taken, None),
                    })
                }
            },
            StateProj::Failed { error } => Err(error
                .take()
                .unwrap_or_else(|| "polled after completion".into())),
        })
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
///
/// `asked` is where the request was sent to, if the error has no URL.
pub(super) fn boxed(error: reqwest::Error, body_taken: bool, asked: Option<&Url>) -> BoxError {
    let (is_connect, is_timeout) = (error.is_connect(), error.is_timeout());
    let error: BoxError = match asked {
        Some(url) => AtHost::new(url, error).into(),
        None => error.into(),
    };
    let error = match is_timeout {
        true => io::Error::new(io::ErrorKind::TimedOut, error).into(),
        false => error,
    };
    match is_connect && !body_taken {
        true => NotSent::new(error).into(),
        false => error,
    }
}

/// An error of a token request, which names only the host: the rest of its URL may contain a secret.
#[derive(Debug)]
struct AtHost {
    message: String,
    source: reqwest::Error,
}

impl AtHost {
    fn new(url: &Url, source: reqwest::Error) -> Self {
        let host = url.host_str().unwrap_or("an unknown host");
        let port = url.port_or_known_default().map(|port| format!(":{port}"));
        let host = format!("{host}{}", port.unwrap_or_default());
        let message = match source.is_connect() {
            true => format!("failed to connect to {host}"),
            false => format!("the request to {host} failed"),
        };
        Self { message, source }
    }
}

impl fmt::Display for AtHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for AtHost {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
