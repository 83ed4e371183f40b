//! `TokenSource::subscribe` gives the current token first and then each new one, also if nobody else asks for a token.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use http_body_util::BodyExt;

use tokio::time::{advance, sleep, timeout};
use tokio_test::{assert_pending, assert_ready, task};
use tower::ServiceExt;
use tower_oauth2_client::{
    BoxError, ErrorCode, IssuedToken, TokenCache, TokenError, TokenErrorKind, TokenRequest,
    TokenResponse, TokenSource,
    test_util::{Failure, ManualClock},
    token_cache::Invalidation,
};

use self::cache_support::{Endpoint, Fixture, at_once, bearer, now, secs, settle, token_response};

const HOUR: Duration = secs(3600);

/// Returns a source whose clock is tokio's.
fn source(endpoint: Endpoint) -> TokenSource {
    let clock = ManualClock::new().clock();
    let cache = TokenCache::builder(endpoint).clock(clock).build();
    cache.source(TokenRequest::client_credentials())
}

struct Connection(mpsc::Sender<IssuedToken>);

impl Connection {
    fn authenticate(&self, token: &IssuedToken) {
        self.0.send(token.clone()).unwrap();
    }
}

/// The example in the docs of `subscribe`, as it is there.
async fn authenticate(source: &TokenSource, connection: &Connection) -> Result<(), TokenError> {
    let mut tokens = source.subscribe();
    while let Some(token) = tokens.changed().await? {
        connection.authenticate(&token);
    }
    Ok(()) // the cache was shut down
}

#[tokio::test(start_paused = true)]
async fn the_example_of_the_docs_gets_the_first_token_and_each_new_one() {
    let (fixture, source) = Fixture::with_source();
    let (sender, tokens) = mpsc::channel();
    let subscribed = source.clone();
    let task = tokio::spawn(async move { authenticate(&subscribed, &Connection(sender)).await });
    settle().await;
    let first = tokens.try_recv().unwrap();
    assert_eq!(source.peek(), Some(first.clone()));
    assert!(tokens.try_recv().is_err());

    sleep(HOUR).await;
    let renewed: Vec<_> = tokens.try_iter().collect();
    // Each token is renewed once, at half of its lifetime of 100 seconds.
    assert!((69..=72).contains(&renewed.len()), "{}", renewed.len());
    assert_eq!(fixture.requests(), renewed.len() + 1);
    assert_eq!(renewed.last(), source.peek().as_ref());

    fixture.cache.shutdown().await;
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_is_always_usable_while_somebody_waits_for_the_next() {
    let (fixture, source) = Fixture::with_source();
    let mut changes = source.subscribe();
    changes.changed().await.unwrap().unwrap();
    let waiting = tokio::spawn(async move { while changes.changed().await.unwrap().is_some() {} });
    for second in 0..3600 {
        let token = source.peek().unwrap_or_else(|| panic!("none at {second}"));
        assert!(fixture.server.is_active(token.expose_secret()), "{second}");
        sleep(secs(1)).await;
    }
    waiting.abort();
}

/// A subscriber that is busy for long finds a fresh token, and other users of the source always have one.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_keeps_warm_renews_the_token_also_between_two_calls() {
    let (fixture, source) = Fixture::with_source();
    let mut changes = source.subscribe().keep_warm().unwrap();
    let first = changes.changed().await.unwrap().unwrap();
    for second in 0..1000 {
        assert!(source.peek().is_some(), "none at {second}");
        sleep(secs(1)).await;
    }
    let requests = fixture.requests();
    assert!((18..=21).contains(&requests), "{requests}");
    let next = at_once(changes.changed()).unwrap().unwrap();
    assert_ne!(next, first);
    assert!(next.expires_in() > Some(secs(40)), "{next:?}");
    assert_eq!(fixture.requests(), requests);

    // Neither the source nor the cache is needed.
    let Fixture { server, cache, .. } = fixture;
    drop((source, cache));
    sleep(HOUR).await;
    let last = at_once(changes.changed()).unwrap().unwrap();
    assert!(server.is_active(last.expose_secret()));
}

/// The same without: this is what `keep_warm` is for.
#[tokio::test(start_paused = true)]
async fn nothing_is_renewed_between_two_calls_of_a_subscription_that_does_not_keep_warm() {
    let (fixture, source) = Fixture::with_source();
    let mut changes = source.subscribe();
    changes.changed().await.unwrap().unwrap();
    sleep(HOUR).await;
    assert_eq!((fixture.requests(), source.peek()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_keeps_warm_only_where_it_can() {
    let (fixture, source) = Fixture::with_source();
    fixture.cache.shutdown().await;
    let error = source.subscribe().keep_warm().unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ShutDown);
    let mut fixed = TokenSource::fixed(bearer("t"))
        .subscribe()
        .keep_warm()
        .unwrap();
    assert!(fixed.changed().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_gets_the_current_token_first_and_only_the_latest_of_several() {
    let (fixture, source, first) = Fixture::with_token().await;
    let mut changes = source.subscribe();
    assert_eq!(at_once(changes.changed()).unwrap(), Some(first));
    assert_pending!(task::spawn(changes.changed()).poll());

    source.renew().await.unwrap();
    let last = source.renew().await.unwrap();
    assert_eq!(at_once(changes.changed()).unwrap(), Some(last.clone()));
    assert_pending!(task::spawn(changes.changed()).poll());

    let mut late = source.subscribe();
    assert_eq!(at_once(late.changed()).unwrap(), Some(last));
    assert_pending!(task::spawn(late.changed()).poll());
    assert_eq!(fixture.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_discarded_token_is_replaced_at_once() {
    let (fixture, source) = Fixture::with_source();
    let mut changes = source.subscribe();
    let first = changes.changed().await.unwrap().unwrap();
    let drops: [&dyn Fn(); 3] = [
        &|| assert_eq!(source.invalidate(&first), Invalidation::Dropped),
        &|| source.discard(),
        &|| fixture.cache.invalidate_all(),
    ];
    for drop_token in drops {
        let before = now();
        let mut next = task::spawn(changes.changed());
        assert_pending!(next.poll());
        drop_token();
        assert!(next.is_woken());
        let next = next.await.unwrap();
        assert_eq!(next, source.peek());
        assert!(next.is_some());
        assert_eq!(now(), before);
    }
    assert_eq!(fixture.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn each_failed_fetch_is_an_error_once_and_the_next_call_waits_for_the_pause() {
    let (fixture, source) = Fixture::with_source();
    // A fetch retries a transient failure once.
    fixture.server.fail_next_n(2, Failure::status(503));
    fixture.server.fail_next(Failure::oauth("invalid_client"));
    let mut changes = source.subscribe();
    let outage = changes.changed().await.unwrap_err();
    assert_eq!(outage.status().unwrap().as_u16(), 503);
    let refused = changes.changed().await.unwrap_err();
    let code = refused.error_response().unwrap().code();
    assert_eq!(*code, ErrorCode::INVALID_CLIENT);
    let token = changes.changed().await.unwrap();
    assert!(token.is_some());
    assert_eq!(token, source.peek());
    let times = fixture.request_times();
    assert_eq!(times.len(), 4);
    assert!(times[2] - times[1] >= secs(1), "{times:?}");
    assert!(times[3] - times[2] >= secs(1), "{times:?}");
}

/// A loop that only logs errors must not use up a core, or the server.
#[tokio::test(start_paused = true)]
async fn a_loop_that_ignores_errors_is_slow_also_if_the_future_is_dropped_often() {
    for patience in [None, Some(Duration::from_millis(100))] {
        let (fixture, source) = Fixture::with_source();
        fixture
            .server
            .fail_when(|_| Some(Failure::oauth("invalid_client")));
        let mut changes = source.subscribe();
        let mut errors = 0;
        let begun = now();
        while now() - begun < HOUR {
            match patience {
                None => errors += usize::from(changes.changed().await.is_err()),
                Some(patience) => {
                    let changed = timeout(patience, changes.changed()).await;
                    errors += usize::from(changed.is_ok_and(|changed| changed.is_err()));
                }
            }
        }
        assert_eq!(errors, fixture.requests());
        assert!((10..200).contains(&errors), "{errors}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_another_caller_fetched_ends_the_pause_after_an_error() {
    let endpoint = Endpoint::new(|call| async move {
        match call {
            1 | 2 => Err(BoxError::from("down")),
            _ => Ok(token_response("t")),
        }
    });
    let source = source(endpoint);
    let mut changes = source.subscribe();
    changes.changed().await.unwrap_err();
    let mut next = task::spawn(changes.changed());
    assert_pending!(next.poll());
    source.renew().await.unwrap();
    assert!(next.is_woken());
    assert_eq!(
        assert_ready!(next.poll()).unwrap(),
        Some(bearer("t").into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_no_error_while_the_token_is_usable() {
    let (fixture, source) = Fixture::with_source();
    let mut changes = source.subscribe();
    let begun = now();
    changes.changed().await.unwrap().unwrap();
    fixture.server.fail_when(|_| Some(Failure::status(503)));
    changes.changed().await.unwrap_err();
    // The token lives for 100 seconds, and a pause between two renewals takes up to a minute.
    let elapsed = now() - begun;
    assert!((secs(90)..secs(160)).contains(&elapsed), "{elapsed:?}");
    fixture.server.recover();
    assert!(changes.changed().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_at_once_is_not_fetched_in_a_loop() {
    let endpoint = Endpoint::new(|call| async move {
        let token = TokenResponse::builder(bearer(format!("t{call}")));
        Ok(token.expires_in(Duration::ZERO).build())
    });
    let source = source(endpoint.clone());
    let mut changes = source.subscribe();
    let begun = now();
    let mut tokens = 0;
    while now() - begun < HOUR {
        tokens += usize::from(changes.changed().await.unwrap().is_some());
    }
    assert_eq!(endpoint.calls(), tokens);
    assert!((59..=62).contains(&tokens), "{tokens}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_the_cache_is_shut_down() {
    let (fixture, source) = Fixture::with_source();
    let mut without_token = fixture
        .cache
        .source(TokenRequest::refresh_token("unknown"))
        .subscribe();
    without_token.changed().await.unwrap_err();
    let mut waiting = source.subscribe();
    let mut unused = source.subscribe();
    waiting.changed().await.unwrap().unwrap();
    let mut waiting = task::spawn(waiting.changed());
    let mut pausing = task::spawn(without_token.changed());
    assert_pending!(waiting.poll());
    assert_pending!(pausing.poll());

    fixture.cache.shutdown().await;
    assert!(waiting.is_woken());
    assert!(pausing.is_woken());
    assert_eq!(assert_ready!(waiting.poll()).unwrap(), None);
    assert_eq!(assert_ready!(pausing.poll()).unwrap(), None);
    assert_eq!(at_once(unused.changed()).unwrap(), None);
    assert_eq!(at_once(source.subscribe().changed()).unwrap(), None);
    // The token itself is still served.
    at_once(source.token()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_waits_for_a_fetch_ends_with_the_shutdown() {
    let (fixture, source) = Fixture::with_source();
    fixture.server.fail_next(Failure::delay(secs(20)));
    let mut changes = source.subscribe();
    let waiting = tokio::spawn(async move { changes.changed().await });
    settle().await;
    assert_eq!(fixture.requests(), 1);
    let before = now();
    fixture.cache.shutdown().await;
    assert_eq!(waiting.await.unwrap().unwrap(), None);
    assert_eq!(now(), before);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_needs_no_other_handle() {
    let endpoint = Endpoint::counting();
    let mut changes = source(endpoint.clone()).subscribe();
    assert_eq!(
        changes.changed().await.unwrap(),
        Some(bearer("token-1").into())
    );
    assert_eq!(
        changes.changed().await.unwrap(),
        Some(bearer("token-2").into())
    );

    // Also if the other handles are dropped while it waits.
    let other = source(endpoint);
    let mut changes = other.subscribe();
    changes.changed().await.unwrap().unwrap();
    let mut waiting = task::spawn(changes.changed());
    assert_pending!(waiting.poll());
    drop(other);
    assert!(!waiting.is_woken());
    assert!(waiting.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_keeps_nothing() {
    struct Held(Arc<()>);
    let held = Arc::new(());
    let endpoint = {
        let held = Arc::new(Held(held.clone()));
        Endpoint::new(move |call| {
            let _held = held.0.clone();
            async move { Ok(token_response(format!("t{call}"))) }
        })
    };
    let mut changes = source(endpoint).subscribe();
    changes.changed().await.unwrap().unwrap();
    settle().await;
    assert!(Arc::strong_count(&held) > 1);
    drop(changes);
    settle().await;
    assert_eq!(Arc::strong_count(&held), 1);
}

/// Does what `TokenSource::wait_for_user` does, with a subscription.
async fn sign_in(
    tokens: &TokenCache,
    device_code: String,
    interval: Duration,
) -> Result<Option<TokenSource>, TokenError> {
    let request = TokenRequest::device_code(device_code).polling_interval(interval);
    let source = tokens.source(request);
    let mut changes = source.subscribe();
    loop {
        let error = match changes.changed().await {
            Ok(Some(_)) => return Ok(Some(source)),
            Ok(None) => return Ok(None), // the cache was shut down
            Err(error) => error,
        };
        match error.error_response().map(|error| error.code()) {
            Some(&(ErrorCode::AUTHORIZATION_PENDING | ErrorCode::SLOW_DOWN)) => {}
            Some(&(ErrorCode::ACCESS_DENIED | ErrorCode::EXPIRED_TOKEN)) => return Ok(None),
            _ if error.is_transient() => eprintln!("still waiting: {error:#}"),
            _ => return Err(error),
        }
    }
}

/// Starts the flow of a device, and returns its device code and user code.
async fn start_device(fixture: &Fixture) -> (String, String) {
    let uri = fixture.server.token_endpoint().to_string();
    let request = http::Request::post(uri.replace("/token", "/device_authorization"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("client_id=client&client_secret=secret".to_owned())
        .unwrap();
    let response = fixture.server.clone().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("device_code"), text("user_code"))
}

#[tokio::test(start_paused = true)]
async fn the_loop_over_a_device_code_polls_at_the_interval_until_the_user_has_decided() {
    for approves in [true, false] {
        let fixture = Fixture::new();
        let (device_code, user_code) = start_device(&fixture).await;
        let before = fixture.requests();
        let cache = fixture.cache.clone();
        let begun = now();
        // A server that fails in between is asked again.
        let waiting = tokio::spawn(async move { sign_in(&cache, device_code, secs(10)).await });
        sleep(secs(35)).await;
        fixture.server.fail_next_n(2, Failure::status(503));
        sleep(secs(60)).await;
        assert!(!waiting.is_finished());
        match approves {
            true => assert!(fixture.server.approve_device(&user_code)),
            false => assert!(fixture.server.deny_device(&user_code)),
        }
        let source = waiting.await.unwrap().unwrap();
        assert!(now() - begun < secs(125), "{:?}", now() - begun);
        let polls = fixture.requests() - before;
        assert!((8..=13).contains(&polls), "{polls}");
        assert_eq!(source.is_some(), approves);
        if let Some(source) = source {
            at_once(source.token()).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_loop_over_a_device_code_ends_when_the_code_has_expired() {
    let fixture = Fixture::new();
    let (device_code, _) = start_device(&fixture).await;
    let begun = now();
    let source = sign_in(&fixture.cache, device_code, secs(5)).await.unwrap();
    assert!(source.is_none());
    let elapsed = now() - begun;
    assert!((secs(590)..secs(640)).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn without_a_runtime_a_subscriber_gets_an_error_and_not_a_panic() {
    let source = TokenCache::new(Endpoint::counting()).source(TokenRequest::client_credentials());
    let mut changes = source.subscribe();
    let error = at_once(changes.changed()).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::NoRuntime);
    // It does not spin.
    assert_pending!(task::spawn(changes.changed()).poll());
}

#[tokio::test(start_paused = true)]
async fn subscribers_share_each_fetch() {
    let (fixture, source) = Fixture::with_source();
    source.keep_warm().unwrap();
    let subscribers: Vec<_> = (0..100)
        .map(|_| {
            let mut changes = source.subscribe();
            tokio::spawn(async move {
                let mut tokens = 0;
                while changes.changed().await.unwrap().is_some() {
                    tokens += 1;
                }
                tokens
            })
        })
        .collect();
    sleep(secs(240)).await;
    advance(secs(1)).await;
    let requests = fixture.requests();
    assert!((4..=6).contains(&requests), "{requests}");
    fixture.cache.shutdown().await;
    for subscriber in subscribers {
        assert_eq!(subscriber.await.unwrap(), requests);
    }
}
