//! A tonic client with the layer, and a gRPC server in Python on the C core. The server introspects each token (RFC 7662).

mod https_client;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use http::{StatusCode, uri::PathAndQuery};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    body::Body,
    client::{Grpc, GrpcService},
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tower::{ServiceBuilder, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenSource,
    add_access_token::{BufferBody, WatchTrailersLayer},
    test_util::{AuthorizationServer, Failure, Listening},
};

use crate::setting;

const UNARY: &str = "/interop.Echo/Unary";
const SERVER_STREAM: &str = "/interop.Echo/ServerStream";
const BIDIRECTIONAL: &str = "/interop.Echo/Bidirectional";

const BUFFER: usize = 64 * 1024;

#[tokio::test]
async fn call_without_a_token_is_unauthenticated() {
    let api = Api::start().await;
    let status = api.unary(api.channel.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("found 0 authorization"));
}

#[tokio::test]
async fn unary_calls_carry_one_token() {
    let api = Api::start().await;
    let service = api.plain();
    for _ in 0..3 {
        api.unary(service.clone()).await.unwrap();
    }
    api.check_introspected(&[1, 1, 1]);
}

#[tokio::test]
async fn server_stream_carries_the_token() {
    let api = Api::start().await;
    let answers = api.server_stream(api.plain()).await.unwrap();
    assert_eq!(answers, ["0", "1", "2"]);
    api.check_introspected(&[1]);
}

#[tokio::test]
async fn bidirectional_stream_carries_the_token() {
    let api = Api::start().await;
    let (sender, mut answers) = api.bidirectional(api.plain()).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "first");
    for message in ["second", "third"] {
        sender.send(Bytes::from(message)).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), message);
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
    api.check_introspected(&[1, 1, 1]);
}

#[tokio::test]
async fn concurrent_calls_share_one_token_request() {
    let api = Arc::new(Api::start().await);
    let service = api.plain();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (api, service) = (api.clone(), service.clone());
        calls.spawn(async move { api.unary(service).await });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
    assert_eq!(api.server.token_requests(), 1);
    api.check_introspected(&[1; 100]);
}

#[tokio::test]
async fn refused_call_is_resent_with_a_new_token() {
    let api = Api::start().await;
    let service = api.resending();
    api.unary(service.clone()).await.unwrap();

    api.server.revoke_all();
    api.unary(service.clone()).await.unwrap();
    api.check_introspected(&[1, 1, 2]);

    api.server.revoke_all();
    let answers = api.server_stream(service).await.unwrap();
    assert_eq!(answers, ["0", "1", "2"]);
    api.check_introspected(&[1, 1, 2, 2, 3]);
}

#[tokio::test]
async fn without_resending_the_next_call_succeeds() {
    let api = Api::start().await;
    let service = api.plain();
    api.unary(service.clone()).await.unwrap();

    api.server.revoke_all();
    let status = api.unary(service.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(api.source.peek().is_none());
    api.unary(service).await.unwrap();
    api.check_introspected(&[1, 1, 2]);
}

/// The client is still sending when the call is refused.
#[tokio::test]
async fn open_stream_continues_with_a_new_token() {
    let api = Api::start().await;
    let service = api.resending();
    api.unary(service.clone()).await.unwrap();

    api.server.revoke_all();
    let (sender, mut answers) = api.bidirectional(service).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "first");
    sender.send(Bytes::from("second")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "second");
    api.check_introspected(&[1, 1, 2, 2]);
}

#[tokio::test]
async fn token_refused_in_the_trailers_is_dropped_only_if_trailers_are_watched() {
    for watched in [true, false] {
        let api = Api::start().await;
        let service = match watched {
            true => api.watching(),
            false => api.plain(),
        };
        let (sender, mut answers) = api.bidirectional(service.clone()).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), "first");

        api.server.revoke_all();
        sender.send(Bytes::from("second")).await.unwrap();
        let status = answers.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(api.source.peek().is_none(), watched);
        assert_eq!(api.unary(service).await.is_ok(), watched);
        api.check_introspected(&[1, 1, if watched { 2 } else { 1 }]);
    }
}

#[tokio::test]
async fn permission_denied_keeps_the_token() {
    let api = Api::start_with("something-else").await;
    let service = api.resending();
    for _ in 0..2 {
        let status = api.unary(service.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    assert!(api.source.peek().is_some());
    api.check_introspected(&[1, 1]);
}

#[tokio::test]
async fn missing_token_is_unavailable_or_unauthenticated_and_sends_nothing() {
    for (failure, code, http_status) in [
        (Failure::status(503), Code::Unavailable, 503),
        (Failure::oauth("invalid_client"), Code::Unauthenticated, 401),
    ] {
        let api = Api::start().await;
        api.server.fail_until_told(failure);
        for service in [api.plain(), api.resending(), api.watching()] {
            let status = api.unary(service).await.unwrap_err();
            assert_eq!(status.code(), code, "{status:?}");
            assert!(
                status
                    .message()
                    .starts_with("failed to fetch an access token: ")
            );
            let error: &(dyn std::error::Error + 'static) = &status;
            let error = TokenError::find_in_chain(error).unwrap();
            assert_ne!(error.kind(), TokenErrorKind::Request);
            let expected = StatusCode::from_u16(http_status).unwrap();
            assert_eq!(error.status(), Some(expected));
        }
        api.check_introspected(&[]);
    }
}

type Boxed = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// A channel to the Python server, and the authorization server that it uses in this test.
struct Api {
    server: AuthorizationServer,
    listening: Listening,
    source: TokenSource,
    channel: Channel,
}

impl Api {
    async fn start() -> Self {
        Self::start_with("echo").await
    }

    async fn start_with(scope: &str) -> Self {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let endpoint = TokenEndpoint::new(
            Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>(),
            listening.token_endpoint(),
            ClientAuthentication::client_secret_basic("client", "secret"),
        );
        let request = TokenRequest::client_credentials().scope(scope);
        let channel = Channel::from_shared(setting("GRPCIO")).unwrap();
        Self {
            server,
            listening,
            source: TokenCache::new(endpoint).source(request),
            channel: channel.connect_lazy(),
        }
    }

    fn layer(&self) -> AddAccessTokenLayer {
        let layer = AddAccessTokenLayer::new(self.source.clone());
        layer.origin(setting("GRPCIO")).unwrap()
    }

    fn plain(&self) -> Boxed {
        let stack = ServiceBuilder::new()
            .map_err(Status::from_error)
            .layer(self.layer())
            .service(self.channel.clone());
        BoxCloneSyncService::new(stack)
    }

    fn resending(&self) -> Boxed {
        let layer = self.layer().resend(BufferBody::tonic(BUFFER));
        let stack = ServiceBuilder::new()
            .map_err(Status::from_error)
            .layer(layer)
            .service(self.channel.clone());
        BoxCloneSyncService::new(stack)
    }

    fn watching(&self) -> Boxed {
        let stack = ServiceBuilder::new()
            .map_err(Status::from_error)
            .layer(self.layer())
            .map_response(|response: http::Response<_>| response.map(Body::new))
            .layer(WatchTrailersLayer::new(self.source.clone()))
            .service(self.channel.clone());
        BoxCloneSyncService::new(stack)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let endpoint = self.listening.uri("/introspect").to_string();
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("introspection-endpoint", endpoint.parse().unwrap());
        request
    }

    /// Makes a unary call, and checks that the response echoes the request.
    async fn unary<S>(&self, service: S) -> Result<(), Status>
    where
        S: GrpcService<Body, ResponseBody = Body, Error: Into<BoxError>>,
    {
        let request = self.request(Bytes::from("hello"));
        let mut client = ready(service).await;
        let response = client.unary(request, path(UNARY), BytesCodec).await?;
        assert_eq!(response.into_inner(), "hello");
        Ok(())
    }

    async fn server_stream(&self, service: Boxed) -> Result<Vec<Bytes>, Status> {
        let request = self.request(Bytes::from("3"));
        let mut client = ready(service).await;
        let response = client.server_streaming(request, path(SERVER_STREAM), BytesCodec);
        let mut answers = response.await?.into_inner();
        let mut received = Vec::new();
        while let Some(answer) = answers.message().await? {
            received.push(answer);
        }
        Ok(received)
    }

    /// Opens a stream and sends one message on it.
    async fn bidirectional(
        &self,
        service: Boxed,
    ) -> Result<(mpsc::Sender<Bytes>, Streaming<Bytes>), Status> {
        let (sender, messages) = mpsc::channel(1);
        sender.send(Bytes::from("first")).await.unwrap();
        let request = self.request(ReceiverStream::new(messages));
        let mut client = ready(service).await;
        let response = client.streaming(request, path(BIDIRECTIONAL), BytesCodec);
        Ok((sender, response.await?.into_inner()))
    }

    /// Checks which tokens the Python server has introspected. Tokens are numbered from 1, in the order they were issued.
    fn check_introspected(&self, expected: &[usize]) {
        let requests = self.server.requests();
        let asked = requests
            .iter()
            .filter(|request| request.path() == "/introspect");
        let asked: Vec<_> = asked.map(|request| request.get("token").unwrap()).collect();
        let mut tokens = asked.clone();
        tokens.dedup();
        let numbers: Vec<_> = asked
            .iter()
            .map(|asked| 1 + tokens.iter().position(|token| token == asked).unwrap())
            .collect();
        assert_eq!(numbers, expected);
        assert_eq!(self.server.issued(), tokens.len());
    }
}

async fn ready<S>(service: S) -> Grpc<S>
where
    S: GrpcService<Body, Error: Into<BoxError>>,
{
    let mut client = Grpc::new(service);
    if let Err(error) = client.ready().await {
        panic!("{}", error.into());
    }
    client
}

fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

/// A codec that passes messages through unchanged.
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
