//! Tokens that come too late, are useless, or belong to a fetch that was given up.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    future::pending,
    sync::{Arc, OnceLock},
};

use http::Response;
use tokio::time::timeout;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tower_oauth2_client::{
    RefreshWindow, TokenCache, TokenEndpoint, TokenResponse,
    test_util::{AuthorizationServer, ManualClock},
};

use self::cache_support::{
    Api, Body, Endpoint, Fixture, api_layer, bearer, call, call_to, client, millis, network,
    numbered_failures, request, secs, settle, token_response,
};

/// The copy that a service owns is rechecked every 100 milliseconds while its token is stale.
#[tokio::test(start_paused = true)]
async fn service_does_not_send_its_copy_of_a_token_that_has_expired() {
    let (fixture, source, token) = Fixture::with_token().await;
    let api = Api::content();
    let mut service = api_layer(source).layer(api.clone());
    let mut send = async || service.ready().await.unwrap().call(call()).await;
    numbered_failures(&fixture.server, 400, "invalid_scope");
    send().await.unwrap();
    send().await.unwrap();
    // It is usable for 95 seconds, and stale for the last 45 of them.
    fixture.clock.advance(secs(95) - millis(50));
    send().await.unwrap();
    let expected = format!("Bearer {}", token.expose_secret());
    assert_eq!(api.last().authorization().unwrap(), &*expected);
    assert_eq!(api.requests(), 3);
    fixture.clock.advance(millis(49));
    send().await.unwrap();
    fixture.clock.advance(millis(1));
    send().await.unwrap_err();
    assert_eq!(api.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn useless_token_goes_to_those_who_waited_and_does_not_displace_a_good_one() {
    let endpoint = Endpoint::new(|call| async move {
        let lifetime = if call == 1 { secs(100) } else { millis(0) };
        let response = TokenResponse::builder(bearer(format!("token-{call}")));
        Ok(response.expires_in(lifetime).build())
    });
    let clock = ManualClock::new();
    let cache = TokenCache::builder(endpoint).clock(clock.clock()).build();
    let source = cache.source(request());
    let peek = || source.peek().map(|token| token.expose_secret().to_owned());
    source.token().await.unwrap();
    let useless = source.renew().await.unwrap();
    assert_eq!(useless.expose_secret(), "token-2");
    assert_eq!(peek().as_deref(), Some("token-1"));

    // Without a good one, there is none.
    clock.advance(secs(200));
    assert_eq!(source.token().await.unwrap().expose_secret(), "token-3");
    assert_eq!(peek(), None);
}

/// The endpoint itself, or another thread, may invalidate all tokens just before the answer.
#[tokio::test(start_paused = true)]
async fn answer_of_a_fetch_that_was_given_up_is_not_cached() {
    let shared = Arc::<OnceLock<TokenCache>>::default();
    let invalidating = shared.clone();
    let endpoint = Endpoint::new(move |call| {
        let cache = invalidating.clone();
        async move {
            if call == 1 {
                cache.get().unwrap().invalidate_all();
            }
            Ok(token_response(format!("token-{call}")))
        }
    });
    let cache = TokenCache::builder(endpoint.clone()).build();
    shared.set(cache.clone()).unwrap();
    let source = cache.source(request());
    let token = source.token().await.unwrap();
    assert_eq!(token.expose_secret(), "token-2");
    assert_eq!(source.peek().unwrap().expose_secret(), "token-2");
    assert_eq!(endpoint.calls(), 2);
}

/// The clock of the cache shows that the fetch is overdue before any timer fires.
#[tokio::test(start_paused = true)]
async fn overdue_fetch_is_replaced_and_nobody_waits_for_it_any_longer() {
    for is_second_caller_first in [false, true] {
        let endpoint = Endpoint::new(|call| async move {
            match call {
                1 => pending().await,
                _ => Ok(token_response(format!("token-{call}"))),
            }
        });
        let clock = ManualClock::new();
        let cache = TokenCache::builder(endpoint.clone())
            .clock(clock.clock())
            .build();
        let source = cache.source(request());
        let mut first = task::spawn(source.token());
        assert_pending!(first.poll());
        settle().await;
        assert_eq!(endpoint.calls(), 1);
        clock.advance(secs(600));
        if is_second_caller_first {
            let token = timeout(millis(100), source.token()).await;
            let token = token.expect("a new fetch").unwrap();
            assert_eq!(token.expose_secret(), "token-2");
        }
        let token = timeout(secs(2), first).await.expect("a new fetch").unwrap();
        assert_eq!(token.expose_secret(), "token-2");
        assert_eq!(endpoint.calls(), 2);
    }
}

/// A request whose token expires while its service is busy waits again. Its service then has a permit that the token client needs.
#[tokio::test(start_paused = true)]
async fn request_that_waits_again_gives_its_permit_back() {
    let clock = ManualClock::new();
    let server = AuthorizationServer::builder()
        .clock(clock.clone())
        .access_token_lifetime(secs(100))
        .build();
    let api = Api::new(|_| Response::new(Body::default()));
    let busy = Arc::new(tokio::sync::Notify::new());
    let (inner, held) = (network(&server, &api), busy.clone());
    let slow = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, held) = (inner.clone(), held.clone());
        async move {
            if request.uri().path() == "/slow" {
                held.notified().await;
            }
            inner.oneshot(request).await
        }
    });
    let http = tower::limit::ConcurrencyLimit::new(BoxCloneSyncService::new(slow), 1);
    let endpoint = TokenEndpoint::new(http.clone(), server.token_endpoint(), client());
    let cache = TokenCache::builder(endpoint)
        .clock(clock.clock())
        .refresh_window(RefreshWindow::new())
        .build();
    let service = api_layer(cache.source(request())).layer(http.clone());

    let mut called = task::spawn(service.oneshot(call()));
    assert_pending!(called.poll());
    settle().await;
    assert_eq!(server.token_requests(), 1);
    let other = tokio::spawn(http.oneshot(call_to("https://api.test/slow")));
    settle().await;
    assert_pending!(called.poll(), "the other request has the permit");
    clock.advance(secs(200));
    busy.notify_one();
    settle().await;
    other.await.unwrap().unwrap();
    timeout(secs(600), called)
        .await
        .expect("no deadlock")
        .unwrap();
    assert_eq!(server.token_requests(), 2);
}
