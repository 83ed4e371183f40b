//! The header that carries the token: another name, another scheme, or none.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, LOCATION, PROXY_AUTHORIZATION},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, NoAccessToken, TokenCache, TokenRequest, TokenSource,
    add_access_token::{AccessTokenRefused, CloneBody, InvalidScheme},
};

use self::cache_support::{Api, Body, Fixture, Seen, api_layer, bearer, call, token_response};

const SERVERLESS: HeaderName = HeaderName::from_static("x-serverless-authorization");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

fn fixed() -> TokenSource {
    TokenSource::fixed(bearer("2YotnFZF"))
}

/// Returns the value of a header; panics unless there is one, marked sensitive.
#[track_caller]
fn value<'a>(seen: &'a Seen, name: &HeaderName) -> &'a HeaderValue {
    let mut values = seen.headers.get_all(name).iter();
    let value = values.next().unwrap();
    assert!(value.is_sensitive() && values.next().is_none());
    value
}

fn layers(source: &TokenSource) -> Vec<(AddAccessTokenLayer, HeaderName, &'static str)> {
    let layer = || api_layer(source.clone());
    vec![
        (layer().header(SERVERLESS), SERVERLESS, "Bearer "),
        (
            layer().header(PROXY_AUTHORIZATION),
            PROXY_AUTHORIZATION,
            "Bearer ",
        ),
        (layer().header(API_KEY).without_scheme(), API_KEY, ""),
        (layer().scheme("Token").unwrap(), AUTHORIZATION, "Token "),
        (layer().scheme("bearer").unwrap(), AUTHORIZATION, "bearer "),
        (
            layer().scheme("Token").unwrap().header(API_KEY),
            API_KEY,
            "Token ",
        ),
        (layer().without_scheme(), AUTHORIZATION, ""),
        (
            layer().without_scheme().scheme("Bearer").unwrap(),
            AUTHORIZATION,
            "Bearer ",
        ),
        (
            layer().header(API_KEY).header(AUTHORIZATION),
            AUTHORIZATION,
            "Bearer ",
        ),
    ]
}

/// The first call waits for the token, the second finds it, later ones use the copy of the instance. A clone has no copy yet.
#[tokio::test(start_paused = true)]
async fn each_request_carries_the_token_in_the_chosen_header() {
    let fixture = Fixture::new();
    for (layer, name, scheme) in layers(&fixture.source()) {
        fixture.source().discard();
        let api = Api::content();
        let mut service = layer.layer(api.clone());
        for n in 0..4 {
            let mut used = if n == 3 { service.clone() } else { service };
            used.ready().await.unwrap().call(call()).await.unwrap();
            let token = fixture.source().peek().unwrap();
            let expected = format!("{scheme}{}", token.expose_secret());
            let seen = api.last();
            assert_eq!(value(&seen, &name), &*expected, "call {n}");
            assert_eq!(
                seen.headers.contains_key(AUTHORIZATION),
                name == AUTHORIZATION
            );
            service = used;
        }
    }
    for (layer, name, scheme) in layers(&fixed()) {
        let api = Api::content();
        layer.layer(api.clone()).oneshot(call()).await.unwrap();
        assert_eq!(value(&api.last(), &name), &*format!("{scheme}2YotnFZF"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewed_token_replaces_the_old_one_under_every_scheme() {
    let fixture = Fixture::new();
    let source = fixture.source();
    let api = Api::content();
    let mut services: Vec<_> = layers(&source)
        .into_iter()
        .map(|(layer, name, scheme)| (layer.layer(api.clone()), name, scheme))
        .collect();
    for _ in 0..3 {
        source.discard();
        let token = source.token().await.unwrap();
        for (service, name, scheme) in &mut services {
            for _ in 0..3 {
                service.ready().await.unwrap().call(call()).await.unwrap();
                let expected = format!("{scheme}{}", token.expose_secret());
                assert_eq!(value(&api.last(), name), &*expected);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_header_of_that_name_stays() {
    for (layer, name, _) in layers(&fixed()) {
        let api = Api::content();
        let service = layer.layer(api.clone());
        let mut own = call();
        own.headers_mut()
            .insert(&name, HeaderValue::from_static("mine"));
        service.clone().oneshot(own).await.unwrap();
        assert_eq!(api.last().headers[&name], "mine");

        // A header of another name is not the place of the token.
        let other = if name == AUTHORIZATION {
            API_KEY
        } else {
            AUTHORIZATION
        };
        let mut own = call();
        own.headers_mut()
            .insert(&other, HeaderValue::from_static("mine"));
        service.clone().oneshot(own).await.unwrap();
        assert_eq!(api.last().headers[&other], "mine");
        assert!(
            value(&api.last(), &name)
                .to_str()
                .unwrap()
                .ends_with("2YotnFZF")
        );

        let mut without = call();
        without.extensions_mut().insert(NoAccessToken);
        service.oneshot(without).await.unwrap();
        assert!(!api.last().headers.contains_key(&name));
    }
}

/// A token request may contain the token of a user. It is for one layer, and not for the authorization server of another.
#[tokio::test(start_paused = true)]
async fn what_a_request_asks_for_is_for_the_upper_of_two_layers() {
    let layer = |name: &'static str| {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shown = asked.clone();
        let endpoint = service_fn(move |request: TokenRequest| {
            shown.lock().unwrap().push(request.grant_type().to_owned());
            ready(Ok::<_, BoxError>(token_response(name)))
        });
        let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
        (api_layer(source), asked)
    };
    let ((upper, by_upper), (lower, by_lower)) = (layer("upper"), layer("lower"));
    let api = Api::content();
    let service = ServiceBuilder::new()
        .layer(upper)
        .layer(lower.header(SERVERLESS))
        .service(api.clone());

    let mut asking = call();
    let own = TokenRequest::jwt_bearer("of a user");
    asking.extensions_mut().insert(own.clone());
    service.clone().oneshot(asking).await.unwrap();
    assert_eq!(api.last().headers[AUTHORIZATION], "Bearer upper");
    assert_eq!(api.last().headers[SERVERLESS], "Bearer lower");
    assert_eq!(*by_upper.lock().unwrap(), [own.grant_type()]);
    assert_eq!(*by_lower.lock().unwrap(), ["client_credentials"]);

    let mut asking = call();
    let source = TokenSource::fixed(bearer("user"));
    asking.extensions_mut().insert(source);
    service.oneshot(asking).await.unwrap();
    assert_eq!(api.last().headers[AUTHORIZATION], "Bearer user");
    assert_eq!(api.last().headers[SERVERLESS], "Bearer lower");
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_resent_with_another_token_in_the_same_header() {
    for index in 0..layers(&fixed()).len() {
        let fixture = Fixture::new();
        let (layer, name, scheme) = layers(&fixture.source()).remove(index);
        let refused = fixture.source().token().await.unwrap();
        let refused = format!("{scheme}{}", refused.expose_secret());
        let status = if name == PROXY_AUTHORIZATION {
            407
        } else {
            401
        };
        let carried = name.clone();
        let api = Api::new(move |seen| match value(seen, &carried) == &*refused {
            true => Response::builder()
                .status(status)
                .body(Body::default())
                .unwrap(),
            false => Response::default(),
        });
        let response = layer
            .resend(CloneBody)
            .layer(api.clone())
            .oneshot(call())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{name} {scheme}");
        assert_eq!(api.requests(), 2);
        assert_eq!(api.last().body, "the body");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_407_of_a_proxy_refuses_its_token() {
    for (status, expected) in [(407, true), (401, false)] {
        let fixture = Fixture::new();
        let layer = api_layer(fixture.source()).header(PROXY_AUTHORIZATION);
        let api = Api::new(move |_| {
            Response::builder()
                .status(status)
                .body(Body::default())
                .unwrap()
        });
        let response = layer
            .clone()
            .layer(api.clone())
            .oneshot(call())
            .await
            .unwrap();
        let is_refused = response.extensions().get::<AccessTokenRefused>().is_some();
        assert_eq!(is_refused, expected);
        assert_eq!(fixture.source().peek().is_none(), expected);
        // The last name counts.
        let layer = layer.header(API_KEY);
        let response = layer.layer(api).oneshot(call()).await.unwrap();
        let is_refused = response.extensions().get::<AccessTokenRefused>().is_some();
        assert_eq!(is_refused, !expected);
    }
}

#[test]
fn a_text_that_is_not_a_token_is_no_scheme() {
    for scheme in [
        "",
        " ",
        "Bearer ",
        "a b",
        "a,b",
        "a=b",
        "a:b",
        "a\"b",
        "caf\u{e9}",
        "a\n",
    ] {
        let error = api_layer(fixed()).scheme(scheme).unwrap_err();
        assert_eq!(error, InvalidScheme, "{scheme:?}");
    }
    for scheme in [
        "Token",
        "JWT",
        "Zoho-oauthtoken",
        "GoogleLogin",
        "SSWS",
        "OAuth2",
    ] {
        assert!(api_layer(fixed()).scheme(scheme).is_ok(), "{scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_token_is_printed() {
    for (layer, _, _) in layers(&fixed()) {
        let service = layer.clone().layer(Api::content());
        for printed in [
            format!("{layer:?}"),
            format!("{:?}", layer.watch_trailers()),
            format!("{service:?}"),
        ] {
            assert!(!printed.contains("2YotnFZF"), "{printed}");
        }
        let api = Api::content();
        service_of(layer, api.clone())
            .oneshot(call())
            .await
            .unwrap();
        assert!(!format!("{:?}", api.last().headers).contains("2YotnFZF"));
    }
}

fn service_of(
    layer: AddAccessTokenLayer,
    api: Api,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError> {
    ServiceBuilder::new().layer(layer).service(api)
}

/// The docs of `header` warn of this. If it fails because tower-http removes more headers, the docs can say so.
#[cfg(feature = "tower-http")]
#[tokio::test(start_paused = true)]
async fn follow_redirect_below_removes_only_the_headers_that_it_knows() {
    use tower_http::follow_redirect::FollowRedirectLayer;
    use tower_http_07::follow_redirect::FollowRedirectLayer as FollowRedirectLayer07;

    for (layer, name, _) in layers(&fixed()) {
        let is_known = name == AUTHORIZATION || name == PROXY_AUTHORIZATION;
        let (first, second) = (redirecting(), redirecting());
        let stack = ServiceBuilder::new().layer(layer.clone());
        let service = stack
            .layer(FollowRedirectLayer::new())
            .service(first.clone());
        service.oneshot(call()).await.unwrap();
        let stack = ServiceBuilder::new().layer(layer);
        let service = stack
            .layer(FollowRedirectLayer07::new())
            .service(second.clone());
        service.oneshot(call()).await.unwrap();
        for api in [first, second] {
            assert_eq!(api.requests(), 2);
            value(&api.seen()[0], &name);
            assert_eq!(api.last().uri, "https://elsewhere.test/");
            assert_eq!(api.last().headers.contains_key(&name), !is_known, "{name}");
        }
    }
}

/// Above the layer, each redirect is a new request, and the origin decides.
#[cfg(feature = "tower-http")]
#[tokio::test(start_paused = true)]
async fn follow_redirect_above_sends_the_token_only_to_named_origins() {
    for (layer, name, _) in layers(&fixed()) {
        let api = redirecting();
        let service = ServiceBuilder::new()
            .layer(tower_http::follow_redirect::FollowRedirectLayer::new())
            .layer(layer)
            .service(api.clone());
        service.oneshot(call()).await.unwrap();
        value(&api.seen()[0], &name);
        assert!(!api.last().headers.contains_key(&name), "{name}");
    }
}

/// Redirects to another origin, once.
#[cfg(feature = "tower-http")]
fn redirecting() -> Api {
    Api::new(|seen| match seen.uri.host() {
        Some("api.test") => Response::builder()
            .status(StatusCode::SEE_OTHER)
            .header(LOCATION, "https://elsewhere.test/")
            .body(Body::default())
            .unwrap(),
        _ => Response::default(),
    })
}
