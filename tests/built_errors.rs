//! An error that `TokenError::builder` makes behaves like that of an endpoint.

mod support;

use std::{error::Error, io, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, ErrorCode, ErrorResponse, NotSent, TokenCache, TokenError,
    TokenErrorBuilder,
    TokenErrorKind::{self, *},
    TokenRequest, TokenResponse,
};

use self::support::{Answer, Log, Recorder};

const SECRET: &str = "S3NT1NEL";

fn respond(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Answer {
    let mut response = http::Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = header_map(headers);
    Ok(response)
}

fn header_map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = headers.iter().map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    pairs.collect()
}

/// The error of an endpoint whose HTTP service returns this.
async fn of_endpoint(answer: impl Fn() -> Answer + Send + Sync + 'static) -> TokenError {
    let recorder = Recorder::new(move |_| answer());
    let endpoint = recorder.endpoint(ClientAuthentication::none("c"));
    let result = endpoint.oneshot(TokenRequest::client_credentials()).await;
    result.unwrap_err()
}

/// Everything that a caller can ask of an error, except for its texts.
fn traits(error: &TokenError) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        error.kind(),
        error.is_transient(),
        error.may_have_been_processed(),
        error.status(),
        error.error_response().cloned(),
        error.own_words().map(str::to_owned),
        error.retry_after(),
        error.json().cloned(),
        error.headers().cloned(),
        error.source().is_some(),
    )
}

fn built(kind: TokenErrorKind) -> TokenErrorBuilder {
    TokenError::builder(kind)
}

#[tokio::test]
async fn a_built_error_equals_that_of_an_endpoint() {
    let oauth = || {
        ErrorResponse::builder("invalid_grant")
            .description("gone")
            .uri("urn:x")
            .build()
    };
    let status = |status| StatusCode::from_u16(status).unwrap();
    let nonce = &[("dpop-nonce", "n")];
    for (built, made) in [
        (
            built(ErrorResponse).error_response(ErrorCode::INVALID_CLIENT).status(status(401)),
            of_endpoint(|| respond(401, &[], r#"{"error":"invalid_client"}"#)).await,
        ),
        (
            built(ErrorResponse).error_response(oauth()).parameter("suberror", "x"),
            of_endpoint(|| {
                respond(
                    400,
                    &[],
                    r#"{"error":"invalid_grant","error_description":"gone","error_uri":"urn:x","suberror":"x"}"#,
                )
            })
            .await,
        ),
        (
            built(ErrorResponse).error_response(ErrorCode::SERVER_ERROR).status(status(200)),
            of_endpoint(|| respond(200, &[], r#"{"error":"server_error"}"#)).await,
        ),
        (
            built(ErrorResponse).error_response(ErrorCode::USE_DPOP_NONCE).headers(header_map(nonce)),
            of_endpoint(|| respond(400, &[("dpop-nonce", "n")], r#"{"error":"use_dpop_nonce"}"#)).await,
        ),
        (
            built(ErrorResponse).error_response(ErrorCode::USE_DPOP_NONCE),
            of_endpoint(|| respond(400, &[], r#"{"error":"use_dpop_nonce"}"#)).await,
        ),
        (built(UnexpectedStatus), of_endpoint(|| respond(500, &[], "")).await),
        (
            built(UnexpectedStatus).status(status(400)).own_words("E1 (no)").parameter("errorCode", "E1").parameter("errorSummary", "no"),
            of_endpoint(|| respond(400, &[], r#"{"errorCode":"E1","errorSummary":"no"}"#)).await,
        ),
        (built(UnexpectedStatus).status(status(404)), of_endpoint(|| respond(404, &[], "")).await),
        (
            built(UnexpectedStatus).status(status(503)).retry_after(Duration::from_secs(7)),
            of_endpoint(|| respond(503, &[("retry-after", "7")], "")).await,
        ),
        (
            built(UnexpectedStatus).status(status(429)).headers(header_map(&[("retry-after", "7")])),
            of_endpoint(|| respond(429, &[("retry-after", "7")], "")).await,
        ),
        (
            built(InvalidResponse).parameter("token", 1),
            of_endpoint(|| respond(200, &[], r#"{"token":1}"#)).await,
        ),
        (
            built(Service).source("reset"),
            of_endpoint(|| Err("reset".into())).await,
        ),
        (
            built(Service).source(NotSent::new("refused")),
            of_endpoint(|| Err(NotSent::new("refused").into())).await,
        ),
        (
            built(Timeout).source(io::Error::from(io::ErrorKind::TimedOut)),
            of_endpoint(|| Err(io::Error::from(io::ErrorKind::TimedOut).into())).await,
        ),
    ] {
        let built = built.build();
        assert_eq!(
            format!("{:#?}", traits(&built)),
            format!("{:#?}", traits(&made)),
            "{made}"
        );
        let boxed: BoxError = Box::new(io::Error::other(built.clone()));
        let found = TokenError::find_in_chain(&*boxed).unwrap();
        assert_eq!(found.kind(), built.kind());
    }
}

#[test]
fn kinds_decide_what_was_not_set() {
    for (kind, transient, processed, status) in [
        (Request, false, false, None),
        (Credential, true, false, None),
        (Service, true, true, None),
        (Timeout, true, true, None),
        (Body, true, true, Some(200)),
        (BodyTooLarge, false, true, Some(200)),
        (ErrorResponse, false, true, Some(400)),
        (UnexpectedStatus, true, true, Some(500)),
        (InvalidResponse, false, true, Some(200)),
        (UnsupportedTokenType, false, true, Some(200)),
        (NoRuntime, true, false, None),
        (ShutDown, false, false, None),
        (SignInRequired, false, true, None),
    ] {
        let error = built(kind).build();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.is_transient(), transient, "{kind:?}");
        assert_eq!(error.may_have_been_processed(), processed, "{kind:?}");
        assert_eq!(error.status().map(|it| it.as_u16()), status, "{kind:?}");
        assert_eq!(error.headers().is_some(), status.is_some(), "{kind:?}");
        let has_body = status.is_some() && !matches!(kind, Body | BodyTooLarge);
        assert_eq!(error.raw().is_some(), has_body, "{kind:?}");
        assert_eq!(error.retry_after(), None);
        assert!(error.error_response().is_none());
        assert!(error.source().is_none());
        assert!(!error.to_string().is_empty());
        let before = built(kind).before_sending().build();
        assert!(!before.may_have_been_processed(), "{kind:?}");
    }
}

#[test]
fn a_pause_is_rounded_up_to_the_seconds_that_a_server_can_send() {
    for (time, expected) in [
        (Duration::ZERO, 0),
        (Duration::from_millis(1), 1),
        (Duration::from_secs(5), 5),
        (Duration::from_millis(5001), 6),
        (Duration::MAX, u64::MAX),
    ] {
        let error = built(UnexpectedStatus).retry_after(time).build();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(expected)));
        let header = &error.headers().unwrap()[RETRY_AFTER];
        assert_eq!(header.to_str().unwrap(), expected.to_string());
    }
}

#[test]
fn a_built_error_prints_no_secret_and_one_line() {
    let message = format!("x\r\nERROR \u{1b}[31m\u{202e}{}", "y".repeat(10_000));
    let error = built(Credential)
        .message(message.clone())
        .error_response(
            ErrorResponse::builder(&*message)
                .description(&*message)
                .build(),
        )
        .parameter("access_token", SECRET)
        .headers(header_map(&[("x-secret", SECRET)]))
        .status(StatusCode::BAD_REQUEST)
        .source(SECRET)
        .build();
    let builder = built(UnexpectedStatus).message(SECRET).source(SECRET);
    let response = ErrorResponse::builder("e").description(&*message);
    for shown in [
        error.to_string(),
        format!("{error:?}"),
        format!("{builder:?}"),
        format!("{response:?}"),
    ] {
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(!shown.chars().any(char::is_control), "{shown}");
        assert!(!shown.contains('\u{202e}'), "{shown}");
        assert!(shown.len() < 5000, "{} bytes", shown.len());
    }
    // As the error of a provider, it is in the chain of sources.
    let source = error.source().and_then(Error::source).unwrap();
    assert_eq!(source.to_string(), SECRET);
    // The error of another token is printed, because it hides its own secrets.
    let inner = built(Timeout).message("another token").build();
    let outer = built(Credential).source(inner).build();
    assert!(format!("{outer:?}").contains("another token"), "{outer:?}");
}

/// A layer between a cache and an endpoint returns errors of its own.
#[tokio::test(start_paused = true)]
async fn a_cache_treats_a_built_error_like_that_of_an_endpoint() {
    let (log, _guard) = Log::record();
    for boxed in [false, true] {
        let service = service_fn(move |_: TokenRequest| async move {
            let error = built(UnexpectedStatus)
                .message("the tenant is closed")
                .status(StatusCode::FORBIDDEN)
                .retry_after(Duration::from_secs(3600))
                .build();
            let error: BoxError = match boxed {
                true => io::Error::other(error).into(),
                false => error.into(),
            };
            Err::<TokenResponse, _>(error)
        });
        let layered = ServiceBuilder::new().service(service);
        let source = TokenCache::new(layered).source(TokenRequest::client_credentials());
        let error = source.token().await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
        assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
        assert_eq!(
            error.to_string(),
            "the tenant is closed [status 403]",
            "{error:?}"
        );
        // The pause that the server asked for counts.
        source.renew().await.unwrap_err();
    }
    assert_eq!(log.text().matches("failed to fetch").count(), 2);
}
