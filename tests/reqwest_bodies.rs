//! `ReqwestService` with request bodies that are not `Sync`: those of axum and of tonic.

mod support;

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{Full, StreamBody};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, ReqwestService, TokenCache, TokenRequest,
    add_access_token::BufferBody,
};

use self::support::{Loopback, Recorder, Script, answer, reqwest_client};

/// Sends the body, and returns the request as the server received it.
async fn send<B>(body: B) -> String
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let server = Loopback::start(|_| Script::good()).await;
    let request = Request::post(server.uri()).body(body).unwrap();
    let http = ReqwestService::new(reqwest_client());
    http.oneshot(request).await.unwrap();
    server.requests().remove(0)
}

fn chunks() -> impl Body<Data = Bytes, Error = Infallible> + Send {
    let chunks = ["one ", "two"].map(|text| Ok(Frame::data(Bytes::from(text))));
    StreamBody::new(tokio_stream::iter(chunks))
}

#[tokio::test]
async fn body_of_known_length_is_sent_with_its_length() {
    for request in [
        send(axum::body::Body::from("one two")).await,
        send(tonic::body::Body::new(Full::new(Bytes::from("one two")))).await,
    ] {
        assert!(request.contains("content-length: 7\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\none two"), "{request}");
    }
}

#[tokio::test]
async fn streamed_body_is_sent_in_chunks() {
    for request in [
        send(axum::body::Body::new(chunks())).await,
        send(tonic::body::Body::new(chunks())).await,
    ] {
        assert!(
            request.contains("transfer-encoding: chunked\r\n"),
            "{request}"
        );
        let expected = "\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n";
        assert!(request.ends_with(expected), "{request}");
    }
}

#[tokio::test]
async fn empty_body_is_sent_without_chunks() {
    for request in [
        send(axum::body::Body::empty()).await,
        send(tonic::body::Body::empty()).await,
    ] {
        assert!(!request.contains("transfer-encoding"), "{request}");
        assert!(request.ends_with("\r\n\r\n"), "{request}");
    }
}

/// How a gateway on axum forwards the requests that it gets.
#[tokio::test]
async fn request_of_axum_gets_a_token_and_is_resent_over_reqwest() {
    let server = Loopback::start(|number| match number {
        0 => Script::answer(
            401,
            "www-authenticate: Bearer error=\"invalid_token\"\r\n",
            "",
        ),
        _ => Script::good(),
    })
    .await;
    let issuing = Recorder::new(|number| {
        answer(
            200,
            format!(r#"{{"access_token":"t{number}","token_type":"Bearer"}}"#),
        )
    });
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let source =
        TokenCache::new(issuing.endpoint(client)).source(TokenRequest::client_credentials());
    let resend = BufferBody::new(1024, axum::body::Body::new);
    let layer = AddAccessTokenLayer::new(source).origin(server.uri());
    let api = ServiceBuilder::new()
        .layer(layer.unwrap().resend(resend))
        .service(ReqwestService::new(reqwest_client()));
    let request = Request::post(server.uri()).body(axum::body::Body::from("hello"));
    let response = api.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    for (request, token) in server.requests().iter().zip(["t0", "t1"]) {
        assert!(
            request.contains(&format!("authorization: Bearer {token}\r\n")),
            "{request}"
        );
        assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    }
    assert_eq!(server.requests().len(), 2);
}
