//! glewlwyd, a server written in C. It does not form-decode Basic credentials, and refuses requests in unusual ways.

mod authorization_code;
mod device;
mod dpop;
mod introspection;
mod mtls;
mod registration;
mod revocation;
mod signed_jwt;
mod token_cache;
mod userinfo;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{
    Request, StatusCode, Uri,
    header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE},
};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time};
use tower::{ServiceExt as _, limit::ConcurrencyLimit};
use tower_oauth2_client::{
    ClientAuthentication, ErrorCode, Scope, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest, TokenResponse, TokenType,
};

use crate::{
    setting,
    support::{
        self, CODE_CHALLENGE, CODE_VERIFIER, REDIRECT_URI, SECRET, STATE, claims, code_in, invalid,
        refused,
    },
};

const KEYS: &str = "GLEWLWYD_KEYS";
const ODD_ID: &str = "odd id %41&=?";
const ODD_SECRET: &str = "p@ss:w%rd+with space&=/?~!*'()%41";

// The issuers of `provision.py`.
const ROTATING: &str = "oidc";
const STEADY: &str = "steady";
const SHORT: &str = "short";
const NONCE: &str = "nonce";

#[tokio::test]
async fn client_secret_basic_raw_is_accepted() {
    let response = send(basic(), client_credentials()).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*response.scope().unwrap(), Scope::from("api"));
    assert!(response.refresh_token().is_none());
    let state = introspect(ROTATING, "basic", &response).await;
    assert_eq!(state["active"], true);
    assert_eq!(state["client_id"], "basic");
    assert_eq!(state["scope"], "api");
    let lifetime = state["exp"].as_u64().unwrap() - state["iat"].as_u64().unwrap();
    assert_eq!(lifetime, response.expires_in().unwrap().as_secs());
}

#[tokio::test]
async fn lowercase_token_type_is_bearer() {
    let response = send(basic(), client_credentials()).await.unwrap();

    assert_eq!(response.get("token_type").unwrap(), "bearer");
    assert_eq!(*response.token_type(), TokenType::BEARER);
}

#[tokio::test]
async fn client_secret_basic_raw_sends_special_characters_unchanged() {
    let raw = ClientAuthentication::client_secret_basic_raw(ODD_ID, ODD_SECRET);
    let response = send(raw, client_credentials()).await.unwrap();
    assert_eq!(client_of(&response), ODD_ID);

    let encoded = ClientAuthentication::client_secret_basic(ODD_ID, ODD_SECRET);
    refused_without_a_body(
        send(encoded, client_credentials()).await,
        StatusCode::FORBIDDEN,
    );
}

#[tokio::test]
async fn form_encoded_basic_identifies_a_different_client() {
    let raw = ClientAuthentication::client_secret_basic_raw("two words", SECRET);
    let encoded = ClientAuthentication::client_secret_basic("two words", SECRET);
    for (client, expected) in [(raw, "two words"), (encoded, "two+words")] {
        let response = send(client, client_credentials()).await.unwrap();
        let state = introspect(ROTATING, expected, &response).await;
        assert_eq!(state["client_id"], expected);
        assert_eq!(client_of(&response), expected);
    }
}

#[tokio::test]
async fn client_secret_post_is_accepted() {
    for (id, secret) in [("post", SECRET), ("odd post", ODD_SECRET)] {
        let client = ClientAuthentication::client_secret_post(id, secret);
        let response = send(client, client_credentials()).await.unwrap();
        assert_eq!(client_of(&response), id);
    }
}

#[tokio::test]
async fn failed_client_authentication_returns_403_without_a_body() {
    for client in [
        ClientAuthentication::client_secret_basic_raw("basic", "wrong"),
        ClientAuthentication::client_secret_basic_raw("unknown", SECRET),
        ClientAuthentication::client_secret_post("post", "wrong"),
        // A method that is not registered for the client.
        ClientAuthentication::client_secret_basic_raw("post", SECRET),
        ClientAuthentication::none("basic"),
    ] {
        refused_without_a_body(
            send(client, client_credentials()).await,
            StatusCode::FORBIDDEN,
        );
    }
}

#[tokio::test]
async fn password_grant_returns_a_token_for_the_user() {
    let request = |password: &str| TokenRequest::password("alice", password).scope("openid api");
    let response = send(web(), request("password")).await.unwrap();

    assert!(response.refresh_token().is_some());
    let state = introspect(ROTATING, "web", &response).await;
    let id_token = claims(response.id_token().unwrap().expose_secret());
    assert_eq!(state["username"], "alice");
    assert_eq!(state["client_id"], "web");
    assert_eq!(state["sub"], id_token["sub"]);

    refused_without_a_body(send(web(), request("wrong")).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn authorization_code_needs_its_verifier_and_works_once() {
    let code = Alice::sign_in().await.code(ROTATING).await;
    let wrong = TokenRequest::authorization_code(&*code, REDIRECT_URI)
        .code_verifier("0123456789012345678901234567890123456789012");
    let refusal = (ErrorCode::from("invalid_code"), StatusCode::FORBIDDEN);
    assert_eq!(refused(send(web(), wrong).await), refusal);

    let response = send(web(), code_request(&code)).await.unwrap();
    let id_token = claims(response.id_token().unwrap().expose_secret());
    assert_eq!(id_token["aud"], "web");
    assert_eq!(id_token["nonce"], "nonce of this sign-in");
    assert_eq!(client_of(&response), "web");

    // A second use of the code revokes the tokens of the first use.
    assert_eq!(refused(send(web(), code_request(&code)).await), refusal);
    refused_without_a_body(
        send(web(), refresh(&response)).await,
        StatusCode::BAD_REQUEST,
    );
}

#[tokio::test]
async fn refresh_token_rotates_and_reuse_revokes_the_family() {
    let first = send(web(), password()).await.unwrap();
    let second = send(web(), refresh(&first)).await.unwrap();
    assert_ne!(
        first.refresh_token().unwrap().expose_secret(),
        second.refresh_token().unwrap().expose_secret()
    );
    assert_eq!(client_of(&second), "web");

    // Using the old refresh token revokes the whole family.
    for response in [first, second] {
        refused_without_a_body(
            send(web(), refresh(&response)).await,
            StatusCode::BAD_REQUEST,
        );
    }
}

#[tokio::test]
async fn refresh_token_without_rotation_stays_valid() {
    let endpoint = endpoint(STEADY, web());
    let first = endpoint.clone().oneshot(password()).await.unwrap();
    for _ in 0..2 {
        let next = endpoint.clone().oneshot(refresh(&first)).await.unwrap();
        assert!(next.refresh_token().is_none());
        assert_eq!(introspect(STEADY, "web", &next).await["active"], true);
    }
}

#[tokio::test]
async fn device_code_polls_return_pending_then_slow_down_then_a_token() {
    let started = start_device(ROTATING).await;
    let device_code = started["device_code"].as_str().unwrap();
    let poll = || send(web(), TokenRequest::device_code(device_code));

    assert_eq!(invalid(poll().await), ErrorCode::AUTHORIZATION_PENDING);
    let again = match invalid(poll().await) {
        // The server counts whole seconds, and the next second had already begun.
        ErrorCode::AUTHORIZATION_PENDING => invalid(poll().await),
        again => again,
    };
    assert_eq!(again, ErrorCode::SLOW_DOWN);

    let mut alice = Alice::sign_in().await;
    alice.agree(page_of(&started)).await;
    // The server requires a second between two polls.
    time::sleep(Duration::from_secs(2)).await;
    let response = poll().await.unwrap();
    assert_eq!(client_of(&response), "web");
    assert!(response.refresh_token().is_some());

    // The code is used up. Other servers return `invalid_grant`.
    assert_eq!(invalid(poll().await), ErrorCode::ACCESS_DENIED);
}

#[tokio::test]
async fn server_errors_are_reported_unchanged() {
    let cases = [
        (
            TokenRequest::client_credentials().scope("unknown"),
            ErrorCode::from("scope_invalid"),
        ),
        (
            client_credentials().resource("https://unknown.example/"),
            ErrorCode::INVALID_TARGET,
        ),
        (
            TokenRequest::device_code("unknown"),
            ErrorCode::ACCESS_DENIED,
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(invalid(send(web(), request).await), expected);
    }
    for (request, expected) in [
        (TokenRequest::extension("urn:example:unknown"), 400),
        (TokenRequest::refresh_token("unknown"), 400),
        (TokenRequest::client_credentials(), 403),
    ] {
        let status = StatusCode::from_u16(expected).unwrap();
        refused_without_a_body(send(web(), request).await, status);
    }
}

#[tokio::test]
async fn resource_parameter_returns_a_jwt_for_that_resource() {
    let request = client_credentials().resource("https://api.example/");
    let response = send(basic(), request).await.unwrap();

    let token = claims(response.access_token().expose_secret());
    assert_eq!(token["aud"], "https://api.example/");
    assert_eq!(token["client_id"], "basic");
}

#[tokio::test]
async fn token_can_be_introspected_and_revoked() {
    let response = send(basic(), client_credentials()).await.unwrap();
    assert_eq!(
        introspect(ROTATING, "basic", &response).await["active"],
        true
    );

    let token = response.access_token().expose_secret();
    post(ROTATING, "/revoke/", "basic", &[("token", token)]).await;
    assert_eq!(
        introspect(ROTATING, "basic", &response).await["active"],
        false
    );
}

fn basic() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic_raw("basic", SECRET)
}

fn web() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic_raw("web", SECRET)
}

/// This server requires a scope in every request.
fn client_credentials() -> TokenRequest {
    TokenRequest::client_credentials().scope("api")
}

fn password() -> TokenRequest {
    TokenRequest::password("alice", "password").scope("openid api")
}

fn code_request(code: &str) -> TokenRequest {
    TokenRequest::authorization_code(code, REDIRECT_URI).code_verifier(CODE_VERIFIER)
}

fn refresh(response: &TokenResponse) -> TokenRequest {
    TokenRequest::refresh_token(response.refresh_token().unwrap().clone())
}

type Http = ConcurrencyLimit<support::Http>;

/// Allows one request at a time across all tests, because this server can answer with 500 to concurrent writes.
fn http() -> Http {
    static ONE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));
    ConcurrencyLimit::with_semaphore(support::http(), ONE.clone())
}

fn endpoint(issuer: &str, client: ClientAuthentication) -> TokenEndpoint<Http> {
    TokenEndpoint::new(http(), uri(issuer, "/token"), client)
}

fn uri(issuer: &str, path: &str) -> String {
    format!("{}/{issuer}{path}", setting("GLEWLWYD"))
}

async fn send(
    client: ClientAuthentication,
    request: TokenRequest,
) -> Result<TokenResponse, TokenError> {
    endpoint(ROTATING, client).oneshot(request).await
}

/// Checks that a request was refused with this status and an empty body.
fn refused_without_a_body(result: Result<TokenResponse, TokenError>, status: StatusCode) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{error}");
    assert_eq!(error.status(), Some(status));
    assert_eq!(error.raw().unwrap(), "");
    assert!(error.error_response().is_none());
    assert!(!error.is_transient());
}

/// Introspects a token. The server answers only the client that the token was issued to.
async fn introspect(issuer: &str, client_id: &str, response: &TokenResponse) -> Value {
    let token = response.access_token().expose_secret();
    post(issuer, "/introspect/", client_id, &[("token", token)]).await
}

/// Returns the client that a token was issued to.
fn client_of(response: &TokenResponse) -> String {
    let claims = claims(response.access_token().expose_secret());
    claims["client_id"].as_str().unwrap().to_owned()
}

async fn post(issuer: &str, path: &str, client_id: &str, fields: &[(&str, &str)]) -> Value {
    support::post(http(), &uri(issuer, path), client_id, fields).await
}

async fn start_device(issuer: &str) -> Value {
    let fields = [("scope", "openid api")];
    post(issuer, "/device_authorization/", "web", &fields).await
}

fn page_of(started: &Value) -> &str {
    started["verification_uri_complete"].as_str().unwrap()
}

/// A user with a session, who has already agreed to everything that the client `web` requests.
struct Alice {
    cookie: String,
}

impl Alice {
    async fn sign_in() -> Self {
        let login = json!({ "username": "alice", "password": "password" });
        let request = Request::post(format!("{}/auth/", setting("GLEWLWYD")))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(login.to_string()))
            .unwrap();
        let response = http().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { cookie }
    }

    /// Opens the page at `uri` and returns the URI that it redirects to.
    async fn visit(&mut self, uri: &str) -> Uri {
        let request = Request::get(uri)
            .header(COOKIE, &self.cookie)
            .body(Full::default())
            .unwrap();
        let response = http().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
        let location = response.headers()[LOCATION].to_str().unwrap();
        location.parse().unwrap()
    }

    async fn code(&mut self, issuer: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", "web")
            .append_pair("code_challenge", CODE_CHALLENGE)
            .append_pair("code_challenge_method", "S256")
            .append_pair("nonce", "nonce of this sign-in")
            .append_pair("redirect_uri", REDIRECT_URI)
            .append_pair("response_type", "code")
            .append_pair("scope", "openid api")
            .append_pair("state", STATE)
            .finish();
        // The login page adds `g_continue` after the user has agreed.
        let start = uri(issuer, &format!("/auth?{query}&g_continue"));
        code_in(&self.visit(&start).await)
    }

    /// Approves the request of a device at its complete URI.
    async fn agree(&mut self, page: &str) {
        let end = self.visit(&format!("{page}&g_continue")).await;
        assert!(end.query().unwrap().ends_with("prompt=deviceComplete"));
    }
}
