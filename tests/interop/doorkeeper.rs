//! Doorkeeper as the authorization server and in front of an API. Each new token of a client revokes the last one.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::{
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, RevocationEndpoint, RevocationRequest,
    TokenCache, TokenEndpoint, TokenRequest, TokenSource,
    add_access_token::{AccessTokenRefused, CloneBody},
};

use crate::{
    setting,
    support::{Http, SECRET, Sent, call, http},
};

#[tokio::test]
async fn api_accepts_the_token_of_the_layer() {
    let (layer, sent) = layer("api");
    let api = layer.layer(http());
    for _ in 0..10 {
        let response = call(api.clone(), get()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body()["client"], "api");
    }
    assert_eq!(sent.len(), 1);
}

#[tokio::test]
async fn revoked_token_is_replaced_and_the_call_is_resent() {
    let source = source("revocation", &Sent::default());
    let revoked = source.token().await.unwrap();
    let revocation = RevocationEndpoint::new(http(), uri("/oauth/revoke"), client("revocation"));
    let request = RevocationRequest::new(&revoked);
    revocation.oneshot(request).await.unwrap();

    let layer = AddAccessTokenLayer::new(source.clone());
    let layer = layer.origin(uri("")).unwrap().resend(CloneBody);
    let response = call(layer.layer(http()), get()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_ne!(source.token().await.unwrap(), revoked);
}

#[tokio::test]
async fn token_revoked_by_the_next_one_is_refused_and_replaced() {
    let (layer, sent) = layer("refusals");
    let mut api = layer.layer(http());
    assert_eq!(status(&mut api, get()).await, StatusCode::OK);
    // Another replica.
    let other = source("refusals", &Sent::default());
    other.token().await.unwrap();

    let refused = api.ready().await.unwrap().call(get()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.extensions().get::<AccessTokenRefused>().is_some());
    let challenge = refused.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(
        challenge.contains("The access token was revoked"),
        "{challenge}"
    );
    assert_eq!(status(&mut api, get()).await, StatusCode::OK);
    assert_eq!(sent.len(), 2);
}

#[tokio::test]
async fn missing_scope_returns_403_and_keeps_the_token() {
    let (layer, sent) = layer("scopes");
    let mut api = layer.resend(CloneBody).layer(http());
    for _ in 0..3 {
        let post = Request::post(uri("/api")).body(Full::default()).unwrap();
        assert_eq!(status(&mut api, post).await, StatusCode::FORBIDDEN);
        assert_eq!(status(&mut api, get()).await, StatusCode::OK);
    }
    assert_eq!(sent.len(), 1);
}

#[tokio::test]
async fn nearly_all_calls_of_two_replicas_succeed() {
    let sent = [Sent::default(), Sent::default()];
    let mut calling = JoinSet::new();
    for sent in &sent {
        let layer = AddAccessTokenLayer::new(source("replicas", sent));
        let layer = layer.origin(uri("")).unwrap().resend(CloneBody);
        calling.spawn(succeeded(layer.layer(http())));
    }
    let succeeded = calling.join_all().await;
    let token_requests: usize = sent.iter().map(Sent::len).sum();
    println!("{succeeded:?} of {CALLS} calls, {token_requests} token requests");
    assert!(
        succeeded.iter().all(|it| it * 100 >= CALLS * 95),
        "{succeeded:?}"
    );
    assert!(token_requests <= 40, "{token_requests}");
}

/// Each token then costs the calls that were under way when it was revoked.
#[tokio::test]
async fn most_calls_of_two_replicas_succeed_without_resending() {
    let sent = [Sent::default(), Sent::default()];
    let mut calling = JoinSet::new();
    for sent in &sent {
        let layer = AddAccessTokenLayer::new(source("replicas-plain", sent));
        calling.spawn(succeeded(layer.origin(uri("")).unwrap().layer(http())));
    }
    let succeeded = calling.join_all().await;
    let token_requests: usize = sent.iter().map(Sent::len).sum();
    println!("{succeeded:?} of {CALLS} calls, {token_requests} token requests");
    assert!(
        succeeded.iter().all(|it| it * 100 >= CALLS * 85),
        "{succeeded:?}"
    );
    assert!(token_requests <= 40, "{token_requests}");
}

const CALLS: usize = 400;
const TASKS: usize = 2;

/// Calls the API from two tasks, each every 50 milliseconds. Returns how many calls succeeded.
async fn succeeded<S>(api: S) -> usize
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error = BoxError>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let mut calling = JoinSet::new();
    for _ in 0..TASKS {
        let mut api = api.clone();
        calling.spawn(async move {
            let mut tick = time::interval(Duration::from_millis(50));
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut succeeded = 0;
            for _ in 0..CALLS / TASKS {
                tick.tick().await;
                succeeded += usize::from(status(&mut api, get()).await == StatusCode::OK);
            }
            succeeded
        });
    }
    calling.join_all().await.into_iter().sum()
}

async fn status<S>(api: &mut S, request: Request<Full<Bytes>>) -> StatusCode
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error = BoxError>,
{
    let response = api.ready().await.unwrap().call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    body.collect().await.unwrap();
    parts.status
}

/// Returns a layer with a source of its own, and its token requests.
fn layer(client_id: &'static str) -> (AddAccessTokenLayer, Sent) {
    let sent = Sent::default();
    let layer = AddAccessTokenLayer::new(source(client_id, &sent));
    (layer.origin(uri("")).unwrap(), sent)
}

fn source(client_id: &'static str, sent: &Sent) -> TokenSource {
    let http = sent.record::<Http>(http());
    let endpoint = TokenEndpoint::new(http, uri("/oauth/token"), client(client_id));
    TokenCache::new(endpoint).source(TokenRequest::client_credentials())
}

fn client(id: &'static str) -> ClientAuthentication {
    ClientAuthentication::client_secret_basic(id, SECRET)
}

fn get() -> Request<Full<Bytes>> {
    Request::get(uri("/api")).body(Full::default()).unwrap()
}

fn uri(path: &str) -> String {
    format!("{}{path}", setting("DOORKEEPER"))
}
