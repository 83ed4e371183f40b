//! Timeouts of `HttpsClient`. The tests of the example `request_token` cover TLS itself.

mod support;

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, HttpsClient, NotSent, TokenEndpoint, TokenErrorKind, TokenRequest,
};

use self::support::{GOOD, chain, unreachable_uri};

async fn listen(scheme: &str) -> (TcpListener, Uri) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let uri = format!("{scheme}://{address}/token").parse().unwrap();
    (listener, uri)
}

fn endpoint(uri: Uri) -> TokenEndpoint<HttpsClient> {
    endpoint_over(HttpsClient::new().unwrap(), uri)
}

fn endpoint_over(http: HttpsClient, uri: Uri) -> TokenEndpoint<HttpsClient> {
    let client = ClientAuthentication::client_secret_basic("c", "s");
    TokenEndpoint::new(http, uri, client)
}

/// The server accepts the connection but never answers the TLS handshake.
#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the paused clock of the test")]
async fn the_connect_timeout_covers_the_tls_handshake() {
    let (listener, uri) = listen("https").await;
    let host = uri.authority().unwrap().to_string();
    let started = tokio::time::Instant::now();
    let fetch = endpoint(uri).oneshot(TokenRequest::refresh_token("r"));
    let (limited, accepted) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(3600), fetch),
        listener.accept()
    );
    accepted.unwrap();
    let error = limited.expect("the client waits forever").unwrap_err();
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    let text = chain(&error);
    assert!(
        text.contains(&format!("failed to connect to {host}")),
        "{text}"
    );
    assert_eq!(error.kind(), TokenErrorKind::Timeout, "{error:?}");
    assert!(error.is_transient());
    assert!(!error.may_have_been_processed(), "{error:?}");
}

/// The timeout covers only the connection, not the response.
#[tokio::test(start_paused = true)]
async fn a_response_may_take_longer_than_the_connect_timeout() {
    let (listener, uri) = listen("http").await;
    let http = HttpsClient::builder().token_response_head_timeout(None);
    let endpoint = endpoint_over(http.build().unwrap(), uri);
    let fetch = endpoint.oneshot(TokenRequest::client_credentials());
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

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the paused clock of the test")]
async fn token_request_waits_twenty_seconds_for_the_response_head() {
    let (listener, uri) = listen("http").await;
    let host = uri.authority().unwrap().to_string();
    let begun = tokio::time::Instant::now();
    let fetch = endpoint(uri).oneshot(TokenRequest::refresh_token("r"));
    let (result, _stream) = tokio::join!(fetch, listener.accept());
    let error = result.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
    assert_eq!(error.kind(), TokenErrorKind::Timeout, "{error:?}");
    assert!(error.may_have_been_processed(), "{error:?}");
    let expected = format!("{host} did not start its response within 20s");
    assert!(chain(&error).contains(&expected), "{}", chain(&error));
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the paused clock of the test")]
async fn api_request_waits_for_its_response_without_a_limit() {
    let (listener, uri) = listen("http").await;
    let request = http::Request::get(uri).body(Full::<Bytes>::default());
    let http = HttpsClient::new().unwrap();
    let sending = http.oneshot(request.unwrap());
    let limited = tokio::time::timeout(Duration::from_secs(24 * 3600), sending);
    let (result, _stream) = tokio::join!(limited, listener.accept());
    assert!(result.is_err(), "it waits for a day");
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the paused clock of the test")]
async fn time_to_connect_can_be_set() {
    let (listener, uri) = listen("https").await;
    let http = HttpsClient::builder().connect_timeout(Duration::from_secs(2));
    let begun = tokio::time::Instant::now();
    let endpoint = endpoint_over(http.build().unwrap(), uri);
    let fetch = endpoint.oneshot(TokenRequest::refresh_token("r"));
    let (result, _stream) = tokio::join!(fetch, listener.accept());
    let error = result.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert!(!error.may_have_been_processed(), "{error:?}");
}

#[tokio::test]
async fn connection_error_names_host_and_port() {
    let uri = unreachable_uri().await;
    let host = uri.authority().unwrap().to_string();
    let request = TokenRequest::client_credentials();
    let error = endpoint(uri.clone()).oneshot(request).await.unwrap_err();
    let text = chain(&error);
    assert!(
        text.contains(&format!(
            "the request was not sent: failed to connect to {host}: "
        )),
        "{text}"
    );
    assert!(text.contains("onnection refused"), "{text}");
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert!(!error.may_have_been_processed());

    let request = http::Request::get(uri).body(Full::<Bytes>::default());
    let http = HttpsClient::new().unwrap();
    let error = http.oneshot(request.unwrap()).await.unwrap_err();
    let source = error.downcast_ref::<NotSent>().unwrap().source().unwrap();
    assert_eq!(source.to_string(), format!("failed to connect to {host}"));
}

/// Without a timer an idle connection stays until the next request.
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
