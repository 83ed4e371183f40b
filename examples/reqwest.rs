//! reqwest as the transport of the token endpoint, and as a client whose requests carry a token.
//!
//! It starts an authorization server and an API, calls the API, revokes the token, and calls the API again.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, ReqwestService,
    TokenCache, TokenEndpoint, TokenRequest, add_access_token::BufferBody,
    test_util::AuthorizationServer,
};

/// Requests up to this size are resent once if their token is refused.
const MAX_RESENT: usize = 64 * 1024;

type Api = AddAccessToken<ReqwestService, BufferBody<reqwest::Body>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = AuthorizationServer::new();
    let listening = server.listen().await?;
    let origin = format!("http://{}", start_api(server.clone()).await?);

    // The token endpoint uses a separate client, which follows no redirects and has a shorter timeout.
    let for_tokens = reqwest::Client::builder()
        .redirect(Policy::none())
        .timeout(Duration::from_secs(10))
        .build()?;
    let endpoint = TokenEndpoint::new(
        ReqwestService::new(for_tokens),
        listening.token_endpoint(),
        ClientAuthentication::client_secret_basic("client", "secret"),
    );
    let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials().scope("api1"));

    // Redirects are not followed here either: reqwest removes a token only from the first request to another origin.
    let client = reqwest::Client::builder()
        .redirect(Policy::none())
        .build()?;
    let resend = BufferBody::new(MAX_RESENT, reqwest::Body::wrap);
    let mut api: Api = ServiceBuilder::new()
        .layer(
            AddAccessTokenLayer::new(source)
                .origin(&origin)?
                .resend(resend),
        )
        .service(ReqwestService::new(client.clone()));

    let response = send(&mut api, client.get(format!("{origin}/orders"))).await?;
    println!("orders: {}", response.json::<Value>().await?);

    server.revoke_all();
    let order = json!({"article": 7, "count": 2});
    let request = client.post(format!("{origin}/orders")).json(&order);
    let response = send(&mut api, request).await?;
    println!("{}: {}", response.url(), response.status());
    assert_eq!(response.json::<Value>().await?, order);
    assert_eq!(server.token_requests(), 2);

    let nowhere = format!("{origin}/nowhere");
    let error = send(&mut api, client.get(&nowhere)).await.unwrap_err();
    println!("errors are the usual ones of reqwest: {error}");
    assert!(error.to_string().contains(&nowhere));
    Ok(())
}

/// Sends a request from reqwest's builder through a stack of services, and returns reqwest's response.
async fn send(
    api: &mut Api,
    request: reqwest::RequestBuilder,
) -> Result<reqwest::Response, BoxError> {
    let request = http::Request::try_from(request.build()?)?;
    let response = api.ready().await?.call(request).await?;
    Ok(reqwest::Response::from(response).error_for_status()?)
}

/// Starts an API that checks each token.
async fn start_api(server: AuthorizationServer) -> Result<SocketAddr, BoxError> {
    let router = Router::new()
        .route("/orders", get(|| async { Json(json!([])) }))
        .route("/orders", post(|order: Json<Value>| async { order }))
        .layer(middleware::from_fn_with_state(server, check_token));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

async fn check_token(
    State(server): State<AuthorizationServer>,
    request: Request,
    next: Next,
) -> Response {
    match server.check_bearer(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.map(Body::new).into_response(),
    }
}
