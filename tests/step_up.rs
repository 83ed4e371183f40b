//! Challenges that demand a stronger token: scopes, claims, and the authentication of the user.
#![cfg(feature = "test-util")]

mod cache_support;
mod dpop_support;
mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, header::WWW_AUTHENTICATE};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, DpopKey, TokenCache, TokenEndpoint, TokenRequest, TokenSource,
    add_access_token::{AccessTokenRefused, CloneBody, StepUp},
    test_util::ManualClock,
    token_cache::TokenState,
};

use self::cache_support::{
    API, Api, Body, Http, Seen, api_layer, bearer, call, call_to, client, secs, settle,
};

type Form = HashMap<String, String>;

/// A token endpoint that issues `t0`, `t1` and so on for 100 seconds, and remembers what each was requested with.
#[derive(Clone)]
struct Issuer {
    forms: Arc<Mutex<Vec<Form>>>,
    answer: Arc<Answer>,
    clock: ManualClock,
}

/// Returns the status and the body of an error, or `None` for a token.
type Answer = dyn Fn(&Form) -> Option<(u16, &'static str)> + Send + Sync;

impl Issuer {
    fn new() -> Self {
        Self::refusing(|_| None)
    }

    fn refusing(
        answer: impl Fn(&Form) -> Option<(u16, &'static str)> + Send + Sync + 'static,
    ) -> Self {
        Self {
            forms: Arc::default(),
            answer: Arc::new(answer),
            clock: ManualClock::new(),
        }
    }

    fn service(&self) -> Http {
        let this = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move {
                let is_bound = request.headers().contains_key("dpop");
                let body = request.into_body().collect().await?.to_bytes();
                Ok(this.issue(&body, is_bound))
            }
        }))
    }

    fn issue(&self, body: &Bytes, is_bound: bool) -> Response<Body> {
        let form: Form = support::form(body).into_iter().collect();
        let refusal = (self.answer)(&form);
        let mut forms = self.forms.lock().unwrap();
        let (status, body) = match refusal {
            Some((status, body)) => (status, body.to_owned()),
            None => {
                let (number, scope) = (forms.len(), form.get("scope"));
                let scope = scope.map_or("default", |scope| scope);
                let kind = if is_bound { "DPoP" } else { "Bearer" };
                let body = format!(
                    r#"{{"access_token":"t{number}","token_type":"{kind}","expires_in":100,"scope":"{scope}"}}"#
                );
                (200, body)
            }
        };
        forms.push(form);
        Response::builder()
            .status(status)
            .body(Full::from(body))
            .unwrap()
    }

    fn cache(&self) -> TokenCache {
        let endpoint = TokenEndpoint::new(self.service(), support::URI, client());
        TokenCache::builder(endpoint)
            .clock(self.clock.clock())
            .build()
    }

    fn source(&self) -> TokenSource {
        self.cache().source(base())
    }

    /// The number of token requests.
    fn calls(&self) -> usize {
        self.forms.lock().unwrap().len()
    }

    fn form(&self, number: usize) -> Form {
        self.forms.lock().unwrap()[number].clone()
    }

    /// What the token of a request was requested with.
    #[track_caller]
    fn form_of(&self, seen: &Seen) -> Form {
        self.form(number_of(seen))
    }
}

/// The number of the token that a request carries.
#[track_caller]
fn number_of(seen: &Seen) -> usize {
    let value = seen.authorization().unwrap().to_str().unwrap();
    let (_, number) = value.split_once(" t").unwrap();
    number.parse().unwrap()
}

fn base() -> TokenRequest {
    TokenRequest::client_credentials().scope("read")
}

fn ok() -> Response<Body> {
    Response::new(Full::from("hello"))
}

fn challenge(status: u16, challenge: impl AsRef<str>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(WWW_AUTHENTICATE, challenge.as_ref())
        .body(Full::from("challenged"))
        .unwrap()
}

fn scope_challenge(scope: &str) -> Response<Body> {
    let header = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
    challenge(403, header)
}

fn claims_challenge(claims: &str) -> Response<Body> {
    let claims = BASE64_STANDARD.encode(claims);
    let header = format!(
        r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="{claims}""#
    );
    challenge(401, header)
}

fn has_scope(form: &Form, word: &str) -> bool {
    let scope = form.get("scope").map_or("", |scope| scope);
    scope.split(' ').any(|other| other == word)
}

/// An API that demands the scope `write`.
fn demanding_write(issuer: &Issuer) -> Api {
    let issuer = issuer.clone();
    Api::new(
        move |seen| match has_scope(&issuer.form_of(seen), "write") {
            true => ok(),
            false => scope_challenge("write"),
        },
    )
}

fn layer(source: TokenSource) -> AddAccessTokenLayer {
    api_layer(source).step_up(StepUp::new())
}

type Client = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

fn resending(layer: AddAccessTokenLayer, api: &Api) -> Client {
    BoxCloneSyncService::new(layer.resend(CloneBody).layer(api.clone()))
}

fn not_resending(layer: AddAccessTokenLayer, api: &Api) -> Client {
    BoxCloneSyncService::new(layer.layer(api.clone()))
}

async fn send(client: &Client, request: Request<Body>) -> u16 {
    let response = client.clone().oneshot(request).await.unwrap();
    response.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn request_is_resent_once_with_a_wider_scope_and_later_ones_use_it_at_once() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let client = resending(layer(issuer.source()), &api);
    let mut same_instance = client.clone();
    for _ in 0..10 {
        assert_eq!(send(&client, call()).await, 200);
        let response = same_instance.ready().await.unwrap().call(call()).await;
        assert_eq!(response.unwrap().status(), 200);
    }
    assert_eq!(api.requests(), 21);
    assert_eq!(issuer.calls(), 2);
    assert_eq!(issuer.form(1)["scope"], "read write");
    let seen = api.seen();
    assert_eq!((number_of(&seen[0]), number_of(&seen[1])), (0, 1));
    assert_eq!(
        (&seen[0].body, &seen[1].body),
        (&"the body".into(), &"the body".into())
    );
    assert!(seen[1].authorization().unwrap().is_sensitive());
}

#[tokio::test(start_paused = true)]
async fn stronger_token_is_renewed_in_place_of_the_weaker_one() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let client = resending(layer(issuer.source()), &api);
    for _ in 0..10 {
        assert_eq!(send(&client, call()).await, 200);
        issuer.clock.advance(secs(101));
    }
    assert_eq!(api.requests(), 11);
    assert_eq!(issuer.calls(), 11);
    assert!((1..11).all(|number| issuer.form(number)["scope"] == "read write"));
}

#[tokio::test(start_paused = true)]
async fn without_resending_later_requests_use_the_stronger_token() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let client = not_resending(layer(issuer.source()), &api);
    let response = client.clone().oneshot(call()).await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(response.extensions().get::<AccessTokenRefused>().is_none());
    settle().await;
    assert_eq!(issuer.calls(), 2);
    for _ in 0..10 {
        assert_eq!(send(&client, call()).await, 200);
    }
    assert_eq!(issuer.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn layer_answers_no_challenge_by_default() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let client = resending(api_layer(issuer.source()), &api);
    assert_eq!(send(&client, call()).await, 403);
    assert_eq!((api.requests(), issuer.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_a_layer_share_the_stronger_token() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let layer = layer(issuer.source());
    for _ in 0..5 {
        assert_eq!(send(&resending(layer.clone(), &api), call()).await, 200);
    }
    assert_eq!((api.requests(), issuer.calls()), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn claims_are_requested_together_with_the_capabilities_of_the_client() {
    const CP1: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
    const NBF: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}"#;
    for error in ["insufficient_claims", "invalid_token"] {
        let issuer = Issuer::new();
        let judge = issuer.clone();
        let api = Api::new(
            move |seen| match judge.form_of(seen)["claims"].contains("nbf") {
                true => ok(),
                false => {
                    let claims = BASE64_STANDARD.encode(NBF);
                    challenge(401, format!(r#"Bearer error="{error}", claims="{claims}""#))
                }
            },
        );
        let source = issuer.cache().source(base().parameter("claims", CP1));
        let client = resending(layer(source), &api);
        for _ in 0..5 {
            assert_eq!(send(&client, call()).await, 200, "{error}");
        }
        assert_eq!((api.requests(), issuer.calls()), (6, 2), "{error}");
        assert_eq!(
            issuer.form(1)["claims"],
            r#"{"access_token":{"nbf":{"essential":true,"value":"1700000000"},"xms_cc":{"values":["cp1"]}}}"#
        );
    }
}

#[tokio::test(start_paused = true)]
async fn token_that_is_refused_with_claims_is_dropped() {
    let issuer = Issuer::new();
    let claims = BASE64_STANDARD.encode(r#"{"access_token":{"a":null}}"#);
    let judge = issuer.clone();
    let api = Api::new(
        move |seen| match judge.form_of(seen).contains_key("claims") {
            true => ok(),
            false => challenge(
                401,
                format!("Bearer error=invalid_token, claims=\"{claims}\""),
            ),
        },
    );
    let cache = issuer.cache();
    let source = cache.source(base());
    let client = not_resending(layer(source.clone()), &api);
    let response = client.clone().oneshot(call()).await.unwrap();
    assert!(response.extensions().get::<AccessTokenRefused>().is_some());
    assert!(source.peek().is_none());
    // There is no usable token, so it waits for the stronger one.
    assert_eq!(send(&client, call()).await, 200);
    assert_eq!(issuer.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn authentication_of_the_user_is_requested_where_there_is_a_user() {
    for (base, expected) in [
        (TokenRequest::jwt_bearer("assertion"), 200),
        (TokenRequest::password("name", "password"), 200),
        (TokenRequest::client_credentials(), 401),
    ] {
        let issuer = Issuer::new();
        let judge = issuer.clone();
        let api = Api::new(move |seen| {
            let form = judge.form_of(seen);
            match (form.get("acr_values"), form.get("max_age")) {
                (Some(acr_values), Some(max_age)) if acr_values == "gold" && max_age == "60" => {
                    ok()
                }
                _ => challenge(
                    401,
                    r#"Bearer error="insufficient_user_authentication", acr_values="gold", max_age="60""#,
                ),
            }
        });
        let client = resending(layer(issuer.cache().source(base)), &api);
        assert_eq!(send(&client, call()).await, expected);
        assert_eq!(issuer.calls(), if expected == 200 { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn scope_that_the_server_chose_stays() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let source = issuer.cache().source(TokenRequest::client_credentials());
    let client = resending(layer(source), &api);
    assert_eq!(send(&client, call()).await, 200);
    assert_eq!(issuer.form(1)["scope"], "default write");
}

#[tokio::test(start_paused = true)]
async fn scopes_of_several_operations_add_up() {
    let issuer = Issuer::new();
    let judge = issuer.clone();
    let api = Api::new(move |seen| {
        let needed = &seen.uri.path()[1..];
        match has_scope(&judge.form_of(seen), needed) {
            true => ok(),
            false => scope_challenge(needed),
        }
    });
    let client = resending(layer(issuer.source()), &api);
    for _ in 0..5 {
        for needed in ["read", "write", "admin"] {
            let request = call_to(&format!("https://api.test/{needed}"));
            assert_eq!(send(&client, request).await, 200);
        }
    }
    assert_eq!(issuer.calls(), 3);
    assert_eq!(issuer.form(2)["scope"], "read write admin");
}

#[tokio::test(start_paused = true)]
async fn requests_at_the_same_time_share_one_stronger_token() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let client = resending(layer(issuer.source()), &api);
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { send(&client, call()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(issuer.calls(), 2);
    assert!(api.requests() <= 200);
}

/// The first request waits for the stronger token, and the others do not.
#[tokio::test(start_paused = true)]
async fn no_other_request_waits_while_the_weaker_token_is_usable() {
    let issuer = Issuer::new();
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = is_slow.clone();
    let inner = issuer.service();
    let server = tower::service_fn(move |request: Request<Body>| {
        let (inner, slow) = (inner.clone(), slow.clone());
        async move {
            if slow.load(Ordering::SeqCst) {
                tokio::time::sleep(secs(20)).await;
            }
            inner.oneshot(request).await
        }
    });
    let endpoint = TokenEndpoint::new(server, support::URI, client());
    let source = TokenCache::new(endpoint).source(base());
    source.warm_up().await.unwrap();
    is_slow.store(true, Ordering::SeqCst);

    let judge = issuer.clone();
    let api = Api::new(move |seen| match seen.uri.path() {
        "/orders" if !has_scope(&judge.form_of(seen), "write") => scope_challenge("write"),
        _ => ok(),
    });
    let client = resending(layer(source), &api);
    let demanding = tokio::spawn({
        let client = client.clone();
        async move { send(&client, call()).await }
    });
    settle().await;
    let begin = cache_support::now();
    for _ in 0..5 {
        assert_eq!(send(&client, call_to("https://api.test/public")).await, 200);
    }
    assert_eq!(begin.elapsed(), secs(0));
    assert_eq!(demanding.await.unwrap(), 200);
    assert_eq!(begin.elapsed(), secs(20));
    assert_eq!(send(&client, call_to("https://api.test/public")).await, 200);
    assert_eq!(number_of(&api.last()), 1);
}

#[tokio::test(start_paused = true)]
async fn caller_gets_the_challenge_if_the_server_refuses_the_stronger_token() {
    for (status, error) in [
        (400, r#"{"error":"invalid_scope"}"#),
        (503, r#"{"error":"temporarily_unavailable"}"#),
    ] {
        for resends in [true, false] {
            let issuer =
                Issuer::refusing(move |form| has_scope(form, "write").then_some((status, error)));
            let api = demanding_write(&issuer);
            let client = match resends {
                true => resending(layer(issuer.source()), &api),
                false => not_resending(layer(issuer.source()), &api),
            };
            for _ in 0..100 {
                let response = client.clone().oneshot(call()).await.unwrap();
                assert_eq!(response.status(), 403);
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, "challenged");
                settle().await;
            }
            // The weaker token, and the stronger one once, or twice if the failure is transient.
            assert!(issuer.calls() <= 3, "{}", issuer.calls());
            assert_eq!(api.requests(), 100);
            assert!(api.seen().iter().all(|seen| number_of(seen) == 0));

            let before = issuer.calls();
            for _ in 0..90 {
                assert_eq!(send(&client, call()).await, 403);
                settle().await;
                issuer.clock.advance(secs(1));
            }
            println!(
                "{error}: {} token requests in 90 seconds",
                issuer.calls() - before
            );
            assert!(issuer.calls() - before <= 12, "{}", issuer.calls() - before);
        }
    }
}

/// The server withdraws the wider scope after a while.
#[tokio::test(start_paused = true)]
async fn requests_go_on_with_the_weaker_token_if_the_stronger_one_cannot_be_renewed() {
    let is_withdrawn = Arc::new(AtomicBool::new(false));
    let withdrawn = is_withdrawn.clone();
    let issuer = Issuer::refusing(move |form| {
        let is_refused = withdrawn.load(Ordering::SeqCst) && has_scope(form, "write");
        is_refused.then_some((400, r#"{"error":"invalid_scope"}"#))
    });
    let judge = issuer.clone();
    let api = Api::new(move |seen| match seen.uri.path() {
        "/orders" if !has_scope(&judge.form_of(seen), "write") => scope_challenge("write"),
        _ => ok(),
    });
    for resends in [true, false] {
        is_withdrawn.store(false, Ordering::SeqCst);
        let client = match resends {
            true => resending(layer(issuer.source()), &api),
            false => not_resending(layer(issuer.source()), &api),
        };
        send(&client, call()).await;
        settle().await;
        assert_eq!(send(&client, call()).await, 200);
        is_withdrawn.store(true, Ordering::SeqCst);
        issuer.clock.advance(secs(101));
        let before = issuer.calls();
        for _ in 0..10 {
            assert_eq!(send(&client, call_to("https://api.test/public")).await, 200);
        }
        assert_eq!(send(&client, call()).await, 403);
        // The stronger one is refused once, and the weaker one is fetched.
        assert_eq!(issuer.calls() - before, 2);
        is_withdrawn.store(false, Ordering::SeqCst);
        issuer.clock.advance(secs(6));
        send(&client, call()).await;
        settle().await;
        assert_eq!(send(&client, call()).await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn stronger_token_stays_in_use_after_an_outage() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = is_down.clone();
    let issuer = Issuer::refusing(move |_| down.load(Ordering::SeqCst).then_some((503, "")));
    let api = demanding_write(&issuer);
    let client = resending(layer(issuer.source()), &api);
    assert_eq!(send(&client, call()).await, 200);
    is_down.store(true, Ordering::SeqCst);
    issuer.clock.advance(secs(101));
    assert!(client.clone().oneshot(call()).await.is_err());
    is_down.store(false, Ordering::SeqCst);
    issuer.clock.advance(secs(61));
    let before = api.requests();
    assert_eq!(send(&client, call()).await, 200);
    assert_eq!(api.requests() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn challenges_of_unnamed_origins_are_not_answered() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let source = issuer.source();
    let any = layer(source.clone()).danger_any_https_origin();
    let client = resending(any, &api);
    for _ in 0..5 {
        assert_eq!(send(&client, call_to("https://evil.test/")).await, 403);
    }
    assert_eq!((api.requests(), issuer.calls()), (5, 1));
    let unnamed = AddAccessTokenLayer::new(source).danger_any_https_origin();
    let client = resending(unnamed.step_up(StepUp::new()), &api);
    assert_eq!(send(&client, call()).await, 403);
    assert_eq!(issuer.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn origins_may_be_named_after_stepping_up_is_set() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let layer = AddAccessTokenLayer::new(issuer.source()).step_up(StepUp::new());
    let client = resending(layer.origin(API).unwrap(), &api);
    assert_eq!(send(&client, call()).await, 200);
    // tonic's clients.
    let request = Request::post("/orders").body(Body::default()).unwrap();
    assert_eq!(send(&client, request).await, 200);
}

#[tokio::test(start_paused = true)]
async fn fixed_tokens_and_those_of_other_caches_are_not_stepped_up() {
    let api = Api::new(|_| scope_challenge("write"));
    let fixed = TokenSource::fixed(bearer("fixed"));
    let client = resending(layer(fixed.clone()), &api);
    assert_eq!(send(&client, call()).await, 403);

    let [issuer, other] = [Issuer::new(), Issuer::new()];
    let client = resending(layer(issuer.source()), &api);
    for source in [fixed, other.source()] {
        let mut request = call();
        request.extensions_mut().insert(source);
        assert_eq!(send(&client, request).await, 403);
    }
    assert_eq!(api.requests(), 3);
    assert_eq!((issuer.calls(), other.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn credential_that_can_be_sent_once_is_not_sent_again() {
    for request in [
        TokenRequest::authorization_code("code", "https://app.example/cb"),
        TokenRequest::refresh_token("token"),
        TokenRequest::device_code("code"),
    ] {
        let issuer = Issuer::new();
        let api = Api::new(|_| scope_challenge("write"));
        let source = issuer.cache().source(request.scope("read"));
        let client = resending(layer(source), &api);
        for _ in 0..3 {
            assert_eq!(send(&client, call()).await, 403);
        }
        assert_eq!(issuer.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn each_token_request_has_its_own_stronger_one() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let cache = issuer.cache();
    let tenant = |name: &str| base().parameter("tenant", name.to_owned());
    let by_function = layer(cache.source(base())).token_request_for(move |request| {
        match request.headers.get("x-tenant") {
            Some(name) => tenant(name.to_str().unwrap()),
            None => base(),
        }
    });
    let client = resending(by_function, &api);
    for _ in 0..3 {
        for name in ["blue", "red"] {
            let mut by_header = call();
            by_header
                .headers_mut()
                .insert("x-tenant", name.parse().unwrap());
            assert_eq!(send(&client, by_header).await, 200);
            assert_eq!(issuer.form_of(&api.last())["tenant"], name);
            let mut by_request = call();
            by_request.extensions_mut().insert(tenant(name));
            assert_eq!(send(&client, by_request).await, 200);
            assert_eq!(issuer.form_of(&api.last())["tenant"], name);
            let mut by_source = call();
            by_source
                .extensions_mut()
                .insert(cache.source(tenant(name)));
            assert_eq!(send(&client, by_source).await, 200);
            assert_eq!(issuer.form_of(&api.last())["tenant"], name);
        }
        assert_eq!(send(&client, call()).await, 200);
        assert!(!issuer.form_of(&api.last()).contains_key("tenant"));
    }
    assert_eq!(issuer.calls(), 6);
    assert_eq!(api.requests(), 3 * 7 + 3);
}

#[tokio::test(start_paused = true)]
async fn stronger_token_that_was_requested_before_is_shared() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let cache = issuer.cache();
    let user = cache.source(base().scope("write"));
    user.warm_up().await.unwrap();
    let client = resending(layer(cache.source(base())), &api);
    for _ in 0..3 {
        assert_eq!(send(&client, call()).await, 200);
        assert_eq!(number_of(&api.last()), 0);
    }
    assert_eq!((api.requests(), issuer.calls()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn challenge_to_a_caller_that_no_longer_waits_is_answered_once() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let client = resending(layer(issuer.source()), &api);
    for polls in 0..20 {
        let mut future = tokio_test::task::spawn(client.clone().oneshot(call()));
        for _ in 0..polls {
            if future.poll().is_ready() {
                break;
            }
            settle().await;
        }
        drop(future);
        settle().await;
    }
    assert_eq!(send(&client, call()).await, 200);
    assert_eq!(issuer.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_tenants_do_not_fill_the_memory_or_the_cache() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let endpoint = TokenEndpoint::new(issuer.service(), support::URI, client());
    let cache = TokenCache::builder(endpoint).max_entries(50).build();
    let client = resending(layer(cache.source(base())), &api);
    assert_eq!(send(&client, call()).await, 200);
    for number in 0..1500 {
        let mut request = call();
        let tenant = base().parameter("tenant", number.to_string());
        request.extensions_mut().insert(tenant);
        assert_eq!(send(&client, request).await, 200);
    }
    assert!(cache.status().len() <= 60, "{}", cache.status().len());
    let before = api.requests();
    assert_eq!(send(&client, call()).await, 200);
    assert_eq!(api.requests() - before, 1, "the slot of the layer stays");
}

#[tokio::test(start_paused = true)]
async fn only_allowed_words_are_added_to_the_scope() {
    let issuer = Issuer::new();
    let api = Api::new(|_| scope_challenge("admin write"));
    let step_up = StepUp::new().allowed_scope("write other");
    let client = resending(api_layer(issuer.source()).step_up(step_up), &api);
    assert_eq!(send(&client, call()).await, 403);
    assert_eq!(issuer.calls(), 2);
    assert_eq!(issuer.form(1)["scope"], "read write");
}

#[tokio::test(start_paused = true)]
async fn stronger_token_is_bound_to_the_same_key() {
    let issuer = Issuer::new();
    let api = demanding_write(&issuer);
    let endpoint = TokenEndpoint::new(issuer.service(), support::URI, client());
    let key = DpopKey::generate().unwrap();
    let cache = TokenCache::new(endpoint);
    let client = resending(layer(cache.source(base().dpop(key))), &api);
    for _ in 0..3 {
        assert_eq!(send(&client, call()).await, 200);
    }
    let seen = api.seen();
    assert_eq!(seen.len(), 4);
    let proofs: Vec<_> = seen
        .iter()
        .map(|seen| seen.headers["dpop"].clone())
        .collect();
    for (seen, proof) in seen.iter().zip(&proofs) {
        let value = seen.authorization().unwrap().to_str().unwrap();
        assert!(value.starts_with("DPoP t"), "{value}");
        assert_eq!(proofs.iter().filter(|other| *other == proof).count(), 1);
    }
    assert_eq!(issuer.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn refused_stronger_token_is_replaced_by_another_stronger_one() {
    let issuer = Issuer::new();
    let judge = issuer.clone();
    let api = Api::new(move |seen| match number_of(seen) {
        1 => cache_support::refusal(),
        _ if has_scope(&judge.form_of(seen), "write") => ok(),
        _ => scope_challenge("write"),
    });
    let client = resending(layer(issuer.source()), &api);
    assert_eq!(send(&client, call()).await, 200);
    let numbers: Vec<_> = api.seen().iter().map(number_of).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(issuer.form(2)["scope"], "read write");
}

#[tokio::test(start_paused = true)]
async fn challenges_of_a_proxy_are_answered() {
    let issuer = Issuer::new();
    let judge = issuer.clone();
    let api = Api::new(move |seen| {
        let value = seen.headers["proxy-authorization"].to_str().unwrap();
        let number = value.strip_prefix("Bearer t").unwrap().parse().unwrap();
        match has_scope(&judge.form(number), "write") {
            true => ok(),
            false => Response::builder()
                .status(407)
                .header(
                    "proxy-authenticate",
                    "Bearer error=insufficient_scope, scope=write",
                )
                .body(Body::default())
                .unwrap(),
        }
    });
    let layer = layer(issuer.source()).header(http::header::PROXY_AUTHORIZATION);
    let client = resending(layer, &api);
    assert_eq!(send(&client, call()).await, 200);
    assert_eq!(issuer.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn success_and_server_errors_are_no_challenges() {
    for status in [200, 204, 302, 500, 503] {
        let issuer = Issuer::new();
        let header = "Bearer error=insufficient_scope, scope=write";
        let api = Api::new(move |_| challenge(status, header));
        let client = resending(layer(issuer.source()), &api);
        assert_eq!(send(&client, call()).await, status);
        assert_eq!(issuer.calls(), 1, "{status}");
    }
}

/// Calls a hostile API once a second. Returns how many stronger tokens were requested, without their renewals.
async fn cost_of(calls: usize, resends: bool, answer: fn(usize) -> Response<Body>) -> usize {
    let issuer = Issuer::new();
    let cache = issuer.cache();
    let number = AtomicUsize::new(0);
    let api = Api::new(move |_| answer(number.fetch_add(1, Ordering::SeqCst)));
    let layer = layer(cache.source(base()));
    let client = match resends {
        true => resending(layer, &api),
        false => not_resending(layer, &api),
    };
    for _ in 0..calls {
        let status = send(&client, call()).await;
        assert!((400..500).contains(&status));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(cache.status().len() <= 3, "{:?}", cache.status());
        issuer.clock.advance(secs(1));
    }
    assert!(api.requests() <= 2 * calls);
    let forms = issuer.forms.lock().unwrap().clone();
    for form in &forms {
        assert!(form["scope"].len() <= 4096 && form["scope"].split(' ').count() <= 64);
        assert!(form.get("claims").is_none_or(|claims| claims.len() <= 4096));
    }
    let distinct: std::collections::HashSet<_> = forms
        .iter()
        .map(|form| (form["scope"].clone(), form.get("claims").cloned()))
        .collect();
    distinct.len() - 1
}

#[tokio::test(start_paused = true)]
async fn hostile_challenges_cost_a_bounded_number_of_token_requests() {
    type Answer = fn(usize) -> Response<Body>;
    for (name, most, answer) in [
        (
            "the same scope forever",
            1,
            (|_| scope_challenge("write")) as Answer,
        ),
        ("the scope that is there", 0, |_| scope_challenge("read")),
        ("ever wider scopes", 20, |number| {
            scope_challenge(&format!("s{number}"))
        }),
        ("ever longer words", 20, |number| {
            scope_challenge(&"x".repeat(number))
        }),
        ("many words at once", 0, |_| {
            let words: Vec<_> = (0..1000).map(|n| format!("s{n}")).collect();
            scope_challenge(&words.join(" "))
        }),
        ("ever other claims", 20, |number| {
            claims_challenge(&format!(r#"{{"access_token":{{"c{number}":null}}}}"#))
        }),
        ("ever other values", 20, |number| {
            claims_challenge(&format!(
                r#"{{"access_token":{{"nbf":{{"value":"{number}"}}}}}}"#
            ))
        }),
        ("huge claims", 0, |number| {
            claims_challenge(&format!(r#"{{"c{number}":"{}"}}"#, "x".repeat(5000)))
        }),
        ("deep claims", 0, |_| {
            claims_challenge(&format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500)))
        }),
        ("claims that are no JSON", 0, |number| {
            claims_challenge(&format!("c{number}"))
        }),
        ("claims that are no base64", 0, |_| {
            challenge(401, "Bearer error=insufficient_claims, claims=\"***\"")
        }),
        ("claims that are no object", 0, |number| {
            claims_challenge(&format!("[{number}]"))
        }),
        ("scopes with line breaks", 0, |_| {
            challenge(403, "Bearer error=insufficient_scope, scope=\"a\tb\"")
        }),
        ("a user who signs in again", 0, |number| {
            let header = "Bearer error=insufficient_user_authentication, max_age=";
            challenge(401, format!("{header}{}", 10_000 - number))
        }),
    ] {
        for resends in [true, false] {
            let calls = if most == 0 { 300 } else { 3600 };
            let cost = cost_of(calls, resends, answer).await;
            println!("{name}, resend {resends}: {cost} stronger tokens in {calls} calls");
            assert!(cost <= most, "{name}: {cost}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replaced_stronger_tokens_leave_the_cache() {
    let issuer = Issuer::new();
    let number = AtomicUsize::new(0);
    let api = Api::new(move |_| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        claims_challenge(&format!(
            r#"{{"access_token":{{"nbf":{{"value":"{number}"}}}}}}"#
        ))
    });
    let cache = issuer.cache();
    let user = cache.source(base().parameter("user", "x"));
    user.warm_up().await.unwrap();
    let client = resending(layer(cache.source(base())), &api);
    for _ in 0..20 {
        assert_eq!(send(&client, call()).await, 401);
        settle().await;
        issuer.clock.advance(secs(300));
        user.warm_up().await.unwrap();
    }
    let states: Vec<_> = cache.status().iter().map(|status| status.state()).collect();
    assert!(states.len() <= 4, "{states:?}");
    assert!(states.contains(&TokenState::Fresh));
}

#[tokio::test(start_paused = true)]
async fn a_function_makes_the_stronger_request_from_a_response_of_the_apis_own_kind() {
    let issuer = Issuer::new();
    let judge = issuer.clone();
    let api = Api::new(
        move |seen| match judge.form_of(seen).get("role").map(|role| &**role) {
            Some("editor") => ok(),
            _ => challenge(403, "Custom role=\"editor\""),
        },
    );
    let step_up = StepUp::new().token_request_for(|head, challenges, current| {
        assert_eq!(head.status, 403);
        let role = challenges.iter().find_map(|it| it.parameter("role"))?;
        Some(current.clone().replace_parameter("role", role))
    });
    let client = resending(api_layer(issuer.source()).step_up(step_up), &api);
    for _ in 0..5 {
        assert_eq!(send(&client, call()).await, 200);
    }
    assert_eq!((api.requests(), issuer.calls()), (6, 2));
    assert_eq!(issuer.form(1)["scope"], "read");
}

#[tokio::test(start_paused = true)]
async fn a_function_of_the_user_is_limited_like_the_rules_of_the_layer() {
    for (asks, status, calls) in [
        // Nothing, so that the rules decide.
        (0, 200, 2),
        // The same again.
        (1, 403, 1),
        // Always something else.
        (2, 403, 4),
        // What can be sent only once.
        (3, 200, 2),
    ] {
        let issuer = Issuer::new();
        let api = demanding_write(&issuer);
        let number = AtomicUsize::new(0);
        let step_up = StepUp::new().token_request_for(move |_, _, current| match asks {
            0 => None,
            1 => Some(current.clone()),
            2 => {
                let number = number.fetch_add(1, Ordering::SeqCst).to_string();
                Some(current.clone().replace_parameter("number", number))
            }
            _ => Some(TokenRequest::refresh_token("SPENT")),
        });
        let client = resending(api_layer(issuer.source()).step_up(step_up), &api);
        for _ in 0..10 {
            assert_eq!(send(&client, call()).await, status, "{asks}");
        }
        assert_eq!(issuer.calls(), calls, "{asks}");
    }
}
