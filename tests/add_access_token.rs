//! `AddAccessTokenLayer`, rule by rule: in process on paused time, and over real HTTP clients on loopback.
#![cfg(all(feature = "reqwest", feature = "test-util"))]

mod cache_support;

use std::{
    error::Error,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full};
use tokio::time::{advance, timeout};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    load_shed::error::Overloaded,
    retry::{Policy, RetryLayer},
    service_fn,
    timeout::error::Elapsed,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, NoAccessToken, TokenCache, TokenError,
    TokenErrorKind, TokenRequest, TokenResponse, TokenSource, TokenType,
    add_access_token::{
        AccessTokenRefused, CloneBody, InsecureTransport, InvalidOrigin, NoOriginNamed,
        NoTokenNamed, WatchTrailersLayer,
    },
    test_util::Failure,
};
use tower_test::mock;

use self::cache_support::{
    Api, Body, Fixture, api_layer, at_once, bearer, call, call_to, refusal, request, secs, settle,
    token_response,
};

fn fixed() -> TokenSource {
    TokenSource::fixed(bearer("fixed"))
}

fn is_refused<B>(response: &Response<B>) -> bool {
    response.extensions().get::<AccessTokenRefused>().is_some()
}

mod header {
    use super::*;

    /// The first call waits for the token. The second finds it in the cache. Later ones use the copy that the instance has made.
    #[tokio::test(start_paused = true)]
    async fn each_request_carries_the_token_marked_sensitive() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let mut service = api_layer(fixture.source()).layer(api.clone());
        for _ in 0..5 {
            let response = service.ready().await.unwrap().call(call()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert!(!is_refused(&response));
            let seen = api.last();
            let token = fixture.source().peek().unwrap();
            let value = seen.authorization().unwrap();
            assert_eq!(Some(value), token.authorization());
            assert!(value.is_sensitive());
            assert_eq!(seen.headers["x-request"], "1");
            assert_eq!(seen.uri, cache_support::API);
            assert_eq!(seen.body, "the body");
        }
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_after_a_renewal_carry_the_new_token() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let mut service = api_layer(fixture.source()).layer(api.clone());
        for n in 0..20 {
            let response = service.ready().await.unwrap().call(call()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{n}");
            settle().await;
            advance(secs(30)).await;
        }
        // A token is stale after 50 of its 100 seconds, so every other call renews it.
        assert_eq!(fixture.requests(), 10);
    }

    /// An instance drops its copy when the token has expired on either clock.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_expired_while_the_host_was_suspended_is_replaced() {
        let fixture = Fixture::new();
        let api = Api::content();
        let mut service = api_layer(fixture.source()).layer(api.clone());
        for _ in 0..3 {
            service.ready().await.unwrap().call(call()).await.unwrap();
        }
        fixture.clock.suspend(secs(7200));
        service.ready().await.unwrap().call(call()).await.unwrap();
        let seen = api.seen();
        assert_eq!(seen[0].authorization(), seen[2].authorization());
        assert_ne!(seen[2].authorization(), seen[3].authorization());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_makes_every_instance_use_another_token() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let mut one = api_layer(fixture.source()).layer(api.clone());
        let mut two = one.clone();
        for _ in 0..3 {
            one.ready().await.unwrap().call(call()).await.unwrap();
            two.ready().await.unwrap().call(call()).await.unwrap();
        }
        fixture.server.revoke_all();
        let refused = one.ready().await.unwrap().call(call()).await.unwrap();
        assert!(is_refused(&refused));
        let response = two.ready().await.unwrap().call(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_marked_no_access_token_is_sent_at_once_without_a_token() {
        let fixture = Fixture::new();
        fixture.server.fail_until_told(Failure::stall());
        let api = Api::refusing();
        let service = api_layer(fixture.source()).layer(api.clone());
        let mut marked = call();
        marked.extensions_mut().insert(NoAccessToken);
        let response = at_once(service.oneshot(marked)).unwrap();
        assert_eq!(api.last().authorization(), None);
        assert!(!is_refused(&response), "no token was refused");
        assert_eq!(fixture.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_request_in_the_extensions_replaces_that_of_the_layer() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let service = api_layer(fixture.source()).layer(api.clone());
        for _ in 0..3 {
            let mut other = call();
            let reports = request().parameter("tenant", "blue");
            other.extensions_mut().insert(reports);
            let response = service.clone().oneshot(other).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            service.clone().oneshot(call()).await.unwrap();
        }
        let seen = api.seen();
        assert_ne!(seen[0].authorization(), seen[1].authorization());
        assert_eq!(seen[0].authorization(), seen[2].authorization());
        assert_eq!(fixture.requests(), 2);
        assert_eq!(fixture.server.requests()[0].get("tenant"), Some("blue"));
        assert_eq!(fixture.server.requests()[1].get("tenant"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_source_in_the_extensions_replaces_that_of_the_layer() {
        let fixture = Fixture::new();
        let api = Api::content();
        let service = api_layer(fixture.source()).layer(api.clone());
        let mut other = call();
        other.extensions_mut().insert(fixed());
        service.oneshot(other).await.unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Bearer fixed");
        assert_eq!(fixture.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_another_token_keeps_the_token_of_the_layer() {
        let fixture = Fixture::new();
        let token = fixture.source().token().await.unwrap();
        let service = api_layer(fixture.source()).layer(Api::refusing());
        let other = fixture.cache.source(request().parameter("tenant", "blue"));
        let mut named = call();
        named.extensions_mut().insert(other.clone());
        assert!(is_refused(&service.oneshot(named).await.unwrap()));
        assert_eq!(other.peek(), None);
        assert_eq!(fixture.source().peek(), Some(token));
    }

    fn per_request(fixture: &Fixture) -> AddAccessTokenLayer {
        let layer = AddAccessTokenLayer::per_request(fixture.cache.clone());
        layer.origin(cache_support::API).unwrap()
    }

    #[track_caller]
    fn assert_no_token_named(error: &BoxError) {
        assert!(error.is::<NoTokenNamed>(), "{error}");
        for way_out in ["`TokenRequest`", "`TokenSource`", "`NoAccessToken`"] {
            assert!(error.to_string().contains(way_out), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_without_a_default_sends_only_requests_that_name_their_token() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let service = per_request(&fixture).layer(api.clone());
        let error = service.clone().oneshot(call()).await.unwrap_err();
        assert_no_token_named(&error);
        assert_eq!((api.requests(), fixture.requests()), (0, 0));

        let mut of_tenant = call();
        let blue = request().parameter("tenant", "blue");
        of_tenant.extensions_mut().insert(blue.clone());
        service.clone().oneshot(of_tenant).await.unwrap();
        let mut by_source = call();
        by_source
            .extensions_mut()
            .insert(fixture.cache.source(blue));
        service.clone().oneshot(by_source).await.unwrap();
        let seen = api.seen();
        assert_eq!(seen[0].authorization(), seen[1].authorization());
        assert_eq!(fixture.requests(), 1);

        // These name no token because they need none.
        let mut marked = call();
        marked.extensions_mut().insert(NoAccessToken);
        let mut own = call();
        own.headers_mut()
            .insert(AUTHORIZATION, HeaderValue::from_static("Bearer own"));
        for request in [marked, own, call_to("https://elsewhere.test/")] {
            service.clone().oneshot(request).await.unwrap();
        }
        assert_eq!(api.requests(), 5);
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_of_a_layer_without_a_default_names_the_token_or_none() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let by_tenant = |head: &http::request::Parts| {
            let tenant = head.headers.get("x-tenant")?.to_str().ok()?;
            Some(request().parameter("tenant", tenant))
        };
        let service = per_request(&fixture)
            .token_request_for(by_tenant)
            .layer(api.clone());
        let error = service.clone().oneshot(call()).await.unwrap_err();
        assert_no_token_named(&error);
        let of = |tenant| {
            let mut request = call();
            let tenant = HeaderValue::from_static(tenant);
            request.headers_mut().insert("x-tenant", tenant);
            request
        };
        service.clone().oneshot(of("blue")).await.unwrap();
        assert_eq!(fixture.server.requests()[0].get("tenant"), Some("blue"));

        // With a default, `None` is the default.
        let service = api_layer(fixture.source())
            .token_request_for(by_tenant)
            .layer(api.clone());
        service.clone().oneshot(call()).await.unwrap();
        assert_eq!(fixture.server.requests()[1].get("tenant"), None);
        // A fixed token is the default of a layer without a cache.
        let service = api_layer(fixed())
            .token_request_for(by_tenant)
            .layer(api.clone());
        service.clone().oneshot(call()).await.unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Bearer fixed");
        service.oneshot(of("blue")).await.unwrap_err();
        assert_eq!(api.requests(), 3);
    }

    /// A permit that the inner service has reserved is free for others after the error.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_names_no_token_gives_its_reservation_back() {
        let fixture = Fixture::new();
        let limited = ServiceBuilder::new()
            .concurrency_limit(1)
            .service(Api::content());
        let mut service = per_request(&fixture).layer(limited);
        let _failed = service.ready().await.unwrap().call(call());
        let other = task::spawn(service.clone().oneshot({
            let mut request = call();
            request.extensions_mut().insert(NoAccessToken);
            request
        }));
        at_once(other).unwrap();
    }

    #[test]
    fn a_layer_without_a_default_is_printed_without_a_source() {
        let fixture = Fixture::new();
        let layer = per_request(&fixture);
        let service = layer.layer(());
        for printed in [format!("{layer:?}"), format!("{service:?}")] {
            assert!(printed.contains("named by each request"), "{printed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_request_in_the_extensions_is_an_error_if_the_layer_has_a_fixed_token() {
        let api = Api::content();
        let service = api_layer(fixed()).layer(api.clone());
        let mut other = call();
        other.extensions_mut().insert(request());
        let error = service.oneshot(other).await.unwrap_err();
        let error = TokenError::find_in_chain(&*error).unwrap();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        assert_eq!(api.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_token_of_an_unsupported_type_is_an_error() {
        let token = AccessToken::new("t", TokenType::N_A).unwrap();
        let api = Api::content();
        let service = api_layer(TokenSource::fixed(token)).layer(api.clone());
        let error = service.oneshot(call()).await.unwrap_err();
        let error = TokenError::find_in_chain(&*error).unwrap();
        assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
        assert_eq!(api.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn layers_above_keep_the_token_error_in_the_source_chain() {
        let fixture = Fixture::new();
        fixture
            .server
            .fail_until_told(Failure::oauth("invalid_client"));
        let service = ServiceBuilder::new()
            .boxed_clone()
            .buffer(8)
            .timeout(secs(5))
            .layer(api_layer(fixture.source()))
            .service(Api::content());
        let error = service.oneshot(call()).await.unwrap_err();
        let error = TokenError::find_in_chain(&*error).unwrap();
        assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    }
}

mod guard {
    use super::*;

    const MESH: &str = "http://mesh.test/";
    const ELSEWHERE: &str = "https://elsewhere.test/";

    /// The values of `Authorization` of the requests that an API received.
    fn tokens(api: &Api) -> Vec<Option<String>> {
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let seen = api.seen();
        seen.iter()
            .map(|seen| seen.authorization().map(text))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_named_origin_nothing_is_sent_and_no_token_is_fetched() {
        for (uri, ways_out) in [
            (
                cache_support::API,
                &[
                    "`.origin(\"https://api.test\")`",
                    "`.danger_any_https_origin()`",
                ][..],
            ),
            ("http://localhost:8080/", &["`.danger_any_https_origin()`"]),
            ("/package.Service/Method", &["`.origin(..)`"]),
        ] {
            let fixture = Fixture::new();
            let api = Api::content();
            let layer = AddAccessTokenLayer::new(fixture.source()).danger_allow_http();
            let error = at_once(layer.layer(api.clone()).oneshot(call_to(uri))).unwrap_err();
            assert!(error.is::<NoOriginNamed>(), "{error}");
            for way_out in ways_out {
                assert!(error.to_string().contains(way_out), "{error}");
            }
            settle().await;
            assert_eq!(api.requests() + fixture.requests(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_need_no_token_need_no_named_origin() {
        let api = Api::content();
        let service = AddAccessTokenLayer::new(fixed()).layer(api.clone());
        for uri in [cache_support::API, MESH, "/package.Service/Method"] {
            let mut own = call_to(uri);
            let value = HeaderValue::from_static("Basic YTpi");
            own.headers_mut().insert(AUTHORIZATION, value);
            service.clone().oneshot(own).await.unwrap();
            let mut marked = call_to(uri);
            marked.extensions_mut().insert(NoAccessToken);
            service.clone().oneshot(marked).await.unwrap();
        }
        let expected = [Some("Basic YTpi".to_owned()), None];
        assert_eq!(tokens(&api), [&expected[..]; 3].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn any_https_origin_can_be_allowed() {
        let api = Api::content();
        let layer = AddAccessTokenLayer::new(fixed()).danger_any_https_origin();
        let service = layer.layer(api.clone());
        for uri in [cache_support::API, ELSEWHERE, "http://127.0.0.1:8080/"] {
            service.clone().oneshot(call_to(uri)).await.unwrap();
        }
        assert_eq!(tokens(&api), vec![Some("Bearer fixed".to_owned()); 3]);
        let error = service.clone().oneshot(call_to(MESH)).await.unwrap_err();
        assert!(error.is::<InsecureTransport>());
        let error = service.oneshot(call_to("/package.Service/Method")).await;
        assert!(error.unwrap_err().is::<NoOriginNamed>());
        assert_eq!(api.requests(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_can_be_a_str_a_string_or_a_uri() {
        let uri = call().into_parts().0.uri;
        let text = cache_support::API.to_owned();
        let layer = || AddAccessTokenLayer::new(fixed());
        for layer in [
            layer().origin(cache_support::API),
            layer().origin(&text),
            layer().origin(text),
            layer().origin(&uri),
            layer().origin(uri.clone()),
            layer().origins(vec![ELSEWHERE, cache_support::API]),
            layer().origins([uri]),
        ] {
            let api = Api::content();
            let service = layer.unwrap().layer(api.clone());
            service.clone().oneshot(call()).await.unwrap();
            assert_eq!(api.last().authorization().unwrap(), "Bearer fixed");
        }
    }

    /// Whoever may choose the token must not choose where it goes.
    #[tokio::test(start_paused = true)]
    async fn tokens_named_by_the_request_go_only_to_named_origins() {
        let by_source = |call: &mut Request<Body>, _: &Fixture| {
            call.extensions_mut().insert(fixed());
        };
        let by_request = |call: &mut Request<Body>, _: &Fixture| {
            call.extensions_mut().insert(request());
        };
        let by_source_of_the_cache = |call: &mut Request<Body>, fixture: &Fixture| {
            call.extensions_mut().insert(fixture.source());
        };
        type NameToken = fn(&mut Request<Body>, &Fixture);
        let ways: [NameToken; 3] = [by_source, by_request, by_source_of_the_cache];
        for name_token in ways {
            let fixture = Fixture::new();
            let api = Api::content();
            let mut foreign = call_to(ELSEWHERE);
            name_token(&mut foreign, &fixture);
            let service = api_layer(fixture.source()).layer(api.clone());
            at_once(service.oneshot(foreign)).unwrap();
            assert_eq!(tokens(&api), [None]);

            let mut named = call();
            name_token(&mut named, &fixture);
            let service = AddAccessTokenLayer::new(fixture.source()).layer(api.clone());
            let error = at_once(service.oneshot(named)).unwrap_err();
            assert!(error.is::<NoOriginNamed>());
            settle().await;
            assert_eq!((api.requests(), fixture.requests()), (1, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_header_does_not_decide_where_the_token_goes() {
        let api = Api::content();
        let service = api_layer(fixed()).layer(api.clone());
        for (uri, host) in [
            (ELSEWHERE, "api.test"),
            (cache_support::API, "elsewhere.test"),
        ] {
            let mut call = call_to(uri);
            let host = HeaderValue::from_static(host);
            call.headers_mut().insert(HOST, host);
            service.clone().oneshot(call).await.unwrap();
        }
        assert_eq!(tokens(&api), [None, Some("Bearer fixed".to_owned())]);
    }

    /// The headers of a `CONNECT` request are for the proxy.
    #[tokio::test(start_paused = true)]
    async fn a_request_for_a_tunnel_goes_without_a_token() {
        let api = Api::content();
        let layers = [
            api_layer(fixed()),
            api_layer(fixed()).danger_any_https_origin(),
        ];
        for layer in layers {
            let service = layer.danger_allow_http().layer(api.clone());
            let tunnel = Request::connect("api.test:443").body(Body::default());
            service.oneshot(tunnel.unwrap()).await.unwrap();
        }
        assert_eq!(tokens(&api), [None, None]);
    }

    #[tokio::test(start_paused = true)]
    async fn several_apis_get_their_own_tokens_from_nested_layers() {
        let api = Api::content();
        let layer = |token, origin| {
            let source = TokenSource::fixed(bearer(token));
            AddAccessTokenLayer::new(source).origin(origin).unwrap()
        };
        let service = ServiceBuilder::new()
            .layer(layer("for-one", "https://one.test"))
            .layer(layer("for-two", "https://two.test"))
            .service(api.clone());
        for uri in ["https://one.test/", "https://two.test/", ELSEWHERE] {
            service.clone().oneshot(call_to(uri)).await.unwrap();
        }
        let of = |token: &str| Some(format!("Bearer {token}"));
        assert_eq!(tokens(&api), [of("for-one"), of("for-two"), None]);
    }

    #[test]
    fn the_layer_prints_its_origins() {
        let layer = api_layer(fixed()).origin("https://user:password@API.test:8443/path");
        let printed = format!("{:?}", layer.unwrap());
        assert!(
            printed.contains("[https://api.test, https://api.test:8443]"),
            "{printed}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn plain_http_to_this_machine_carries_the_token() {
        for uri in [
            "http://127.0.0.1:8080/",
            "http://[::1]/",
            "http://localhost/",
        ] {
            let api = Api::content();
            let layer = AddAccessTokenLayer::new(fixed()).origin(uri).unwrap();
            let service = layer.layer(api.clone());
            service.oneshot(call_to(uri)).await.unwrap();
            assert_eq!(api.last().authorization().unwrap(), "Bearer fixed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn plain_http_can_be_allowed() {
        let api = Api::content();
        let layer = AddAccessTokenLayer::new(fixed()).danger_allow_http();
        let service = layer.origin(MESH).unwrap().layer(api.clone());
        service.oneshot(call_to(MESH)).await.unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Bearer fixed");
    }

    /// Clients that tonic generates send such requests.
    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_authority_gets_the_token() {
        let api = Api::content();
        let service = api_layer(fixed()).layer(api.clone());
        service
            .oneshot(call_to("/package.Service/Method"))
            .await
            .unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Bearer fixed");
    }

    #[test]
    fn a_uri_without_a_scheme_or_a_host_is_not_an_origin() {
        for (origin, why) in [
            ("/orders", "`/orders` is not an origin"),
            ("api.test:443", "`api.test:443` is not an origin"),
            (
                "https://u:SECRET@:443/?SECRET",
                "`https://:443/?..` is not an origin",
            ),
            ("api.test/orders?SECRET", "the origin is not valid"),
            ("https://bücher.test", "the origin is not valid"),
            ("", "the origin is empty"),
        ] {
            let one: Result<_, InvalidOrigin> = AddAccessTokenLayer::new(fixed()).origin(origin);
            let several = AddAccessTokenLayer::new(fixed()).origins([cache_support::API, origin]);
            for error in [one, several].map(Result::unwrap_err) {
                let message = error.to_string();
                assert!(message.starts_with(why), "{message}");
                assert!(
                    message.ends_with("such as https://api.example"),
                    "{message}"
                );
                assert!(
                    !format!("{error:?} {message}").contains("SECRET"),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn an_origin_is_anything_that_prints_a_uri() {
        const API: &str = "https://api.test";
        let owned = API.to_owned();
        let (uri, url): (Uri, url::Url) = (API.parse().unwrap(), API.parse().unwrap());
        let layer = || AddAccessTokenLayer::new(fixed());
        let expected = format!("{:?}", layer().origin(API).unwrap());
        for layer in [
            layer().origin(&owned),
            layer().origin(&uri),
            layer().origin(uri.clone()),
            layer().origin(&url),
            layer().origin(url.clone()),
            layer().origins([owned.clone(), owned]),
            layer().origins([&uri, &uri]),
            layer().origins(vec![url]),
        ] {
            assert_eq!(format!("{:?}", layer.unwrap()), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_request_gives_its_reservation_back() {
        let limited = ServiceBuilder::new()
            .concurrency_limit(1)
            .service(Api::content());
        let layer = AddAccessTokenLayer::new(fixed());
        let mut service = layer.clone().layer(limited.clone());
        let service = service.ready().await.unwrap();
        let error = at_once(service.call(call())).unwrap_err();
        assert!(error.is::<NoOriginNamed>());
        at_once(limited.clone().ready()).unwrap();

        let mut service = layer.origin(MESH).unwrap().layer(limited.clone());
        let service = service.ready().await.unwrap();
        let error = at_once(service.call(call_to(MESH))).unwrap_err();
        assert!(error.is::<InsecureTransport>());
        at_once(limited.clone().ready()).unwrap();
    }
}

/// Over `tower_test::mock`, which panics when an instance is called that was not made ready.
mod readiness {
    use super::*;

    type Mocked = mock::Handle<Request<Body>, Response<Body>>;

    /// Answers the next request, and returns its `Authorization` header.
    #[track_caller]
    fn answer(handle: &mut Mocked) -> Option<HeaderValue> {
        let next = assert_ready!(task::spawn(handle.next_request()).poll());
        let (request, send) = next.expect("a request");
        send.send_response(Response::new(Full::from("hello")));
        request.headers().get(AUTHORIZATION).cloned()
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_usable_token_the_ready_instance_is_called() {
        let layer = api_layer(fixed());
        let (mut service, mut handle) = mock::spawn_with(|inner| layer.layer(inner));
        for _ in 0..4 {
            assert_ready_ok!(service.poll_ready());
            let mut sending = task::spawn(service.call(call()));
            assert_pending!(sending.poll());
            assert_eq!(answer(&mut handle).unwrap(), "Bearer fixed");
            assert_ready_ok!(sending.poll());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn with_resend_and_a_usable_token_the_ready_instance_is_called() {
        let layer = api_layer(fixed()).resend(CloneBody);
        let (mut service, mut handle) = mock::spawn_with(|inner| layer.layer(inner));
        assert_ready_ok!(service.poll_ready());
        let mut sending = task::spawn(service.call(call()));
        assert_pending!(sending.poll());
        assert_eq!(answer(&mut handle).unwrap(), "Bearer fixed");
        assert_ready_ok!(sending.poll());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_usable_token_a_clone_is_made_ready_and_called() {
        let fixture = Fixture::new();
        fixture.server.fail_next(Failure::delay(secs(3)));
        let layer = api_layer(fixture.source());
        let (mut service, mut handle) = mock::spawn_with(|inner| layer.layer(inner));
        assert_ready_ok!(service.poll_ready());
        handle.allow(0);
        let mut sending = task::spawn(service.call(call()));
        assert_pending!(sending.poll());
        settle().await;
        advance(secs(3)).await;
        settle().await;

        // The token has come, but the service is busy.
        assert!(fixture.source().peek().is_some());
        assert!(sending.is_woken());
        assert_pending!(sending.poll());
        assert_pending!(task::spawn(handle.next_request()).poll());
        handle.allow(1);
        assert!(sending.is_woken());
        assert_pending!(sending.poll());
        assert!(answer(&mut handle).is_some());
        assert_ready_ok!(sending.poll());
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_that_of_the_inner_service_and_never_waits_for_a_token() {
        let fixture = Fixture::new();
        fixture.server.fail_until_told(Failure::stall());
        let layer = api_layer(fixture.source());
        let (mut service, mut handle) =
            mock::spawn_with::<Request<Body>, Response<Body>, _, _>(|inner| layer.layer(inner));
        handle.allow(0);
        assert_pending!(service.poll_ready::<Request<Body>>());
        handle.allow(1);
        assert!(service.is_woken());
        assert_ready_ok!(service.poll_ready::<Request<Body>>());
        settle().await;
        assert_eq!(fixture.requests(), 0);
        handle.send_error("broken");
        let error = assert_ready_err!(service.poll_ready::<Request<Body>>());
        assert_eq!(error.to_string(), "broken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_while_the_request_waits_for_its_token_is_an_error() {
        let fixture = Fixture::new();
        let layer = api_layer(fixture.source());
        let (mut service, mut handle) =
            mock::spawn_with::<Request<Body>, Response<Body>, _, _>(|inner| layer.layer(inner));
        assert_ready_ok!(service.poll_ready::<Request<Body>>());
        let mut sending = task::spawn(service.call(call()));
        assert_pending!(sending.poll());
        handle.send_error("broken");
        settle().await;
        let error = assert_ready_err!(sending.poll());
        assert_eq!(error.to_string(), "broken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_its_token_holds_no_reservation() {
        let fixture = Fixture::new();
        fixture.server.fail_until_told(Failure::stall());
        let limited = ServiceBuilder::new()
            .concurrency_limit(1)
            .service(Api::content());
        let mut service = api_layer(fixture.source()).layer(limited.clone());
        let mut waiting = task::spawn(at_once(service.ready()).unwrap().call(call()));
        assert_pending!(waiting.poll());
        at_once(limited.clone().ready()).unwrap();
        // The instance itself has kept no reservation either.
        at_once(service.ready()).unwrap();
        assert_pending!(waiting.poll());
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_future_after_any_poll_sends_nothing_and_keeps_the_fetch() {
        for polls in 0..6 {
            let fixture = Fixture::new();
            fixture.server.fail_next(Failure::delay(secs(2)));
            let api = Api::content();
            let service = api_layer(fixture.source()).layer(api.clone());
            {
                let mut sending = task::spawn(service.clone().oneshot(call()));
                for _ in 0..polls {
                    assert_pending!(sending.poll());
                    settle().await;
                    advance(Duration::from_millis(300)).await;
                }
            }
            assert_eq!(api.requests(), 0);
            service.oneshot(call()).await.unwrap();
            assert_eq!(fixture.requests(), 1, "dropped after {polls} polls");
            assert_eq!(api.requests(), 1);
        }
    }
}

mod refusals {
    use super::*;

    fn answer(status: u16, headers: &'static [(&'static str, &'static str)]) -> Api {
        Api::new(move |_| {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(Full::from("no")).unwrap()
        })
    }

    /// The token is invalidated exactly when the response is marked.
    #[tokio::test(start_paused = true)]
    async fn only_responses_that_refuse_the_token_are_marked_and_invalidate_it() {
        const CHALLENGE: &str = "www-authenticate";
        for (status, headers, expected) in [
            (401, &[][..], true),
            (401, &[(CHALLENGE, "Bearer")], true),
            (401, &[(CHALLENGE, "Bearer error=\"invalid_token\"")], true),
            (401, &[(CHALLENGE, "DPoP error=\"invalid_token\"")], true),
            (
                401,
                &[
                    (CHALLENGE, "Basic realm=\"x\""),
                    (CHALLENGE, "Bearer error=\"invalid_token\""),
                ],
                true,
            ),
            (
                401,
                &[(CHALLENGE, "Bearer error=\"insufficient_scope\"")],
                false,
            ),
            (401, &[(CHALLENGE, "DPoP error=\"use_dpop_nonce\"")], false),
            (401, &[(CHALLENGE, "Basic realm=\"x\"")], true),
            (401, &[(CHALLENGE, "")], true),
            (403, &[(CHALLENGE, "Bearer error=\"invalid_token\"")], true),
            (403, &[(CHALLENGE, "Bearer")], false),
            (407, &[], false),
            (500, &[], false),
            (
                200,
                &[("content-type", "application/grpc"), ("grpc-status", "16")],
                true,
            ),
            (
                200,
                &[("content-type", "application/grpc"), ("grpc-status", "7")],
                false,
            ),
            (
                200,
                &[("content-type", "text/plain"), ("grpc-status", "16")],
                false,
            ),
        ] {
            let fixture = Fixture::new();
            let service = api_layer(fixture.source()).layer(answer(status, headers));
            let response = service.oneshot(call()).await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(is_refused(&response), expected, "{status} {headers:?}");
            let is_dropped = fixture.source().peek().is_none();
            assert_eq!(is_dropped, expected, "{status} {headers:?}");
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "no");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_callers_own_header_is_ignored() {
        let fixture = Fixture::new();
        let token = fixture.source().token().await.unwrap();
        let service = api_layer(fixture.source()).layer(Api::refusing());
        let mut own = call();
        let value = token.authorization().unwrap().clone();
        own.headers_mut().insert(AUTHORIZATION, value);
        let response = service.oneshot(own).await.unwrap();
        assert!(!is_refused(&response));
        assert_eq!(fixture.source().peek(), Some(token));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_a_fixed_token_is_marked_and_not_resent() {
        let api = Api::refusing();
        let layer = api_layer(fixed()).resend(CloneBody);
        let service = layer.layer(api.clone());
        for n in 1..=3 {
            let response = service.clone().oneshot(call()).await.unwrap();
            assert!(is_refused(&response));
            assert_eq!(api.requests(), n);
        }
    }

    /// The cache may have been dropped when the response comes.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_marked_even_after_the_cache_was_dropped() {
        let fixture = Fixture::new();
        let source = fixture.source();
        source.token().await.unwrap();
        let mut inner = api_layer(source).layer(Api::refusing());
        let sending = inner.ready().await.unwrap().call(call());
        drop((inner, fixture));
        assert!(is_refused(&sending.await.unwrap()));
    }
}

mod resend {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_request_is_not_resent_by_default() {
        let fixture = Fixture::new();
        let api = Api::refusing();
        let service = api_layer(fixture.source()).layer(api.clone());
        let response = service.oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(is_refused(&response));
        assert_eq!(api.requests(), 1);
        settle().await;
        assert_eq!(fixture.requests(), 1, "the next caller fetches");
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Traced(u64);

    /// With a token in the cache, and without one.
    #[tokio::test(start_paused = true)]
    async fn a_refused_request_is_resent_completely_with_another_token() {
        for is_warm in [true, false] {
            let fixture = Fixture::new();
            let refused_once = AtomicUsize::new(0);
            let api = Api::new(move |_| match refused_once.fetch_add(1, Ordering::SeqCst) {
                0 => refusal(),
                _ => Response::new(Full::from("hello")),
            });
            let layer = api_layer(fixture.source()).resend(CloneBody);
            let service = layer.layer(api.clone());
            if is_warm {
                fixture.source().warm_up().await.unwrap();
            }
            let mut traced = call();
            traced.extensions_mut().insert(Traced(7));
            let response = service.oneshot(traced).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert!(!is_refused(&response));

            let [first, second] = &api.seen()[..] else {
                panic!("two requests");
            };
            assert_ne!(first.authorization(), second.authorization());
            assert!(second.authorization().unwrap().is_sensitive());
            assert_eq!(first.method, second.method);
            assert_eq!(first.uri, second.uri);
            assert_eq!(second.body, "the body");
            assert_eq!(second.headers["x-request"], "1");
            assert_eq!(second.extensions.get(), Some(&Traced(7)));
            assert_eq!(fixture.requests(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_resent_without_a_pause() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixture.source()).resend(CloneBody);
        let service = layer.layer(api.clone());
        service.clone().oneshot(call()).await.unwrap();
        fixture.server.revoke_all();
        let mut sending = task::spawn(service.oneshot(call()));
        assert_pending!(sending.poll());
        settle().await;
        assert_ready_ok!(sending.poll());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_refused_twice_is_not_sent_a_third_time() {
        let fixture = Fixture::new();
        let number = AtomicUsize::new(0);
        let api = Api::new(move |_| {
            let mut response = refusal();
            let number = number.fetch_add(1, Ordering::SeqCst) + 1;
            *response.body_mut() = Full::from(number.to_string());
            response
        });
        let layer = api_layer(fixture.source()).resend(CloneBody);
        let response = layer.layer(api.clone()).oneshot(call()).await.unwrap();
        assert!(is_refused(&response));
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "2");
        assert_eq!(api.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_gets_the_refusal_if_no_other_token_can_be_fetched() {
        for failure in [
            Failure::oauth("invalid_client"),
            Failure::status(503),
            Failure::stall(),
        ] {
            let fixture = Fixture::new();
            let api = Api::refusing();
            let layer = api_layer(fixture.source()).resend(CloneBody);
            fixture.source().warm_up().await.unwrap();
            fixture.server.fail_until_told(failure);
            let response = layer.layer(api.clone()).oneshot(call()).await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert!(is_refused(&response));
            assert!(response.headers().contains_key(WWW_AUTHENTICATE));
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "refused");
            assert_eq!(api.requests(), 1);
        }
    }

    /// Another request has already replaced the token.
    #[tokio::test(start_paused = true)]
    async fn a_request_refused_with_a_replaced_token_is_resent_with_the_current_one() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixture.source()).resend(CloneBody);
        let mut service = layer.layer(api.clone());
        let old = fixture.source().token().await.unwrap();
        let sending = service.ready().await.unwrap().call(call());
        fixture.server.revoke(old.expose_secret());
        fixture.source().invalidate(&old);
        let new = fixture.source().token().await.unwrap();

        let response = sending.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(fixture.source().peek(), Some(new));
        assert_eq!(fixture.requests(), 2);
    }

    /// A service that is ready while its gate is open.
    #[derive(Clone)]
    struct Gated(Api, Arc<AtomicBool>);

    impl Service<Request<Body>> for Gated {
        type Response = Response<Body>;
        type Error = <Api as Service<Request<Body>>>::Error;
        type Future = <Api as Service<Request<Body>>>::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            if self.1.load(Ordering::SeqCst) {
                return self.0.poll_ready(cx);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.0.call(request)
        }
    }

    /// A service whose every new instance is busy once, like one that has to queue again.
    struct BusyAtFirst(Api, bool);

    impl Clone for BusyAtFirst {
        fn clone(&self) -> Self {
            Self(self.0.clone(), true)
        }
    }

    impl Service<Request<Body>> for BusyAtFirst {
        type Response = Response<Body>;
        type Error = <Api as Service<Request<Body>>>::Error;
        type Future = <Api as Service<Request<Body>>>::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            if std::mem::take(&mut self.1) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.0.poll_ready(cx)
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.0.call(request)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_had_expired_when_it_came_is_sent_once_even_if_the_service_is_busy() {
        let fetches = Arc::new(AtomicUsize::new(0));
        let counter = fetches.clone();
        let endpoint = service_fn(move |_: TokenRequest| {
            let text = format!("{}", counter.fetch_add(1, Ordering::SeqCst));
            async move {
                let response = TokenResponse::builder(bearer(text));
                Ok::<_, BoxError>(response.expires_in(secs(0)).build())
            }
        });
        let source = TokenCache::new(endpoint).source(request());
        let api = Api::content();
        let service = api_layer(source).layer(BusyAtFirst(api.clone(), true));
        let sending = timeout(secs(60), service.oneshot(call()));
        assert!(sending.await.unwrap().is_ok());
        assert_eq!(api.last().authorization().unwrap(), "Bearer 0");
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    /// The server returns the refused token again while the request waits for its service.
    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_not_sent_if_it_is_issued_again_while_the_service_is_busy() {
        let tokens = ["refused", "another", "refused"];
        let number = Arc::new(AtomicUsize::new(0));
        let endpoint = service_fn(move |_: TokenRequest| {
            let text = tokens[number.fetch_add(1, Ordering::SeqCst)];
            async move { Ok::<_, BoxError>(token_response(text)) }
        });
        let source = TokenCache::new(endpoint).source(request());
        let open = Arc::new(AtomicBool::new(true));
        let gate = open.clone();
        let api = Api::new(move |_| {
            gate.store(false, Ordering::SeqCst);
            refusal()
        });
        let layer = api_layer(source.clone()).resend(CloneBody);
        let mut service = layer.layer(Gated(api.clone(), open.clone()));
        source.warm_up().await.unwrap();
        let mut sending = task::spawn(service.ready().await.unwrap().call(call()));
        assert_pending!(sending.poll());
        settle().await;
        assert_pending!(sending.poll());

        source.invalidate(&bearer("another"));
        assert_eq!(source.token().await.unwrap(), bearer("refused"));
        open.store(true, Ordering::SeqCst);
        let response = sending.await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(api.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resent_request_takes_its_new_token_from_its_own_source() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixed()).resend(CloneBody);
        let blue = fixture.cache.source(request().parameter("tenant", "blue"));
        blue.warm_up().await.unwrap();
        fixture.server.revoke_all();
        let mut named = call();
        named.extensions_mut().insert(blue.clone());
        let response = layer.layer(api.clone()).oneshot(named).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let token = blue.peek().unwrap();
        assert_eq!(api.last().authorization(), token.authorization());
        let tenants = fixture.server.requests();
        assert!(
            tenants
                .iter()
                .all(|request| request.get("tenant") == Some("blue"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_gets_the_error_of_the_second_attempt() {
        let fixture = Fixture::new();
        let sent = Arc::new(AtomicUsize::new(0));
        let flaky = tower::service_fn(move |_: Request<Body>| {
            let attempt = sent.fetch_add(1, Ordering::SeqCst);
            ready(match attempt {
                0 => Ok(refusal()),
                _ => Err(BoxError::from("broken")),
            })
        });
        let layer = api_layer(fixture.source()).resend(CloneBody);
        let error = layer.layer(flaky).oneshot(call()).await.unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}

mod stacks {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timeout_above_includes_the_fetch_but_does_not_cancel_it() {
        let fixture = Fixture::new();
        fixture.server.fail_next(Failure::delay(secs(5)));
        let api = Api::checking(&fixture.server);
        let service = ServiceBuilder::new()
            .timeout(secs(3))
            .layer(api_layer(fixture.source()))
            .service(api.clone());
        let error = service.clone().oneshot(call()).await.unwrap_err();
        assert!(error.is::<Elapsed>());
        assert_eq!(api.requests(), 0);
        service.oneshot(call()).await.unwrap();
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_below_does_not_include_the_fetch() {
        let fixture = Fixture::new();
        fixture.server.fail_next(Failure::delay(secs(5)));
        let service = ServiceBuilder::new()
            .layer(api_layer(fixture.source()))
            .timeout(secs(3))
            .service(Api::checking(&fixture.server));
        let response = service.oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    /// Retries once after any response but 200.
    #[derive(Clone)]
    struct Once(bool);

    impl<E> Policy<Request<Body>, Response<Body>, E> for Once {
        type Future = Ready<()>;

        fn retry(
            &mut self,
            _: &mut Request<Body>,
            result: &mut Result<Response<Body>, E>,
        ) -> Option<Ready<()>> {
            let is_ok = matches!(result, Ok(response) if response.status() == StatusCode::OK);
            (!is_ok && std::mem::take(&mut self.0)).then(|| ready(()))
        }

        fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
            Some(request.clone())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_above_sends_another_token_after_a_refusal() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let service = ServiceBuilder::new()
            .layer(RetryLayer::new(Once(true)))
            .layer(api_layer(fixture.source()))
            .service(api.clone());
        service.clone().oneshot(call()).await.unwrap();
        fixture.server.revoke_all();
        let response = service.oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(api.requests(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_below_sends_the_same_token_again() {
        let fixture = Fixture::new();
        let answers = AtomicUsize::new(0);
        let api = Api::new(move |_| {
            let mut response = Response::new(Full::default());
            if answers.fetch_add(1, Ordering::SeqCst) == 0 {
                *response.status_mut() = StatusCode::BAD_GATEWAY;
            }
            response
        });
        let service = ServiceBuilder::new()
            .layer(api_layer(fixture.source()))
            .layer(RetryLayer::new(Once(true)))
            .service(api.clone());
        let response = service.oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let seen = api.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen[0].authorization().is_some());
        assert_eq!(seen[0].authorization(), seen[1].authorization());
    }

    /// The docs of the layer say so: the request was admitted once, and is shed when its token has come.
    #[tokio::test(start_paused = true)]
    async fn load_shed_below_may_shed_a_request_after_it_waited_for_its_token() {
        let fixture = Fixture::new();
        let limited = ServiceBuilder::new()
            .concurrency_limit(1)
            .service(Api::content());
        let shedding = ServiceBuilder::new().load_shed().service(limited.clone());
        let service = api_layer(fixture.source()).layer(shedding);

        let mut sending = task::spawn(service.clone().oneshot(call()));
        assert_pending!(sending.poll());
        let mut other = limited;
        at_once(other.ready()).unwrap();
        settle().await;
        let error = assert_ready_err!(sending.poll());
        assert!(error.is::<Overloaded>());
        drop(other);
        at_once(service.oneshot(call())).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn load_shed_above_does_not_count_requests_that_wait_for_their_token() {
        let fixture = Fixture::new();
        let service = ServiceBuilder::new()
            .load_shed()
            .layer(api_layer(fixture.source()))
            .concurrency_limit(1)
            .service(Api::content());
        let mut first = task::spawn(service.clone().oneshot(call()));
        let mut second = task::spawn(service.clone().oneshot(call()));
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        settle().await;
        assert_ready_ok!(first.poll());
        settle().await;
        assert_ready_ok!(second.poll());
    }

    /// An API that redirects to another origin, and the API at that origin.
    fn redirecting() -> (Api, Api) {
        let elsewhere = Api::content();
        let redirects = Api::new(|_| {
            let response = Response::builder().status(StatusCode::SEE_OTHER);
            let response = response.header(LOCATION, "https://elsewhere.test/");
            response.body(Body::default()).unwrap()
        });
        (redirects, elsewhere)
    }

    /// Routes each request by the host of its URI.
    fn network_of(
        api: Api,
        elsewhere: Api,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send> + Clone
    {
        service_fn(move |request: Request<Body>| {
            let to = match request.uri().host() {
                Some("elsewhere.test") => elsewhere.clone(),
                _ => api.clone(),
            };
            async move { to.oneshot(request).await }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn follow_redirect_below_does_not_send_the_token_to_another_origin() {
        let fixture = Fixture::new();
        let (api, elsewhere) = redirecting();
        let service = ServiceBuilder::new()
            .layer(api_layer(fixture.source()))
            .layer(FollowRedirectLayer::new())
            .service(network_of(api.clone(), elsewhere.clone()));
        let response = service.oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(api.last().authorization().is_some());
        assert_eq!(elsewhere.last().authorization(), None);
    }

    /// Sends a request that is redirected through `redirects`. Returns where each request went, and whether it carried a token.
    async fn follow_above(
        layer: AddAccessTokenLayer,
        redirects: &'static [&'static str],
    ) -> Vec<(String, bool)> {
        let number = AtomicUsize::new(0);
        let network = Api::new(move |_| {
            match redirects.get(number.fetch_add(1, Ordering::SeqCst)) {
                Some(next) => {
                    let response = Response::builder().status(StatusCode::FOUND);
                    response.header(LOCATION, *next).body(Body::default())
                }
                None => Ok(Response::default()),
            }
            .unwrap()
        });
        let service = ServiceBuilder::new()
            .layer(FollowRedirectLayer::new())
            .layer(layer)
            .service(network.clone());
        service.oneshot(call()).await.unwrap();
        let seen = network.seen();
        seen.iter()
            .map(|seen| (seen.uri.to_string(), seen.authorization().is_some()))
            .collect()
    }

    /// The layer sees each redirect as a new request.
    #[tokio::test(start_paused = true)]
    async fn a_token_comes_back_only_when_redirects_lead_back_to_a_named_origin() {
        let redirects = &[
            "/moved",
            "https://elsewhere.test/1",
            "/2",
            "//api.test@elsewhere.test/3",
            "http://api.test/plain",
            "https://API.test:443/back",
        ];
        let followed = follow_above(api_layer(fixed()), redirects).await;
        let followed: Vec<_> = followed.iter().map(|(uri, has)| (&**uri, *has)).collect();
        assert_eq!(
            followed,
            [
                (cache_support::API, true),
                ("https://api.test/moved", true),
                ("https://elsewhere.test/1", false),
                ("https://elsewhere.test/2", false),
                ("https://api.test@elsewhere.test/3", false),
                ("http://api.test/plain", false),
                ("https://api.test/back", true),
            ]
        );
    }

    /// The docs of `danger_any_https_origin` warn of this.
    #[tokio::test(start_paused = true)]
    async fn with_any_https_origin_allowed_the_token_follows_redirects() {
        let layer = AddAccessTokenLayer::new(fixed()).danger_any_https_origin();
        let followed = follow_above(layer, &["https://elsewhere.test/"]).await;
        assert!(followed.iter().all(|(_, has_token)| *has_token));
    }

    #[tokio::test(start_paused = true)]
    async fn follow_redirect_above_sends_the_token_only_to_named_origins() {
        let fixture = Fixture::new();
        let (api, elsewhere) = redirecting();
        let service = ServiceBuilder::new()
            .layer(FollowRedirectLayer::new())
            .layer(api_layer(fixture.source()))
            .service(network_of(api.clone(), elsewhere.clone()));
        let response = service.oneshot(call()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(api.last().authorization().is_some());
        assert_eq!(elsewhere.last().authorization(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_inner_services_can_be_reached() {
        let (api, other) = (Api::content(), Api::content());
        let layer = WatchTrailersLayer::new(fixed());
        let mut service = api_layer(fixed()).layer(layer.layer(api.clone()));
        service.clone().oneshot(call()).await.unwrap();
        assert_eq!(service.get_ref().get_ref().requests(), 1);
        *service.get_mut().get_mut() = other.clone();
        service.clone().oneshot(call()).await.unwrap();
        assert_eq!((api.requests(), other.requests()), (1, 1));
        assert_eq!(service.into_inner().into_inner().requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_outer_of_two_layers_decides_the_token() {
        let fixture = Fixture::new();
        let api = Api::content();
        let service = ServiceBuilder::new()
            .layer(api_layer(fixed()))
            .layer(api_layer(fixture.source()))
            .service(api.clone());
        service.oneshot(call()).await.unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Bearer fixed");
        assert_eq!(fixture.requests(), 0);
    }
}

/// Over real HTTP clients on loopback, without boxed services.
mod clients {
    use std::{future::IntoFuture, net::Ipv4Addr};

    use axum::{Router, extract::State, http::HeaderMap};
    use bytes::Bytes;
    use hyper_util::{
        client::legacy::{Client, connect::HttpConnector},
        rt::TokioExecutor,
    };
    use tokio::net::TcpListener;
    use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tower_oauth2_client::{
        AddAccessToken, ReqwestService, TokenCache, TokenEndpoint,
        test_util::{AuthorizationServer, Listening},
    };

    use super::*;

    async fn answer(
        State(server): State<AuthorizationServer>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response<Full<Bytes>> {
        match server.check_bearer(&headers) {
            Ok(()) => Response::new(Full::new(body)),
            Err(refusal) => refusal,
        }
    }

    /// An API on its own port, and the authorization server that checks its tokens.
    async fn listen() -> (AuthorizationServer, Listening, String) {
        let server = AuthorizationServer::new();
        let listening = server.listen().await.unwrap();
        let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("http://{}/echo", api.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(axum::serve(api, router).into_future());
        (server, listening, uri)
    }

    async fn echo<S, ResBody>(service: S, uri: &str) -> (StatusCode, Bytes)
    where
        S: Service<Request<Body>, Response = Response<ResBody>, Error = BoxError>,
        ResBody: http_body::Body<Data = Bytes>,
        ResBody::Error: std::fmt::Debug,
    {
        let response = service.oneshot(call_to(uri)).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap();
        (status, body.to_bytes())
    }

    #[tokio::test]
    async fn requests_over_hyper_util_are_authenticated_and_resent() {
        let (server, listening, uri) = listen().await;
        let http: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
        let endpoint = TokenEndpoint::new(
            http.clone(),
            listening.token_endpoint(),
            cache_support::client(),
        );
        let source = TokenCache::new(endpoint).source(request());
        let layer = AddAccessTokenLayer::new(source).origin(&uri).unwrap();
        let layer = layer.resend(CloneBody);
        let service: AddAccessToken<Client<HttpConnector, Body>, CloneBody> = layer.layer(http);
        for _ in 0..3 {
            let (status, body) = echo(service.clone(), &uri).await;
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"the body"[..]));
        }
        assert_eq!(server.token_requests(), 1);

        server.revoke_all();
        let (status, body) = echo(service.clone(), &uri).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"the body"[..]));
        assert_eq!(server.token_requests(), 2);
    }

    #[tokio::test]
    async fn requests_over_reqwest_are_authenticated() {
        let (server, listening, uri) = listen().await;
        let http = ReqwestService::new(reqwest::Client::new());
        let endpoint = TokenEndpoint::new(
            http.clone(),
            listening.token_endpoint(),
            cache_support::client(),
        );
        let source = TokenCache::new(endpoint).source(request());
        let layer = AddAccessTokenLayer::new(source).origin(&uri).unwrap();
        let service: AddAccessToken<ReqwestService<Body>> = layer.layer(http);
        for _ in 0..3 {
            let (status, body) = echo(service.clone(), &uri).await;
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"the body"[..]));
        }
        assert_eq!(server.token_requests(), 1);
        server.revoke_all();
        assert_eq!(
            echo(service.clone(), &uri).await.0,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(echo(service.clone(), &uri).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn requests_of_a_tonic_client_are_authenticated() {
        let server = AuthorizationServer::new();
        let endpoint = cache_support::endpoint(&server);
        let source = TokenCache::new(endpoint).source(request());

        let (_reporter, health) = tonic_health::server::health_reporter();
        let checked = server.clone();
        let health = tonic::service::interceptor::InterceptedService::new(
            health,
            move |request: tonic::Request<()>| {
                let headers = request.metadata().clone().into_headers();
                match checked.check_bearer(&headers) {
                    Ok(()) => Ok(request),
                    Err(_) => Err(tonic::Status::unauthenticated("the token is invalid")),
                }
            },
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let router = Server::builder().add_service(health);
        tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));

        let layer = AddAccessTokenLayer::new(source.clone());
        let layer = layer.origin(&uri).unwrap();
        let channel = Endpoint::from_shared(uri).unwrap().connect_lazy();
        let service: AddAccessToken<Channel> = layer.layer(channel);
        let mut client = HealthClient::new(service);
        let check = || HealthCheckRequest {
            service: String::new(),
        };
        for _ in 0..3 {
            let response = client.check(check()).await.unwrap();
            assert_eq!(response.into_inner().status, 1);
        }
        assert_eq!(server.token_requests(), 1);

        server.revoke_all();
        let status = client.check(check()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert!(source.peek().is_none());
        client.check(check()).await.unwrap();
        assert_eq!(server.token_requests(), 2);

        // Without a token, the error is in the source chain of the status.
        server.revoke_all();
        client.check(check()).await.unwrap_err();
        server.fail_until_told(Failure::oauth("invalid_client"));
        let status = client.check(check()).await.unwrap_err();
        let error = TokenError::find_in_chain(status.source().unwrap()).unwrap();
        assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_fetched_is_a_service_error() {
        let (server, listening, uri) = listen().await;
        server.fail_until_told(Failure::drop_connection());
        let http: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
        let endpoint = TokenEndpoint::new(
            http.clone(),
            listening.token_endpoint(),
            cache_support::client(),
        );
        let source = TokenCache::new(endpoint).source(request());
        let layer = AddAccessTokenLayer::new(source).origin(&uri).unwrap();
        let service = layer.layer(http);
        let error = timeout(secs(20), service.oneshot(call_to(&uri)))
            .await
            .unwrap()
            .unwrap_err();
        let error = TokenError::find_in_chain(&*error).unwrap();
        assert_eq!(error.kind(), TokenErrorKind::Service);
    }
}

/// As the docs of `AddAccessToken` say. A boxed future that is not `Sync` is enough for `Send`.
#[test]
fn the_service_and_its_future_cross_threads_if_those_below_do() {
    use std::{future::Future, pin::Pin};

    type Sending = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn can_be_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn can_be_sent<T: Send + 'static>(_: &T) {}

    let below = service_fn(|_: Request<Body>| -> Sending {
        Box::pin(async { Ok(Response::new(Body::default())) })
    });
    let mut plain = api_layer(fixed()).layer(below);
    let mut resending = api_layer(fixed()).resend(CloneBody).layer(below);
    can_be_shared(&plain);
    can_be_shared(&resending);
    can_be_sent(&plain.call(call()));
    can_be_sent(&resending.call(call()));
}
