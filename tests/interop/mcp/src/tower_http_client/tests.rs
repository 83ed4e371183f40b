//! What the adapter makes of each response, and what it sends.

use std::{
    collections::HashMap,
    future::{Ready, ready},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::Full;
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_client::{
        StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
        StreamableHttpResponseLimits,
    },
};
use serde_json::{Value, json};
use tower::{service_fn, util::BoxCloneService};
use tower_oauth2_client::BoxError;

use super::{StackError, TowerHttpClient, response::EventSize};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const ERROR: &str = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"no"}}"#;
const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

type Stack = BoxCloneService<Request<Full<Bytes>>, Response<Full<Bytes>>, BoxError>;
/// Status, headers and body of a response, and the outcome.
type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, &'a str);
type Sent = Arc<Mutex<Vec<Request<Full<Bytes>>>>>;

/// A stack that answers every request with the same response, and the requests that it got. It is not `Sync`, as many stacks.
fn stack(status: u16, headers: &[(&str, &str)], body: &str) -> (TowerHttpClient<Stack>, Sent) {
    let sent = Sent::default();
    let (requests, body) = (Arc::clone(&sent), Bytes::from(body.to_owned()));
    let headers: Vec<_> = headers
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let answer = move |request| -> Ready<Result<_, BoxError>> {
        requests.lock().unwrap().push(request);
        let mut response = Response::builder().status(status);
        for (name, value) in &headers {
            response = response.header(name, value);
        }
        ready(response.body(Full::new(body.clone())).map_err(Into::into))
    };
    (
        TowerHttpClient::new(BoxCloneService::new(service_fn(answer))),
        sent,
    )
}

fn message(value: Value) -> ClientJsonRpcMessage {
    serde_json::from_value(value).unwrap()
}

fn request() -> ClientJsonRpcMessage {
    message(json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))
}

fn notification() -> ClientJsonRpcMessage {
    message(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
}

fn discovery() -> ClientJsonRpcMessage {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    message(json!({
        "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": { "_meta": meta },
    }))
}

fn limits() -> StreamableHttpResponseLimits {
    let mut limits = StreamableHttpResponseLimits::default();
    limits.max_json_response_size = 200;
    limits.max_sse_event_size = 200;
    limits
}

/// Posts a message and describes the outcome in one line.
async fn post(
    client: TowerHttpClient<Stack>,
    message: ClientJsonRpcMessage,
    session: Option<&str>,
) -> String {
    let session = session.map(Arc::from);
    let uri = Arc::from("https://api.example/mcp");
    let outcome = client
        .post_message_with_response_limits(uri, message, session, None, HashMap::new(), limits())
        .await;
    match outcome {
        Ok(StreamableHttpPostResponse::Accepted) => "accepted".into(),
        Ok(StreamableHttpPostResponse::Json(ServerJsonRpcMessage::Error(error), _)) => {
            format!(
                "error {:?}: {}",
                error.id.map(|id| id.to_string()),
                error.error.message
            )
        }
        Ok(StreamableHttpPostResponse::Json(..)) => "json".into(),
        Ok(StreamableHttpPostResponse::Sse(events, _)) => {
            let events: Vec<_> = events.collect().await;
            let texts = events.into_iter().map(|event| match event {
                Ok(event) => event.data.unwrap_or_default(),
                Err(error) => error.to_string(),
            });
            format!("events {}", texts.collect::<Vec<_>>().join(" | "))
        }
        Ok(_) => "unknown".into(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &StreamableHttpError<StackError>) -> String {
    match error {
        StreamableHttpError::AuthRequired(error) => format!("{error}"),
        StreamableHttpError::InsufficientScope(error) => format!("{error}"),
        StreamableHttpError::Deserialize(_) => "no JSON-RPC".into(),
        error => error.to_string(),
    }
}

#[tokio::test]
async fn each_response_to_a_request_has_its_outcome() {
    let huge = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{}"}}}}"#,
        "x".repeat(200)
    );
    let huge_event = format!("data: {}\n\n", "x".repeat(200));
    let html = "<html><body>Sign in</body></html>";
    let challenge = ("www-authenticate", "Bearer scope=\"a\"");
    let cases: &[Case<'_>] = &[
        (200, &[("content-type", JSON)], RESULT, "json"),
        (
            200,
            &[("content-type", "Application/JSON; charset=utf-8")],
            RESULT,
            "json",
        ),
        (
            200,
            &[("content-type", SSE)],
            "data: {}\n\ndata: 2\n\n",
            "events {} | 2",
        ),
        (202, &[], "", "accepted"),
        (200, &[("content-type", JSON)], "", "no JSON-RPC"),
        (200, &[("content-type", JSON)], &RESULT[..20], "no JSON-RPC"),
        (200, &[("content-type", JSON)], "[]", "no JSON-RPC"),
        (
            200,
            &[("content-type", JSON)],
            &huge,
            "HTTP response body exceeded the maximum size of 200 bytes",
        ),
        (
            200,
            &[("content-type", SSE)],
            &huge_event,
            "events body error: an event has more than 200 bytes",
        ),
        (
            200,
            &[("content-type", "text/html")],
            html,
            "Unexpected content type: Some(\"text/html\")",
        ),
        (200, &[], html, "Unexpected content type: None"),
        (
            302,
            &[("location", "https://elsewhere.example")],
            "",
            "HTTP 302",
        ),
        (
            400,
            &[("content-type", JSON)],
            ERROR,
            "error Some(\"7\"): no",
        ),
        (400, &[("content-type", JSON)], RESULT, "HTTP 400"),
        (400, &[("content-type", "text/html")], ERROR, "HTTP 400"),
        (
            401,
            &[("content-type", JSON), challenge],
            ERROR,
            "authorization required: Bearer scope=\"a\"",
        ),
        (401, &[("content-type", JSON)], ERROR, "HTTP 401"),
        (
            403,
            &[("content-type", JSON), challenge],
            ERROR,
            "insufficient scope: Bearer scope=\"a\"",
        ),
        (403, &[], "", "HTTP 403"),
        (404, &[("content-type", "text/html")], html, "HTTP 404"),
        (503, &[("retry-after", "3")], "", "HTTP 503"),
        (
            500,
            &[("content-type", JSON)],
            &huge,
            "HTTP response body exceeded the maximum size of 200 bytes",
        ),
    ];
    for (status, headers, body, expected) in cases {
        let (client, _) = stack(*status, headers, body);
        assert_eq!(
            post(client, request(), None).await,
            *expected,
            "{status} {headers:?} {body}"
        );
    }
}

#[tokio::test]
async fn any_success_accepts_a_notification() {
    for (status, body) in [
        (200, ""),
        (200, "<html>"),
        (202, ""),
        (204, ""),
        (200, RESULT),
    ] {
        let (client, _) = stack(status, &[("content-type", JSON)], body);
        assert_eq!(
            post(client, notification(), None).await,
            "accepted",
            "{status} {body}"
        );
    }
    let (client, _) = stack(500, &[], "");
    assert_eq!(post(client, notification(), None).await, "HTTP 500");
}

#[tokio::test]
async fn lost_session_is_reported_only_within_a_session() {
    let (client, _) = stack(404, &[], "");
    assert_eq!(
        post(client, request(), Some("s")).await,
        "Session expired (HTTP 404)"
    );
}

#[tokio::test]
async fn refused_discovery_is_an_answer_to_that_request() {
    let cases = [
        (400, JSON, ERROR, "error Some(\"1\"): no"),
        (
            404,
            "text/html",
            "<html>",
            "error Some(\"1\"): HTTP 404 Not Found",
        ),
        (401, "text/html", "<html>", "HTTP 401"),
        (500, "text/html", "<html>", "HTTP 500"),
    ];
    for (status, kind, body, expected) in cases {
        let (client, _) = stack(status, &[("content-type", kind)], body);
        assert_eq!(
            post(client, discovery(), None).await,
            expected,
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn headers_of_the_protocol_win() {
    let (client, sent) = stack(202, &[], "");
    let custom = [
        ("accept", "text/html"),
        ("mcp-session-id", "theirs"),
        ("mcp-protocol-version", "1"),
    ];
    let custom = custom
        .iter()
        .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
        .collect();
    let uri = Arc::from("https://api.example/mcp");
    let session = Some(Arc::from("ours"));
    client
        .post_message(uri, request(), session, Some("secret".into()), custom)
        .await
        .unwrap();

    let sent = sent.lock().unwrap();
    let header = |name: &str| sent[0].headers().get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(header("accept"), ["text/event-stream, application/json"]);
    assert_eq!(header("mcp-session-id"), ["ours"]);
    assert_eq!(header("mcp-protocol-version"), ["1"]);
    assert_eq!(header("content-type"), [JSON]);
    assert_eq!(header("authorization"), ["Bearer secret"]);
    assert!(!format!("{:?}", sent[0]).contains("secret"));
}

#[tokio::test]
async fn each_response_to_a_stream_has_its_outcome() {
    let cases = [
        (200, SSE, "data: 1\n\n", "1 events"),
        (
            200,
            JSON,
            RESULT,
            "Unexpected content type: Some(\"application/json\")",
        ),
        (405, "", "", "Server does not support SSE"),
        (404, "", "", "HTTP 404"),
    ];
    for (status, kind, body, expected) in cases {
        let (client, sent) = stack(status, &[("content-type", kind)], body);
        let uri = Arc::from("https://api.example/mcp");
        let stream = client
            .get_stream(uri, None, Some("4".into()), None, HashMap::new())
            .await;
        let outcome = match stream {
            Ok(events) => format!("{} events", events.count().await),
            Err(error) => failed(&error),
        };
        assert_eq!(outcome, expected);
        assert_eq!(sent.lock().unwrap()[0].headers()["last-event-id"], "4");
    }
}

#[tokio::test]
async fn session_can_be_deleted() {
    for (status, deleted) in [
        (200, true),
        (204, true),
        (405, true),
        (404, false),
        (500, false),
    ] {
        let (client, sent) = stack(status, &[], "");
        let uri = Arc::from("https://api.example/mcp");
        let outcome = client
            .delete_session(uri, "s".into(), None, HashMap::new())
            .await;
        assert_eq!(outcome.is_ok(), deleted, "{status}");
        assert_eq!(sent.lock().unwrap()[0].headers()["mcp-session-id"], "s");
    }
}

#[tokio::test]
async fn error_of_the_stack_is_the_client_error() {
    let broken = service_fn(|_: Request<Full<Bytes>>| {
        ready(Err::<Response<Full<Bytes>>, BoxError>(
            "the issuer is not allowed".into(),
        ))
    });
    let uri = Arc::from("https://api.example/mcp");
    let outcome = TowerHttpClient::new(broken)
        .post_message(uri, request(), None, None, HashMap::new())
        .await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, StreamableHttpError::Client(_)));
    assert!(
        error.to_string().ends_with("the issuer is not allowed"),
        "{error}"
    );
}

#[test]
fn size_of_an_event_does_not_depend_on_chunks_or_line_ends() {
    let cases = [
        ("data: 1\n\ndata: 22\ndata: 33\n\ndata: 4\n\n", 19),
        (
            "data: 1\r\n\r\ndata: 22\r\ndata: 33\r\n\r\ndata: 4\r\n\r\n",
            22,
        ),
    ];
    for (text, expected) in cases {
        for at in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(at);
            let mut size = EventSize::default();
            let largest = size.add(first).max(size.add(second));
            assert_eq!(largest, expected, "{text:?} at {at}");
        }
    }
}
