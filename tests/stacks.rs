//! `TokenEndpoint` over HTTP clients, and over and under the layers of tower.

mod support;

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use axum::{Form, Json, Router, body::Body, extract::State, http::HeaderMap, routing::post};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{
    Service, ServiceBuilder, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, retry::Retry,
    service_fn, timeout::Timeout, util::BoxCloneSyncService,
};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, HttpsClient, ReqwestService, TokenEndpoint,
    TokenError, TokenErrorKind, TokenRequest, TokenResponse, token_endpoint::RetryTransient,
};

use self::support::{
    GOOD, HttpsServer, HyperClient, Loopback, Recorder, Script, URI, answer, hyper_client,
    reqwest_client,
};

const ATTEMPT: Duration = Duration::from_secs(5);

fn client() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("c", "s")
}

fn endpoint<S>(http: S) -> TokenEndpoint<S> {
    TokenEndpoint::new(http, URI, client())
}

fn request() -> TokenRequest {
    TokenRequest::client_credentials().scope("api1")
}

/// Sends three requests through one stack, since a stack may work only once.
async fn works<S>(stack: S)
where
    S: Service<TokenRequest, Response = TokenResponse> + Clone,
    S::Error: std::fmt::Debug,
{
    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("secret") });
    let provided =
        request().client_authentication(ClientAuthentication::client_secret_basic("c", provided));
    for request in [request(), provided, request()] {
        // Far longer than any request takes: only a deadlock reaches it.
        let response =
            tokio::time::timeout(Duration::from_secs(60), stack.clone().oneshot(request))
                .await
                .expect("no deadlock")
                .unwrap();
        assert_eq!(response.access_token().expose_secret(), "T");
        assert_eq!(response.expires_in(), Some(Duration::from_secs(3600)));
    }
}

/// Checks the requests on the wire. Each must have a length: some servers reject chunked requests.
fn check_sent(server: &Loopback, expected: usize) {
    let requests = server.requests();
    assert_eq!(requests.len(), expected);
    for request in requests {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /token http/1.1\r\n"), "{head}");
        let length = format!("content-length: {}", body.len());
        for line in [
            &*length,
            "content-type: application/x-www-form-urlencoded",
            "accept: application/json",
        ] {
            let found = head.lines().filter(|found| *found == line).count();
            assert_eq!(found, 1, "{line}: {head}");
        }
        assert_eq!(body, "grant_type=client_credentials&scope=api1");
    }
}

#[tokio::test]
async fn token_requests_work_over_hyper() {
    let server = Loopback::start(|_| Script::good()).await;
    works(TokenEndpoint::new(hyper_client(), server.uri(), client())).await;
    check_sent(&server, 3);
}

#[tokio::test]
async fn token_requests_work_over_reqwest() {
    let server = Loopback::start(|_| Script::good()).await;
    let http = ReqwestService::new(reqwest_client());
    works(TokenEndpoint::new(http, server.uri(), client())).await;
    check_sent(&server, 3);
}

/// reqwest makes up a URL for a response that has none.
#[tokio::test]
async fn a_response_converted_back_to_reqwest_keeps_its_url() {
    let server = Loopback::start(|number| match number {
        0 => Script::answer(302, "location: /moved\r\n", ""),
        _ => Script::answer(404, "", ""),
    })
    .await;
    let client = reqwest_client();
    let request = client.get(server.uri().to_string()).build().unwrap();
    let request = Request::try_from(request).unwrap();
    let response = ReqwestService::new(client).oneshot(request).await;
    let response = reqwest::Response::from(response.unwrap());
    assert_eq!(response.url().path(), "/moved");
    assert_eq!(response.url().port(), server.uri().port_u16());
    let error = response.error_for_status().unwrap_err();
    assert!(error.to_string().contains("/moved"), "{error}");
}

#[tokio::test]
async fn token_requests_work_over_the_https_client_with_plain_http_on_loopback() {
    let server = Loopback::start(|_| Script::good()).await;
    let http = HttpsClient::new().unwrap();
    works(TokenEndpoint::new(http, server.uri(), client())).await;
    check_sent(&server, 3);
}

#[tokio::test]
async fn token_requests_work_over_hyper_and_rustls_with_a_private_ca() {
    let server = HttpsServer::start().await;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(server.roots())
        .with_no_client_auth();
    for only_http1 in [true, false] {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config.clone())
            .https_only();
        let connector = match only_http1 {
            true => connector.enable_http1().build(),
            false => connector.enable_all_versions().build(),
        };
        let http: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        works(TokenEndpoint::new(http, server.uri(), client())).await;
    }
    let (one, two) = (Version::HTTP_11, Version::HTTP_2);
    assert_eq!(server.versions(), [one, one, one, two, two, two]);
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_with_an_untrusted_certificate() {
    let server = HttpsServer::start().await;
    let http = HttpsClient::new().unwrap();
    let error = TokenEndpoint::new(http, server.uri(), client())
        .oneshot(TokenRequest::refresh_token("r"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert!(!error.may_have_been_processed());
    assert!(server.versions().is_empty());
}

#[tokio::test]
async fn token_requests_work_over_a_function() {
    let http = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(GOOD))))
    });
    works(endpoint(http)).await;
}

#[tokio::test]
async fn token_requests_work_over_an_axum_router() {
    type Seen = Arc<Mutex<Vec<Vec<(String, String)>>>>;

    async fn token(
        State(seen): State<Seen>,
        headers: HeaderMap,
        Form(form): Form<Vec<(String, String)>>,
    ) -> Json<Value> {
        assert_eq!(support::basic(&headers).split_once(':').unwrap().0, "c");
        seen.lock().unwrap().push(form);
        Json(json!({"access_token": "T", "token_type": "Bearer", "expires_in": 3600}))
    }

    let seen = Seen::default();
    let router: Router = Router::new()
        .route("/token", post(token))
        .with_state(seen.clone());
    works(endpoint(router).request_body(Body::from)).await;
    let expected = support::owned(&[("grant_type", "client_credentials"), ("scope", "api1")]);
    assert_eq!(*seen.lock().unwrap(), vec![expected; 3]);
}

#[tokio::test(start_paused = true)]
async fn token_requests_work_over_the_layers_of_tower() {
    works(endpoint(Buffer::new(Recorder::good(), 1))).await;
    works(endpoint(ConcurrencyLimit::new(Recorder::good(), 1))).await;
    works(endpoint(Timeout::new(Recorder::good(), ATTEMPT))).await;
    let all = ServiceBuilder::new()
        .buffer(1)
        .concurrency_limit(1)
        .timeout(ATTEMPT)
        .service(Recorder::good());
    works(endpoint(all)).await;
}

#[tokio::test(start_paused = true)]
async fn token_requests_work_under_the_layers_of_tower() {
    let recorder = Recorder::good();
    works(Buffer::new(endpoint(recorder.clone()), 1)).await;
    works(ConcurrencyLimit::new(endpoint(recorder.clone()), 1)).await;
    works(Timeout::new(endpoint(recorder.clone()), ATTEMPT)).await;
    works(BoxCloneSyncService::new(endpoint(recorder.clone()))).await;
    works(
        ServiceBuilder::new()
            .load_shed()
            .service(endpoint(recorder)),
    )
    .await;
}

/// `tower_test::mock` panics when a service is called that was not made ready.
#[tokio::test]
async fn the_instance_that_was_made_ready_is_called() {
    let (http, mut server) =
        tower_test::mock::pair::<Request<Full<Bytes>>, Response<Full<Bytes>>>();
    server.allow(0);
    let mut endpoint = task::spawn(endpoint(http));
    assert_pending!(endpoint.enter(|cx, mut endpoint| endpoint.poll_ready(cx)));
    server.allow(1);
    assert_ready_ok!(endpoint.enter(|cx, mut endpoint| endpoint.poll_ready(cx)));
    let mut sending = task::spawn(endpoint.enter(|_, mut endpoint| endpoint.call(request())));
    assert_pending!(sending.poll());
    let (_, respond) = server.next_request().await.unwrap();
    respond.send_response(answer(200, GOOD).unwrap());
    assert!(sending.is_woken());
    assert_ready_ok!(sending.poll());
}

#[tokio::test]
async fn a_clone_is_made_ready_before_it_is_called_after_a_credential_provider() {
    let (http, mut server) =
        tower_test::mock::pair::<Request<Full<Bytes>>, Response<Full<Bytes>>>();
    server.allow(1);
    let mut endpoint = task::spawn(endpoint(http));
    assert_ready_ok!(endpoint.enter(|cx, mut endpoint| endpoint.poll_ready(cx)));
    let provided = Credential::from_fn(|| async { Ok::<_, Infallible>("a") });
    let request = TokenRequest::jwt_bearer(provided);
    server.allow(0);
    let mut sending = task::spawn(endpoint.enter(|_, mut endpoint| endpoint.call(request)));
    assert_pending!(sending.poll());
    server.allow(1);
    assert_pending!(sending.poll());
    let (_, respond) = server.next_request().await.unwrap();
    respond.send_response(answer(200, GOOD).unwrap());
    assert_ready_ok!(sending.poll());
}

#[tokio::test]
async fn an_error_of_poll_ready_is_a_service_error() {
    let (http, mut server) =
        tower_test::mock::pair::<Request<Full<Bytes>>, Response<Full<Bytes>>>();
    server.send_error("the pool is closed");
    let error = endpoint(http).ready().await.err().unwrap();
    check_not_ready(&error);
}

/// The service never got the request.
fn check_not_ready(error: &TokenError) {
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert_eq!(error.status(), None);
    assert!(!error.may_have_been_processed(), "{error:?}");
}

#[tokio::test]
async fn an_error_of_poll_ready_after_a_credential_provider_is_a_service_error() {
    let (http, mut server) =
        tower_test::mock::pair::<Request<Full<Bytes>>, Response<Full<Bytes>>>();
    server.allow(1);
    let secret = Credential::from_fn(|| async { Ok::<_, Infallible>("s") });
    let mut endpoint = endpoint(http);
    let request =
        request().client_authentication(ClientAuthentication::client_secret_post("c", secret));
    let sending = endpoint.ready().await.unwrap().call(request);
    drop(endpoint);
    server.send_error("the pool is closed");
    check_not_ready(&sending.await.unwrap_err());
}

/// Without a runtime there is no timer for the pause.
#[test]
fn without_a_runtime_a_failed_request_is_not_retried() {
    check_that_nothing_is_retried();
}

#[test]
fn in_a_runtime_without_timers_a_failed_request_is_not_retried() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async { check_that_nothing_is_retried() });
}

fn check_that_nothing_is_retried() {
    let recorder = Recorder::new(|_| answer(503, ""));
    let endpoint = recorder.endpoint(client());
    let mut sending = task::spawn(Retry::new(RetryTransient::new(), endpoint).oneshot(request()));
    let Poll::Ready(Err(error)) = sending.poll() else {
        panic!("the failure is not returned at once");
    };
    assert_eq!(error.status().unwrap(), 503);
    assert_eq!(recorder.calls(), 1);
}

/// When each attempt began.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<Vec<tokio::time::Instant>>>);

impl Attempts {
    #[allow(clippy::disallowed_methods, reason = "the paused clock of the test")]
    fn note(&self) -> usize {
        let mut attempts = self.0.lock().unwrap();
        attempts.push(tokio::time::Instant::now());
        attempts.len()
    }

    fn gaps(&self) -> Vec<Duration> {
        let attempts = self.0.lock().unwrap();
        attempts.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

/// An HTTP service that answers the first request with 503, never answers the second, and answers later ones with a token.
fn recovering(
    attempts: Attempts,
) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |_: Request<Full<Bytes>>| {
        let number = attempts.note();
        async move {
            match number {
                1 => answer(503, ""),
                2 => std::future::pending().await,
                _ => answer(200, GOOD),
            }
        }
    })
}

/// Checks that the pause after an attempt lies in the upper half of its window. The timer of tokio has a resolution of a
/// millisecond.
fn check_gap(gap: Duration, attempt: Duration, window: Duration) {
    let pause = gap - attempt;
    let most = window + Duration::from_millis(2);
    assert!((window / 2..=most).contains(&pause), "{gap:?}");
}

const FIRST: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_millis(400);

#[tokio::test(start_paused = true)]
async fn a_timeout_below_a_retry_limits_each_attempt() {
    let attempts = Attempts::default();
    let stack = ServiceBuilder::new()
        .retry(RetryTransient::new())
        .timeout(ATTEMPT)
        .service(endpoint(recovering(attempts.clone())));
    let response = stack.oneshot(request()).await.unwrap();
    assert_eq!(response.access_token().expose_secret(), "T");
    let gaps = attempts.gaps();
    assert_eq!(gaps.len(), 2);
    check_gap(gaps[0], Duration::ZERO, FIRST);
    check_gap(gaps[1], ATTEMPT, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_below_the_endpoint_limits_each_attempt() {
    let attempts = Attempts::default();
    let http = Timeout::new(recovering(attempts.clone()), ATTEMPT);
    let stack = Retry::new(RetryTransient::new(), endpoint(http));
    let response: Result<TokenResponse, TokenError> = stack.oneshot(request()).await;
    assert_eq!(response.unwrap().access_token().expose_secret(), "T");
    let gaps = attempts.gaps();
    assert_eq!(gaps.len(), 2);
    check_gap(gaps[0], Duration::ZERO, FIRST);
    check_gap(gaps[1], ATTEMPT, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_above_a_retry_limits_all_attempts_together() {
    let attempts = Attempts::default();
    let stack = ServiceBuilder::new()
        .timeout(ATTEMPT)
        .retry(RetryTransient::new())
        .service(endpoint(recovering(attempts.clone())));
    let error: BoxError = stack.oneshot(request()).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error:?}");
    assert_eq!(attempts.gaps().len(), 1, "the second attempt never ends");
}

#[tokio::test(start_paused = true)]
async fn retries_end_and_each_window_of_a_pause_doubles() {
    let attempts = Attempts::default();
    let noted = attempts.clone();
    let recorder = Recorder::new(move |_| {
        noted.note();
        answer(503, "")
    });
    let mut stack = Retry::new(RetryTransient::new(), endpoint(recorder.clone()));
    for calls in [4, 8] {
        let error = stack.ready().await.unwrap().call(request()).await;
        assert_eq!(error.unwrap_err().status().unwrap(), 503);
        assert_eq!(
            recorder.calls(),
            calls,
            "each request has retries of its own"
        );
    }
    let gaps = attempts.gaps();
    for (gap, window) in gaps.iter().zip([200, 400, 800]) {
        check_gap(*gap, Duration::ZERO, Duration::from_millis(window));
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_is_not_retried() {
    for (status, body) in [
        (400, r#"{"error":"invalid_grant"}"#),
        (401, r#"{"error":"invalid_client"}"#),
        (404, ""),
        (302, ""),
        (200, "{}"),
    ] {
        let recorder = Recorder::new(move |_| answer(status, body));
        let stack = Retry::new(RetryTransient::new(), endpoint(recorder.clone()));
        stack.oneshot(request()).await.unwrap_err();
        assert_eq!(recorder.calls(), 1, "{status} {body}");
    }
    let recorder = Recorder::good();
    let stack = Retry::new(RetryTransient::new(), endpoint(recorder.clone()));
    stack
        .oneshot(TokenRequest::extension(""))
        .await
        .unwrap_err();
    assert_eq!(recorder.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_before_a_retry_holds_no_permit() {
    let attempts = Attempts::default();
    let http = ConcurrencyLimit::new(recovering(attempts.clone()), 1);
    let http = Timeout::new(http, ATTEMPT);
    let endpoint = endpoint(http);
    let (first, second) = tokio::join!(
        Retry::new(RetryTransient::new(), endpoint.clone()).oneshot(request()),
        Retry::new(RetryTransient::new(), endpoint).oneshot(request()),
    );
    first.unwrap();
    second.unwrap();
    assert_eq!(attempts.gaps().len(), 3);
}

#[test]
fn an_endpoint_over_hyper_and_its_future_are_send() {
    fn is_handle<T: Clone + Send + Sync + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    fn future_is_sent<S>(_: &S)
    where
        S: Service<TokenRequest>,
        S::Future: Future + Send + 'static,
    {
    }

    is_handle::<TokenEndpoint<HyperClient>>();
    is_handle::<TokenEndpoint<HttpsClient>>();
    is_handle::<TokenEndpoint<ReqwestService<Full<Bytes>>>>();
    is_handle::<TokenRequest>();
    is_handle::<TokenResponse>();
    is_handle::<ClientAuthentication>();
    is_sent::<<TokenEndpoint<HyperClient> as Service<TokenRequest>>::Future>();
    is_sent::<<TokenEndpoint<HttpsClient> as Service<TokenRequest>>::Future>();
    is_sent::<<TokenEndpoint<ReqwestService<Full<Bytes>>> as Service<TokenRequest>>::Future>();
    future_is_sent(&endpoint(recovering(Attempts::default())));
    future_is_sent(&Retry::new(
        RetryTransient::new(),
        endpoint(Recorder::good()),
    ));
}
