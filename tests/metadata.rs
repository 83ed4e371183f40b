//! `TokenEndpoint::discover` finds the token endpoint of an issuer.

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, Uri, header::ACCEPT};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Issuer, NoAccessToken, ReqwestService, RevocationRequest,
    ServerMetadata, TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    TokenResponse,
    jwt::SigningAlgorithm,
    test_util::{AuthorizationServer, Failure, ManualClock},
    token_endpoint::RetryTransient,
};

use self::support::{Answer, GOOD, Loopback, Recorder, Script, answer, form, reqwest_client};

const ISSUER: &str = "https://as.test";
const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

type Endpoint = TokenEndpoint<AuthorizationServer>;

fn basic() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("client", "secret")
}

fn discover(server: &AuthorizationServer) -> Endpoint {
    TokenEndpoint::discover(server.clone(), ISSUER, basic())
}

async fn ask<S>(endpoint: &TokenEndpoint<S>) -> Result<TokenResponse, TokenError>
where
    TokenEndpoint<S>: tower::Service<TokenRequest, Response = TokenResponse, Error = TokenError>,
    S: Clone,
{
    let request = TokenRequest::client_credentials();
    endpoint.clone().oneshot(request).await
}

/// Returns the number of requests for a path.
fn requests_to(server: &AuthorizationServer, path: &str) -> usize {
    let requests = server.requests();
    requests.iter().filter(|r| r.path() == path).count()
}

fn document(issuer: &str) -> Value {
    json!({ "issuer": issuer, "token_endpoint": format!("{issuer}/token") })
}

/// Returns an HTTP service that answers each request by its path.
fn by_path(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Http {
    Http {
        uris: Arc::default(),
        script: Arc::new(script),
    }
}

/// Returns an HTTP service that serves the metadata document, and a token on every other path.
fn with_metadata(document: &Value) -> Http {
    let document = document.to_string();
    by_path(move |path| match path {
        OAUTH => answer(200, document.clone()),
        _ => answer(200, GOOD),
    })
}

#[derive(Clone)]
struct Http {
    uris: Arc<std::sync::Mutex<Vec<String>>>,
    script: Arc<dyn Fn(&str) -> Answer + Send + Sync>,
}

impl Http {
    /// Takes the URIs that were requested since the last call.
    fn take_uris(&self) -> Vec<String> {
        std::mem::take(&mut self.uris.lock().unwrap())
    }
}

impl tower::Service<Request<Full<Bytes>>> for Http {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let uri = request.uri().to_string();
        let answer = (self.script)(request.uri().path());
        self.uris.lock().unwrap().push(uri);
        std::future::ready(answer)
    }
}

#[tokio::test]
async fn token_requests_are_sent_to_the_endpoint_in_the_metadata() {
    let server = AuthorizationServer::new();
    let endpoint = discover(&server);
    assert_eq!(
        server.requests().len(),
        0,
        "metadata were fetched before the first request"
    );

    for _ in 0..3 {
        ask(&endpoint).await.unwrap();
    }

    let paths: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.path().to_owned())
        .collect();
    assert_eq!(paths, [OAUTH, "/token", "/token", "/token"]);
    assert_eq!(endpoint.issuer(), Some(ISSUER));
    assert_eq!(endpoint.uri(), None);
}

#[tokio::test]
async fn the_metadata_request_has_no_credentials_and_is_marked() {
    let recorder = Recorder::new(|number| match number {
        0 => answer(200, document(ISSUER).to_string()),
        _ => answer(200, GOOD),
    });
    let endpoint = TokenEndpoint::discover(recorder.clone(), ISSUER, basic());
    let request = TokenRequest::client_credentials().header("x-tenant", "blue");
    endpoint.oneshot(request).await.unwrap();

    let sent = recorder.take();
    let metadata = &sent[0];
    assert_eq!(metadata.method(), http::Method::GET);
    assert_eq!(*metadata.uri(), *format!("{ISSUER}{OAUTH}"));
    assert_eq!(metadata.headers()[ACCEPT], "application/json");
    assert_eq!(metadata.headers()["accept-encoding"], "identity");
    let user_agent = metadata.headers()["user-agent"].to_str().unwrap();
    assert!(user_agent.starts_with("tower-oauth2-client/"));
    assert_eq!(metadata.headers().len(), 3);
    assert!(metadata.body().is_empty());
    assert!(metadata.extensions().get::<NoAccessToken>().is_some());
    assert_eq!(*sent[1].uri(), *format!("{ISSUER}/token"));
}

#[tokio::test]
async fn metadata_can_be_fetched_without_a_token_request() {
    let server = AuthorizationServer::builder()
        .metadata_field("authorization_endpoint", "https://as.test/authorize")
        .build();
    let endpoint = discover(&server);

    let metadata = endpoint.metadata().await.unwrap();
    assert_eq!(
        metadata.get("authorization_endpoint").unwrap(),
        "https://as.test/authorize"
    );
    ask(&endpoint).await.unwrap();
    assert!(Arc::ptr_eq(&metadata, &endpoint.metadata().await.unwrap()));
    assert_eq!(requests_to(&server, OAUTH), 1);

    let without = TokenEndpoint::new(server.clone(), server.token_endpoint(), basic());
    assert_eq!(
        without.metadata().await.unwrap_err().kind(),
        TokenErrorKind::Request
    );
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_metadata_request() {
    let server = AuthorizationServer::new();
    server.fail_next(Failure::delay(MINUTE / 6).at(OAUTH));
    let endpoint = discover(&server);

    let mut calls = JoinSet::new();
    for _ in 0..1000 {
        let endpoint = endpoint.clone();
        calls.spawn(async move { ask(&endpoint).await });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }

    assert_eq!(requests_to(&server, OAUTH), 1);
    assert_eq!(server.token_requests(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_on_many_threads_share_one_metadata_request() {
    for _ in 0..50 {
        let server = AuthorizationServer::new();
        let endpoint = discover(&server);
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let endpoint = endpoint.clone();
            calls.spawn(async move { ask(&endpoint).await });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap().unwrap();
        }
        assert_eq!(requests_to(&server, OAUTH), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_first_caller_does_not_affect_the_others() {
    let server = AuthorizationServer::new();
    server.fail_next(Failure::delay(MINUTE / 6).at(OAUTH));
    let endpoint = discover(&server);
    let mut first = task::spawn(ask(&endpoint));
    let mut second = task::spawn(ask(&endpoint));
    assert_pending!(first.poll());
    assert_pending!(second.poll());

    drop(first);
    second.await.unwrap();
    assert_eq!(requests_to(&server, OAUTH), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_caller_that_is_no_longer_polled_does_not_affect_the_others() {
    let server = AuthorizationServer::new();
    server.fail_next(Failure::delay(MINUTE / 6).at(OAUTH));
    let endpoint = discover(&server);
    let mut first = task::spawn(ask(&endpoint));
    assert_pending!(first.poll());

    ask(&endpoint).await.unwrap();
    assert!(first.is_woken());
    assert_eq!(requests_to(&server, OAUTH), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_caller_that_panics_does_not_affect_the_others() {
    let server = AuthorizationServer::new();
    server.fail_next(Failure::delay(MINUTE / 6).at(OAUTH));
    let endpoint = discover(&server);
    let (first, signal) = (endpoint.clone(), Arc::new(Notify::new()));
    let may_panic = signal.clone();
    let first = tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = ask(&first) => unreachable!(),
            () = may_panic.notified() => panic!("intended by the test"),
        }
    });
    tokio::task::yield_now().await;
    let mut second = task::spawn(ask(&endpoint));
    assert_pending!(second.poll());
    assert_eq!(requests_to(&server, OAUTH), 1);
    signal.notify_one();

    assert!(first.await.unwrap_err().is_panic());
    second.await.unwrap();
    assert_eq!(requests_to(&server, OAUTH), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_caller_cancels_the_metadata_request() {
    let alive = Arc::new(());
    let held = alive.clone();
    let http = service_fn(move |_: Request<Full<Bytes>>| {
        let held = held.clone();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            answer(500, "")
        }
    });
    let endpoint = TokenEndpoint::discover(http, ISSUER, basic());
    let baseline = Arc::strong_count(&alive);
    let mut first = task::spawn(ask(&endpoint));
    let mut second = task::spawn(endpoint.metadata());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert!(Arc::strong_count(&alive) > baseline);

    drop((first, second));
    assert_eq!(Arc::strong_count(&alive), baseline);
}

#[tokio::test(start_paused = true)]
async fn waiting_callers_share_an_error_and_the_next_caller_retries() {
    let server = AuthorizationServer::new();
    let delayed = Failure::status(500).delayed(MINUTE / 60);
    server.fail_next(delayed.clone().at(OAUTH));
    server.fail_next(delayed.at(OPENID));
    let endpoint = discover(&server);
    let (first, second) = tokio::join!(ask(&endpoint), ask(&endpoint));

    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
        assert!(error.is_transient() && !error.may_have_been_processed());
    }
    assert_eq!(requests_to(&server, OAUTH), 1);
    ask(&endpoint).await.unwrap();
    assert_eq!(requests_to(&server, OAUTH), 2);
}

#[tokio::test]
async fn a_panic_of_the_http_client_is_an_error_for_all_waiting_callers() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let http = service_fn(move |_: Request<Full<Bytes>>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::task::yield_now().await;
            panic!("intended by the test");
            #[allow(unreachable_code, reason = "determines the type of the response")]
            answer(200, "")
        }
    });
    let endpoint = TokenEndpoint::discover(http, ISSUER, basic());
    let (first, second) = tokio::join!(ask(&endpoint), ask(&endpoint));

    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!(error.kind(), TokenErrorKind::Service);
        assert!(!error.may_have_been_processed());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn metadata_are_renewed_in_the_background_after_their_lifetime() {
    let server = AuthorizationServer::new();
    let clock = ManualClock::new();
    let endpoint = discover(&server).metadata_clock(clock.clock());
    ask(&endpoint).await.unwrap();

    tokio::time::advance(HOUR - Duration::from_secs(1)).await;
    ask(&endpoint).await.unwrap();
    assert_eq!(requests_to(&server, OAUTH), 1);

    // The new metadata apply only to later requests.
    let moved = json!({ "issuer": ISSUER, "token_endpoint": format!("{ISSUER}/introspect") });
    let moved = Failure::status(200).body(moved.to_string());
    server.fail_next(moved.delayed(MINUTE).at(OAUTH));
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..2 {
        // No request waits for the renewal.
        assert_ready_ok!(task::spawn(ask(&endpoint)).poll());
    }

    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(requests_to(&server, OAUTH), 2);
    ask(&endpoint).await.unwrap_err();
    assert_eq!(server.requests().last().unwrap().path(), "/introspect");
}

#[tokio::test(start_paused = true)]
async fn the_lifetime_of_metadata_can_be_set() {
    let server = AuthorizationServer::new();
    let clock = ManualClock::new();
    let endpoint = discover(&server)
        .metadata_clock(clock.clock())
        .metadata_lifetime(5 * MINUTE);
    for (pause, expected) in [(4 * MINUTE, 1), (MINUTE, 2), (4 * MINUTE, 2), (MINUTE, 3)] {
        ask(&endpoint).await.unwrap();
        tokio::time::advance(pause).await;
        ask(&endpoint).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(requests_to(&server, OAUTH), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn old_metadata_are_used_while_their_renewal_fails() {
    let broken = Failure::status(200).body(r#"{"issuer": 1}"#);
    for failure in [
        Failure::status(503),
        Failure::drop_connection(),
        broken,
        Failure::stall(),
    ] {
        let server = AuthorizationServer::new();
        let clock = ManualClock::new();
        let endpoint = discover(&server).metadata_clock(clock.clock());
        ask(&endpoint).await.unwrap();
        server.fail_until_told(failure.at(OAUTH));
        tokio::time::advance(2 * HOUR).await;

        // For ten minutes there is one request per second and one attempt to renew every thirty seconds.
        for _ in 0..600 {
            ask(&endpoint).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(requests_to(&server, OAUTH), 1 + 20);

        server.recover();
        tokio::time::advance(MINUTE).await;
        ask(&endpoint).await.unwrap();
        tokio::task::yield_now().await;
        let before = requests_to(&server, OAUTH);
        tokio::time::advance(HOUR / 2).await;
        ask(&endpoint).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(
            requests_to(&server, OAUTH),
            before,
            "the metadata are fresh again"
        );
    }
}

#[test]
fn without_a_runtime_the_caller_fetches_the_metadata() {
    let http = with_metadata(&document(ISSUER));
    let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, basic());
    for expected in [2, 1] {
        assert_ready_ok!(task::spawn(ask(&endpoint)).poll());
        assert_eq!(http.take_uris().len(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_runtime_a_failed_renewal_keeps_the_old_metadata() {
    let server = AuthorizationServer::new();
    let clock = ManualClock::new();
    let endpoint = discover(&server).metadata_clock(clock.clock());
    ask(&endpoint).await.unwrap();
    server.fail_until_told(Failure::status(503).at(OAUTH));
    tokio::time::advance(2 * HOUR).await;

    std::thread::scope(|scope| {
        let outside = scope.spawn(|| {
            clock.advance(2 * HOUR);
            let mut metadata = task::spawn(endpoint.metadata());
            assert_ready!(metadata.poll()).map(|_| ())
        });
        outside.join().unwrap().unwrap();
    });
    assert_eq!(requests_to(&server, OAUTH), 2);
}

#[tokio::test(start_paused = true)]
async fn the_next_renewal_and_the_last_handle_end_a_hanging_renewal() {
    let alive = Arc::new(());
    let held = alive.clone();
    let document = document(ISSUER).to_string();
    let calls = Arc::new(AtomicUsize::new(0));
    let http = service_fn(move |request: Request<Full<Bytes>>| {
        let (held, document) = (held.clone(), document.clone());
        let is_metadata = request.uri().path() == OAUTH;
        let number = calls.fetch_add(usize::from(is_metadata), Ordering::SeqCst);
        async move {
            if is_metadata && number > 0 {
                std::future::pending::<()>().await;
            }
            drop(held);
            answer(
                200,
                if is_metadata {
                    document
                } else {
                    GOOD.to_owned()
                },
            )
        }
    });
    let clock = ManualClock::new();
    let endpoint = TokenEndpoint::discover(http, ISSUER, basic()).metadata_clock(clock.clock());
    ask(&endpoint).await.unwrap();
    tokio::time::advance(HOUR).await;
    let mut counts = Vec::new();
    for _ in 0..10 {
        // The next renewal replaces one that hangs.
        ask(&endpoint).await.unwrap();
        tokio::task::yield_now().await;
        counts.push(Arc::strong_count(&alive));
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!(counts, [counts[0]; 10]);

    drop(endpoint);
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test]
async fn invalid_metadata_are_refused() {
    let with = |name: &str, value: Value| {
        let mut document = document(ISSUER);
        document[name] = value;
        document.to_string()
    };
    for (document, why) in [
        (
            with("issuer", json!("https://as.test/t")),
            "another issuer, `https://as.test/t`",
        ),
        (
            with("issuer", json!("https://evil.test")),
            "another issuer, `https://evil.test`",
        ),
        (with("issuer", json!(null)), "`issuer` is not a string"),
        (
            with("token_endpoint", json!(null)),
            "contains no `token_endpoint`",
        ),
        (
            with("token_endpoint", json!("http://as.test/token")),
            "is plain http",
        ),
        (
            with(
                "mtls_endpoint_aliases",
                json!({"token_endpoint": "http://as.test/"}),
            ),
            "is plain http",
        ),
        ("[]".to_owned(), "something other than a JSON object"),
        ("<html>".to_owned(), "a page instead of JSON"),
        (String::new(), "is empty"),
    ] {
        let http = by_path(move |_| answer(200, document.clone()));
        let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, basic());
        let error = ask(&endpoint).await.unwrap_err();

        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{why}");
        let message = error.to_string();
        assert!(
            message.starts_with("the metadata of the issuer `https://as.test`"),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
        assert!(!error.is_transient() && !error.may_have_been_processed());
        assert!(http.take_uris().iter().all(|uri| !uri.ends_with("/token")));
    }
}

#[tokio::test]
async fn an_invalid_issuer_is_refused_before_anything_is_sent() {
    for issuer in [
        "",
        "as.test",
        "/path",
        "http://as.test",
        "ftp://as.test",
        "https://as.test?tenant=1",
        "https://as.test/#",
        "https://user:sesame@as.test",
    ] {
        let recorder = Recorder::good();
        let endpoint = TokenEndpoint::discover(recorder.clone(), issuer, basic());
        let error = ask(&endpoint).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request, "{issuer}");
        assert!(error.to_string().contains("the issuer"), "{error}");
        assert!(!error.to_string().contains("sesame"), "{error}");
        assert_eq!(recorder.calls(), 0);
    }
}

#[tokio::test]
async fn plain_http_is_allowed_on_loopback_or_by_opt_in() {
    for (issuer, allow, expected) in [
        ("http://as.test", false, false),
        ("http://as.test", true, true),
        ("http://127.0.0.1:80", false, true),
    ] {
        let http = with_metadata(&document(issuer));
        let mut endpoint = TokenEndpoint::discover(http, issuer, basic());
        if allow {
            endpoint = endpoint.danger_allow_http();
        }
        assert_eq!(ask(&endpoint).await.is_ok(), expected, "{issuer} {allow}");
    }
}

#[tokio::test]
async fn allowing_plain_http_affects_only_one_clone() {
    let document = json!({ "issuer": ISSUER, "token_endpoint": "http://as.test/token" });
    let http = with_metadata(&document);
    let strict = TokenEndpoint::discover(http, ISSUER, basic());
    ask(&strict.clone().danger_allow_http()).await.unwrap();

    let error = ask(&strict).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
}

/// If the server has no document of RFC 8414, the one of OpenID Connect is fetched.
#[tokio::test]
async fn the_openid_document_is_fetched_if_there_is_no_oauth_document() {
    for (status, body) in [
        (404, ""),
        (400, "{}"),
        (401, ""),
        (403, "<html>"),
        (405, ""),
        (410, ""),
        (302, ""),
        (501, ""),
        (200, "<html>a single-page application for every path</html>"),
        (204, ""),
        (
            200,
            r#"{"message": "a gateway that does not know the path"}"#,
        ),
    ] {
        let issuer = "https://as.test/tenant/";
        let document = document(issuer).to_string();
        let http = by_path(move |path| match path {
            "/.well-known/oauth-authorization-server/tenant" => answer(status, body),
            "/tenant/.well-known/openid-configuration" => answer(200, document.clone()),
            _ => answer(200, GOOD),
        });
        let endpoint = TokenEndpoint::discover(http.clone(), issuer, basic());
        ask(&endpoint).await.unwrap();
        assert_eq!(http.take_uris().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn the_openid_document_is_fetched_after_a_transient_failure_or_a_wrong_document() {
    let wrong = document("https://evil.test").to_string();
    for (status, body) in [
        (500, String::new()),
        (503, String::new()),
        (429, String::new()),
        (200, wrong),
    ] {
        let http = by_path(move |path| match path {
            OAUTH => answer(status, body.clone()),
            OPENID => answer(200, document(ISSUER).to_string()),
            _ => answer(200, GOOD),
        });
        let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, basic());
        ask(&endpoint).await.unwrap();
        let expected = [OAUTH, OPENID, "/token"].map(|path| format!("{ISSUER}{path}"));
        assert_eq!(http.take_uris(), expected);
    }
}

#[tokio::test]
async fn without_any_document_the_more_informative_status_is_reported() {
    for (oauth, openid, expected) in [(404, 404, 404), (403, 404, 403), (404, 403, 403)] {
        let http = by_path(move |path| match path {
            OAUTH => answer(oauth, ""),
            OPENID => answer(openid, ""),
            _ => answer(200, GOOD),
        });
        let endpoint = TokenEndpoint::discover(http, ISSUER, basic());
        let error = ask(&endpoint).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
        assert_eq!(error.status().unwrap(), expected);
        assert!(error.to_string().contains("check the issuer"), "{error}");
    }
}

#[tokio::test]
async fn retry_after_is_reported() {
    let server = AuthorizationServer::new();
    for path in [OAUTH, OPENID] {
        server.fail_next(Failure::status(503).retry_after(MINUTE).at(path));
    }
    let error = ask(&discover(&server)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(MINUTE));
    assert!(error.is_transient());
}

#[tokio::test]
async fn an_oauth_error_instead_of_metadata_is_not_an_error_response() {
    let http = by_path(|_| answer(400, r#"{"error":"invalid_grant"}"#));
    let endpoint = TokenEndpoint::discover(http, ISSUER, basic());
    let error = ask(&endpoint).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert!(error.error_response().is_none());
}

#[tokio::test(start_paused = true)]
async fn network_failures_are_transient_and_prove_that_nothing_was_processed() {
    for (failure, kind) in [
        (Failure::drop_connection(), TokenErrorKind::Service),
        (Failure::truncate_body(10), TokenErrorKind::Body),
        (Failure::delay(MINUTE), TokenErrorKind::Timeout),
    ] {
        let server = AuthorizationServer::new();
        server.fail_next(failure.clone().at(OAUTH));
        server.fail_next(failure.at(OPENID));
        let http = ServiceBuilder::new()
            .timeout(MINUTE / 2)
            .service(server.clone());
        let endpoint = TokenEndpoint::discover(http, ISSUER, basic());
        let error = ask(&endpoint).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(
            error.to_string().starts_with("the metadata of the issuer"),
            "{error}"
        );
        assert!(error.is_transient() && !error.may_have_been_processed());
        ask(&endpoint).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_one_time_credential_is_sent_once_after_failed_metadata_requests() {
    let server = AuthorizationServer::new();
    let token = server.issue_refresh_token("client", "");
    for path in [OAUTH, OPENID] {
        server.fail_next_n(2, Failure::drop_connection().at(path));
    }
    let endpoint = ServiceBuilder::new()
        .retry(RetryTransient::new())
        .service(discover(&server));

    endpoint
        .oneshot(TokenRequest::refresh_token(token))
        .await
        .unwrap();
    assert_eq!(requests_to(&server, OAUTH), 3);
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test]
async fn metadata_larger_than_the_limit_are_refused() {
    let server = AuthorizationServer::builder()
        .metadata_field("padding", "x".repeat(2000))
        .build();
    let endpoint = discover(&server).max_response_body(2000);
    let error = ask(&endpoint).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::BodyTooLarge);
    assert!(!error.may_have_been_processed());
    assert!(
        error.to_string().contains("larger than 2000 bytes"),
        "{error}"
    );
    ask(&endpoint.max_response_body(4000)).await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere: Uri = "https://evil.test/metadata".parse().unwrap();
    let server = AuthorizationServer::new();
    for path in [OAUTH, OPENID] {
        server.fail_next(Failure::redirect(&elsewhere).at(path));
    }
    let error = ask(&discover(&server)).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert!(
        error.to_string().contains("responded with a redirect"),
        "{error}"
    );
    assert!(!error.may_have_been_processed());
    assert_eq!(server.token_requests(), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed_by_reqwest_either() {
    let elsewhere = Loopback::start(|_| Script::good()).await;
    let location = format!("location: {}\r\n", elsewhere.uri());
    let server = Loopback::start(move |_| Script::answer(307, &location, "")).await;
    let issuer = server.uri().to_string();
    let http = ReqwestService::new(reqwest_client());
    let endpoint = TokenEndpoint::discover(http, issuer, basic());

    let error = ask(&endpoint).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert!(
        error.to_string().contains("responded with a redirect"),
        "{error}"
    );
    assert!(!error.may_have_been_processed());
}

#[tokio::test]
async fn the_mtls_alias_is_used_only_by_tls_clients_and_for_bound_tokens() {
    let mut document = document(ISSUER);
    document["mtls_endpoint_aliases"] = json!({ "token_endpoint": "https://mtls.test/token" });
    let http = with_metadata(&document);
    let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, basic());
    let tls = ClientAuthentication::tls_client_auth("client");
    let by_tls = TokenRequest::client_credentials().client_authentication(tls);
    endpoint.clone().oneshot(by_tls).await.unwrap();
    ask(&endpoint).await.unwrap();
    ask(&endpoint.certificate_bound_tokens()).await.unwrap();

    let uris = http.take_uris();
    let (alias, usual) = ("https://mtls.test/token", "https://as.test/token");
    assert_eq!(uris[1..], [alias, usual, alias]);
}

#[tokio::test]
async fn an_unsupported_client_authentication_method_is_refused_before_anything_is_sent() {
    type Client = ClientAuthentication;
    let all = [
        Client::client_secret_basic("c", "s"),
        Client::client_secret_basic_raw("c", "s"),
        Client::client_secret_post("c", "s"),
        Client::client_assertion("c", "a"),
        Client::tls_client_auth("c"),
        Client::none("c"),
        Client::anonymous(),
        Client::saml2_client_assertion("c", "a"),
    ];
    // What the server lists, and which of the methods above are accepted. The last three always are.
    for (listed, accepted) in [
        (Some(json!(["client_secret_basic"])), vec![0, 1]),
        (Some(json!(["client_secret_post"])), vec![2]),
        (Some(json!(["private_key_jwt"])), vec![3]),
        (Some(json!(["client_secret_jwt"])), vec![3]),
        (Some(json!(["tls_client_auth"])), vec![4]),
        (
            Some(json!(["self_signed_tls_client_auth", "none"])),
            vec![4],
        ),
        (Some(json!([])), vec![]),
        (Some(json!("odd")), vec![0, 1, 2, 3, 4]),
        (None, vec![0, 1, 2, 3, 4]),
    ] {
        let mut document = document(ISSUER);
        if let Some(listed) = &listed {
            document["token_endpoint_auth_methods_supported"] = listed.clone();
        }
        let http = with_metadata(&document);
        for (index, client) in all.iter().enumerate() {
            let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, client.clone());
            let result = ask(&endpoint).await;
            let is_accepted = index >= 5 || accepted.contains(&index);
            assert_eq!(result.is_ok(), is_accepted, "{listed:?} {client:?}");
            assert_eq!(http.take_uris().len(), 1 + usize::from(is_accepted));
            if let Err(error) = result {
                assert_eq!(error.kind(), TokenErrorKind::Request);
                assert!(
                    error.to_string().contains("client authentication method"),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_names_its_token_endpoint_needs_no_discovery() {
    let server = AuthorizationServer::new();
    let request = TokenRequest::client_credentials().token_endpoint(server.token_endpoint());
    discover(&server).oneshot(request).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_invalid_request_causes_no_discovery() {
    let server = AuthorizationServer::new();
    let request = TokenRequest::client_credentials()
        .parameter("scope", "a")
        .parameter("scope", "b");
    discover(&server).oneshot(request).await.unwrap_err();
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_cache_fetches_the_metadata_once() {
    let server = AuthorizationServer::new();
    let tokens = TokenCache::new(discover(&server));
    for scope in ["a", "b", "c"] {
        let request = TokenRequest::client_credentials().scope(scope);
        tokens.source(request).token().await.unwrap();
    }
    assert_eq!(requests_to(&server, OAUTH), 1);
    assert_eq!(server.token_requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn discovery_works_with_a_limit_or_a_buffer_of_one() {
    let server = AuthorizationServer::new();
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(server.clone());
    let buffered = ServiceBuilder::new().buffer(1).service(server.clone());
    let limited = TokenEndpoint::discover(limited, ISSUER, basic());
    let buffered = TokenEndpoint::discover(buffered, ISSUER, basic());
    let all = async {
        for _ in 0..3 {
            let (a, b, c) = tokio::join!(ask(&limited), ask(&limited), ask(&buffered));
            a.unwrap();
            b.unwrap();
            c.unwrap();
        }
    };
    tokio::time::timeout(MINUTE, all).await.unwrap();
    assert_eq!(requests_to(&server, OAUTH), 2);
}

#[tokio::test]
async fn a_service_with_another_body_type_can_be_used() {
    type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;
    let server = AuthorizationServer::new();
    let inner = server.clone();
    let http = service_fn(move |request: Request<Body>| inner.clone().oneshot(request));
    let endpoint = TokenEndpoint::discover(http, ISSUER, basic())
        .request_body(|body| Full::new(body).boxed_unsync());
    let request = TokenRequest::client_credentials();
    endpoint.oneshot(request).await.unwrap();
}

#[tokio::test]
async fn clones_with_other_bodies_and_services_share_one_metadata_request() {
    let server = AuthorizationServer::new();
    let endpoint = discover(&server);
    let mut through = endpoint.clone();
    *through.get_mut() = server.clone();
    let other = endpoint
        .clone()
        .request_body(|body| String::from_utf8(body.to_vec()).unwrap());
    let revocation = other.revocation();
    let request = TokenRequest::client_credentials;
    let (a, b, c, d, e) = tokio::join!(
        other.oneshot(request()),
        ask(&endpoint),
        ask(&through),
        revocation.oneshot(RevocationRequest::new("t")),
        endpoint.metadata(),
    );
    a.unwrap();
    b.unwrap();
    c.unwrap();
    d.unwrap();
    e.unwrap();
    assert_eq!(requests_to(&server, OAUTH), 1);
}

/// The body of the issuer's own requests, too, is made by the function that was set.
#[tokio::test]
async fn the_metadata_request_has_the_body_type_of_the_endpoint() {
    let bodies = Arc::new(AtomicUsize::new(0));
    let counter = bodies.clone();
    let http = service_fn(move |request: Request<String>| {
        counter.fetch_add(1, Ordering::SeqCst);
        let body = match request.uri().path() {
            OAUTH => document(ISSUER).to_string(),
            _ => GOOD.to_owned(),
        };
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let endpoint = TokenEndpoint::discover(http, ISSUER, basic())
        .request_body(|body| String::from_utf8(body.to_vec()).unwrap());
    endpoint.metadata().await.unwrap();
    endpoint
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();
    assert_eq!(bodies.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn metadata_are_fetched_through_the_service_of_the_endpoint_that_needs_them() {
    let old = Recorder::good();
    let mut endpoint = TokenEndpoint::discover(old.clone(), ISSUER, basic());
    let new = Recorder::new(|number| match number {
        0 => answer(200, document(ISSUER).to_string()),
        _ => answer(200, GOOD),
    });
    *endpoint.get_mut() = new.clone();
    endpoint
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();
    assert_eq!((old.calls(), new.calls()), (0, 2));
}

/// `Uri` and `Url` print a slash where there is no path.
#[tokio::test]
async fn an_issuer_can_be_a_text_a_uri_or_a_url() {
    for issuer in [ISSUER, "https://as.test/", "https://as.test/t"] {
        let http = by_path(move |path| match path {
            path if path.starts_with(OAUTH) => answer(200, document(issuer).to_string()),
            _ => answer(200, GOOD),
        });
        let (uri, url): (Uri, url::Url) = (issuer.parse().unwrap(), issuer.parse().unwrap());
        for endpoint in [
            TokenEndpoint::discover(http.clone(), issuer.to_owned(), basic()),
            TokenEndpoint::discover(http.clone(), &uri, basic()),
            TokenEndpoint::discover(http.clone(), uri, basic()),
            TokenEndpoint::discover(http.clone(), &url, basic()),
            TokenEndpoint::discover(http, url, basic()),
        ] {
            ask(&endpoint).await.unwrap();
        }
    }
}

#[test]
fn debug_shows_the_issuer_and_no_secret() {
    let endpoint = discover(&AuthorizationServer::new());
    let debug = format!("{endpoint:?}");
    assert!(debug.contains(ISSUER), "{debug}");
    assert!(!debug.contains("\"secret\""), "{debug}");

    // None of these is a valid issuer, but only the first request reports that.
    for issuer in [
        "https://user:PASSWORD@as.example",
        "https://as.example/?key=PASSWORD",
        "https://as.example/#PASSWORD",
        "PASSWORD is no URI",
    ] {
        let endpoint = TokenEndpoint::discover(Recorder::good(), issuer, basic());
        let debug = format!("{endpoint:?}");
        assert!(!debug.contains("PASSWORD"), "{debug}");
    }
}

/// The clone that asked first gets what it waited for, and the others keep the newer metadata.
#[tokio::test]
async fn an_older_fetch_that_ends_late_does_not_replace_newer_metadata() {
    let (clock, late) = (ManualClock::new(), Arc::new(Notify::new()));
    let (calls, release) = (Arc::new(AtomicUsize::new(0)), late.clone());
    let http = service_fn(move |_: Request<Full<Bytes>>| {
        let (number, release) = (calls.fetch_add(1, Ordering::SeqCst), release.clone());
        async move {
            if number == 0 {
                release.notified().await;
            }
            let mut document = document(ISSUER);
            document["token_endpoint"] = json!(format!("{ISSUER}/token{number}"));
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(document.to_string())))
        }
    });
    let endpoint = TokenEndpoint::discover(http, ISSUER, basic()).metadata_clock(clock.clock());
    let path = |metadata: Arc<ServerMetadata>| metadata.token_endpoint().unwrap().path().to_owned();

    let mut first = task::spawn(endpoint.metadata());
    assert_pending!(first.poll());
    clock.advance(MINUTE);
    assert_eq!(path(endpoint.metadata().await.unwrap()), "/token1");

    late.notify_one();
    assert_eq!(path(assert_ready_ok!(first.poll())), "/token0");
    assert_eq!(path(endpoint.metadata().await.unwrap()), "/token1");
}

#[tokio::test]
async fn the_audience_of_a_signed_assertion_is_the_issuer() {
    let document = document(ISSUER).to_string();
    let http = Recorder::new(move |number| match number {
        0 => answer(200, document.clone()),
        _ => answer(200, GOOD),
    });
    let secret = "0".repeat(32);
    let client = ClientAuthentication::client_secret_jwt("c", secret, SigningAlgorithm::HS256);
    let endpoint = TokenEndpoint::discover(http.clone(), ISSUER, client);
    endpoint
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();
    let sent = http.take();
    let mut pairs = form(sent[1].body()).into_iter();
    let (_, assertion) = pairs.find(|(name, _)| name == "client_assertion").unwrap();
    let claims = assertion.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], ISSUER);
}

#[tokio::test]
async fn an_issuer_shares_its_metadata_with_its_endpoints() {
    let http = with_metadata(&document(ISSUER));
    let issuer = Issuer::new(http.clone(), ISSUER);
    assert_eq!(issuer.as_str(), ISSUER);
    assert_eq!(http.take_uris(), [""; 0]);

    let metadata = issuer.metadata().await.unwrap();
    assert_eq!(metadata.issuer(), ISSUER);
    ask(&issuer.token_endpoint(basic())).await.unwrap();
    ask(&issuer.clone().token_endpoint(basic())).await.unwrap();
    assert!(Arc::ptr_eq(&metadata, &issuer.metadata().await.unwrap()));

    let token = format!("{ISSUER}/token");
    assert_eq!(
        http.take_uris(),
        [format!("{ISSUER}{OAUTH}"), token.clone(), token]
    );
}

#[tokio::test]
async fn an_issuer_has_its_metadata_at_any_of_the_well_known_addresses() {
    const TENANT: &str = "https://as.test/t";
    let addresses = [
        "/.well-known/oauth-authorization-server/t",
        "/t/.well-known/openid-configuration",
        "/.well-known/openid-configuration/t",
    ];
    for (index, at) in addresses.into_iter().enumerate() {
        // Without a token endpoint, too.
        let found =
            json!({ "issuer": TENANT, "authorization_endpoint": "https://as.test/authorize" });
        let http = by_path(move |path| match path == at {
            true => answer(200, found.to_string()),
            false => answer(404, ""),
        });
        let metadata = Issuer::new(http.clone(), TENANT).metadata().await.unwrap();
        assert_eq!(
            *metadata.authorization_endpoint().unwrap(),
            "https://as.test/authorize"
        );
        let asked = http.take_uris();
        // A document without a token endpoint may not be the best.
        assert_eq!(asked.len(), 3, "{index} {asked:?}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_not_that_of_the_document_has_no_metadata() {
    for named in [
        "https://as.test/t/",
        "https://as.test",
        "https://AS.test/t",
        "https://as.test:443/t",
        "https://other.test/t",
        "http://as.test/t",
    ] {
        let found = document(named).to_string();
        let http = by_path(move |_| answer(200, found.clone()));
        let error = Issuer::new(http, "https://as.test/t").metadata().await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse, "{named}");
        assert!(error.to_string().contains("another issuer"), "{error}");
    }
}

#[tokio::test]
async fn an_internal_issuer_gets_no_request_if_only_public_ones_may_be_used() {
    for internal in [
        "http://localhost:1",
        "https://localhost./t",
        "https://127.0.0.1",
        "https://127.1",
        "https://2130706433",
        "https://0x7f.0.0.1",
        "https://017700000001",
        "https://[::1]",
        "https://[::ffff:127.0.0.1]",
        "https://[::ffff:a9fe:a9fe]",
        "https://10.1.2.3/t",
        "https://169.254.169.254",
        "https://metadata.google.internal",
        "https://keycloak",
    ] {
        let document = document(internal).to_string();
        let http = by_path(move |_| answer(200, document.clone()));
        let issuer = Issuer::new(http.clone(), internal);
        let strict = issuer.clone().public_addresses_only();
        let error = strict.metadata().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request, "{internal}");
        assert!(error.to_string().contains("the issuer "), "{error}");
        ask(&strict.token_endpoint(basic())).await.unwrap_err();
        assert_eq!(http.take_uris(), [""; 0], "{internal}");

        if internal.starts_with("https") {
            issuer.metadata().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_public_issuer_cannot_send_secrets_to_an_internal_endpoint() {
    for endpoint in [
        "https://localhost./token",
        "https://192.168.0.1/token",
        "https://[::ffff:10.0.0.1]/token",
        "https://0300.0250.1/token",
        "https://vault.internal/token",
    ] {
        let document = json!({
            "issuer": ISSUER,
            "token_endpoint": endpoint,
            "authorization_endpoint": endpoint,
            "revocation_endpoint": endpoint,
            "mtls_endpoint_aliases": { "revocation_endpoint": endpoint },
        });
        let http = with_metadata(&document);
        let issuer = Issuer::new(http.clone(), ISSUER).public_addresses_only();
        let metadata = issuer.metadata().await.unwrap();
        assert_eq!(metadata.token_endpoint(), None, "{endpoint}");
        assert_eq!(metadata.authorization_endpoint(), None, "{endpoint}");
        assert_eq!(metadata.mtls_endpoint_alias("revocation_endpoint"), None);

        let tokens = issuer.token_endpoint(basic());
        let error = ask(&tokens).await.unwrap_err();
        assert!(error.to_string().contains("`token_endpoint`"), "{error}");
        let request = RevocationRequest::new("R");
        tokens.revocation().oneshot(request).await.unwrap_err();
        let asked = http.take_uris();
        assert!(
            asked.iter().all(|uri| uri.contains("/.well-known/")),
            "{asked:?}"
        );
    }
}

#[test]
fn the_debug_output_of_an_issuer_shows_no_query() {
    let issuer = Issuer::new(AuthorizationServer::new(), "https://u:p@as.test/?key=k");
    assert_eq!(format!("{issuer:?}"), "Issuer(https://as.test/?..)");
}
