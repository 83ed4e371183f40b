//! `TokenSource::keep_warm`: a token that is renewed although nobody asks for it.
#![cfg(feature = "test-util")]

mod cache_support;

use std::future::pending;

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

#[tokio::test(start_paused = true)]
async fn the_first_fetch_waits_for_nobody() {
    let fixture = Fixture::new();
    let source = fixture.source();
    source.keep_warm().unwrap();
    settle().await;
    assert_eq!(fixture.requests(), 1);
    at_once(source.token()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_holds_a_good_token_all_the_time() {
    let fixture = Fixture::with_lifetime(secs(100));
    let source = fixture.source();
    source.keep_warm().unwrap();
    settle().await;
    for second in 0..HOUR {
        let token = source.peek().unwrap_or_else(|| panic!("none at {second}"));
        assert!(fixture.server.is_active(token.expose_secret()), "{second}");
        sleep(secs(1)).await;
    }
    // At the half of each life, and not a second time in it.
    let requests = fixture.requests();
    assert!((71..=72).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_after_a_long_idle_time_does_not_wait() {
    for idle in [secs(60), secs(3 * HOUR), secs(7 * 24 * HOUR)] {
        let fixture = Fixture::with_lifetime(secs(1000));
        let source = fixture.source();
        source.keep_warm().unwrap();
        settle().await;
        sleep(idle).await;
        let requests = fixture.requests();
        let token = at_once(source.token()).unwrap();
        assert!(fixture.server.is_active(token.expose_secret()));
        assert_eq!(fixture.requests(), requests);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_takes_its_time_leaves_no_gap() {
    let fixture = Fixture::with_lifetime(secs(100));
    fixture.server.fail_until_told(Failure::delay(secs(20)));
    let source = fixture.source();
    source.keep_warm().unwrap();
    sleep(secs(20) + millis(1)).await;
    for second in 0..HOUR {
        assert!(source.peek().is_some(), "none at {second}");
        sleep(secs(1)).await;
    }
    assert_eq!(fixture.server.in_flight_peak(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_rest_of_a_life_leaves_no_gap() {
    let fixture = Fixture::with_lifetime(secs(1000));
    let source = fixture.source();
    source.keep_warm().unwrap();
    settle().await;
    sleep(secs(490)).await;
    fixture.server.fail_until_told(Failure::status(503));
    for second in 0..300 {
        assert!(source.peek().is_some(), "none at {second}");
        sleep(secs(1)).await;
    }
    let failed = fixture.requests() - fixture.server.issued();
    assert!((5..=15).contains(&failed), "{failed}");
    fixture.server.recover();
    // The longest pause is a minute.
    sleep(secs(61)).await;
    assert_eq!(fixture.server.issued(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_terminal_error_does_not_hammer_the_server_and_heals() {
    for (failure, least, most) in [
        // The pause is five seconds at first and a minute at most, and half of that at least.
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
        assert!((least..=most).contains(&requests), "{requests}");
        fixture.server.recover();
        sleep(secs(301)).await;
        at_once(source.token()).unwrap();
        assert_eq!(fixture.requests(), requests + fixture.server.issued());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_ended_for_good_asks_no_more() {
    let fixture = Fixture::new();
    let unknown = TokenRequest::refresh_token("unknown");
    let source = fixture.cache.source(unknown);
    source.keep_warm().unwrap();
    sleep(secs(24 * HOUR)).await;
    assert_eq!(fixture.requests(), 1);
    let error = at_once(source.token()).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
}

/// Those without any use once a minute, since nobody waits for them.
#[tokio::test(start_paused = true)]
async fn tokens_that_hardly_live_are_not_fetched_more_than_once_a_second() {
    for (lifetime, most) in [
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
        assert!((1..=most).contains(&calls), "{calls} for {lifetime:?}");
    }
}

mod clocks {
    use super::*;

    /// The timer has slept through it too, so there may be a caller before it notices; a minute later there is no wait.
    #[tokio::test(start_paused = true)]
    async fn a_host_that_was_suspended_is_warm_again_within_a_minute() {
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
    async fn a_wall_clock_that_is_set_back_delays_nothing() {
        let fixture = Fixture::with_lifetime(secs(1000));
        let source = fixture.source();
        source.keep_warm().unwrap();
        settle().await;
        fixture.clock.set_wall_back(secs(24 * HOUR));
        for second in 0..HOUR {
            let token = source.peek().unwrap_or_else(|| panic!("none at {second}"));
            assert!(fixture.server.is_active(token.expose_secret()), "{second}");
            sleep(secs(1)).await;
        }
        assert_eq!(fixture.requests(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_refused_is_replaced_without_a_caller() {
    let fixture = Fixture::new();
    let source = fixture.source();
    source.keep_warm().unwrap();
    settle().await;
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
    async fn it_ends_with_the_last_handle_whatever_it_does() {
        for failure in [
            None,
            Some(Failure::stall()),
            Some(Failure::oauth("invalid_client")),
        ] {
            let fixture = Fixture::new();
            if let Some(failure) = failure {
                fixture.server.fail_until_told(failure);
            }
            let (one, two) = (fixture.source(), fixture.source());
            one.keep_warm().unwrap();
            settle().await;
            assert!(tasks() > 0);
            drop(fixture);
            drop(one);
            settle().await;
            assert!(tasks() > 0, "there is one more handle");
            drop(two);
            settle().await;
            assert_eq!(tasks(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_alone_keeps_it_going() {
        let Fixture { server, cache, .. } = Fixture::with_lifetime(secs(100));
        let source = cache.source(request());
        source.keep_warm().unwrap();
        drop(cache);
        sleep(secs(HOUR)).await;
        at_once(source.token()).unwrap();
        assert!(server.token_requests() > 70);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_alone_keeps_it_going() {
        let fixture = Fixture::with_lifetime(secs(100));
        fixture.source().keep_warm().unwrap();
        sleep(secs(HOUR)).await;
        at_once(fixture.source().token()).unwrap();
        assert!(fixture.requests() > 70);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_an_entry_that_is_given_up() {
        let server = AuthorizationServer::new();
        let fixture = Fixture::with(server, |builder| builder.max_entries(1));
        fixture.source().keep_warm().unwrap();
        settle().await;
        // Twice, since it was used.
        for tenant in ["blue", "red"] {
            drop(fixture.cache.source(request().parameter("tenant", tenant)));
        }
        settle().await;
        assert_eq!(tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn to_ask_for_it_again_changes_nothing() {
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
    fn no_runtime_is_an_error_and_is_not_remembered() {
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
    fn a_fixed_token_is_warm_without_one() {
        TokenSource::fixed(bearer("fixed")).keep_warm().unwrap();
    }

    /// Whose runtime has ended asks again on the next one.
    #[test]
    fn it_can_be_asked_for_again_when_its_runtime_has_ended() {
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

    /// The one that keeps it warm is not the one that fetches.
    #[test]
    fn it_takes_up_the_fetch_of_a_runtime_that_died() {
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
