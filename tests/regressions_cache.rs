//! One test for each bug that another client shipped in its token cache or layer. Row numbers refer to the project's list of them.
#![cfg(feature = "test-util")]

mod cache_support;
#[path = "support/log.rs"]
mod log;

use std::{
    error::Error,
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    task::Poll,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use tokio::time::{advance, timeout};
use tokio_test::{assert_pending, task};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, util::BoxCloneSyncService,
};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, Credential, TokenCache,
    TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenResponse, TokenSource, TokenType,
    add_access_token::{AccessTokenRefused, CloneBody, InsecureTransport},
    test_util::{AuthorizationServer, Failure, ManualClock},
};

use self::{
    cache_support::{
        API, Api, Body, Endpoint, Fixture, Http, api_layer, at_once, bearer, call, call_all,
        call_to, client, endpoint, millis, network, request, secs, settle, token_texts,
    },
    log::Log,
};

/// One failure of each kind. Those that hang end at the fetch timeout.
fn failures() -> Vec<Failure> {
    let unusable = br#"{"access_token":"t","token_type":"N_A","expires_in":3600}"#;
    vec![
        Failure::status(503),
        Failure::status(429).retry_after(secs(1)),
        Failure::oauth("invalid_client"),
        Failure::oauth("invalid_grant"),
        Failure::drop_connection(),
        Failure::drop_connection().after_processing(),
        Failure::garbage(),
        Failure::truncate_body(10),
        Failure::stall().delayed(secs(1)),
        Failure::stall_body(10),
        Failure::redirect("https://elsewhere.test/token"),
        Failure::status(200).body("{}"),
        Failure::status(200)
            .content_type("application/json")
            .body(Bytes::from_static(unusable)),
    ]
}

fn is_refused<B>(response: &Response<B>) -> bool {
    response.extensions().get::<AccessTokenRefused>().is_some()
}

/// Row 1 (google-cloud-rust #5809, azure-sdk-for-rust #2611).
#[tokio::test(start_paused = true)]
async fn a_failed_renewal_does_not_replace_a_valid_token() {
    for failure in failures() {
        let fixture = Fixture::with_lifetime(secs(1000));
        let source = fixture.source();
        let api = Api::checking(&fixture.server);
        let mut service = api_layer(source.clone()).layer(api.clone());
        let token = source.token().await.unwrap();
        fixture.server.fail_until_told(failure.clone());

        source.renew().await.unwrap_err();
        assert_eq!(at_once(source.token()).unwrap(), token, "{failure:?}");
        advance(secs(500)).await;
        for _ in 0..44 {
            assert_eq!(at_once(source.token()).unwrap(), token, "{failure:?}");
            let response = service.ready().await.unwrap().call(call());
            assert_eq!(at_once(response).unwrap().status(), StatusCode::OK);
            settle().await;
            advance(secs(10)).await;
        }
        assert!(fixture.requests() > 3, "there were no renewals");
    }
}

/// Row 3 (gcp_auth, yup-oauth2, Spring Security #11461, octocrab): callers that had waited must not send a second request.
#[tokio::test(start_paused = true)]
async fn callers_that_arrive_at_expiry_share_one_fetch() {
    let (fixture, source) = Fixture::with_source();
    for fetches in 1..=3 {
        fixture.server.fail_next(Failure::delay(secs(2)));
        let mut waves = Vec::new();
        for _ in 0..4 {
            let source = source.clone();
            waves.push(tokio::spawn(async move { call_all(&source, 2_500).await }));
            settle().await;
            advance(millis(500)).await;
        }
        let mut tokens = Vec::new();
        for wave in waves {
            tokens.extend(wave.await.unwrap());
        }
        assert_eq!(tokens.len(), 10_000);
        assert_eq!(token_texts(tokens).len(), 1);
        assert_eq!(fixture.requests(), fetches);
        advance(secs(95)).await;
        assert!(source.peek().is_none());
    }
}

/// Row 4 (azure_identity, gcp_auth): the map's write lock was held during network requests.
#[tokio::test(start_paused = true)]
async fn a_miss_on_one_key_does_not_delay_a_hit_on_another() {
    let fixture = Fixture::new();
    let slow = fixture.cache.source(request().parameter("tenant", "slow"));
    let fast = fixture.source();
    let token = fast.token().await.unwrap();
    fixture
        .server
        .fail_when(|request| (request.get("tenant") == Some("slow")).then(Failure::stall));

    let mut missing = task::spawn(slow.token());
    assert_pending!(missing.poll());
    settle().await;
    assert_eq!(fixture.requests(), 2);
    assert_eq!(at_once(fast.token()).unwrap(), token);
    assert_eq!(at_once(fixture.source().token()).unwrap(), token);
    // A miss on a third key is not delayed either.
    let third = fixture.cache.source(request().parameter("tenant", "third"));
    let mut third = task::spawn(third.token());
    assert_pending!(third.poll());
    settle().await;
    assert!(third.is_woken());
    assert!(!missing.is_woken());
}

/// Row 5 (golang/oauth2 #388, hyper-util #299, IdentityModel introspection #177).
#[tokio::test(start_paused = true)]
async fn a_fetch_completes_for_other_callers_after_the_first_caller_is_gone() {
    type Disappear = fn(TokenSource) -> tokio::task::JoinHandle<()>;
    let is_dropped: Disappear = |source| {
        tokio::spawn(async move {
            let mut caller = task::spawn(source.token());
            assert_pending!(caller.poll());
        })
    };
    let times_out: Disappear = |source| {
        tokio::spawn(async move {
            timeout(millis(500), source.token()).await.unwrap_err();
        })
    };
    let panics: Disappear = |source| {
        tokio::spawn(async move {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let mut caller = task::spawn(source.token());
                assert_pending!(caller.poll());
                panic!("intended by the test");
            }));
            panicked.unwrap_err();
        })
    };
    let is_aborted: Disappear = |source| {
        let caller = tokio::spawn(async move { source.token().await.map(drop).unwrap() });
        let abort = caller.abort_handle();
        tokio::spawn(async move {
            settle().await;
            abort.abort();
            assert!(caller.await.unwrap_err().is_cancelled());
        })
    };
    for disappear in [is_dropped, times_out, panics, is_aborted] {
        let (fixture, source) = Fixture::with_source();
        fixture.server.fail_next(Failure::delay(secs(2)));
        let first = disappear(source.clone());
        // It is the first caller, so it starts the fetch.
        tokio::task::yield_now().await;
        settle().await;
        assert_eq!(fixture.requests(), 1);
        let rest = call_all(&source, 100);
        first.await.unwrap();
        assert_eq!(token_texts(rest.await).len(), 1);
        assert_eq!(fixture.requests(), 1);
    }
}

/// Row 6 (azure_core, Duende AccessTokenManagement).
#[tokio::test(start_paused = true)]
async fn a_late_401_for_the_old_token_does_not_drop_the_new_one() {
    let (fixture, source) = Fixture::with_source();
    let api = Api::checking(&fixture.server);
    let mut service = api_layer(source.clone()).layer(api.clone());
    let old = source.token().await.unwrap();
    // These are sent with the old token and answered late.
    let late: Vec<_> = (0..10).map(|_| service.call(call())).collect();
    fixture.server.revoke(old.expose_secret());
    assert!(is_refused(&service.call(call()).await.unwrap()));
    let new = source.token().await.unwrap();
    assert_ne!(new, old);

    for response in late {
        assert!(is_refused(&response.await.unwrap()));
        assert_eq!(source.peek(), Some(new.clone()));
        source.invalidate(&old);
        assert_eq!(source.peek(), Some(new.clone()));
    }
    assert_eq!(fixture.requests(), 2);
    // They did not count as refusals either, so the next refusal takes effect at once.
    source.invalidate(&new);
    assert!(source.peek().is_none());
}

/// Row 6, from the point of view of the authorization server.
#[tokio::test(start_paused = true)]
async fn a_burst_of_401s_causes_one_fetch() {
    for is_resent in [false, true] {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let source = fixture.source();
        source.warm_up().await.unwrap();
        fixture.server.revoke_all();
        fixture.server.fail_next(Failure::delay(secs(1)));
        let calls: Vec<_> = (0..1_000)
            .map(|_| {
                let (source, api) = (source.clone(), api.clone());
                tokio::spawn(async move {
                    let layer = api_layer(source);
                    match is_resent {
                        true => layer.resend(CloneBody).layer(api).oneshot(call()).await,
                        false => layer.layer(api).oneshot(call()).await,
                    }
                })
            })
            .collect();
        for call in calls {
            let response = call.await.unwrap().unwrap();
            if is_resent {
                assert_eq!(response.status(), StatusCode::OK);
            }
        }
        source.token().await.unwrap();
        assert_eq!(fixture.requests(), 2);
    }
}

/// Row 7 (cf-gears).
#[tokio::test(start_paused = true)]
async fn a_refused_token_that_the_server_returns_again_is_not_resent() {
    let fixture = Fixture::new();
    fixture.server.same_token(true);
    let source = fixture.source();
    source.warm_up().await.unwrap();
    fixture.server.revoke_all();
    let api = Api::checking(&fixture.server);
    let layer = api_layer(source).resend(CloneBody);
    let service = layer.layer(api.clone());
    for sent in 1..=100 {
        let response = service.clone().oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        assert!(is_refused(&response));
        assert_eq!(api.requests(), sent, "the refused token was sent again");
    }
    // Until the pause begins, it looks as if another replica revoked each token.
    assert_eq!(
        fixture.requests(),
        5,
        "expected one fetch and four renewals"
    );
}

/// Row 9 (Duende, where two tenants shared one token; Duende Support #634 and #1396, azure_identity).
#[tokio::test(start_paused = true)]
async fn the_key_covers_everything_that_can_change_the_token_except_scope_order() {
    let base = || TokenRequest::client_credentials();
    let client = |id: &'static str, secret: &str| {
        let client = ClientAuthentication::client_secret_basic(id, secret);
        base().client_authentication(client)
    };
    let provider = Credential::from_fn(|| async { Ok::<_, BoxError>("assertion") });
    let other = Credential::from_fn(|| async { Ok::<_, BoxError>("assertion") });
    let uri = |uri| base().token_endpoint(uri);
    let different = [
        base(),
        base().scope("a"),
        base().scope("a b"),
        base().scope("A"),
        base().resource("a"),
        base().resource("a").resource("b"),
        base().audience("a"),
        base().audience("a").audience("b"),
        base().parameter("tenant", "blue"),
        base().parameter("tenant", "red"),
        base().parameter("Tenant", "blue"),
        base().parameter("tenant", "blue").parameter("x", "1"),
        base().repeated_parameter("x", "1"),
        base()
            .repeated_parameter("x", "1")
            .repeated_parameter("x", "2"),
        base().header("x-tenant", "blue"),
        base().header("x-tenant", "red"),
        base().header("x-other", "blue"),
        client("client", "secret"),
        client("client", "other"),
        client("other", "secret"),
        base().client_authentication(ClientAuthentication::client_secret_post("client", "secret")),
        base().client_authentication(ClientAuthentication::none("client")),
        base().client_authentication(ClientAuthentication::tls_client_auth("client")),
        uri("https://blue.test/token"),
        uri("https://red.test/token"),
        uri("https://blue.test/Token"),
        TokenRequest::password("ann", "secret"),
        TokenRequest::password("ann", "other"),
        TokenRequest::password("bob", "secret"),
        TokenRequest::refresh_token("secret"),
        TokenRequest::jwt_bearer("secret"),
        TokenRequest::saml2_bearer("secret"),
        TokenRequest::jwt_bearer(provider.clone()),
        TokenRequest::jwt_bearer(other.clone()),
        TokenRequest::jwt_bearer(provider.clone().named("blue")),
        TokenRequest::jwt_bearer(provider.clone().named("red")),
        TokenRequest::token_exchange("secret", "urn:a"),
        TokenRequest::token_exchange("secret", "urn:b"),
        TokenRequest::token_exchange("secret", "urn:a").actor_token("x", "urn:a"),
        TokenRequest::token_exchange("secret", "urn:a").requested_token_type("urn:b"),
    ];
    // They must differ by comparison, not only by hash.
    for (n, one) in different.iter().enumerate() {
        for another in &different[n + 1..] {
            assert_ne!(one, another);
        }
    }
    let endpoint = Endpoint::counting();
    let cache = TokenCache::new(endpoint.clone());
    for (n, request) in different.iter().enumerate() {
        let token = cache.source(request.clone()).token().await.unwrap();
        assert_eq!(
            token.expose_secret(),
            format!("token-{}", n + 1),
            "{request:?}"
        );
    }
    for (n, request) in different.iter().enumerate() {
        let token = at_once(cache.source(request.clone()).token()).unwrap();
        assert_eq!(
            token.expose_secret(),
            format!("token-{}", n + 1),
            "{request:?}"
        );
    }

    let same = [
        (base(), base().scope("")),
        (base().scope("a b"), base().scope("b a")),
        (base().scope("a b"), base().scope(" a  b ")),
        (base().scope("a b"), base().parameter("scope", "b a")),
        (client("client", "secret"), client("client", "secret")),
        (
            TokenRequest::jwt_bearer(provider.clone().named("blue")),
            TokenRequest::jwt_bearer(other.named("blue")),
        ),
        (
            base().header("x-tenant", "blue"),
            base().header("X-Tenant", "blue"),
        ),
    ];
    for (one, another) in same {
        let token = cache.source(one.clone()).token().await.unwrap();
        let shared = at_once(cache.source(another).token()).unwrap();
        assert_eq!(token, shared, "{one:?}");
    }
    assert_eq!(endpoint.calls(), different.len());
}

/// Row 10 (Duende): the request was sent without a token.
#[tokio::test(start_paused = true)]
async fn no_request_is_sent_without_a_token() {
    for failure in failures() {
        let fixture = Fixture::new();
        fixture.server.fail_until_told(failure.clone());
        let api = Api::content();
        let service = api_layer(fixture.source()).layer(api.clone());
        // The second request falls into the pause.
        for _ in 0..2 {
            let error = service.clone().oneshot(call()).await.unwrap_err();
            let error = TokenError::find_in_chain(&*error).expect("not a token error");
            assert_eq!(
                error.to_string(),
                at_once(fixture.source().token()).unwrap_err().to_string()
            );
        }
        assert_eq!(api.requests(), 0, "{failure:?}");
        fixture.server.recover();
        advance(secs(60)).await;
        service.oneshot(call()).await.unwrap();
        assert_eq!(
            api.last().authorization().map(HeaderValue::is_sensitive),
            Some(true)
        );
    }
}

/// Row 10: there is no runtime for the fetch.
#[test]
fn no_request_is_sent_without_a_runtime_to_fetch_a_token() {
    let cache = TokenCache::new(endpoint(&AuthorizationServer::new()));
    let api = Api::content();
    let service = api_layer(cache.source(request())).layer(api.clone());
    let error = at_once(service.oneshot(call())).unwrap_err();
    let error = TokenError::find_in_chain(&*error).unwrap();
    assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
    assert_eq!(api.requests(), 0);
}

/// Row 11 (Duende): the header was overwritten.
#[tokio::test(start_paused = true)]
async fn the_callers_own_authorization_header_is_kept() {
    for value in ["Basic Y2xpZW50", "Bearer own", ""] {
        for uri in [cache_support::API, "http://plain.test/"] {
            let fixture = Fixture::new();
            let api = Api::content();
            let service = api_layer(fixture.source()).layer(api.clone());
            let mut own = call_to(uri);
            let value = HeaderValue::from_static(value);
            own.headers_mut().insert(AUTHORIZATION, value.clone());
            at_once(service.oneshot(own)).unwrap();
            assert_eq!(api.last().authorization(), Some(&value));
            settle().await;
            assert_eq!(fixture.requests(), 0, "a token was fetched");
        }
    }
}

/// Row 11 (most clients): the origin was not checked.
#[tokio::test(start_paused = true)]
async fn other_origins_and_plain_http_get_no_token() {
    for (uri, expected) in [
        ("https://api.test/orders", Some(true)),
        ("https://API.test:443/", Some(true)),
        ("https://api.test:8443/", Some(false)),
        ("https://api.test.evil.test/", Some(false)),
        ("https://evil.test/?https://api.test", Some(false)),
        ("https://api.test@evil.test/", Some(false)),
        ("http://api.test/", Some(false)),
        ("http://127.0.0.1/", Some(false)),
    ] {
        let fixture = Fixture::new();
        let api = Api::content();
        let service = api_layer(fixture.source()).layer(api.clone());
        service.oneshot(call_to(uri)).await.unwrap();
        assert_eq!(
            Some(api.last().authorization().is_some()),
            expected,
            "{uri}"
        );
    }
    for uri in [
        "http://api.test/",
        "http://10.0.0.1/",
        "http://localhost.test/",
    ] {
        let fixture = Fixture::new();
        let api = Api::content();
        let layer = api_layer(fixture.source()).origin(uri).unwrap();
        let service = layer.layer(api.clone());
        let error = at_once(service.oneshot(call_to(uri))).unwrap_err();
        assert!(error.is::<InsecureTransport>(), "{uri}");
        assert_eq!(api.requests(), 0);
        settle().await;
        assert_eq!(fixture.requests(), 0);
    }
}

/// Returns a cache that uses the paused clock, as the server does.
fn cache_over<S>(endpoint: S) -> TokenCache
where
    S: Service<TokenRequest, Response = TokenResponse> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let clock = ManualClock::new().clock();
    TokenCache::builder(endpoint).clock(clock).build()
}

/// Returns a source and an HTTP client that share one connection.
fn shared_connection(
    server: &AuthorizationServer,
    api: &Api,
    wrap: impl FnOnce(Http) -> Http,
) -> (TokenSource, Http) {
    let http = wrap(network(server, api));
    let endpoint = TokenEndpoint::new(http.clone(), server.token_endpoint(), client());
    let source = cache_over(endpoint).source(request());
    (source, http)
}

/// Sends ten requests at once and checks that each one is answered.
async fn check_ten_calls<S>(service: &S)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let calls: Vec<_> = (0..10)
        .map(|_| tokio::spawn(service.clone().oneshot(call())))
        .collect();
    for call in calls {
        // On paused time, a deadlock jumps to this timeout.
        let response = timeout(secs(600), call).await.expect("deadlock");
        assert_eq!(response.unwrap().unwrap().status(), StatusCode::OK);
    }
}

/// Row 16 (tower-resilience #286, tonic #545, every client like `AsyncFilter`): this deadlocked. `tests/add_access_token.rs` checks
/// that the readied service is the one that is called.
#[tokio::test(start_paused = true)]
async fn sharing_a_buffer_or_a_limit_of_one_with_the_token_client_does_not_deadlock() {
    let buffered = |http: Http| BoxCloneSyncService::new(Buffer::new(http, 1));
    let limited = |http: Http| {
        let limit = ServiceBuilder::new().concurrency_limit(1);
        BoxCloneSyncService::new(limit.service(http))
    };
    let both = move |http: Http| BoxCloneSyncService::new(Buffer::new(limited(http), 1));
    let wraps: [&dyn Fn(Http) -> Http; 3] = [&buffered, &limited, &both];
    for wrap in wraps {
        let server = AuthorizationServer::builder().access_token_lifetime(secs(100));
        let server = server.build();
        let api = Api::checking(&server);
        let (source, http) = shared_connection(&server, &api, wrap);
        let layer = api_layer(source.clone());

        let over = layer.clone().layer(http.clone());
        check_ten_calls(&over).await;
        // First the token expires, then it is refused.
        advance(secs(100)).await;
        check_ten_calls(&over).await;
        server.revoke_all();
        let resending = layer.clone().resend(CloneBody).layer(http.clone());
        check_ten_calls(&resending).await;

        advance(secs(100)).await;
        let under = Buffer::new(layer.layer(http), 1);
        check_ten_calls(&under).await;
        let under = ServiceBuilder::new().concurrency_limit(1).service(under);
        advance(secs(100)).await;
        check_ten_calls(&under).await;
    }
}

/// Row 16: a permit held by a waiting request would block requests that need no token.
#[tokio::test(start_paused = true)]
async fn no_permit_is_held_while_a_request_waits_for_a_token() {
    let server = AuthorizationServer::new();
    let api = Api::content();
    let limit = ServiceBuilder::new().concurrency_limit(1);
    let (source, http) = shared_connection(&server, &api, |http| {
        BoxCloneSyncService::new(limit.service(http))
    });
    // The token client is separate; otherwise it would hold the permit itself.
    server.fail_until_told(Failure::stall());
    let cold = cache_over(endpoint(&server)).source(request());
    drop(source);
    let service = api_layer(cold).layer(http);
    let mut waiting: Vec<_> = (0..5)
        .map(|_| task::spawn(service.clone().oneshot(call())))
        .collect();
    for waiting in &mut waiting {
        assert_pending!(waiting.poll());
    }
    let mut own = call();
    let value = HeaderValue::from_static("Bearer own");
    own.headers_mut().insert(AUTHORIZATION, value);
    at_once(service.oneshot(own)).unwrap();
}

const SECRETS: [&str; 6] = [
    "SENTINELsecret",
    "SENTINELtoken",
    "SENTINELparameter",
    "SENTINELheader",
    "SENTINELassertion",
    "SENTINELbody",
];

/// Errors and events show it. It has eight characters, so that the secret behind it has the usual base64 in the `Authorization` header.
const CLIENT_ID: &str = "a-client";

#[track_caller]
fn assert_no_secret(printed: &str) {
    assert!(!printed.contains("SENTINEL"), "{printed}");
    // The secret in the client's Basic credentials.
    assert!(!printed.contains("U0VOVElORUx"), "{printed}");
}

#[track_caller]
fn assert_prints_no_secret(value: &dyn Debug) {
    assert_no_secret(&format!("{value:?} {value:#?}"));
}

#[track_caller]
fn assert_error_prints_no_secret(error: &(dyn Error + 'static)) {
    let mut next = Some(error);
    while let Some(error) = next {
        assert_no_secret(&format!("{error} {error:#} {error:?} {error:#?}"));
        next = error.source();
    }
}

/// Returns a server, a cache and a request in which every value is a secret.
fn with_sentinels() -> (AuthorizationServer, TokenCache, TokenRequest) {
    let server = AuthorizationServer::builder()
        .client(CLIENT_ID, SECRETS[0])
        .response_field("access_token", SECRETS[1])
        .response_field("other", SECRETS[5])
        .build();
    let client = ClientAuthentication::client_secret_basic(CLIENT_ID, SECRETS[0]);
    let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    let assertion = Credential::from_fn(|| async { Ok::<_, BoxError>(SECRETS[4]) });
    let request = TokenRequest::client_credentials()
        .scope("api1")
        .parameter("password", SECRETS[2])
        .parameter("assertion", assertion)
        .header("x-secret", SECRETS[3]);
    (server, cache_over(endpoint), request)
}

/// Row 19 (octocrab with `Display`, oauth2-rs #170 with a raw body in `Debug`, tower with `Oneshot`).
#[tokio::test(start_paused = true)]
async fn no_type_of_the_cache_or_layer_prints_a_secret() {
    let (server, cache, request) = with_sentinels();
    let source = cache.source(request);
    let token = AccessToken::new(SECRETS[1], TokenType::BEARER).unwrap();
    let fixed = TokenSource::fixed(token.clone());
    assert_prints_no_secret(&TokenCache::builder(endpoint(&server)));
    // First the cache is empty, then it holds a token.
    for _ in 0..2 {
        assert_prints_no_secret(&cache);
        assert_prints_no_secret(&source);
        assert_prints_no_secret(&source.subscribe());
        for source in [&source, &fixed] {
            let layer = api_layer(source.clone());
            assert_prints_no_secret(&layer);
            assert_prints_no_secret(&layer.clone().resend(CloneBody));
            let mut service = layer.resend(CloneBody).layer(Api::content());
            let mut sending = task::spawn(service.ready().await.unwrap().call(call()));
            assert_prints_no_secret(&service);
            assert_prints_no_secret(&*sending);
            let response = match sending.poll() {
                Poll::Ready(response) => response.unwrap(),
                Poll::Pending => {
                    assert_prints_no_secret(&*sending);
                    sending.await.unwrap()
                }
            };
            assert_prints_no_secret(&response);
            assert_prints_no_secret(&service);
        }
        assert_eq!(source.token().await.unwrap(), token);
    }
    assert_prints_no_secret(&source.token().await);
    assert_prints_no_secret(&source.peek());
    // A service below that prints the request does not print the token.
    let seen = Arc::new(OnceLock::new());
    let kept = seen.clone();
    let printing = tower::service_fn(move |request: Request<Body>| {
        let _ = kept.set(format!("{request:?} {request:#?}"));
        async { Ok::<_, BoxError>(Response::new(Body::default())) }
    });
    let service = api_layer(source).layer(printing);
    service.oneshot(call()).await.unwrap();
    let printed = seen.get().unwrap();
    assert!(printed.contains("authorization"));
    assert_no_secret(printed);
}

/// Row 19.
#[tokio::test(start_paused = true)]
async fn no_error_of_the_cache_or_layer_prints_a_secret() {
    let echo = format!(
        r#"{{"error":"invalid_client","you_sent":"{}","access_token":"{}"}}"#,
        SECRETS[0], SECRETS[1]
    );
    let mut failures = failures();
    failures.push(
        Failure::status(400)
            .body(echo.clone())
            .content_type("application/json"),
    );
    failures.push(
        Failure::status(200)
            .body(echo)
            .content_type("application/json"),
    );
    failures.push(Failure::status(502).body(SECRETS.join(" ")));
    failures.push(Failure::status(200).body(format!("{{\"{}\":", SECRETS[5])));
    for failure in failures {
        let (server, cache, request) = with_sentinels();
        server.fail_until_told(failure);
        let source = cache.source(request);
        let error = source.token().await.unwrap_err();
        assert_error_prints_no_secret(&error);
        assert_prints_no_secret(&source);
        let service = api_layer(source).layer(Api::content());
        let error = service.oneshot(call()).await.unwrap_err();
        assert_error_prints_no_secret(&*error);
    }
    let layer = AddAccessTokenLayer::new(TokenSource::fixed(bearer(SECRETS[1])));
    let uri = format!("http://plain.test/{}", SECRETS[2]);
    for layer in [layer.clone(), layer.origin(&uri).unwrap()] {
        let service = layer.layer(Api::content());
        assert_error_prints_no_secret(&*service.oneshot(call_to(&uri)).await.unwrap_err());
    }
}

/// Row 19: this covers the whole life of a token, with every failure, at the level TRACE.
#[tokio::test(start_paused = true)]
async fn the_log_contains_no_secret() {
    let (log, _guard) = Log::record();
    run_every_failure().await;
    let printed = log.text();
    for event in [
        "fetching an access token",
        "fetched an access token",
        "failed to fetch an access token",
        "an API refused an access token",
        "retrying the fetch of an access token",
    ] {
        assert!(printed.contains(event), "{event}: {printed}");
    }
    assert_no_secret(&printed);
}

async fn run_every_failure() {
    let echo = Failure::status(502).body(SECRETS.join(" "));
    for failure in failures().into_iter().chain([echo]) {
        let (server, cache, request) = with_sentinels();
        let source = cache.source(request);
        server.fail_until_told(failure);
        let _ = source.token().await;
        server.recover();
        advance(secs(300)).await;
        source.token().await.unwrap();
        let layer = api_layer(source.clone()).resend(CloneBody);
        let service = layer.layer(Api::refusing());
        for _ in 0..3 {
            let _ = service.clone().oneshot(call()).await;
        }
        let _ = source.renew().await;
        server.fail_when(|_| panic!("intended by the test"));
        advance(secs(2)).await;
        let _ = source.renew().await;
    }
}

/// Row 25 (every layer that renews on a 401): each refusal caused a fetch.
#[tokio::test(start_paused = true)]
async fn an_api_that_refuses_every_token_does_not_affect_other_apis() {
    for (is_resent, bad_uri) in [
        (false, "https://bad.test/"),
        (true, "https://bad.test/"),
        // Behind the gateway of the good API.
        (false, API),
        (true, API),
    ] {
        let fixture = Fixture::with_lifetime(secs(1_000_000));
        let good = Api::checking(&fixture.server);
        let bad = Api::refusing();
        let layer = api_layer(fixture.source()).origin(bad_uri).unwrap();
        let mut user = layer.clone().layer(good.clone());
        let resending = layer.clone().resend(CloneBody).layer(bad.clone());
        let plain = layer.layer(bad.clone());
        let mut fetch_times = Vec::new();
        let mut before = 0;
        for second in 0..600 {
            for _ in 0..3 {
                let refused = match is_resent {
                    true => resending.clone().oneshot(call_to(bad_uri)).await.unwrap(),
                    false => plain.clone().oneshot(call_to(bad_uri)).await.unwrap(),
                };
                assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
                assert!(is_refused(&refused));
                let response = user.ready().await.unwrap().call(call()).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
            }
            let requests = fixture.requests();
            fetch_times.extend((before..requests).map(|_| second));
            before = requests;
            advance(secs(1)).await;
        }
        if bad_uri == API {
            // The good API accepts these tokens, so each eighth is kept to see whether they are to blame. They are not.
            assert!(fetch_times.len() <= 9 + 12, "{fetch_times:?}");
            assert!(fetch_times.iter().filter(|second| **second > 15).count() <= 6);
        } else {
            // The first fetch and two renewals, then pauses of 5, 10, 20, 40, 80 and 160 seconds.
            assert_eq!(fetch_times.len(), 9, "{fetch_times:?}");
            for (second, expected) in fetch_times.iter().zip([0, 0, 0, 5, 15, 35, 75, 155, 315]) {
                assert!(
                    (expected - 1..=expected).contains(second),
                    "{fetch_times:?}"
                );
            }
        }
        assert_eq!(good.requests(), 1800);
    }
}

/// An HTTP client that is set after it has been handed out.
#[derive(Clone, Default)]
struct LateClient(Arc<OnceLock<Http>>);

impl LateClient {
    fn service(&self) -> Http {
        let late = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
            late.0
                .get()
                .expect("the client is not set")
                .clone()
                .oneshot(request)
        }))
    }
}

/// Row 27 (any layer): the token request waited for a token.
#[tokio::test(start_paused = true)]
async fn a_token_client_inside_its_own_layer_does_not_wait_for_itself() {
    let server = AuthorizationServer::builder().access_token_lifetime(secs(100));
    let server = server.build();
    let api = Api::checking(&server);
    let late = LateClient::default();
    let endpoint = TokenEndpoint::new(late.service(), server.token_endpoint(), client());
    let source = cache_over(endpoint).source(request());
    let stack = ServiceBuilder::new()
        .concurrency_limit(2)
        .layer(api_layer(source))
        .service(network(&server, &api));
    let stack = late.0.get_or_init(|| BoxCloneSyncService::new(stack));

    for fetches in 1..=3 {
        let response = timeout(secs(600), stack.clone().oneshot(call())).await;
        let response = response.expect("deadlock").unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(server.token_requests(), fetches);
        advance(secs(100)).await;
    }
    let requests = server.requests();
    assert!(requests.iter().all(|request| {
        let authorization = &request.headers()[AUTHORIZATION];
        authorization.as_bytes().starts_with(b"Basic ")
    }));
}

/// Row 27: the client's credentials are in the body, so its request has no `Authorization` header of its own.
#[tokio::test(start_paused = true)]
async fn a_token_client_without_an_authorization_header_does_not_wait_for_itself() {
    let server = AuthorizationServer::new();
    let api = Api::checking(&server);
    let late = LateClient::default();
    let client = ClientAuthentication::client_secret_post("client", "secret");
    let endpoint = TokenEndpoint::new(late.service(), server.token_endpoint(), client);
    let source = cache_over(endpoint).source(request());
    let stack = api_layer(source).layer(network(&server, &api));
    let stack = late.0.get_or_init(|| BoxCloneSyncService::new(stack));
    let response = timeout(secs(600), stack.clone().oneshot(call())).await;
    let response = response.expect("deadlock").unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!server.requests()[0].headers().contains_key(AUTHORIZATION));
}
