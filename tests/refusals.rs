//! Responses that refuse the token in a way of their own: what the user says, and what a service below marks.
#![cfg(feature = "test-util")]

mod cache_support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, TokenCache, TokenRequest,
    add_access_token::{AccessTokenRefused, CloneBody},
};

use self::cache_support::{Api, Body, Endpoint, api_layer, call};

const INVALID_TOKEN: (&str, &str) = ("www-authenticate", "Bearer error=\"invalid_token\"");

/// An API that accepts any token but the first.
fn refusing_first(refusal: impl Fn() -> Response<Body> + Send + Sync + 'static) -> Api {
    Api::new(move |seen| match seen.authorization() {
        Some(value) if value == "Bearer token-1" => refusal(),
        Some(_) => Response::new(Full::from("hello")),
        None => panic!("a request without a token"),
    })
}

fn answer(
    status: u16,
    headers: &[(&'static str, &'static str)],
    body: &'static str,
) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::from(body)).unwrap()
}

/// Configures a layer over a source of numbered tokens.
fn layer(
    configure: impl FnOnce(AddAccessTokenLayer) -> AddAccessTokenLayer,
) -> (AddAccessTokenLayer, Endpoint) {
    let endpoint = Endpoint::counting();
    let source = TokenCache::new(endpoint.clone()).source(TokenRequest::client_credentials());
    (configure(api_layer(source)), endpoint)
}

async fn status(
    service: impl Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
) -> u16 {
    service.oneshot(call()).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn the_user_says_which_responses_refuse_the_token() {
    for refusing in [403, 404, 419, 498] {
        for resends in [false, true] {
            let (layer, endpoint) =
                layer(|layer| layer.refused_when(move |head| head.status.as_u16() == refusing));
            let api = refusing_first(move || answer(refusing, &[], "{\"error\":\"expired\"}"));
            if resends {
                let service = layer.resend(CloneBody).layer(api.clone());
                assert_eq!(status(service.clone()).await, 200);
                assert_eq!(status(service).await, 200);
                assert_eq!(api.requests(), 3);
            } else {
                let service = layer.layer(api.clone());
                let response = service.clone().oneshot(call()).await.unwrap();
                assert!(response.extensions().get::<AccessTokenRefused>().is_some());
                assert_eq!(
                    response.into_body().collect().await.unwrap().to_bytes(),
                    "{\"error\":\"expired\"}"
                );
                assert_eq!(status(service).await, 200);
                assert_eq!(api.requests(), 2);
            }
            assert_eq!(endpoint.calls(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn other_responses_are_judged_as_before() {
    for (refusing, headers, expected) in [
        (401, &[][..], 2),
        (
            400,
            &[("www-authenticate", "Bearer error=\"invalid_token\"")],
            2,
        ),
        (404, &[], 1),
        (500, &[], 1),
    ] {
        let (layer, endpoint) =
            layer(|layer| layer.refused_when(|head| head.status == StatusCode::FORBIDDEN));
        let api = refusing_first(move || answer(refusing, headers, ""));
        let service = layer.layer(api);
        assert_eq!(status(service.clone()).await, refusing);
        status(service).await;
        assert_eq!(endpoint.calls(), expected, "{refusing} {headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_is_complete_and_is_shown_once() {
    let shown = Arc::new(AtomicUsize::new(0));
    let counted = shown.clone();
    let (layer, endpoint) = layer(|layer| {
        layer.refused_when(move |head| {
            counted.fetch_add(1, Ordering::SeqCst);
            head.headers["x-error"] == "expired" && head.extensions.get::<u8>() == Some(&7)
        })
    });
    let api = Api::new(|_| {
        let mut response = answer(200, &[("x-error", "expired")], "hello");
        response.extensions_mut().insert(7_u8);
        response
    });
    let response = layer.layer(api).oneshot(call()).await.unwrap();
    assert_eq!(response.headers()["x-error"], "expired");
    assert_eq!(response.extensions().get::<u8>(), Some(&7));
    assert_eq!(shown.load(Ordering::SeqCst), 1);
    assert!(response.extensions().get::<AccessTokenRefused>().is_some());
    assert_eq!(endpoint.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn several_functions_all_count() {
    let on = |status| move |head: &http::response::Parts| head.status == status;
    let (layer, endpoint) = layer(|layer| {
        let layer = layer.refused_when(on(StatusCode::FORBIDDEN));
        layer.refused_when(on(StatusCode::NOT_FOUND))
    });
    let number = AtomicUsize::new(0);
    let api = Api::new(move |_| {
        let statuses = [403, 404];
        answer(statuses[number.fetch_add(1, Ordering::SeqCst) % 2], &[], "")
    });
    let service = layer.layer(api);
    for _ in 0..2 {
        let response = service.clone().oneshot(call()).await.unwrap();
        assert!(response.extensions().get::<AccessTokenRefused>().is_some());
    }
    assert_eq!(endpoint.calls(), 2);
}

/// The 401 of some APIs is about a second credential in the request.
#[tokio::test(start_paused = true)]
async fn the_rules_can_be_replaced() {
    for (status, headers, expected) in [
        (401, &[][..], false),
        (401, &[INVALID_TOKEN], false),
        (403, &[INVALID_TOKEN], false),
        (
            200,
            &[("content-type", "application/grpc"), ("grpc-status", "16")],
            false,
        ),
        (401, &[("x-token-expired", "1")], true),
    ] {
        let (layer, endpoint) = layer(|layer| {
            let layer = layer.refused_when(|_| panic!("it was replaced"));
            layer.refused_only_when(|head| head.headers.contains_key("x-token-expired"))
        });
        let api = Api::new(move |_| answer(status, headers, ""));
        let service = layer.resend(CloneBody).layer(api);
        let response = service.clone().oneshot(call()).await.unwrap();
        let is_refused = response.extensions().get::<AccessTokenRefused>().is_some();
        assert_eq!(is_refused, expected, "{status} {headers:?}");
        assert_eq!(endpoint.calls(), if expected { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn responses_to_requests_without_our_token_are_not_judged() {
    let (layer, endpoint) = layer(|layer| layer.refused_when(|_| panic!("it is not our token")));
    let service = layer.layer(Api::new(|_| answer(403, &[], "")));
    let mut own = call();
    own.headers_mut()
        .insert("authorization", "Bearer mine".parse().unwrap());
    service.clone().oneshot(own).await.unwrap();
    let elsewhere = cache_support::call_to("https://elsewhere.test/");
    service.oneshot(elsewhere).await.unwrap();
    assert_eq!(endpoint.calls(), 0);
}

/// A GraphQL API, and the service of a user that reads its errors.
fn graphql<S>(
    inner: S,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send> + Clone
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + 'static,
{
    ServiceBuilder::new()
        .and_then(async |response: Response<Body>| {
            let (mut head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            if body.starts_with(b"{\"errors\":[{\"code\":\"UNAUTHENTICATED\"}]") {
                head.extensions.insert(AccessTokenRefused);
            }
            Ok::<_, BoxError>(Response::from_parts(head, Full::from(body)))
        })
        .service(inner)
}

const UNAUTHENTICATED: &str = r#"{"errors":[{"code":"UNAUTHENTICATED"}],"data":{"first":1}}"#;

#[tokio::test(start_paused = true)]
async fn an_error_inside_a_200_invalidates_the_token_if_it_is_marked() {
    let (layer, endpoint) = layer(|layer| layer);
    let api = refusing_first(|| answer(200, &[], UNAUTHENTICATED));
    let service = layer.resend(CloneBody).layer(graphql(api.clone()));
    let response = service.clone().oneshot(call()).await.unwrap();
    assert!(response.extensions().get::<AccessTokenRefused>().is_some());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, UNAUTHENTICATED);
    assert_eq!(api.requests(), 1, "mutations are not carried out twice");
    assert_eq!(status(service).await, 200);
    assert_eq!(api.last().authorization().unwrap(), "Bearer token-2");
    assert_eq!(endpoint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn resending_what_may_have_been_processed_needs_its_own_consent() {
    for refusing in [200, 302, 500] {
        for consents in [false, true] {
            let (layer, endpoint) = layer(|layer| match consents {
                true => layer.resend_even_if_processed(),
                false => layer,
            });
            let by_function = layer
                .clone()
                .refused_when(move |head| head.headers.contains_key("x-refused"));
            let refusal = move || answer(refusing, &[("x-refused", "1")], UNAUTHENTICATED);
            let api = refusing_first(refusal);
            let service = by_function.resend(CloneBody).layer(api.clone());
            let expected = if consents { 200 } else { refusing };
            assert_eq!(status(service).await, expected);
            assert_eq!(api.requests(), if consents { 2 } else { 1 });

            let api = refusing_first(refusal);
            let service = layer.resend(CloneBody).layer(graphql(api.clone()));
            status(service).await;
            assert_eq!(endpoint.calls(), 2);
        }
    }
}

/// A marked 4xx says itself that nothing was carried out.
#[tokio::test(start_paused = true)]
async fn a_marked_error_of_the_client_is_resent() {
    let (layer, endpoint) = layer(|layer| layer);
    let api = refusing_first(|| answer(400, &[], UNAUTHENTICATED));
    let service = layer.resend(CloneBody).layer(graphql(api.clone()));
    assert_eq!(status(service).await, 200);
    assert_eq!((api.requests(), endpoint.calls()), (2, 2));
}

/// The request carries two tokens, each in a header of its own.
#[tokio::test(start_paused = true)]
async fn the_mark_of_another_layer_is_not_about_this_token() {
    let (outer, outer_endpoint) = layer(|layer| layer);
    let (inner, inner_endpoint) = layer(|layer| {
        let name = http::HeaderName::from_static("x-serverless-authorization");
        layer
            .header(name)
            .refused_when(|head| head.status == StatusCode::NOT_FOUND)
    });
    let api = Api::new(|_| answer(404, &[], ""));
    let service = ServiceBuilder::new()
        .layer(outer)
        .layer(inner)
        .service(api.clone());
    for _ in 0..2 {
        status(service.clone()).await;
    }
    assert_eq!(
        api.last().headers["x-serverless-authorization"],
        "Bearer token-2"
    );
    assert_eq!(api.last().authorization().unwrap(), "Bearer token-1");
    assert_eq!((outer_endpoint.calls(), inner_endpoint.calls()), (1, 2));
}

/// A flood of refusals of every kind costs a bounded number of token requests.
#[tokio::test(start_paused = true)]
async fn a_flood_of_refusals_of_every_kind_costs_few_token_requests() {
    const CALLS: usize = 300;
    for (kind, refusing, headers) in [
        ("a bare 401", 401, &[][..]),
        (
            "another scheme",
            401,
            &[("www-authenticate", "Basic realm=\"x\"")],
        ),
        (
            "an unknown error",
            401,
            &[("www-authenticate", "Bearer error=\"expired_token\"")],
        ),
        ("invalid_token with 403", 403, &[INVALID_TOKEN]),
        ("a function", 404, &[]),
        ("a mark", 200, &[]),
        (
            "gRPC",
            200,
            &[("content-type", "application/grpc"), ("grpc-status", "16")],
        ),
    ] {
        let (layer, endpoint) = layer(|layer| {
            layer
                .refused_when(|head| head.status == StatusCode::NOT_FOUND)
                .resend_even_if_processed()
        });
        let api = Api::new(move |_| answer(refusing, headers, UNAUTHENTICATED));
        let service = layer.resend(CloneBody).layer(graphql(api.clone()));
        for _ in 0..CALLS {
            assert_eq!(status(service.clone()).await, refusing);
        }
        println!(
            "{kind}: {CALLS} calls, {} requests, {} token requests",
            api.requests(),
            endpoint.calls()
        );
        assert!(endpoint.calls() <= 10, "{kind}: {}", endpoint.calls());
        assert!(api.requests() <= CALLS + 10, "{kind}: {}", api.requests());
    }
}
