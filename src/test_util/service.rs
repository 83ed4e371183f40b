//! The server as a tower service.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_service::Service;

use super::{
    AuthorizationServer, Core, answer, body::ResponseBody, endpoints, failure::Failure,
    recorded::RecordedRequest,
};

const MAX_REQUEST_BODY: usize = 1024 * 1024;

/// The future of a response of an [`AuthorizationServer`].
///
/// As with any HTTP service, nothing happens before the first poll. Dropping the future has the same effect as a client
/// that disconnects.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = io::Result<Response<ResponseBody>>> + Send>>,
}

impl Future for ResponseFuture {
    type Output = io::Result<Response<ResponseBody>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A request body larger than 1 MiB is answered with 413.
///
/// The error is of kind [`ConnectionReset`](io::ErrorKind::ConnectionReset) if the server was told to drop the
/// connection, and of kind [`Other`](io::ErrorKind::Other) if the body of the request failed.
impl<B> Service<Request<B>> for AuthorizationServer
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = io::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        ResponseFuture {
            inner: Box::pin(serve(self.clone(), request)),
        }
    }
}

async fn serve<B>(
    server: AuthorizationServer,
    request: Request<B>,
) -> io::Result<Response<ResponseBody>>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_REQUEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let response = answer::empty_response(StatusCode::PAYLOAD_TOO_LARGE);
            return Ok(response.map(ResponseBody::whole));
        }
        Err(error) => return Err(io::Error::other(error)),
    };
    let request = RecordedRequest::new(parts, &body);
    let _in_flight = InFlight::begin(&server.core, &request);
    match failure(&server.core, &request) {
        None => Ok(endpoints::answer(&server, &request).map(ResponseBody::whole)),
        Some(failure) => failure.play(|| endpoints::answer(&server, &request)).await,
    }
}

fn failure(core: &Core, request: &RecordedRequest) -> Option<Failure> {
    let path = request.path();
    let mut state = core.lock();
    if let Some(counted) = state.script.next(path) {
        return Some(counted);
    }
    let rule = state.script.rule();
    // The rule is user code and may call methods of the server, so the lock must be released.
    drop(state);
    rule.and_then(|rule| rule(request))
        .filter(|failure| failure.is_at(path))
        .or_else(|| core.lock().script.standing(path))
}

/// A token request that has been received and not yet answered.
struct InFlight<'a>(Option<&'a Core>);

impl<'a> InFlight<'a> {
    fn begin(core: &'a Core, request: &RecordedRequest) -> Self {
        let mut state = core.lock();
        state.requests.push(request.clone());
        if request.path() != endpoints::TOKEN {
            return Self(None);
        }
        state.token_requests += 1;
        state.in_flight += 1;
        state.in_flight_peak = state.in_flight_peak.max(state.in_flight);
        Self(Some(core))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(core) = self.0 {
            core.lock().in_flight -= 1;
        }
    }
}
