//! The rules of the token cache, on paused time.
#![cfg(all(feature = "retry", feature = "test-util"))]

mod cache_support;

use std::{
    collections::HashSet,
    future::pending,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    runtime::{self, Runtime},
    sync::Notify,
    time::{advance, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{ServiceBuilder, retry::RetryLayer};
use tower_oauth2_client::{
    AccessToken, BoxError, ErrorCode, RefreshWindow, TokenCache, TokenErrorKind, TokenRequest,
    TokenSource, TokenType,
    test_util::{AuthorizationServer, Failure, ManualClock},
    token_cache::Invalidation,
    token_endpoint::RetryTransient,
};

use self::cache_support::{
    Endpoint, Fixture, at_once, bearer, call_all, current_thread, endpoint, error_texts, millis,
    now, numbered_failures, request, secs, settle, token_response, token_texts,
};

mod states {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_fetched_before_a_caller_asks() {
        let (fixture, source) = Fixture::with_source();
        let _changes = source.subscribe();
        assert!(source.peek().is_none());
        settle().await;
        assert_eq!(fixture.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_token_is_served_without_a_request() {
        let (fixture, source, token) = Fixture::with_token().await;
        advance(millis(49_999)).await;
        for _ in 0..100 {
            assert_eq!(at_once(source.token()).unwrap(), token);
        }
        settle().await;
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_token_is_served_at_once_while_one_renewal_runs() {
        let (fixture, source, old) = Fixture::with_token().await;

        advance(secs(50)).await;
        fixture.server.fail_next(Failure::delay(secs(3)));
        for _ in 0..100 {
            assert_eq!(at_once(source.token()).unwrap(), old);
            settle().await;
        }
        assert_eq!(fixture.requests(), 2);
        advance(millis(2_999)).await;
        settle().await;
        assert_eq!(at_once(source.token()).unwrap(), old);

        advance(millis(1)).await;
        settle().await;
        let new = at_once(source.token()).unwrap();
        assert_ne!(new, old);
        assert!(fixture.server.is_active(new.expose_secret()));
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_nobody_asks_for_is_not_renewed() {
        let fixture = Fixture::new();
        fixture.source().token().await.unwrap();
        advance(secs(1000)).await;
        settle().await;
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_token_is_not_served_and_callers_wait_for_one_fetch() {
        let (fixture, source, old) = Fixture::with_token().await;
        // The leeway is five seconds, a twentieth of the lifetime.
        advance(millis(94_999)).await;
        assert_eq!(source.peek(), Some(old.clone()));
        advance(millis(1)).await;
        assert_eq!(source.peek(), None);
        assert_pending!(task::spawn(source.token()).poll());

        let tokens = token_texts(call_all(&source, 100).await);
        assert_eq!(tokens.len(), 1);
        assert!(!tokens.contains(old.expose_secret()));
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_token_is_not_served_when_its_renewal_fails() {
        let (fixture, source) = Fixture::with_source();
        source.token().await.unwrap();
        fixture.server.fail_until_told(Failure::status(503));
        advance(secs(95)).await;
        assert!(source.token().await.is_err());
        assert!(source.peek().is_none());
        assert!(at_once(source.token()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lifetime_starts_before_the_request_is_sent() {
        let (fixture, source) = Fixture::with_source();
        fixture.server.fail_next(Failure::delay(secs(20)));
        source.token().await.unwrap();
        advance(millis(74_999)).await;
        assert!(source.peek().is_some());
        advance(millis(1)).await;
        assert!(source.peek().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_callers_on_a_cold_cache_share_one_request() {
        let fixture = Fixture::new();
        let results = call_all(&fixture.source(), 10_000).await;
        assert_eq!(results.len(), 10_000);
        assert_eq!(token_texts(results).len(), 1);
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn ten_thousand_callers_on_many_threads_share_one_request() {
        let server = AuthorizationServer::new();
        let cache = TokenCache::new(endpoint(&server));
        let start = Arc::new(tokio::sync::Semaphore::new(0));
        let callers: Vec<_> = (0..10_000)
            .map(|_| {
                // Each caller creates its own source, so the cache has to find the shared entry.
                let (cache, start) = (cache.clone(), start.clone());
                tokio::spawn(async move {
                    drop(start.acquire().await);
                    cache.source(request()).token().await
                })
            })
            .collect();
        start.add_permits(10_000);
        let mut results = Vec::new();
        for caller in callers {
            results.push(caller.await.unwrap());
        }
        assert_eq!(token_texts(results).len(), 1);
        assert_eq!(server.token_requests(), 1);
    }
}

mod failures {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_transient_failure_on_a_cold_cache_is_retried_once_and_shared() {
        let (fixture, source) = Fixture::with_source();
        numbered_failures(&fixture.server, 503, "temporarily_unavailable");

        let texts = error_texts(call_all(&source, 10_000).await);
        assert_eq!(texts.len(), 1);
        assert!(texts.iter().all(|text| text.contains("attempt 2")));
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_do_not_notice_a_first_transient_failure() {
        let fixture = Fixture::new();
        let started = now();
        fixture.server.fail_next(Failure::drop_connection());
        let results = call_all(&fixture.source(), 100).await;
        assert_eq!(token_texts(results).len(), 1);
        assert_eq!(fixture.requests(), 2);
        assert!(now() - started <= millis(400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_failure_is_shared_and_not_retried() {
        let (fixture, source) = Fixture::with_source();
        numbered_failures(&fixture.server, 401, "invalid_client");

        let texts = error_texts(call_all(&source, 10_000).await);
        assert_eq!(texts.len(), 1);
        assert_eq!(fixture.requests(), 1);

        let error = at_once(source.token()).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
        assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(
            error.error_response().map(|error| error.code()),
            Some(&ErrorCode::INVALID_CLIENT)
        );
    }

    /// Jitter shortens a pause by at most half, so nothing is sent before half of it, and a request may follow after all of it.
    #[tokio::test(start_paused = true)]
    async fn during_a_pause_callers_get_the_error_at_once_and_nothing_is_sent() {
        for (failure, first_requests, pauses) in [
            (Failure::status(503), 2, [1, 2, 4, 8, 16, 32, 60, 60]),
            (
                Failure::oauth("invalid_client"),
                1,
                [5, 10, 20, 40, 60, 60, 60, 60],
            ),
        ] {
            let (fixture, source) = Fixture::with_source();
            fixture.server.fail_until_told(failure);
            source.token().await.unwrap_err();
            for (n, pause) in pauses.into_iter().enumerate() {
                let sent = first_requests + n;
                assert_eq!(fixture.requests(), sent);
                let texts = error_texts(call_all(&source, 10).await);
                assert_eq!(texts.len(), 1);
                advance(secs(pause) / 2 - millis(1)).await;
                at_once(source.token()).unwrap_err();
                settle().await;
                assert_eq!(fixture.requests(), sent, "before a pause of {pause} s");
                advance(secs(pause) / 2 + millis(1)).await;
                source.token().await.unwrap_err();
                assert_eq!(fixture.requests(), sent + 1, "after a pause of {pause} s");
            }
            fixture.server.recover();
            advance(secs(60)).await;
            source.token().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_resets_the_pause_after_failures() {
        let fixture = Fixture::with_lifetime(secs(10));
        let source = fixture.source();
        fixture
            .server
            .fail_next_n(5, Failure::oauth("invalid_client"));
        for _ in 0..5 {
            source.token().await.unwrap_err();
            advance(secs(60)).await;
        }
        source.token().await.unwrap();
        advance(secs(10)).await;
        fixture.server.fail_next(Failure::oauth("invalid_client"));
        source.token().await.unwrap_err();
        advance(secs(5)).await;
        source.token().await.unwrap();
    }

    /// Row 14 (google-cloud-rust #4541, #4593, #5864).
    #[tokio::test(start_paused = true)]
    async fn the_cache_recovers_after_any_sequence_of_failures() {
        let failures = [
            Failure::status(503),
            Failure::status(429).retry_after(secs(20)),
            Failure::oauth("invalid_client"),
            Failure::drop_connection(),
            Failure::garbage(),
            Failure::stall(),
            Failure::truncate_body(10),
        ];
        for a in &failures {
            for b in &failures {
                for c in &failures {
                    let (fixture, source) = Fixture::with_source();
                    for failure in [a, b, c] {
                        fixture.server.fail_next(failure.clone());
                    }
                    let mut calls = 0;
                    while source.token().await.is_err() {
                        calls += 1;
                        assert!(calls <= 3, "after {a:?}, {b:?}, {c:?}");
                        advance(secs(60)).await;
                    }
                    assert_eq!(fixture.requests(), 4);
                }
            }
        }
    }

    /// Row 21 (most clients).
    #[tokio::test(start_paused = true)]
    async fn retry_after_is_obeyed_for_at_most_five_minutes() {
        for (seconds, pause) in [(0, 1), (7, 7), (300, 300), (301, 300), (1_000_000, 300)] {
            let (fixture, source) = Fixture::with_source();
            let failure = Failure::status(429).retry_after(secs(seconds));
            fixture.server.fail_next(failure);
            let error = source.token().await.unwrap_err();
            assert_eq!(error.retry_after(), Some(secs(seconds)));
            assert_eq!(fixture.requests(), 1, "the fetch was retried too early");

            if seconds > 0 {
                advance(secs(pause) - millis(1)).await;
                at_once(source.token()).unwrap_err();
                settle().await;
                assert_eq!(fixture.requests(), 1, "{seconds}");
                advance(millis(1)).await;
            } else {
                advance(secs(pause)).await;
            }
            source.token().await.unwrap();
            assert_eq!(fixture.requests(), 2, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_ends_at_the_fetch_timeout() {
        let server = AuthorizationServer::new();
        let fixture = Fixture::with(server, |cache| cache.fetch_timeout(secs(10)));
        fixture.server.fail_until_told(Failure::stall());
        let started = now();
        let error = fixture.source().token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Timeout);
        assert!(error.may_have_been_processed());
        assert_eq!(now() - started, secs(10));
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_fetch_timeout_covers_the_second_attempt() {
        let server = AuthorizationServer::new();
        let fixture = Fixture::with(server, |cache| cache.fetch_timeout(secs(10)));
        fixture
            .server
            .fail_next(Failure::status(502).delayed(secs(9)));
        fixture.server.fail_next(Failure::stall());
        let started = now();
        let error = fixture.source().token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Timeout);
        assert_eq!(now() - started, secs(10));
        assert_eq!(fixture.requests(), 2);
    }

    /// Row 28 (any retry layer): a credential that the server may have used must not be sent twice.
    #[tokio::test(start_paused = true)]
    async fn a_one_time_credential_is_not_sent_again_after_an_ambiguous_failure() {
        for (failure, requests) in [(Failure::drop_connection(), 1), (Failure::status(503), 2)] {
            let fixture = Fixture::new();
            fixture.server.fail_until_told(failure);
            let request = TokenRequest::refresh_token("once");
            let source = fixture.cache.source(request);
            source.token().await.unwrap_err();
            assert_eq!(fixture.requests(), requests);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failed_renewals_are_followed_by_pauses() {
        let fixture = Fixture::with_lifetime(secs(1000));
        let source = fixture.source();
        let token = source.token().await.unwrap();
        fixture.server.fail_until_told(Failure::status(503));
        advance(secs(500)).await;
        for _ in 0..1200 {
            assert_eq!(at_once(source.token()).unwrap(), token);
            settle().await;
            advance(millis(100)).await;
        }
        // Pauses of 1, 2, 4, 8, 16, 32 and 60 seconds fit into two minutes; if jitter halves them, three or four more do.
        let renewals = fixture.requests() - 1;
        assert!((6..=10).contains(&renewals), "{renewals}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsupported_token_type_is_an_error() {
        for token_type in ["N_A", "mac"] {
            let server = AuthorizationServer::builder().response_field("token_type", token_type);
            let fixture = Fixture::over(server.build());
            let source = fixture.source();
            let error = source.token().await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
            assert!(error.to_string().contains(token_type), "{error}");
            assert!(source.peek().is_none());
            at_once(source.token()).unwrap_err();
            assert_eq!(fixture.requests(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_an_unsupported_type_does_not_replace_a_valid_one() {
        let server = AuthorizationServer::builder();
        let fixture = Fixture::over(server.access_token_lifetime(secs(100)).build());
        let source = fixture.source();
        let token = source.token().await.unwrap();
        let answer = br#"{"access_token":"x","token_type":"N_A","expires_in":100}"#;
        fixture
            .server
            .respond_next(http::Response::new(bytes::Bytes::from_static(answer)));
        assert_eq!(
            source.renew().await.unwrap_err().kind(),
            TokenErrorKind::UnsupportedTokenType
        );
        assert_eq!(at_once(source.token()).unwrap(), token);
    }
}

mod polling {
    use super::*;

    /// RFC 8628 §3.5: "If no value is provided, clients MUST use 5 as the default."
    #[tokio::test(start_paused = true)]
    async fn the_polling_interval_is_obeyed_and_grows_by_five_seconds_after_each_slow_down() {
        for (interval, first) in [
            (None, 5_000),
            (Some(millis(10_000)), 10_000),
            (Some(millis(2_000)), 2_000),
            (Some(millis(0)), 1_000),
        ] {
            let fixture = Fixture::new();
            let mut request = TokenRequest::device_code("code");
            if let Some(interval) = interval {
                request = request.polling_interval(interval);
            }
            let source = fixture.cache.source(request);
            numbered_failures(&fixture.server, 400, "authorization_pending");
            let ask = || async {
                let error = source.token().await.unwrap_err();
                error.error_response().unwrap().code().clone()
            };
            assert_eq!(ask().await, ErrorCode::AUTHORIZATION_PENDING);
            advance(millis(first - 1)).await;
            ask().await;
            assert_eq!(fixture.requests(), 1, "{interval:?}");

            numbered_failures(&fixture.server, 400, "slow_down");
            advance(millis(1)).await;
            assert_eq!(ask().await, ErrorCode::SLOW_DOWN);
            assert_eq!(fixture.requests(), 2, "{interval:?}");
            advance(millis(first + 4_999)).await;
            ask().await;
            assert_eq!(fixture.requests(), 2, "{interval:?}");
            advance(millis(1)).await;
            ask().await;
            assert_eq!(fixture.requests(), 3, "{interval:?}");
        }
    }
}

mod fetches {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dropped_caller_does_not_cancel_the_fetch() {
        for polls in 0..8 {
            let (fixture, source) = Fixture::with_source();
            fixture.server.fail_next(Failure::delay(secs(2)));
            {
                let mut caller = task::spawn(source.token());
                for _ in 0..polls {
                    assert_pending!(caller.poll());
                    settle().await;
                    advance(millis(200)).await;
                }
            }
            source.token().await.unwrap();
            assert_eq!(fixture.requests(), 1, "dropped after {polls} polls");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_completes_after_every_caller_is_dropped() {
        let (fixture, source) = Fixture::with_source();
        fixture.server.fail_next(Failure::delay(secs(5)));
        timeout(secs(1), source.token()).await.unwrap_err();
        advance(secs(4)).await;
        settle().await;
        at_once(source.token()).unwrap();
        assert_eq!(fixture.requests(), 1);
    }

    struct SetOnDrop(Arc<AtomicBool>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// Row 13 (restate #5154, google-cloud-auth).
    #[tokio::test(start_paused = true)]
    async fn dropping_the_last_handle_cancels_the_fetch() {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = dropped.clone();
        let hanging = Endpoint::new(move |_| {
            let guard = SetOnDrop(flag.clone());
            async move {
                pending::<()>().await;
                drop(guard);
                Ok(token_response("never"))
            }
        });
        let cache = TokenCache::new(hanging.clone());
        let source = cache.source(request());
        assert_pending!(task::spawn(source.token()).poll());
        settle().await;
        assert_eq!(hanging.calls(), 1);

        drop(cache);
        settle().await;
        assert!(!dropped.load(Ordering::SeqCst));
        drop(source);
        settle().await;
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_alone_keeps_a_fetch_alive() {
        let fixture = Fixture::new();
        fixture.server.fail_next(Failure::delay(secs(5)));
        {
            let source = fixture.source();
            assert_pending!(task::spawn(source.token()).poll());
        }
        settle().await;
        advance(secs(5)).await;
        settle().await;
        at_once(fixture.source().token()).unwrap();
        assert_eq!(fixture.requests(), 1);
    }

    /// Row 30 (restate #5154 and similar bugs).
    #[test]
    fn a_missing_runtime_is_an_error_and_not_a_panic() {
        let server = AuthorizationServer::new();
        let cache = TokenCache::new(endpoint(&server));
        let source = cache.source(request());
        for error in [
            at_once(source.token()).unwrap_err(),
            at_once(source.renew()).unwrap_err(),
            at_once(source.warm_up()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
        }
        // The error is not remembered.
        let token = Runtime::new().unwrap().block_on(source.token()).unwrap();
        assert_eq!(server.token_requests(), 1);
        // A cached token needs no runtime.
        assert_eq!(at_once(source.token()).unwrap(), token);
    }

    #[test]
    fn a_stale_token_is_served_without_a_runtime() {
        let runtime = || runtime::Builder::new_current_thread().enable_all().build();
        let fixture = Fixture::with_lifetime(secs(3600));
        let source = fixture.source();
        let token = runtime().unwrap().block_on(source.token()).unwrap();
        fixture.clock.advance(secs(2000));
        assert_eq!(at_once(source.token()).unwrap(), token);
    }

    /// Returns an endpoint that hangs on its first request, and a signal that it was called.
    fn hangs_once() -> (Endpoint, Arc<Notify>) {
        let called = Arc::new(Notify::new());
        let calls = called.clone();
        let endpoint = Endpoint::new(move |call| {
            calls.notify_one();
            async move {
                if call == 1 {
                    pending::<()>().await;
                }
                Ok(token_response(format!("token-{call}")))
            }
        });
        (endpoint, called)
    }

    /// Starts a fetch that hangs on its own runtime.
    fn start_hanging_fetch() -> (Endpoint, TokenSource, Runtime) {
        let (endpoint, cache, runtime) = start_hanging_fetch_of_a_cache();
        (endpoint, cache.source(request()), runtime)
    }

    fn start_hanging_fetch_of_a_cache() -> (Endpoint, TokenCache, Runtime) {
        let (endpoint, called) = hangs_once();
        let cache = TokenCache::new(endpoint.clone());
        let source = cache.source(request());
        let runtime = current_thread();
        let fetching = source.clone();
        runtime.block_on(async {
            tokio::spawn(async move { fetching.token().await });
            called.notified().await;
        });
        (endpoint, cache, runtime)
    }

    fn check_that_a_waiter_takes_over(shut_down: impl FnOnce(Runtime)) {
        let (endpoint, source, first) = start_hanging_fetch();
        let second = current_thread();
        let mut waiting = task::spawn(source.token());
        second.block_on(async { assert_pending!(waiting.poll()) });
        shut_down(first);
        assert!(waiting.is_woken());
        let token = second.block_on(waiting).unwrap();
        assert_eq!(token, bearer("token-2"));
        assert_eq!(endpoint.calls(), 2);
    }

    /// Rows 30 and 13: the end of a runtime does not cause a panic.
    #[test]
    fn a_waiter_takes_over_the_fetch_of_a_runtime_that_has_shut_down() {
        check_that_a_waiter_takes_over(drop);
    }

    /// The task of the fetch is dropped while its thread panics. This must not look like a panic of the endpoint.
    #[test]
    fn a_waiter_takes_over_the_fetch_of_a_runtime_that_is_dropped_by_a_panic() {
        check_that_a_waiter_takes_over(|runtime| {
            let panicked = thread::spawn(move || {
                let _runtime = runtime;
                panic!("intended by the test");
            });
            panicked.join().unwrap_err();
        });
    }

    #[test]
    fn a_later_caller_takes_over_the_fetch_of_a_runtime_that_has_shut_down() {
        let (_, source, first) = start_hanging_fetch();
        drop(first);
        let token = current_thread().block_on(source.token()).unwrap();
        assert_eq!(token, bearer("token-2"));
    }

    /// Row 30 is about a runtime that is missing, and here none is.
    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_while_fetches_are_cancelled_again_and_again() {
        for every in [secs(1), millis(100)] {
            let slow = Endpoint::new(|call| async move {
                sleep(secs(3)).await;
                Ok(token_response(format!("token-{call}")))
            });
            let cache = TokenCache::new(slow.clone());
            let source = cache.source(request());
            let waiting = tokio::spawn(async move { call_all(&source, 10).await });
            let begun = now();
            while begun.elapsed() < secs(40) {
                sleep(every).await;
                cache.invalidate_all();
            }
            let tokens = token_texts(waiting.await.unwrap());
            assert_eq!(tokens, HashSet::from([format!("token-{}", slow.calls())]));
            assert!(begun.elapsed() < secs(44));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_does_not_wait_forever_while_fetches_are_cancelled() {
        let clock = ManualClock::new();
        let cache = TokenCache::builder(hangs()).clock(clock.clock()).build();
        let source = cache.source(request());
        let waiting = tokio::spawn(async move { source.token().await });
        let begun = now();
        while !waiting.is_finished() {
            sleep(secs(1)).await;
            cache.invalidate_all();
            assert!(begun.elapsed() < secs(300));
        }
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Timeout);
        assert!(error.to_string().contains("invalidated"), "{error}");
        assert!(begun.elapsed() > secs(100));
    }

    /// Nobody drives the runtime of the cancelled fetch, so its task is not dropped.
    #[test]
    fn a_caller_moves_on_at_once_when_the_fetch_of_an_undriven_runtime_is_cancelled() {
        let (_, cache, _first) = start_hanging_fetch_of_a_cache();
        let source = cache.source(request());
        let second = current_thread();
        let mut waiting = task::spawn(source.token());
        second.block_on(async { assert_pending!(waiting.poll()) });
        cache.invalidate_all();
        assert!(waiting.is_woken());
        assert_eq!(second.block_on(waiting).unwrap(), bearer("token-2"));
    }

    fn hangs() -> Endpoint {
        Endpoint::new(|_| pending())
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_the_endpoint_is_an_error_for_all_callers() {
        let panics = Endpoint::new(|call| async move {
            assert!(call > 1, "intended by the test");
            Ok(token_response("token"))
        });
        let cache = TokenCache::new(panics.clone());
        let source = cache.source(request());
        let texts = error_texts(call_all(&source, 100).await);
        assert_eq!(texts.len(), 1);
        assert!(texts.iter().all(|text| text.contains("panicked")));
        assert_eq!(panics.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_recovers_after_a_panic_of_the_endpoint() {
        let server = AuthorizationServer::new();
        let fixture = Fixture::over(server);
        let source = fixture.source();
        fixture.server.fail_when(|_| panic!("intended by the test"));
        source.token().await.unwrap_err();
        at_once(source.token()).unwrap_err();
        assert_eq!(fixture.requests(), 1);
        fixture.server.recover();
        advance(secs(1)).await;
        source.token().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_valid_token_survives_a_panic_of_the_endpoint() {
        let (fixture, source, token) = Fixture::with_token().await;
        fixture.server.fail_when(|_| panic!("intended by the test"));
        source.renew().await.unwrap_err();
        assert_eq!(at_once(source.token()).unwrap(), token);
    }
}

mod lifetimes {
    use super::*;

    fn with_expires_in(expires_in: impl Into<Value>) -> Fixture {
        let server = AuthorizationServer::builder().expires_in(expires_in);
        Fixture::over(server.build())
    }

    /// Asks for a token ten times a second for twenty seconds.
    async fn ask_eagerly(fixture: &Fixture) {
        let source = fixture.source();
        let end = now() + secs(20);
        while now() < end {
            let token = source.token().await.unwrap();
            assert!(fixture.server.is_active(token.expose_secret()));
            advance(millis(100)).await;
        }
    }

    #[track_caller]
    fn assert_spaced(fixture: &Fixture, spacing: Duration) {
        for pair in fixture.request_times().windows(2) {
            assert!(pair[1] - pair[0] >= spacing, "{:?}", pair[1] - pair[0]);
        }
    }

    /// Row 2 (google-cloud-rust #6678, openfga #388, aliri).
    #[tokio::test(start_paused = true)]
    async fn an_already_expired_token_goes_to_waiting_callers_at_most_once_per_second() {
        for expires_in in [
            json!(0),
            json!(-5),
            json!("0"),
            json!(0.000_001),
            json!(0.01),
        ] {
            let fixture = with_expires_in(expires_in.clone());
            let results = call_all(&fixture.source(), 100).await;
            assert_eq!(token_texts(results).len(), 1, "{expires_in}");
            assert_eq!(fixture.source().peek(), None);
            ask_eagerly(&fixture).await;
            assert_spaced(&fixture, secs(1));
            assert!(fixture.requests() >= 10, "{expires_in}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_with_a_lifetime_of_one_second_is_fetched_at_most_once_per_second() {
        let fixture = with_expires_in(1);
        let source = fixture.source();
        let token = source.token().await.unwrap();
        advance(millis(949)).await;
        assert_eq!(at_once(source.token()).unwrap(), token);
        ask_eagerly(&fixture).await;
        assert_spaced(&fixture, secs(1));
        assert!(fixture.requests() <= 22);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_or_invalid_lifetime_is_replaced_by_the_default() {
        let silent = AuthorizationServer::builder().omit_expires_in(true).build();
        let fixtures = [
            Fixture::over(silent.clone()),
            with_expires_in(json!(null)),
            with_expires_in(json!("soon")),
            with_expires_in(json!({})),
        ];
        for fixture in fixtures {
            let source = fixture.source();
            source.token().await.unwrap();
            advance(millis(289_999)).await;
            assert!(source.peek().is_some(), "expired before 4:50 minutes");
            advance(millis(1)).await;
            assert!(source.peek().is_none());
        }
        let fixture = Fixture::with(silent, |cache| cache.default_lifetime(secs(20)));
        let source = fixture.source();
        source.token().await.unwrap();
        advance(millis(18_999)).await;
        assert!(source.peek().is_some());
        advance(millis(1)).await;
        assert!(source.peek().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_huge_lifetime_does_not_panic() {
        for expires_in in [json!(1e20), json!(u64::MAX), json!(i64::MAX), json!(1e300)] {
            let fixture = with_expires_in(expires_in);
            let source = fixture.source();
            source.token().await.unwrap();
            advance(secs(60)).await;
            at_once(source.token()).unwrap();
        }
        let silent = AuthorizationServer::builder().omit_expires_in(true).build();
        let fixture = Fixture::with(silent, |cache| cache.default_lifetime(Duration::MAX));
        fixture.source().token().await.unwrap();
        at_once(fixture.source().token()).unwrap();
    }

    /// Row 15 (smithy-rs #3402): this holds for the default windows and any jitter. See also `properties.rs`.
    #[tokio::test(start_paused = true)]
    async fn at_most_two_fetches_happen_within_one_lifetime() {
        for lifetime in [1, 2, 3, 5, 60, 3600].map(secs) {
            for _ in 0..20 {
                let server = AuthorizationServer::builder().access_token_lifetime(lifetime);
                let fixture = Fixture::with(server.build(), |cache| {
                    cache.refresh_window(RefreshWindow::new())
                });
                let source = fixture.source();
                for _ in 0..500 {
                    let token = source.token().await.unwrap();
                    assert!(fixture.server.is_active(token.expose_secret()));
                    settle_briefly().await;
                    advance(lifetime / 100).await;
                }
                let times = fixture.request_times();
                for three in times.windows(3) {
                    assert!(three[2] - three[0] >= lifetime, "{lifetime:?} {times:?}");
                }
                assert!(times.len() >= 5, "{lifetime:?}");
            }
        }
    }

    async fn settle_briefly() {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }

    /// Row 23 (WSO2 api-manager #773 makes clients spin).
    #[tokio::test(start_paused = true)]
    async fn a_server_that_keeps_returning_the_same_token_gets_few_requests() {
        for lifetime in [10, 60, 3600].map(secs) {
            let fixture = Fixture::with_lifetime(lifetime);
            fixture.server.same_token(true);
            let source = fixture.source();
            let started = now();
            while now() - started < lifetime {
                source.token().await.unwrap();
                settle_briefly().await;
                advance(millis(50)).await;
            }
            let fetches = fixture.requests();
            assert!((2..=8).contains(&fetches), "{lifetime:?}: {fetches}");
            for pair in fixture.request_times().windows(2) {
                assert!(pair[1] - pair[0] >= secs(1));
            }
        }
    }

    /// Row 17 (tokio #3185, huskarl, google-cloud-auth).
    #[tokio::test(start_paused = true)]
    async fn a_token_expires_while_the_host_is_suspended() {
        let fixture = Fixture::with_lifetime(secs(3600));
        let source = fixture.source();
        let old = source.token().await.unwrap();
        fixture.clock.suspend(secs(7200));
        assert!(source.peek().is_none());
        assert_ne!(source.token().await.unwrap(), old);
        assert_eq!(fixture.requests(), 2);
    }

    /// Row 17.
    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_back_does_not_extend_the_life_of_a_token() {
        let fixture = Fixture::with_lifetime(secs(3600));
        let source = fixture.source();
        source.token().await.unwrap();
        fixture.clock.set_wall_back(secs(7200));
        advance(secs(1799)).await;
        at_once(source.token()).unwrap();
        settle().await;
        assert_eq!(fixture.requests(), 1);
        advance(millis(1_790_999)).await;
        assert!(source.peek().is_some());
        advance(millis(1)).await;
        assert!(source.peek().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_back_does_not_extend_a_pause() {
        let (fixture, source) = Fixture::with_source();
        fixture.server.fail_next(Failure::oauth("invalid_client"));
        source.token().await.unwrap_err();
        fixture.clock.set_wall_back(secs(7200));
        advance(secs(5)).await;
        source.token().await.unwrap();
    }
}

mod refusals {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_replaced() {
        let (fixture, source, refused) = Fixture::with_token().await;
        source.invalidate(&refused);
        assert!(source.peek().is_none());
        assert_ne!(source.token().await.unwrap(), refused);
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn invalidating_an_unknown_token_changes_nothing() {
        let (_fixture, source, token) = Fixture::with_token().await;
        source.invalidate(&bearer("never seen"));
        let dpop = AccessToken::new(token.expose_secret(), TokenType::DPOP).unwrap();
        source.invalidate(&dpop);
        assert_eq!(at_once(source.token()).unwrap(), token);
    }

    #[tokio::test(start_paused = true)]
    async fn invalidate_returns_what_became_of_the_token() {
        let (_fixture, source, first) = Fixture::with_token().await;
        assert_eq!(
            source.invalidate(&bearer("unknown")),
            Invalidation::Replaced
        );
        assert_eq!(source.invalidate(&first), Invalidation::Dropped);
        assert_eq!(source.invalidate(&first), Invalidation::Replaced);
        let second = source.token().await.unwrap();
        assert_eq!(source.invalidate(&first), Invalidation::Replaced);
        assert_eq!(source.invalidate(&second), Invalidation::Dropped);
        let third = source.token().await.unwrap();
        assert_eq!(source.invalidate(&third), Invalidation::Kept);
        assert_eq!(source.peek(), Some(third));
    }

    #[tokio::test(start_paused = true)]
    async fn a_discarded_token_does_not_count_as_refused() {
        let (fixture, source, _) = Fixture::with_token().await;
        for fetches in 2..=10 {
            source.discard();
            assert_eq!(source.peek(), None);
            source.token().await.unwrap();
            assert_eq!(fixture.requests(), fetches);
        }
        // So the first two refusals still count as the first two.
        for _ in 0..2 {
            let token = source.token().await.unwrap();
            assert_eq!(source.invalidate(&token), Invalidation::Dropped);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_discarded_even_while_refused_tokens_are_kept() {
        let fixture = Fixture::with_lifetime(secs(1_000_000));
        let source = fixture.source();
        replacements(&fixture, 1).await;
        let token = source.token().await.unwrap();
        assert_eq!(source.invalidate(&token), Invalidation::Kept);
        source.discard();
        assert_ne!(source.token().await.unwrap(), token);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_renewal_replaces_the_refused_token() {
        let (fixture, source, refused) = Fixture::with_token().await;
        advance(secs(50)).await;
        fixture.server.fail_next(Failure::delay(secs(3)));
        assert_eq!(at_once(source.token()).unwrap(), refused);
        settle().await;
        source.invalidate(&refused);
        assert_ne!(source.token().await.unwrap(), refused);
        assert_eq!(fixture.requests(), 2);
    }

    /// Refuses every token, every second, and returns the seconds at which a token was replaced.
    async fn replacements(fixture: &Fixture, seconds: u64) -> Vec<u64> {
        let source = fixture.source();
        let mut token = source.token().await.unwrap();
        let mut replaced = Vec::new();
        for second in 0..seconds {
            // The replacement is refused at once too.
            for _ in 0..2 {
                source.invalidate(&token);
                let next = source.token().await.unwrap();
                if next != token {
                    replaced.push(second);
                    token = next;
                }
            }
            advance(secs(1)).await;
        }
        replaced
    }

    #[tokio::test(start_paused = true)]
    async fn two_refused_tokens_are_replaced_at_once_and_later_ones_after_doubling_pauses() {
        let fixture = Fixture::with_lifetime(secs(1_000_000));
        let replaced = replacements(&fixture, 1300).await;
        let pauses = [0, 5, 10, 20, 40, 80, 160, 300, 300, 300];
        let mut second = 0;
        let mut expected = vec![0];
        for pause in pauses {
            second += pause;
            expected.push(second);
        }
        expected.retain(|second| *second < 1300);
        assert_eq!(replaced, expected);
    }

    /// The quiet period is one minute, or twice the last pause.
    #[tokio::test(start_paused = true)]
    async fn two_refused_tokens_are_replaced_at_once_again_after_a_quiet_period() {
        for (refused_for, quiet) in [(1, secs(60)), (36, secs(80)), (76, secs(160))] {
            for (waited, expected) in [(quiet - millis(1), 1), (quiet, 2)] {
                let fixture = Fixture::with_lifetime(secs(1_000_000));
                replacements(&fixture, refused_for).await;
                // One second has already passed.
                advance(waited - secs(1)).await;
                let replaced = replacements(&fixture, 1).await;
                assert_eq!(replaced.len(), expected, "{refused_for} s, {waited:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_revoked_once_a_minute_is_always_replaced_at_once() {
        let fixture = Fixture::with_lifetime(secs(1_000_000));
        let source = fixture.source();
        for n in 0..50 {
            let token = source.token().await.unwrap();
            source.invalidate(&token);
            assert_ne!(source.token().await.unwrap(), token, "{n}");
            advance(secs(60)).await;
        }
    }
}

mod handles {
    use super::*;

    #[test]
    fn handles_are_clone_send_and_sync_without_type_parameters() {
        fn is_handle<T: Clone + Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
        is_handle::<TokenCache>();
        is_handle::<TokenSource>();
        is_handle::<tower_oauth2_client::AddAccessTokenLayer>();
        fn is_send<T: Send>(_: &T) {}
        let source = TokenSource::fixed(bearer("t"));
        is_send(&source.token());
        is_send(&source.renew());
        is_send(&source.warm_up());
        is_send(&source.subscribe().changed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_need_be_neither_sync_nor_debug() {
        let not_sync = std::cell::Cell::new(0);
        let stack = tower::util::service_fn(move |_: TokenRequest| {
            not_sync.set(not_sync.get() + 1);
            async { Ok::<_, BoxError>(token_response("token")) }
        });
        let cache = TokenCache::new(stack);
        cache.source(request()).token().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn clones_share_the_token() {
        let fixture = Fixture::new();
        let token = fixture.source().token().await.unwrap();
        let clone = fixture.cache.clone().source(request()).clone();
        assert_eq!(at_once(clone.token()).unwrap(), token);
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn renew_fetches_while_the_old_token_is_served() {
        let (fixture, source, old) = Fixture::with_token().await;
        advance(secs(1)).await;
        fixture.server.fail_next(Failure::delay(secs(3)));
        let mut first = task::spawn(source.renew());
        let mut second = task::spawn(source.renew());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        settle().await;
        assert_eq!(at_once(source.token()).unwrap(), old);
        advance(secs(3)).await;
        settle().await;
        let new = assert_ready!(first.poll()).unwrap();
        assert_ne!(new, old);
        assert_eq!(assert_ready!(second.poll()).unwrap(), new);
        assert_eq!(at_once(source.token()).unwrap(), new);
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn renew_sends_at_most_one_request_per_second() {
        let (fixture, source) = Fixture::with_source();
        for _ in 0..10 {
            source.renew().await.unwrap();
        }
        for pair in fixture.request_times().windows(2) {
            assert!(pair[1] - pair[0] >= secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renew_sends_at_most_one_request_per_second_to_a_failing_server() {
        for failure in [Failure::status(503), Failure::oauth("invalid_client")] {
            let (fixture, source) = Fixture::with_source();
            source.token().await.unwrap();
            fixture.server.fail_until_told(failure);
            let started = now();
            for _ in 0..10_000 {
                source.renew().await.unwrap_err();
                advance(millis(1)).await;
            }
            let elapsed = (now() - started).as_secs() as usize;
            assert!(fixture.requests() <= elapsed + 2, "{}", fixture.requests());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn warm_up_fetches_once() {
        let (fixture, source) = Fixture::with_source();
        source.warm_up().await.unwrap();
        source.warm_up().await.unwrap();
        at_once(source.token()).unwrap();
        assert_eq!(fixture.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn peek_does_not_start_a_fetch() {
        let (fixture, source) = Fixture::with_source();
        assert_eq!(source.peek(), None);
        let token = source.token().await.unwrap();
        advance(secs(60)).await;
        assert_eq!(source.peek(), Some(token));
        advance(secs(60)).await;
        assert_eq!(source.peek(), None);
        settle().await;
        assert_eq!(fixture.requests(), 1);
    }

    #[test]
    fn a_fixed_token_never_changes_and_needs_no_runtime() {
        let source = TokenSource::fixed(bearer("fixed"));
        assert_eq!(source.invalidate(&bearer("fixed")), Invalidation::Kept);
        assert_eq!(source.invalidate(&bearer("other")), Invalidation::Replaced);
        source.discard();
        at_once(source.warm_up()).unwrap();
        assert_eq!(at_once(source.token()).unwrap(), bearer("fixed"));
        assert_eq!(at_once(source.renew()).unwrap(), bearer("fixed"));
        assert_eq!(source.peek(), Some(bearer("fixed").into()));
        let mut changes = source.subscribe();
        assert_eq!(
            at_once(changes.changed()).unwrap(),
            Some(bearer("fixed").into())
        );
        assert_eq!(at_once(changes.changed()).unwrap(), None);
        assert_eq!(at_once(changes.changed()).unwrap(), None);
    }
}

mod stacks {
    use super::*;

    fn stack(fixture: &AuthorizationServer) -> TokenCache {
        let policy = RetryTransient::new().max_retries(3);
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::new(policy))
            .concurrency_limit(1)
            .timeout(secs(5))
            .service(endpoint(fixture));
        TokenCache::new(stack)
    }

    #[tokio::test(start_paused = true)]
    async fn tower_layers_work_between_endpoint_and_cache() {
        let server = AuthorizationServer::new();
        server.fail_next(Failure::stall());
        server.fail_next(Failure::status(503));
        server.fail_next(Failure::drop_connection());
        let source = stack(&server).source(request());
        let results = call_all(&source, 100).await;
        assert_eq!(token_texts(results).len(), 1);
        assert_eq!(server.token_requests(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_concurrency_limit_in_the_stack_applies_across_all_tokens() {
        let server = AuthorizationServer::new();
        server.fail_until_told(Failure::delay(secs(1)));
        let cache = stack(&server);
        let callers: Vec<_> = (0..10)
            .map(|n| {
                let source = cache.source(request().parameter("n", n.to_string()));
                tokio::spawn(async move { source.token().await })
            })
            .collect();
        let mut tokens = HashSet::new();
        for caller in callers {
            let token = caller.await.unwrap().unwrap();
            tokens.insert(token.expose_secret().to_owned());
        }
        assert_eq!(tokens.len(), 10);
        assert_eq!(server.in_flight_peak(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_of_the_stack_keep_their_kind() {
        let server = AuthorizationServer::new();
        server.fail_until_told(Failure::stall());
        let timeout = ServiceBuilder::new().timeout(secs(2));
        let cache = TokenCache::new(timeout.service(endpoint(&server)));
        let error = cache.source(request()).token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Timeout);

        server.fail_until_told(Failure::oauth("invalid_scope"));
        let cache = stack(&server);
        let error = cache.source(request()).token().await.unwrap_err();
        assert_eq!(
            error.error_response().map(|error| error.code()),
            Some(&ErrorCode::INVALID_SCOPE)
        );
    }
}
