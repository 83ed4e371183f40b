//! glewlwyd, a server in C. It reads Basic without decoding it, and says no in ways of its own.

mod dpop;
mod mtls;
mod revocation;
mod signed_jwt;
mod token_cache;

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
async fn client_credentials_with_client_secret_basic_raw() {
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
async fn token_type_in_lower_case_is_bearer() {
    let response = send(basic(), client_credentials()).await.unwrap();

    assert_eq!(response.get("token_type").unwrap(), "bearer");
    assert_eq!(*response.token_type(), TokenType::BEARER);
}

#[tokio::test]
async fn client_secret_basic_raw_sends_odd_characters_as_they_are() {
    let raw = ClientAuthentication::client_secret_basic_raw(ODD_ID, ODD_SECRET);
    let response = send(raw, client_credentials()).await.unwrap();
    assert_eq!(client_of(&response), ODD_ID);

    let encoded = ClientAuthentication::client_secret_basic(ODD_ID, ODD_SECRET);
    refused_in_silence(
        send(encoded, client_credentials()).await,
        StatusCode::FORBIDDEN,
    );
}

#[tokio::test]
async fn client_secret_basic_encoded_is_another_client_here() {
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
async fn client_credentials_with_client_secret_post() {
    for (id, secret) in [("post", SECRET), ("odd post", ODD_SECRET)] {
        let client = ClientAuthentication::client_secret_post(id, secret);
        let response = send(client, client_credentials()).await.unwrap();
        assert_eq!(client_of(&response), id);
    }
}

#[tokio::test]
async fn wrong_client_is_403_without_a_body() {
    for client in [
        ClientAuthentication::client_secret_basic_raw("basic", "wrong"),
        ClientAuthentication::client_secret_basic_raw("unknown", SECRET),
        ClientAuthentication::client_secret_post("post", "wrong"),
        // By another method than its own.
        ClientAuthentication::client_secret_basic_raw("post", SECRET),
        ClientAuthentication::none("basic"),
    ] {
        refused_in_silence(
            send(client, client_credentials()).await,
            StatusCode::FORBIDDEN,
        );
    }
}

#[tokio::test]
async fn password_grant() {
    let request = |password: &str| TokenRequest::password("alice", password).scope("openid api");
    let response = send(web(), request("password")).await.unwrap();

    assert!(response.refresh_token().is_some());
    let state = introspect(ROTATING, "web", &response).await;
    let id_token = claims(response.id_token().unwrap().expose_secret());
    assert_eq!(state["username"], "alice");
    assert_eq!(state["client_id"], "web");
    assert_eq!(state["sub"], id_token["sub"]);

    refused_in_silence(send(web(), request("wrong")).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn authorization_code_with_pkce() {
    let code = Alice::sign_in().await.code(ROTATING).await;
    let wrong = TokenRequest::authorization_code(&*code, REDIRECT_URI)
        .code_verifier("0123456789012345678901234567890123456789012");
    let refusal = (ErrorCode::from("invalid_code"), StatusCode::FORBIDDEN);
    assert_eq!(refused(send(web(), wrong).await), refusal);

    let response = send(web(), code_request(&code)).await.unwrap();
    let id_token = claims(response.id_token().unwrap().expose_secret());
    assert_eq!(id_token["aud"], "web");
    assert_eq!(id_token["nonce"], "nonce of this visit");
    assert_eq!(client_of(&response), "web");

    // A second use ends what the first one brought.
    assert_eq!(refused(send(web(), code_request(&code)).await), refusal);
    refused_in_silence(
        send(web(), refresh(&response)).await,
        StatusCode::BAD_REQUEST,
    );
}

#[tokio::test]
async fn refresh_token_rotates_and_reuse_is_refused() {
    let first = send(web(), password()).await.unwrap();
    let second = send(web(), refresh(&first)).await.unwrap();
    assert_ne!(
        first.refresh_token().unwrap().expose_secret(),
        second.refresh_token().unwrap().expose_secret()
    );
    assert_eq!(client_of(&second), "web");

    // The old one kills the whole family.
    for response in [first, second] {
        refused_in_silence(
            send(web(), refresh(&response)).await,
            StatusCode::BAD_REQUEST,
        );
    }
}

#[tokio::test]
async fn refresh_token_without_rotation() {
    let endpoint = endpoint(STEADY, web());
    let first = endpoint.clone().oneshot(password()).await.unwrap();
    for _ in 0..2 {
        let next = endpoint.clone().oneshot(refresh(&first)).await.unwrap();
        assert!(next.refresh_token().is_none());
        assert_eq!(introspect(STEADY, "web", &next).await["active"], true);
    }
}

#[tokio::test]
async fn device_code_is_pending_then_too_fast_then_served() {
    let started = start_device(ROTATING).await;
    let device_code = started["device_code"].as_str().unwrap();
    let poll = || send(web(), TokenRequest::device_code(device_code));

    assert_eq!(invalid(poll().await), ErrorCode::AuthorizationPending);
    let again = match invalid(poll().await) {
        // The server counts in whole seconds, and the next one had begun.
        ErrorCode::AuthorizationPending => invalid(poll().await),
        again => again,
    };
    assert_eq!(again, ErrorCode::SlowDown);

    let mut alice = Alice::sign_in().await;
    alice.agree(&started).await;
    // The server wants a second between two polls.
    time::sleep(Duration::from_secs(2)).await;
    let response = poll().await.unwrap();
    assert_eq!(client_of(&response), "web");
    assert!(response.refresh_token().is_some());

    // Used up. Others say `invalid_grant`.
    assert_eq!(invalid(poll().await), ErrorCode::AccessDenied);
}

#[tokio::test]
async fn errors_are_kept_as_they_came() {
    let cases = [
        (
            TokenRequest::client_credentials().scope("unknown"),
            ErrorCode::from("scope_invalid"),
        ),
        (
            client_credentials().resource("https://unknown.example/"),
            ErrorCode::InvalidTarget,
        ),
        (
            TokenRequest::device_code("unknown"),
            ErrorCode::AccessDenied,
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
        refused_in_silence(send(web(), request).await, status);
    }
}

#[tokio::test]
async fn resource_gives_a_jwt_for_that_resource() {
    let request = client_credentials().resource("https://api.example/");
    let response = send(basic(), request).await.unwrap();

    let token = claims(response.access_token().expose_secret());
    assert_eq!(token["aud"], "https://api.example/");
    assert_eq!(token["client_id"], "basic");
}

#[tokio::test]
async fn introspection_and_revocation_know_the_token() {
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

/// This server wants a scope with every request.
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

/// One request at a time from all tests: two that write at once can get a 500 from this server.
fn http() -> Http {
    static ONE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));
    ConcurrencyLimit::with_semaphore(support::http(), ONE.clone())
}

fn endpoint(issuer: &str, client: ClientAuthentication) -> TokenEndpoint<Http> {
    TokenEndpoint::new(http(), uri(issuer, "/token").parse().unwrap(), client)
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

/// A no by the status alone.
fn refused_in_silence(result: Result<TokenResponse, TokenError>, status: StatusCode) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{error}");
    assert_eq!(error.status(), Some(status));
    assert_eq!(error.raw().unwrap(), "");
    assert!(error.error_response().is_none());
    assert!(!error.is_transient());
}

/// What the server knows of a token. It tells nobody but the client that it gave the token to.
async fn introspect(issuer: &str, client_id: &str, response: &TokenResponse) -> Value {
    let token = response.access_token().expose_secret();
    post(issuer, "/introspect/", client_id, &[("token", token)]).await
}

/// The client that the server gave a token to.
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

/// A user with a session. She has agreed to all that the client `web` asks for.
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

    /// Where the page at `uri` sends her.
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
            .append_pair("nonce", "nonce of this visit")
            .append_pair("redirect_uri", REDIRECT_URI)
            .append_pair("response_type", "code")
            .append_pair("scope", "openid api")
            .append_pair("state", STATE)
            .finish();
        // `g_continue` is what the login page adds once she is content.
        let start = uri(issuer, &format!("/auth?{query}&g_continue"));
        code_in(&self.visit(&start).await)
    }

    /// Lets the device have what it asked for.
    async fn agree(&mut self, started: &Value) {
        let page = started["verification_uri_complete"].as_str().unwrap();
        let end = self.visit(&format!("{page}&g_continue")).await;
        assert!(end.query().unwrap().ends_with("prompt=deviceComplete"));
    }
}
