//! Three ways to call an API with reqwest: `bearer_auth`, a middleware of reqwest-middleware, and a tower stack.
//!
//! It starts an authorization server and an API on loopback. The server revokes the token between the calls: only the first way has to
//! deal with that by itself.
//!
//! Take `bearer_auth` for a single request, the middleware for code that builds its requests with reqwest, and the stack for timeouts,
//! limits or retries of tower.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use reqwest::{StatusCode, redirect::Policy};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, ReqwestService, TokenCache, TokenEndpoint,
    TokenRequest,
    add_access_token::{BufferBody, CloneBody},
    test_util::AuthorizationServer,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!("reqwest: three ways to call an API, whose tokens are revoked between the calls");
    let server = AuthorizationServer::new();
    let listening = server.listen().await?;
    let origin = start_api(server.clone()).await?;
    let orders = format!("{origin}/orders");

    // An application only needs this part.
    let client = reqwest::Client::builder()
        .redirect(Policy::none()) // reqwest would take secrets along to where a redirect leads
        .no_proxy() // the servers of this example are on loopback
        .timeout(Duration::from_secs(10))
        .build()?;
    let tokens = TokenCache::new(TokenEndpoint::new(
        ReqwestService::new(client.clone()),
        listening.token_endpoint(),
        ClientAuthentication::client_secret_basic("client", "secret"),
    ));
    let source = tokens.source(TokenRequest::client_credentials().scope("api1"));

    // 1. The token of the source on one request. Nothing is resent, and nobody notices a refusal.
    let token = source.token().await?;
    let request = client.get(&orders).bearer_auth(token.expose_secret());
    println!("bearer_auth: {}", request.send().await?.status());

    server.revoke_all();
    let request = client.get(&orders).bearer_auth(token.expose_secret());
    let response = request.send().await?;
    println!("bearer_auth with the revoked token: {}", response.status());
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);

    // 2. A middleware: every request to the origin gets the token, and is resent once if the token is refused.
    let layer = AddAccessTokenLayer::new(source.clone())
        .origin(&origin)?
        .resend(CloneBody);
    let api = reqwest_middleware::ClientBuilder::new(client.clone())
        .with(layer)
        .build();
    let request = api.post(&orders).json(&json!({"article": 7}));
    let response = request.send().await?.error_for_status()?;
    println!("middleware: {}", response.text().await?);

    // 3. A tower stack. Its requests and responses are those of `http`, and convert from and to those of reqwest.
    server.revoke_all();
    let layer = AddAccessTokenLayer::new(source)
        .origin(&origin)?
        .resend(BufferBody::reqwest(64 * 1024));
    let mut api = ServiceBuilder::new()
        .concurrency_limit(100)
        .layer(layer)
        .service(ReqwestService::new(client.clone()));
    let request = client.post(&orders).json(&json!({"article": 8})).build()?;
    let request = http::Request::try_from(request)?;
    let response = api.ready().await?.call(request).await?;
    let response = reqwest::Response::from(response).error_for_status()?;
    println!("tower stack: {}", response.text().await?);

    assert_eq!(server.token_requests(), 3);
    Ok(())
}

/// Starts an API that checks each token, and returns its origin.
async fn start_api(server: AuthorizationServer) -> Result<String, BoxError> {
    let orders = get(|| async { "no orders" }).post(|order: String| async { order });
    let router = Router::new()
        .route("/orders", orders)
        .layer(middleware::from_fn_with_state(server, check_token));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(origin)
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
