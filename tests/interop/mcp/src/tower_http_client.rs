//! `TowerHttpClient`: the HTTP side of an MCP client over a tower stack.

use std::{collections::HashMap, error::Error, fmt, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage},
    transport::{
        common::http_header::{
            EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE,
        },
        streamable_http_client::{
            AuthRequiredError, HttpStatusError, InsufficientScopeError, SseError,
            StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
            StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};
use sse_stream::{Sse, SseStream};
use tower::{Service, ServiceExt};
use tower_oauth2_client::BoxError;

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

async fn read_answer<B>(
    response: Response<B>,
    message: &ClientJsonRpcMessage,
    limits: StreamableHttpResponseLimits,
) -> Result<StreamableHttpPostResponse, Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let is_json = has_type(&head.headers, JSON_MIME_TYPE);
    let session_id = text(&head.headers, HEADER_SESSION_ID);
    if let Some(error) = status_error(head.status, &head.headers) {
        if head.status == StatusCode::UNAUTHORIZED || head.status == StatusCode::FORBIDDEN {
            return Err(error);
        }
        let body = if is_json {
            read(body, limits.max_json_response_size).await?
        } else {
            Bytes::new()
        };
        return match json_rpc_error(&body, message, head.status) {
            Some(answer) => Ok(StreamableHttpPostResponse::Json(answer, session_id)),
            None => Err(error),
        };
    }

    // Of a notification or an answer, only the status of the response counts.
    if head.status == StatusCode::ACCEPTED || !matches!(message, ClientJsonRpcMessage::Request(_)) {
        return Ok(StreamableHttpPostResponse::Accepted);
    }
    if has_type(&head.headers, EVENT_STREAM_MIME_TYPE) {
        let events = events(body, limits.max_sse_event_size);
        return Ok(StreamableHttpPostResponse::Sse(events, session_id));
    }
    if !is_json {
        return Err(unexpected_type(&head.headers));
    }
    let answer = serde_json::from_slice(&read(body, limits.max_json_response_size).await?)?;
    Ok(StreamableHttpPostResponse::Json(answer, session_id))
}

/// Returns the error of a response that is not a success.
fn status_error(status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    if status.is_success() {
        return None;
    }
    let challenge = text(headers, header::WWW_AUTHENTICATE.as_str());
    Some(match (status, challenge) {
        (StatusCode::UNAUTHORIZED, Some(challenge)) => {
            StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge))
        }
        (StatusCode::FORBIDDEN, Some(challenge)) => {
            StreamableHttpError::InsufficientScope(InsufficientScopeError::new(challenge, None))
        }
        _ => {
            let retry_after = text(headers, header::RETRY_AFTER.as_str());
            HttpStatusError::new(status.as_u16(), retry_after).into()
        }
    })
}

/// Returns the JSON-RPC error that an error response contains.
///
/// An older server refuses `server/discover` with an arbitrary response. It becomes an answer to this very request: rmcp's lifecycle `Auto`
/// needs one to fall back to `initialize`.
fn json_rpc_error(
    body: &[u8],
    message: &ClientJsonRpcMessage,
    status: StatusCode,
) -> Option<ServerJsonRpcMessage> {
    let error = match serde_json::from_slice(body) {
        Ok(ServerJsonRpcMessage::Error(error)) => Some(error),
        _ => None,
    };
    match message {
        ClientJsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::DiscoverRequest(_))
                && status.is_client_error() =>
        {
            let refused = || ErrorData::invalid_request(format!("HTTP {status}"), None);
            let error = error.map_or_else(refused, |error| error.error);
            Some(ServerJsonRpcMessage::error(error, Some(request.id.clone())))
        }
        _ => error.map(ServerJsonRpcMessage::Error),
    }
}

async fn read<B>(body: B, max_size: usize) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, max_size).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(StreamableHttpError::ResponseBodyTooLarge { max_size })
        }
        Err(error) => Err(failure(error)),
    }
}

/// Parses a body as events. An event of more than `max_size` bytes ends the stream with an error.
fn events<B>(body: B, max_size: usize) -> Events
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut event = EventSize::default();
    let chunks = body.into_data_stream().map(move |chunk| {
        let chunk = chunk.map_err(|error| StackError(error.into()))?;
        match event.add(&chunk) {
            size if size > max_size => {
                let text = format!("an event has more than {max_size} bytes");
                Err(StackError(text.into()))
            }
            _ => Ok(chunk),
        }
    });
    SseStream::from_bytes_stream(chunks).boxed()
}

/// The size of the event that is being received. An empty line ends an event.
#[derive(Default)]
struct EventSize {
    event: usize,
    line: usize,
}

impl EventSize {
    /// Counts a chunk, and returns the size of the largest event that it belongs to.
    fn add(&mut self, chunk: &[u8]) -> usize {
        let mut largest = 0;
        for byte in chunk {
            self.event += 1;
            largest = largest.max(self.event);
            match byte {
                b'\n' if self.line == 0 => self.event = 0,
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
        }
        largest
    }
}

fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let found = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let found = found.split(';').next().unwrap_or_default();
    found.trim().eq_ignore_ascii_case(expected)
}

fn unexpected_type(headers: &HeaderMap) -> Failure {
    StreamableHttpError::UnexpectedContentType(text(headers, header::CONTENT_TYPE.as_str()))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

#[cfg(test)]
mod tests;
