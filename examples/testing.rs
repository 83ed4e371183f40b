//! The tests of a small service that calls an API with a token: an outage, an expired token, and a 401.
//!
//! Each test starts an authorization server, an API that accepts its tokens, and the service. `cargo run --example testing` runs
//! them one after another, and `cargo test --example testing` runs them as tests.

use std::time::Duration;

use axum::{Router, routing::get};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{
    AddAccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, TokenCache, TokenEndpoint,
    TokenError, TokenRequest, TokenSource,
    add_access_token::CloneBody,
    test_util::{AuthorizationServer, Failure, Listening},
};

type Http = Client<HttpConnector, Full<Bytes>>;

/// The service under test.
struct Orders {
    http: AddAccessToken<Http, CloneBody>,
    api: String,
}

impl Orders {
    fn new(http: Http, tokens: TokenSource, api: String) -> Result<Self, BoxError> {
        let layer = AddAccessTokenLayer::new(tokens).origin(&*api)?;
        let http = layer.resend(CloneBody).layer(http);
        Ok(Self { http, api })
    }

    async fn latest(&self) -> Result<Bytes, BoxError> {
        let request = Request::get(format!("{}/latest", self.api)).body(Full::default())?;
        let response = self.http.clone().oneshot(request).await?;
        match response.status().as_u16() {
            200 => Ok(response.into_body().collect().await?.to_bytes()),
            status => Err(format!("the API answered {status}").into()),
        }
    }
}

/// Starts the authorization server and the API, and creates the service.
async fn start() -> Result<(Listening, Orders), BoxError> {
    let server = AuthorizationServer::start().await?; // stops when it is dropped
    let api = start_api(server.clone()).await?;

    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let endpoint = TokenEndpoint::new(http.clone(), server.token_endpoint(), client);
    let cache = TokenCache::builder(endpoint).clock(server.clock()).build();
    let tokens = cache.source(TokenRequest::client_credentials());
    Ok((server, Orders::new(http, tokens, api)?))
}

/// Starts an API that accepts the tokens of the server.
async fn start_api(server: AuthorizationServer) -> Result<String, BoxError> {
    let latest = async move |headers: HeaderMap| match server.check_bearer(&headers) {
        Ok(()) => Ok("two books"),
        Err(refusal) => Err(refusal),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/latest", get(latest));
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

#[cfg_attr(test, tokio::test)]
async fn outage_is_reported_and_ends() -> Result<(), BoxError> {
    let (server, orders) = start().await?;
    server.fail_until_told(Failure::status(503));
    let error = orders.latest().await.unwrap_err();
    let error = error.downcast::<TokenError>()?;
    assert!(error.is_transient());
    assert_eq!(error.status().map(|status| status.as_u16()), Some(503));

    server.recover();
    server.clock().advance(Duration::from_secs(60)); // the cache pauses after a failure
    assert_eq!(orders.latest().await?, "two books");
    Ok(())
}

#[cfg_attr(test, tokio::test)]
async fn outage_is_not_noticed_while_the_token_is_valid() -> Result<(), BoxError> {
    let (server, orders) = start().await?;
    orders.latest().await?;
    server.fail_until_told(Failure::drop_connection());
    server.clock().advance(Duration::from_secs(59 * 60)); // tokens live for an hour
    assert_eq!(orders.latest().await?, "two books");
    Ok(())
}

#[cfg_attr(test, tokio::test)]
async fn expired_token_is_replaced() -> Result<(), BoxError> {
    let (server, orders) = start().await?;
    orders.latest().await?;
    assert_eq!(orders.latest().await?, "two books");
    assert_eq!(server.token_requests(), 1);

    server.clock().advance(Duration::from_secs(3600));
    assert_eq!(orders.latest().await?, "two books");
    assert_eq!(server.token_requests(), 2);
    Ok(())
}

#[cfg_attr(test, tokio::test)]
async fn token_that_the_api_refuses_is_replaced() -> Result<(), BoxError> {
    let (server, orders) = start().await?;
    orders.latest().await?;
    server.revoke_all(); // the API answers 401 to the cached token
    assert_eq!(orders.latest().await?, "two books");
    assert_eq!(server.token_requests(), 2);
    Ok(())
}

#[cfg(not(test))]
#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!("testing: the authorization server answers 503, then recovers");
    outage_is_reported_and_ends().await?;
    println!("testing: the authorization server is down while a token is valid");
    outage_is_not_noticed_while_the_token_is_valid().await?;
    println!("testing: the token expires");
    expired_token_is_replaced().await?;
    println!("testing: the API answers 401");
    token_that_the_api_refuses_is_replaced().await?;
    println!("testing: all four passed");
    Ok(())
}
