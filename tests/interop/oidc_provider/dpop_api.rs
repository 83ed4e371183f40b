//! The layer with an API that verifies proofs, thumbprints and nonces.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{task::JoinSet, time};
use tower::{Service, ServiceBuilder};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, DpopKey, TokenCache, TokenRequest, TokenSource,
    TokenType,
    add_access_token::{AccessTokenRefused, CloneBody},
};

use super::{API, basic, endpoint};
use crate::{
    setting,
    support::{Sent, call, http},
};

const SHORT: &str = "https://short-jwt.example/";
const ORIGINS: [&str; 2] = ["OIDC_PROVIDER_API", "OIDC_PROVIDER_OTHER_API"];
const TASKS: usize = 20;
const CALLS: usize = 10;

#[tokio::test]
async fn no_call_fails_among_many_concurrent_calls() {
    for path in ["/plain", "/nonce/optional", "/nonce/timed"] {
        let sent = Sent::default();
        let api = ServiceBuilder::new()
            .layer(layer(source(API)).resend(CloneBody))
            .service(sent.record(http()));

        let calling = keep_calling(|_| api.clone(), path, CALLS, Duration::ZERO);
        calling.join_all().await;
        let proofs: BTreeSet<_> = sent.header("dpop").into_iter().collect();
        assert_eq!(proofs.len(), sent.len());
    }
}

/// A nonce is valid for a number of calls here, so each task uses its own key. Nonces are separate for each key.
#[tokio::test]
async fn no_call_fails_while_nonces_change_after_every_third_use() {
    // The calls alternate between two origins, five calls each. The third response contains the next nonce, or the fourth call is refused.
    for (path, refusals) in [("/nonce/required", 2), ("/nonce/sudden", 2 * 2)] {
        let sent = Sent::default();
        let api = |_| {
            ServiceBuilder::new()
                .layer(layer(source(API)).resend(CloneBody))
                .service(sent.record(http()))
        };
        keep_calling(api, path, CALLS, Duration::ZERO)
            .join_all()
            .await;
        assert_eq!(sent.len(), TASKS * (CALLS + refusals), "{path}");
    }
}

#[tokio::test]
async fn next_nonce_is_taken_from_the_response_that_contains_it() {
    let sent = Sent::default();
    let api = ServiceBuilder::new()
        .layer(layer(source(API)).resend(CloneBody))
        .service(sent.record(http()));
    let mut nonces = Vec::new();
    for _ in 0..9 {
        let request = request(ORIGINS[0], "/nonce/required", "");
        let response = call(api.clone(), request).await.unwrap();
        nonces.push(response.body()["nonce"].to_string());
    }
    // Only the first call had to be sent twice.
    assert_eq!(sent.len(), 9 + 1);
    for three in nonces.chunks(3) {
        assert!(three.iter().all(|nonce| *nonce == three[0]));
    }
    assert_eq!(BTreeSet::from_iter(nonces).len(), 3);
}

#[tokio::test]
async fn no_call_fails_while_tokens_expire_and_nonces_change() {
    let (sent, source) = (Sent::default(), source(SHORT));
    let api = ServiceBuilder::new()
        .layer(layer(source.clone()).resend(CloneBody))
        .service(sent.record(http()));
    let pace = Duration::from_millis(125);

    #[allow(clippy::disallowed_methods)]
    let began = time::Instant::now();
    let calling = keep_calling(|_| api.clone(), "/nonce/timed", 40, pace);
    time::sleep(pace * 20).await;
    source.invalidate(&source.token().await.unwrap());
    calling.join_all().await;

    // Tokens are valid for two seconds, and one was invalidated. At most one is fetched per second.
    let most = began.elapsed().as_secs() as usize + 3;
    let tokens: BTreeSet<_> = sent.header("authorization").into_iter().collect();
    assert!(
        (3..=most).contains(&tokens.len()),
        "{} tokens",
        tokens.len()
    );
}

#[tokio::test]
async fn without_resending_the_token_is_kept_and_the_next_call_succeeds() {
    let source = source(API);
    let api = ServiceBuilder::new()
        .layer(layer(source.clone()))
        .service(http());
    let token = source.token().await.unwrap();

    // A nonce of one origin is not valid at the other.
    for origin in ORIGINS {
        let send = || call(api.clone(), request(origin, "/nonce/required", ""));
        demands_a_nonce(&send().await.unwrap());
        for _ in 0..5 {
            assert_eq!(send().await.unwrap().status(), StatusCode::OK);
        }
    }
    assert_eq!(source.token().await.unwrap(), token);
}

#[tokio::test]
async fn endless_nonce_demands_cause_one_resend_and_keep_the_token() {
    let (sent, source) = (Sent::default(), source(API));
    let api = ServiceBuilder::new()
        .layer(layer(source.clone()).resend(CloneBody))
        .service(sent.record(http()));
    let token = source.token().await.unwrap();

    let response = call(api, request(ORIGINS[0], "/nonce/never", "")).await;
    demands_a_nonce(&response.unwrap());
    assert_eq!(sent.len(), 2);
    assert_eq!(source.token().await.unwrap(), token);
}

#[tokio::test]
async fn stolen_token_is_refused() {
    let token = source(API).token().await.unwrap();
    let token = AccessToken::new(token.expose_secret(), TokenType::DPOP).unwrap();
    let stolen = token.bound_to(DpopKey::generate().unwrap());
    let api = ServiceBuilder::new()
        .layer(layer(TokenSource::fixed(stolen)).resend(CloneBody))
        .service(http());

    let response = call(api, request(ORIGINS[0], "/plain", "")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = &response.body()["error_description"];
    assert_eq!(*why, "token: bound to another key");
}

/// Returns a layer that sends the tokens of a source to both origins.
fn layer(source: TokenSource) -> AddAccessTokenLayer {
    AddAccessTokenLayer::new(source)
        .origins(ORIGINS.map(setting))
        .unwrap()
}

/// Returns a source of tokens bound to a new key.
fn source(resource: &str) -> TokenSource {
    let endpoint = endpoint(basic()).dpop(DpopKey::generate().unwrap());
    let request = TokenRequest::client_credentials()
        .resource(resource)
        .scope("api:read");
    TokenCache::new(endpoint).source(request)
}

fn request(origin: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let uri = format!("{}{path}?page=1", setting(origin));
    let body = Full::from(body.to_owned());
    Request::post(uri).body(body).unwrap()
}

/// Calls both origins from many tasks, each making `calls` calls with pauses of `pace`. Every call must succeed.
fn keep_calling<S>(
    api: impl Fn(usize) -> S,
    path: &'static str,
    calls: usize,
    pace: Duration,
) -> JoinSet<()>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error = BoxError>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let mut calling = JoinSet::new();
    for task in 0..TASKS {
        let api = api(task);
        calling.spawn(async move {
            for number in 0..calls {
                let body = format!("call {number} of task {task}");
                let request = request(ORIGINS[number % 2], path, &body);
                let response = call(api.clone(), request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK, "{path}: {response:?}");
                assert_eq!(response.body()["body"], body);
                time::sleep(pace).await;
            }
        });
    }
    calling
}

fn demands_a_nonce<B>(response: &Response<B>) {
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.starts_with(r#"DPoP error="use_dpop_nonce""#));
    assert!(response.extensions().get::<AccessTokenRefused>().is_none());
}
