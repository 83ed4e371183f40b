//! Discovery of the server by its metadata document.

use std::time::Duration;

use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, DpopKey, TokenEndpoint, TokenErrorKind, TokenRequest,
    jwt::{SigningAlgorithm, SigningKey},
    test_util::ManualClock,
};

use super::{basic, client_of, instance::Instance, signed_jwt::with_key};
use crate::{
    setting,
    support::{Http, Sent, claims, field, http},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn discover(issuer: &str, client: ClientAuthentication) -> TokenEndpoint<Http> {
    TokenEndpoint::discover(http(), issuer, client)
}

#[tokio::test]
async fn token_endpoint_is_discovered_from_the_issuer() {
    let issuer = setting("OIDC_PROVIDER");
    let endpoint = discover(&issuer, basic());
    let request = TokenRequest::client_credentials();
    let response = endpoint.clone().oneshot(request).await.unwrap();
    assert_eq!(
        client_of(response.access_token().expose_secret()).await,
        "basic"
    );

    let metadata = endpoint.metadata().await.unwrap();
    assert_eq!(metadata.issuer(), issuer);
    let authorization_endpoint = metadata.get("authorization_endpoint").unwrap();
    assert_eq!(*authorization_endpoint, format!("{issuer}/auth"));
}

#[tokio::test]
async fn audience_of_a_signed_assertion_is_the_issuer() {
    let (issuer, sent) = (setting("OIDC_PROVIDER"), Sent::default());
    TokenEndpoint::discover(
        sent.record(http()),
        &*issuer,
        with_key(SigningAlgorithm::ES256),
    )
    .oneshot(TokenRequest::client_credentials())
    .await
    .unwrap();
    let assertion = field(sent.last(), "client_assertion").await;
    assert_eq!(claims(&assertion)["aud"], issuer);
}

#[tokio::test]
async fn proof_with_an_unsupported_algorithm_is_not_sent() {
    let key = SigningKey::generate(SigningAlgorithm::RS384).unwrap();
    let sent = Sent::default();
    let endpoint = TokenEndpoint::discover(sent.record(http()), setting("OIDC_PROVIDER"), basic())
        .dpop(DpopKey::new(key).unwrap());
    endpoint.metadata().await.unwrap();
    let before = sent.len();
    let request = TokenRequest::client_credentials();
    let error = endpoint.oneshot(request).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    assert!(error.to_string().contains("RS384"), "{error}");
    assert_eq!(sent.len(), before);
}

#[tokio::test]
async fn issuer_without_a_path_may_end_with_a_slash() {
    let issuer = format!("{}/", setting("OIDC_PROVIDER"));
    let endpoint = discover(&issuer, basic());
    let metadata = endpoint.metadata().await.unwrap();
    assert_eq!(metadata.issuer(), setting("OIDC_PROVIDER"));
    let request = TokenRequest::client_credentials();
    endpoint.oneshot(request).await.unwrap();
}

#[tokio::test]
async fn issuer_without_metadata_returns_404() {
    let issuer = format!("{}/nothing/here", setting("OIDC_PROVIDER"));
    let error = discover(&issuer, basic())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert_eq!(error.status().unwrap(), 404);
}

#[tokio::test]
async fn metadata_remains_in_use_while_the_server_is_down() {
    let mut server = Instance::start().await;
    let clock = ManualClock::new();
    let endpoint = discover(&server.uri(""), basic()).metadata_clock(clock.clock());
    let ask = || endpoint.clone().oneshot(TokenRequest::client_credentials());
    ask().await.unwrap();

    server.stop().await;
    clock.advance(DAY);
    let error = ask().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Service);
    let message = error.to_string();
    assert!(message.contains("the token endpoint"), "{message}");

    server.start_again().await;
    ask().await.unwrap();
}
