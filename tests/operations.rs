//! What a service does with a cache as a whole: warm it up, probe its health, shut it down.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    runtime::{Builder, Handle},
    sync::Notify,
    time::{advance, sleep},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower_oauth2_client::{
    TokenCache, TokenErrorKind, TokenRequest, TokenResponse, TokenSource,
    test_util::{AuthorizationServer, Failure, ManualClock},
};

use self::cache_support::{
    Endpoint, Fixture, at_once, bearer, call_all, endpoint, millis, now, request, secs, settle,
    token_response,
};

fn tenant(cache: &TokenCache, tenant: usize) -> TokenSource {
    cache.source(request().parameter("tenant", tenant.to_string()))
}

mod shutdown {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn usable_tokens_are_served_and_nothing_new_is_fetched() {
        let (fixture, source, token) = Fixture::with_token().await;
        source.keep_warm().unwrap();
        at_once(fixture.cache.shutdown());
        let cold = tenant(&fixture.cache, 1);
        for error in [
            at_once(cold.token()).unwrap_err(),
            at_once(cold.warm_up()).unwrap_err(),
            at_once(source.renew()).unwrap_err(),
            source.keep_warm().unwrap_err(),
        ] {
            assert_eq!(error.kind(), TokenErrorKind::ShutDown);
            assert!(!error.is_transient() && !error.may_have_been_processed());
            assert!(error.to_string().contains("shut down"), "{error}");
        }
        // Fresh, then stale.
        for _ in 0..90 {
            assert_eq!(at_once(source.token()).unwrap(), token);
            sleep(secs(1)).await;
        }
        advance(secs(10)).await;
        let error = at_once(source.token()).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ShutDown);
        assert_eq!(fixture.requests(), 1);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_that_can_be_repeated_are_cancelled_and_their_waiters_get_an_error() {
        let cache = TokenCache::new(Endpoint::new(|_| pending()));
        let sources = [0, 1, 2].map(|number| tenant(&cache, number));
        let waiting = sources.clone().map(|source| {
            source.keep_warm().unwrap();
            tokio::spawn(async move { call_all(&source, 10).await })
        });
        settle().await;
        at_once(cache.shutdown());
        for waiting in waiting {
            for result in waiting.await.unwrap() {
                assert_eq!(result.unwrap_err().kind(), TokenErrorKind::ShutDown);
            }
        }
        settle().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_called_again_and_from_every_clone() {
        let (fixture, source, token) = Fixture::with_token().await;
        for cache in [&fixture.cache, &fixture.cache.clone(), &fixture.cache] {
            at_once(cache.shutdown());
        }
        assert_eq!(at_once(source.token()).unwrap(), token);
        // Another cache is not affected.
        Fixture::with_token().await;
    }

    /// What the owner of the refresh tokens has stored.
    #[derive(Clone, Default)]
    struct Stored(Arc<Mutex<Vec<String>>>);

    fn slow_refresh(fetch: u64, store: u64) -> (TokenCache, Stored, Endpoint) {
        let stored = Stored::default();
        let storing = stored.clone();
        let endpoint = Endpoint::new(move |call| async move {
            sleep(secs(fetch)).await;
            let response = TokenResponse::builder(bearer(format!("token-{call}")));
            Ok(response
                .expires_in(secs(100))
                .refresh_token(format!("rt-{call}"))
                .build())
        });
        let cache = TokenCache::builder(endpoint.clone())
            .clock(ManualClock::new().clock())
            .on_refresh_token(move |_, token| {
                let storing = storing.clone();
                async move {
                    sleep(secs(store)).await;
                    let token = token.expose_secret().to_owned();
                    storing.0.lock().unwrap().push(token);
                }
            })
            .build();
        (cache, stored, endpoint)
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_a_refresh_token_that_was_sent_and_until_the_next_one_is_stored() {
        let (cache, stored, endpoint) = slow_refresh(3, 4);
        let source = cache.source(TokenRequest::refresh_token("rt-0"));
        let waiting = tokio::spawn({
            let source = source.clone();
            async move { source.token().await }
        });
        settle().await;
        let begun = now();
        // Whichever caller waits for it.
        tokio::join!(cache.shutdown(), cache.shutdown());
        assert_eq!(begun.elapsed(), secs(7));
        assert_eq!(*stored.0.lock().unwrap(), ["rt-1"]);
        assert_eq!(waiting.await.unwrap().unwrap(), bearer("token-1"));
        assert_eq!(at_once(source.token()).unwrap(), bearer("token-1"));
        assert_eq!(endpoint.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_that_was_not_sent_yet_is_not_sent() {
        let (cache, stored, endpoint) = slow_refresh(1, 1);
        let source = cache.source(TokenRequest::refresh_token("rt-0"));
        let mut waiting = task::spawn(source.token());
        assert_pending!(waiting.poll());
        at_once(cache.shutdown());
        assert!(waiting.is_woken());
        let error = assert_ready!(waiting.poll()).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ShutDown);
        sleep(secs(60)).await;
        assert_eq!(endpoint.calls(), 0);
        assert!(stored.0.lock().unwrap().is_empty());
    }

    /// Drops the waiting after each of its polls.
    #[tokio::test(start_paused = true)]
    async fn a_dropped_shutdown_goes_on() {
        for polls in 1..5 {
            let (cache, stored, endpoint) = slow_refresh(3, 4);
            let source = cache.source(TokenRequest::refresh_token("rt-0"));
            let mut waiting = task::spawn(source.token());
            assert_pending!(waiting.poll());
            settle().await;
            let mut shutdown = task::spawn(cache.shutdown());
            for _ in 0..polls {
                assert_pending!(shutdown.poll());
                settle().await;
            }
            drop(shutdown);
            cache.shutdown().await;
            assert_eq!(*stored.0.lock().unwrap(), ["rt-1"]);
            assert_eq!(endpoint.calls(), 1);
            let error = at_once(source.renew()).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ShutDown);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_no_longer_than_a_fetch_may() {
        let endpoint = Endpoint::new(|_| async { Ok(refreshed()) });
        let cache = TokenCache::builder(endpoint)
            .clock(ManualClock::new().clock())
            .fetch_timeout(secs(10))
            .on_refresh_token(|_, _| pending())
            .build();
        let source = cache.source(TokenRequest::refresh_token("rt-0"));
        let mut waiting = task::spawn(source.token());
        assert_pending!(waiting.poll());
        settle().await;
        let begun = now();
        cache.shutdown().await;
        assert!(begun.elapsed() <= secs(25), "{:?}", begun.elapsed());
    }

    fn refreshed() -> TokenResponse {
        TokenResponse::builder(bearer("token"))
            .refresh_token("rt-1")
            .build()
    }

    /// Its source was dropped, but the cache still holds the entry.
    #[tokio::test(start_paused = true)]
    async fn it_waits_for_fetches_whose_callers_are_gone() {
        let (cache, stored, _) = slow_refresh(3, 0);
        {
            let source = cache.source(TokenRequest::refresh_token("rt-0"));
            let mut waiting = task::spawn(source.token());
            assert_pending!(waiting.poll());
        }
        settle().await;
        cache.shutdown().await;
        assert_eq!(*stored.0.lock().unwrap(), ["rt-1"]);
    }

    /// Callers that start while the shutdown begins either get a token or an error, and what is sent is awaited.
    #[test]
    fn it_can_begin_at_any_moment() {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        for _ in 0..200 {
            let sent = Arc::new(AtomicUsize::new(0));
            let stored = Arc::new(AtomicUsize::new(0));
            let (sending, storing) = (sent.clone(), stored.clone());
            let endpoint = Endpoint::new(move |_| {
                sending.fetch_add(1, Ordering::SeqCst);
                async {
                    tokio::task::yield_now().await;
                    Ok(refreshed())
                }
            });
            let cache = TokenCache::builder(endpoint)
                .on_refresh_token(move |_, _| {
                    storing.fetch_add(1, Ordering::SeqCst);
                    async {}
                })
                .build();
            let callers: Vec<_> = (0..20)
                .map(|number| {
                    let cache = cache.clone();
                    runtime.spawn(async move {
                        let source =
                            cache.source(TokenRequest::refresh_token(format!("rt-{number}")));
                        source.token().await
                    })
                })
                .collect();
            runtime.block_on(cache.shutdown());
            let (sent_before, stored_before) =
                (sent.load(Ordering::SeqCst), stored.load(Ordering::SeqCst));
            assert_eq!(sent_before, stored_before);
            for caller in callers {
                if let Err(error) = runtime.block_on(caller).unwrap() {
                    assert_eq!(error.kind(), TokenErrorKind::ShutDown);
                }
            }
            assert_eq!(sent.load(Ordering::SeqCst), sent_before);
        }
    }
}

mod warm_up {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_tokens_are_fetched_at_the_same_time() {
        let slow = Endpoint::new(|call| async move {
            sleep(secs(1)).await;
            Ok(token_response(format!("token-{call}")))
        });
        let builder = TokenCache::builder(slow.clone()).max_concurrent_fetches(1000);
        let cache = builder.build();
        let sources: Vec<_> = (0..1000).map(|number| tenant(&cache, number)).collect();
        sources[7].token().await.unwrap();
        let begun = now();
        // The same source twice is one fetch.
        let twice = sources.iter().chain(&sources[..10]).cloned();
        assert!(cache.warm_up(twice, secs(10)).await.is_empty());
        assert_eq!(begun.elapsed(), secs(1));
        assert_eq!(slow.calls(), 1000);
        assert!(sources.iter().all(|source| source.peek().is_some()));
        // Now all are warm.
        assert!(at_once(cache.warm_up(sources, secs(10))).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_failed_sources_are_returned_with_their_errors() {
        let server = AuthorizationServer::new();
        let good = TokenCache::new(endpoint(&server));
        let down = AuthorizationServer::new();
        down.fail_until_told(Failure::status(503));
        let bad = TokenCache::new(endpoint(&down));
        let hangs = TokenCache::new(Endpoint::new(|_| pending()));
        let sources = [
            tenant(&hangs, 0),
            tenant(&good, 1),
            tenant(&bad, 2),
            TokenSource::fixed(bearer("fixed")),
            tenant(&bad, 3),
        ];
        let begun = now();
        let failed = good.warm_up(sources.clone(), secs(5)).await;
        assert_eq!(begun.elapsed(), secs(5));
        let failed: Vec<_> = failed
            .iter()
            .map(|(source, error)| (format!("{source:?}"), error.kind()))
            .collect();
        let expected = [
            (&sources[0], TokenErrorKind::Timeout),
            (&sources[2], TokenErrorKind::UnexpectedStatus),
            (&sources[4], TokenErrorKind::UnexpectedStatus),
        ];
        let expected = expected.map(|(source, kind)| (format!("{source:?}"), kind));
        assert_eq!(failed, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_that_take_longer_continue() {
        let release = Arc::new(Notify::new());
        let released = release.clone();
        let cache = TokenCache::new(Endpoint::new(move |_| {
            let released = released.clone();
            async move {
                released.notified().await;
                Ok(token_response("token"))
            }
        }));
        let source = tenant(&cache, 0);
        let failed = cache.warm_up([source.clone()], millis(10)).await;
        assert_eq!(failed.len(), 1);
        let text = failed[0].1.to_string();
        assert!(text.contains("10ms"), "{text}");
        release.notify_one();
        settle().await;
        assert_eq!(source.peek(), Some(bearer("token").into()));
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[test]
    fn without_a_runtime_each_cold_source_fails() {
        let cache = TokenCache::new(Endpoint::counting());
        let sources = [0, 1].map(|number| tenant(&cache, number));
        let failed = at_once(cache.warm_up(sources, secs(1)));
        assert_eq!(failed.len(), 2);
        for (_, error) in failed {
            assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
        }
    }
}

mod health {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_empty_cache_is_healthy() {
        let health = Fixture::new().cache.health();
        assert_eq!(health.entries() + health.usable() + health.failing(), 0);
        assert_eq!(health.failing_for(), None);
        assert!(health.last_error().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_counted_by_their_state() {
        let fixture = Fixture::with_lifetime(secs(100));
        for number in 0..3 {
            tenant(&fixture.cache, number).token().await.unwrap();
        }
        let _cold = tenant(&fixture.cache, 3);
        advance(secs(30)).await;
        tenant(&fixture.cache, 4).token().await.unwrap();
        let health = fixture.cache.health();
        assert_eq!((health.entries(), health.usable()), (5, 4));
        assert_eq!((health.stale(), health.failing()), (0, 0));
        advance(secs(25)).await;
        let health = fixture.cache.health();
        assert_eq!((health.usable(), health.stale()), (4, 3));
        advance(secs(45)).await;
        let health = fixture.cache.health();
        assert_eq!((health.usable(), health.stale()), (1, 1));
        assert_eq!((health.failing(), health.unavailable()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_count_from_the_first_one_until_a_fetch_succeeds() {
        let fixture = Fixture::with_lifetime(secs(100));
        let source = tenant(&fixture.cache, 0);
        source.keep_warm().unwrap();
        sleep(secs(40)).await;
        fixture.server.fail_until_told(Failure::status(503));
        // The first renewal fails at half of the lifetime.
        sleep(secs(40)).await;
        let health = fixture.cache.health();
        assert_eq!((health.failing(), health.unavailable()), (1, 0));
        let failing_for = health.failing_for().unwrap();
        assert!(
            failing_for > secs(29) && failing_for <= secs(30),
            "{failing_for:?}"
        );
        sleep(secs(20)).await;
        let cold = tenant(&fixture.cache, 1);
        fixture
            .server
            .fail_until_told(Failure::oauth("invalid_client"));
        cold.token().await.unwrap_err();
        let health = fixture.cache.health();
        assert_eq!((health.failing(), health.unavailable()), (2, 2));
        assert!(health.failing_for().unwrap() > secs(49));
        let last = health.last_error().unwrap().error_response().unwrap();
        assert_eq!(last.code().as_str(), "invalid_client");

        fixture.server.recover();
        sleep(secs(120)).await;
        cold.token().await.unwrap();
        let health = fixture.cache.health();
        assert_eq!((health.failing(), health.unavailable()), (0, 0));
        assert_eq!(health.failing_for(), None);
        assert!(health.last_error().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn users_who_must_sign_in_again_or_have_not_decided_do_not_count_as_failing() {
        let fixture = Fixture::new();
        let signed_out = fixture.cache.source(TokenRequest::refresh_token("unknown"));
        signed_out.token().await.unwrap_err();
        let pending = fixture
            .cache
            .source(TokenRequest::device_code("device-code"));
        fixture
            .server
            .fail_until_told(Failure::oauth("authorization_pending"));
        pending.token().await.unwrap_err();
        let health = fixture.cache.health();
        assert_eq!((health.failing(), health.unavailable()), (0, 0));
        assert_eq!((health.signed_out(), health.entries()), (1, 2));
        assert_eq!(health.failing_for(), None);
        assert!(health.last_error().is_some());
    }
}
