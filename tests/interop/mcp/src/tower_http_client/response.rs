//! From HTTP responses to what rmcp expects.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage},
    transport::{
        common::http_header::{EVENT_STREAM_MIME_TYPE, HEADER_SESSION_ID, JSON_MIME_TYPE},
        streamable_http_client::{
            AuthRequiredError, HttpStatusError, InsufficientScopeError, StreamableHttpError,
            StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};
use sse_stream::SseStream;
use tower_oauth2_client::BoxError;

use super::{Events, Failure, StackError, failure};

/// Reads the response to a message.
pub(super) async fn read_answer<B>(
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
pub(super) fn status_error(status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
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
pub(super) fn events<B>(body: B, max_size: usize) -> Events
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
pub(super) struct EventSize {
    event: usize,
    line: usize,
}

impl EventSize {
    /// Counts a chunk, and returns the size of the largest event that it belongs to.
    pub(super) fn add(&mut self, chunk: &[u8]) -> usize {
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

pub(super) fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let found = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let found = found.split(';').next().unwrap_or_default();
    found.trim().eq_ignore_ascii_case(expected)
}

pub(super) fn unexpected_type(headers: &HeaderMap) -> Failure {
    StreamableHttpError::UnexpectedContentType(text(headers, header::CONTENT_TYPE.as_str()))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
