//! What the server said last is reached in one call through every layer, client and box that wraps an error.
#![cfg(all(feature = "reqwest-middleware", feature = "retry", feature = "tonic"))]

mod support;

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::RETRY_AFTER};
use http_body_util::Full;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    retry::{Policy, RetryLayer},
    service_fn,
    util::BoxCloneSyncService,
};
use tower_oauth2_client::{
    AddAccessTokenLayer, ClientAuthentication, TokenCache, TokenEndpoint, TokenError,
    TokenErrorKind, TokenRequest, TokenResponse, TokenSource, test_util::ManualClock,
    token_endpoint::RetryTransient,
};

use self::support::{Answer, Recorder, answer};

const BODY: &str = r#"{"error":"invalid_scope","trace_id":"4711"}"#;

/// A server that refuses every request, with a header and a member of its own.
fn refusing() -> Recorder {
    Recorder::new(|_| {
        let mut refused = answer(400, BODY)?;
        let headers: &mut HeaderMap = refused.headers_mut();
        headers.insert("x-request-id", HeaderValue::from_static("7"));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
        Ok(refused)
    })
}

fn endpoint() -> TokenEndpoint<Recorder> {
    refusing().endpoint(ClientAuthentication::none("billing"))
}

fn request() -> TokenRequest {
    TokenRequest::client_credentials().label("blue")
}

fn source() -> TokenSource {
    TokenCache::new(endpoint()).source(request())
}

#[track_caller]
fn check(name: &str, error: &(dyn Error + 'static)) {
    let found = TokenError::find_in_chain(error);
    let found = found.unwrap_or_else(|| panic!("{name}: {error:?}"));
    assert_eq!(found.kind(), TokenErrorKind::ErrorResponse, "{name}");
    assert_eq!(found.status().unwrap(), 400, "{name}");
    assert_eq!(found.raw().unwrap(), BODY, "{name}");
    assert_eq!(found.json().unwrap()["trace_id"], "4711", "{name}");
    assert_eq!(found.get("trace_id").unwrap(), "4711", "{name}");
    assert_eq!(found.headers().unwrap()["x-request-id"], "7", "{name}");
    assert_eq!(found.retry_after(), Some(Duration::from_secs(30)), "{name}");
    assert_eq!(found.label(), Some("blue"), "{name}");
    assert_eq!(found.client_id(), Some("billing"), "{name}");
    assert_eq!(found.host(), Some("as.example"), "{name}");
}

/// A policy that never retries.
#[derive(Clone)]
struct Never;

impl<Req: Clone, Res, E> Policy<Req, Res, E> for Never {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Req, _: &mut Result<Res, E>) -> Option<Self::Future> {
        None
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

/// Calls the macro with a name and a `ServiceBuilder`, for each way to wrap a service.
macro_rules! for_each_wrapping {
    ($check:ident) => {
        let second = Duration::from_secs(1);
        $check!("nothing", ServiceBuilder::new());
        $check!("Timeout", ServiceBuilder::new().timeout(second));
        $check!("Buffer", ServiceBuilder::new().buffer(8));
        $check!("LoadShed", ServiceBuilder::new().load_shed());
        $check!("Retry", ServiceBuilder::new().layer(RetryLayer::new(Never)));
        $check!(
            "ConcurrencyLimit",
            ServiceBuilder::new().concurrency_limit(1)
        );
        $check!(
            "RateLimit",
            ServiceBuilder::new().buffer(8).rate_limit(100, second)
        );
        $check!(
            "BoxCloneSync",
            ServiceBuilder::new().layer_fn(BoxCloneSyncService::new)
        );
        $check!("map_err", ServiceBuilder::new().map_err(Wrapper::new));
        $check!(
            "io::Error",
            ServiceBuilder::new().map_err(|error| io::Error::other(error))
        );
        $check!(
            "all",
            ServiceBuilder::new()
                .buffer(8)
                .load_shed()
                .timeout(second)
                .map_err(Wrapper::new)
                .buffer(8)
                .concurrency_limit(1)
                .layer(RetryLayer::new(Never))
                .timeout(second)
        );
    };
}

#[derive(Debug)]
struct Wrapper(BoxError);

impl Wrapper {
    fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl Error for Wrapper {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[tokio::test]
async fn through_the_layers_between_a_cache_and_its_endpoint() {
    macro_rules! check_cache {
        ($name:expr, $wrapping:expr) => {
            let cache = TokenCache::new($wrapping.service(endpoint()));
            let source = cache.source(request());
            check($name, &source.token().await.unwrap_err());
            // During the pause that follows.
            check($name, &source.token().await.unwrap_err());
            check($name, cache.status()[0].last_error().unwrap());
            check($name, cache.health().last_error().unwrap());
            let boxed: BoxError = source.warm_up().await.unwrap_err().into();
            check($name, &*boxed);
        };
    }
    for_each_wrapping!(check_cache);
}

#[tokio::test]
async fn through_the_layers_around_the_service_that_adds_the_token() {
    let api = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    macro_rules! check_layer {
        ($name:expr, $wrapping:expr) => {
            let layer = AddAccessTokenLayer::new(source());
            let layer = layer.origin("https://api.example").unwrap();
            let call = || {
                Request::get("https://api.example/")
                    .body(Full::default())
                    .unwrap()
            };
            let over = $wrapping.service(layer.layer(api));
            let error: BoxError = over.oneshot(call()).await.unwrap_err().into();
            check($name, &*error);
            let under = layer.layer($wrapping.service(api));
            let error: BoxError = under.oneshot(call()).await.unwrap_err().into();
            check($name, &*error);
        };
    }
    for_each_wrapping!(check_layer);
}

#[tokio::test(start_paused = true)]
async fn through_a_retry_that_gives_up() {
    let clock = ManualClock::new();
    let refusing = Recorder::new(|number| match number {
        0 => answer(503, ""),
        _ => refusing_now(),
    });
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryTransient::new()))
        .service(refusing.endpoint(ClientAuthentication::none("billing")));
    let cache = TokenCache::builder(stack).clock(clock.clock()).build();
    let error = cache.source(request()).token().await.unwrap_err();
    check("RetryTransient", &error);
}

fn refusing_now() -> Answer {
    let mut refused = answer(400, BODY)?;
    refused
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_static("7"));
    refused
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("30"));
    Ok(refused)
}

#[tokio::test]
async fn through_boxes_and_shared_errors() {
    let error = source().token().await.unwrap_err();
    let shared: Arc<dyn Error + Send + Sync> = Arc::new(error.clone());
    let wrapped: [(&str, BoxError); 8] = [
        ("itself", error.clone().into()),
        ("Arc<TokenError>", Arc::new(error.clone()).into()),
        ("Box<TokenError>", Box::new(Box::new(error.clone()))),
        ("Arc<dyn Error>", shared.clone().into()),
        (
            "within an io::Error",
            io::Error::other(shared.clone()).into(),
        ),
        (
            "io::Error twice",
            io::Error::other(io::Error::other(error.clone())).into(),
        ),
        (
            "io::Error of an Arc",
            io::Error::other(Arc::new(error.clone())).into(),
        ),
        ("a wrapped Arc", Wrapper::new(shared).into()),
    ];
    for (name, wrapped) in &wrapped {
        check(name, &**wrapped);
    }
}

#[tokio::test]
async fn through_reqwest_middleware() {
    use reqwest_middleware::{ClientBuilder, Error, Middleware, Next};

    let client = || support::reqwest_client();
    let layer = AddAccessTokenLayer::new(source());
    let layer = layer.origin("https://api.example").unwrap();
    let api = ClientBuilder::new(client()).with(layer).build();
    let error = api.get("https://api.example/").send().await.unwrap_err();
    check("the layer", &error);
    let boxed: BoxError = error.into();
    check("boxed", &*boxed);

    /// A middleware that gets a token itself. The error hides what it wraps.
    struct Own(TokenSource);

    impl Middleware for Own {
        fn handle<'a, 'b, 'c, 'future>(
            &'a self,
            _: reqwest::Request,
            _: &'b mut http::Extensions,
            _: Next<'c>,
        ) -> std::pin::Pin<
            Box<
                dyn Future<Output = reqwest_middleware::Result<reqwest::Response>> + Send + 'future,
            >,
        >
        where
            'a: 'future,
            'b: 'future,
            'c: 'future,
        {
            Box::pin(async move {
                let error = self.0.token().await.unwrap_err();
                Err(Error::middleware(error))
            })
        }
    }

    let api = ClientBuilder::new(client()).with(Own(source())).build();
    let error = api.get("https://api.example/").send().await.unwrap_err();
    check("a middleware of the user", &error);
    check("wrapped", &Wrapper::new(error));
}

#[tokio::test]
async fn through_a_grpc_status() {
    let error = source().token().await.unwrap_err();
    let status = tonic::Status::from(error.clone());
    check("converted", &status);
    check("a copy", &status.clone());
    check("wrapped", &Wrapper::new(status));
    check(
        "from an error",
        &tonic::Status::from_error(error.clone().into()),
    );
    check(
        "of a wrapper",
        &tonic::Status::from_error(Wrapper::new(error).into()),
    );

    let layer = AddAccessTokenLayer::new(source());
    let layer = layer.origin("https://api.example").unwrap();
    let api = service_fn(|_: Request<tonic::body::Body>| async {
        Ok::<_, BoxError>(Response::new(tonic::body::Body::empty()))
    });
    let call = Request::post("https://api.example/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::empty())
        .unwrap();
    let error = layer.layer(api).oneshot(call).await.unwrap_err();
    check("the layer", &*error);
    check("the client", &tonic::Status::from_error(error));
}

/// A layer that answers in place of the endpoint can be found out, too.
#[tokio::test]
async fn an_error_of_a_layer_is_no_answer_of_the_server() {
    let mut stack = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(1)
        .service(service_fn(|_: TokenRequest| {
            std::future::pending::<Result<TokenResponse, BoxError>>()
        }));
    let _busy = stack.ready().await.unwrap().call(request());
    let error = TokenCache::new(stack)
        .source(request())
        .token()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert!(error.raw().is_none() && error.headers().is_none());
    assert_eq!(error.label(), Some("blue"));
}
