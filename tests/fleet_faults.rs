//! Faults of stores, servers and instances that a fleet must survive.
#![allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; tests measure tokio's clock"
)]

mod fleet_support;
mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Notify, time};
use tower_oauth2_client::{
    ClientAuthentication, IssuedToken, TokenCache, TokenErrorKind, TokenRequest, TokenSource,
    test_util::{AuthorizationServer, Failure},
    token_cache::TokenCacheBuilder,
    token_store::{ShareTokens, StoreKeys},
};

use self::{
    fleet_support::{
        Fault, Op, TestStore, code, endpoint, first_request, instance, instance_with, key, keys,
        millis, request, secs, server,
    },
    support::Log,
};

async fn assert_serves_no_expired_token(
    server: &AuthorizationServer,
    source: &TokenSource,
    time: Duration,
) {
    let end = time::Instant::now() + time;
    while time::Instant::now() < end {
        if let Some(token) = source.peek() {
            let is_active = server.is_active(token.expose_secret());
            assert!(is_active, "an expired token is served");
        }
        time::sleep(millis(500)).await;
    }
}

/// Kills an instance in the middle of its request.
async fn lose_holder(server: &AuthorizationServer, store: &TestStore, request: &TokenRequest) {
    let killed = TestStore::over(store.inner.clone());
    let source = instance(server, &killed).source(request.clone());
    let fetch = tokio::spawn(async move { source.token().await });
    time::sleep(secs(1)).await;
    killed.fail(|_| Some(Fault::Hang));
    fetch.abort();
}

/// Cuts an instance off from the store after it got a new refresh token, for longer than its lease.
async fn cut_off_with_a_new_refresh_token(
    server: &AuthorizationServer,
    store: &TestStore,
    request: &TokenRequest,
) -> (TestStore, IssuedToken) {
    let cut_off = TestStore::over(store.inner.clone());
    cut_off.fail(|op| (op != Op::Look).then_some(Fault::Hang));
    let token = instance(server, &cut_off)
        .source(request.clone())
        .token()
        .await
        .unwrap();
    time::sleep(secs(15)).await;
    (cut_off, token)
}

/// Otherwise, whoever guesses a client id would get its token.
#[tokio::test(start_paused = true)]
async fn client_that_a_request_names_needs_its_own_secret() {
    let server = AuthorizationServer::builder()
        .client("blue", "right")
        .build();
    let store = TestStore::new();
    let named = |secret: &'static str| {
        let client = ClientAuthentication::client_secret_basic("blue", secret);
        instance(&server, &store).source(request().client_authentication(client))
    };
    let token = named("right").token().await.unwrap();
    assert_eq!(named("right").token().await.unwrap(), token);
    let error = named("wrong").token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
}

/// The entry lay in the buffer of a socket, for example.
#[tokio::test(start_paused = true)]
async fn entry_that_arrives_late_does_not_prolong_its_token() {
    for lifetime in [60, 600] {
        let server = server(secs(lifetime));
        let store = TestStore::new();
        store.fail(move |op| (op == Op::Put).then_some(Fault::LatePut(secs(lifetime) * 2 / 3)));
        let one = instance(&server, &store).source(request());
        one.token().await.unwrap();
        time::sleep(secs(lifetime) * 2 / 3 + millis(1)).await;
        let other = instance(&server, &store).source(request());
        other.token().await.unwrap();
        assert_eq!(server.token_requests(), 1);
        assert_serves_no_expired_token(&server, &other, secs(lifetime)).await;
    }
}

/// It is the only one that still works.
#[tokio::test(start_paused = true)]
async fn refresh_token_that_is_stored_late_does_not_prolong_its_access_token() {
    let server = server(secs(60));
    let store = TestStore::new();
    store.fail(|op| (op == Op::Put).then_some(Fault::Error));
    let first = first_request(&server);
    let one = instance(&server, &store).source(first.clone());
    one.token().await.unwrap();
    time::sleep(secs(50)).await;
    store.recover();
    time::sleep(secs(1)).await;
    let other = instance(&server, &store).source(first);
    other.token().await.unwrap();
    assert_serves_no_expired_token(&server, &other, secs(30)).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_a_refresh_token_on_its_way_to_the_store() {
    let server = server(secs(100));
    let store = TestStore::new();
    store.fail(|op| (op == Op::Put).then_some(Fault::Error));
    let first = first_request(&server);
    let cache = instance(&server, &store);
    let token = cache.source(first.clone()).token().await.unwrap();
    let down = tokio::spawn(async move { cache.shutdown().await });
    time::sleep(secs(5)).await;
    assert!(!down.is_finished());
    store.recover();
    time::sleep(secs(1)).await;
    assert!(down.is_finished());
    let other = instance(&server, &store).source(first.clone());
    assert_eq!(other.token().await.unwrap(), token);

    // It waits for a limited time.
    store.fail(|op| (op == Op::Put).then_some(Fault::Error));
    time::sleep(secs(200)).await;
    let cache = instance(&server, &store);
    cache.source(first).token().await.unwrap();
    let begun = time::Instant::now();
    cache.shutdown().await;
    assert!(begun.elapsed() < secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn instance_that_waits_sends_nothing_after_its_shutdown() {
    let server = server(secs(100));
    server.fail_next(Failure::delay(secs(5)));
    let store = TestStore::new();
    let first = first_request(&server);
    let one = instance(&server, &store).source(first.clone());
    let holder = one.clone();
    let holder = tokio::spawn(async move { holder.token().await });
    time::sleep(secs(1)).await;
    let cache = instance(&server, &store);
    let waiting = cache.source(first);
    let waiting = tokio::spawn(async move { waiting.token().await });
    time::sleep(secs(1)).await;
    let down = tokio::spawn(async move { cache.shutdown().await });
    time::sleep(millis(1)).await;
    // The holder gives up, so the lease is free.
    holder.abort();
    server.revoke_all();
    let _ = waiting.await.unwrap();
    down.await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn slow_store_does_not_stop_a_fetch_that_may_not_take_long() {
    for (fetch_timeout, limit) in [
        (millis(600), millis(500)),
        (secs(2), secs(5)),
        (secs(5), secs(5)),
    ] {
        let server = server(secs(100));
        let store = TestStore::new();
        store.fail(|_| Some(Fault::Hang));
        let set_up = |share: ShareTokens| share.limit(limit).lease(secs(60));
        let configure = |builder: TokenCacheBuilder| builder.fetch_timeout(fetch_timeout);
        let cache = instance_with(&server, &store, set_up, configure);
        for tenant in 0..10 {
            let request = request().parameter("tenant", tenant.to_string());
            let begun = time::Instant::now();
            let token = cache.source(request).token().await;
            assert!(token.is_ok(), "{fetch_timeout:?} {limit:?}: {token:?}");
            assert!(begun.elapsed() < fetch_timeout);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn store_that_takes_as_long_as_half_a_lease_does_not_stop_a_fetch() {
    let server = server(secs(100));
    let store = TestStore::new();
    store.fail(|_| Some(Fault::Slow(millis(600))));
    let set_up = |share: ShareTokens| share.limit(secs(5)).lease(secs(1));
    let cache = instance_with(&server, &store, set_up, |builder| builder);
    let begun = time::Instant::now();
    cache.source(request()).token().await.unwrap();
    assert!(begun.elapsed() < secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn full_store_is_reported_once() {
    let (log, _guard) = Log::record();
    let server = server(secs(100));
    let store = TestStore::new();
    // Looks that find an entry still work.
    store.fail(|op| (op == Op::Look).then_some(Fault::Error));
    let cache = instance(&server, &store);
    for tenant in 0..10 {
        let request = request().parameter("tenant", tenant.to_string());
        cache.source(request).token().await.unwrap();
        time::sleep(secs(3)).await;
    }
    let text = log.text();
    assert_eq!(text.matches("WARN").count(), 1, "{text}");
    assert!(!text.contains("works again"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn instance_that_only_reads_says_that_the_store_works_again() {
    let (log, _guard) = Log::record();
    let server = server(secs(1000));
    let store = TestStore::new();
    let tenant = |number: u32| request().parameter("tenant", number.to_string());
    let writer = instance(&server, &TestStore::over(store.inner.clone()));
    for number in 0..10 {
        writer.source(tenant(number)).token().await.unwrap();
    }
    let reader = instance(&server, &store);
    reader.source(tenant(0)).token().await.unwrap();
    store.fail(|_| Some(Fault::Hang));
    reader.source(tenant(1)).token().await.unwrap();
    store.recover();
    for number in 2..10 {
        time::sleep(secs(10)).await;
        reader.source(tenant(number)).token().await.unwrap();
    }
    let text = log.text();
    assert_eq!(
        text.matches("the token store works again").count(),
        1,
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn token_that_is_about_to_expire_is_taken_if_the_server_does_not_answer() {
    let server = server(secs(3600));
    let store = TestStore::new();
    let token = instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    time::sleep(secs(3300)).await;
    server.fail_until_told(Failure::stall());
    let cold = instance(&server, &store).source(request());
    let begun = time::Instant::now();
    assert_eq!(cold.token().await.unwrap(), token);
    assert!(begun.elapsed() <= secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn instances_do_not_queue_for_what_cannot_be_shared() {
    let server = AuthorizationServer::builder()
        .response_field("token_type", "N_A")
        .build();
    server.fail_until_told(Failure::delay(secs(1)));
    let store = TestStore::new();
    let begun = time::Instant::now();
    let sources: Vec<_> = (0..20)
        .map(|_| instance(&server, &store).source(request()))
        .collect();
    futures_util::future::join_all(sources.iter().map(|source| source.token())).await;
    assert_eq!(server.token_requests(), 20);
    assert!(begun.elapsed() <= secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_in_vain_for_a_refresh_token_is_told_why() {
    let server = server(secs(100));
    server.fail_until_told(Failure::stall());
    let store = TestStore::new();
    let first = first_request(&server);
    let holder = instance(&server, &store).source(first.clone());
    let holder = tokio::spawn(async move { holder.token().await });
    time::sleep(secs(1)).await;
    let begun = time::Instant::now();
    let short = |builder: TokenCacheBuilder| builder.fetch_timeout(secs(10));
    let other = instance_with(&server, &store, |share| share, short).source(first);
    let error = other.token().await.unwrap_err();
    assert!(
        error.to_string().contains("waiting for another instance"),
        "{error}"
    );
    assert!(error.is_transient() && !error.may_have_been_processed());
    assert!(begun.elapsed() < secs(8), "{:?}", begun.elapsed());
    assert_eq!(server.requests().len(), 1);
    holder.abort();
}

/// An instance that still has the newest refresh token replaces the entry meanwhile.
#[tokio::test(start_paused = true)]
async fn damaged_entry_of_a_sign_in_is_not_answered_with_an_old_refresh_token() {
    let server = server(secs(600));
    let store = TestStore::new();
    let first = first_request(&server);
    let living = instance(&server, &store).source(first.clone());
    living.token().await.unwrap();
    for garbage in [&b""[..], b"<html>", b"\x01", &[1; 200]] {
        store.return_garbage(Some(Bytes::from_static(garbage)));
        let cold = instance(&server, &store).source(first.clone());
        let error = cold.token().await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(
            error.to_string().contains("in the token store is"),
            "{error}"
        );
        assert_eq!(server.token_requests(), 1);
    }
    store.return_garbage(None);
    time::sleep(secs(700)).await;
    let token = living.token().await.unwrap();
    let cold = instance(&server, &store).source(first.clone());
    assert_eq!(cold.token().await.unwrap(), token);

    // Nobody has it any longer. The user has to sign in again, and must learn that.
    store.return_garbage(Some(Bytes::new()));
    // That the entry is old says nothing about the damage.
    time::sleep(secs(36_000)).await;
    let process = instance(&server, &store);
    let before = server.requests().len();
    assert!(
        process
            .source(first.clone())
            .token()
            .await
            .unwrap_err()
            .is_transient()
    );
    assert_eq!(server.requests().len(), before);
    time::sleep(secs(3700)).await;
    let cold = process.source(first);
    assert_eq!(
        cold.token().await.unwrap_err().kind(),
        TokenErrorKind::SignInRequired
    );
}

#[tokio::test(start_paused = true)]
async fn sign_in_that_was_idle_during_a_key_rotation_waits_for_its_key() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    let with = |keys: StoreKeys| {
        let endpoint = endpoint(&server);
        let share = ShareTokens::new(store.clone(), keys, &endpoint);
        let cache = TokenCache::builder(endpoint).share(share).build();
        cache.source(first.clone())
    };
    with(keys()).token().await.unwrap();
    time::sleep(secs(3600)).await;
    let rotated = || StoreKeys::new("orders", key(2)).names_with(key(1));
    let error = with(rotated()).token().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("StoreKeys::opens"), "{error}");
    assert_eq!(server.token_requests(), 1);
    let token = with(rotated().opens(key(1))).token().await.unwrap();
    assert_eq!(with(rotated()).token().await.unwrap(), token);
}

#[tokio::test(start_paused = true)]
async fn token_that_was_fetched_without_the_store_reaches_it() {
    let server = server(secs(100));
    let store = TestStore::new();
    let cut_off = TestStore::over(store.inner.clone());
    let mut looks = 0;
    cut_off.fail(move |op| {
        looks += usize::from(op == Op::Look);
        (op == Op::Look && looks == 1).then_some(Fault::Error)
    });
    let token = instance(&server, &cut_off)
        .source(request())
        .token()
        .await
        .unwrap();
    time::sleep(millis(1)).await;
    let other = instance(&server, &store).source(request());
    assert_eq!(other.token().await.unwrap(), token);
}

/// The response must not be lost, whatever the store does.
#[tokio::test(start_paused = true)]
async fn response_that_arrives_just_in_time_is_not_lost_because_of_the_store() {
    for fault in [Fault::Hang, Fault::LoseAnswer, Fault::Error] {
        for request in [request(), TokenRequest::jwt_bearer("assertion")] {
            let server = AuthorizationServer::builder()
                .jwt_bearer_assertion("assertion")
                .build();
            server.fail_next(Failure::delay(millis(1_990)));
            let store = TestStore::new();
            store.fail(move |op| (op == Op::Put).then_some(fault));
            let short = |builder: TokenCacheBuilder| builder.fetch_timeout(secs(2));
            let cache = instance_with(&server, &store, |share| share, short);
            let token = cache.source(request).token().await;
            assert!(token.is_ok(), "{fault:?}: {token:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn owner_is_told_of_a_refresh_token_although_the_store_is_slow() {
    let server = server(secs(100));
    server.fail_next(Failure::delay(millis(1_990)));
    let store = TestStore::new();
    store.fail(|op| (op == Op::Put).then_some(Fault::Hang));
    let told = Arc::new(Notify::new());
    let configure = |builder: TokenCacheBuilder| {
        let told = told.clone();
        let builder = builder.fetch_timeout(secs(2));
        builder.on_refresh_token(move |_, _| {
            told.notify_one();
            async {}
        })
    };
    let cache = instance_with(&server, &store, |share| share, configure);
    cache.source(first_request(&server)).token().await.unwrap();
    time::timeout(millis(1), told.notified()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ill_server_gets_few_requests_of_a_fleet_that_starts() {
    for failure in [
        Failure::status(503),
        Failure::status(429),
        Failure::oauth("invalid_client"),
    ] {
        let server = server(secs(100));
        server.fail_until_told(failure.delayed(millis(100)));
        let store = TestStore::new();
        let sources: Vec<_> = (0..50)
            .map(|_| instance(&server, &store).source(request()))
            .collect();
        let begun = time::Instant::now();
        let calls = sources.iter().map(|source| source.token());
        let all = futures_util::future::join_all(calls);
        let _ = time::timeout(secs(1), all).await;
        // One after the other, and never all at once.
        assert!(server.in_flight_peak() <= 2, "{}", server.in_flight_peak());
        assert!(server.requests().len() <= 12, "{}", server.requests().len());
        assert!(begun.elapsed() <= secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn lost_holder_does_not_lock_out_fetches_that_may_not_take_long() {
    let server = server(secs(100));
    server.fail_next(Failure::stall());
    let store = TestStore::new();
    let first = first_request(&server);
    lose_holder(&server, &store, &first).await;
    time::sleep(secs(20)).await;
    let short = |builder: TokenCacheBuilder| builder.fetch_timeout(millis(1_500));
    let other = instance_with(&server, &store, |share| share, short).source(first);
    other.token().await.unwrap();
}

/// The token of the next holder must not look older than it is: it would be renewed at once.
#[tokio::test(start_paused = true)]
async fn token_that_is_fetched_after_a_lost_holder_is_shared() {
    let server = server(secs(3));
    server.fail_next(Failure::stall());
    let store = TestStore::new();
    let first = first_request(&server);
    lose_holder(&server, &store, &first).await;
    let next = instance(&server, &store)
        .source(first.clone())
        .token()
        .await
        .unwrap();
    time::sleep(secs(1)).await;
    let other = instance(&server, &store).source(first);
    assert_eq!(other.token().await.unwrap(), next);
}

/// The store has lost its data, and an instance that knows only the first refresh token was refused.
#[tokio::test(start_paused = true)]
async fn refusal_of_an_old_refresh_token_does_not_displace_a_newer_one() {
    for is_other_kind in [false, true] {
        let server = server(secs(100));
        let store = TestStore::new();
        let first = first_request(&server);
        let forgetful = |share: ShareTokens| share.keep_refresh_tokens(secs(120));
        let start = |request| instance_with(&server, &store, forgetful, |it| it).source(request);
        let living = start(first.clone());
        living.token().await.unwrap();
        time::sleep(secs(130)).await;
        let cold = match is_other_kind {
            true => first.clone().header("x-kind", "other"),
            false => first,
        };
        server.fail_next(Failure::oauth("invalid_grant"));
        let refused = start(cold).token().await.unwrap_err();
        assert_eq!(refused.kind(), TokenErrorKind::SignInRequired);
        time::sleep(secs(20)).await;
        let token = living.token().await.unwrap();
        assert!(server.is_active(token.expose_secret()), "{is_other_kind}");
    }
}

/// The store was down when a code was exchanged, and is back when the instance needs its next token.
#[tokio::test(start_paused = true)]
async fn result_of_a_code_that_is_stored_late_does_not_displace_what_followed() {
    let server = server(secs(100));
    let store = TestStore::new();
    store.fail(|_| Some(Fault::Error));
    let code = code(&server);
    let one = instance(&server, &store).source(code);
    one.token().await.unwrap();
    time::sleep(secs(200)).await;
    // Between two attempts to store it.
    store.take_ops();
    while store.take_ops().is_empty() {
        time::sleep(millis(1)).await;
    }
    store.recover();
    let token = one.token().await.unwrap();
    time::sleep(secs(5)).await;
    let request = TokenRequest::refresh_token("unknown").sign_in("session 7");
    let cold = instance(&server, &store).source(request);
    assert_eq!(cold.token().await.unwrap(), token);
    time::sleep(secs(200)).await;
    for source in [&cold, &one] {
        assert!(server.is_active(source.token().await.unwrap().expose_secret()));
    }
    assert_eq!(server.token_requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn refused_refresh_token_stays_for_those_who_can_use_it() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    instance(&server, &store)
        .source(first.clone())
        .token()
        .await
        .unwrap();
    time::sleep(secs(200)).await;
    // It does not have the key to which the refresh token is bound, for example.
    server.fail_next(Failure::oauth("invalid_grant"));
    let wrong = instance(&server, &store).source(first.clone().header("x-key", "wrong"));
    wrong.token().await.unwrap_err();
    time::sleep(secs(24 * 3600)).await;
    let right = instance(&server, &store).source(first);
    let token = right.token().await.unwrap();
    assert!(server.is_active(token.expose_secret()));
}

/// The answer of the last holder was late, and the next one was refused meanwhile.
#[tokio::test(start_paused = true)]
async fn late_refresh_token_heals_a_sign_in_that_was_thought_to_have_ended() {
    let server = AuthorizationServer::builder()
        .access_token_lifetime(secs(100))
        .build();
    let store = TestStore::new();
    let first = first_request(&server);
    let (cut_off, token) = cut_off_with_a_new_refresh_token(&server, &store, &first).await;
    // This server does not revoke the newer refresh token because an old one was used.
    server.fail_next(Failure::oauth("invalid_grant"));
    let other = instance(&server, &store).source(first.clone());
    other.token().await.unwrap_err();
    cut_off.recover();
    time::sleep(secs(3)).await;
    let cold = instance(&server, &store).source(first);
    assert_eq!(cold.token().await.unwrap(), token);
}

/// The key of the entry is computed again before it is stored.
#[tokio::test(start_paused = true)]
async fn provider_that_hangs_does_not_lose_a_new_refresh_token() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let tenant = {
        let asked = asked.clone();
        tower_oauth2_client::Credential::from_fn(move || {
            let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move {
                if number >= 2 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, std::io::Error>("blue")
            }
        })
    };
    let short = |builder: TokenCacheBuilder| builder.fetch_timeout(secs(2));
    let cache = instance_with(&server, &store, |share| share, short);
    let token = cache
        .source(first.clone().parameter("tenant", tenant))
        .token()
        .await;
    assert!(token.is_ok(), "{token:?}");
    assert!(asked.load(std::sync::atomic::Ordering::SeqCst) > 2);
    time::sleep(secs(10)).await;
    let other = instance(&server, &store).source(first);
    let token = other.token().await.unwrap();
    assert!(server.is_active(token.expose_secret()));
}

/// If the server revokes the last token with each new one, the older one no longer works.
#[tokio::test(start_paused = true)]
async fn token_that_was_fetched_alone_does_not_displace_a_newer_one() {
    let server = server(secs(100));
    let store = TestStore::new();
    let slow = TestStore::over(store.inner.clone());
    let mut looks = 0;
    slow.fail(move |op| {
        looks += usize::from(op == Op::Look);
        (op == Op::Look && looks == 1).then_some(Fault::Error)
    });
    server.fail_next(Failure::delay(secs(10)));
    let alone = instance(&server, &slow).source(request());
    let alone = tokio::spawn(async move { alone.token().await.unwrap() });
    time::sleep(secs(2)).await;
    let newer = instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    alone.await.unwrap();
    time::sleep(secs(1)).await;
    let cold = instance(&server, &store).source(request());
    assert_eq!(cold.token().await.unwrap(), newer);
}

/// The instance with the code is cut off, and another one has read the first refresh token from a database and used it.
#[tokio::test(start_paused = true)]
async fn result_of_a_code_that_is_stored_late_does_not_displace_that_of_another_instance() {
    let server = server(secs(100));
    let store = TestStore::new();
    let cut_off = TestStore::over(store.inner.clone());
    cut_off.fail(|_| Some(Fault::Error));
    let row = Arc::new(std::sync::Mutex::new(String::new()));
    let writing = |builder: TokenCacheBuilder| {
        let row = row.clone();
        builder.on_refresh_token(move |_, token| {
            *row.lock().unwrap() = token.expose_secret().to_owned();
            async {}
        })
    };
    let code = code(&server);
    let one = instance_with(&server, &cut_off, |share| share, writing).source(code);
    one.token().await.unwrap();
    let from_row = || TokenRequest::refresh_token(row.lock().unwrap().clone()).sign_in("session 7");
    let other = instance(&server, &store).source(from_row());
    let token = other.token().await.unwrap();
    cut_off.recover();
    time::sleep(secs(5)).await;
    let cold = instance(&server, &store).source(from_row());
    assert_eq!(cold.token().await.unwrap(), token);
    time::sleep(secs(200)).await;
    for source in [&other, &cold, &one] {
        assert!(server.is_active(source.token().await.unwrap().expose_secret()));
    }
}

#[tokio::test(start_paused = true)]
async fn sign_ins_with_one_placeholder_are_kept_apart() {
    let server = server(secs(100));
    let store = TestStore::new();
    let named = |text: String, name: &str| TokenRequest::refresh_token(text).sign_in(name);
    let mut tokens = Vec::new();
    for name in ["session 7", "session 8"] {
        let first = server.issue_refresh_token("client", "api1");
        let source = instance(&server, &store).source(named(first, name));
        tokens.push(source.token().await.unwrap());
    }
    let cache = instance(&server, &store);
    for (name, token) in ["session 7", "session 8"].iter().zip(&tokens) {
        let source = cache.source(named("any".into(), name));
        assert_eq!(source.token().await.unwrap(), *token);
    }
}

#[tokio::test(start_paused = true)]
async fn removal_waits_for_an_instance_that_is_fetching() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    let one = instance(&server, &store).source(first.clone());
    one.token().await.unwrap();
    time::sleep(secs(200)).await;
    server.fail_next(Failure::delay(secs(5)));
    let holder = tokio::spawn(async move { one.token().await });
    time::sleep(secs(1)).await;
    let cache = instance(&server, &store);
    cache.remove_shared(&first).await.unwrap();
    holder.await.unwrap().unwrap();
    let name = TokenRequest::refresh_token("any").sign_in("session 7");
    let late = instance(&server, &store).source(name);
    assert_eq!(
        late.token().await.unwrap_err().kind(),
        TokenErrorKind::SignInRequired
    );
}

/// The store fails between the put and the look that follows it.
#[tokio::test(start_paused = true)]
async fn late_refresh_token_is_not_given_up_because_of_one_failed_look() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    let (cut_off, token) = cut_off_with_a_new_refresh_token(&server, &store, &first).await;
    server.fail_next(Failure::oauth("invalid_grant"));
    let other = instance(&server, &store).source(first.clone());
    other.token().await.unwrap_err();
    let mut looks = 0;
    cut_off.fail(move |op| {
        looks += usize::from(op == Op::Look);
        (op == Op::Look && looks == 1).then_some(Fault::Error)
    });
    time::sleep(secs(3)).await;
    let cold = instance(&server, &store).source(first);
    assert_eq!(cold.token().await.unwrap(), token);
}

#[tokio::test(start_paused = true)]
async fn refusal_does_not_displace_a_refresh_token_that_arrived_meanwhile() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    let (cut_off, token) = cut_off_with_a_new_refresh_token(&server, &store, &first).await;
    server.fail_next(Failure::oauth("invalid_grant").delayed(secs(5)));
    let other = instance(&server, &store).source(first.clone());
    let refused = tokio::spawn(async move { other.token().await });
    // Its request is on the way.
    time::sleep(secs(3)).await;
    cut_off.recover();
    let _ = refused.await.unwrap();
    time::sleep(secs(1)).await;
    let cold = instance(&server, &store).source(first);
    assert_eq!(cold.token().await.unwrap(), token);
    assert_eq!(server.token_requests(), 2);
}
