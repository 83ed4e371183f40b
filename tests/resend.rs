//! What a resent request contains, and what a request costs that may be resent.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, Version,
    header::{AUTHORIZATION, COOKIE},
    request::Parts,
};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_oauth2_client::{BoxError, add_access_token::CloneBody, add_access_token::NoResend};

use self::cache_support::{API, Api, Body, Fixture, api_layer, bearer, call, refusal};

#[derive(Clone, Debug, PartialEq)]
struct Traced(u64);

/// A request with `count` headers. Some are sensitive, some have a name of their own, and some occur several times.
fn with_headers(count: usize) -> Request<Body> {
    let mut request = Request::new(Body::from("the body"));
    *request.method_mut() = Method::from_bytes(b"PURGE").unwrap();
    *request.uri_mut() = format!("{API}?n={count}").parse().unwrap();
    *request.version_mut() = Version::HTTP_2;
    request.extensions_mut().insert(Traced(7));
    for n in 0..count {
        let name = match n % 4 {
            0 => HeaderName::try_from(format!("x-{n}")).unwrap(),
            1 => COOKIE,
            2 => HeaderName::from_static("x-repeated"),
            _ => HeaderName::try_from(format!("a-{n}")).unwrap(),
        };
        let mut value = HeaderValue::try_from(format!("value {n} \u{e9}")).unwrap();
        value.set_sensitive(n % 3 == 0);
        request.headers_mut().append(name, value);
    }
    request
}

type Content = (Method, String, Version, Vec<(String, Vec<u8>, bool)>);

/// Everything in the head of a request except its token and its extensions. The headers are in their order.
fn content(head: &Parts) -> Content {
    let headers = head.headers.iter();
    let headers = headers.filter(|(name, _)| *name != AUTHORIZATION);
    let headers = headers.map(|(name, value)| {
        let bytes = value.as_bytes().to_vec();
        (name.to_string(), bytes, value.is_sensitive())
    });
    let (method, uri) = (head.method.clone(), head.uri.to_string());
    (method, uri, head.version, headers.collect())
}

#[tokio::test(start_paused = true)]
async fn a_resent_request_is_the_first_one_except_for_its_token() {
    for count in (0..20).chain([100]) {
        let fixture = Fixture::new();
        let seen = Arc::new(Mutex::new(Vec::<(Parts, Bytes)>::new()));
        let api = service_fn({
            let seen = seen.clone();
            move |request: Request<Body>| {
                let seen = seen.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let mut seen = seen.lock().unwrap();
                    seen.push((head, body));
                    Ok::<_, BoxError>(match seen.len() {
                        1 => refusal(),
                        _ => Response::new(Body::default()),
                    })
                }
            }
        });
        let service = api_layer(fixture.source()).resend(CloneBody).layer(api);
        let request = with_headers(count);
        let (expected, _) = request.clone().into_parts();
        service.oneshot(request).await.unwrap();

        let seen = seen.lock().unwrap();
        let [(first, first_body), (second, second_body)] = &seen[..] else {
            panic!("two requests");
        };
        assert_eq!(content(first), content(&expected));
        assert_eq!(content(second), content(&expected));
        assert_eq!(
            (&**first_body, &**second_body),
            (&b"the body"[..], &b"the body"[..])
        );
        assert_eq!(second.extensions.get(), Some(&Traced(7)));
        assert_ne!(first.headers[AUTHORIZATION], second.headers[AUTHORIZATION]);
        assert_eq!(second.headers.get_all(AUTHORIZATION).iter().count(), 1);
    }
}

/// Counts how often it is cloned.
struct CountedClones<S> {
    inner: S,
    clones: Arc<AtomicUsize>,
}

impl<S: Clone> Clone for CountedClones<S> {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::SeqCst);
        Self {
            inner: self.inner.clone(),
            clones: self.clones.clone(),
        }
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for CountedClones<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.inner.call(request)
    }
}

/// A clone of an HTTP client can cost more than everything else in this layer. That of a boxed service allocates.
#[tokio::test(start_paused = true)]
async fn the_inner_service_is_cloned_once_and_then_for_each_resend() {
    let fixture = Fixture::new();
    fixture.source().warm_up().await.unwrap();
    let api = Api::checking(&fixture.server);
    let clones = Arc::new(AtomicUsize::new(0));
    let counted = CountedClones {
        inner: api.clone(),
        clones: clones.clone(),
    };
    let mut service = api_layer(fixture.source()).resend(CloneBody).layer(counted);
    let mut calls = async |count| {
        for _ in 0..count {
            service.ready().await.unwrap().call(call()).await.unwrap();
        }
        clones.swap(0, Ordering::SeqCst)
    };
    assert_eq!(calls(10).await, 1);
    assert_eq!(calls(10).await, 0);
    fixture.server.revoke_all();
    assert_eq!(calls(10).await, 1);
    assert_eq!(api.requests(), 31);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_resent_through_the_inner_service_of_its_own_call() {
    let fixture = Fixture::new();
    let (old, new) = (
        Api::checking(&fixture.server),
        Api::checking(&fixture.server),
    );
    let mut service = api_layer(fixture.source())
        .resend(CloneBody)
        .layer(old.clone());
    let earlier = service.clone();
    service.ready().await.unwrap().call(call()).await.unwrap();
    *service.get_mut() = new.clone();
    fixture.server.revoke_all();
    service.ready().await.unwrap().call(call()).await.unwrap();
    assert_eq!((old.requests(), new.requests()), (1, 2));

    // The clone that was made before keeps its own.
    fixture.server.revoke_all();
    earlier.oneshot(call()).await.unwrap();
    assert_eq!((old.requests(), new.requests()), (3, 2));
}

/// A future that cannot resend is little larger than that of the inner service.
#[tokio::test(start_paused = true)]
async fn futures_are_small() {
    fn size<S: Service<Request<Body>>>(mut service: S) -> usize {
        size_of_val(&service.call(call()))
    }
    let layer = api_layer(tower_oauth2_client::TokenSource::fixed(bearer("fixed")));
    let inner = size(Api::content());
    for (added, limit) in [
        (
            size(layer.clone().resend(NoResend).layer(Api::content())) - inner,
            64,
        ),
        (
            size(layer.resend(CloneBody).layer(Api::content())) - inner,
            320,
        ),
    ] {
        println!("{added} bytes");
        assert!(added <= limit, "{added} bytes");
    }
}
