//! nginx in front of oidc-provider, with a different fault at each location (see `nginx/nginx.conf`).

mod recovery;

use std::{fs, time::Duration};

use http::{Request, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use tokio::time;
use tower::{ServiceBuilder, ServiceExt as _, timeout::error::Elapsed};
#[cfg(feature = "reqwest")]
use tower_oauth2_client::ReqwestService;
use tower_oauth2_client::{
    ClientAuthentication, ErrorCode, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    TokenResponse,
};

use crate::{
    setting,
    support::{Http, SECRET, http, post},
};

#[tokio::test]
async fn healthy_gateway_changes_nothing() {
    let response = send("/token").await.unwrap();

    assert_eq!(response.expires_in().unwrap().as_secs(), 60);
    assert_is_good(response.access_token().expose_secret()).await;
}

#[tokio::test]
async fn each_fault_is_reported_with_its_kind() {
    use TokenErrorKind::{Body, ErrorResponse, InvalidResponse, Service, UnexpectedStatus};

    for (path, kind, status, retry_after, is_transient, may_have_been_processed) in [
        (
            "/unavailable",
            UnexpectedStatus,
            Some(503),
            Some(1),
            true,
            false,
        ),
        ("/limited", ErrorResponse, Some(429), Some(1), true, false),
        (
            "/bad-gateway",
            UnexpectedStatus,
            Some(502),
            None,
            true,
            true,
        ),
        (
            "/gateway-timeout",
            UnexpectedStatus,
            Some(504),
            None,
            true,
            true,
        ),
        ("/dropped", Service, None, None, true, true),
        ("/broken", Body, Some(200), None, true, true),
        ("/moved", UnexpectedStatus, Some(307), None, false, true),
        ("/cut", InvalidResponse, Some(200), None, true, true),
        ("/page", InvalidResponse, Some(200), None, true, true),
        ("/nowhere", UnexpectedStatus, Some(404), None, false, true),
    ] {
        let error = send(path).await.unwrap_err();

        assert_eq!(error.kind(), kind, "{path}: {error}");
        let seen = error.status().map(|status| status.as_u16());
        assert_eq!(seen, status, "{path}: {error}");
        let seen = error.retry_after().map(|pause| pause.as_secs());
        assert_eq!(seen, retry_after, "{path}: {error}");
        assert_eq!(error.is_transient(), is_transient, "{path}: {error}");
        let seen = error.may_have_been_processed();
        assert_eq!(seen, may_have_been_processed, "{path}: {error}");
        assert!(!format!("{error} {error:?}").contains(SECRET));
    }
}

#[tokio::test]
async fn error_responses_and_gateway_pages_are_readable() {
    let error = send("/limited").await.unwrap_err();
    let response = error.error_response().unwrap();
    assert_eq!(*response.code(), ErrorCode::TEMPORARILY_UNAVAILABLE);

    let error = send("/bad-gateway").await.unwrap_err();
    assert_eq!(error.headers().unwrap()[CONTENT_TYPE], "text/html");
    assert!(error.raw().unwrap().starts_with(b"<html>"));
    // The body was cut short, so there is no complete body.
    assert!(send("/broken").await.unwrap_err().raw().is_none());
}

#[tokio::test]
async fn server_that_never_answers_causes_a_timeout() {
    let around = ServiceBuilder::new()
        .timeout(Duration::from_millis(300))
        .service(endpoint("/silent"));
    let error = around
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert!(error.is::<Elapsed>());

    // A timeout below the endpoint is reported by the endpoint.
    let http = ServiceBuilder::new()
        .timeout(Duration::from_millis(300))
        .service(http());
    let error = TokenEndpoint::new(http, uri("/silent"), basic())
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    assert!(error.is_transient());
    assert!(error.may_have_been_processed());
}

#[tokio::test]
async fn slow_response_is_read_completely() {
    let response = send("/slow").await.unwrap();

    assert_is_good(response.access_token().expose_secret()).await;
}

#[tokio::test]
async fn quoted_lifetime_is_parsed() {
    let response = send("/text-lifetime").await.unwrap();

    assert_eq!(response.get("expires_in").unwrap(), "60");
    assert_eq!(response.expires_in(), Some(Duration::from_secs(60)));
    assert_is_good(response.access_token().expose_secret()).await;
}

#[tokio::test]
async fn response_without_a_lifetime_is_accepted() {
    let response = send("/no-lifetime").await.unwrap();

    assert_eq!(response.expires_in(), None);
    assert_is_good(response.access_token().expose_secret()).await;
}

#[tokio::test]
async fn secret_is_not_sent_to_a_redirect_target() {
    // Basic sends the secret in a header, post in the body. reqwest follows redirects by default.
    for client in [
        basic(),
        ClientAuthentication::client_secret_post("post", SECRET),
    ] {
        let over_hyper = TokenEndpoint::new(http(), uri("/moved"), client.clone());
        let request = TokenRequest::client_credentials();
        assert_is_redirect(over_hyper.oneshot(request).await.unwrap_err());

        #[cfg(feature = "reqwest")]
        {
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            let http = ReqwestService::new(http);
            let over_reqwest = TokenEndpoint::new(http, uri("/moved"), client);
            let request = TokenRequest::client_credentials();
            assert_is_redirect(over_reqwest.oneshot(request).await.unwrap_err());
        }
    }

    // The redirect target logs every request that it receives. This must be the first one.
    let control = Request::post(format!("{}/token", setting("NGINX_OTHER")))
        .body(Full::from("control"))
        .unwrap();
    http().request(control).await.unwrap();
    let noted = time::timeout(Duration::from_secs(10), async {
        loop {
            let log = fs::read_to_string(setting("NGINX_OTHER_LOG")).unwrap();
            if log.ends_with('\n') {
                return log;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    });
    let noted = noted.await.unwrap();
    assert!(noted.ends_with("control\n"), "{noted}");
    assert_eq!(noted.lines().count(), 1, "{noted}");
}

fn assert_is_redirect(error: TokenError) {
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert!(error.to_string().contains("redirect"), "{error}");
    assert!(!error.is_transient());
}

fn basic() -> ClientAuthentication {
    ClientAuthentication::client_secret_basic("basic", SECRET)
}

fn uri(path: &str) -> Uri {
    format!("{}{path}", setting("NGINX")).parse().unwrap()
}

fn endpoint(path: &str) -> TokenEndpoint<Http> {
    TokenEndpoint::new(http(), uri(path), basic())
}

async fn send(path: &str) -> Result<TokenResponse, TokenError> {
    endpoint(path)
        .oneshot(TokenRequest::client_credentials())
        .await
}

fn introspection() -> String {
    format!("{}/token/introspection", setting("OIDC_PROVIDER"))
}

/// Checks that the server behind the gateway issued the token.
async fn assert_is_good(token: &str) {
    let state = post(http(), &introspection(), "basic", &[("token", token)]).await;
    assert_eq!(state["active"], true);
    assert_eq!(state["client_id"], "basic");
}
