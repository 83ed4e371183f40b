//! Starts an authorization server and requests a token with each grant that works without a user.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::ServiceExt;
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, TokenEndpoint, TokenRequest,
    test_util::{AuthorizationCode, AuthorizationServer},
};

/// The example pair of RFC 7636 appendix B.
const CODE_VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CODE_CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    println!("grants: a token with each grant that works without a user, then a wrong secret");
    let server = AuthorizationServer::builder()
        .client("client", "secret")
        .user("johndoe", "A3ddj3w")
        .jwt_bearer_assertion("header.claims.signature")
        .custom_grant("urn:example:grant-type:badge")
        .build();
    let listening = server.listen().await?;

    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let endpoint = TokenEndpoint::new(
        http,
        listening.token_endpoint(),
        ClientAuthentication::client_secret_basic("client", "secret"),
    );

    let code = server.issue_code(
        AuthorizationCode::new("client", "https://app.example/callback")
            .s256_challenge(CODE_CHALLENGE)
            .scope("profile"),
    );
    let subject = server.issue_access_token("client", "api1");
    for request in [
        TokenRequest::client_credentials().scope("api1"),
        TokenRequest::password("johndoe", "A3ddj3w"),
        TokenRequest::authorization_code(code, "https://app.example/callback")
            .code_verifier(CODE_VERIFIER),
        TokenRequest::refresh_token(server.issue_refresh_token("client", "profile")),
        TokenRequest::token_exchange(subject, "urn:ietf:params:oauth:token-type:access_token"),
        // The function is called again for every attempt.
        TokenRequest::jwt_bearer(Credential::from_fn(|| async {
            Ok::<_, BoxError>("header.claims.signature")
        })),
        TokenRequest::extension("urn:example:grant-type:badge").parameter("badge", "7"),
    ] {
        let grant_type = request.grant_type().to_owned();
        let response = endpoint.clone().oneshot(request).await?;
        println!(
            "{grant_type}: a {} token for {:?}, scope {:?}, refresh token: {}",
            response.token_type(),
            response.expires_in(),
            response.scope(),
            if response.refresh_token().is_some() {
                "yes"
            } else {
                "no"
            },
        );
    }

    let wrong = TokenRequest::client_credentials()
        .client_authentication(ClientAuthentication::client_secret_basic("client", "wrong"));
    if let Err(error) = endpoint.oneshot(wrong).await {
        println!("with a wrong secret: {error:#}");
    }
    println!("{} token requests", server.token_requests());
    Ok(())
}
