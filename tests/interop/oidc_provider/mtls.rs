//! Clients that authenticate with TLS certificates, and tokens that are bound to these certificates.

use std::{error::Error as _, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tokio::{sync::Barrier, task::JoinSet};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_oauth2_client::{
    AddAccessTokenLayer, ClientAuthentication, ClientCertificate, ErrorCode, HttpService,
    HttpsClient, TokenCache, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    TokenResponse,
    add_access_token::CloneBody,
    jwt::{ClientAssertion, SigningAlgorithm},
};

use super::{API, KEYS, tls_connector};
use crate::{
    setting,
    support::{call, claims, client_certificate, https, pem, refused, signing_key},
};

const ALIAS: &str = "OIDC_PROVIDER_MTLS";
const STRICT: &str = "OIDC_PROVIDER_STRICT_MTLS";

#[tokio::test]
async fn api_accepts_a_token_only_with_the_certificate_it_is_bound_to() {
    let signing = ClientAuthentication::private_key_jwt(
        "tls-private_key_jwt",
        signing_key(KEYS, SigningAlgorithm::ES256),
    )
    // The server accepts its issuer or exactly the requested URI as the audience.
    .assertion(ClientAssertion::new().audience(setting("OIDC_PROVIDER_TLS")));
    for (client, name) in [
        (tls(), "tls-client"),
        (tls(), "tls-client-next"),
        (self_signed(), "tls-client-self-signed"),
        (signing.clone(), "tls-client"),
        (signing, "tls-client-self-signed"),
    ] {
        let certificate = client_certificate(KEYS, name);
        let http = https(KEYS, Some(&certificate));
        let token = ask(http.clone(), ALIAS, client).await.unwrap();
        let bound_to = &claims(token.access_token().expose_secret())["cnf"]["x5t#S256"];
        assert_eq!(*bound_to, certificate.thumbprint());

        let response = show(http, &token).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body()["cnf"]["x5t#S256"], *bound_to);
        let another = client_certificate(KEYS, "tls-client-other-name");
        for (http, why) in [
            (https(KEYS, Some(&another)), "bound to another certificate"),
            (
                https(KEYS, None),
                "bound to a certificate, and none was shown",
            ),
        ] {
            let response = show(http, &token).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.body()["error"], "invalid_token");
            let description = &response.body()["error_description"];
            assert_eq!(*description, format!("token: {why}"));
        }
    }
}

#[tokio::test]
async fn mtls_alias_is_discovered_from_the_issuer() {
    let signing = ClientAuthentication::private_key_jwt(
        "tls-private_key_jwt",
        signing_key(KEYS, SigningAlgorithm::ES256),
    );
    for (client, name) in [
        (tls(), "tls-client"),
        (self_signed(), "tls-client-self-signed"),
        (signing, "tls-client"),
    ] {
        let certificate = client_certificate(KEYS, name);
        let http = https(KEYS, Some(&certificate));
        let endpoint = TokenEndpoint::discover(http, setting("OIDC_PROVIDER_TLS"), client)
            .certificate_bound_tokens();
        let token = endpoint.clone().oneshot(request()).await.unwrap();
        let claims = claims(token.access_token().expose_secret());
        assert_eq!(claims["cnf"]["x5t#S256"], certificate.thumbprint());

        let metadata = endpoint.metadata().await.unwrap();
        let alias = metadata.mtls_token_endpoint().unwrap();
        assert_eq!(alias.to_string(), format!("{}/token", setting(ALIAS)));
    }
}

#[tokio::test]
async fn wrong_certificate_returns_invalid_client() {
    let with = |name| https(KEYS, Some(&client_certificate(KEYS, name)));
    for (http, client) in [
        (with("tls-client-other-name"), tls()),
        (with("tls-client-other-ca"), tls()),
        (with("tls-client-self-signed"), tls()),
        (with("tls-client"), self_signed()),
        (https(KEYS, None), tls()),
        (https(KEYS, None), self_signed()),
    ] {
        let result = ask(http, ALIAS, client).await;
        let message = result.as_ref().unwrap_err().to_string();
        assert!(message.contains("invalid_client"), "{message}");
        let expected = (ErrorCode::INVALID_CLIENT, StatusCode::UNAUTHORIZED);
        assert_eq!(refused(result), expected);
    }
}

#[tokio::test]
async fn expired_certificate_is_refused_by_client_and_server() {
    let [chain, key] = ["pem", "key"].map(|end| pem(KEYS, &format!("tls-client-expired.{end}")));
    let error = ClientCertificate::from_pem(&chain, &key).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");

    // A certificate that expires while in use is still sent to the server.
    let http =
        Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(tls_connector(Some((
            CertificateDer::from_pem_slice(&chain).unwrap(),
            PrivateKeyDer::from_pem_slice(&key).unwrap(),
        ))));
    let expected = (ErrorCode::INVALID_CLIENT, StatusCode::UNAUTHORIZED);
    assert_eq!(refused(ask(http.clone(), ALIAS, tls()).await), expected);
    assert_no_response(&ask(http, STRICT, tls()).await.unwrap_err());
}

#[tokio::test]
async fn certificate_refused_by_tls_gets_no_response() {
    let with = |name| https(KEYS, Some(&client_certificate(KEYS, name)));
    ask(with("tls-client"), STRICT, tls()).await.unwrap();

    for http in [
        with("tls-client-other-ca"),
        with("tls-client-self-signed"),
        https(KEYS, None),
    ] {
        assert_no_response(&ask(http, STRICT, tls()).await.unwrap_err());
    }
}

#[tokio::test]
async fn server_that_requests_no_certificate_returns_invalid_client() {
    let http = https(KEYS, Some(&client_certificate(KEYS, "tls-client")));
    let result = ask(http, "OIDC_PROVIDER_TLS", tls()).await;
    let expected = (ErrorCode::INVALID_CLIENT, StatusCode::UNAUTHORIZED);
    assert_eq!(refused(result), expected);
}

#[tokio::test]
async fn no_call_fails_while_the_certificate_is_rotated() {
    const TASKS: usize = 20;
    const CALLS: usize = 10;
    let certificate = client_certificate(KEYS, "tls-client");
    let http = https(KEYS, Some(&certificate));
    let tokens = TokenCache::new(endpoint(http.clone(), ALIAS, tls()));
    let layer = AddAccessTokenLayer::new(tokens.source(request()));
    let layer = layer.origin(api_request().uri()).unwrap();
    let api = ServiceBuilder::new()
        .layer(layer.resend(CloneBody))
        .service(http);
    let under_way = Arc::new(Barrier::new(TASKS + 1));
    let mut calling = JoinSet::new();
    for _ in 0..TASKS {
        let (api, under_way) = (api.clone(), under_way.clone());
        calling.spawn(async move {
            for number in 0..CALLS {
                if number == CALLS / 2 {
                    under_way.wait().await;
                }
                let response = call(api.clone(), api_request()).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK, "{response:?}");
            }
        });
    }
    under_way.wait().await;
    let before = certificate.thumbprint();
    let [chain, key] = ["pem", "key"].map(|end| pem(KEYS, &format!("tls-client-next.{end}")));
    assert!(certificate.replace(chain, key).unwrap());
    calling.join_all().await;

    let response = call(api, api_request()).await.unwrap();
    assert_ne!(certificate.thumbprint(), before);
    assert_eq!(response.body()["cnf"]["x5t#S256"], certificate.thumbprint());
}

fn tls() -> ClientAuthentication {
    ClientAuthentication::tls_client_auth("tls")
}

fn self_signed() -> ClientAuthentication {
    ClientAuthentication::tls_client_auth("tls-self-signed")
}

fn endpoint<S>(http: S, server: &str, client: ClientAuthentication) -> TokenEndpoint<S> {
    let uri = format!("{}/token", setting(server));
    TokenEndpoint::new(http, uri, client)
}

fn request() -> TokenRequest {
    TokenRequest::client_credentials()
        .resource(API)
        .scope("api:read")
}

async fn ask(
    http: impl HttpService<Full<Bytes>>,
    server: &str,
    client: ClientAuthentication,
) -> Result<TokenResponse, TokenError> {
    endpoint(http, server, client).oneshot(request()).await
}

fn api_request() -> Request<Full<Bytes>> {
    let uri = format!("{}/plain", setting("OIDC_PROVIDER_TLS_API"));
    Request::get(uri).body(Full::default()).unwrap()
}

/// Sends a token to the API.
async fn show(http: HttpsClient, token: &TokenResponse) -> Response<Value> {
    let mut request = api_request();
    let authorization = token.access_token().authorization().unwrap();
    request
        .headers_mut()
        .insert(http::header::AUTHORIZATION, authorization.clone());
    call(http, request).await.unwrap()
}

/// Checks for an error without a response.
///
/// In TLS 1.3, the server checks the certificate after the client has finished its part of the handshake. This server usually sends no
/// alert, and if it does, the connection may close before the alert arrives.
fn assert_no_response(error: &TokenError) {
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert!(error.source().is_some());
    assert!(error.status().is_none());
    assert!(error.is_transient());
}
