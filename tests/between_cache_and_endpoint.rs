//! Layers between a cache and an endpoint: what they are told, what they may answer, and what their errors do.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use tower::{Service, ServiceExt, service_fn};
use tower_oauth2_client::{
    AccessToken, BoxError, ClientAuthentication, Credential, IdTokenClaims, RefreshWindow,
    TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenResponse, TokenType,
    test_util::{AuthorizationServer, Failure},
};

use self::cache_support::{bearer, client, endpoint, now, request, secs, settle};

/// What a test needs of a stack around an endpoint.
trait Endpoint:
    Service<TokenRequest, Response = TokenResponse, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Endpoint for S where
    S: Service<TokenRequest, Response = TokenResponse, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A token becomes stale at half of its lifetime.
fn cache_over(endpoint: impl Endpoint) -> TokenCache {
    let window = RefreshWindow::new().first(0.5..=0.5).later(0.5..=0.5);
    TokenCache::builder(endpoint).refresh_window(window).build()
}

fn server() -> AuthorizationServer {
    let server = AuthorizationServer::builder().access_token_lifetime(secs(100));
    server.build()
}

mod partitions {
    use super::*;

    /// Each tenant has an authorization server of its own.
    fn by_tenant<const N: usize>(servers: [(&'static str, &AuthorizationServer); N]) -> TokenCache {
        let endpoints = servers.map(|(tenant, server)| (tenant, endpoint(server)));
        let endpoints = Arc::new(HashMap::from(endpoints));
        cache_over(service_fn(move |request: TokenRequest| {
            let tenant = request.get_partition();
            let endpoint = tenant.and_then(|tenant| endpoints.get(tenant)).cloned();
            async move {
                let unknown = || TokenError::builder(TokenErrorKind::Request);
                match endpoint {
                    Some(endpoint) => endpoint.oneshot(request).await,
                    None => Err(unknown().message("there is no such tenant").build()),
                }
            }
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn equal_requests_of_two_partitions_have_tokens_of_two_servers() {
        let (blue, red) = (server(), server());
        let cache = by_tenant([("blue", &blue), ("red", &red)]);
        let source = |tenant| cache.source(request().partition(tenant));
        for (tenant, own, other) in [("blue", &blue, &red), ("red", &red, &blue)] {
            let token = source(tenant).token().await.unwrap();
            assert!(own.is_active(token.expose_secret()));
            assert!(!other.is_active(token.expose_secret()));
            assert_eq!(source(tenant).peek(), Some(token));
        }
        assert_eq!((blue.token_requests(), red.token_requests()), (1, 1));
        for sent in blue.requests() {
            assert!(!format!("{:?} {:?}", sent.form(), sent.headers()).contains("blue"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_still_known_when_the_token_is_refreshed() {
        let blue = AuthorizationServer::builder()
            .issue_refresh_tokens(true)
            .build();
        let refresh_token = blue.issue_refresh_token("client", "api1");
        let cache = by_tenant([("blue", &blue)]);
        let source = cache.source(TokenRequest::refresh_token(refresh_token).partition("blue"));
        for _ in 0..3 {
            source.token().await.unwrap();
            source.discard();
        }
        assert_eq!(blue.token_requests(), 3);
    }

    /// Two servers may issue the same code.
    #[tokio::test(start_paused = true)]
    async fn the_same_credential_in_two_partitions_is_two_credentials() {
        let cache = cache_over(service_fn(|request: TokenRequest| async move {
            let token = bearer(request.get_partition().unwrap_or("none"));
            Ok::<_, BoxError>(TokenResponse::builder(token).build())
        }));
        for partition in ["blue", "red"] {
            let code = TokenRequest::authorization_code("code", "https://app.example/cb");
            let source = cache.source(code.partition(partition));
            assert_eq!(source.token().await.unwrap().expose_secret(), partition);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_for_an_unknown_tenant_is_final_and_says_whose_request_it_was() {
        let blue = server();
        let cache = by_tenant([("blue", &blue)]);
        let source = cache.source(request().partition("green").label("tenant green"));
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        assert!(!error.is_transient() && !error.may_have_been_processed());
        let text = "there is no such tenant [label tenant green]";
        assert_eq!(error.to_string(), text);
        assert_eq!(blue.token_requests(), 0);
    }

    #[test]
    fn a_partition_is_compared_and_shown_and_the_last_one_counts() {
        let (blue, red) = (request().partition("blue"), request().partition("red"));
        assert_ne!(blue, red);
        assert_ne!(blue, request());
        assert_eq!(blue, red.clone().partition("blue"));
        assert_eq!(blue.get_partition(), Some("blue"));
        assert_eq!(request().get_partition(), None);
        let shown = format!("{:?}", red.partition("r\u{1b}d"));
        assert!(shown.contains(r"r\u{1b}d"), "{shown}");
    }

    /// The HTTP client below the endpoint is chosen by the context, and the partition keeps the tokens apart.
    #[tokio::test(start_paused = true)]
    async fn a_client_below_the_endpoint_can_be_in_the_context() {
        #[derive(Clone)]
        struct Tenant(&'static str, AuthorizationServer);

        let http = service_fn(|request: Request<Full<Bytes>>| async move {
            let tenant = request.extensions().get::<Tenant>();
            let Tenant(_, server) = tenant.unwrap().clone();
            server.oneshot(request).await
        });
        let uri = AuthorizationServer::new().token_endpoint();
        let cache = cache_over(TokenEndpoint::new(http, uri, client()));
        let (blue, red) = (server(), server());
        for tenant in [Tenant("blue", blue.clone()), Tenant("red", red.clone())] {
            let request = request().partition(tenant.0).context(tenant.clone());
            let token = cache.source(request).token().await.unwrap();
            assert!(tenant.1.is_active(token.expose_secret()));
        }
        assert_eq!((blue.token_requests(), red.token_requests()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_count_what_happens_for_each_label() {
    let server = server();
    let counts = Arc::new(Mutex::new(BTreeMap::<String, [usize; 2]>::new()));
    let (endpoint, counted) = (endpoint(&server), counts.clone());
    let cache = cache_over(service_fn(move |request: TokenRequest| {
        let label = request.get_label().unwrap_or("none").to_owned();
        let (sending, counts) = (endpoint.clone().oneshot(request), counted.clone());
        async move {
            let result = sending.await;
            let mut counts = counts.lock().unwrap();
            counts.entry(label).or_default()[usize::from(result.is_err())] += 1;
            result
        }
    }));
    let blue = cache.source(request().label("blue"));
    let red = cache.source(request().parameter("tenant", "red").label("red"));
    blue.token().await.unwrap();
    red.token().await.unwrap();
    server.fail_next(Failure::status(503));
    blue.discard();
    blue.token().await.unwrap();
    cache
        .source(request().scope("of nobody"))
        .token()
        .await
        .unwrap();
    let counts = counts.lock().unwrap().clone();
    let expected = [("blue", [2, 1]), ("none", [1, 0]), ("red", [1, 0])];
    let expected = expected.map(|(label, counts)| (label.to_owned(), counts));
    assert_eq!(counts, BTreeMap::from(expected));
}

/// An error that is none of ours may be a failure of a moment.
#[tokio::test(start_paused = true)]
async fn an_error_of_a_layer_is_transient_unless_it_says_otherwise() {
    type MakeError = fn() -> BoxError;
    let cases: [(MakeError, bool, bool, usize); 4] = [
        (|| "the store does not answer".into(), true, true, 2),
        (
            || TokenError::builder(TokenErrorKind::Request).build().into(),
            false,
            false,
            1,
        ),
        (
            || {
                let error = TokenError::builder(TokenErrorKind::Service).before_sending();
                error.source("the store does not answer").build().into()
            },
            true,
            false,
            2,
        ),
        (
            || {
                TokenError::builder(TokenErrorKind::UnexpectedStatus)
                    .build()
                    .into()
            },
            true,
            true,
            2,
        ),
    ];
    for (make, is_transient, may_have_been_processed, calls) in cases {
        let called = Arc::new(Mutex::new(0));
        let count = called.clone();
        let cache = cache_over(service_fn(move |_: TokenRequest| {
            *count.lock().unwrap() += 1;
            async move { Err::<TokenResponse, _>(make()) }
        }));
        let error = cache.source(request().label("blue")).token().await;
        let error = error.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{error:#}");
        assert_eq!(
            error.may_have_been_processed(),
            may_have_been_processed,
            "{error:#}"
        );
        assert_eq!(error.label(), Some("blue"));
        assert_eq!(*called.lock().unwrap(), calls, "{error:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_ask_for_a_pause() {
    let called = Arc::new(Mutex::new(0));
    let count = called.clone();
    let cache = cache_over(service_fn(move |_: TokenRequest| {
        *count.lock().unwrap() += 1;
        let error = TokenError::builder(TokenErrorKind::Service).before_sending();
        let error = error.retry_after(secs(20)).build();
        async move { Err::<TokenResponse, _>(error) }
    }));
    let source = cache.source(request());
    for (passed, calls) in [(0, 1), (1, 1), (18, 1), (10, 2)] {
        advance(secs(passed)).await;
        source.token().await.unwrap_err();
        assert_eq!(*called.lock().unwrap(), calls, "{passed}");
    }
}

/// For example for the subject token of an exchange, even if only one fetch at a time is allowed.
#[tokio::test(start_paused = true)]
async fn a_layer_can_ask_the_cache_for_another_token() {
    let server = server();
    let own = Arc::new(Mutex::new(None::<TokenCache>));
    let (cache, endpoint) = (own.clone(), endpoint(&server));
    let stack = service_fn(move |request: TokenRequest| {
        let (cache, endpoint) = (cache.lock().unwrap().clone(), endpoint.clone());
        async move {
            if request.get_label() != Some("exchange") {
                return endpoint.oneshot(request).await;
            }
            let subject = cache.unwrap().source(self::request()).token().await?;
            endpoint
                .oneshot(request.parameter("subject", subject.expose_secret().len().to_string()))
                .await
        }
    });
    let cache = TokenCache::builder(stack).max_concurrent_fetches(1).build();
    *own.lock().unwrap() = Some(cache.clone());
    let request = request().parameter("for", "another").label("exchange");
    cache.source(request).token().await.unwrap();
    assert_eq!(server.token_requests(), 2);
    *own.lock().unwrap() = None;
}

mod store {
    use super::*;

    /// Responses that several processes share, and when each was requested.
    #[derive(Clone, Default)]
    pub(super) struct Store(Arc<Mutex<HashMap<TokenRequest, (Bytes, Instant)>>>);

    impl Store {
        pub(super) fn get(&self, request: &TokenRequest) -> Option<TokenResponse> {
            let (stored, since) = self.0.lock().unwrap().get(request).cloned()?;
            let response = TokenResponse::from_json(stored).ok()?;
            let response = response.to_builder().age(now() - since).build();
            let is_good = response.expires_in() > Some(secs(30))
                && !request.replaces(response.access_token());
            is_good.then_some(response)
        }

        fn put(&self, request: &TokenRequest, response: &TokenResponse, since: Instant) {
            let response = response.to_builder().without_refresh_token().build();
            let stored = (response.raw().clone(), since);
            self.0.lock().unwrap().insert(request.clone(), stored);
        }

        pub(super) fn texts(&self) -> Vec<Bytes> {
            let stored = self.0.lock().unwrap();
            stored.values().map(|(text, _)| text.clone()).collect()
        }

        /// Returns the stack of one process.
        pub(super) fn over(&self, endpoint: impl Endpoint) -> impl Endpoint {
            let store = self.clone();
            service_fn(move |request: TokenRequest| {
                let (store, endpoint) = (store.clone(), endpoint.clone());
                async move {
                    if request.carries_one_time_credential() {
                        return endpoint.oneshot(request).await.map_err(Into::into);
                    }
                    if let Some(stored) = store.get(&request) {
                        return Ok::<_, BoxError>(stored);
                    }
                    let since = now();
                    let response = endpoint.oneshot(request.clone()).await;
                    let response = response.map_err(Into::<BoxError>::into)?;
                    store.put(&request, &response, since);
                    Ok(response)
                }
            })
        }
    }

    fn processes<const N: usize>(server: &AuthorizationServer) -> (Store, [TokenCache; N]) {
        let store = Store::default();
        let caches = [(); N].map(|()| cache_over(store.over(endpoint(server))));
        (store, caches)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stored_response_lives_for_what_remains() {
        let server = server();
        let (_, [first, second]) = processes(&server);
        let token = first.source(request()).token().await.unwrap();
        advance(secs(30)).await;
        let again = second.source(request()).token().await.unwrap();
        assert_eq!(again, token);
        assert_eq!(server.token_requests(), 1);
        assert_eq!(again.expires_in(), Some(secs(70)));
        advance(secs(70)).await;
        assert_eq!(again.expires_in(), Some(secs(0)));
        assert!(!server.is_active(token.expose_secret()));
        assert_ne!(second.source(request()).token().await.unwrap(), token);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_or_discarded_token_is_not_taken_from_the_store_again() {
        let server = server();
        let (_, [first, second]) = processes(&server);
        let (first, second) = (first.source(request()), second.source(request()));
        let old = first.token().await.unwrap();
        assert_eq!(second.token().await.unwrap(), old);
        server.revoke_all();

        advance(secs(10)).await;
        first.invalidate(&old);
        let new = first.token().await.unwrap();
        assert_ne!(new, old);
        assert!(server.is_active(new.expose_secret()));
        assert_eq!(server.token_requests(), 2);

        // The other process finds the new token in the store.
        second.invalidate(&old);
        assert_eq!(second.token().await.unwrap(), new);
        assert_eq!(server.token_requests(), 2);

        first.discard();
        let third = first.token().await.unwrap();
        assert_ne!(third, new);
        assert_eq!(second.renew().await.unwrap(), third);
        assert_eq!(server.token_requests(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn one_process_renews_for_all() {
        let server = server();
        let (_, caches) = processes::<3>(&server);
        for cache in &caches {
            cache.source(request()).token().await.unwrap();
        }
        advance(secs(60)).await;
        for cache in &caches {
            // Stale: the token is served, and renewed in the background.
            cache.source(request()).token().await.unwrap();
            settle().await;
        }
        assert_eq!(server.token_requests(), 2);
        let [first, rest @ ..] = caches.map(|cache| cache.source(request()).peek());
        assert!(first.is_some());
        for token in rest {
            assert_eq!(token, first);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_refresh_token_and_no_response_to_a_one_time_credential_is_stored() {
        let server = AuthorizationServer::builder()
            .issue_refresh_tokens(true)
            .build();
        let (store, [cache]) = processes(&server);
        let refresh_token = server.issue_refresh_token("client", "api1");
        let source = cache.source(TokenRequest::refresh_token(refresh_token));
        source.token().await.unwrap();
        assert!(store.texts().is_empty());

        let bare = service_fn(|_: TokenRequest| async {
            let response = TokenResponse::builder(bearer("access")).refresh_token("S3NT1NEL");
            Ok::<_, BoxError>(response.build())
        });
        let store = Store::default();
        let cache = cache_over(store.over(bare));
        cache.source(request()).token().await.unwrap();
        let [text] = &store.texts()[..] else { panic!() };
        assert!(!text.windows(8).any(|part| part == b"S3NT1NEL"));
        assert_eq!(
            serde_json::from_slice::<Value>(text).unwrap(),
            json!({"access_token": "access", "token_type": "Bearer"})
        );
    }
}

mod replaces {
    use super::*;

    /// Notes whether each request replaces each token that was issued before it.
    fn noting(server: &AuthorizationServer) -> (TokenCache, Arc<Mutex<Vec<Vec<bool>>>>) {
        let noted = Arc::new(Mutex::new(Vec::new()));
        let (endpoint, notes) = (endpoint(server), noted.clone());
        let issued = Arc::new(Mutex::new(Vec::<AccessToken>::new()));
        let cache = cache_over(service_fn(move |request: TokenRequest| {
            let old = issued.lock().unwrap();
            let old = old.iter().map(|token| request.replaces(token));
            notes.lock().unwrap().push(old.collect());
            let (endpoint, issued) = (endpoint.clone(), issued.clone());
            async move {
                let response = endpoint.oneshot(request).await?;
                issued.lock().unwrap().push(response.access_token().clone());
                Ok::<_, TokenError>(response)
            }
        }));
        (cache, noted)
    }

    /// The last of the tokens so far.
    fn last(issued: usize) -> Vec<bool> {
        (1..=issued).map(|number| number == issued).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_the_token_that_the_cache_has_had_whatever_became_of_it() {
        for is_one_time in [false, true] {
            let server = AuthorizationServer::builder()
                .access_token_lifetime(secs(100))
                .issue_refresh_tokens(true)
                .build();
            let (cache, noted) = noting(&server);
            let request = match is_one_time {
                true => TokenRequest::refresh_token(server.issue_refresh_token("client", "")),
                false => request(),
            };
            let source = cache.source(request);
            source.token().await.unwrap();
            advance(secs(60)).await;
            source.token().await.unwrap(); // stale
            settle().await;
            advance(secs(200)).await;
            source.token().await.unwrap(); // expired
            advance(secs(2)).await;
            source.renew().await.unwrap();
            advance(secs(2)).await;
            let token = source.token().await.unwrap();
            source.invalidate(&token);
            source.token().await.unwrap();
            advance(secs(2)).await;
            source.discard();
            source.token().await.unwrap();
            cache.invalidate_all();
            server.fail_next_n(2, Failure::status(503));
            source.token().await.unwrap_err();
            cache.invalidate_all();
            source.token().await.unwrap();
            let expected = [0, 1, 2, 3, 4, 5, 6, 6, 6].map(last);
            assert_eq!(*noted.lock().unwrap(), expected, "{is_one_time}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_entry_and_a_request_without_a_cache_replace_nothing() {
        let server = server();
        let (cache, noted) = noting(&server);
        cache.source(request()).token().await.unwrap();
        cache.source(request().scope("more")).token().await.unwrap();
        assert_eq!(*noted.lock().unwrap(), [vec![], vec![false]]);
        assert!(!request().replaces(&bearer("t")));
    }
}

/// The API takes the ID token, which lives for another time than the access token beside it.
#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the rule is for `src/`")]
async fn a_layer_can_use_the_id_token_as_the_bearer() {
    fn with_id_token(response: TokenResponse) -> Result<TokenResponse, BoxError> {
        let id_token = response.id_token().ok_or("the server issued no ID token")?;
        let claims = IdTokenClaims::unverified(id_token).ok_or("the ID token is no JWT")?;
        let end = claims.expires_at().ok_or("the ID token has no expiry")?;
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        let token = AccessToken::new(id_token.expose_secret(), TokenType::BEARER)?;
        let response = response.to_builder().access_token(token).expires_in(left);
        Ok(response.build())
    }

    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + secs(1000);
    let claims = json!({ "exp": exp.as_secs() }).to_string();
    let id_token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
    let server = AuthorizationServer::builder()
        .response_field("id_token", &*id_token)
        .response_field("team", "t1")
        .build();
    let stack = endpoint(&server)
        .map_err(BoxError::from)
        .and_then(|response| async { with_id_token(response) });
    let cache = TokenCache::builder(stack).keep_members(["team"]).build();
    let token = cache.source(request()).token().await.unwrap();
    assert_eq!(token.expose_secret(), id_token);
    assert_eq!(token.get("team").unwrap(), "t1");
    let left = token.expires_in().unwrap();
    assert!(secs(900) < left && left <= secs(1000), "{left:?}");

    let bad = TokenResponse::builder(bearer("t"))
        .id_token("e30.e30.c2ln")
        .build();
    assert!(with_id_token(bad).is_err());
}

mod responses {
    use super::*;

    const FULL: &str = r#"{"access_token":"T","token_type":"bearer","expires_in":"100","refresh_in":50,"refresh_token":"R",
        "scope":"b a","id_token":"I","issued_token_type":"urn:x","instance_url":"https://x.example","n":null,"list":[1,{"a":2}]}"#;

    fn read(json: impl Into<Bytes>) -> TokenResponse {
        TokenResponse::from_json(json).unwrap()
    }

    fn standard_members(response: &TokenResponse) -> impl PartialEq + std::fmt::Debug {
        (
            response.access_token().expose_secret().to_owned(),
            response.token_type().clone(),
            (response.expires_in(), response.refresh_in()),
            response
                .refresh_token()
                .map(|token| token.expose_secret().to_owned()),
            response.scope().map(ToString::to_string),
            response
                .id_token()
                .map(|token| token.expose_secret().to_owned()),
            response.issued_token_type().map(str::to_owned),
            (response.status(), response.headers().clone()),
        )
    }

    #[test]
    fn a_builder_of_a_response_changes_nothing_by_itself() {
        for json in [
            FULL,
            r#"{"access_token":"T"}"#,
            r#"{"access_token":"T","expires_in":-5,"refresh_in":"x","scope":["a","b"],"token_type":"N_A"}"#,
            r#"{"access_token":"T","expires_in":1764362400}"#,
            "\u{feff}{\"access_token\":\"T\",\"expires_in\":1.5}",
        ] {
            let response = read(json);
            let built = response.to_builder().build();
            assert_eq!(standard_members(&built), standard_members(&response));
            let again = read(built.raw().clone());
            assert_eq!(
                standard_members(&again),
                standard_members(&response),
                "{json}"
            );
            for (name, value) in response.json().as_object().unwrap() {
                if !["expires_in", "refresh_in", "scope"].contains(&&**name) {
                    assert_eq!(again.get(name), Some(value), "{json}");
                }
            }
        }
        let response = TokenResponse::builder(bearer("T"))
            .status(http::StatusCode::CREATED)
            .headers(
                [(http::header::SERVER, "s".parse().unwrap())]
                    .into_iter()
                    .collect(),
            )
            .build();
        let built = response.to_builder().build();
        assert_eq!(standard_members(&built), standard_members(&response));
    }

    #[test]
    fn what_is_changed_is_changed_everywhere() {
        let response = read(FULL);
        let changed = response
            .to_builder()
            .access_token(bearer("U"))
            .age(secs(60))
            .without_refresh_token()
            .parameter("instance_url", "https://y.example")
            .build();
        for changed in [read(changed.raw().clone()), changed] {
            assert_eq!(changed.access_token(), &bearer("U"));
            assert_eq!(changed.get("access_token").unwrap(), "U");
            assert_eq!(changed.expires_in(), Some(secs(40)));
            assert_eq!(changed.refresh_in(), Some(secs(0)));
            assert!(changed.refresh_token().is_none() && changed.get("refresh_token").is_none());
            assert_eq!(changed.get("instance_url").unwrap(), "https://y.example");
            assert_eq!(changed.scope(), response.scope());
        }
        assert_eq!(response.expires_in(), Some(secs(100)));
        let with_new = response.to_builder().without_refresh_token();
        let with_new = with_new.refresh_token("S").build();
        assert_eq!(with_new.get("refresh_token").unwrap(), "S");
    }

    #[test]
    fn an_age_shortens_the_lifetime_but_never_below_zero() {
        for (lifetime, age, left) in [
            (Some(100), 0, Some(100)),
            (Some(100), 100, Some(0)),
            (Some(100), u64::MAX, Some(0)),
            (None, 10, None),
        ] {
            let response = TokenResponse::builder(bearer("t"));
            let response = match lifetime {
                Some(lifetime) => response.expires_in(secs(lifetime)),
                None => response,
            };
            let response = response.age(secs(age)).build();
            assert_eq!(response.expires_in(), left.map(secs));
        }
        let twice = TokenResponse::builder(bearer("t")).expires_in(secs(100));
        let twice = twice.age(secs(10)).age(Duration::from_millis(500)).build();
        assert_eq!(twice.expires_in(), Some(Duration::from_millis(89_500)));
    }

    /// A store may be damaged, or written by somebody else.
    #[test]
    fn what_is_no_response_is_an_error_that_shows_no_token() {
        let whole = r#"{"access_token":"S3NT1NEL-token","expires_in":100,"refresh_token":"S3NT1NEL-other"}"#;
        let cut = (1..whole.len()).map(|end| whole[..end].to_owned());
        let others = [
            "",
            "null",
            "[]",
            "\"S3NT1NEL-token\"",
            "<html>S3NT1NEL-token</html>",
            r#"{"access_token":7}"#,
            r#"{"access_token":null}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":["S3NT1NEL-token"]}"#,
            r#"{"access_token":"S3NT1NEL-token\n"}"#,
            r#"{"access_token":"S3NT1NEL-token","access_token":"other"}"#,
            r#"{"access_token":"S3NT1NEL-token","token_type":1}"#,
            r#"{"access_token":"S3NT1NEL-token","error":"invalid_grant"}"#,
            r#"{"token":"S3NT1NEL-token"}"#,
            r#"{"access_token":"S3NT1NEL-token"}{}"#,
        ];
        let bodies = cut.chain(others.map(str::to_owned)).map(String::into_bytes);
        let bytes = [vec![0xff; 4], vec![b'['; 1 << 20], vec![0; 1 << 20]];
        for body in bodies.chain(bytes) {
            let error = TokenResponse::from_json(body.clone()).unwrap_err();
            let shown = format!("{error} {error:#} {error:?}");
            assert!(!shown.contains("S3NT1NEL"), "{shown}");
        }
    }

    #[cfg(feature = "dpop")]
    #[test]
    fn a_bound_token_stays_bound_in_a_builder_and_is_bound_again_after_a_store() {
        use tower_oauth2_client::DpopKey;

        let key = DpopKey::generate().unwrap();
        let token = AccessToken::new("T", TokenType::DPOP)
            .unwrap()
            .bound_to(key.clone());
        let response = TokenResponse::builder(token).expires_in(secs(10)).build();
        let built = response.to_builder().age(secs(1)).build();
        assert!(built.access_token().dpop_key().is_some());
        let stored = read(built.raw().clone());
        assert!(stored.access_token().dpop_key().is_none());
        let token = stored.access_token().clone().bound_to(key);
        let restored = stored.to_builder().access_token(token).build();
        assert!(restored.access_token().dpop_key().is_some());
        assert_eq!(restored.expires_in(), Some(secs(9)));
    }

    /// An endpoint that reads a token in its own way writes it in the way of the RFC.
    #[tokio::test]
    async fn the_body_of_a_built_response_has_the_token_as_the_endpoint_read_it() {
        for (body, text) in [
            (r#"{"access_token":"A","id_token":"I"}"#, "I"),
            (r#"{"access_token":"A","token_type":"Custom"}"#, "A"),
        ] {
            let http = service_fn(move |_: Request<Full<Bytes>>| async move {
                Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(body)))
            });
            let client = ClientAuthentication::client_secret_post("c", Credential::fixed("s"));
            let endpoint = TokenEndpoint::new(http, "https://as.test/token", client);
            let endpoint = endpoint.use_id_token().token_type(TokenType::BEARER);
            let response = endpoint.oneshot(request()).await.unwrap();
            let stored = response.to_builder().build();
            let restored = read(stored.raw().clone());
            assert_eq!(restored.access_token(), &bearer(text));
        }
    }
}
