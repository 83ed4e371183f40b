//! Registered clients (RFC 7591).

use serde_json::json;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, ClientMetadata, RegistrationRequest, TokenEndpoint, TokenErrorKind,
};

use super::{ROTATING, client_credentials, http, uri};
use crate::support::REDIRECT_URI;

#[tokio::test]
async fn registered_client_gets_a_token() {
    for method in ["client_secret_basic", "client_secret_post"] {
        let nobody = ClientAuthentication::anonymous();
        let issuer = uri(ROTATING, "");
        let tokens = TokenEndpoint::discover(http(), &issuer, nobody);
        let metadata = ClientMetadata::new()
            .client_name("Interop")
            .redirect_uri(REDIRECT_URI)
            .token_endpoint_auth_method(method)
            .grant_type("client_credentials")
            .response_type("code");
        let request = RegistrationRequest::new(metadata);
        let registered = tokens.registration().oneshot(request).await.unwrap();
        assert_eq!(registered.get("client_name").unwrap(), "Interop");
        assert_eq!(registered.client_secret_expires_at(), None);
        let client = registered.client_authentication().unwrap();
        let tokens = TokenEndpoint::discover(http(), issuer, client);
        tokens.oneshot(client_credentials()).await.unwrap();
    }
}

#[tokio::test]
async fn refused_metadata_is_an_error() {
    let nobody = ClientAuthentication::anonymous();
    let tokens = TokenEndpoint::discover(http(), uri(ROTATING, ""), nobody);
    let metadata = ClientMetadata::new().member("redirect_uris", json!(["ftp://a.example/"]));
    let request = RegistrationRequest::new(metadata);
    let error = tokens.registration().oneshot(request).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            TokenErrorKind::ErrorResponse | TokenErrorKind::UnexpectedStatus
        ),
        "{error}"
    );
    assert!(error.status().unwrap().is_client_error());
}
