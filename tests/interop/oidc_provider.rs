//! oidc-provider, a certified OpenID Connect server for Node.js.

mod add_access_token;
mod authorization_code;
mod ciba;
mod device;
mod discovery;
mod dpop;
mod dpop_api;
mod fapi;
mod instance;
mod introspection;
mod mtls;
mod registration;
mod revocation;
mod signed_jwt;
mod userinfo;

use std::collections::BTreeSet;
#[cfg(feature = "rustls")]
use std::sync::Arc;

#[cfg(feature = "rustls")]
use bytes::Bytes;
#[cfg(feature = "rustls")]
use http::Uri;
use http::{StatusCode, header::AUTHORIZATION};
#[cfg(feature = "rustls")]
use http_body_util::Full;
#[cfg(feature = "rustls")]
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
#[cfg(feature = "rustls")]
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
#[cfg(feature = "rustls")]
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::Value;
use tokio::process::Command;
use tower::ServiceExt as _;
#[cfg(feature = "rustls")]
use tower_oauth2_client::HttpsClient;
use tower_oauth2_client::{
    ClientAuthentication, ErrorCode, Scope, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest, TokenResponse, TokenType,
};

use crate::{
    browser::{Browser, End},
    setting,
    support::{
        self, CODE_CHALLENGE, CODE_VERIFIER, Http, REDIRECT_URI, SECRET, STATE, basic_credentials,
        claims, code_in, http, invalid, refused,
    },
};

const ODD_SECRET: &str = "p@ss:w%rd+with space&=/?~!*'()";
const API: &str = "https://api.example/";
const KEYS: &str = "OIDC_PROVIDER_KEYS";

/// The tests of bound tokens rely on this.
#[tokio::test]
async fn resource_server_accepts_only_correct_requests() {
    let test = format!("{}/resource-server.test.mjs", setting("OIDC_PROVIDER_KEYS"));
    let status = Command::new(setting("OIDC_PROVIDER_NODE"))
        .args(["--test", &test])
        .status()
        .await
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn client_secret_basic_is_accepted() {
    let response = send(basic(), TokenRequest::client_credentials())
        .await
        .unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*response.token_type(), TokenType::BEARER);
    assert_eq!(response.expires_in().unwrap().as_secs(), 60);
    assert!(response.refresh_token().is_none());
    assert_eq!(
        client_of(response.access_token().expose_secret()).await,
        "basic"
    );
}

#[tokio::test]
async fn client_secret_basic_form_encodes_id_and_secret() {
    let odd = ClientAuthentication::client_secret_basic("basic:odd id%+", ODD_SECRET);
    let response = send(odd, TokenRequest::client_credentials()).await.unwrap();

    assert_eq!(
        client_of(response.access_token().expose_secret()).await,
        "basic:odd id%+"
    );
}

#[tokio::test]
async fn client_secret_basic_raw_is_refused() {
    let encoded = ClientAuthentication::client_secret_basic("odd", ODD_SECRET);
    send(encoded, TokenRequest::client_credentials())
        .await
        .unwrap();

    let raw = ClientAuthentication::client_secret_basic_raw("odd", ODD_SECRET);
    let result = send(raw, TokenRequest::client_credentials()).await;
    assert_eq!(invalid(result), ErrorCode::INVALID_REQUEST);
}

#[tokio::test]
async fn client_secret_post_is_accepted() {
    let response = send(post_client(), TokenRequest::client_credentials())
        .await
        .unwrap();

    assert_eq!(
        client_of(response.access_token().expose_secret()).await,
        "post"
    );
}

#[tokio::test]
async fn wrong_secret_returns_invalid_client_with_401() {
    for authentication in [
        ClientAuthentication::client_secret_basic("basic", "wrong"),
        ClientAuthentication::client_secret_post("post", "wrong"),
    ] {
        let (code, status) =
            refused(send(authentication, TokenRequest::client_credentials()).await);

        assert_eq!(code, ErrorCode::INVALID_CLIENT);
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn two_authentication_methods_are_refused() {
    // The crate allows this only for a client that is configured without authentication.
    let request = TokenRequest::client_credentials()
        .header(AUTHORIZATION, basic_credentials("post"))
        .parameter("client_secret", SECRET);
    let (code, _) = refused(send(ClientAuthentication::none("post"), request).await);

    assert_eq!(code, ErrorCode::INVALID_REQUEST);
}

#[tokio::test]
async fn authorization_code_with_pkce_returns_tokens() {
    let response = send(web(), code_request(&sign_in("web").await))
        .await
        .unwrap();

    let id_token = claims(response.id_token().unwrap().expose_secret());
    assert_eq!(id_token["sub"], "alice");
    assert_eq!(id_token["aud"], "web");
    assert!(response.refresh_token().is_some());
    assert_eq!(
        *response.scope().unwrap(),
        Scope::from("openid offline_access")
    );
    assert_eq!(
        client_of(response.access_token().expose_secret()).await,
        "web"
    );
}

#[tokio::test]
async fn public_client_redeems_an_authorization_code() {
    let response = send(
        ClientAuthentication::none("public"),
        code_request(&sign_in("public").await),
    )
    .await
    .unwrap();

    assert_eq!(
        client_of(response.access_token().expose_secret()).await,
        "public"
    );
}

#[tokio::test]
async fn reused_authorization_code_returns_invalid_grant() {
    let code = sign_in("web").await;
    send(web(), code_request(&code)).await.unwrap();

    assert_eq!(
        invalid(send(web(), code_request(&code)).await),
        ErrorCode::INVALID_GRANT
    );
}

#[tokio::test]
async fn wrong_code_verifier_returns_invalid_grant() {
    let request = TokenRequest::authorization_code(sign_in("web").await, REDIRECT_URI)
        .code_verifier("0123456789012345678901234567890123456789012");

    assert_eq!(
        invalid(send(web(), request).await),
        ErrorCode::INVALID_GRANT
    );
}

#[tokio::test]
async fn refresh_token_rotates_and_reuse_revokes_the_family() {
    let first = send(web(), code_request(&sign_in("web").await))
        .await
        .unwrap();
    let first = first.refresh_token().unwrap().expose_secret();

    let second = send(web(), TokenRequest::refresh_token(first))
        .await
        .unwrap();
    let second = second.refresh_token().unwrap().expose_secret();
    assert_ne!(first, second);

    // Using the old refresh token revokes the whole family.
    for token in [first, second] {
        let result = send(web(), TokenRequest::refresh_token(token)).await;
        assert_eq!(invalid(result), ErrorCode::INVALID_GRANT);
    }
}

#[tokio::test]
async fn device_code_is_pending_until_the_user_agrees() {
    let started = post("/device/auth", "web", &[("scope", "openid")]).await;
    let device_code = started["device_code"].as_str().unwrap();
    let poll = || send(web(), TokenRequest::device_code(device_code));

    assert_eq!(invalid(poll().await), ErrorCode::AUTHORIZATION_PENDING);

    let page = started["verification_uri_complete"].as_str().unwrap();
    let end = Browser::new("alice").visit(page, REDIRECT_URI).await;
    assert!(matches!(end, End::Page(page) if page.contains("Sign-in Success")));

    let response = poll().await.unwrap();
    assert_eq!(
        claims(response.id_token().unwrap().expose_secret())["sub"],
        "alice"
    );
    assert_eq!(
        client_of(response.access_token().expose_secret()).await,
        "web"
    );
}

#[tokio::test]
async fn unknown_device_code_returns_invalid_grant() {
    let result = send(web(), TokenRequest::device_code("unknown")).await;

    assert_eq!(invalid(result), ErrorCode::INVALID_GRANT);
}

#[tokio::test]
async fn password_grant_is_unsupported() {
    let result = send(basic(), TokenRequest::password("alice", "password")).await;

    assert_eq!(invalid(result), ErrorCode::UNSUPPORTED_GRANT_TYPE);
}

#[tokio::test]
async fn scope_not_allowed_for_the_client_returns_invalid_scope() {
    let request = TokenRequest::client_credentials().scope("api:write");
    let result = send(post_client(), request).await;

    assert_eq!(invalid(result), ErrorCode::INVALID_SCOPE);
}

#[tokio::test]
async fn unknown_resource_returns_invalid_target() {
    let request = TokenRequest::client_credentials().resource("https://unknown.example/");

    assert_eq!(
        invalid(send(basic(), request).await),
        ErrorCode::INVALID_TARGET
    );
}

#[tokio::test]
async fn two_resources_are_both_sent() {
    // The server would grant either resource alone. It refuses the request, so it received both.
    let request = TokenRequest::client_credentials()
        .resource(API)
        .resource("https://api.example/other");

    assert_eq!(
        invalid(send(basic(), request).await),
        ErrorCode::INVALID_TARGET
    );
}

#[tokio::test]
async fn grant_not_allowed_for_the_client_returns_invalid_request() {
    // Other servers return `unauthorized_client` (RFC 6749 §5.2).
    let public = ClientAuthentication::none("public");
    let result = send(public, TokenRequest::client_credentials()).await;

    assert_eq!(invalid(result), ErrorCode::INVALID_REQUEST);
}

#[tokio::test]
async fn resource_parameter_returns_a_jwt_for_that_resource() {
    let request = TokenRequest::client_credentials()
        .resource(API)
        .scope("api:read");
    let response = send(basic(), request).await.unwrap();

    let token = claims(response.access_token().expose_secret());
    assert_eq!(token["aud"], API);
    assert_eq!(token["client_id"], "basic");
    assert_eq!(token["scope"], "api:read");
    assert_eq!(*response.scope().unwrap(), Scope::from("api:read"));
    assert_eq!(response.expires_in().unwrap().as_secs(), 120);
}

#[tokio::test]
async fn token_can_be_introspected_and_revoked() {
    let response = send(basic(), TokenRequest::client_credentials())
        .await
        .unwrap();
    let token = response.access_token().expose_secret();

    let state = post("/token/introspection", "basic", &[("token", token)]).await;
    assert_eq!(state["active"], true);
    assert_eq!(state["client_id"], "basic");
    let lifetime = state["exp"].as_u64().unwrap() - state["iat"].as_u64().unwrap();
    assert_eq!(lifetime, response.expires_in().unwrap().as_secs());

    post("/token/revocation", "basic", &[("token", token)]).await;
    let state = post("/token/introspection", "basic", &[("token", token)]).await;
    assert_eq!(state["active"], false);
}

#[tokio::test]
async fn one_http_client_serves_many_concurrent_requests() {
    let endpoint = endpoint(basic());
    let requests = (0..50).map(|_| {
        let endpoint = endpoint.clone();
        tokio::spawn(endpoint.oneshot(TokenRequest::client_credentials()))
    });

    let mut tokens = BTreeSet::new();
    for request in requests.collect::<Vec<_>>() {
        let response = request.await.unwrap().unwrap();
        tokens.insert(response.access_token().expose_secret().to_owned());
    }
    assert_eq!(tokens.len(), 50);
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn token_is_fetched_over_tls() {
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(tls_connector(None));
    let response = TokenEndpoint::new(client, tls_uri(), basic())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap();

    assert_eq!(response.expires_in().unwrap().as_secs(), 60);
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn nothing_is_sent_to_a_server_with_an_untrusted_certificate() {
    // The certificate authority of this test run is not among the system's root certificates.
    let http = HttpsClient::new().unwrap();
    let error = TokenEndpoint::new(http, tls_uri(), basic())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();

    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert!(!error.may_have_been_processed());
}

fn basic() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("basic", SECRET)
}

fn post_client() -> ClientAuthentication {
    ClientAuthentication::client_secret_post("post", SECRET)
}

fn web() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("web", SECRET)
}

fn endpoint(authentication: ClientAuthentication) -> TokenEndpoint<Http> {
    TokenEndpoint::new(http(), uri("/token"), authentication)
}

#[cfg(feature = "rustls")]
fn tls_uri() -> Uri {
    let issuer = setting("OIDC_PROVIDER_TLS");
    format!("{issuer}/token").parse().unwrap()
}

/// Returns a connector that trusts only the certificate authority of this test run.
#[cfg(feature = "rustls")]
fn tls_connector(
    certificate: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> HttpsConnector<HttpConnector> {
    let authority = CertificateDer::from_pem_file(setting("OIDC_PROVIDER_CA")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        Some((certificate, key)) => config
            .with_client_auth_cert(vec![certificate], key)
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .build()
}

fn uri(path: &str) -> String {
    format!("{}{path}", setting("OIDC_PROVIDER"))
}

async fn send(
    authentication: ClientAuthentication,
    request: TokenRequest,
) -> Result<TokenResponse, TokenError> {
    endpoint(authentication).oneshot(request).await
}

/// Signs alice in at the authorization endpoint and returns the authorization code.
async fn sign_in(client_id: &str) -> String {
    sign_in_at("OIDC_PROVIDER", client_id).await
}

/// The same at another instance.
async fn sign_in_at(instance: &str, client_id: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", client_id)
        .append_pair("code_challenge", CODE_CHALLENGE)
        .append_pair("code_challenge_method", "S256")
        .append_pair("prompt", "consent")
        .append_pair("redirect_uri", REDIRECT_URI)
        .append_pair("response_type", "code")
        .append_pair("scope", "openid offline_access")
        .append_pair("state", STATE)
        .finish();
    let start = format!("{}/auth?{query}", setting(instance));

    let End::Left(back) = Browser::new("alice").visit(&start, REDIRECT_URI).await else {
        panic!("the server never redirected to {REDIRECT_URI}");
    };
    code_in(&back)
}

fn code_request(code: &str) -> TokenRequest {
    TokenRequest::authorization_code(code, REDIRECT_URI).code_verifier(CODE_VERIFIER)
}

/// Returns the client that a token was issued to, according to introspection.
async fn client_of(token: &str) -> String {
    let state = post("/token/introspection", "web", &[("token", token)]).await;
    assert_eq!(state["active"], true);
    state["client_id"].as_str().unwrap().to_owned()
}

async fn post(path: &str, client_id: &str, fields: &[(&str, &str)]) -> Value {
    support::post(http(), &uri(path), client_id, fields).await
}
