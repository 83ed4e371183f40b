//! Fetches on runtimes that nobody drives, that have no timers, or that were set for the cache.
//!
//! These tests use real time, because each runtime has a clock of its own. They allow for slow machines: what takes a second may take
//! five, but not the minute that the limits of a fetch add up to.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    future::{Future, pending, poll_fn},
    panic,
    pin::pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, ThreadId},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
    time::{advance, sleep, timeout},
};
use tower::ServiceExt;
use tower_oauth2_client::{
    IssuedToken, TokenCache, TokenError, TokenErrorKind, TokenRequest, TokenResponse, TokenSource,
    test_util::{AuthorizationServer, ManualClock},
};

use self::cache_support::{
    Endpoint, at_once, bearer, call_all, current_thread, millis, request, secs, settle,
    token_response,
};

/// About a second, on a slow machine.
const SOON: Duration = secs(5);

/// Calls the source on a thread with a runtime of its own, and waits until the fetch has begun.
fn begin_elsewhere(endpoint: &Endpoint, source: &TokenSource) -> thread::JoinHandle<IssuedToken> {
    let source = source.clone();
    let first = thread::spawn(move || current_thread().block_on(source.token()).unwrap());
    while endpoint.calls() < 1 {
        thread::sleep(millis(1));
    }
    first
}

#[allow(clippy::disallowed_methods, reason = "the rule is for `src/`")]
fn now() -> Instant {
    Instant::now()
}

/// Runs a future on any executor that is not tokio's.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// An endpoint that answers after this time.
fn answers_after(time: Duration) -> Endpoint {
    Endpoint::new(move |call| async move {
        sleep(time).await;
        Ok(token_response(format!("token-{call}")))
    })
}

/// An endpoint that answers each request but the first, which hangs.
fn hangs_once() -> Endpoint {
    Endpoint::new(|call| async move {
        if call == 1 {
            pending::<()>().await;
        }
        Ok(token_response(format!("token-{call}")))
    })
}

/// Polls a future for a moment on a runtime, which nobody drives afterwards.
fn leave<F: Future>(runtime: &Runtime, future: F) {
    let left = runtime.block_on(async { timeout(millis(20), future).await });
    assert!(left.is_err(), "it has completed");
}

/// Drives a runtime for this time.
fn drive(runtime: &Runtime, time: Duration) {
    runtime.block_on(async { sleep(time).await });
}

/// Returns what the runtime of a new thread makes of the future, and how long it took.
fn on_another_runtime<F>(future: impl FnOnce() -> F + Send + 'static) -> (F::Output, Duration)
where
    F: Future,
    F::Output: Send + 'static,
{
    let thread = thread::spawn(move || {
        let begun = now();
        (current_thread().block_on(future()), begun.elapsed())
    });
    thread.join().unwrap()
}

mod undriven {
    use super::*;

    #[test]
    fn a_fetch_of_a_runtime_that_was_left_delays_others_by_about_a_second() {
        let endpoint = answers_after(millis(50));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let left = current_thread();
        leave(&left, source.token());
        let (token, took) = on_another_runtime({
            let source = source.clone();
            move || async move { source.token().await }
        });
        assert_eq!(token.unwrap(), bearer("token-2"));
        assert!(took > millis(500) && took < SOON, "{took:?}");

        // When somebody drives the old runtime again, its fetch is over.
        drive(&left, millis(200));
        assert_eq!(source.peek(), Some(bearer("token-2").into()));
        assert_eq!(endpoint.calls(), 2);
        assert_eq!(left.metrics().num_alive_tasks(), 0);
    }

    #[test]
    fn a_fetch_of_a_runtime_whose_thread_is_blocked_delays_others_by_about_a_second() {
        let endpoint = answers_after(millis(50));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let blocked = {
            let source = source.clone();
            thread::spawn(move || {
                current_thread().block_on(async {
                    let _ = timeout(millis(5), source.token()).await;
                    begun.send(()).unwrap();
                    let _ = released.recv();
                    // Late, it gets the token that the others have got.
                    source.token().await.unwrap()
                })
            })
        };
        has_begun.recv().unwrap();
        let (token, took) = on_another_runtime(move || async move { source.token().await });
        assert!(took < SOON, "{took:?}");
        drop(release);
        assert_eq!(blocked.join().unwrap(), token.unwrap());
        assert_eq!(endpoint.calls(), 2);
    }

    /// The task of the fetch waits in a slot of the blocked thread, from which no other thread takes it.
    #[test]
    fn a_fetch_of_a_blocked_worker_delays_other_workers_by_about_a_second() {
        let endpoint = answers_after(millis(50));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let blocked = runtime.spawn({
            let source = source.clone();
            async move {
                let mut token = pin!(source.token());
                poll_fn(|cx| {
                    assert!(token.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                begun.send(()).unwrap();
                let _ = released.recv();
                token.await.unwrap()
            }
        });
        has_begun.recv().unwrap();
        let start = now();
        let other = runtime.spawn({
            let source = source.clone();
            async move { source.token().await }
        });
        let token = runtime.block_on(other).unwrap().unwrap();
        let took = start.elapsed();
        assert!(took < SOON, "{took:?}");
        drop(release);
        assert_eq!(runtime.block_on(blocked).unwrap(), token);
        assert!(endpoint.calls() <= 2);
    }

    #[test]
    fn many_waiters_start_one_fetch_in_place_of_an_undriven_one() {
        let endpoint = answers_after(millis(300));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let left = current_thread();
        leave(&left, source.token());
        let start = now();
        let others: Vec<_> = (0..3)
            .map(|_| {
                let source = source.clone();
                thread::spawn(move || current_thread().block_on(call_all(&source, 100)))
            })
            .collect();
        for tokens in others.into_iter().map(|other| other.join().unwrap()) {
            assert!(
                tokens
                    .into_iter()
                    .all(|token| token.unwrap() == bearer("token-2"))
            );
        }
        assert_eq!(endpoint.calls(), 2);
        assert!(start.elapsed() < SOON);
    }

    /// It has no timer to look for itself, so it depends on the other waiter.
    #[test]
    fn a_waiter_without_timers_follows_one_that_takes_over() {
        let endpoint = answers_after(millis(300));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let left = current_thread();
        leave(&left, source.token());
        let bare = {
            let source = source.clone();
            thread::spawn(move || block_on(source.token()).unwrap())
        };
        thread::sleep(millis(100));
        let (token, _) = on_another_runtime(move || async move { source.token().await });
        assert_eq!(bare.join().unwrap(), token.unwrap());
        assert_eq!(endpoint.calls(), 2);
    }

    /// As in a pool of blocking threads, each of which gives up soon.
    #[test]
    fn a_waiter_takes_over_from_one_that_has_taken_over_and_left() {
        let endpoint = answers_after(secs(3600));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let mut left = Vec::new();
        for fetches in 1..=3 {
            let runtime = current_thread();
            runtime.block_on(async {
                let waiting = async {
                    let mut token = pin!(source.token());
                    while endpoint.calls() < fetches {
                        let _ = timeout(millis(50), token.as_mut()).await;
                    }
                };
                timeout(SOON, waiting).await.expect("it has not taken over");
            });
            left.push(runtime);
        }
        assert_eq!(endpoint.calls(), 3);
    }

    /// None of them waits for long enough to see that the fetch is not driven.
    #[test]
    fn callers_with_short_limits_take_over_together() {
        for limit in [millis(30), millis(300)] {
            let endpoint = answers_after(millis(10));
            let source = TokenCache::new(endpoint.clone()).source(request());
            let left = current_thread();
            left.block_on(async {
                let mut token = pin!(source.token());
                while endpoint.calls() == 0 {
                    let _ = timeout(Duration::ZERO, token.as_mut()).await;
                }
            });
            let (took, _) = on_another_runtime({
                let source = source.clone();
                move || async move {
                    let start = now();
                    while timeout(limit, source.token()).await.is_err() {}
                    start.elapsed()
                }
            });
            assert!(took > millis(500) && took < SOON, "{took:?}");
            assert_eq!(endpoint.calls(), 2);
        }
    }

    /// Their limits end, but the fetch goes on.
    #[test]
    fn callers_with_short_limits_do_not_take_over_a_slow_fetch() {
        let endpoint = answers_after(secs(4));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let first = begin_elsewhere(&endpoint, &source);
        on_another_runtime(move || async move {
            while timeout(millis(100), source.token()).await.is_err() {}
        });
        first.join().unwrap();
        assert_eq!(endpoint.calls(), 1);
    }

    /// There is nowhere to take it over to, so it waits.
    #[test]
    fn a_caller_without_a_runtime_does_not_take_over() {
        let clock = ManualClock::new();
        let endpoint = answers_after(secs(1));
        let cache = TokenCache::builder(endpoint.clone()).clock(clock.clock());
        let source = cache.build().source(request());
        let left = current_thread();
        leave(&left, source.token());
        for _ in 0..10 {
            let mut waiting = Box::pin(source.token());
            let polled = waiting
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            clock.advance(millis(600));
        }
        assert_eq!(endpoint.calls(), 1);
        left.block_on(source.token()).unwrap();
    }

    #[test]
    fn a_stale_token_is_renewed_although_the_runtime_of_its_renewal_was_left() {
        let endpoint = Endpoint::new(|call| async move {
            if call == 2 {
                pending::<()>().await;
            }
            Ok(token_response(format!("token-{call}")))
        });
        let clock = ManualClock::new();
        let cache = TokenCache::builder(endpoint.clone()).clock(clock.clock());
        let source = cache.build().source(request());
        let left = current_thread();
        left.block_on(source.token()).unwrap();
        clock.advance(secs(3500));
        // It begins the renewal.
        left.block_on(async {
            assert_eq!(at_once(source.token()).unwrap(), bearer("token-1"));
            sleep(millis(10)).await;
        });
        assert_eq!(endpoint.calls(), 2);
        current_thread().block_on(async {
            let start = now();
            while source.token().await.unwrap() != bearer("token-3") {
                assert!(start.elapsed() < secs(10));
                sleep(millis(20)).await;
            }
        });
        assert_eq!(endpoint.calls(), 3);
    }

    #[test]
    fn keep_warm_moves_to_another_runtime_when_its_own_was_left() {
        let endpoint = Endpoint::new(|call| async move {
            Ok(TokenResponse::builder(bearer(format!("token-{call}")))
                .expires_in(secs(4))
                .build())
        });
        let source = TokenCache::new(endpoint.clone()).source(request());
        let left = current_thread();
        left.block_on(async {
            source.keep_warm().unwrap();
            source.warm_up().await.unwrap();
        });
        thread::sleep(secs(5));
        current_thread().block_on(async {
            let start = now();
            while source.peek().is_none() {
                source.keep_warm().unwrap();
                sleep(millis(50)).await;
                assert!(start.elapsed() < SOON);
            }
        });
        assert_eq!(endpoint.calls(), 2);
    }

    mod slow_servers {
        use super::*;

        #[test]
        fn a_slow_answer_on_a_driven_runtime_is_one_request() {
            let endpoint = answers_after(secs(4));
            let source = TokenCache::new(endpoint.clone()).source(request());
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let source = source.clone();
                    thread::spawn(move || current_thread().block_on(source.token()).unwrap())
                })
                .collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), bearer("token-1"));
            }
            assert_eq!(endpoint.calls(), 1);
        }

        #[tokio::test(start_paused = true)]
        async fn a_slow_answer_is_one_request_however_time_passes() {
            for steps in [vec![10], vec![60, 60, 60], vec![5; 50]] {
                let endpoint = Endpoint::new(|call| async move {
                    sleep(secs(25)).await;
                    Ok(token_response(format!("token-{call}")))
                });
                let clock = ManualClock::new();
                let cache = TokenCache::builder(endpoint.clone()).clock(clock.clock());
                let source = cache.build().source(request());
                let waiting = {
                    let source = source.clone();
                    tokio::spawn(async move { call_all(&source, 20).await })
                };
                settle().await;
                for step in steps {
                    advance(secs(step)).await;
                }
                let tokens = waiting.await.unwrap();
                assert!(tokens.into_iter().all(|token| token.is_ok()));
                assert_eq!(endpoint.calls(), 1);
            }
        }

        /// The host was suspended, and its clocks were set.
        #[tokio::test(start_paused = true)]
        async fn a_slow_answer_is_one_request_whatever_the_clocks_do() {
            let endpoint = answers_after(secs(10));
            let clock = ManualClock::new();
            let cache = TokenCache::builder(endpoint.clone()).clock(clock.clock());
            let source = cache.build().source(request());
            let waiting = {
                let source = source.clone();
                tokio::spawn(async move { call_all(&source, 20).await })
            };
            for step in 0..40 {
                sleep(millis(200)).await;
                match step % 4 {
                    0 => clock.suspend(secs(20)),
                    1 => clock.set_wall_back(secs(3600)),
                    2 => clock.advance(millis(700)),
                    _ => {}
                }
            }
            let tokens = waiting.await.unwrap();
            assert!(tokens.into_iter().all(|token| token.is_ok()));
            assert_eq!(endpoint.calls(), 1);
        }

        /// It does not return to the runtime while it signs, resolves a name, or waits for a lock.
        #[test]
        fn an_endpoint_that_blocks_its_thread_gets_one_request() {
            let endpoint = Endpoint::new(|call| async move {
                thread::sleep(secs(3));
                Ok(token_response(format!("token-{call}")))
            });
            let source = TokenCache::new(endpoint.clone()).source(request());
            let first = begin_elsewhere(&endpoint, &source);
            let (token, _) = on_another_runtime(move || async move { source.token().await });
            assert_eq!(token.unwrap(), first.join().unwrap());
            assert_eq!(endpoint.calls(), 1);
        }

        /// Whatever blocks the fetch blocks its waiters too, so they cannot tell; each time they come back, so does the fetch.
        #[test]
        fn a_busy_runtime_sends_one_request_for_its_own_callers() {
            let endpoint = answers_after(secs(6));
            let source = TokenCache::new(endpoint.clone()).source(request());
            let tokens = current_thread().block_on(async {
                tokio::spawn(async {
                    loop {
                        thread::sleep(millis(1300));
                        tokio::task::yield_now().await;
                    }
                });
                let limited = source.clone();
                tokio::spawn(async move {
                    while timeout(millis(100), limited.token()).await.is_err() {}
                });
                call_all(&source, 10).await
            });
            assert!(tokens.into_iter().all(|token| token.is_ok()));
            assert_eq!(endpoint.calls(), 1);
        }

        /// The waiter was away, and the fetch was not.
        #[test]
        fn a_waiter_that_was_blocked_itself_does_not_take_over() {
            let endpoint = answers_after(secs(5));
            let source = TokenCache::new(endpoint.clone()).source(request());
            let first = begin_elsewhere(&endpoint, &source);
            let token = current_thread().block_on(async {
                let mut token = pin!(source.token());
                for _ in 0..3 {
                    let _ = timeout(millis(1), token.as_mut()).await;
                    thread::sleep(millis(1100));
                }
                token.await.unwrap()
            });
            assert_eq!(token, first.join().unwrap());
            assert_eq!(endpoint.calls(), 1);
        }
    }

    mod one_time_credentials {
        use super::*;

        fn refreshing() -> TokenRequest {
            TokenRequest::refresh_token("rt-0")
        }

        /// The texts of the refresh tokens that were sent and told.
        #[derive(Clone, Default)]
        struct Told(Arc<Mutex<Vec<String>>>);

        impl Told {
            fn all(&self) -> Vec<String> {
                self.0.lock().unwrap().clone()
            }
        }

        fn answer(call: usize) -> TokenResponse {
            TokenResponse::builder(bearer(format!("token-{call}")))
                .expires_in(secs(3600))
                .refresh_token(format!("rt-{call}"))
                .build()
        }

        fn cache(endpoint: &Endpoint) -> (TokenCache, Told) {
            let told = Told::default();
            let tell = told.clone();
            let cache = TokenCache::builder(endpoint.clone())
                .fetch_timeout(millis(300))
                .on_refresh_token(move |_, token| {
                    tell.0
                        .lock()
                        .unwrap()
                        .push(token.expose_secret().to_owned());
                    async {}
                })
                .build();
            (cache, told)
        }

        /// Starts the fetch without polling its task.
        fn start(runtime: &Runtime, source: &TokenSource) {
            let _entered = runtime.enter();
            let mut token = pin!(source.token());
            let polled = token.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }

        #[test]
        fn a_refresh_token_that_was_not_sent_yet_is_sent_once_by_the_waiter() {
            let endpoint = Endpoint::new(|call| async move { Ok(answer(call)) });
            let (cache, told) = cache(&endpoint);
            let source = cache.source(refreshing());
            let left = current_thread();
            start(&left, &source);
            let (token, took) = on_another_runtime({
                let source = source.clone();
                move || async move { source.token().await }
            });
            assert_eq!(token.unwrap(), bearer("token-1"));
            assert!(took < SOON, "{took:?}");
            drive(&left, millis(100));
            assert_eq!(endpoint.calls(), 1);
            assert_eq!(told.all(), ["rt-1"]);
            assert_eq!(left.metrics().num_alive_tasks(), 0);
        }

        #[test]
        fn a_refresh_token_that_may_have_been_sent_is_not_sent_again_before_the_limit() {
            let endpoint = Endpoint::new(|call| async move {
                sleep(millis(100)).await;
                Ok(answer(call))
            });
            let (cache, told) = cache(&endpoint);
            let source = cache.source(refreshing());
            let left = current_thread();
            leave(&left, source.token());
            let waiting = thread::spawn({
                let source = source.clone();
                move || current_thread().block_on(source.token()).unwrap()
            });
            thread::sleep(secs(4));
            assert_eq!(endpoint.calls(), 1);
            // Now somebody drives it again.
            drive(&left, millis(500));
            assert_eq!(waiting.join().unwrap(), bearer("token-1"));
            assert_eq!(endpoint.calls(), 1);
            assert_eq!(told.all(), ["rt-1"]);
        }

        /// Returns a source whose first fetch was left after its request was sent, and has become overdue.
        fn overdue(endpoint: &Endpoint) -> (TokenSource, Told, Runtime) {
            let (cache, told) = cache(endpoint);
            let source = cache.source(refreshing());
            let left = current_thread();
            leave(&left, source.token());
            // The limit of the attempts, that of `on_refresh_token`, and five seconds.
            thread::sleep(millis(5700));
            (source, told, left)
        }

        #[test]
        fn a_late_landing_displaces_nothing_newer() {
            let endpoint = Endpoint::new(|call| async move {
                if call == 1 {
                    poll_once_more().await;
                }
                Ok(answer(call))
            });
            let (source, told, left) = overdue(&endpoint);
            let runtime = current_thread();
            assert_eq!(runtime.block_on(source.token()).unwrap(), bearer("token-2"));
            drive(&left, millis(300));
            assert_eq!(left.metrics().num_alive_tasks(), 0);
            assert_eq!(source.peek(), Some(bearer("token-2").into()));
            assert_eq!(told.all(), ["rt-2"]);
            let sent = runtime.block_on(source.renew()).unwrap();
            assert_eq!(sent, bearer("token-3"));
        }

        #[test]
        fn a_late_landing_before_the_newer_one_is_kept_until_then() {
            let release = Arc::new(Notify::new());
            let released = release.clone();
            let endpoint = Endpoint::new(move |call| {
                let released = released.clone();
                async move {
                    match call {
                        1 => poll_once_more().await,
                        2 => released.notified().await,
                        _ => {}
                    }
                    Ok(answer(call))
                }
            });
            let (source, told, left) = overdue(&endpoint);
            let runtime = current_thread();
            leave(&runtime, source.token());
            assert_eq!(endpoint.calls(), 2);
            drive(&left, millis(300));
            assert_eq!(source.peek(), Some(bearer("token-1").into()));
            assert_eq!(told.all(), ["rt-1"]);
            release.notify_one();
            drive(&runtime, millis(300));
            assert_eq!(source.peek(), Some(bearer("token-2").into()));
            assert_eq!(told.all(), ["rt-1", "rt-2"]);
        }

        #[test]
        fn a_refresh_token_that_arrives_late_is_used_although_the_newer_fetch_was_refused() {
            let refused = invalid_grant();
            let endpoint = Endpoint::new(move |call| {
                let refused = refused.clone();
                async move {
                    match call {
                        1 => poll_once_more().await,
                        2 => return Err(refused.into()),
                        _ => {}
                    }
                    Ok(answer(call))
                }
            });
            let (source, told, left) = overdue(&endpoint);
            let runtime = current_thread();
            let error = runtime.block_on(source.token()).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
            drive(&left, millis(300));
            assert_eq!(source.peek(), Some(bearer("token-1").into()));
            let renewed = runtime.block_on(source.renew()).unwrap();
            assert_eq!(renewed, bearer("token-3"));
            assert_eq!(told.all(), ["rt-1", "rt-3"]);
        }

        /// Returns the error of a server that no longer accepts the refresh token.
        fn invalid_grant() -> TokenError {
            let endpoint = cache_support::endpoint(&AuthorizationServer::new());
            let refused = endpoint.oneshot(TokenRequest::refresh_token("unknown"));
            block_on(refused).unwrap_err()
        }

        /// Waits for longer than the test drives the runtime at first. It needs no timer, which would have ended long ago.
        async fn poll_once_more() {
            sleep(millis(200)).await;
        }
    }
}

mod given {
    use super::*;

    /// The endpoint fails unless it runs on this runtime.
    fn rig() -> (Endpoint, Runtime, TokenCache) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("given")
            .enable_all()
            .build()
            .unwrap();
        let endpoint = Endpoint::new(|call| async move {
            assert_eq!(thread::current().name(), Some("given"));
            sleep(millis(20)).await;
            let token = TokenResponse::builder(bearer(format!("token-{call}")));
            Ok(token.expires_in(secs(4)).build())
        });
        let cache = TokenCache::builder(endpoint.clone())
            .runtime(runtime.handle().clone())
            .build();
        (endpoint, runtime, cache)
    }

    #[test]
    fn callers_need_no_runtime_of_their_own() {
        let (endpoint, _runtime, cache) = rig();
        let callers: Vec<JoinHandle<_>> = (0..10)
            .map(|_| {
                let source = cache.source(request());
                thread::spawn(move || block_on(source.token()).unwrap())
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), bearer("token-1"));
        }
        let source = cache.source(request());
        assert_eq!(block_on(source.renew()).unwrap(), bearer("token-2"));
        block_on(source.warm_up()).unwrap();
        assert_eq!(endpoint.calls(), 2);
    }

    #[test]
    fn callers_on_other_runtimes_and_without_timers_use_it_too() {
        let (endpoint, _runtime, cache) = rig();
        let source = cache.source(request());
        let bare = Builder::new_current_thread().build().unwrap();
        bare.block_on(source.token()).unwrap();
        let token = current_thread().block_on(source.renew()).unwrap();
        assert_eq!(token, bearer("token-2"));
        assert_eq!(endpoint.calls(), 2);
    }

    #[test]
    fn keep_warm_and_renewals_run_on_it() {
        let (endpoint, _runtime, cache) = rig();
        let source = cache.source(request());
        source.keep_warm().unwrap();
        let start = now();
        while endpoint.calls() < 2 {
            thread::sleep(millis(20));
            assert!(start.elapsed() < secs(20));
        }
        // A renewal that a caller starts: the other token becomes stale while nobody keeps it warm.
        let other = cache.source(request().parameter("tenant", "blue"));
        block_on(other.token()).unwrap();
        let calls = endpoint.calls();
        while endpoint.calls() == calls {
            block_on(other.token()).unwrap();
            thread::sleep(millis(20));
            assert!(start.elapsed() < secs(40));
        }
    }

    #[test]
    fn waiters_without_a_runtime_have_its_timers() {
        let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
        let cache = TokenCache::builder(hangs_once())
            .runtime(runtime.handle().clone())
            .fetch_timeout(secs(1))
            .build();
        let error = block_on(cache.source(request()).token()).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Timeout);
    }

    #[test]
    fn after_its_end_callers_get_an_error() {
        let (endpoint, runtime, cache) = rig();
        let source = cache.source(request());
        drop(runtime);
        for error in [
            block_on(source.token()).unwrap_err(),
            current_thread().block_on(source.token()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
        }
        assert_eq!(endpoint.calls(), 0);
    }

    #[test]
    fn without_timers_it_is_an_error() {
        let bare = Builder::new_multi_thread().build().unwrap();
        let cache = TokenCache::builder(Endpoint::counting())
            .runtime(bare.handle().clone())
            .build();
        let source = cache.source(request());
        for error in [
            block_on(source.token()).unwrap_err(),
            source.keep_warm().unwrap_err(),
            current_thread().block_on(source.token()).unwrap_err(),
        ] {
            timers::check(&error);
        }
    }

    #[test]
    fn nobody_drives_it() {
        let left = current_thread();
        let cache = TokenCache::builder(Endpoint::counting())
            .runtime(left.handle().clone())
            .fetch_timeout(secs(1))
            .build();
        let source = cache.source(request());
        let (error, took) = on_another_runtime({
            let source = source.clone();
            move || async move { source.token().await.unwrap_err() }
        });
        assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
        assert!(took < secs(25), "{took:?}");
        assert!(left.metrics().num_alive_tasks() < 12);
    }
}

mod timers {
    use super::*;

    #[track_caller]
    pub(super) fn check(error: &TokenError) {
        assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
        let text = error.to_string();
        assert!(text.contains("enable_time()"), "{text}");
        assert!(text.contains("runtime(..)"), "{text}");
    }

    fn bare_runtimes() -> [Runtime; 2] {
        [
            Builder::new_current_thread().build().unwrap(),
            Builder::new_multi_thread()
                .worker_threads(1)
                .build()
                .unwrap(),
        ]
    }

    /// Counts the panics of the current thread, whether somebody catches them or not.
    fn panics_here(run: impl FnOnce()) -> usize {
        static PANICKED: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let hook = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                PANICKED.lock().unwrap().push(thread::current().id());
                hook(info);
            }));
        });
        run();
        let here = thread::current().id();
        PANICKED
            .lock()
            .unwrap()
            .iter()
            .filter(|id| **id == here)
            .count()
    }

    #[test]
    fn a_runtime_without_timers_is_an_error_and_not_a_panic() {
        for runtime in bare_runtimes() {
            let check = move || {
                let endpoint = Endpoint::counting();
                let source = TokenCache::new(endpoint.clone()).source(request());
                let panics = panics_here(|| {
                    runtime.block_on(async {
                        check(&source.token().await.unwrap_err());
                        check(&source.renew().await.unwrap_err());
                        check(&source.warm_up().await.unwrap_err());
                        check(&source.keep_warm().unwrap_err());
                    });
                    let spawned = {
                        let source = source.clone();
                        runtime.spawn(async move { source.token().await })
                    };
                    check(&runtime.block_on(spawned).unwrap().unwrap_err());
                });
                assert_eq!(panics, 0);
                assert_eq!(endpoint.calls(), 0);
                // The error is not remembered.
                current_thread().block_on(source.token()).unwrap();
            };
            thread::spawn(check).join().unwrap();
        }
    }

    #[test]
    fn it_is_an_error_even_if_the_thread_has_seen_timers_before() {
        let endpoint = Endpoint::counting();
        let cache = TokenCache::new(endpoint.clone());
        for runtime in bare_runtimes() {
            let source = cache.source(request());
            source.invalidate(&current_thread().block_on(source.token()).unwrap());
            let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| {
                check(&runtime.block_on(source.token()).unwrap_err());
            }));
            caught.expect("a panic reached the caller");
        }
    }

    #[test]
    fn a_caller_without_timers_waits_for_the_fetch_of_another_runtime() {
        let endpoint = answers_after(millis(1500));
        let source = TokenCache::new(endpoint.clone()).source(request());
        let first = begin_elsewhere(&endpoint, &source);
        let [bare, _] = bare_runtimes();
        let panics = panics_here(|| {
            let token = bare.block_on(source.token()).unwrap();
            assert_eq!(token, first.join().unwrap());
        });
        assert_eq!(panics, 0);
        assert_eq!(endpoint.calls(), 1);
    }

    #[test]
    fn a_stale_token_is_served_without_timers() {
        let clock = ManualClock::new();
        let endpoint = Endpoint::counting();
        let cache = TokenCache::builder(endpoint.clone()).clock(clock.clock());
        let source = cache.build().source(request());
        thread::scope(|scope| {
            scope.spawn(|| current_thread().block_on(source.token()).unwrap());
        });
        clock.advance(secs(3500));
        let [bare, _] = bare_runtimes();
        let panics = panics_here(|| {
            bare.block_on(async {
                for _ in 0..1000 {
                    assert_eq!(source.token().await.unwrap(), bearer("token-1"));
                }
            });
        });
        assert_eq!(panics, 0);
        assert_eq!(endpoint.calls(), 1);
    }
}

/// Fails the test if the runtime of the test is gone; keeps the imports honest.
#[tokio::test]
async fn the_current_runtime_is_the_default() {
    let endpoint = Endpoint::new(|_| async {
        let id = Handle::current().runtime_flavor();
        assert_eq!(id, tokio::runtime::RuntimeFlavor::CurrentThread);
        Ok(token_response("token"))
    });
    TokenCache::new(endpoint)
        .source(request())
        .token()
        .await
        .unwrap();
}
