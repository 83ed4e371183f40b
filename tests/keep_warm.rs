//! `TokenSource::keep_warm` renews a token even if no caller asks for it.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{future::pending, time::Duration};

use tokio::{
    runtime::{self, Handle, Runtime},
    time::{advance, sleep},
};
use tower_oauth2_client::{
    TokenCache, TokenErrorKind, TokenRequest, TokenResponse, TokenSource,
    test_util::{AuthorizationServer, Failure},
};

use self::cache_support::{
    Endpoint, Fixture, at_once, bearer, endpoint, millis, request, secs, settle, token_response,
};

const HOUR: u64 = 3600;

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Returns a fixture and a source whose token is kept warm and has just been fetched.
async fn kept_warm(lifetime: Duration) -> (Fixture, TokenSource) {
    let fixture = Fixture::with_lifetime(lifetime);
    let source = fixture.source();
    source.keep_warm().unwrap();
    settle().await;
    (fixture, source)
}

#[tokio::test(start_paused = true)]
async fn the_first_fetch_starts_without_a_caller() {
    let (fixture, source) = kept_warm(secs(100)).await;
    assert_eq!(fixture.requests(), 1);
    at_once(source.token()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_always_holds_a_valid_token() {
    let (fixture, source) = kept_warm(secs(100)).await;
    for second in 0..HOUR {
        let token = source
            .peek()
            .unwrap_or_else(|| panic!("no token at {second} s"));
        assert!(fixture.server.is_active(token.expose_secret()), "{second}");
        sleep(secs(1)).await;
    }
    // Each token is renewed once, at half of its lifetime.
    let requests = fixture.requests();
    assert!((71..=72).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_after_a_long_idle_time_does_not_wait() {
    for idle in [secs(60), secs(3 * HOUR), secs(7 * 24 * HOUR)] {
        let (fixture, source) = kept_warm(secs(1000)).await;
        sleep(idle).await;
        let requests = fixture.requests();
        let token = at_once(source.token()).unwrap();
        assert!(fixture.server.is_active(token.expose_secret()));
        assert_eq!(fixture.requests(), requests);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_renewal_leaves_no_gap() {
    let fixture = Fixture::with_lifetime(secs(100));
    fixture.server.fail_until_told(Failure::delay(secs(20)));
    let source = fixture.source();
    source.keep_warm().unwrap();
    sleep(secs(20) + millis(1)).await;
    for second in 0..HOUR {
        assert!(source.peek().is_some(), "no token at {second} s");
        sleep(secs(1)).await;
    }
    assert_eq!(fixture.server.in_flight_peak(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_remaining_lifetime_leaves_no_gap() {
    let (fixture, source) = kept_warm(secs(1000)).await;
    sleep(secs(490)).await;
    fixture.server.fail_until_told(Failure::status(503));
    for second in 0..300 {
        assert!(source.peek().is_some(), "no token at {second} s");
        sleep(secs(1)).await;
    }
    let failed = fixture.requests() - fixture.server.issued();
    assert!((5..=15).contains(&failed), "{failed}");
    fixture.server.recover();
    // The longest pause is one minute.
    sleep(secs(61)).await;
    assert_eq!(fixture.server.issued(), 2);
}

#[tokio::test(start_paused = true)]
async fn persistent_errors_are_retried_at_growing_intervals_until_the_server_recovers() {
    for (failure, min, max) in [
        // The pause grows from five seconds to one minute; jitter shortens it by at most half.
        (Failure::oauth("invalid_client"), 60, 124),
        (Failure::oauth("invalid_scope"), 60, 124),
        (Failure::status(503), 60, 127),
        (Failure::status(429).retry_after(secs(300)), 12, 12),
    ] {
        let fixture = Fixture::new();
        fixture.server.fail_until_told(failure);
        let source = fixture.source();
        source.keep_warm().unwrap();
        sleep(secs(HOUR) - millis(1)).await;
        let requests = fixture.requests();
        assert!((min..=max).contains(&requests), "{requests}");
        fixture.server.recover();
        sleep(secs(301)).await;
        at_once(source.token()).unwrap();
        assert_eq!(fixture.requests(), requests + fixture.server.issued());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_refresh_token_was_rejected() {
    let fixture = Fixture::new();
    let unknown = TokenRequest::refresh_token("unknown");
    let source = fixture.cache.source(unknown);
    source.keep_warm().unwrap();
    sleep(secs(24 * HOUR)).await;
    assert_eq!(fixture.requests(), 1);
    let error = at_once(source.token()).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
}

/// Tokens that are never usable are fetched only once a minute, since no caller waits for them.
#[tokio::test(start_paused = true)]
async fn very_short_lived_tokens_are_fetched_at_most_once_per_second() {
    for (lifetime, max) in [
        (secs(0), 2),
        (millis(1), 2),
        (millis(500), 61),
        (secs(1), 61),
    ] {
        let short = Endpoint::new(move |call| async move {
            let response = TokenResponse::builder(bearer(format!("token-{call}")));
            Ok(response.expires_in(lifetime).build())
        });
        let clock = tower_oauth2_client::test_util::ManualClock::new();
        let cache = TokenCache::builder(short.clone()).clock(clock.clock());
        let source = cache.build().source(request());
        source.keep_warm().unwrap();
        sleep(secs(60)).await;
        let calls = short.calls();
        assert!((1..=max).contains(&calls), "{calls} for {lifetime:?}");
    }
}

mod clocks {
    use super::*;

    /// The timer was suspended too, so a caller may wait at first; after a minute none does.
    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_within_a_minute_after_a_suspend() {
        let fixture = Fixture::with_lifetime(secs(7200));
        let source = fixture.source();
        source.keep_warm().unwrap();
        sleep(secs(90)).await;
        assert_eq!(fixture.requests(), 1);
        fixture.clock.suspend(secs(24 * HOUR));
        assert_eq!(source.peek(), None);
        sleep(secs(60)).await;
        at_once(source.token()).unwrap();
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_back_does_not_delay_renewals() {
        let (fixture, source) = kept_warm(secs(1000)).await;
        fixture.clock.set_wall_back(secs(24 * HOUR));
        for second in 0..HOUR {
            let token = source
                .peek()
                .unwrap_or_else(|| panic!("no token at {second} s"));
            assert!(fixture.server.is_active(token.expose_secret()), "{second}");
            sleep(secs(1)).await;
        }
        assert_eq!(fixture.requests(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_without_a_caller() {
    let (fixture, source) = kept_warm(secs(100)).await;
    let token = source.peek().unwrap();
    source.invalidate(&token);
    sleep(secs(60)).await;
    let another = source.peek().unwrap();
    assert_ne!(another, token);
    assert_eq!(fixture.requests(), 2);
}

mod end {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dropping_the_last_handle_ends_keep_warm() {
        for failure in [
            None,
            Some(Failure::stall()),
            Some(Failure::oauth("invalid_client")),
        ] {
            let fixture = Fixture::new();
            if let Some(failure) = failure {
                fixture.server.fail_until_told(failure);
            }
            let (first, last) = (fixture.source(), fixture.source());
            first.keep_warm().unwrap();
            settle().await;
            assert!(tasks() > 0);
            drop(fixture);
            drop(first);
            settle().await;
            assert!(tasks() > 0, "another handle is still alive");
            drop(last);
            settle().await;
            assert_eq!(tasks(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_alone_keeps_the_token_warm() {
        let Fixture { server, cache, .. } = Fixture::with_lifetime(secs(100));
        let source = cache.source(request());
        source.keep_warm().unwrap();
        drop(cache);
        sleep(secs(HOUR)).await;
        at_once(source.token()).unwrap();
        assert!(server.token_requests() > 70);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_alone_keeps_the_token_warm() {
        let fixture = Fixture::with_lifetime(secs(100));
        fixture.source().keep_warm().unwrap();
        sleep(secs(HOUR)).await;
        at_once(fixture.source().token()).unwrap();
        assert!(fixture.requests() > 70);
    }

    #[tokio::test(start_paused = true)]
    async fn evicting_the_entry_ends_keep_warm() {
        let server = AuthorizationServer::new();
        let fixture = Fixture::with(server, |builder| builder.max_entries(1));
        fixture.source().keep_warm().unwrap();
        settle().await;
        // Two insertions, since an entry that was used survives the first one.
        for tenant in ["blue", "red"] {
            drop(fixture.cache.source(request().parameter("tenant", tenant)));
        }
        settle().await;
        assert_eq!(tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_calls_start_only_one_task() {
        let fixture = Fixture::with_lifetime(secs(100));
        let source = fixture.source();
        for _ in 0..10 {
            source.keep_warm().unwrap();
            source.clone().keep_warm().unwrap();
        }
        settle().await;
        assert_eq!(tasks(), 1);
        sleep(secs(75)).await;
        assert_eq!(fixture.requests(), 2);
    }
}

mod runtimes {
    use super::*;

    fn current_thread() -> Runtime {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    }

    #[test]
    fn a_missing_runtime_is_an_error_that_is_not_remembered() {
        let server = AuthorizationServer::new();
        let source = TokenCache::new(endpoint(&server)).source(request());
        let error = source.keep_warm().unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
        current_thread().block_on(async {
            source.keep_warm().unwrap();
            settle().await;
            at_once(source.token()).unwrap();
        });
    }

    #[test]
    fn a_fixed_token_needs_no_runtime() {
        TokenSource::fixed(bearer("fixed")).keep_warm().unwrap();
    }

    #[test]
    fn keep_warm_can_be_restarted_after_its_runtime_has_shut_down() {
        let calls = Endpoint::counting();
        let source = TokenCache::new(calls.clone()).source(request());
        for runtimes in 1..=2 {
            let runtime = current_thread();
            runtime.block_on(async {
                source.keep_warm().unwrap();
                settle().await;
                assert_eq!(tasks(), 1);
                at_once(source.token()).unwrap();
                assert_eq!(calls.calls(), runtimes);
            });
            drop(runtime);
            let token = source.peek().unwrap();
            source.invalidate(&token);
        }
    }

    /// The runtime that keeps the token warm is not the one that fetches it.
    #[test]
    fn keep_warm_takes_over_the_fetch_of_a_runtime_that_has_shut_down() {
        let hangs_once = Endpoint::new(|call| async move {
            if call == 1 {
                pending::<()>().await;
            }
            Ok(token_response(format!("token-{call}")))
        });
        let source = TokenCache::new(hangs_once.clone()).source(request());
        let first = current_thread();
        first.block_on(async {
            let fetching = source.clone();
            tokio::spawn(async move { fetching.token().await });
            settle().await;
        });
        current_thread().block_on(async {
            source.keep_warm().unwrap();
            settle().await;
            assert_eq!(hangs_once.calls(), 1);
            std::thread::spawn(|| drop(first)).join().unwrap();
            settle().await;
            advance(secs(1)).await;
            settle().await;
            assert_eq!(at_once(source.token()).unwrap(), bearer("token-2"));
        });
    }
}
