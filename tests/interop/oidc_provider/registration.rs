//! Registered clients (RFC 7591), and clients whose id is the URL of their metadata.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    AccessToken, ClientAuthentication, ClientIdMetadataDocument, ClientMetadata, ErrorCode,
    RegistrationEndpoint, RegistrationRequest, RegistrationResponse, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenType,
    jwt::{SigningAlgorithm, SigningKey},
};

use super::{client_of, code_request, send, sign_in, uri};
use crate::{
    setting,
    support::{REDIRECT_URI, http, invalid},
};

async fn register(metadata: ClientMetadata) -> Result<RegistrationResponse, TokenError> {
    let endpoint = RegistrationEndpoint::new(http(), uri("/reg"));
    endpoint.oneshot(RegistrationRequest::new(metadata)).await
}

/// A client without users.
fn machine() -> ClientMetadata {
    ClientMetadata::new()
        .grant_type("client_credentials")
        .member("redirect_uris", json!([]))
        .member("response_types", json!([]))
}

#[tokio::test]
async fn registered_client_gets_a_token_by_every_method() {
    let key = SigningKey::generate(SigningAlgorithm::ES256)
        .unwrap()
        .kid("k");
    for method in [
        None,
        Some("client_secret_basic"),
        Some("client_secret_post"),
        Some("client_secret_jwt"),
        Some("private_key_jwt"),
    ] {
        let mut metadata = machine().client_name("Interop");
        if let Some(method) = method {
            metadata = metadata.token_endpoint_auth_method(method);
        }
        if method == Some("private_key_jwt") {
            metadata = metadata
                .jwk(key.public_jwk())
                .member("token_endpoint_auth_signing_alg", "ES256");
        }
        let registered = register(metadata).await.unwrap();
        assert_eq!(registered.status(), StatusCode::CREATED);
        assert_eq!(registered.get("client_name").unwrap(), "Interop");
        assert!(registered.client_id_issued_at().is_some());
        assert_eq!(registered.client_secret_expires_at(), None);
        assert!(registered.registration_access_token().is_some());
        let management = registered.registration_client_uri().unwrap();
        assert!(management.ends_with(registered.client_id()), "{management}");
        let client = match method {
            Some("private_key_jwt") => registered.private_key_jwt(key.clone()),
            _ => registered.client_authentication(),
        };
        let response = send(client.unwrap(), TokenRequest::client_credentials());
        let token = response.await.unwrap().access_token().clone();
        assert_eq!(
            client_of(token.expose_secret()).await,
            registered.client_id()
        );
    }
}

#[tokio::test]
async fn registered_public_client_signs_a_user_in() {
    let metadata = ClientMetadata::new()
        .redirect_uri(REDIRECT_URI)
        .token_endpoint_auth_method("none")
        .member("application_type", "native");
    let registered = register(metadata).await.unwrap();
    assert!(registered.client_secret().is_none());
    let client = registered.client_authentication().unwrap();
    assert_eq!(
        client,
        ClientAuthentication::none(registered.client_id().to_owned())
    );
    let code = sign_in(registered.client_id()).await;
    send(client, code_request(&code)).await.unwrap();
}

#[tokio::test]
async fn refused_metadata_is_a_typed_error() {
    for (metadata, expected) in [
        (ClientMetadata::new().redirect_uri("nowhere:"), None),
        (
            ClientMetadata::new().redirect_uri("http://a.example/x y"),
            None,
        ),
        (
            machine().token_endpoint_auth_method("unknown"),
            Some(ErrorCode::INVALID_CLIENT_METADATA),
        ),
        (ClientMetadata::new(), Some(ErrorCode::INVALID_REDIRECT_URI)),
    ] {
        let error = register(metadata).await.unwrap_err();
        let code = error.error_response().map(|error| error.code().clone());
        assert_eq!(code, expected, "{error}");
        if expected.is_none() {
            assert_eq!(error.kind(), TokenErrorKind::Request, "{error}");
        }
    }
}

#[tokio::test]
async fn initial_access_token_allows_the_registration() {
    let issuer = setting("OIDC_PROVIDER_BEARER");
    let nobody = ClientAuthentication::anonymous();
    let endpoint = TokenEndpoint::discover(http(), issuer, nobody).registration();
    let request = RegistrationRequest::new(machine());
    let good = AccessToken::new("interop-initial-access-token", TokenType::BEARER).unwrap();
    let wrong = AccessToken::new("wrong", TokenType::BEARER).unwrap();

    let allowed = request.clone().initial_access_token(&good);
    let registered = endpoint.clone().oneshot(allowed).await.unwrap();
    assert!(registered.client_authentication().is_ok());
    for refused in [request.clone().initial_access_token(&wrong), request] {
        let error = endpoint.clone().oneshot(refused).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ErrorResponse, "{error}");
        assert!(error.status().unwrap().is_client_error());
        assert!(!error.to_string().contains("wrong;"), "{error}");
    }
}

/// Publishes the metadata of a client until the test ends. Returns its client id, which the server maps to this machine.
async fn publish(metadata: ClientMetadata) -> ClientIdMetadataDocument {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client_id = format!("https://clients.example/{port}/client.json");
    let document = ClientIdMetadataDocument::new(client_id, metadata).unwrap();
    let json = document.to_string();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let json = json.clone();
            let answer = service_fn(move |_: Request<Incoming>| {
                let response = Response::builder()
                    .header(CONTENT_TYPE, "application/json")
                    .body(Full::<Bytes>::from(json.clone()));
                async move { Ok::<_, Infallible>(response.unwrap()) }
            });
            let connection = TokioIo::new(connection);
            tokio::spawn(http1::Builder::new().serve_connection(connection, answer));
        }
    });
    document
}

#[tokio::test]
async fn public_client_is_known_by_its_document() {
    let metadata = ClientMetadata::new()
        .client_name("Interop")
        .redirect_uri(REDIRECT_URI)
        .grant_type("authorization_code")
        .grant_type("refresh_token")
        .member("application_type", "native");
    let document = publish(metadata).await;
    let client = document.client_authentication().unwrap();
    let code = sign_in(document.client_id()).await;
    let response = send(client.clone(), code_request(&code)).await.unwrap();
    let refresh = TokenRequest::refresh_token(response.refresh_token().unwrap());
    send(client, refresh).await.unwrap();
}

#[tokio::test]
async fn client_signs_with_the_key_in_its_document() {
    let key = SigningKey::generate(SigningAlgorithm::ES256)
        .unwrap()
        .kid("k");
    let metadata = machine()
        .token_endpoint_auth_method("private_key_jwt")
        .member("token_endpoint_auth_signing_alg", "ES256")
        .jwk(key.public_jwk());
    let document = publish(metadata).await;
    let client = document.private_key_jwt(key).unwrap();
    let response = send(client, TokenRequest::client_credentials());
    let token = response.await.unwrap().access_token().clone();
    assert_eq!(client_of(token.expose_secret()).await, document.client_id());

    let other = SigningKey::generate(SigningAlgorithm::ES256)
        .unwrap()
        .kid("k");
    let id = document.client_id().to_owned();
    let thief = ClientAuthentication::private_key_jwt(id, other);
    let error = send(thief, TokenRequest::client_credentials()).await;
    let code = error.unwrap_err().error_response().unwrap().code().clone();
    assert_eq!(code, ErrorCode::INVALID_CLIENT);
}

#[tokio::test]
async fn wrong_code_verifier_is_refused_for_a_document_client_too() {
    let metadata = ClientMetadata::new()
        .redirect_uri(REDIRECT_URI)
        .member("application_type", "native");
    let document = publish(metadata).await;
    let client = document.client_authentication().unwrap();
    let code = sign_in(document.client_id()).await;
    let request =
        TokenRequest::authorization_code(&*code, REDIRECT_URI).code_verifier("0".repeat(43));
    let result = send(client, request).await;
    assert_eq!(invalid(result), ErrorCode::INVALID_GRANT);
}
