//! A client that tonic generated, over the layer: refused calls are sent once more, and a missing token is a gRPC status.
//!
//! It starts an authorization server and a gRPC server that checks each token.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::ServiceBuilder;
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    add_access_token::{BufferBody, WatchTrailersLayer},
    grpc_status,
    test_util::{AuthorizationServer, Failure},
};

/// Calls of up to this size are sent once more when their token was refused.
const MAX_RESENT: usize = 64 * 1024;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = AuthorizationServer::new();
    let listening = server.listen().await?;
    let address = start_grpc(server.clone()).await?;

    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let tokens = TokenCache::new(TokenEndpoint::new(
        http,
        listening.token_endpoint(),
        ClientAuthentication::client_secret_basic("client", "secret"),
    ));
    let source = tokens.source(TokenRequest::client_credentials().scope("api1"));

    let channel = Channel::from_shared(format!("http://{address}"))?.connect_lazy();
    let channel = ServiceBuilder::new()
        .map_err(grpc_status)
        .layer(AddAccessTokenLayer::new(source.clone()).resend(BufferBody::tonic(MAX_RESENT)))
        .layer(WatchTrailersLayer::new(source)) // for long streams, which may be refused at their end
        .service(channel);
    let mut client = HealthClient::new(channel);

    let response = client.check(HealthCheckRequest::default()).await?;
    assert_eq!(response.into_inner().status(), ServingStatus::Serving);
    let mut changes = client
        .watch(HealthCheckRequest::default())
        .await?
        .into_inner();
    let first = changes.message().await?.ok_or("the stream has ended")?;
    assert_eq!(first.status(), ServingStatus::Serving);
    println!(
        "a call and a stream, {} token request",
        server.token_requests()
    );

    server.revoke_all();
    client.check(HealthCheckRequest::default()).await?;
    assert_eq!(server.token_requests(), 2);
    println!("the token was revoked, and the call was sent once more with another");

    tokens.invalidate_all();
    server.fail_until_told(Failure::status(503));
    let status = client.check(HealthCheckRequest::default()).await;
    let status = status.err().ok_or("it was sent without a token")?;
    println!("no token: {:?}, {}", status.code(), status.message());
    assert_eq!(status.code(), Code::Unavailable);
    Ok(())
}

/// The other side: the health service of tonic behind a check of each token.
async fn start_grpc(server: AuthorizationServer) -> Result<SocketAddr, BoxError> {
    let (_, health) = tonic_health::server::health_reporter();
    let health = InterceptedService::new(health, move |request: Request<()>| {
        match server.check_bearer(request.metadata().as_ref()) {
            Ok(()) => Ok(request),
            Err(_) => Err(Status::unauthenticated("the token is not good")),
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = Server::builder()
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(serving);
    Ok(address)
}
