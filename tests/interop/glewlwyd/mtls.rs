//! Clients that authenticate with TLS certificates. This server has separate paths for them.

use http::StatusCode;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, HttpsClient, TokenEndpoint, TokenError, TokenResponse,
};

use super::{KEYS, client_credentials, refused_without_a_body};
use crate::{
    setting,
    support::{claims, client_certificate, https},
};

#[tokio::test]
async fn token_is_bound_to_the_certificate() {
    for name in ["tls-client", "tls-client-next"] {
        let certificate = client_certificate(KEYS, name);
        let response = ask(https(KEYS, Some(&certificate))).await.unwrap();
        let claims = claims(response.access_token().expose_secret());
        assert_eq!(claims["client_id"], "tls");
        assert_eq!(claims["cnf"]["x5t#S256"], certificate.thumbprint());
    }
}

#[tokio::test]
async fn mtls_alias_is_discovered_from_the_issuer() {
    let certificate = client_certificate(KEYS, "tls-client");
    let issuer = format!("{}/mtls", setting("GLEWLWYD_TLS"));
    let client = ClientAuthentication::tls_client_auth("tls");
    let http = https(KEYS, Some(&certificate));
    let response = TokenEndpoint::discover(http, issuer, client)
        .oneshot(client_credentials())
        .await
        .unwrap();
    let claims = claims(response.access_token().expose_secret());
    assert_eq!(claims["cnf"]["x5t#S256"], certificate.thumbprint());
}

#[tokio::test]
async fn wrong_certificate_returns_403_without_a_body() {
    let wrong = [
        "tls-client-other-name",
        "tls-client-other-ca",
        "tls-client-self-signed",
    ];
    let wrong = wrong.map(|name| Some(client_certificate(KEYS, name)));
    for certificate in wrong.into_iter().chain([None]) {
        let result = ask(https(KEYS, certificate.as_ref())).await;
        refused_without_a_body(result, StatusCode::FORBIDDEN);
    }
}

async fn ask(http: HttpsClient) -> Result<TokenResponse, TokenError> {
    let uri = format!("{}/mtls/mtls/token", setting("GLEWLWYD_TLS"));
    let client = ClientAuthentication::tls_client_auth("tls");
    TokenEndpoint::new(http, uri, client)
        .oneshot(client_credentials())
        .await
}
