//! How each response of a token endpoint is read: valid, invalid, truncated, or missing.

mod support;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::sync::Notify;
use tower::{ServiceBuilder, ServiceExt, retry::RetryLayer, service_fn, timeout::error::Elapsed};
use tower_oauth2_client::{
    AccessToken, ClientAuthentication, ErrorCode, NotSent, Scope, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenResponse, TokenType, token_endpoint::RetryTransient,
};

use self::support::{
    GOOD, Loopback, Recorder, Script, Then, answer, hyper_client, hyper_client_with_proof,
    unreachable_uri,
};

/// Stands in for a secret in bodies; no error may show it.
const SENTINEL: &str = "S3NT1NEL";

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("c", "s")
}

async fn fetch(status: u16, body: impl Into<Bytes>) -> Result<TokenResponse, TokenError> {
    let body = body.into();
    Recorder::new(move |_| answer(status, body.clone()))
        .endpoint(client())
        .oneshot(TokenRequest::client_credentials())
        .await
}

/// What a body contains, for any status.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// A token, if the status is 2xx.
    Token,
    /// An OAuth error with this code, for any status.
    Error(&'static str),
    /// Neither a token nor an OAuth error.
    Neither,
}

fn bodies() -> Vec<(&'static str, Vec<u8>, Content)> {
    let token = |json: &str| {
        json.replace("TOKEN", &format!(r#""access_token":"{SENTINEL}""#))
            .into_bytes()
    };
    let rows: Vec<(&str, Vec<u8>, Content)> = vec![
        ("good", token("{TOKEN,\"expires_in\":3600}"), Content::Token),
        ("white space", token(" \r\n\t{ TOKEN }\n "), Content::Token),
        ("BOM", token("\u{feff}{TOKEN}"), Content::Token),
        (
            "unknown members, one twice",
            token(r#"{"x":1,TOKEN,"x":[{}]}"#),
            Content::Token,
        ),
        (
            "error null beside a token",
            token(r#"{TOKEN,"error":null}"#),
            Content::Token,
        ),
        (
            "escaped name",
            b"{\"\\u0061ccess_token\":\"T\"}".to_vec(),
            Content::Token,
        ),
        (
            "huge unknown number",
            token(r#"{TOKEN,"x":1e999}"#),
            Content::Token,
        ),
        (
            "error",
            br#"{"error":"invalid_client"}"#.to_vec(),
            Content::Error("invalid_client"),
        ),
        (
            "BOM and error",
            "\u{feff}{\"error\":\"invalid_grant\"}".into(),
            Content::Error("invalid_grant"),
        ),
        (
            "error and token",
            token(r#"{"error":"invalid_grant",TOKEN}"#),
            Content::Error("invalid_grant"),
        ),
        (
            "token and error",
            token(r#"{TOKEN,"error":"invalid_grant"}"#),
            Content::Error("invalid_grant"),
        ),
        (
            "error with an invalid description",
            br#"{"error":"invalid_grant","error_description":{"a":1},"error_uri":7}"#.to_vec(),
            Content::Error("invalid_grant"),
        ),
        (
            "unknown error",
            br#"{"error":"x_code"}"#.to_vec(),
            Content::Error("x_code"),
        ),
        (
            "error twice",
            br#"{"error":"invalid_scope","error":"invalid_grant"}"#.to_vec(),
            Content::Error("invalid_grant"),
        ),
        ("empty", Vec::new(), Content::Neither),
        ("white space only", b" \r\n".to_vec(), Content::Neither),
        ("BOM only", "\u{feff}".into(), Content::Neither),
        (
            "HTML",
            format!("<!DOCTYPE html><title>{SENTINEL}</title>").into(),
            Content::Neither,
        ),
        (
            "truncated",
            token("{TOKEN,\"expires_in\":36"),
            Content::Neither,
        ),
        (
            "truncated in the token",
            token("{TOKEN")[..20].to_vec(),
            Content::Neither,
        ),
        ("two objects", token("{TOKEN}{TOKEN}"), Content::Neither),
        (
            "single quotes",
            format!("{{'access_token':'{SENTINEL}'}}").into(),
            Content::Neither,
        ),
        (
            "form",
            format!("access_token={SENTINEL}&expires_in=1").into(),
            Content::Neither,
        ),
        ("list", b"[]".to_vec(), Content::Neither),
        ("list of a token", token("[{TOKEN}]"), Content::Neither),
        ("null", b"null".to_vec(), Content::Neither),
        ("true", b"true".to_vec(), Content::Neither),
        ("number", b"17".to_vec(), Content::Neither),
        ("text", format!("\"{SENTINEL}\"").into(), Content::Neither),
        ("empty object", b"{}".to_vec(), Content::Neither),
        ("two tokens", token("{TOKEN,TOKEN}"), Content::Neither),
        (
            "two token types",
            token(r#"{TOKEN,"token_type":"a","token_type":"b"}"#),
            Content::Neither,
        ),
        (
            "invalid UTF-8",
            b"{\"access_token\":\"S3NT1NEL\xff\"}".to_vec(),
            Content::Neither,
        ),
        ("UTF-16", b"\xff\xfe{\0\"\0".to_vec(), Content::Neither),
        (
            "lone surrogate",
            br#"{"access_token":"\ud800"}"#.to_vec(),
            Content::Neither,
        ),
        (
            "error object",
            token(r#"{"error":{"code":1},TOKEN}"#),
            Content::Neither,
        ),
        (
            "error number",
            token(r#"{"error":400,TOKEN}"#),
            Content::Neither,
        ),
        (
            "error true",
            token(r#"{"error":true,TOKEN}"#),
            Content::Neither,
        ),
        (
            "error list",
            token(r#"{"error":["a"],TOKEN}"#),
            Content::Neither,
        ),
        (
            "error empty",
            token(r#"{"error":"",TOKEN}"#),
            Content::Token,
        ),
        (
            "error null",
            br#"{"error":null}"#.to_vec(),
            Content::Neither,
        ),
        (
            "no token",
            br#"{"token_type":"Bearer"}"#.to_vec(),
            Content::Neither,
        ),
        (
            "token null",
            br#"{"access_token":null}"#.to_vec(),
            Content::Neither,
        ),
        (
            "token number",
            br#"{"access_token":17}"#.to_vec(),
            Content::Neither,
        ),
        (
            "token object",
            br#"{"access_token":{}}"#.to_vec(),
            Content::Neither,
        ),
        (
            "token list",
            br#"{"access_token":["a"]}"#.to_vec(),
            Content::Neither,
        ),
        (
            "token empty",
            br#"{"access_token":""}"#.to_vec(),
            Content::Neither,
        ),
        (
            "token with a newline",
            format!("{{\"access_token\":\"{SENTINEL}\\nx\"}}").into(),
            Content::Neither,
        ),
        (
            "token beyond ASCII",
            format!("{{\"access_token\":\"{SENTINEL}é\"}}").into(),
            Content::Neither,
        ),
        (
            "token type number",
            token(r#"{TOKEN,"token_type":1}"#),
            Content::Neither,
        ),
        (
            "token type list",
            token(r#"{TOKEN,"token_type":["Bearer"]}"#),
            Content::Neither,
        ),
    ];
    rows
}

/// The bodies that are transient with a status of success.
const INCOMPLETE: [&str; 6] = [
    "empty",
    "white space only",
    "BOM only",
    "HTML",
    "truncated",
    "truncated in the token",
];

/// A status, and whether it is transient: without an OAuth error, and with a final OAuth error.
const STATUSES: [(u16, bool, bool); 28] = [
    (200, false, false),
    (201, false, false),
    (204, false, false),
    (206, false, false),
    (299, false, false),
    (300, false, false),
    (301, false, false),
    (302, false, false),
    (303, false, false),
    (304, false, false),
    (307, false, false),
    (308, false, false),
    (400, false, false),
    (401, false, false),
    (403, false, false),
    (404, false, false),
    (405, false, false),
    (408, true, false),
    (425, true, false),
    (429, true, true),
    (500, true, false),
    (501, false, false),
    (502, true, false),
    (503, true, true),
    (504, true, false),
    (520, true, false),
    (530, true, false),
    (599, true, false),
];

#[tokio::test]
async fn every_body_is_classified_for_every_status() {
    for (name, body, content) in bodies() {
        for (status, transient, transient_despite_error) in STATUSES {
            let case = format!("{name} with {status}");
            let result = fetch(status, body.clone()).await;
            let is_success = (200..300).contains(&status);

            if let (Content::Token, true) = (content, is_success) {
                let response = result.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(response.status(), status, "{case}");
                assert_eq!(*response.raw(), body, "{case}");
                let shown = format!("{response:?} {response:#?}");
                assert!(!shown.contains(SENTINEL), "{case}: {shown}");
                continue;
            }
            let error = result.expect_err(&case);
            let (kind, code) = match content {
                Content::Error(code) => (TokenErrorKind::ErrorResponse, Some(code)),
                _ if is_success => (TokenErrorKind::InvalidResponse, None),
                _ => (TokenErrorKind::UnexpectedStatus, None),
            };
            assert_eq!(error.kind(), kind, "{case}");
            let found = error.error_response().map(|error| error.code().as_str());
            assert_eq!(found, code, "{case}");
            assert_eq!(error.status().unwrap(), status, "{case}");
            let expected = match code {
                // A gateway has answered, or a part is missing.
                None if is_success => INCOMPLETE.contains(&name),
                Some("x_code") | None => transient,
                Some(_) => transient_despite_error,
            };
            assert_eq!(error.is_transient(), expected, "{case}");
            let processed = status != 429 && status != 503;
            assert_eq!(error.may_have_been_processed(), processed, "{case}");
            assert_eq!(*error.raw().unwrap(), body, "{case}");
            check_message(&error, &case);
        }
    }
}

fn check_message(error: &TokenError, case: &str) {
    let shown = format!("{error} {error:?} {error:#?}");
    assert!(!shown.contains(SENTINEL), "{case}: {shown}");
    let display = error.to_string();
    if let Some(status) = error.status() {
        assert!(
            display.contains(&format!("[status {}, host as.example", status.as_u16())),
            "{case}: {display}"
        );
    }
    assert!(display.starts_with(char::is_lowercase), "{case}: {display}");
    assert!(
        !display.contains(['\n', '\r', '\u{fffd}']),
        "{case}: {display}"
    );
}

#[tokio::test]
async fn transient_error_codes_are_transient_with_every_status() {
    for code in ["temporarily_unavailable", "server_error"] {
        for status in [200, 400, 401, 403, 500, 503] {
            let error = fetch(status, format!(r#"{{"error":"{code}"}}"#))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
            assert!(error.is_transient(), "{code} with {status}");
        }
    }
}

#[tokio::test]
async fn every_error_code_of_the_rfcs_has_a_variant() {
    for (code, expected) in [
        ("invalid_request", ErrorCode::INVALID_REQUEST),
        ("invalid_client", ErrorCode::INVALID_CLIENT),
        ("invalid_grant", ErrorCode::INVALID_GRANT),
        ("unauthorized_client", ErrorCode::UNAUTHORIZED_CLIENT),
        ("unsupported_grant_type", ErrorCode::UNSUPPORTED_GRANT_TYPE),
        ("invalid_scope", ErrorCode::INVALID_SCOPE),
        ("invalid_target", ErrorCode::INVALID_TARGET),
        ("access_denied", ErrorCode::ACCESS_DENIED),
        ("authorization_pending", ErrorCode::AUTHORIZATION_PENDING),
        ("slow_down", ErrorCode::SLOW_DOWN),
        ("expired_token", ErrorCode::EXPIRED_TOKEN),
        ("invalid_dpop_proof", ErrorCode::INVALID_DPOP_PROOF),
        ("use_dpop_nonce", ErrorCode::USE_DPOP_NONCE),
        ("unsupported_token_type", ErrorCode::UNSUPPORTED_TOKEN_TYPE),
        ("Invalid_Grant", ErrorCode::from("Invalid_Grant")),
    ] {
        let error = fetch(400, format!(r#"{{"error":"{code}"}}"#))
            .await
            .unwrap_err();
        assert_eq!(*error.error_response().unwrap().code(), expected);
        assert!(error.to_string().contains(code), "{error}");
        assert!(!error.is_transient(), "{code}");
    }
}

#[tokio::test]
async fn a_description_in_another_encoding_does_not_hide_the_error_code() {
    for description in [b"Ung\xfcltig" as &[u8], b"\xed\xa0\x80"] {
        let body = [
            br#"{"error":"invalid_grant","error_description":""# as &[u8],
            description,
            b"\"}",
        ]
        .concat();
        for status in [400, 401, 500] {
            let error = fetch(status, body.clone()).await.unwrap_err();
            let code = error.error_response().map(|error| error.code().as_str());
            assert_eq!(code, Some("invalid_grant"), "{status} {description:?}");
            assert_eq!(*error.raw().unwrap(), body);
        }
    }
}

#[tokio::test]
async fn description_and_uri_are_kept_whole_and_printed_escaped_and_truncated() {
    let long = "d\u{1b}[31m\r\n\u{202e}".repeat(100);
    let body = json!({
        "error": "invalid_scope", "error_description": long, "error_uri": "https://as.example/e", "x": 1,
    });
    let error = fetch(400, body.to_string()).await.unwrap_err();
    let response = error.error_response().unwrap();
    assert_eq!(response.description(), Some(&*long));
    assert_eq!(response.uri(), Some("https://as.example/e"));
    assert_eq!(error.get("x"), Some(&json!(1)));
    assert_eq!(error.json(), Some(&body));
    for shown in [
        error.to_string(),
        format!("{error:?}"),
        response.to_string(),
        format!("{response:?}"),
    ] {
        assert!(
            !shown.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{shown}"
        );
        assert!(shown.len() < 1500, "{}", shown.len());
    }
}

#[tokio::test]
async fn the_content_type_is_ignored() {
    for content_type in ["text/plain", "text/html; charset=utf-16", "nonsense", ""] {
        for (status, body) in [(200, GOOD), (400, r#"{"error":"invalid_grant"}"#)] {
            let recorder = Recorder::new(move |_| {
                let mut response = answer(status, body)?;
                let value = content_type.parse().unwrap();
                response.headers_mut().insert("content-type", value);
                Ok(response)
            });
            let result = recorder
                .endpoint(client())
                .oneshot(TokenRequest::client_credentials())
                .await;
            match result {
                Ok(response) => {
                    assert_eq!(status, 200);
                    assert_eq!(response.headers()["content-type"], content_type);
                }
                Err(error) => {
                    assert_eq!(status, 400);
                    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
                    assert_eq!(error.headers().unwrap()["content-type"], content_type);
                }
            }
        }
    }
}

const TEN_YEARS: f64 = 10.0 * 365.0 * 24.0 * 3600.0;

#[tokio::test]
async fn expires_in_is_parsed_leniently_and_never_panics() {
    for (json, expected) in [
        ("3599", Some(3599.0)),
        ("3599.0", Some(3599.0)),
        ("3599.5", Some(3599.5)),
        ("\"3599\"", Some(3599.0)),
        ("\" 3599 \"", Some(3599.0)),
        ("3.6e3", Some(3600.0)),
        ("0", Some(0.0)),
        ("-0", Some(0.0)),
        ("-1", Some(0.0)),
        ("-9223372036854775809", Some(0.0)),
        ("315360000", Some(TEN_YEARS)),
        ("315360001", Some(TEN_YEARS)),
        ("2147483647", Some(TEN_YEARS)),
        ("\"2147483647\"", Some(TEN_YEARS)),
        ("2147483648", Some(TEN_YEARS)),
        ("3153600000.5", Some(TEN_YEARS)),
        ("9223372036854775807", Some(TEN_YEARS)),
        ("18446744073709551615", Some(TEN_YEARS)),
        ("1e20", None),
        ("1e400", None),
        ("18446744073709551616", None),
        ("\"1e20\"", None),
        ("1893456000", None),
        ("\"1893456000\"", None),
        ("1893456000123", None),
        ("\"NaN\"", None),
        ("\"infinity\"", None),
        ("null", None),
        ("true", None),
        ("\"\"", None),
        ("\"soon\"", None),
        ("\"\\u0033599\"", Some(3599.0)),
        ("[3599]", None),
        ("{\"seconds\":3599}", None),
    ] {
        let body = format!(r#"{{"access_token":"T","expires_in":{json}}}"#);
        let response = fetch(200, body).await.unwrap();
        let expected = expected.map(Duration::from_secs_f64);
        assert_eq!(response.expires_in(), expected, "{json}");
    }
    let response = fetch(200, r#"{"access_token":"T"}"#).await.unwrap();
    assert_eq!(response.expires_in(), None, "absent");
}

#[tokio::test]
async fn the_token_type_is_kept_unchanged() {
    for (json, as_str, header) in [
        (r#""Bearer""#, "Bearer", Some("Bearer T")),
        (r#""bearer""#, "bearer", Some("Bearer T")),
        (r#""BEARER""#, "BEARER", Some("Bearer T")),
        (r#""bEaReR""#, "bEaReR", Some("Bearer T")),
        (r#""dpop""#, "dpop", Some("DPoP T")),
        (r#""N_A""#, "N_A", None),
        (r#""mac""#, "mac", None),
        (r#""""#, "Bearer", Some("Bearer T")),
        (r#""  ""#, "Bearer", Some("Bearer T")),
        (r#""Bearer ""#, "Bearer", Some("Bearer T")),
        (r#"" bearer\n""#, "bearer", Some("Bearer T")),
        (r#""BearerToken""#, "BearerToken", None),
        ("null", "Bearer", Some("Bearer T")),
    ] {
        let body = format!(r#"{{"access_token":"T","token_type":{json}}}"#);
        let response = fetch(200, body).await.unwrap();
        assert_eq!(response.token_type().as_str(), as_str);
        let value = response.access_token().authorization();
        assert_eq!(value.map(|value| value.to_str().unwrap()), header, "{json}");
    }
    let response = fetch(200, r#"{"access_token":"T"}"#).await.unwrap();
    assert_eq!(*response.token_type(), TokenType::BEARER);
}

#[tokio::test]
async fn scope_may_be_a_string_or_a_list() {
    for (json, expected) in [
        (r#""a b""#, Some("a b")),
        (r#"["b","a"]"#, Some("a b")),
        ("[]", Some("")),
        (r#""""#, Some("")),
        (r#"["a",1]"#, None),
        ("null", None),
        ("7", None),
    ] {
        let body = format!(r#"{{"access_token":"T","scope":{json}}}"#);
        let response = fetch(200, body).await.unwrap();
        assert_eq!(
            response.scope(),
            expected.map(Scope::from).as_ref(),
            "{json}"
        );
    }
}

#[tokio::test]
async fn other_members_are_read_or_ignored_if_invalid() {
    let body = json!({
        "access_token": "T", "token_type": "N_A", "refresh_token": "R", "id_token": "I",
        "issued_token_type": "urn:x", "nested": {"a": [1]},
    });
    let response = fetch(200, body.to_string()).await.unwrap();
    assert_eq!(response.refresh_token().unwrap().expose_secret(), "R");
    assert_eq!(response.id_token().unwrap().expose_secret(), "I");
    assert_eq!(response.issued_token_type(), Some("urn:x"));
    assert_eq!(response.get("nested"), Some(&json!({"a": [1]})));
    assert_eq!(*response.json(), body);
    let expected = AccessToken::new("T", TokenType::N_A).unwrap();
    assert_eq!(*response.access_token(), expected);

    let odd = r#"{"access_token":"T","refresh_token":1,"id_token":null,"issued_token_type":[]}"#;
    let response = fetch(200, odd).await.unwrap();
    assert!(response.refresh_token().is_none());
    assert!(response.id_token().is_none());
    assert!(response.issued_token_type().is_none());
}

fn ten_megabytes() -> Bytes {
    let mut body = GOOD.as_bytes().to_vec();
    body.resize(10 * 1024 * 1024, b' ');
    body.into()
}

#[tokio::test]
async fn ten_megabytes_are_too_large_with_every_status() {
    use TokenErrorKind::{BodyTooLarge, UnexpectedStatus};
    for (status, kind, transient) in [
        (200, BodyTooLarge, false),
        (400, UnexpectedStatus, false),
        (500, UnexpectedStatus, true),
        (503, UnexpectedStatus, true),
    ] {
        let error = fetch(status, ten_megabytes()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.status().unwrap(), status);
        assert_eq!(error.is_transient(), transient, "{status}");
        assert_eq!(error.may_have_been_processed(), status != 503);
        assert_eq!(error.raw(), None, "a truncated body must not be returned");
        assert!(error.json().is_none());
        assert!(error.to_string().contains("1048576 bytes"), "{error}");
        check_message(&error, "too large");
    }
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit() {
    let recorder = Recorder::new(|_| answer(200, ten_megabytes()));
    let request = TokenRequest::client_credentials;
    for (limit, fits) in [
        (0, false),
        (10 * 1024 * 1024 - 1, false),
        (10 * 1024 * 1024, true),
        (usize::MAX, true),
    ] {
        let endpoint = recorder.endpoint(client()).max_response_body(limit);
        let result = endpoint.oneshot(request()).await;
        assert_eq!(result.is_ok(), fits, "{limit}");
        if let Ok(response) = result {
            assert_eq!(*response.raw(), ten_megabytes());
        }
    }
}

#[tokio::test]
async fn deep_nesting_does_not_overflow_the_stack() {
    let deep = "[".repeat(100_000);
    let closed = format!("{deep}{}", "]".repeat(100_000));
    let objects = "{\"a\":".repeat(100_000);
    for body in [
        deep.clone(),
        closed.clone(),
        objects.clone(),
        format!(r#"{{"access_token":{deep}"#),
        format!(r#"{{"access_token":{closed}}}"#),
        format!(r#"{{"error":{closed}}}"#),
        format!(r#"{{"error":{objects}"#),
    ] {
        for status in [200, 400] {
            let error = fetch(status, body.clone()).await.unwrap_err();
            assert!(error.json().is_none());
            assert_eq!(error.raw().unwrap().len(), body.len());
        }
    }
    for member in ["x", "expires_in", "scope"] {
        let body = format!(r#"{{"access_token":"T","{member}":{closed}}}"#);
        let response = fetch(200, body.clone()).await.unwrap();
        assert_eq!(response.expires_in(), None);
        assert!(response.json().is_null(), "deeper than 128 levels");
        let body = format!(r#"{{"error":"invalid_grant","{member}":{closed}}}"#);
        let error = fetch(400, body).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
    }
}

#[tokio::test]
async fn other_body_and_error_types_can_be_used() {
    let http = service_fn(|_: Request<Empty<Bytes>>| async {
        let body: BoxBody<Bytes, Infallible> = Full::from(GOOD).boxed();
        Ok::<_, Infallible>(Response::new(body))
    });
    let response = TokenEndpoint::new(http, support::URI, client())
        .request_body(|_| Empty::new())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();
    assert_eq!(response.access_token().expose_secret(), "T");
}

// The following tests use a real client and a real connection.

async fn fetch_from(uri: Uri) -> Result<TokenResponse, TokenError> {
    TokenEndpoint::new(hyper_client(), uri, client())
        .oneshot(TokenRequest::client_credentials())
        .await
}

#[tokio::test]
async fn a_response_over_a_real_connection_is_read() {
    let server = Loopback::start(|_| Script::good()).await;
    let response = fetch_from(server.uri()).await.unwrap();
    assert_eq!(response.access_token().expose_secret(), "T");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /token HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, "grant_type=client_credentials");
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_processed_if_the_client_says_so() {
    let error = fetch_from(unreachable_uri().await).await.unwrap_err();
    assert!(
        error.may_have_been_processed(),
        "the kind alone proves nothing"
    );
    let error = TokenEndpoint::new(hyper_client_with_proof(), unreachable_uri().await, client())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert!(error.is_transient());
    assert!(!error.may_have_been_processed());
    assert_eq!(error.status(), None);
    assert_eq!(error.raw(), None);
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn an_http_service_can_prove_that_nothing_was_sent() {
    for (is_proof, error) in [
        (true, NotSent::new("no route").into()),
        (false, tower_oauth2_client::BoxError::from("no route")),
    ] {
        let error = Arc::new(std::sync::Mutex::new(Some(error)));
        let recorder = Recorder::new(move |_| Err(error.lock().unwrap().take().unwrap()));
        let error = recorder
            .endpoint(client())
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Service);
        assert_eq!(error.may_have_been_processed(), !is_proof);
    }
}

#[tokio::test]
async fn a_request_without_a_response_may_have_been_processed() {
    for start in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let server = Loopback::start(move |_| Script::new(start, Then::Close)).await;
        let error = fetch_from(server.uri()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Service, "{start:?}");
        assert!(error.is_transient());
        assert!(error.may_have_been_processed());
        assert_eq!(error.status(), None);
        assert_eq!(server.requests().len(), 1);
    }
}

/// The status and the headers of a 4xx or 5xx are reported even if the body is lost.
#[tokio::test]
async fn a_response_without_its_body_is_classified_by_its_status() {
    let long = format!("content-length: 1000\r\n\r\n{}", "<".repeat(1000));
    for (case, rest) in [
        ("length", "content-length: 1000\r\n\r\n{\"access_token\":"),
        (
            "chunked",
            "transfer-encoding: chunked\r\n\r\n20\r\n{\"access_token\":",
        ),
        ("large", &long),
    ] {
        for (status, transient) in STATUSES.map(|(status, transient, _)| (status, transient)) {
            let answer = format!("HTTP/1.1 {status} X\r\nx-a: 1\r\nretry-after: 60\r\n{rest}");
            if matches!(status, 204 | 205 | 304) {
                continue;
            }
            let server = Loopback::start(move |_| Script::new(answer.clone(), Then::Close)).await;
            let error = TokenEndpoint::new(hyper_client(), server.uri(), client())
                .max_response_body(999)
                .oneshot(TokenRequest::client_credentials())
                .await
                .unwrap_err();
            let case = format!("{case} with {status}: {error:?}");
            let is_success = (200..300).contains(&status);
            let (kind, transient) = match (is_success, case.starts_with("large")) {
                (true, true) => (TokenErrorKind::BodyTooLarge, false),
                (true, false) => (TokenErrorKind::Body, true),
                (false, _) => (TokenErrorKind::UnexpectedStatus, transient),
            };
            assert_eq!(error.kind(), kind, "{case}");
            assert_eq!(error.is_transient(), transient, "{case}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(60)), "{case}");
            assert_eq!(error.status().unwrap(), status, "{case}");
            assert_eq!(error.headers().unwrap()["x-a"], "1", "{case}");
            assert_eq!((error.raw(), error.json()), (None, None), "{case}");
            let processed = status != 429 && status != 503;
            assert_eq!(error.may_have_been_processed(), processed, "{case}");
            assert!(std::error::Error::source(&error).is_some(), "{case}");
        }
    }
}

#[tokio::test]
async fn a_reset_within_the_body_is_a_body_error() {
    let head_arrived = Arc::new(Notify::new());
    let reset = head_arrived.clone();
    let start = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"access_token\":";
    let server = Loopback::start(move |_| Script::new(start, Then::ResetOn(reset.clone()))).await;
    let http = hyper_client().map_response(move |response| {
        head_arrived.notify_one();
        response
    });
    let error = TokenEndpoint::new(http, server.uri(), client())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Body);
    assert!(error.is_transient());
    assert!(error.may_have_been_processed());
    assert_eq!(error.status(), Some(StatusCode::OK));
    let mut source = std::error::Error::source(&error);
    let mut kinds = Vec::new();
    while let Some(error) = source {
        kinds.extend(
            error
                .downcast_ref::<std::io::Error>()
                .map(std::io::Error::kind),
        );
        source = error.source();
    }
    assert_eq!(kinds, [std::io::ErrorKind::ConnectionReset]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_a_timeout_if_the_http_service_has_a_timeout() {
    let server = Loopback::start(|_| Script::new("", Then::Stall)).await;
    let http = ServiceBuilder::new()
        .timeout(Duration::from_secs(5))
        .service(hyper_client());
    let error = TokenEndpoint::new(http, server.uri(), client())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    assert!(error.is_transient());
    assert!(error.may_have_been_processed());
    assert_eq!(error.status(), None);
}

#[tokio::test(start_paused = true)]
async fn a_tokio_timeout_is_a_timeout_too() {
    let http = service_fn(|_: Request<Full<Bytes>>| async {
        let wait = std::future::pending::<()>();
        tokio::time::timeout(Duration::from_secs(5), wait).await?;
        Ok::<_, tower_oauth2_client::BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let error = TokenEndpoint::new(http, support::URI, client())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    assert!(error.may_have_been_processed());
}

/// The caller polls at the interval that the server sets, so a retry must not come in between (RFC 8628 section 3.5).
#[tokio::test]
async fn pending_and_slow_down_are_not_transient_with_any_status() {
    for code in ["authorization_pending", "slow_down"] {
        for (status, _, _) in STATUSES {
            let error = fetch(status, format!(r#"{{"error":"{code}"}}"#))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
            assert!(!error.is_transient(), "{code} with {status}");
        }
    }
}

#[tokio::test]
async fn a_status_without_an_oauth_error_says_what_to_check() {
    for (status, advice) in [
        (401, "check the id of the client"),
        (404, "check the URI"),
        (405, "check the URI"),
    ] {
        let error = fetch(status, "").await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[tokio::test]
async fn an_empty_error_counts_as_absent() {
    let response = fetch(200, r#"{"access_token":"T","error":""}"#).await;
    assert_eq!(response.unwrap().access_token().expose_secret(), "T");
    let error = fetch(200, r#"{"error":""}"#).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    assert!(
        error.to_string().contains("returned no `access_token`"),
        "{error}"
    );
}

/// A header would drop the space.
#[tokio::test]
async fn a_token_that_starts_or_ends_with_a_space_is_refused() {
    for token in [" T", "T ", " "] {
        let error = fetch(200, format!(r#"{{"access_token":"{token}"}}"#))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
        assert!(error.to_string().contains("a space"), "{error}");
    }
}

/// A body that never makes progress.
struct Stalled;

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_body_is_aborted_by_an_outer_timeout_and_retried() {
    for (request, attempts) in [
        (TokenRequest::client_credentials(), 3),
        (TokenRequest::refresh_token("r"), 1),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let http = service_fn(move |_: Request<Full<Bytes>>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(Stalled)) }
        });
        let endpoint = ServiceBuilder::new()
            .layer(RetryLayer::new(RetryTransient::new().max_retries(2)))
            .timeout(Duration::from_secs(5))
            .service(TokenEndpoint::new(http, support::URI, client()));
        let error = endpoint.oneshot(request).await.unwrap_err();
        assert!(error.is::<Elapsed>(), "{error:?}");
        assert!(TokenError::find_in_chain(&*error).is_none());
        assert_eq!(calls.load(Ordering::SeqCst), attempts);
    }
}

#[tokio::test]
async fn a_streamed_body_is_read_up_to_the_limit() {
    let chunk = Bytes::from(vec![b' '; 64 * 1024]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/token", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let chunk = chunk.clone();
            let service = hyper::service::service_fn(move |_| {
                let chunk = chunk.clone();
                async move {
                    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
                    tokio::spawn(async move {
                        for _ in 0..160 {
                            // The client closes the connection once it has read enough.
                            if sender.send_data(chunk.clone()).await.is_err() {
                                return;
                            }
                        }
                        let _ = sender.send_data(Bytes::from(GOOD)).await;
                    });
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            tokio::spawn(
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .into_owned(),
            );
        }
    });
    let endpoint = TokenEndpoint::new(hyper_client(), uri, client());
    let request = TokenRequest::client_credentials;

    let error = endpoint.clone().oneshot(request()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::BodyTooLarge);
    let raised = endpoint.max_response_body(11 * 1024 * 1024);
    let response = raised.oneshot(request()).await.unwrap();
    assert_eq!(response.raw().len(), 160 * 64 * 1024 + GOOD.len());
    serving.abort();
}
