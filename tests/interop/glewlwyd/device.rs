//! Device logins through `DeviceAuthorizationEndpoint`. This server sends an interval of one second, and demands that it is kept.

use std::time::Duration;

use tokio::time::sleep;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    DeviceAuthorizationRequest, DeviceAuthorizationResponse, ErrorCode, TokenCache, TokenEndpoint,
    TokenPolling, TokenRequest,
};

use super::{Alice, Http, ROTATING, client_of, http, send, uri, web};

fn discover() -> TokenEndpoint<Http> {
    TokenEndpoint::discover(http(), uri(ROTATING, ""), web())
}

async fn begin(endpoint: &TokenEndpoint<Http>) -> DeviceAuthorizationResponse {
    let request = DeviceAuthorizationRequest::new().scope("openid api");
    let device = endpoint.device_authorization().oneshot(request).await;
    let device = device.unwrap();
    assert_eq!(device.expires_in(), Some(Duration::from_secs(60)));
    assert_eq!(device.interval(), Duration::from_secs(1));
    device
}

#[tokio::test]
async fn source_waits_for_the_user_and_continues_with_refresh_tokens() {
    let endpoint = discover();
    let device = begin(&endpoint).await;
    let source = TokenCache::new(endpoint).source(device.token_request());
    let page = device.verification_uri_complete().unwrap();
    let user = async {
        sleep(Duration::from_secs(3)).await;
        Alice::sign_in().await.agree(page).await;
    };
    let (waited, ()) = tokio::join!(source.wait_for_user(), user);
    waited.unwrap();
    let first = source.token().await.unwrap();
    let second = source.renew().await.unwrap();
    assert_ne!(first.expose_secret(), second.expose_secret());
}

/// Other requests with the same code make the server say `slow_down`.
#[tokio::test]
async fn slow_down_is_obeyed() {
    let endpoint = discover();
    let device = begin(&endpoint).await;
    let mut polling = TokenPolling::new(endpoint, device.token_request());
    let other = TokenRequest::device_code(device.device_code());
    // Both are polled all the time, because this server gets one request at a time: one that is not polled would block the other.
    let mut others = tokio::spawn(async move {
        loop {
            send(web(), other.clone()).await.unwrap_err();
            sleep(Duration::from_millis(100)).await;
        }
    });
    while polling.interval() == Duration::from_secs(1) {
        tokio::select! {
            result = &mut polling => panic!("nobody has agreed: {result:?}"),
            ended = &mut others => ended.unwrap(),
            () = sleep(Duration::from_millis(50)) => {}
        }
    }
    others.abort();
    let error = polling.last_error().unwrap().error_response().unwrap();
    assert_eq!(*error.code(), ErrorCode::SLOW_DOWN);
    assert_eq!(polling.interval(), Duration::from_secs(6));
    let page = device.verification_uri_complete().unwrap();
    Alice::sign_in().await.agree(page).await;
    let response = polling.await.unwrap();
    assert_eq!(client_of(&response), "web");
}
