//! One test for each bug that another OAuth client shipped. Row numbers refer to the project's list of them.

mod support;

use std::{
    convert::Infallible,
    error::Error,
    fmt::{Debug, Display},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::Full;
use serde_json::json;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    retry::{Retry, RetryLayer},
    timeout::error::Elapsed,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, ClientSecret, Credential, HttpsClient, IdToken,
    NoAccessToken, NotSent, RefreshToken, ReqwestService, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenResponse, TokenType, token_endpoint::RetryTransient,
};

use self::support::{
    Answer, GOOD, HttpsServer, Log, Loopback, Recorder, Script, Then, answer, form, hyper_client,
    hyper_client_with_proof, reqwest_client, unreachable_uri,
};

const SENTINEL: &str = "S3NT1NEL";

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("c", "s")
}

async fn fetch(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Result<TokenResponse, TokenError> {
    Recorder::new(move |_| answer())
        .endpoint(client())
        .oneshot(TokenRequest::client_credentials())
        .await
}

/// Row 8 (huskarl #198, golang/oauth2): an empty or absent value overwrote the current refresh token.
#[tokio::test]
async fn an_empty_or_absent_refresh_token_is_none() {
    for (json, expected) in [
        (r#"{"access_token":"T"}"#, None),
        (r#"{"access_token":"T","refresh_token":null}"#, None),
        (r#"{"access_token":"T","refresh_token":""}"#, None),
        (r#"{"access_token":"T","refresh_token":"new"}"#, Some("new")),
        (r#"{"access_token":"T","refresh_token":"old"}"#, Some("old")),
    ] {
        let response = fetch(move || answer(200, json)).await.unwrap();
        let found = response.refresh_token().map(RefreshToken::expose_secret);
        assert_eq!(found, expected, "{json}");
    }
}

/// Row 8 (golang/oauth2): a 5xx discarded the refresh token.
#[tokio::test(start_paused = true)]
async fn a_refresh_token_is_sent_again_after_a_503() {
    let recorder = Recorder::new(|number| match number {
        0 => answer(503, ""),
        _ => answer(200, GOOD),
    });
    Retry::new(RetryTransient::new(), recorder.endpoint(client()))
        .oneshot(TokenRequest::refresh_token("old"))
        .await
        .unwrap();
    let sent = recorder.take();
    assert_eq!(sent.len(), 2);
    for sent in sent {
        let pair = ("refresh_token".to_owned(), "old".to_owned());
        assert_eq!(form(sent.body())[1], pair);
    }
}

/// Row 12 (oauth2-rs #85 #320 #302, Duende, golang/oauth2): each of these responses was misread.
#[tokio::test]
async fn unusual_responses_are_classified_correctly() {
    use TokenErrorKind::{BodyTooLarge, ErrorResponse, InvalidResponse};
    let large = format!("{GOOD}{}", " ".repeat(10 * 1024 * 1024));
    for (status, body, expected) in [
        (200, r#"{"error":"invalid_grant"}"#, Err(ErrorResponse)),
        (
            200,
            r#"{"error":"x","access_token":"T"}"#,
            Err(ErrorResponse),
        ),
        (200, r#"{"token_type":"Bearer"}"#, Err(InvalidResponse)),
        (201, GOOD, Ok(Some(3600))),
        (401, r#"{"error":"invalid_client"}"#, Err(ErrorResponse)),
        (200, "\u{feff}{\"access_token\":\"T\"}", Ok(None)),
        (
            200,
            r#"{"access_token":"T","expires_in":"3599"}"#,
            Ok(Some(3599)),
        ),
        (
            200,
            r#"{"access_token":"T","expires_in":3599.0}"#,
            Ok(Some(3599)),
        ),
        (200, r#"{"access_token":"T","expires_in":1e20}"#, Ok(None)),
        (200, r#"{"access_token":"T","expires_in":null}"#, Ok(None)),
        (200, "[]", Err(InvalidResponse)),
        (200, &large, Err(BodyTooLarge)),
        (200, r#"{"access_token":"T","exp"#, Err(InvalidResponse)),
    ] {
        let owned = body.to_owned();
        let result = fetch(move || {
            let mut response = answer(status, owned.clone())?;
            let plain = "text/plain".parse().unwrap();
            response.headers_mut().insert("content-type", plain);
            Ok(response)
        })
        .await;
        let case = format!("{status} {:.60}", body);
        match (result, expected) {
            (Ok(response), Ok(seconds)) => {
                assert_eq!(
                    response.expires_in(),
                    seconds.map(Duration::from_secs),
                    "{case}"
                );
            }
            (Err(error), Err(kind)) => {
                assert_eq!(error.kind(), kind, "{case}");
                assert_eq!(error.status().unwrap(), status, "{case}");
            }
            (result, expected) => panic!("{case}: expected {expected:?}, got {result:?}"),
        }
    }
}

/// Row 18 (Duende foss #323): a retried request carried the assertion of the first attempt, which the server had already seen.
#[tokio::test(start_paused = true)]
async fn every_attempt_has_a_new_client_assertion() {
    let recorder = Recorder::new(|number| match number {
        0 => answer(503, ""),
        1 => Err("reset".into()),
        _ => answer(200, GOOD),
    });
    let created = AtomicUsize::new(0);
    let assertion = Credential::from_fn(move || {
        let number = created.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, Infallible>(format!("assertion-{number}")) }
    });
    let endpoint = recorder.endpoint(ClientAuthentication::client_assertion("c", assertion));
    Retry::new(RetryTransient::new(), endpoint)
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();
    let assertions: Vec<_> = recorder
        .take()
        .iter()
        .map(|sent| form(sent.body()).pop().unwrap().1)
        .collect();
    assert_eq!(assertions, ["assertion-0", "assertion-1", "assertion-2"]);
}

/// Checks that `shown` does not contain the secret in any printable form.
fn check_hidden(case: &str, shown: &str) {
    for hidden in [
        SENTINEL.to_owned(),
        BASE64_STANDARD.encode(format!("c:{SENTINEL}")),
        format!("{:?}", SENTINEL.as_bytes())
            .trim_matches(['[', ']'])
            .to_owned(),
    ] {
        assert!(!shown.contains(&hidden), "{case}: {shown}");
    }
}

fn check_debug(value: &dyn Debug) {
    let shown = format!("{value:?}");
    check_hidden(&shown, &shown);
    check_hidden("alternate", &format!("{value:#?}"));
}

fn check_display(value: &dyn Display) {
    check_hidden("display", &format!("{value} {value:#}"));
}

fn check_error(error: &(dyn Error + 'static)) {
    let mut next = Some(error);
    while let Some(error) = next {
        check_debug(&error);
        check_display(&error);
        next = error.source();
    }
}

fn secret_clients() -> Vec<ClientAuthentication> {
    let provided = || Credential::from_fn(|| async { Ok::<_, Infallible>(SENTINEL) });
    vec![
        ClientAuthentication::client_secret_basic("c", SENTINEL),
        ClientAuthentication::client_secret_basic("c", provided()),
        ClientAuthentication::client_secret_basic_raw("c", SENTINEL),
        ClientAuthentication::client_secret_post("c", SENTINEL),
        ClientAuthentication::client_secret_post("c", provided().named("vault")),
        ClientAuthentication::client_assertion("c", SENTINEL),
        ClientAuthentication::saml2_client_assertion("c", provided()),
    ]
}

fn secret_requests() -> Vec<TokenRequest> {
    vec![
        TokenRequest::client_credentials().parameter("api_key", SENTINEL),
        TokenRequest::client_credentials().header("x-api-key", SENTINEL),
        TokenRequest::client_credentials()
            .client_authentication(ClientAuthentication::client_secret_post("c", SENTINEL)),
        TokenRequest::password("u", SENTINEL),
        TokenRequest::authorization_code(SENTINEL, "https://app.example/")
            .code_verifier(SENTINEL.repeat(6)),
        TokenRequest::refresh_token(SENTINEL),
        TokenRequest::device_code(SENTINEL),
        TokenRequest::token_exchange(SENTINEL, "t").actor_token(SENTINEL, "t"),
        TokenRequest::jwt_bearer(SENTINEL),
        TokenRequest::saml2_bearer(SENTINEL),
        TokenRequest::ciba(SENTINEL),
        TokenRequest::extension("x").repeated_parameter("otp", SENTINEL),
    ]
}

/// Row 19 (octocrab with `Display`, oauth2-rs #170 with a raw body in `Debug`, tower with `Oneshot`): a secret was printed.
#[tokio::test]
async fn no_value_prints_its_secret() {
    let token = AccessToken::new(SENTINEL, TokenType::BEARER).unwrap();
    let values: [&dyn Debug; 9] = [
        &token,
        &token.authorization(),
        &ClientSecret::new(SENTINEL),
        &RefreshToken::new(SENTINEL),
        &IdToken::new(SENTINEL),
        &Credential::fixed(SENTINEL),
        &Credential::from_fn(|| async { Ok::<_, Infallible>(SENTINEL) }),
        &AccessToken::new(format!("{SENTINEL}\n"), TokenType::BEARER).unwrap_err(),
        &NoAccessToken,
    ];
    for value in values {
        check_debug(value);
    }
    check_display(&AccessToken::new(format!("{SENTINEL}\n"), TokenType::BEARER).unwrap_err());

    for client in secret_clients() {
        check_debug(&client);
        check_debug(&Recorder::good().endpoint(client));
    }
    for request in secret_requests() {
        check_debug(&request);
    }
    check_debug(&HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        token.authorization().unwrap().clone(),
    )]));

    let mut headers = HeaderMap::new();
    headers.insert("set-cookie", SENTINEL.parse().unwrap());
    let builder = TokenResponse::builder(token)
        .refresh_token(SENTINEL)
        .id_token(SENTINEL)
        .parameter("extra", SENTINEL)
        .headers(headers);
    check_debug(&builder);
    let response = builder.build();
    check_debug(&response);
    assert!(format!("{}", response.json()).contains(SENTINEL));
}

/// Row 19: a URI that contains a password is refused, and must not be printed before that either.
#[tokio::test]
async fn a_uri_with_a_secret_is_not_printed() {
    for uri in [
        format!("https://u:{SENTINEL}@as.example/token"),
        format!("https://as.example/token?key={SENTINEL}"),
    ] {
        let uri: Uri = uri.parse().unwrap();
        let endpoint = TokenEndpoint::new(Recorder::good(), uri.clone(), client());
        check_debug(&endpoint);
        let request = TokenRequest::client_credentials().token_endpoint(uri);
        check_debug(&request);
        if let Err(error) = endpoint.oneshot(request).await {
            check_error(&error);
        }
    }
    let uri: Uri = format!("{}?key={SENTINEL}", unreachable_uri().await)
        .parse()
        .unwrap();
    let reqwest = ReqwestService::new(reqwest_client());
    let error = TokenEndpoint::new(reqwest, uri, client())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert!(!error.may_have_been_processed());
    check_error(&error);
}

/// Row 19: the header of the outgoing request is marked as sensitive, so that the layers below do not print it either.
#[tokio::test]
async fn outgoing_headers_do_not_print_the_secret() {
    let own = TokenRequest::client_credentials()
        .header("authorization", format!("Basic {SENTINEL}"))
        .client_authentication(ClientAuthentication::none("c"));
    let mut cases = vec![(ClientAuthentication::none("c"), own)];
    for client in secret_clients() {
        cases.push((client, TokenRequest::client_credentials()));
    }
    for (client, request) in cases {
        let recorder = Recorder::good();
        let endpoint = recorder.endpoint(client);
        endpoint.oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        let printed = Request::from_parts(sent.into_parts().0, ());
        check_debug(&printed);
    }
}

/// Row 19: this covers every kind of error, with its sources, after a request and a response full of secrets.
#[tokio::test]
async fn no_error_prints_a_secret() {
    let token = format!(r#""access_token":"{SENTINEL}","refresh_token":"{SENTINEL}""#);
    let mut kinds = Vec::new();
    let scripts: Vec<(usize, Box<dyn Fn() -> Answer + Send + Sync>)> = vec![
        (usize::MAX, Box::new(|| Err("broken pipe".into()))),
        (
            usize::MAX,
            Box::new(|| Err(NotSent::new("no route").into())),
        ),
        (usize::MAX, Box::new(|| Err(Elapsed::new().into()))),
        (8, {
            let token = token.clone();
            Box::new(move || answer(200, format!("{{{token}}}")))
        }),
        (usize::MAX, {
            let token = token.clone();
            Box::new(move || answer(400, format!(r#"{{"error":"invalid_grant",{token}}}"#)))
        }),
        (usize::MAX, {
            Box::new(move || answer(502, format!("<html>{SENTINEL}")))
        }),
        (usize::MAX, {
            let token = token.clone();
            Box::new(move || answer(200, format!("{{{token}")))
        }),
        (usize::MAX, {
            Box::new(move || answer(200, format!(r#"{{"access_token":"{SENTINEL}\n"}}"#)))
        }),
        (usize::MAX, {
            Box::new(move || answer(200, format!(r#"{{"access_token":"T","{SENTINEL}":}}"#)))
        }),
        (usize::MAX, {
            let location = format!("https://evil.example/?{SENTINEL}");
            Box::new(move || {
                let mut response = answer(302, "")?;
                let value = location.parse().unwrap();
                response.headers_mut().insert("location", value);
                Ok(response)
            })
        }),
    ];
    for (limit, script) in scripts {
        let error = Recorder::new(move |_| script())
            .endpoint(ClientAuthentication::client_secret_basic("c", SENTINEL))
            .max_response_body(limit)
            .oneshot(TokenRequest::password("u", SENTINEL).header("x-api-key", SENTINEL))
            .await
            .unwrap_err();
        check_error(&error);
        kinds.push(error.kind());
    }

    let refused = [
        TokenRequest::refresh_token(SENTINEL).parameter("refresh_token", SENTINEL.repeat(2)),
        TokenRequest::client_credentials().code_verifier(SENTINEL),
        TokenRequest::client_credentials().scope(format!("{SENTINEL}\u{e9}")),
        TokenRequest::client_credentials().parameter("client_secret", SENTINEL),
        TokenRequest::client_credentials().header("authorization", SENTINEL),
        TokenRequest::client_credentials().header("x-a", format!("{SENTINEL}\n")),
        TokenRequest::client_credentials().header(format!("{SENTINEL} "), "x"),
        TokenRequest::jwt_bearer(Credential::file("/nonexistent/token")).parameter("x", SENTINEL),
    ];
    for request in refused {
        let error = Recorder::good()
            .endpoint(client())
            .oneshot(request)
            .await
            .unwrap_err();
        check_error(&error);
        kinds.push(error.kind());
    }

    let broken = format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{{{token}");
    let garbled = format!("HTTP/1.1 200 OK\r\n{SENTINEL}\r\n\r\n");
    for script in [broken, garbled] {
        let server = Loopback::start(move |_| Script::new(script.clone(), Then::Close)).await;
        for post in [true, false] {
            let client = match post {
                true => ClientAuthentication::client_secret_post("c", SENTINEL),
                false => ClientAuthentication::client_secret_basic("c", SENTINEL),
            };
            let request = TokenRequest::refresh_token(SENTINEL);
            let reqwest = ReqwestService::new(reqwest_client());
            let reqwest = TokenEndpoint::new(reqwest, server.uri(), client.clone());
            let error = reqwest.oneshot(request.clone()).await.unwrap_err();
            check_error(&error);
            let hyper = TokenEndpoint::new(hyper_client(), server.uri(), client);
            let error = hyper.oneshot(request).await.unwrap_err();
            check_error(&error);
            kinds.push(error.kind());
        }
    }

    use TokenErrorKind as Kind;
    for kind in [
        Kind::Request,
        Kind::Credential,
        Kind::Service,
        Kind::Timeout,
        Kind::Body,
        Kind::BodyTooLarge,
        Kind::ErrorResponse,
        Kind::UnexpectedStatus,
        Kind::InvalidResponse,
    ] {
        assert!(kinds.contains(&kind), "{kind:?} is not covered");
    }
}

/// Row 19: some errors of the standard library contain the text that they could not decode.
#[cfg(unix)]
#[tokio::test]
async fn the_endpoints_error_does_not_print_the_providers_error() {
    let bytes = || [SENTINEL.as_bytes(), b"\xff"].concat();
    let text = move || async move { String::from_utf8(bytes()) };
    let variable = move || async move {
        let value = std::os::unix::ffi::OsStringExt::from_vec(bytes());
        Err::<String, _>(std::env::VarError::NotUnicode(value))
    };
    for provider in [Credential::from_fn(text), Credential::from_fn(variable)] {
        let error = Recorder::good()
            .endpoint(ClientAuthentication::client_secret_basic("c", provider))
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Credential);
        check_display(&error);
        check_debug(&error);
        assert!(error.source().is_some());
    }
}

/// Row 19: the future contains the request in each of its states.
#[tokio::test]
async fn the_response_future_does_not_print_the_secret() {
    for client in secret_clients() {
        for request in secret_requests() {
            let mut endpoint = Recorder::good().endpoint(client.clone());
            let mut future = tokio_test::task::spawn(endpoint.ready().await.unwrap().call(request));
            check_debug(&*future);
            while future.poll().is_pending() {
                check_debug(&*future);
                tokio::task::yield_now().await;
            }
            check_debug(&*future);
        }
    }
}

/// Row 19: the level is TRACE, and a layer below logs the request.
#[tokio::test(start_paused = true)]
async fn the_log_of_a_request_contains_no_secret() {
    let (log, _guard) = Log::record();

    for client in secret_clients() {
        for (status, body) in [
            (200, format!(r#"{{"access_token":"{SENTINEL}"}}"#)),
            (500, format!("<html>{SENTINEL}")),
        ] {
            let server = Loopback::start(move |_| Script::answer(status, "", &body)).await;
            let http = hyper_client().map_request(|request: Request<Full<Bytes>>| {
                let (parts, body) = request.into_parts();
                tracing::trace!(?parts, "sent");
                Request::from_parts(parts, body)
            });
            let endpoint = TokenEndpoint::new(http, server.uri(), client.clone());
            let result = Retry::new(RetryTransient::new().max_retries(1), endpoint)
                .oneshot(TokenRequest::token_exchange(SENTINEL, "t"))
                .await;
            tracing::trace!(?result, "done");
            assert!(
                server.requests()[0].contains(SENTINEL),
                "the secret was not sent"
            );
        }
    }
    let log = log.text();
    assert!(log.contains("sent") && log.contains("done"), "{log}");
    check_hidden("log", &log);
}

/// Row 19: what the HTTP clients log themselves, through `tracing` and through `log`.
#[tokio::test]
async fn the_logs_of_http_clients_contain_no_secret() {
    let (log, _guard) = Log::record();
    for client in secret_clients() {
        let body = format!(r#"{{"access_token":"{SENTINEL}"}}"#);
        let server = Loopback::start(move |_| Script::answer(200, "", &body)).await;
        let request = || TokenRequest::refresh_token(SENTINEL).header("x-api-key", SENTINEL);
        let reqwest = ReqwestService::new(reqwest_client());
        let reqwest = TokenEndpoint::new(reqwest, server.uri(), client.clone());
        reqwest.oneshot(request()).await.unwrap();
        let hyper = TokenEndpoint::new(hyper_client(), server.uri(), client);
        hyper.oneshot(request()).await.unwrap();
        for request in server.requests() {
            assert!(request.contains(SENTINEL), "the secret was not sent");
        }
    }
    // Over TLS and HTTP/2.
    let server = HttpsServer::start().await;
    let pem = server.certificate_pem();
    let builder = HttpsClient::builder().root_certificates_pem(pem).unwrap();
    let client = ClientAuthentication::client_secret_basic("c", SENTINEL);
    let endpoint: TokenEndpoint<HttpsClient> =
        TokenEndpoint::new(builder.build().unwrap(), server.uri(), client);
    let request = TokenRequest::client_credentials().scope("api1");
    let request = request.header("x-api-key", SENTINEL);
    endpoint.oneshot(request).await.unwrap();

    let log = log.text();
    for logged in ["reqwest", "hyper_util", "h2::"] {
        assert!(log.contains(logged), "{logged}: {log}");
    }
    check_hidden("log", &log);
}

/// Row 21 (most clients): `Retry-After` was ignored, or any number in it was trusted.
#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the paused clock of the test")]
async fn retry_after_is_obeyed_if_valid_and_short() {
    const SENT: &str = "Fri, 31 Dec 1999 23:59:50 GMT";
    // The header, its meaning in seconds, and whether there is a second attempt.
    for (value, meaning, is_retried) in [
        ("7", Some(7), true),
        ("0", Some(0), true),
        ("30", Some(30), true),
        ("31", Some(31), false),
        ("99999999999999999999999", Some(u64::MAX), false),
        ("Fri, 31 Dec 1999 23:59:59 GMT", Some(9), true),
        ("Friday, 31-Dec-99 23:59:59 GMT", Some(9), true),
        ("Fri, 31 Dec 1999 23:00:00 GMT", Some(0), true),
        ("Sat, 01 Jan 2000 23:59:59 GMT", Some(86_409), false),
        ("-1", None, true),
        ("1.5", None, true),
        ("soon", None, true),
        ("", None, true),
    ] {
        for status in [429, 503] {
            let recorder = Recorder::new(move |_| {
                let mut response = answer(status, "")?;
                let headers = response.headers_mut();
                headers.insert("retry-after", value.parse().unwrap());
                headers.insert("date", SENT.parse().unwrap());
                Ok(response)
            });
            let started = tokio::time::Instant::now();
            let error = Retry::new(
                RetryTransient::new().max_retries(1),
                recorder.endpoint(client()),
            )
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap_err();
            let paused = started.elapsed();
            assert_eq!(
                error.retry_after(),
                meaning.map(Duration::from_secs),
                "{value:?}"
            );
            assert_eq!(
                recorder.calls(),
                if is_retried { 2 } else { 1 },
                "{value:?}"
            );
            // Never earlier than requested, and later by at most half of the first window of 200 ms plus the resolution of
            // tokio's timer. If the header cannot be parsed, the pause of a first retry applies.
            let (min, max) = match meaning {
                _ if !is_retried => (0, 0),
                Some(seconds) => (seconds * 1000, seconds * 1000 + 101),
                None => (100, 201),
            };
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            assert!((min..=max).contains(&paused), "{value:?}: {paused:?}");
        }
    }
}

/// Returns whether the request contains the secret in any form.
fn leaks(request: &str) -> bool {
    request.contains(SENTINEL) || request.contains(&BASE64_STANDARD.encode(format!("c:{SENTINEL}")))
}

/// Starts a token endpoint that redirects to another host, which would accept the secret and return a token.
async fn redirecting_server(status: u16) -> (Loopback, Loopback) {
    let other = Loopback::start(|_| Script::good()).await;
    let location = format!("location: {}\r\n", other.uri_at("localhost"));
    let first = Loopback::start(move |_| Script::answer(status, &location, "")).await;
    (first, other)
}

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

fn redirected_requests() -> [(ClientAuthentication, TokenRequest); 2] {
    [
        (
            ClientAuthentication::client_secret_basic("c", SENTINEL),
            TokenRequest::client_credentials(),
        ),
        (
            ClientAuthentication::client_secret_post("c", SENTINEL),
            TokenRequest::refresh_token(SENTINEL),
        ),
    ]
}

/// Row 26 (any adapter over a client that follows redirects): hyper's client does not follow them.
#[tokio::test]
async fn a_redirect_is_an_error_over_hyper() {
    for status in REDIRECTS {
        for (client, request) in redirected_requests() {
            let (first, other) = redirecting_server(status).await;
            let error = TokenEndpoint::new(hyper_client(), first.uri(), client)
                .oneshot(request)
                .await
                .unwrap_err();
            check_redirect(&error);
            assert_eq!(error.status().unwrap(), status);
            assert!(
                leaks(&first.requests()[0]),
                "the first host must get the secret"
            );
            assert_eq!(other.connections(), 0, "{status}");
        }
    }
}

/// Row 26: reqwest follows redirects by default, and sends the body again if it can.
#[tokio::test]
async fn a_redirect_is_an_error_over_reqwest_with_default_redirects() {
    for status in REDIRECTS {
        for (client, request) in redirected_requests() {
            let (first, other) = redirecting_server(status).await;
            let http = ReqwestService::new(reqwest_client());
            let error = TokenEndpoint::new(http, first.uri(), client)
                .oneshot(request)
                .await
                .unwrap_err();
            assert!(
                leaks(&first.requests()[0]),
                "the first host must get the secret"
            );
            for request in other.requests() {
                assert!(!leaks(&request), "{status}: {request}");
            }
            check_redirect(&error);
        }
    }
}

/// Checks that the error is final and says what to check.
fn check_redirect(error: &TokenError) {
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{error:?}");
    assert!(!error.is_transient(), "{error:?}");
    assert!(error.may_have_been_processed(), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("the token endpoint responded with a redirect"),
        "{error}"
    );
    assert!(error.to_string().contains("check the URI"), "{error}");
}

/// Row 26: an endless redirect, which reqwest stops following, is final too.
#[tokio::test(start_paused = true)]
async fn an_endless_redirect_is_not_retried_over_reqwest() {
    let server = Loopback::start(|_| Script::answer(302, "location: /token\r\n", "")).await;
    let http = ReqwestService::new(reqwest_client());
    let endpoint = TokenEndpoint::new(http, server.uri(), client());
    let error = Retry::new(RetryTransient::new(), endpoint)
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    check_redirect(&error);
    let requests = server.requests();
    let posted = requests.iter().filter(|r| r.starts_with("POST")).count();
    assert_eq!(posted, 1);
}

/// Row 26: without redirects, nothing at all is sent to the other host.
#[tokio::test]
async fn a_redirect_is_an_error_over_reqwest_without_redirects() {
    for status in REDIRECTS {
        for (client, request) in redirected_requests() {
            let (first, other) = redirecting_server(status).await;
            let http = reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none());
            let http = ReqwestService::new(http.build().unwrap());
            let error = TokenEndpoint::new(http, first.uri(), client)
                .oneshot(request)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
            assert_eq!(error.status().unwrap(), status);
            assert_eq!(other.connections(), 0);
        }
    }
}

/// Row 26: the layer of tower-http, with its standard policy, removes the secret before it follows a first redirect.
#[tokio::test]
async fn a_first_redirect_through_follow_redirect_carries_no_secret() {
    for status in REDIRECTS {
        for (client, request) in redirected_requests() {
            let (first, other) = redirecting_server(status).await;
            let http = ServiceBuilder::new()
                .layer(FollowRedirectLayer::new())
                .service(hyper_client());
            let result = TokenEndpoint::new(http, first.uri(), client)
                .oneshot(request)
                .await;
            assert!(
                leaks(&first.requests()[0]),
                "the first host must get the secret"
            );
            for request in other.requests() {
                assert!(!leaks(&request), "{status}: {request}");
            }
            let error = result.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
            if matches!(status, 307 | 308) {
                assert_eq!(error.status().unwrap(), status);
                assert_eq!(other.connections(), 0);
            }
        }
    }
}

/// Row 28: a refused connection to the *second* host says nothing about the first one, which received the request.
#[tokio::test]
async fn a_connection_refused_after_a_redirect_does_not_prove_that_nothing_was_sent() {
    let location = format!("location: {}\r\n", unreachable_uri().await);
    let server = Loopback::start(move |_| Script::answer(302, &location, "")).await;
    let http = ReqwestService::new(reqwest_client());
    let error = TokenEndpoint::new(http, server.uri(), client())
        .oneshot(TokenRequest::refresh_token("r"))
        .await
        .unwrap_err();
    assert_eq!(
        server.requests().len(),
        1,
        "the first host must get the request"
    );
    check_redirect(&error);
}

fn one_time_requests() -> Vec<TokenRequest> {
    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("r") });
    vec![
        TokenRequest::authorization_code("a", "https://app.example/"),
        TokenRequest::extension("authorization_code").parameter("code", "a"),
        TokenRequest::refresh_token("r"),
        TokenRequest::refresh_token(provided),
        TokenRequest::device_code("d"),
        TokenRequest::ciba("i"),
    ]
}

type FailureFn = fn() -> Answer;

/// Returns how often a request is sent to a server that always fails, with at most two retries.
async fn attempts(request: TokenRequest, fail: FailureFn) -> usize {
    let recorder = Recorder::new(move |_| fail());
    let error = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryTransient::new().max_retries(2)))
        .service(recorder.endpoint(client()))
        .oneshot(request)
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    recorder.calls()
}

fn fail_by(kind: io::ErrorKind) -> Answer {
    Err(io::Error::from(kind).into())
}

/// Row 28 (any retry layer): the server takes a second use of a refresh token for theft.
#[tokio::test(start_paused = true)]
async fn a_one_time_credential_is_not_sent_again_after_an_ambiguous_failure() {
    let ambiguous: [(&str, FailureFn); 14] = [
        ("reset", || fail_by(io::ErrorKind::ConnectionReset)),
        // Linux can report each of these for an established connection too.
        ("refused", || fail_by(io::ErrorKind::ConnectionRefused)),
        ("no address", || fail_by(io::ErrorKind::AddrNotAvailable)),
        ("no host", || fail_by(io::ErrorKind::HostUnreachable)),
        ("no network", || fail_by(io::ErrorKind::NetworkUnreachable)),
        ("not connected", || fail_by(io::ErrorKind::NotConnected)),
        ("closed", || {
            Err("connection closed before message completed".into())
        }),
        ("timeout", || Err(Elapsed::new().into())),
        ("408", || answer(408, "")),
        ("500", || answer(500, "")),
        ("502", || answer(502, "")),
        ("504", || answer(504, "")),
        ("server_error", || {
            answer(400, json!({"error": "server_error"}).to_string())
        }),
        ("temporarily_unavailable", || {
            answer(400, json!({"error": "temporarily_unavailable"}).to_string())
        }),
    ];
    for (case, fail) in ambiguous {
        for request in one_time_requests() {
            let sent = attempts(request.clone(), fail).await;
            assert_eq!(sent, 1, "{case} {request:?}");
        }
        let sent = attempts(TokenRequest::client_credentials(), fail).await;
        assert_eq!(sent, 3, "{case}: client credentials can be sent again");
    }
}

/// Row 28: these failures prove that the request was not processed.
#[tokio::test(start_paused = true)]
async fn a_one_time_credential_is_sent_again_if_it_was_provably_not_processed() {
    let proven: [(&str, FailureFn); 4] = [
        ("not sent", || Err(NotSent::new("no route").into())),
        ("429", || answer(429, "")),
        ("503", || answer(503, "")),
        ("503 with an error", || {
            answer(503, json!({"error": "server_error"}).to_string())
        }),
    ];
    for (case, fail) in proven {
        for request in one_time_requests() {
            let sent = attempts(request.clone(), fail).await;
            assert_eq!(sent, 3, "{case} {request:?}");
        }
    }
}

/// Row 28: a server that closes the connection sees the refresh token once, and a refused connection is retried.
#[tokio::test(start_paused = true)]
async fn a_one_time_credential_is_not_sent_again_over_a_real_connection() {
    for (request, expected) in [
        (TokenRequest::refresh_token("r"), 1),
        (TokenRequest::client_credentials(), 3),
    ] {
        let server = Loopback::start(|_| Script::new("", Then::Close)).await;
        let endpoint = TokenEndpoint::new(hyper_client(), server.uri(), client());
        Retry::new(RetryTransient::new().max_retries(2), endpoint)
            .oneshot(request)
            .await
            .unwrap_err();
        assert_eq!(server.requests().len(), expected);
    }

    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let http = hyper_client_with_proof().map_request(move |request: Request<Full<Bytes>>| {
        counted.fetch_add(1, Ordering::SeqCst);
        request
    });
    let endpoint = TokenEndpoint::new(http, unreachable_uri().await, client());
    let error: BoxError = Retry::new(RetryTransient::new().max_retries(2), endpoint)
        .oneshot(TokenRequest::refresh_token("r"))
        .await
        .unwrap_err()
        .into();
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
    assert!(
        !TokenError::find_in_chain(&*error)
            .unwrap()
            .may_have_been_processed()
    );
}
