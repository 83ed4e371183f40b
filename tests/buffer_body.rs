//! `BufferBody` over hyper's client: a body is resent exactly as it was sent, or not at all.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    convert::Infallible,
    future::Future,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH},
};
use http_body_util::{
    BodyExt, Full,
    channel::{Channel, Sender},
    combinators::UnsyncBoxBody,
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpListener, time::timeout};
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{
    AddAccessToken, AddAccessTokenLayer, BoxError, TokenCache, TokenSource,
    add_access_token::{AccessTokenRefused, BufferBody, BufferedBody},
    test_util::AuthorizationServer,
};

use self::cache_support::{endpoint, request, secs};

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Service = AddAccessToken<Client<HttpConnector, Body>, BufferBody<Body>>;

fn wrap(body: BufferedBody<Body>) -> Body {
    Body::new(body)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    Http1,
    Http2,
}

use Version::{Http1, Http2};

/// When the API refuses a token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refuses {
    AfterTheBody,
    BeforeTheBody,
}

/// A request that the API got.
#[derive(Debug)]
struct Arrived {
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Arrived {
    fn token(&self) -> &HeaderValue {
        &self.headers[AUTHORIZATION]
    }
}

#[derive(Clone)]
struct Api {
    server: AuthorizationServer,
    refuses: Refuses,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    /// Unread bodies over HTTP/1. Dropping one closes the connection, and some platforms then lose the response.
    unread: Arc<Mutex<Vec<Incoming>>>,
}

impl Api {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let mut verdict = self.server.check_bearer(&parts.headers);
        let mut arrived = Arrived {
            headers: parts.headers,
            body: Bytes::new(),
            trailers: None,
        };
        if verdict.is_err() && self.refuses == Refuses::BeforeTheBody {
            if let (Err(refusal), http::Version::HTTP_11) = (&mut verdict, parts.version) {
                self.unread.lock().unwrap().push(body);
                // RFC 9112 §9.6: the connection cannot be used again before this body is read.
                let headers = refusal.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        } else {
            let Ok(body) = body.collect().await else {
                // A body that failed never counts as a request.
                return std::future::pending().await;
            };
            arrived.trailers = body.trailers().cloned();
            arrived.body = body.to_bytes();
        }
        let body = arrived.body.clone();
        self.arrived.lock().unwrap().push(arrived);
        Ok(match verdict {
            Ok(()) => Response::new(Full::new(body)),
            Err(refusal) => refusal,
        })
    }
}

struct Fixture {
    api: Api,
    source: TokenSource,
    service: Service,
    uri: Uri,
}

impl Fixture {
    async fn new(version: Version, refuses: Refuses, limit: usize) -> Self {
        let server = AuthorizationServer::new();
        let source = TokenCache::new(endpoint(&server)).source(request());
        let api = Api {
            server,
            refuses,
            arrived: Arc::default(),
            unread: Arc::default(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("http://{}/orders", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, version, api.clone()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut http = Client::builder(TokioExecutor::new());
        let http = http.http2_only(version == Http2).build(connector);
        let layer = AddAccessTokenLayer::new(source.clone());
        let layer = layer.origin(&uri).unwrap();
        let layer = layer.resend(BufferBody::new(limit, wrap));
        Self {
            api,
            service: layer.layer(http),
            source,
            uri: uri.parse().unwrap(),
        }
    }

    /// Sends a body after the current token was revoked.
    async fn send_refused(&self, body: Body) -> (StatusCode, Bytes, bool) {
        self.source.token().await.unwrap();
        self.api.server.revoke_all();
        self.send(body).await
    }

    /// Sends a body. Returns the status, the body, and whether the response is marked as a refusal.
    async fn send(&self, body: Body) -> (StatusCode, Bytes, bool) {
        let request = Request::post(self.uri.clone()).body(body).unwrap();
        let response = in_time(self.service.clone().oneshot(request))
            .await
            .unwrap();
        let is_refused = response.extensions().get::<AccessTokenRefused>().is_some();
        let status = response.status();
        let body = in_time(response.into_body().collect()).await.unwrap();
        (status, body.to_bytes(), is_refused)
    }

    fn arrived(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.api.arrived.lock().unwrap())
    }
}

/// Fails a test that would otherwise hang forever.
async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(secs(30), future)
        .await
        .expect("no answer within 30 seconds")
}

async fn serve(listener: TcpListener, version: Version, api: Api) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let api = api.clone();
        let service = hyper::service::service_fn(move |request| api.clone().answer(request));
        let stream = TokioIo::new(stream);
        match version {
            Http1 => {
                let http1 = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http1.serve_connection(stream, service));
            }
            Http2 => {
                let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http2.serve_connection(stream, service));
            }
        }
    }
}

fn chunks() -> Vec<Bytes> {
    (0..50_u8)
        .map(|n| Bytes::from(vec![n; 100 + usize::from(n)]))
        .collect()
}

/// A body that comes piece by piece, and does not know its length in advance.
fn streamed(chunks: Vec<Bytes>, trailers: Option<HeaderMap>) -> Body {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    tokio::spawn(async move {
        for chunk in chunks {
            sender.send_data(chunk).await?;
            tokio::task::yield_now().await;
        }
        if let Some(trailers) = trailers {
            sender.send_trailers(trailers).await?;
        }
        Ok::<_, http_body_util::channel::SendError>(())
    });
    Body::new(body)
}

/// A body with one frame that stays open.
async fn endless() -> (Sender<Bytes, BoxError>, Body) {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    sender
        .send_data(Bytes::from_static(b"begun"))
        .await
        .unwrap();
    (sender, Body::new(body))
}

#[tokio::test]
async fn a_streamed_body_arrives_completely_both_times() {
    for version in [Http1, Http2] {
        let whole = Bytes::from(chunks().concat());
        let fixture = Fixture::new(version, Refuses::AfterTheBody, whole.len()).await;
        let (status, body, is_refused) = fixture.send_refused(streamed(chunks(), None)).await;
        assert_eq!((status, is_refused), (StatusCode::OK, false), "{version:?}");
        assert_eq!(body, whole);
        let [first, second] = &fixture.arrived()[..] else {
            panic!("it was not sent twice over {version:?}");
        };
        assert_eq!((&first.body, &second.body), (&whole, &whole));
        assert_ne!(first.token(), second.token());
        // The length was unknown the first time. The second time it may be known, but must then be correct.
        let length = second.headers.get(CONTENT_LENGTH);
        assert!(length.is_none_or(|length| *length == whole.len().to_string()[..]));
    }
}

#[tokio::test]
async fn a_known_length_is_sent_both_times() {
    for version in [Http1, Http2] {
        let fixture = Fixture::new(version, Refuses::AfterTheBody, 8).await;
        let body = Full::from("the body").map_err(BoxError::from);
        let (status, ..) = fixture.send_refused(Body::new(body)).await;
        assert_eq!(status, StatusCode::OK);
        let arrived = fixture.arrived();
        assert_eq!(arrived.len(), 2);
        for arrived in arrived {
            assert_eq!(arrived.headers[CONTENT_LENGTH], "8");
            assert_eq!(arrived.body, "the body");
        }
    }
}

#[tokio::test]
async fn an_empty_body_is_resent() {
    for version in [Http1, Http2] {
        let fixture = Fixture::new(version, Refuses::AfterTheBody, 0).await;
        let body = Full::default().map_err(BoxError::from);
        let (status, ..) = fixture.send_refused(Body::new(body)).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(fixture.arrived().len(), 2);
    }
}

#[tokio::test]
async fn trailers_are_sent_both_times() {
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let fixture = Fixture::new(Http2, Refuses::AfterTheBody, 1 << 20).await;
    let body = streamed(chunks(), Some(trailers.clone()));
    let (status, ..) = fixture.send_refused(body).await;
    assert_eq!(status, StatusCode::OK);
    let arrived = fixture.arrived();
    assert_eq!(arrived.len(), 2);
    for arrived in arrived {
        assert_eq!(arrived.trailers, Some(trailers.clone()));
        assert_eq!(arrived.body, chunks().concat());
    }
}

#[tokio::test]
async fn a_body_above_the_limit_arrives_completely_and_only_once() {
    for version in [Http1, Http2] {
        let whole = Bytes::from(chunks().concat());
        let fixture = Fixture::new(version, Refuses::AfterTheBody, whole.len() - 1).await;
        let (status, _, is_refused) = fixture.send_refused(streamed(chunks(), None)).await;
        assert_eq!((status, is_refused), (StatusCode::UNAUTHORIZED, true));
        let arrived = fixture.arrived();
        assert_eq!(arrived.len(), 1);
        assert_eq!(arrived[0].body, whole);
        // The next request carries another token.
        let (status, ..) = fixture.send(streamed(chunks(), None)).await;
        assert_eq!(status, StatusCode::OK);
    }
}

/// The body is far larger than what sockets and flow control can buffer.
#[tokio::test]
async fn a_large_body_within_the_limit_arrives_completely_both_times() {
    for version in [Http1, Http2] {
        let chunks: Vec<_> = (0..64_u8).map(|n| Bytes::from(vec![n; 1 << 17])).collect();
        let whole = chunks.concat();
        let fixture = Fixture::new(version, Refuses::AfterTheBody, 1 << 23).await;
        let (status, ..) = fixture.send_refused(streamed(chunks, None)).await;
        assert_eq!(status, StatusCode::OK);
        let arrived = fixture.arrived();
        assert_eq!(arrived.len(), 2);
        assert!(arrived.iter().all(|arrived| arrived.body == whole));
    }
}

/// Calls of bidirectional gRPC streams have such bodies.
#[tokio::test]
async fn a_body_that_stays_open_continues_in_the_resent_request() {
    for version in [Http1, Http2] {
        let fixture = Fixture::new(version, Refuses::BeforeTheBody, 1 << 20).await;
        let (mut sender, body) = endless().await;
        let refusals = fixture.api.arrived.clone();
        let sending = async {
            while refusals.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            sender.send_data(Bytes::from(", and ended")).await.unwrap();
            drop(sender);
        };
        let (answer, ()) = tokio::join!(fixture.send_refused(body), sending);
        let (status, body, is_refused) = answer;
        assert_eq!((status, is_refused), (StatusCode::OK, false), "{version:?}");
        assert_eq!(body, "begun, and ended");
        let arrived = fixture.arrived();
        assert_eq!(arrived.len(), 2);
        assert_ne!(arrived[0].token(), arrived[1].token());
        // The connection may have been closed or not.
        let (status, body, _) = fixture.send(streamed(chunks(), None)).await;
        assert_eq!(status, StatusCode::OK, "{version:?}");
        assert_eq!(body, chunks().concat());
    }
}

/// The body is larger than what sockets and flow control can buffer, so the client cannot send it to its end.
#[tokio::test]
async fn a_refusal_is_noticed_before_a_large_body_was_sent() {
    for version in [Http1, Http2] {
        let chunks = vec![Bytes::from(vec![7; 1 << 20]); 64];
        let whole = chunks.concat();
        let fixture = Fixture::new(version, Refuses::BeforeTheBody, usize::MAX).await;
        let (status, body, _) = fixture.send_refused(streamed(chunks.clone(), None)).await;
        assert_eq!(status, StatusCode::OK, "{version:?}");
        assert!(body == whole);

        let fixture = Fixture::new(version, Refuses::BeforeTheBody, 1 << 10).await;
        let (status, _, is_refused) = fixture.send_refused(streamed(chunks, None)).await;
        assert_eq!(
            (status, is_refused),
            (StatusCode::UNAUTHORIZED, true),
            "{version:?}"
        );
        assert_eq!(fixture.arrived().len(), 1);
    }
}

/// The refusal races with the body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resent_body_is_complete_whenever_the_refusal_comes() {
    for version in [Http1, Http2] {
        for round in 0..200 {
            let fixture = Fixture::new(version, Refuses::BeforeTheBody, 1 << 20).await;
            let chunks = chunks().split_off(50 - round % 50);
            let whole = chunks.concat();
            let (status, body, is_refused) = fixture.send_refused(streamed(chunks, None)).await;
            assert_eq!(
                (status, is_refused),
                (StatusCode::OK, false),
                "{version:?}, round {round}"
            );
            assert_eq!(body, whole);
            let arrived = fixture.arrived();
            assert_eq!(arrived.len(), 2);
            assert_eq!(arrived[1].body, whole);
        }
    }
}

/// The client below gets the error of the body. What was sent before must not look like the whole body.
#[tokio::test]
async fn a_body_that_fails_is_not_resent() {
    for version in [Http1, Http2] {
        let fixture = Fixture::new(version, Refuses::BeforeTheBody, 1 << 20).await;
        let (sender, body) = endless().await;
        let sending = tokio::spawn({
            let request = Request::post(fixture.uri.clone()).body(body).unwrap();
            fixture.source.token().await.unwrap();
            fixture.api.server.revoke_all();
            fixture.service.clone().oneshot(request)
        });
        sender.abort("aborted by the test".into());
        if let Ok(response) = in_time(sending).await.unwrap() {
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        }
        assert!(fixture.arrived().len() <= 1);
    }
}
