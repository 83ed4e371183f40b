//! Clocks that differ: `iat` is set back, `Date` corrects what is signed, and errors hint at the difference.
#![allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; these tests read the time of day"
)]

mod support;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tower::{ServiceExt, service_fn};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, DpopKey, ErrorCode,
    TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenSource, TokenType,
    jwt::{ClientAssertion, SigningAlgorithm, SigningKey},
};

use self::support::{Answer, Recorder, URI, answer, form};

const GOOD: &str = r#"{"access_token":"T","token_type":"DPoP","expires_in":3600}"#;

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A `Date` that is this many seconds ahead of now.
fn date(ahead: i64) -> String {
    let now = unix_now().checked_add_signed(ahead).unwrap();
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now))
}

fn dated(answer: Answer, ahead: i64) -> Answer {
    let mut answer = answer?;
    answer.headers_mut().insert("date", date(ahead).parse()?);
    Ok(answer)
}

fn claims(jwt: &str) -> Value {
    let claims = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn assertion_claims(sent: &Request<Bytes>) -> Value {
    let mut pairs = form(sent.body()).into_iter();
    claims(
        &pairs
            .find(|(name, _)| name == "client_assertion")
            .unwrap()
            .1,
    )
}

fn proof_claims(headers: &HeaderMap) -> Value {
    claims(headers["dpop"].to_str().unwrap())
}

/// Returns how many seconds a time in a claim is ahead of now.
fn ahead(claims: &Value, name: &str) -> i64 {
    claims[name].as_i64().unwrap() - i64::try_from(unix_now()).unwrap()
}

/// Asserts that a difference is as expected, except for the time that the test takes.
#[track_caller]
fn assert_close(difference: i64, expected: i64) {
    assert!(
        (difference - expected).abs() <= 2,
        "{difference} is not {expected}"
    );
}

fn signing(assertion: ClientAssertion) -> ClientAuthentication {
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    ClientAuthentication::private_key_jwt("c", key).assertion(assertion)
}

fn key() -> DpopKey {
    DpopKey::generate().unwrap()
}

fn request() -> TokenRequest {
    TokenRequest::client_credentials()
}

#[tokio::test]
async fn iat_can_be_set_back_and_nbf_chosen() {
    let seconds = Duration::from_secs;
    let recorder = Recorder::new(|_| answer(200, GOOD));
    let assertion = ClientAssertion::new()
        .iat_before_now(seconds(5))
        .nbf_before_now(seconds(30))
        .lifetime(seconds(90));
    let key = key().iat_before_now(seconds(7));
    let endpoint = recorder.endpoint(signing(assertion)).dpop(key.clone());
    for _ in 0..2 {
        endpoint.clone().oneshot(request()).await.unwrap();
        let sent = recorder.take_one();
        let claims = assertion_claims(&sent);
        assert_close(ahead(&claims, "iat"), -5);
        assert_close(ahead(&claims, "nbf"), -30);
        assert_close(ahead(&claims, "exp"), 90);
        assert_close(ahead(&proof_claims(sent.headers()), "iat"), -7);
    }
    // The proofs for APIs, too.
    let uri = Uri::from_static("https://api.example/");
    let proof = key.proof(&Method::GET, &uri, None).await.unwrap();
    assert_close(ahead(&claims(proof.to_str().unwrap()), "iat"), -7);
}

#[tokio::test]
async fn an_iat_of_the_caller_replaces_that_of_this_crate() {
    let recorder = Recorder::new(|_| answer(200, GOOD));
    let assertion = ClientAssertion::new().claim("iat", 1_700_000_000);
    let endpoint = recorder.endpoint(signing(assertion)).dpop(key());
    endpoint.oneshot(request()).await.unwrap();
    let claims = assertion_claims(&recorder.take_one());
    assert_eq!(claims["iat"], 1_700_000_000);
    assert!(claims.get("nbf").is_none());
    assert_close(ahead(&claims, "exp"), 60);
}

#[tokio::test]
async fn proofs_carry_the_claims_that_were_added() {
    let recorder = Recorder::new(|_| answer(200, GOOD));
    let own = key()
        .claim("tenant", "acme")
        .claim("t\"x", json!({"a": [1, null]}));
    let client = || ClientAuthentication::client_secret_basic("c", "s");
    let endpoint = recorder.endpoint(client()).dpop(own.clone());
    let response = endpoint.oneshot(request()).await.unwrap();
    let claims = proof_claims(recorder.take_one().headers());
    assert_eq!(claims["tenant"], "acme");
    assert_eq!(claims["t\"x"], json!({"a": [1, null]}));
    assert_eq!(claims["htu"], URI);
    assert_eq!(response.access_token().dpop_key(), Some(&own));

    for (key, named) in [
        (key().claim("iat", 1), "`iat`"),
        (key().claim("jti", 1), "`jti`"),
        (key().claim("htm", 1), "`htm`"),
        (key().claim("htu", 1), "`htu`"),
        (key().claim("ath", 1), "`ath`"),
        (key().claim("nonce", 1), "`nonce`"),
        (
            key().claim("a", 1).claim("a", 1),
            "`a` of the DPoP proof is set twice",
        ),
    ] {
        let error = recorder
            .endpoint(client())
            .dpop(key.clone())
            .oneshot(request())
            .await;
        let proof = key.proof(&Method::GET, &Uri::from_static(URI), None).await;
        for error in [error.unwrap_err(), proof.unwrap_err()] {
            assert_eq!(error.kind(), TokenErrorKind::Request);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
    assert_eq!(recorder.calls(), 1);
}

#[test]
fn keys_are_equal_if_their_settings_are() {
    let key = key();
    assert_eq!(key, key.clone());
    assert_eq!(key.clone().claim("a", 1), key.clone().claim("a", 1));
    assert_eq!(
        key.clone().follow_server_clock(),
        key.clone().follow_server_clock()
    );
    for other in [
        key.clone().claim("a", 1),
        key.clone().iat_before_now(Duration::from_secs(1)),
        key.clone().follow_server_clock(),
    ] {
        assert_ne!(key, other);
        assert_eq!(key.thumbprint(), other.thumbprint());
    }
}

/// An error of the endpoint with a `Date`.
async fn refused(status: u16, code: &str, headers: &[(&'static str, String)]) -> TokenError {
    let (code, headers) = (code.to_owned(), headers.to_vec());
    let recorder = Recorder::new(move |_| {
        let mut answer = answer(status, json!({ "error": code }).to_string())?;
        for (name, value) in &headers {
            answer.headers_mut().append(*name, value.parse()?);
        }
        Ok(answer)
    });
    let endpoint = recorder.endpoint(ClientAuthentication::client_secret_basic("c", "s"));
    endpoint.oneshot(request()).await.unwrap_err()
}

#[tokio::test]
async fn an_error_hints_at_a_clock_that_is_far_off() {
    for code in ["invalid_client", "invalid_grant", "invalid_dpop_proof"] {
        for (offset, direction) in [(-300, "behind"), (-4000, "behind"), (7200, "ahead of")] {
            let error = refused(400, code, &[("date", date(offset))])
                .await
                .to_string();
            let (_, hint) = error.split_once("the server's clock is ").expect(&error);
            let (seconds, rest) = hint.split_once(" seconds ").unwrap();
            assert_close(seconds.parse().unwrap(), i64::abs(offset));
            assert!(
                rest.starts_with(&format!("{direction} this machine's")),
                "{error}"
            );
            assert!(error.contains(code), "{error}");
        }
    }
    let far = || ("date", date(-300));
    for (status, code, headers) in [
        (400, "invalid_client", vec![("date", date(-30))]),
        (400, "invalid_client", vec![("date", date(30))]),
        (400, "invalid_client", vec![]),
        (
            400,
            "invalid_client",
            vec![("date", "yesterday".to_owned())],
        ),
        (
            400,
            "invalid_client",
            vec![far(), ("age", "290".to_owned())],
        ),
        (400, "invalid_client", vec![far(), far()]),
        (400, "invalid_scope", vec![far()]),
        (500, "server_error", vec![far()]),
    ] {
        let error = refused(status, code, &headers).await.to_string();
        assert!(!error.contains("clock"), "{error}");
    }
}

/// A server whose clock differs, and that tolerates ten seconds. It answers the request that was recorded last.
fn strict_server(offset: i64) -> Recorder {
    let recorded = Arc::new(OnceLock::<Recorder>::new());
    let own = recorded.clone();
    let recorder = Recorder::new(move |_| {
        let mut sent = own.get().unwrap().peek();
        let sent = sent.pop().unwrap();
        let is_good = |claims: &Value| (ahead(claims, "iat") - offset).abs() <= 10;
        let answer = if !is_good(&assertion_claims(&sent)) {
            answer(401, r#"{"error":"invalid_client"}"#)
        } else if !is_good(&proof_claims(sent.headers())) {
            answer(400, r#"{"error":"invalid_dpop_proof"}"#)
        } else {
            answer(200, GOOD)
        };
        dated(answer, offset)
    });
    let _ = recorded.set(recorder.clone());
    recorder
}

#[tokio::test]
async fn the_clock_of_the_server_is_followed_if_asked_to() {
    for offset in [-590, -300, 120, 590] {
        let server = strict_server(offset);
        let endpoint = server.endpoint(signing(ClientAssertion::new())).dpop(key());
        let error = endpoint.oneshot(request()).await.unwrap_err();
        assert_eq!(
            error.error_response().unwrap().code(),
            &ErrorCode::INVALID_CLIENT
        );
        assert_eq!(server.take().len(), 1);

        let client = signing(ClientAssertion::new().follow_server_clock());
        let endpoint = server.endpoint(client).dpop(key().follow_server_clock());
        // The refusal corrects the clock, and the request is sent again at once.
        endpoint.clone().oneshot(request()).await.unwrap();
        let sent = server.take();
        assert_eq!(sent.len(), 2);
        let claims = assertion_claims(&sent[1]);
        assert_close(ahead(&claims, "iat"), offset);
        assert_close(ahead(&claims, "exp"), offset + 60);
        assert_ne!(claims["jti"], assertion_claims(&sent[0])["jti"]);
        // The next one is right at once.
        endpoint.oneshot(request()).await.unwrap();
        assert_close(
            ahead(&proof_claims(server.take_one().headers()), "iat"),
            offset,
        );
    }
}

/// A service starts, and all of its sources fetch at once: each request is signed before the first response corrects the clock.
#[tokio::test]
async fn requests_that_are_refused_together_are_each_sent_again() {
    const TOGETHER: usize = 3;
    let server = strict_server(-300);
    let all_were_sent = Arc::new(Barrier::new(TOGETHER));
    let firsts = Arc::new(AtomicUsize::new(0));
    let http = service_fn(move |request: Request<Full<Bytes>>| {
        let (mut server, all_were_sent) = (server.clone(), all_were_sent.clone());
        let is_first = firsts.fetch_add(1, Ordering::SeqCst) < TOGETHER;
        async move {
            let response = tower::Service::call(&mut server, request).await;
            if is_first {
                all_were_sent.wait().await;
            }
            response
        }
    });
    let client = signing(ClientAssertion::new().follow_server_clock());
    let endpoint = TokenEndpoint::new(http, URI, client).dpop(key().follow_server_clock());
    let all = (0..TOGETHER).map(|_| endpoint.clone().oneshot(request()));
    for result in futures_util::future::join_all(all).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn only_what_was_asked_for_follows_the_clock() {
    let server = strict_server(-300);
    let client = signing(ClientAssertion::new().follow_server_clock());
    let error = server
        .endpoint(client)
        .dpop(key())
        .oneshot(request())
        .await
        .unwrap_err();
    assert_eq!(
        error.error_response().unwrap().code(),
        &ErrorCode::INVALID_DPOP_PROOF
    );
    assert!(
        error.to_string().contains("seconds behind this machine's"),
        "{error}"
    );
    assert_eq!(server.calls(), 2);
}

/// A server that refuses everything with a `Date`, and perhaps other headers.
fn refusing(code: &'static str, offset: i64, age: bool) -> Recorder {
    Recorder::new(move |_| {
        let mut answer = dated(answer(400, json!({ "error": code }).to_string()), offset)?;
        if age {
            answer.headers_mut().insert("age", 1.into());
        }
        Ok(answer)
    })
}

#[tokio::test]
async fn a_refused_request_is_repeated_at_most_once_and_only_for_the_clock() {
    for (code, offset, age, calls) in [
        ("invalid_client", -300, false, 2),
        ("invalid_dpop_proof", 300, false, 2),
        // The clocks agree.
        ("invalid_client", 0, false, 1),
        // More than ten minutes.
        ("invalid_client", -700, false, 1),
        ("invalid_client", 86_400, false, 1),
        // From a cache.
        ("invalid_client", -300, true, 1),
        // The client was accepted, so a code may be used up.
        ("invalid_grant", -300, false, 1),
        ("invalid_request", -300, false, 1),
    ] {
        let server = refusing(code, offset, age);
        let client = signing(ClientAssertion::new().follow_server_clock());
        let endpoint = server.endpoint(client).dpop(key().follow_server_clock());
        endpoint.clone().oneshot(request()).await.unwrap_err();
        assert_eq!(server.take().len(), calls, "{code} {offset} {age}");
        // The correction is known by now.
        endpoint.oneshot(request()).await.unwrap_err();
        let sent = server.take_one();
        let expected = if offset.abs() <= 600 && !age {
            offset
        } else {
            0
        };
        assert_close(ahead(&assertion_claims(&sent), "iat"), expected);
        assert_close(ahead(&proof_claims(sent.headers()), "iat"), expected);
    }
}

#[tokio::test]
async fn the_clock_of_one_server_says_nothing_about_another() {
    let recorder = Recorder::new(|number| match number {
        0 => dated(answer(200, GOOD), -300),
        _ => answer(200, GOOD),
    });
    let client = signing(ClientAssertion::new().follow_server_clock());
    let dpop = key().follow_server_clock();
    let endpoint = recorder.endpoint(client).dpop(dpop.clone());
    for (uri, expected) in [
        (URI, 0),
        ("https://other.example/token", 0),
        ("https://as.example:8443/token", 0),
        ("http://localhost/token", 0),
        ("https://AS.example:443/another", -300),
        (URI, -300),
    ] {
        let request = request().token_endpoint(uri);
        endpoint.clone().oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        assert_close(ahead(&assertion_claims(&sent), "iat"), expected);
        assert_close(ahead(&proof_claims(sent.headers()), "iat"), expected);
    }
}

#[tokio::test]
async fn an_api_has_a_clock_of_its_own() {
    let dpop = key().follow_server_clock();
    let token = AccessToken::new("T", TokenType::DPOP)
        .unwrap()
        .bound_to(dpop.clone());
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        sender.send(proof_claims(request.headers())).unwrap();
        async move {
            let response = Response::builder().header("date", date(240));
            Ok::<_, BoxError>(response.body(Full::<Bytes>::default())?)
        }
    });
    let layer = AddAccessTokenLayer::new(TokenSource::fixed(token));
    let api = tower::Layer::layer(&layer.origin("https://api.example").unwrap(), api);
    for expected in [0, 240, 240] {
        let request = Request::get("https://api.example/")
            .body(Full::default())
            .unwrap();
        api.clone().oneshot(request).await.unwrap();
        assert_close(ahead(&seen.recv().await.unwrap(), "iat"), expected);
    }
    let proof = dpop
        .proof(&Method::POST, &Uri::from_static(URI), None)
        .await
        .unwrap();
    assert_close(ahead(&claims(proof.to_str().unwrap()), "iat"), 0);
}

#[tokio::test]
async fn the_expiry_of_tokens_does_not_follow_the_clock() {
    const SHORT: &str = r#"{"access_token":"T","token_type":"DPoP","expires_in":60}"#;
    for offset in [-500, 500] {
        let recorder = Recorder::new(move |_| dated(answer(200, SHORT), offset));
        let client = signing(ClientAssertion::new().follow_server_clock());
        let endpoint = recorder.endpoint(client).dpop(key().follow_server_clock());
        let source = TokenCache::new(endpoint).source(request());
        source.token().await.unwrap();
        source.token().await.unwrap();
        assert_eq!(recorder.calls(), 1);
    }
}
