//! The server as a tower service.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_service::Service;

use super::{
    AuthorizationServer, Shared, answer, body::ResponseBody, endpoints, failure::Failure,
    recorded::RecordedRequest,
};

const MAX_REQUEST_BODY: usize = 1024 * 1024;

/// The answer of an [`AuthorizationServer`] to come.
///
/// As with any HTTP service nothing happens before the first poll; dropping it is a client that went away.
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

/// A request body over 1 MiB is answered 413. The error is of the kind
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset) where the server was told to drop the connection, and
/// of the kind [`Other`](io::ErrorKind::Other) where the body of the request failed.
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
            inner: Box::pin(serve(Arc::clone(&self.shared), request)),
        }
    }
}

async fn serve<B>(shared: Arc<Shared>, request: Request<B>) -> io::Result<Response<ResponseBody>>
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
    let _in_flight = InFlight::begin(&shared, &request);
    match failure(&shared, &request) {
        None => Ok(endpoints::answer(&shared, &request).map(ResponseBody::whole)),
        Some(failure) => failure.play(|| endpoints::answer(&shared, &request)).await,
    }
}

fn failure(shared: &Shared, request: &RecordedRequest) -> Option<Failure> {
    let path = request.path();
    let mut state = shared.lock();
    if let Some(counted) = state.script.next(path) {
        return Some(counted);
    }
    let rule = state.script.rule();
    // The rule is the user's code, and may ask the server something.
    drop(state);
    rule.and_then(|rule| rule(request))
        .filter(|failure| failure.is_at(path))
        .or_else(|| shared.lock().script.standing(path))
}

/// A token request that has come and has no answer yet.
struct InFlight<'a>(Option<&'a Shared>);

impl<'a> InFlight<'a> {
    fn begin(shared: &'a Shared, request: &RecordedRequest) -> Self {
        let mut state = shared.lock();
        state.requests.push(request.clone());
        if request.path() != endpoints::TOKEN {
            return Self(None);
        }
        state.token_requests += 1;
        state.in_flight += 1;
        state.in_flight_peak = state.in_flight_peak.max(state.in_flight);
        Self(Some(shared))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.lock().in_flight -= 1;
        }
    }
}
