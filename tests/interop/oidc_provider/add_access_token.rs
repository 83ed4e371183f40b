//! The layer before an API that asks the server about each token.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use tokio::{task::JoinSet, time};
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, TokenCache, TokenRequest, add_access_token::CloneBody,
};

use super::{basic, endpoint, post};

const SHORT: &str = "https://short.example/";
const TASKS: usize = 10;
const CALLS: usize = 40;
const PACE: Duration = Duration::from_millis(125);

#[tokio::test]
async fn no_call_is_lost_while_tokens_expire_and_one_is_revoked() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let tokens = TokenCache::new(endpoint(basic()));
    let source = tokens.source(TokenRequest::client_credentials().resource(SHORT));
    let api = ServiceBuilder::new()
        .layer(AddAccessTokenLayer::new(source.clone()).resend(CloneBody))
        .service(api(seen.clone()));

    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let mut api = api.clone();
        tasks.spawn(async move {
            let mut tick = time::interval(PACE);
            for _ in 0..CALLS {
                tick.tick().await;
                let request = Request::get("https://short.example/").body(Full::default());
                let response = api.ready().await.unwrap().call(request.unwrap());
                assert_eq!(response.await.unwrap().status(), StatusCode::OK);
            }
        });
    }
    time::sleep(PACE * (CALLS / 2) as u32).await;
    let live = source.token().await.unwrap();
    post(
        "/token/revocation",
        "basic",
        &[("token", live.expose_secret())],
    )
    .await;
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }

    // Five seconds of tokens of two: at least three, and at most two for each lifetime and one for the revocation.
    let seen = seen.lock().unwrap();
    assert!((3..=7).contains(&seen.len()), "{} tokens", seen.len());
    assert!(seen.contains(live.expose_secret()));
}

/// An API that has each token introspected (RFC 7662), and notes those that were good.
fn api(
    seen: Arc<Mutex<HashSet<String>>>,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request<Full<Bytes>>| {
        let (seen, token) = (seen.clone(), bearer(request.headers()));
        async move {
            let state = post("/token/introspection", "basic", &[("token", &token)]).await;
            if state["active"] == true {
                seen.lock().unwrap().insert(token);
                return Ok(Response::new(Full::from("hello")));
            }
            let refusal = Response::builder()
                .status(StatusCode::UNAUTHORIZED)
                .header(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#);
            Ok(refusal.body(Full::default())?)
        }
    })
}

fn bearer(headers: &HeaderMap) -> String {
    let value = headers[AUTHORIZATION].to_str().unwrap();
    value.strip_prefix("Bearer ").unwrap().to_owned()
}
