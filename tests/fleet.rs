//! The instances of a service share their tokens through a store.
#![allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; tests measure tokio's clock"
)]

mod fleet_support;
mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time;
use tower_oauth2_client::{
    ClientAuthentication, RefreshWindow, TokenCache, TokenEndpoint, TokenErrorKind, TokenRequest,
    TokenSource,
    test_util::{AuthorizationServer, Failure, ManualClock},
    token_cache::TokenCacheBuilder,
    token_store::{MemoryTokenStore, ShareTokens, StoreKeys},
};

use self::{
    fleet_support::{
        Fault, Op, TestStore, endpoint, instance, instance_with, key, keys, millis, request, secs,
        server, share,
    },
    support::Log,
};

#[tokio::test(start_paused = true)]
async fn cold_fleet_sends_one_token_request() {
    let server = server(secs(100));
    server.fail_until_told(Failure::delay(secs(2)));
    let store = TestStore::new();
    let callers = (0..8).flat_map(|_| {
        let source = instance(&server, &store).source(request());
        (0..100).map(move |_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await.unwrap().expose_secret().to_owned() })
        })
    });
    let mut tokens = HashSet::new();
    for caller in callers.collect::<Vec<_>>() {
        tokens.insert(caller.await.unwrap());
    }
    assert_eq!(server.token_requests(), 1);
    assert_eq!(tokens.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn warm_call_never_touches_the_store_and_a_cold_one_looks_once() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = instance(&server, &store).source(request());
    first.token().await.unwrap();
    assert_eq!(store.take_ops(), [Op::Look, Op::Put]);
    let second = instance(&server, &store).source(request());
    second.token().await.unwrap();
    assert_eq!(store.take_ops(), [Op::Look]);
    for _ in 0..1000 {
        for source in [&first, &second] {
            source.token().await.unwrap();
            assert!(source.peek().is_some());
        }
    }
    assert_eq!(store.take_ops(), []);
    assert_eq!(server.token_requests(), 1);
}

/// Without the store, it would be 20 times as many.
#[tokio::test(start_paused = true)]
async fn fleet_renews_no_more_often_than_one_process() {
    let renewals = async |instances: usize| {
        let server = server(secs(3));
        let store = MemoryTokenStore::new();
        let sources: Vec<_> = (0..instances)
            .map(|_| instance(&server, &store).source(request()))
            .collect();
        for source in &sources {
            source.token().await.unwrap();
            source.keep_warm().unwrap();
        }
        for _ in 0..3000 {
            time::sleep(millis(100)).await;
            assert!(sources.iter().all(|source| source.peek().is_some()));
        }
        server.token_requests()
    };
    let (one, fleet) = (renewals(1).await, renewals(20).await);
    println!("a hundred lifetimes: one process {one}, a fleet {fleet}");
    assert!((100..=135).contains(&one), "{one}");
    assert!((100..=135).contains(&fleet), "{fleet}");
}

#[tokio::test(start_paused = true)]
async fn token_is_renewed_although_the_instance_that_fetched_it_is_gone() {
    let server = server(secs(100));
    let store = MemoryTokenStore::new();
    let first = instance(&server, &store);
    first.source(request()).token().await.unwrap();
    let others: Vec<_> = (0..5)
        .map(|_| instance(&server, &store).source(request()))
        .collect();
    for source in &others {
        source.token().await.unwrap();
        source.keep_warm().unwrap();
    }
    drop(first);
    for _ in 0..500 {
        time::sleep(secs(1)).await;
        assert!(others.iter().all(|source| source.peek().is_some()));
    }
    assert!((5..=8).contains(&server.token_requests()));
}

#[tokio::test(start_paused = true)]
async fn entry_under_a_rotated_key_is_a_miss_and_not_an_error() {
    let server = server(secs(100));
    let store = TestStore::new();
    let with_keys = |keys: StoreKeys| {
        let share = ShareTokens::new(store.clone(), keys, &endpoint(&server));
        TokenCache::builder(endpoint(&server)).share(share).build()
    };
    let old = || StoreKeys::new("orders", key(1));
    let written = with_keys(
        StoreKeys::new("orders", key(2))
            .opens(key(1))
            .names_with(key(1)),
    );
    let new = written.source(request()).token().await.unwrap();
    // It does not know the key that encrypts, although it has the same name.
    let late = with_keys(old()).source(request());
    assert_ne!(late.token().await.unwrap(), new);
    assert_eq!(server.token_requests(), 2);
    // It has overwritten the entry, which everybody can read.
    let next = with_keys(
        StoreKeys::new("orders", key(2))
            .opens(key(1))
            .names_with(key(1)),
    );
    assert_eq!(
        next.source(request()).token().await.unwrap(),
        late.token().await.unwrap()
    );
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn rotations_by_the_book_cost_no_token_request() {
    let server = server(secs(100));
    let store = TestStore::new();
    let (first, second, third) = (|| key(1), || key(2), || key(3));
    let with = |key| StoreKeys::new("orders", key);
    let mut last: Option<TokenSource> = None;
    for (step, keys) in [
        with(first()),
        with(first()).opens(second()),
        with(second()).opens(first()).names_with(first()),
        with(second()).names_with(first()),
        with(second()).opens(third()).names_with(first()),
        with(third()).names_with(first()).opens(second()),
        with(third()).names_with(first()),
    ]
    .into_iter()
    .enumerate()
    {
        let share = ShareTokens::new(store.clone(), keys, &endpoint(&server));
        let cache = TokenCache::builder(endpoint(&server)).share(share).build();
        let source = cache.source(request());
        // Instances of this deploy and of the one before share a token, and in the next lifetime, too.
        for lifetime in 0..2 {
            let token = source.token().await.unwrap();
            if let Some(last) = &last {
                assert_eq!(last.token().await.unwrap(), token, "step {step}");
            }
            assert_eq!(server.token_requests(), step + 1 + lifetime, "step {step}");
            if lifetime == 0 {
                time::sleep(secs(100)).await;
            }
        }
        last = Some(source);
    }
}

#[tokio::test(start_paused = true)]
async fn corrupt_entry_is_replaced() {
    let server = server(secs(100));
    let store = TestStore::new();
    instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    let good = store.entries().pop().unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let mut garbage = vec![
        Vec::new(),
        vec![0],
        b"<!DOCTYPE html><html>502 Bad Gateway</html>".to_vec(),
        br#"{"access_token":"stolen"}"#.to_vec(),
        vec![0xff; 1 << 20],
        [&good[..], b"x"].concat(),
    ];
    garbage.extend((0..good.len()).step_by(7).map(flipped));
    garbage.extend(
        (0..good.len())
            .step_by(13)
            .map(|length| good[..length].to_vec()),
    );
    for (number, garbage) in garbage.into_iter().enumerate() {
        let before = server.token_requests();
        store.return_garbage(Some(garbage.into()));
        let token = instance(&server, &store)
            .source(request())
            .token()
            .await
            .unwrap();
        assert_eq!(server.token_requests(), before + 1, "{number}");
        store.return_garbage(None);
        let next = instance(&server, &store)
            .source(request())
            .token()
            .await
            .unwrap();
        assert_eq!(next, token, "{number}");
        assert_eq!(server.token_requests(), before + 1, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn entry_cannot_be_moved_to_another_request() {
    let server = server(secs(100));
    let store = TestStore::new();
    let other = instance(&server, &store).source(request().scope("admin"));
    let other = other.token().await.unwrap();
    instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    store.return_garbage(Some(store.entries()[0].clone()));
    let token = instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    assert_ne!(token, other);
    assert_eq!(server.token_requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn two_fleets_with_different_keys_on_one_store_share_nothing() {
    let server = server(secs(100));
    let store = TestStore::new();
    let mut tokens = Vec::new();
    for keys in [
        StoreKeys::new("orders", key(1)),
        StoreKeys::new("orders", key(2)),
        StoreKeys::new("billing", key(1)),
    ] {
        let share = ShareTokens::new(store.clone(), keys, &endpoint(&server));
        let cache = TokenCache::builder(endpoint(&server)).share(share).build();
        tokens.push(cache.source(request()).token().await.unwrap());
    }
    assert_eq!(server.token_requests(), 3);
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != tokens[2]);
}

#[tokio::test(start_paused = true)]
async fn two_clients_never_share() {
    let server = AuthorizationServer::builder()
        .client("client", "secret")
        .client("other", "secret")
        .build();
    let store = TestStore::new();
    let with_client = |client: ClientAuthentication| {
        let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
        let share = ShareTokens::new(store.clone(), keys(), &endpoint);
        TokenCache::builder(endpoint).share(share).build()
    };
    let basic = ClientAuthentication::client_secret_basic;
    let one = with_client(basic("client", "secret"));
    let other = with_client(basic("other", "secret"));
    let token = one.source(request()).token().await.unwrap();
    assert_ne!(other.source(request()).token().await.unwrap(), token);
    let named = request().client_authentication(basic("other", "secret"));
    assert_ne!(one.source(named).token().await.unwrap(), token);
    assert_eq!(
        server.introspect(token.expose_secret())["client_id"],
        "client"
    );
}

#[tokio::test(start_paused = true)]
async fn client_that_authenticates_by_tls_has_to_say_which_certificate_it_has() {
    let server = AuthorizationServer::builder().tls_client("pod").build();
    let client = ClientAuthentication::tls_client_auth("pod");
    let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    let share = || ShareTokens::new(MemoryTokenStore::new(), keys(), &endpoint);
    let cache = TokenCache::builder(endpoint.clone()).share(share()).build();
    let error = cache.source(request()).token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    assert!(error.to_string().contains("distinguished_by"), "{error}");

    let store = TestStore::new();
    let with = |thumbprint: &'static str| {
        let share = ShareTokens::new(store.clone(), keys(), &endpoint);
        let share = share.distinguished_by(move || thumbprint.into());
        TokenCache::builder(endpoint.clone()).share(share).build()
    };
    let one = with("a").source(request()).token().await.unwrap();
    assert_eq!(with("a").source(request()).token().await.unwrap(), one);
    assert_ne!(with("b").source(request()).token().await.unwrap(), one);
}

/// Each operation, and each way in which it can fail.
#[tokio::test(start_paused = true)]
async fn failing_store_does_not_stop_acquisition() {
    for op in [
        Op::Look,
        Op::Renew,
        Op::Release,
        Op::Put,
        Op::Remove,
        Op::Wait,
    ] {
        for fault in [Fault::Error, Fault::Hang, Fault::LoseAnswer] {
            let server = server(secs(100));
            server.fail_until_told(Failure::delay(secs(5)));
            let store = TestStore::new();
            store.fail(move |found| (found == op).then_some(fault));
            let sources: Vec<_> = (0..4)
                .map(|_| instance(&server, &store).source(request()))
                .collect();
            let begun = time::Instant::now();
            let calls = sources.iter().map(|source| source.token());
            for result in futures_util::future::join_all(calls).await {
                result.unwrap_or_else(|error| panic!("{op:?} {fault:?}: {error}"));
            }
            assert!(
                begun.elapsed() < secs(30),
                "{op:?} {fault:?}: {:?}",
                begun.elapsed()
            );
            assert!(server.token_requests() <= 4, "{op:?} {fault:?}");
            for source in &sources {
                let token = source.token().await.unwrap();
                source.invalidate(token.access_token());
                source.token().await.unwrap();
            }
            // A failure releases the lease.
            server.fail_until_told(Failure::status(404));
            let other = request().scope("other");
            let failed = instance(&server, &store).source(other).token().await;
            failed.unwrap_err();
            assert!(
                store.take_ops().contains(&op),
                "{op:?} {fault:?} never happened"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn slow_store_delays_one_fetch_and_not_every_one() {
    let server = server(secs(100));
    let store = TestStore::new();
    store.fail(|_| Some(Fault::Hang));
    let cache = instance(&server, &store);
    let begun = time::Instant::now();
    for tenant in 0..100 {
        let request = request().parameter("tenant", tenant.to_string());
        cache.source(request).token().await.unwrap();
    }
    // It has never answered, so it gets two seconds, with a limit of half a second for each look.
    assert_eq!(begun.elapsed(), secs(2));
    let looks = |ops: &[Op]| ops.iter().filter(|op| **op == Op::Look).count();
    assert_eq!(looks(&store.take_ops()), 4);
    time::sleep(secs(31)).await;
    store.recover();
    store.take_ops();
    cache.source(request()).token().await.unwrap();
    assert_eq!(store.take_ops(), [Op::Look, Op::Put]);

    store.fail(|_| Some(Fault::Hang));
    let begun = time::Instant::now();
    for tenant in 100..200 {
        let request = request().parameter("tenant", tenant.to_string());
        cache.source(request).token().await.unwrap();
    }
    assert_eq!(begun.elapsed(), millis(500));
    assert_eq!(looks(&store.take_ops()), 1);
}

#[tokio::test(start_paused = true)]
async fn store_is_taken_up_again_with_one_warning_for_each_change() {
    let (log, _guard) = Log::record();
    let server = server(secs(100));
    let store = TestStore::new();
    let cache = instance(&server, &store);
    let mut tenant = 0;
    let mut fetch = async || {
        tenant += 1;
        let request = request().parameter("tenant", tenant.to_string());
        cache.source(request).token().await.unwrap();
    };
    for fault in [Fault::Error, Fault::Hang, Fault::LoseAnswer] {
        fetch().await;
        store.fail(move |_| Some(fault));
        for _ in 0..20 {
            fetch().await;
            time::sleep(secs(1)).await;
        }
        store.recover();
        time::sleep(secs(31)).await;
        fetch().await;
        store.take_ops();
        fetch().await;
        assert_eq!(store.take_ops(), [Op::Look, Op::Put], "{fault:?}");
    }
    let count = |text: &str| log.text().matches(text).count();
    assert_eq!(count("WARN"), 3, "{}", log.text());
    assert_eq!(count("the token store failed; continuing without it"), 3);
    assert_eq!(count("the token store works again"), 3);
}

#[tokio::test(start_paused = true)]
async fn full_store_still_gives_what_is_there() {
    let server = server(secs(100));
    let store = TestStore::new();
    let token = instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    let full = TestStore::over(store.inner.clone());
    full.fail(|op| (op != Op::Look).then_some(Fault::Error));
    let cache = instance(&server, &full);
    cache
        .source(request().scope("other"))
        .token()
        .await
        .unwrap();
    assert_eq!(cache.source(request()).token().await.unwrap(), token);
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn store_that_returns_an_old_entry_forever_is_left() {
    let server = server(secs(100));
    let store = TestStore::new();
    let source = instance(&server, &store).source(request());
    let token = source.token().await.unwrap();
    // A replica that is behind: everything that is asked of it is answered from the first name.
    let stale = instance(&server, &Stale(store.inner.clone())).source(request());
    assert_eq!(stale.token().await.unwrap(), token);
    stale.discard();
    assert_ne!(stale.token().await.unwrap(), token);
    assert_eq!(server.token_requests(), 2);
}

/// Ignores `newer_than`.
#[derive(Clone)]
struct Stale(MemoryTokenStore);

mod stale {
    use super::{MemoryTokenStore, Stale};
    use bytes::Bytes;
    use std::{pin::Pin, time::Duration};
    use tower_oauth2_client::token_store::{
        EntryName, Fence, Found, LeaseOwner, Put, StoreFuture, TokenStore,
    };

    impl TokenStore for Stale {
        fn look<'a>(
            &'a self,
            name: &'a EntryName,
            _: Option<Fence>,
            owner: &'a LeaseOwner,
            lease_for: Duration,
        ) -> StoreFuture<'a, Found> {
            self.0.look(name, None, owner, lease_for)
        }
        fn renew<'a>(
            &'a self,
            name: &'a EntryName,
            owner: &'a LeaseOwner,
            lease_for: Duration,
        ) -> StoreFuture<'a, bool> {
            self.0.renew(name, owner, lease_for)
        }
        fn release<'a>(
            &'a self,
            name: &'a EntryName,
            owner: &'a LeaseOwner,
            pause: Duration,
        ) -> StoreFuture<'a, ()> {
            self.0.release(name, owner, pause)
        }
        fn put<'a>(
            &'a self,
            _: &'a EntryName,
            _: &'a LeaseOwner,
            _: Fence,
            _: Bytes,
            _: Duration,
        ) -> StoreFuture<'a, Put> {
            Box::pin(async { Err("read-only".into()) })
        }
        fn remove<'a>(&'a self, _: &'a EntryName, _: Fence) -> StoreFuture<'a, bool> {
            Box::pin(async { Err("read-only".into()) })
        }
        fn wait<'a>(
            &'a self,
            name: &'a EntryName,
            lease: Fence,
            at_most: Duration,
        ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
            MemoryTokenStore::wait(&self.0, name, lease, at_most)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_do_not_poll_hard_even_if_the_store_wakes_them_at_once() {
    let server = server(secs(100));
    server.fail_until_told(Failure::delay(secs(10)));
    let first = TestStore::new();
    let second = TestStore::over(first.inner.clone());
    second.return_from_waits_at_once();
    let fetching = instance(&server, &first).source(request());
    let fetching = tokio::spawn(async move { fetching.token().await });
    time::sleep(secs(1)).await;
    instance(&server, &second)
        .source(request())
        .token()
        .await
        .unwrap();
    fetching.await.unwrap().unwrap();
    assert_eq!(server.token_requests(), 1);
    let looks = second
        .take_ops()
        .iter()
        .filter(|op| **op == Op::Look)
        .count();
    assert!(looks <= 500, "{looks}");
}

#[tokio::test(start_paused = true)]
async fn lease_outlives_the_slowest_request() {
    let server = server(secs(100));
    server.fail_next(Failure::delay(secs(14)));
    let store = MemoryTokenStore::new();
    let short = |share: ShareTokens| share.lease(secs(1));
    let sources: Vec<_> = (0..5)
        .map(|_| instance_with(&server, &store, short, |builder| builder).source(request()))
        .collect();
    let calls = sources.iter().map(|source| source.token());
    for token in futures_util::future::join_all(calls).await {
        token.unwrap();
    }
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn holder_whose_request_never_ends_does_not_stop_the_fleet() {
    let server = server(secs(100));
    server.fail_next(Failure::stall());
    let store = MemoryTokenStore::new();
    let stuck = instance(&server, &store).source(request());
    let stuck = tokio::spawn(async move { stuck.token().await });
    time::sleep(millis(10)).await;
    let begun = time::Instant::now();
    instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    assert!(begun.elapsed() < secs(25), "{:?}", begun.elapsed());
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn next_instance_fetches_when_the_lease_of_a_crashed_one_ends() {
    let server = server(secs(100));
    let store = TestStore::new();
    let crashed = TestStore::over(store.inner.clone());
    server.fail_next(Failure::stall());
    let source = instance(&server, &crashed).source(request());
    let fetch = tokio::spawn(async move { source.token().await });
    time::sleep(secs(1)).await;
    // Killed: nothing is renewed or released any longer.
    crashed.fail(|_| Some(Fault::Hang));
    fetch.abort();
    let begun = time::Instant::now();
    instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    assert!(begun.elapsed() <= secs(10), "{:?}", begun.elapsed());
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn cancelled_fetch_releases_its_lease() {
    let server = server(secs(100));
    server.fail_next(Failure::stall());
    let store = MemoryTokenStore::new();
    let cache = instance(&server, &store);
    let source = cache.source(request());
    let fetch = tokio::spawn(async move { source.token().await });
    time::sleep(secs(1)).await;
    cache.shutdown().await;
    assert!(fetch.await.unwrap().is_err());
    let begun = time::Instant::now();
    instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    assert!(begun.elapsed() < millis(100), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn failure_of_a_loser_leaves_the_token_of_the_winner() {
    let server = server(secs(100));
    let store = TestStore::new();
    let suspended = TestStore::over(store.inner.clone());
    // It cannot renew its lease, and its request fails very late.
    suspended.fail(|op| (op == Op::Renew).then_some(Fault::Error));
    server.fail_next(Failure::status(503).delayed(secs(12)));
    let loser = instance(&server, &suspended).source(request());
    let losing = loser.clone();
    let losing = tokio::spawn(async move { losing.token().await });
    time::sleep(secs(11)).await;
    let winner = instance(&server, &store).source(request());
    let token = winner.token().await.unwrap();
    let _ = losing.await.unwrap();
    for _ in 0..3 {
        let next = instance(&server, &store).source(request());
        assert_eq!(next.token().await.unwrap(), token);
        time::sleep(secs(5)).await;
        assert_eq!(loser.token().await.unwrap(), token);
    }
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn late_token_of_a_loser_does_not_replace_that_of_the_winner() {
    let server = server(secs(100));
    let store = TestStore::new();
    let suspended = TestStore::over(store.inner.clone());
    suspended.fail(|op| (op == Op::Renew).then_some(Fault::Error));
    server.fail_next(Failure::delay(secs(12)));
    let loser = instance(&server, &suspended).source(request());
    let losing = loser.clone();
    let losing = tokio::spawn(async move { losing.token().await });
    time::sleep(secs(11)).await;
    let token = instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    // It takes the newer one instead of its own.
    assert_eq!(losing.await.unwrap().unwrap(), token);
    let next = instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    assert_eq!(next, token);
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn everything_in_the_response_survives_the_way_through_the_store() {
    let server = AuthorizationServer::builder()
        .response_field("resource", serde_json::json!(["https://api.example"]))
        .response_field("scope", "granted")
        .build();
    let store = MemoryTokenStore::new();
    let keep = |builder: TokenCacheBuilder| builder.keep_members(["resource"]);
    let request = || TokenRequest::client_credentials().resource("https://api.example");
    let mut found = Vec::new();
    for _ in 0..2 {
        let cache = instance_with(&server, &store, |share| share, keep);
        let token = cache.source(request()).token().await.unwrap();
        assert_eq!(token.get("resource").unwrap()[0], "https://api.example");
        assert_eq!(token.scope().unwrap().as_str(), "granted");
        found.push(token);
    }
    assert_eq!(found[0], found[1]);
    let [one, other] = [&found[0], &found[1]].map(|token| token.expires_in().unwrap());
    assert!(one.abs_diff(other) < millis(1), "{one:?} {other:?}");
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_token_is_not_taken_from_the_store_again() {
    let server = server(secs(100));
    let store = TestStore::new();
    let [one, other] = [(); 2].map(|()| instance(&server, &store).source(request()));
    let token = one.token().await.unwrap();
    assert_eq!(other.token().await.unwrap(), token);
    one.invalidate(token.access_token());
    let next = one.token().await.unwrap();
    assert_ne!(next, token);
    assert_eq!(server.token_requests(), 2);
    // The other one learns of it when it is refused, too, and sends no request for that.
    other.invalidate(token.access_token());
    assert_eq!(other.token().await.unwrap(), next);
    other.discard();
    let last = other.token().await.unwrap();
    assert_ne!(last, next);
    // A new instance gets the newest.
    assert_eq!(
        instance(&server, &store)
            .source(request())
            .token()
            .await
            .unwrap(),
        last
    );
    assert_eq!(server.token_requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn refused_token_is_gone_for_others_even_if_no_other_can_be_fetched() {
    let server = server(secs(100));
    let store = TestStore::new();
    let one = instance(&server, &store).source(request());
    let token = one.token().await.unwrap();
    one.invalidate(token.access_token());
    server.fail_until_told(Failure::status(503).retry_after(secs(10)));
    one.token().await.unwrap_err();
    let other = instance(&server, &store).source(request());
    other.token().await.unwrap_err();
    server.recover();
    time::sleep(secs(11)).await;
    assert_ne!(other.token().await.unwrap(), token);
}

#[tokio::test(start_paused = true)]
async fn token_that_the_server_issues_again_after_a_refusal_is_not_taken_from_the_store() {
    let server = server(secs(100));
    server.same_token(true);
    let store = TestStore::new();
    let [one, other] = [(); 2].map(|()| instance(&server, &store).source(request()));
    let token = one.token().await.unwrap();
    assert_eq!(other.token().await.unwrap(), token);
    for source in [&one, &other] {
        source.invalidate(token.access_token());
        assert_eq!(source.token().await.unwrap(), token);
    }
    // Each has asked the server itself.
    assert_eq!(server.token_requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn renewal_on_demand_gets_a_token_that_was_issued_after_it() {
    let server = server(secs(100));
    let store = TestStore::new();
    let [one, other] = [(); 2].map(|()| instance(&server, &store).source(request()));
    one.token().await.unwrap();
    let old = other.token().await.unwrap();
    time::sleep(secs(2)).await;
    let new = one.renew().await.unwrap();
    assert_ne!(new, old);
    // That one is new for this instance, but it may be older than what the caller has just changed.
    let newest = other.renew().await.unwrap();
    assert!(newest != new && newest != old);
    assert_eq!(server.token_requests(), 3);
}

/// It may be older than what the caller has just changed.
#[tokio::test(start_paused = true)]
async fn renewal_on_demand_does_not_take_a_token_whose_request_was_sent_before() {
    let server = server(secs(100));
    let store = TestStore::new();
    let sources: Vec<_> = (0..8)
        .map(|_| instance(&server, &store).source(request()))
        .collect();
    for source in &sources {
        source.token().await.unwrap();
    }
    time::sleep(secs(2)).await;
    server.fail_until_told(Failure::delay(secs(2)));
    let first = sources[0].clone();
    let first = tokio::spawn(async move { first.renew().await.unwrap() });
    time::sleep(secs(1)).await;
    let others = sources[1..].iter().map(|source| source.renew());
    let others = futures_util::future::join_all(others).await;
    let first = first.await.unwrap();
    for other in &others {
        assert_ne!(other.as_ref().unwrap(), &first);
    }
    // One of the others fetches for all of them.
    assert_eq!(server.token_requests(), 3);
}

/// Otherwise, the others would wait for somebody who does not fetch for them.
#[tokio::test(start_paused = true)]
async fn lease_whose_answer_was_lost_is_released() {
    let server = server(secs(100));
    let store = TestStore::new();
    let cut_off = TestStore::over(store.inner.clone());
    let mut looks = 0;
    cut_off.fail(move |op| {
        looks += usize::from(op == Op::Look);
        (op == Op::Look && looks > 1).then_some(Fault::LoseAnswer)
    });
    let tenant = |name| request().parameter("tenant", name);
    let cache = instance(&server, &cut_off);
    cache.source(tenant("a")).token().await.unwrap();
    server.fail_next(Failure::delay(secs(5)));
    let cut_off = cache.source(tenant("b"));
    let alone = tokio::spawn(async move { cut_off.token().await.unwrap() });
    time::sleep(secs(1)).await;
    let begun = time::Instant::now();
    let other = instance(&server, &store).source(tenant("b"));
    other.token().await.unwrap();
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
    alone.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn token_is_stored_although_the_store_was_slow_for_another_one_meanwhile() {
    let server = server(secs(100));
    server.fail_next(Failure::delay(secs(3)));
    let store = TestStore::new();
    let cache = instance(&server, &store);
    let slow = cache.source(request());
    let slow = tokio::spawn(async move { slow.token().await.unwrap() });
    time::sleep(secs(2)).await;
    store.fail(|op| (op == Op::Look).then_some(Fault::Hang));
    let another = cache.source(request().parameter("tenant", "a"));
    another.token().await.unwrap();
    let token = slow.await.unwrap();
    store.recover();
    let other = instance(&server, &store).source(request());
    assert_eq!(other.token().await.unwrap(), token);
}

#[tokio::test(start_paused = true)]
async fn wait_that_never_ends_delays_until_the_end_of_the_lease() {
    let server = server(secs(100));
    server.fail_next(Failure::stall());
    let store = TestStore::new();
    store.fail(|op| (op == Op::Wait).then_some(Fault::Hang));
    let killed = TestStore::over(store.inner.clone());
    let source = instance(&server, &killed).source(request());
    let fetch = tokio::spawn(async move { source.token().await });
    time::sleep(secs(1)).await;
    killed.fail(|_| Some(Fault::Hang));
    fetch.abort();
    let begun = time::Instant::now();
    let other = instance(&server, &store).source(request());
    other.token().await.unwrap();
    assert!(begun.elapsed() < secs(11), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn lease_lasts_at_least_a_second() {
    let server = server(secs(100));
    server.fail_next(Failure::delay(secs(5)));
    let store = TestStore::new();
    let none = |share: ShareTokens| share.lease(Duration::ZERO);
    let sources = [(); 3].map(|()| instance_with(&server, &store, none, |it| it).source(request()));
    let calls = sources.iter().map(|source| source.token());
    for token in futures_util::future::join_all(calls).await {
        token.unwrap();
    }
    assert_eq!(server.token_requests(), 1);
    let ops = store.take_ops();
    assert!(ops.len() < 50, "{ops:?}");
}

#[tokio::test(start_paused = true)]
async fn fleet_pauses_together_after_an_answer_of_an_ill_server_and_one_instance_probes() {
    for (failure, pause) in [
        (Failure::status(503).retry_after(secs(30)), 30),
        (Failure::status(429).retry_after(secs(30)), 30),
        (Failure::status(503).retry_after(secs(100_000)), 300),
    ] {
        let server = server(secs(1000));
        server.fail_until_told(failure);
        let store = TestStore::new();
        let sources: Vec<_> = (0..10)
            .map(|_| instance(&server, &store).source(request()))
            .collect();
        for source in &sources {
            let error = source.token().await.unwrap_err();
            assert!(error.is_transient(), "{error}");
        }
        assert_eq!(server.token_requests(), 1);
        time::sleep(secs(pause + 1)).await;
        for source in &sources {
            source.token().await.unwrap_err();
        }
        assert_eq!(server.token_requests(), 2, "one probe");
        server.recover();
        time::sleep(secs(pause + 1)).await;
        for source in &sources {
            source.token().await.unwrap();
        }
        assert_eq!(server.token_requests(), 3);
    }
}

/// Without `Retry-After`, the pauses of a fleet grow as those of one process do.
#[tokio::test(start_paused = true)]
async fn ill_server_gets_as_few_probes_of_a_fleet_as_of_one_process() {
    let probes = async |instances: usize| {
        let server = server(secs(1000));
        server.fail_until_told(Failure::status(503));
        let store = MemoryTokenStore::new();
        let sources: Vec<_> = (0..instances)
            .map(|_| instance(&server, &store).source(request()))
            .collect();
        for _ in 0..3000 {
            for source in &sources {
                source.token().await.unwrap_err();
            }
            time::sleep(millis(200)).await;
        }
        server.token_requests()
    };
    let (one, fleet) = (probes(1).await, probes(50).await);
    println!("ten minutes: one process {one}, a fleet {fleet}");
    assert!(fleet <= one * 2, "one process {one}, a fleet {fleet}");
}

#[tokio::test(start_paused = true)]
async fn fault_of_one_instance_does_not_stop_the_fleet() {
    let server = server(secs(100));
    for (name, failure) in [
        ("no connection", Failure::drop_connection()),
        (
            "an old secret",
            Failure::oauth("invalid_client").with_status(401),
        ),
        ("garbage", Failure::garbage()),
        ("not found", Failure::status(404)),
    ] {
        let store = TestStore::new();
        server.fail_until_told(failure);
        let unlucky = instance(&server, &store).source(request());
        unlucky.token().await.unwrap_err();
        server.recover();
        let begun = time::Instant::now();
        instance(&server, &store)
            .source(request())
            .token()
            .await
            .unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_transient_failure_is_retried_as_without_a_store() {
    let server = server(secs(100));
    server.fail_next(Failure::status(503));
    instance(&server, &MemoryTokenStore::new())
        .source(request())
        .token()
        .await
        .unwrap();
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn token_that_is_about_to_expire_is_taken_if_the_server_is_down() {
    let server = server(secs(100));
    let store = TestStore::new();
    let token = instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    time::sleep(secs(92)).await;
    server.fail_until_told(Failure::status(503));
    let cold = instance(&server, &store).source(request());
    assert_eq!(cold.token().await.unwrap(), token);
    server.recover();
    let cold = instance(&server, &store).source(request());
    time::sleep(secs(2)).await;
    assert_ne!(cold.token().await.unwrap(), token);
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_by_five_minutes_neither_end_nor_prolong_a_token() {
    let clock = |minutes: i32| {
        let clock = ManualClock::new();
        match minutes {
            ..0 => clock.set_wall_back(secs(300)),
            0 => {}
            1.. => clock.suspend(secs(300)),
        }
        clock
    };
    for lifetime in [60, 3600] {
        for (writer, reader) in [(-5, 5), (5, -5), (0, 5), (0, -5), (5, 5)] {
            let server = server(secs(lifetime));
            let store = MemoryTokenStore::new();
            let with = |minutes| {
                let clock = clock(minutes);
                let set = |builder: TokenCacheBuilder| builder.clock(&clock);
                instance_with(&server, &store, |share| share, set).source(request())
            };
            let token = with(writer).token().await.unwrap();
            time::sleep(secs(lifetime / 2)).await;
            let reader = with(reader);
            assert_eq!(reader.token().await.unwrap(), token, "{lifetime}");
            assert_eq!(server.token_requests(), 1);
            let mut served = 0;
            for _ in 0..lifetime {
                if let Some(found) = reader.peek() {
                    assert!(
                        server.is_active(found.expose_secret()),
                        "an expired token is served"
                    );
                    served += 1;
                }
                time::sleep(secs(1)).await;
            }
            assert!(served >= lifetime * 4 / 10, "{served} of {lifetime}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_in_the_log_and_in_debug_is_secret() {
    let (log, _guard) = Log::record();
    let server = server(secs(100));
    let store = TestStore::new();
    let one = instance(&server, &store).source(request());
    let token = one.token().await.unwrap();
    instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    store.return_garbage(Some("garbage".into()));
    instance(&server, &store)
        .source(request())
        .token()
        .await
        .unwrap();
    let shared = share(&server, store.clone());
    let shown = format!("{shared:?} {shared:#?} {}", log.text());
    assert!(
        shown.contains("took an access token from the token store"),
        "{shown}"
    );
    let key_text = format!("{:?}", key(1));
    assert_eq!(key_text, "StoreKey([redacted])");
    for secret in [token.expose_secret(), "secret\""] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for entry in store.entries() {
        for secret in [
            token.expose_secret(),
            "client",
            "api1",
            "token_endpoint",
            "Bearer",
            "https",
        ] {
            let found = entry
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret}");
        }
    }
}

/// Doorkeeper can be set up so that a client has one token only.
#[tokio::test(start_paused = true)]
async fn replicas_do_not_revoke_each_others_tokens() {
    let server = server(secs(60));
    let store = MemoryTokenStore::new();
    let last = Arc::new(std::sync::Mutex::new(None::<String>));
    let sources: Vec<_> = (0..8)
        .map(|_| {
            let (server, last) = (server.clone(), last.clone());
            let inner = endpoint(&server);
            let share = ShareTokens::new(store.clone(), keys(), &inner);
            let revoking = tower::service_fn(move |request: TokenRequest| {
                let (inner, server, last) = (inner.clone(), server.clone(), last.clone());
                async move {
                    let response = tower::ServiceExt::oneshot(inner, request).await?;
                    let token = response.access_token().expose_secret().to_owned();
                    if let Some(old) = last.lock().unwrap().replace(token) {
                        server.revoke(&old);
                    }
                    time::sleep(millis(50)).await;
                    Ok::<_, tower_oauth2_client::TokenError>(response)
                }
            });
            TokenCache::builder(revoking)
                .share(share)
                .build()
                .source(request())
        })
        .collect();
    let (calls, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..3000 {
        for source in &sources {
            calls.fetch_add(1, Ordering::Relaxed);
            let mut token = source.token().await.unwrap();
            if !server.is_active(token.expose_secret()) {
                source.invalidate(token.access_token());
                token = source.token().await.unwrap();
            }
            good.fetch_add(
                usize::from(server.is_active(token.expose_secret())),
                Ordering::Relaxed,
            );
        }
        time::sleep(millis(100)).await;
    }
    let (calls, good) = (calls.load(Ordering::Relaxed), good.load(Ordering::Relaxed));
    assert!(good * 1000 >= calls * 999, "{good} of {calls}");
    assert!(server.token_requests() <= 8, "{}", server.token_requests());
}

#[tokio::test(start_paused = true)]
async fn fleet_over_a_store_with_window_of_its_own_renews_early() {
    let server = server(secs(100));
    let store = MemoryTokenStore::new();
    let window = || RefreshWindow::new().first(0.5..=0.5).later(0.5..=0.5);
    let early = |builder: TokenCacheBuilder| builder.refresh_window(window());
    let [one, other] =
        [(); 2].map(|()| instance_with(&server, &store, |share| share, early).source(request()));
    for source in [&one, &other] {
        source.token().await.unwrap();
        source.keep_warm().unwrap();
    }
    time::sleep(secs(51)).await;
    assert_eq!(server.token_requests(), 2);
    time::sleep(secs(45)).await;
    assert_eq!(server.token_requests(), 2);
    assert_eq!(one.peek(), other.peek());
}
