//! gRPC with tonic: its generated client for the health service, with servers on loopback.
#![cfg(all(feature = "test-util", feature = "tonic"))]

mod cache_support;

use std::{
    convert::Infallible,
    error::Error,
    future::ready,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    body::Body as GrpcBody,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::HealthReporter,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AddAccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, NoAccessToken, TokenCache,
    TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenSource,
    add_access_token::{
        AccessTokenRefused, BufferBody, InsecureTransport, NoOriginNamed, NoTokenNamed,
        WatchTrailersLayer,
    },
    test_util::{AuthorizationServer, Failure},
};

use self::cache_support::{bearer, endpoint, millis, request};

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

const SERVING: i32 = ServingStatus::Serving as i32;
const NOT_SERVING: i32 = ServingStatus::NotServing as i32;

/// A gRPC server on loopback, the authorization server that checks its tokens, and a cache over that server.
struct Grpc {
    server: AuthorizationServer,
    cache: TokenCache,
    origin: String,
    channel: Channel,
    reporter: HealthReporter,
    sent: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Grpc {
    /// Accepts valid tokens, and refuses others before it reads the message.
    async fn checking() -> Self {
        let server = AuthorizationServer::new();
        let checked = server.clone();
        Self::judging(server, move |headers| match checked.check_bearer(headers) {
            Ok(()) => Ok(()),
            Err(_) => Err(Status::unauthenticated("the token is invalid")),
        })
        .await
    }

    async fn judging(
        server: AuthorizationServer,
        judge: impl Fn(&HeaderMap) -> Result<(), Status> + Clone + Send + Sync + 'static,
    ) -> Self {
        let sent = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let noted = sent.clone();
        let (reporter, health) = tonic_health::server::health_reporter();
        let health = tonic::service::interceptor::InterceptedService::new(
            health,
            move |request: tonic::Request<()>| {
                let headers = request.metadata().clone().into_headers();
                let verdict = judge(&headers);
                noted.lock().unwrap().push(headers);
                verdict.map(|()| request)
            },
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (origin, channel) = connect(&listener);
        let router = Server::builder().add_service(health);
        tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
        Self {
            cache: TokenCache::new(endpoint(&server)),
            server,
            origin,
            channel,
            reporter,
            sent,
        }
    }

    fn source(&self) -> TokenSource {
        self.cache.source(request())
    }

    fn layer(&self) -> AddAccessTokenLayer {
        layer(self.source(), &self.origin)
    }

    fn client(&self) -> HealthClient<AddAccessToken<Channel>> {
        HealthClient::new(self.layer().layer(self.channel.clone()))
    }

    fn resending(
        &self,
        limit: usize,
    ) -> HealthClient<AddAccessToken<Channel, BufferBody<GrpcBody>>> {
        let layer = self.layer().resend(BufferBody::tonic(limit));
        HealthClient::new(layer.layer(self.channel.clone()))
    }

    /// The tokens of the calls that the server got.
    fn tokens(&self) -> Vec<Option<HeaderValue>> {
        let sent = self.sent.lock().unwrap();
        let tokens = sent.iter().map(|headers| headers.get(AUTHORIZATION));
        tokens.map(Option::<&_>::cloned).collect()
    }
}

/// Returns the origin of a server, and a channel to it.
fn connect(listener: &TcpListener) -> (String, Channel) {
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let endpoint = Endpoint::from_shared(origin.clone()).unwrap();
    (origin, endpoint.connect_lazy())
}

fn layer(source: TokenSource, origin: &str) -> AddAccessTokenLayer {
    AddAccessTokenLayer::new(source).origin(origin).unwrap()
}

fn of(tenant: &str) -> TokenRequest {
    request().parameter("tenant", tenant)
}

mod calls {
    use super::*;

    #[tokio::test]
    async fn one_token_serves_unary_calls_and_streams() {
        let grpc = Grpc::checking().await;
        let mut client = grpc.client();
        let response = client.check(ask("")).await.unwrap();
        assert_eq!(response.into_inner().status, SERVING);

        let mut watched = client.watch(ask("")).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        assert_eq!(first.status, SERVING);
        let stopped = ServingStatus::NotServing;
        grpc.reporter.set_service_status("", stopped).await;
        let second = watched.message().await.unwrap().unwrap();
        assert_eq!(second.status, NOT_SERVING);

        assert_eq!(grpc.server.token_requests(), 1);
        let token = grpc.source().peek().unwrap();
        let expected = token.authorization().cloned();
        assert_eq!(grpc.tokens(), [expected.clone(), expected]);
    }

    /// The compiler must see that the futures are `Send`.
    #[tokio::test]
    async fn calls_are_made_in_spawned_tasks() {
        let grpc = Grpc::checking().await;
        let mut calls = tokio::task::JoinSet::new();
        let (mut plain, mut resending) = (grpc.client(), grpc.resending(64));
        // Without `map_err`, rustc does not see that the future of the boxed stack is `Send`.
        let boxed = ServiceBuilder::new()
            .layer(BoxCloneSyncService::layer())
            .map_err(Status::from_error)
            .layer(grpc.layer())
            .service(grpc.channel.clone());
        let mut boxed = HealthClient::new(boxed);
        let stack = ServiceBuilder::new()
            .timeout(millis(9000))
            .layer(grpc.layer())
            .layer(WatchTrailersLayer::new(grpc.source()))
            .service(grpc.channel.clone());
        let mut stack = HealthClient::new(stack);
        calls.spawn(async move { plain.check(ask("")).await });
        calls.spawn(async move { resending.check(ask("")).await });
        calls.spawn(async move { boxed.check(ask("")).await });
        calls.spawn(async move { stack.check(ask("")).await });
        for call in calls.join_all().await {
            assert_eq!(call.unwrap().into_inner().status, SERVING);
        }
        assert_eq!(grpc.server.token_requests(), 1);
    }

    #[tokio::test]
    async fn a_stream_waits_for_the_first_token() {
        let grpc = Grpc::checking().await;
        let mut watched = grpc.client().watch(ask("")).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        assert_eq!(first.status, SERVING);
        assert_eq!(grpc.server.token_requests(), 1);
    }

    #[tokio::test]
    async fn the_extensions_of_a_call_choose_its_token() {
        let grpc = Grpc::judging(AuthorizationServer::new(), |_| Ok(())).await;
        let mut client = grpc.client();
        let with = |mark: fn(&mut tonic::Request<HealthCheckRequest>)| {
            let mut request = tonic::Request::new(ask(""));
            mark(&mut request);
            request
        };
        let named = with(|request| {
            request.extensions_mut().insert(of("blue"));
        });
        client.check(named).await.unwrap();
        let fixed = with(|request| {
            let source = TokenSource::fixed(bearer("fixed"));
            request.extensions_mut().insert(source);
        });
        client.check(fixed).await.unwrap();
        let bare = with(|request| {
            request.extensions_mut().insert(NoAccessToken);
        });
        client.check(bare).await.unwrap();
        let own = with(|request| {
            let value = "Basic YTpi".parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        });
        client.check(own).await.unwrap();

        let blue = grpc.cache.source(of("blue")).peek().unwrap();
        let of_ours = [
            blue.authorization().cloned(),
            Some(HeaderValue::from_static("Bearer fixed")),
            None,
            Some(HeaderValue::from_static("Basic YTpi")),
        ];
        assert_eq!(grpc.tokens(), of_ours);
        assert_eq!(grpc.server.token_requests(), 1);
    }

    #[tokio::test]
    async fn a_call_with_any_other_status_keeps_the_token_and_is_not_resent() {
        for code in [
            Code::PermissionDenied,
            Code::NotFound,
            Code::Unavailable,
            Code::Internal,
        ] {
            let server = AuthorizationServer::new();
            let refuse = move |_: &HeaderMap| Err(Status::new(code, "no"));
            let grpc = Grpc::judging(server, refuse).await;
            let status = grpc.resending(1024).check(ask("")).await.unwrap_err();
            assert_eq!(status.code(), code);
            assert!(grpc.source().peek().is_some(), "{code}");
            assert_eq!(grpc.tokens().len(), 1, "{code}");
        }
    }
}

mod headers {
    use super::*;

    #[tokio::test]
    async fn a_refusal_invalidates_the_token_and_the_next_call_carries_another() {
        for is_stream in [false, true] {
            let grpc = Grpc::checking().await;
            let mut client = grpc.client();
            client.check(ask("")).await.unwrap();
            grpc.server.revoke_all();
            let status = match is_stream {
                false => client.check(ask("")).await.map(drop).unwrap_err(),
                true => client.watch(ask("")).await.map(drop).unwrap_err(),
            };
            assert_eq!(status.code(), Code::Unauthenticated);
            assert_eq!(status.message(), "the token is invalid");
            assert_eq!(grpc.source().peek(), None);
            assert_eq!(grpc.tokens().len(), 2, "the call was not resent");
            client.check(ask("")).await.unwrap();
            assert_eq!(grpc.server.token_requests(), 2);
        }
    }

    #[tokio::test]
    async fn a_refused_call_is_resent_with_another_token() {
        let grpc = Grpc::checking().await;
        let stopped = ServingStatus::NotServing;
        grpc.reporter.set_service_status("orders", stopped).await;
        let mut client = grpc.resending(1024);
        client.check(ask("")).await.unwrap();

        // The response proves that the server got the whole message the second time.
        grpc.server.revoke_all();
        let response = client.check(ask("orders")).await.unwrap();
        assert_eq!(response.into_inner().status, NOT_SERVING);
        let tokens = grpc.tokens();
        assert_eq!(tokens.len(), 3);
        assert_eq!(tokens[0], tokens[1]);
        assert_ne!(tokens[1], tokens[2]);

        grpc.server.revoke_all();
        let response = client.watch(ask("orders")).await.unwrap();
        let first = response.into_inner().message().await.unwrap().unwrap();
        assert_eq!(first.status, NOT_SERVING);
        assert_eq!(grpc.tokens().len(), 5);
        assert_eq!(grpc.server.token_requests(), 3);
    }

    #[tokio::test]
    async fn a_call_is_resent_only_once() {
        let server = AuthorizationServer::new();
        let refuse = |_: &HeaderMap| Err(Status::unauthenticated("never"));
        let grpc = Grpc::judging(server, refuse).await;
        let status = grpc.resending(1024).check(ask("")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(status.message(), "never");
        let tokens = grpc.tokens();
        assert_eq!(tokens.len(), 2);
        assert_ne!(tokens[0], tokens[1]);
    }

    #[tokio::test]
    async fn a_call_is_not_resent_with_the_refused_token() {
        let server = AuthorizationServer::new();
        server.same_token(true);
        let refuse = |_: &HeaderMap| Err(Status::unauthenticated("never"));
        let grpc = Grpc::judging(server, refuse).await;
        let status = grpc.resending(1024).check(ask("")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(grpc.tokens().len(), 1);
        assert_eq!(grpc.server.token_requests(), 2);
    }

    #[tokio::test]
    async fn a_message_above_the_limit_is_not_resent() {
        // Five bytes of gRPC header, then three bytes of protobuf tag and length.
        let limit = 5 + 3 + 1000;
        for (size, calls) in [(1000, 3), (1001, 2)] {
            let grpc = Grpc::checking().await;
            let name = "x".repeat(size);
            let serving = ServingStatus::Serving;
            grpc.reporter.set_service_status(&name, serving).await;
            let mut client = grpc.resending(limit);
            client.check(ask(&name)).await.unwrap();
            grpc.server.revoke_all();
            let result = client.check(ask(&name)).await;
            assert_eq!(grpc.tokens().len(), calls, "{size}");
            if calls == 2 {
                assert_eq!(result.unwrap_err().code(), Code::Unauthenticated);
                assert_eq!(grpc.source().peek(), None);
                client.check(ask(&name)).await.unwrap();
            } else {
                assert_eq!(result.unwrap().into_inner().status, SERVING);
            }
        }
    }
}

mod trailers {
    use super::*;

    /// `HealthCheckResponse { status: Serving }`.
    const MESSAGE: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

    /// A response with one message and a status in its trailers.
    fn answer(content_type: &'static str, status: &'static str) -> Response<GrpcBody> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        let body =
            Full::new(Bytes::from_static(MESSAGE))
                .with_trailers(ready(Some(Ok::<_, Infallible>(trailers))));
        let response = Response::builder().header(CONTENT_TYPE, content_type);
        response.body(GrpcBody::new(body)).unwrap()
    }

    /// A server that serves every call, and reports an invalid token only in the trailers.
    struct Late {
        server: AuthorizationServer,
        cache: TokenCache,
        origin: String,
        channel: Channel,
        sent: Arc<Mutex<Vec<HeaderMap>>>,
    }

    impl Late {
        async fn new() -> Self {
            let server = AuthorizationServer::new();
            let checked = server.clone();
            Self::saying(server, move |headers| match checked.check_bearer(headers) {
                Ok(()) => "0",
                Err(_) => "16",
            })
            .await
        }

        /// Ends each call with the status that `status` returns.
        async fn saying(
            server: AuthorizationServer,
            status: impl Fn(&HeaderMap) -> &'static str + Clone + Send + 'static,
        ) -> Self {
            let sent = Arc::<Mutex<Vec<HeaderMap>>>::default();
            let noted = sent.clone();
            let service = move |request: Request<hyper::body::Incoming>| {
                let headers = request.headers().clone();
                let status = status(&headers);
                noted.lock().unwrap().push(headers);
                async move {
                    request.into_body().collect().await?;
                    Ok::<_, hyper::Error>(answer("application/grpc", status))
                }
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let (origin, channel) = connect(&listener);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let service = hyper::service::service_fn(service.clone());
                    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(http2.serve_connection(TokioIo::new(stream), service));
                }
            });
            Self {
                cache: TokenCache::new(endpoint(&server)),
                server,
                origin,
                channel,
                sent,
            }
        }

        fn source(&self) -> TokenSource {
            self.cache.source(request())
        }

        fn layer(&self) -> AddAccessTokenLayer {
            layer(self.source(), &self.origin)
        }

        fn calls(&self) -> usize {
            self.sent.lock().unwrap().len()
        }
    }

    /// A client that watches trailers. It has a resend strategy, but must not resend.
    macro_rules! watching {
        ($late:expr, $layer:expr) => {
            HealthClient::new(
                ServiceBuilder::new()
                    .layer($layer.resend(BufferBody::tonic(1024)))
                    .layer(WatchTrailersLayer::new($late.source()))
                    .map_response(|response: Response<_>| response.map(GrpcBody::new))
                    .service($late.channel.clone()),
            )
        };
    }

    #[tokio::test]
    async fn a_refusal_in_trailers_invalidates_the_token_without_a_resend() {
        let late = Late::new().await;
        let mut client = watching!(late, late.layer());
        client.check(ask("")).await.unwrap();
        late.server.revoke_all();
        let status = client.check(ask("")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(late.calls(), 2);
        assert_eq!(late.source().peek(), None);

        client.check(ask("")).await.unwrap();
        assert_eq!(late.calls(), 3);
        assert_eq!(late.server.token_requests(), 2);
    }

    #[tokio::test]
    async fn a_refusal_in_trailers_is_not_noticed_without_the_layer() {
        let late = Late::new().await;
        let layer = late.layer().resend(BufferBody::tonic(1024));
        let mut client = HealthClient::new(layer.layer(late.channel.clone()));
        client.check(ask("")).await.unwrap();
        let token = late.source().peek();
        late.server.revoke_all();
        for _ in 0..3 {
            let status = client.check(ask("")).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
        }
        assert_eq!(late.source().peek(), token);
        assert_eq!(late.calls(), 4);
        assert_eq!(late.server.token_requests(), 1);
    }

    #[tokio::test]
    async fn a_stream_delivers_its_messages_before_its_trailers_invalidate_the_token() {
        let late = Late::new().await;
        let mut client = watching!(late, late.layer());
        late.source().token().await.unwrap();
        late.server.revoke_all();
        let mut stream = client.watch(ask("")).await.unwrap().into_inner();
        let message = stream.message().await.unwrap().unwrap();
        assert_eq!(message.status, SERVING);
        assert!(late.source().peek().is_some());
        let status = stream.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(late.source().peek(), None);
        assert_eq!(late.calls(), 1);
    }

    #[tokio::test]
    async fn any_other_status_in_trailers_keeps_the_token() {
        for status in ["0", "7", "14", "160", ""] {
            let late = Late::saying(AuthorizationServer::new(), move |_| status).await;
            let mut client = watching!(late, late.layer());
            let _ = client.check(ask("")).await;
            assert_eq!(late.calls(), 1);
            assert!(late.source().peek().is_some(), "{status}");
        }
    }

    /// The call may name its token in three ways, and find it in the cache or wait for it.
    #[tokio::test]
    async fn a_refusal_in_trailers_invalidates_only_the_token_of_the_call() {
        let late = Late::saying(AuthorizationServer::new(), |_| "16").await;
        let of_the_layer = late.source().token().await.unwrap();
        let by_header = |parts: &Parts| match parts.headers.get("x-tenant") {
            Some(tenant) => of(tenant.to_str().unwrap()),
            None => request(),
        };
        let layer = late.layer().token_request_for(by_header);
        let mut client = watching!(late, layer);
        for way in ["source", "request", "function"] {
            let source = late.cache.source(of(way));
            for is_warm in [false, true] {
                if is_warm {
                    source.token().await.unwrap();
                }
                let mut call = tonic::Request::new(ask(""));
                match way {
                    "source" => drop(call.extensions_mut().insert(source.clone())),
                    "request" => drop(call.extensions_mut().insert(of(way))),
                    _ => drop(call.metadata_mut().insert("x-tenant", way.parse().unwrap())),
                }
                let calls = late.calls();
                let status = client.check(call).await.unwrap_err();
                assert_eq!(status.code(), Code::Unauthenticated);
                assert_eq!(late.calls(), calls + 1);
                assert_eq!(source.peek(), None, "by {way}, warm: {is_warm}");
            }
        }
        assert_eq!(late.source().peek(), Some(of_the_layer));
        // Two tokens for each way, and the token of the layer.
        assert_eq!(late.server.token_requests(), 7);
    }

    #[tokio::test]
    async fn refusals_of_the_callers_own_header_are_ignored() {
        let late = Late::saying(AuthorizationServer::new(), |_| "16").await;
        let token = late.source().token().await.unwrap();
        let mut client = watching!(late, late.layer());
        let mut own = tonic::Request::new(ask(""));
        let value = "Bearer of-the-caller".parse().unwrap();
        own.metadata_mut().insert("authorization", value);
        client.check(own).await.unwrap_err();
        let mut bare = tonic::Request::new(ask(""));
        bare.extensions_mut().insert(NoAccessToken);
        client.check(bare).await.unwrap_err();
        assert_eq!(late.calls(), 2);
        assert_eq!(late.source().peek(), Some(token));
    }

    /// A service in between that follows redirects removes the token from a request to another origin.
    #[tokio::test]
    async fn a_refusal_of_a_request_without_a_token_is_ignored() {
        let cache = TokenCache::new(endpoint(&AuthorizationServer::new()));
        let source = cache.source(request());
        for is_of_the_layer in [true, false] {
            let named = match is_of_the_layer {
                true => source.clone(),
                false => cache.source(of("blue")),
            };
            let token = named.token().await.unwrap();
            let service = ServiceBuilder::new()
                .layer(cache_support::api_layer(source.clone()))
                .map_request(|mut request: Request<GrpcBody>| {
                    request.headers_mut().remove(AUTHORIZATION).unwrap();
                    request
                })
                .layer(WatchTrailersLayer::new(source.clone()))
                .service(service_fn(|_: Request<GrpcBody>| {
                    ready(Ok::<_, BoxError>(answer("application/grpc", "16")))
                }));
            let mut call = Request::post("/health").body(GrpcBody::empty()).unwrap();
            if !is_of_the_layer {
                call.extensions_mut().insert(named.clone());
            }
            let response = service.oneshot(call).await.unwrap();
            response.into_body().collect().await.unwrap();
            assert_eq!(named.peek(), Some(token), "{is_of_the_layer}");
        }
    }

    /// The layer that watches gets the header and the rules of the layer above.
    #[tokio::test]
    async fn the_watching_layer_has_the_header_and_the_rules_of_the_other() {
        let name = HeaderName::from_static("x-authorization");
        let denied = |head: &http::response::Parts| {
            head.headers
                .get("grpc-status")
                .is_some_and(|status| status == "7")
        };
        for (status, chosen, is_dropped) in [
            ("7", false, false),
            ("7", true, true),
            ("16", false, true),
            ("16", true, true),
            ("5", true, false),
        ] {
            for scheme in 0..3 {
                let server = AuthorizationServer::new();
                let source = TokenCache::new(endpoint(&server)).source(request());
                let layer = cache_support::api_layer(source.clone()).header(name.clone());
                let layer = match scheme {
                    0 => layer,
                    1 => layer.without_scheme(),
                    _ => layer.scheme("Token").unwrap(),
                };
                let layer = if chosen {
                    layer.refused_when(denied)
                } else {
                    layer
                };
                let service = ServiceBuilder::new()
                    .layer(layer.clone())
                    .layer(layer.watch_trailers())
                    .service(service_fn(move |request: Request<GrpcBody>| {
                        assert!(request.headers().contains_key("x-authorization"));
                        ready(Ok::<_, BoxError>(answer("application/grpc", status)))
                    }));
                let call = Request::post("/health").body(GrpcBody::empty()).unwrap();
                let response = service.oneshot(call).await.unwrap();
                assert!(source.peek().is_some());
                let body = response.into_body().collect().await.unwrap();
                assert_eq!(body.trailers().unwrap()["grpc-status"], status);
                assert_eq!(source.peek().is_none(), is_dropped, "{status} {chosen}");
            }
        }
    }

    #[tokio::test]
    async fn permission_denied_in_the_headers_can_refuse_the_token_and_is_resent() {
        let server = AuthorizationServer::new();
        let checked = server.clone();
        let grpc = Grpc::judging(server.clone(), move |headers| {
            let verdict = checked.check_bearer(headers);
            verdict.map_err(|_| Status::permission_denied("the token has expired"))
        })
        .await;
        let layer = grpc.layer().refused_when(|head| {
            let status = head.headers.get("grpc-status");
            status.is_some_and(|status| status == "7")
        });
        let layer = layer.resend(BufferBody::tonic(1024));
        let mut client = HealthClient::new(layer.layer(grpc.channel.clone()));
        client.check(ask("")).await.unwrap();
        server.revoke_all();
        client.check(ask("")).await.unwrap();
        assert_eq!(server.token_requests(), 2);
    }

    #[tokio::test]
    async fn trailers_are_watched_only_in_grpc_responses() {
        for (content_type, is_dropped) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/json", false),
        ] {
            let source = TokenCache::new(endpoint(&AuthorizationServer::new())).source(request());
            let service = ServiceBuilder::new()
                .layer(cache_support::api_layer(source.clone()))
                .layer(WatchTrailersLayer::new(source.clone()))
                .service(service_fn(move |_: Request<GrpcBody>| {
                    ready(Ok::<_, BoxError>(answer(content_type, "16")))
                }));
            let call = Request::post("/health").body(GrpcBody::empty()).unwrap();
            let response = service.oneshot(call).await.unwrap();
            assert!(response.extensions().get::<AccessTokenRefused>().is_none());
            assert!(source.peek().is_some());
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "16");
            assert_eq!(body.to_bytes(), MESSAGE);
            assert_eq!(source.peek().is_none(), is_dropped, "{content_type}");
        }
    }
}

mod status {
    use super::*;

    const SECRET: &str = "hush-hush";

    /// A cache with a short fetch timeout, over a client whose secret is easy to find in any text.
    fn cache(server: &AuthorizationServer) -> TokenCache {
        let client = ClientAuthentication::client_secret_post("orders", SECRET);
        let endpoint: TokenEndpoint<_> =
            TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
        let builder = TokenCache::builder(endpoint);
        builder.fetch_timeout(millis(1500)).build()
    }

    /// The status that a client gets while the authorization server answers with `failure`, and the number of calls that were sent.
    async fn of_a_call(failure: Option<Failure>, request: TokenRequest) -> (Status, usize) {
        let server = AuthorizationServer::builder()
            .client("orders", SECRET)
            .build();
        if let Some(failure) = failure {
            server.fail_until_told(failure);
        }
        let grpc = Grpc::judging(server.clone(), |_| Ok(())).await;
        let service = ServiceBuilder::new()
            .layer(layer(cache(&server).source(request), &grpc.origin))
            .service(grpc.channel.clone());
        let mut client = HealthClient::new(service);
        let status = client.check(ask("")).await.unwrap_err();
        let calls = grpc.tokens().len();
        let streaming = client.watch(ask("")).await.map(drop).unwrap_err();
        assert_eq!(streaming.code(), status.code());
        (status, calls)
    }

    #[tokio::test]
    async fn a_missing_token_is_unavailable_if_transient_and_otherwise_unauthenticated() {
        let good = TokenRequest::client_credentials;
        for (failure, request, code, kind) in [
            (
                Some(Failure::status(503)),
                good(),
                Code::Unavailable,
                TokenErrorKind::UnexpectedStatus,
            ),
            (
                Some(Failure::oauth("temporarily_unavailable")),
                good(),
                Code::Unavailable,
                TokenErrorKind::ErrorResponse,
            ),
            (
                Some(Failure::drop_connection()),
                good(),
                Code::Unavailable,
                TokenErrorKind::Service,
            ),
            (
                Some(Failure::stall()),
                good(),
                Code::Unavailable,
                TokenErrorKind::Timeout,
            ),
            (
                Some(Failure::oauth("invalid_client")),
                good(),
                Code::Unauthenticated,
                TokenErrorKind::ErrorResponse,
            ),
            (
                Some(Failure::status(404)),
                good(),
                Code::Unauthenticated,
                TokenErrorKind::UnexpectedStatus,
            ),
            (
                Some(Failure::garbage()),
                good(),
                Code::Unauthenticated,
                TokenErrorKind::InvalidResponse,
            ),
            (
                None,
                TokenRequest::refresh_token(SECRET),
                Code::Unauthenticated,
                TokenErrorKind::SignInRequired,
            ),
            (
                None,
                good().parameter("grant_type", SECRET),
                Code::Unauthenticated,
                TokenErrorKind::Request,
            ),
        ] {
            let (status, calls) = of_a_call(failure, request).await;
            let error = TokenError::find_in_chain(status.source().unwrap()).unwrap();
            assert_eq!(error.kind(), kind);
            assert_eq!(status.code(), code, "{kind:?}");
            assert_eq!(
                status.message(),
                format!("failed to fetch an access token: {error:#}")
            );
            assert_eq!(calls, 0, "no call is sent without a token");
            let texts = [
                status.message().to_owned(),
                format!("{status} {status:?} {status:#?}"),
            ];
            assert!(texts.iter().all(|text| !text.contains(SECRET)), "{texts:?}");
        }
    }

    /// A missing runtime does not mean that the credentials are wrong.
    #[test]
    fn a_missing_runtime_is_unavailable() {
        let source = cache(&AuthorizationServer::new()).source(request());
        let error = cache_support::at_once(source.token()).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
        assert_eq!(Status::from(error).code(), Code::Unavailable);
    }

    /// An error of a layer between the client and the token layer.
    #[derive(Debug)]
    struct Wrapper(BoxError);

    impl std::fmt::Display for Wrapper {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl Error for Wrapper {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[tokio::test]
    async fn layers_in_between_change_neither_the_status_nor_the_token_error() {
        for (failure, code) in [
            (Failure::oauth("invalid_client"), Code::Unauthenticated),
            (Failure::status(503), Code::Unavailable),
        ] {
            let server = AuthorizationServer::new();
            server.fail_until_told(failure);
            let grpc = Grpc::judging(server, |_| Ok(())).await;
            let api = || grpc.layer().layer(grpc.channel.clone());
            macro_rules! check {
                ($service:expr) => {
                    let status = HealthClient::new($service).check(ask("")).await;
                    let status = status.unwrap_err();
                    assert_eq!(status.code(), code, "{status}");
                    assert!(
                        status
                            .message()
                            .starts_with("failed to fetch an access token: ")
                    );
                    assert!(TokenError::find_in_chain(&status).is_some());
                };
            }
            check!(api());
            check!(ServiceBuilder::new().buffer(8).service(api()));
            check!(ServiceBuilder::new().timeout(millis(9000)).service(api()));
            check!(
                ServiceBuilder::new()
                    .concurrency_limit(1)
                    .load_shed()
                    .service(api())
            );
            check!(BoxCloneSyncService::new(api()));
            check!(ServiceBuilder::new().map_err(Wrapper).service(api()));
            check!(
                ServiceBuilder::new()
                    .map_err(Status::from_error)
                    .service(api())
            );
            check!(
                ServiceBuilder::new()
                    .buffer(8)
                    .timeout(millis(9000))
                    .map_err(Wrapper)
                    .layer(BoxCloneSyncService::layer())
                    .service(api())
            );
            assert!(grpc.tokens().is_empty());
        }
    }

    #[tokio::test]
    async fn a_request_that_must_not_be_sent_is_unauthenticated_with_the_reason() {
        let channel = Endpoint::from_static("http://api.example").connect_lazy();
        let fixed = || AddAccessTokenLayer::new(TokenSource::fixed(bearer("fixed")));
        let unnamed = fixed().layer(channel.clone());
        let insecure = fixed().origin("http://api.example").unwrap();
        let insecure = insecure.layer(channel.clone());
        let per_request = AddAccessTokenLayer::per_request(cache(&AuthorizationServer::new()));
        let per_request = per_request.origin("https://api.example").unwrap();
        let per_request = per_request.layer(channel);
        for (service, reason) in [
            (unnamed, "no origin is named"),
            (insecure, &*InsecureTransport.to_string()),
            (per_request, &*NoTokenNamed.to_string()),
        ] {
            let status = HealthClient::new(service).check(ask("")).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
            assert!(status.message().contains(reason), "{status}");
            let source = status.source().unwrap();
            assert!(
                source.is::<NoOriginNamed>()
                    || source.is::<InsecureTransport>()
                    || source.is::<NoTokenNamed>()
            );
        }
    }

    #[tokio::test]
    async fn the_error_is_a_status_whose_source_is_the_token_error() {
        let server = AuthorizationServer::new();
        server.fail_until_told(Failure::oauth("invalid_client"));
        let grpc = Grpc::judging(server, |_| Ok(())).await;
        let call = Request::post("/grpc.health.v1.Health/Check")
            .header(CONTENT_TYPE, "application/grpc")
            .body(GrpcBody::empty())
            .unwrap();
        let service = grpc.layer().layer(grpc.channel.clone());
        let error = service.oneshot(call).await.unwrap_err();
        let status = error.downcast::<Status>().unwrap();
        assert!(status.source().unwrap().is::<TokenError>());
    }

    #[tokio::test]
    async fn a_request_that_is_not_grpc_has_the_error_itself() {
        let server = AuthorizationServer::new();
        server.fail_until_told(Failure::oauth("invalid_client"));
        let grpc = Grpc::judging(server, |_| Ok(())).await;
        let service = grpc.layer().layer(grpc.channel.clone());
        for content_type in [None, Some("application/json")] {
            let mut call = Request::post("/orders").body(GrpcBody::empty()).unwrap();
            if let Some(content_type) = content_type {
                let value = HeaderValue::from_static(content_type);
                call.headers_mut().insert(CONTENT_TYPE, value);
            }
            let error = service.clone().oneshot(call).await.unwrap_err();
            assert!(error.is::<TokenError>(), "{error:?}");
        }
    }

    #[tokio::test]
    async fn every_error_of_the_inner_service_gets_the_status_that_tonic_gives_it() {
        let errors: [fn() -> BoxError; 5] = [
            || Status::already_exists("there is one").into(),
            || InsecureTransport.into(),
            || io::Error::from(io::ErrorKind::ConnectionReset).into(),
            || tower::timeout::error::Elapsed::new().into(),
            || tower::load_shed::error::Overloaded::new().into(),
        ];
        let mut codes = Vec::new();
        for error in errors {
            let service =
                layer(TokenSource::fixed(bearer("fixed")), "http://127.0.0.1:1").layer(service_fn(
                    move |_: Request<GrpcBody>| ready(Err::<Response<GrpcBody>, _>(error())),
                ));
            let ours = HealthClient::new(service).check(ask("")).await.unwrap_err();
            let tonics = Status::from_error(error());
            assert_eq!(ours.code(), tonics.code(), "{ours}");
            assert_eq!(ours.message(), tonics.message());
            codes.push(ours.code());
        }
        assert_eq!(codes[0], Code::AlreadyExists);
    }

    #[tokio::test]
    async fn an_unreachable_server_gets_the_status_that_tonic_gives_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (origin, channel) = connect(&listener);
        drop(listener);
        let bare = HealthClient::new(channel.clone());
        let expected = { bare }.check(ask("")).await.unwrap_err();
        let service = ServiceBuilder::new()
            .layer(layer(TokenSource::fixed(bearer("fixed")), &origin))
            .service(channel);
        let status = HealthClient::new(service).check(ask("")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.code(), expected.code());
    }

    #[tokio::test]
    async fn the_status_of_the_server_is_kept() {
        let refuse = |_: &HeaderMap| Err(Status::failed_precondition("not now"));
        let grpc = Grpc::judging(AuthorizationServer::new(), refuse).await;
        let service = ServiceBuilder::new()
            .layer(grpc.layer())
            .service(grpc.channel.clone());
        let status = HealthClient::new(service).check(ask("")).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "not now");
    }
}

/// `Request::set_timeout` limits the wait for a token as well. Nothing is sent after the deadline.
mod deadlines {
    use std::time::Duration;

    use http::header::CONTENT_LENGTH;
    use tower_oauth2_client::{AccessToken, TokenType, add_access_token::CloneBody};

    use super::{
        cache_support::{at_once, now, secs, settle},
        *,
    };

    const GRPC_TIMEOUT: &str = "grpc-timeout";

    fn with_timeout(timeout: Duration) -> tonic::Request<HealthCheckRequest> {
        let mut request = tonic::Request::new(ask(""));
        request.set_timeout(timeout);
        request
    }

    /// The timeout in the headers of a call. This crate and tonic print those of these tests in microseconds.
    #[track_caller]
    fn timeout_of(headers: &HeaderMap) -> Duration {
        let timeout = headers[GRPC_TIMEOUT].to_str().unwrap();
        let micros = timeout
            .strip_suffix('u')
            .unwrap_or_else(|| panic!("{timeout}"));
        Duration::from_micros(micros.parse().unwrap())
    }

    #[tokio::test]
    async fn a_call_of_tonic_waits_for_a_token_until_its_deadline_and_is_not_sent_later() {
        let grpc = Grpc::checking().await;
        grpc.server.fail_next_n(9, Failure::delay(secs(3)));
        let begun = now();
        let mut clients = [grpc.client(), grpc.client()];
        let [unary, streaming] = &mut clients;
        let (unary, streaming) = tokio::join!(
            unary.check(with_timeout(millis(200))),
            streaming.watch(with_timeout(millis(200))),
        );
        assert!(now() - begun < secs(2));
        for status in [unary.unwrap_err(), streaming.map(drop).unwrap_err()] {
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
            assert!(status.message().contains("was not sent"), "{status}");
        }
        // The fetch goes on, and its token is for later calls.
        let mut client = grpc.client();
        client.check(ask("")).await.unwrap();
        assert_eq!(grpc.server.token_requests(), 1);
        assert_eq!(grpc.tokens().len(), 1);
    }

    #[tokio::test]
    async fn a_call_of_tonic_that_waited_is_sent_with_the_time_that_remains() {
        let grpc = Grpc::checking().await;
        grpc.server.fail_next(Failure::delay(millis(500)));
        let mut client = grpc.client();
        client.check(with_timeout(secs(60))).await.unwrap();
        client.check(with_timeout(secs(60))).await.unwrap();
        let sent = grpc.sent.lock().unwrap();
        let waited = timeout_of(&sent[0]);
        assert!((secs(1)..millis(59_500)).contains(&waited), "{waited:?}");
        assert_eq!(timeout_of(&sent[1]), secs(60), "it did not wait");
    }

    type Body = Full<Bytes>;

    fn call(timeout: &'static str) -> Request<Body> {
        Request::post("http://127.0.0.1:1/health")
            .header(CONTENT_TYPE, "application/grpc")
            .header(CONTENT_LENGTH, "0")
            .header(GRPC_TIMEOUT, timeout)
            .body(Body::default())
            .unwrap()
    }

    #[track_caller]
    fn assert_deadline_exceeded(error: &BoxError) {
        let status = error.downcast_ref::<Status>().unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    /// A cache over a server that answers after this time.
    fn slow(delay: Duration) -> (AuthorizationServer, TokenSource) {
        let server = AuthorizationServer::new();
        server.fail_next_n(9, Failure::delay(delay));
        let source = TokenCache::new(endpoint(&server)).source(request());
        (server, source)
    }

    fn local(source: TokenSource) -> AddAccessTokenLayer {
        layer(source, "http://127.0.0.1:1")
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_at_the_deadline_to_the_millisecond() {
        let (_, source) = slow(secs(8));
        let api = local(source).layer(service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::new(Body::default()))
        }));
        let begun = now();
        let error = api.clone().oneshot(call("1S")).await.unwrap_err();
        assert_deadline_exceeded(&error);
        assert_eq!(now() - begun, secs(1));
        // Without a deadline in gRPC's sense, the call waits.
        let mut request = call("1S");
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        api.oneshot(request).await.unwrap();
        assert_eq!(now() - begun, secs(8));
    }

    /// The future is polled late, when the token has come as well.
    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_polled_after_its_deadline_is_not_sent_although_there_is_a_token() {
        let (_, source) = slow(secs(1));
        let api = local(source.clone()).layer(service_fn(|_: Request<Body>| async {
            panic!("it is sent after the deadline");
            #[allow(unreachable_code)]
            Ok::<_, Infallible>(Response::new(Body::default()))
        }));
        let mut late = tokio_test::task::spawn(api.oneshot(call("2S")));
        tokio_test::assert_pending!(late.poll());
        tokio::time::sleep(secs(3)).await;
        assert!(source.peek().is_some());
        assert_deadline_exceeded(&at_once(late).unwrap_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_inner_service_ends_at_the_deadline_too() {
        let (_, source) = slow(secs(1));
        let calls = Arc::new(Mutex::new(0));
        let counted = calls.clone();
        let busy = service_fn(move |_: Request<Body>| {
            *counted.lock().unwrap() += 1;
            async {
                tokio::time::sleep(secs(100)).await;
                Ok::<_, BoxError>(Response::new(Body::default()))
            }
        });
        let api = ServiceBuilder::new()
            .layer(local(source))
            .concurrency_limit(1)
            .service(busy);
        let begun = now();
        let first = tokio::spawn(api.clone().oneshot(call("200S")));
        settle().await;
        let error = api.oneshot(call("5S")).await.unwrap_err();
        assert_deadline_exceeded(&error);
        assert_eq!(now() - begun, secs(5));
        first.await.unwrap().unwrap();
        assert_eq!(*calls.lock().unwrap(), 1);
    }

    /// Each call is answered after a second. The first one refuses the token.
    #[tokio::test(start_paused = true)]
    async fn a_resent_call_keeps_the_deadline_of_the_first_one() {
        for (fetch, expected) in [
            // sent after 2 s, resent after 2 + 1 + 2 s
            (secs(2), vec![secs(6), secs(3)]),
            // At the deadline, the caller gets the refusal.
            (secs(4), vec![secs(4)]),
        ] {
            let (server, source) = slow(fetch);
            let sent = Arc::<Mutex<Vec<Duration>>>::default();
            let noted = sent.clone();
            let api =
                local(source)
                    .resend(CloneBody)
                    .layer(service_fn(move |request: Request<Body>| {
                        let mut sent = noted.lock().unwrap();
                        sent.push(timeout_of(request.headers()));
                        let status = if sent.len() == 1 { "16" } else { "0" };
                        async move {
                            tokio::time::sleep(secs(1)).await;
                            Ok::<_, Infallible>(
                                Response::builder()
                                    .header(CONTENT_TYPE, "application/grpc")
                                    .header("grpc-status", status)
                                    .body(Body::default())
                                    .unwrap(),
                            )
                        }
                    }));
            let begun = now();
            let response = api.oneshot(call("8S")).await.unwrap();
            let is_refused = response.headers()["grpc-status"] == "16";
            assert_eq!(is_refused, expected.len() == 1);
            assert_eq!(*sent.lock().unwrap(), expected);
            let elapsed = now() - begun;
            assert_eq!(elapsed, if is_refused { secs(8) } else { secs(6) });
            assert_eq!(server.token_requests(), 2);
        }
    }

    /// The same holds for a resend of a call whose token was there at once.
    #[tokio::test(start_paused = true)]
    async fn the_time_before_a_refusal_counts() {
        let (_, source) = slow(Duration::ZERO);
        source.warm_up().await.unwrap();
        let sent = Arc::<Mutex<Vec<HeaderValue>>>::default();
        let noted = sent.clone();
        let api =
            local(source)
                .resend(CloneBody)
                .layer(service_fn(move |request: Request<Body>| {
                    let timeout = request.headers()[GRPC_TIMEOUT].clone();
                    noted.lock().unwrap().push(timeout);
                    async move {
                        tokio::time::sleep(secs(3)).await;
                        Ok::<_, Infallible>(
                            Response::builder()
                                .status(401)
                                .body(Body::default())
                                .unwrap(),
                        )
                    }
                }));
        api.oneshot(call("10S")).await.unwrap();
        assert_eq!(*sent.lock().unwrap(), ["10S", "7000000u"]);
    }

    #[cfg(feature = "dpop")]
    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_proof_ends_at_the_deadline() {
        use tower_oauth2_client::{
            DpopKey,
            jwt::{PublicKey, SignFuture, Signer, SigningAlgorithm, SigningKey},
        };

        /// A key whose signatures take ten seconds.
        struct Slow(SigningKey);

        impl Signer for Slow {
            fn algorithm(&self) -> SigningAlgorithm {
                self.0.algorithm()
            }

            fn public_key(&self) -> Option<&PublicKey> {
                self.0.public_key()
            }

            fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
                Box::pin(async move {
                    tokio::time::sleep(secs(10)).await;
                    self.0.sign(message).await
                })
            }
        }

        let server = AuthorizationServer::new();
        let key = Slow(SigningKey::generate(SigningAlgorithm::ES256).unwrap());
        let endpoint = endpoint(&server).dpop(DpopKey::new(key).unwrap());
        let source = TokenCache::new(endpoint).source(request());
        source.warm_up().await.unwrap();
        let api = local(source).layer(service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::new(Body::default()))
        }));
        let begun = now();
        assert_deadline_exceeded(&api.clone().oneshot(call("1S")).await.unwrap_err());
        assert_eq!(now() - begun, secs(1));
        api.oneshot(call("20S")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_malformed_timeout_is_no_deadline() {
        let (_, source) = slow(secs(8));
        let api = local(source).layer(service_fn(|request: Request<Body>| async move {
            assert_eq!(request.headers()[GRPC_TIMEOUT], "soon");
            Ok::<_, Infallible>(Response::new(Body::default()))
        }));
        api.oneshot(call("soon")).await.unwrap();
    }

    #[tokio::test]
    async fn a_token_that_is_there_is_sent_with_the_timeout_as_it_is() {
        let token = AccessToken::new("t", TokenType::BEARER).unwrap();
        let api = local(TokenSource::fixed(token)).layer(service_fn(
            |request: Request<Body>| async move {
                assert_eq!(request.headers()[GRPC_TIMEOUT], "3H");
                Ok::<_, Infallible>(Response::new(Body::default()))
            },
        ));
        api.oneshot(call("3H")).await.unwrap();
    }
}
