//! `TowerHttpClient`: the HTTP side of an MCP client over a tower stack.

mod response;

use std::{collections::HashMap, error::Error, fmt, sync::Arc};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::{
        common::http_header::{
            EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE,
        },
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpClientTransportConfig,
            StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};
use sse_stream::Sse;
use tower::{Service, ServiceExt};
use tower_oauth2_client::BoxError;

use self::response::{events, has_type, read_answer, status_error, unexpected_type};

type Failure = StreamableHttpError<StackError>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// Sends the messages of an MCP client through a tower stack of HTTP layers.
///
/// The stack is any clonable service from `Request<Full<Bytes>>` to a response. Give the client to rmcp's `StreamableHttpClientTransport`.
/// An error of the stack, such as a refused authorization, is rmcp's `StreamableHttpError::Client`.
#[derive(Clone)]
pub struct TowerHttpClient<S> {
    stack: S,
}

impl<S> TowerHttpClient<S> {
    /// Sends all messages through `stack`.
    pub fn new(stack: S) -> Self {
        Self { stack }
    }
}

impl<S> fmt::Debug for TowerHttpClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerHttpClient").finish_non_exhaustive()
    }
}

/// An error of the stack or of a response body.
#[derive(Debug)]
pub struct StackError(BoxError);

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for StackError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

fn failure(error: impl Into<BoxError>) -> Failure {
    StreamableHttpError::Client(StackError(error.into()))
}

impl<S, B> StreamableHttpClient for TowerHttpClient<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Error = StackError;

    fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> impl Future<Output = Result<StreamableHttpPostResponse, Failure>> + Send + '_ {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            headers,
            limits,
        )
    }

    fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> impl Future<Output = Result<StreamableHttpPostResponse, Failure>> + Send + '_ {
        let stack = self.stack.clone();
        async move {
            let mut request = request(Method::POST, &uri, auth_header, headers)?;
            let in_session = session_id.is_some();
            set(&mut request, HEADER_SESSION_ID, session_id.as_deref())?;
            set(&mut request, "content-type", Some(JSON_MIME_TYPE))?;
            *request.body_mut() = serde_json::to_vec(&message)?.into();
            let response = send(stack, request).await?;

            if response.status() == StatusCode::NOT_FOUND && in_session {
                return Err(StreamableHttpError::SessionExpired);
            }
            read_answer(response, &message, limits).await
        }
    }

    fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> impl Future<Output = Result<Events, Failure>> + Send + '_ {
        let max = StreamableHttpClientTransportConfig::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            headers,
            max,
        )
    }

    fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> impl Future<Output = Result<Events, Failure>> + Send + '_ {
        let stack = self.stack.clone();
        async move {
            let mut request = request(Method::GET, &uri, auth_header, headers)?;
            set(&mut request, HEADER_SESSION_ID, session_id.as_deref())?;
            set(&mut request, HEADER_LAST_EVENT_ID, last_event_id.as_deref())?;
            let response = send(stack, request).await?;

            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                return Err(StreamableHttpError::ServerDoesNotSupportSse);
            }
            if let Some(error) = status_error(response.status(), response.headers()) {
                return Err(error);
            }
            if !has_type(response.headers(), EVENT_STREAM_MIME_TYPE) {
                return Err(unexpected_type(response.headers()));
            }
            Ok(events(response.into_body(), max_sse_event_size))
        }
    }

    fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> impl Future<Output = Result<(), Failure>> + Send + '_ {
        let stack = self.stack.clone();
        async move {
            let mut request = request(Method::DELETE, &uri, auth_header, headers)?;
            set(&mut request, HEADER_SESSION_ID, Some(&session_id))?;
            let response = send(stack, request).await?;
            match response.status() {
                StatusCode::METHOD_NOT_ALLOWED => Ok(()),
                status => status_error(status, response.headers()).map_or(Ok(()), Err),
            }
        }
    }
}

async fn send<S, B>(stack: S, request: Request<Full<Bytes>>) -> Result<Response<B>, Failure>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    stack.oneshot(request).await.map_err(failure)
}

/// A request without a body. `headers` come first, so that they cannot replace those of the protocol.
fn request(
    method: Method,
    uri: &str,
    auth_header: Option<String>,
    headers: HashMap<HeaderName, HeaderValue>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let request = Request::builder().method(method).uri(uri);
    let mut request = request.body(Full::default()).map_err(failure)?;
    request.headers_mut().extend(headers);
    let accepted = [EVENT_STREAM_MIME_TYPE, JSON_MIME_TYPE].join(", ");
    set(&mut request, "accept", Some(&accepted))?;
    if let Some(token) = auth_header {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(failure)?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

fn set(
    request: &mut Request<Full<Bytes>>,
    name: &'static str,
    value: Option<&str>,
) -> Result<(), Failure> {
    let name = HeaderName::try_from(name).map_err(failure)?;
    match value {
        Some(value) => {
            let value = HeaderValue::try_from(value).map_err(failure)?;
            request.headers_mut().insert(name, value);
        }
        None => {
            request.headers_mut().remove(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
