//! Timeouts of `HttpsClient`. The tests of the example `request_token` cover TLS itself.

mod support;

use std::time::Duration;

use http::Uri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, HttpsClient, TokenEndpoint, TokenErrorKind, TokenRequest,
};

use self::support::GOOD;

async fn listen(scheme: &str) -> (TcpListener, Uri) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let uri = format!("{scheme}://{address}/token").parse().unwrap();
    (listener, uri)
}

fn endpoint(uri: Uri) -> TokenEndpoint<HttpsClient> {
    let client = ClientAuthentication::client_secret_basic("c", "s");
    TokenEndpoint::new(HttpsClient::new().unwrap(), uri, client)
}

/// The server accepts the connection but never answers the TLS handshake.
#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the paused clock of the test")]
async fn the_connect_timeout_covers_the_tls_handshake() {
    let (listener, uri) = listen("https").await;
    let started = tokio::time::Instant::now();
    let fetch = endpoint(uri).oneshot(TokenRequest::refresh_token("r"));
    let (limited, accepted) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(3600), fetch),
        listener.accept()
    );
    accepted.unwrap();
    let error = limited.expect("the client waits forever").unwrap_err();
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(error.kind(), TokenErrorKind::Timeout, "{error:?}");
    assert!(error.is_transient());
    assert!(!error.may_have_been_processed(), "{error:?}");
}

/// The timeout covers only the connection, not the response.
#[tokio::test(start_paused = true)]
async fn a_response_may_take_longer_than_the_connect_timeout() {
    let (listener, uri) = listen("http").await;
    let fetch = endpoint(uri).oneshot(TokenRequest::client_credentials());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let answer = format!(
            "HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{GOOD}",
            GOOD.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    };
    let (result, _stream) = tokio::join!(fetch, serve);
    result.unwrap();
}

/// Without a timer, an idle connection would stay open until the next request.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_another_request() {
    let (listener, uri) = listen("http").await;
    let endpoint = endpoint(uri);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        let answer = format!(
            "HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{GOOD}",
            GOOD.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let request = TokenRequest::client_credentials();
    endpoint.clone().oneshot(request).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(3600), serving).await;
    closed
        .expect("the connection stays open for an hour")
        .unwrap();
    drop(endpoint);
}
