//! A sign-in has one entry in the store, whatever the instances of a service make of it, so its refresh token is spent once.
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

use http::Response;
use tokio::time;
use tower_oauth2_client::{
    ClientAuthentication, TokenCache, TokenEndpoint, TokenErrorKind, TokenRequest, TokenSource,
    test_util::{AuthorizationServer, Failure},
    token_cache::TokenCacheBuilder,
    token_store::{MemoryTokenStore, ShareTokens, StoreKeys},
};

use self::{
    fleet_support::{
        Fault, Op, TestStore, endpoint, first_request, instance, instance_with, key, keys, request,
        secs, server, spent,
    },
    support::Log,
};

/// An instance in whose deploy one thing is different.
struct Instance {
    endpoint: TokenEndpoint<AuthorizationServer>,
    request: TokenRequest,
    keys: StoreKeys,
    text: &'static str,
}

impl Instance {
    fn source(self, store: &TestStore) -> TokenSource {
        let share = ShareTokens::new(store.clone(), self.keys, &self.endpoint);
        let share = share.distinguished_by(move || self.text.into());
        let cache = TokenCache::builder(self.endpoint).share(share).build();
        cache.source(self.request)
    }
}

fn by_post(instance: Instance) -> Instance {
    let client = ClientAuthentication::client_secret_post("client", "secret");
    Instance {
        request: instance.request.client_authentication(client),
        ..instance
    }
}

fn text(instance: Instance) -> Instance {
    Instance {
        text: "thumbprint",
        ..instance
    }
}

fn default(instance: Instance) -> Instance {
    Instance {
        endpoint: instance.endpoint.default_parameter("tenant", "blue"),
        ..instance
    }
}

fn scope(instance: Instance) -> Instance {
    Instance {
        request: instance.request.scope("api1"),
        ..instance
    }
}

fn header(instance: Instance) -> Instance {
    Instance {
        request: instance.request.header("x-tenant", "blue"),
        ..instance
    }
}

fn with_keys(keys: StoreKeys) -> impl Fn(Instance) -> Instance {
    move |instance| Instance {
        keys: keys.clone(),
        ..instance
    }
}

#[cfg(feature = "dpop")]
fn dpop(instance: Instance) -> Instance {
    let key = tower_oauth2_client::DpopKey::generate().unwrap();
    Instance {
        endpoint: instance.endpoint.dpop(key),
        ..instance
    }
}

#[tokio::test(start_paused = true)]
async fn refresh_token_is_spent_once_by_instances_of_a_rolling_deploy() {
    type Change = Box<dyn Fn(Instance) -> Instance>;

    let rotated = |keys| -> Change { Box::new(with_keys(keys)) };
    let same = |instance| instance;
    for (name, before, after, is_token_shared) in [
        (
            "nothing",
            Box::new(same) as Change,
            Box::new(same) as Change,
            true,
        ),
        ("method", Box::new(same), Box::new(by_post), false),
        ("distinguished by", Box::new(same), Box::new(text), false),
        (
            "default parameter",
            Box::new(same),
            Box::new(default),
            false,
        ),
        ("scope", Box::new(same), Box::new(scope), false),
        ("header", Box::new(same), Box::new(header), false),
        #[cfg(feature = "dpop")]
        ("DPoP", Box::new(same), Box::new(dpop), false),
        #[cfg(feature = "dpop")]
        ("DPoP key", Box::new(dpop), Box::new(dpop), false),
        (
            "last step of a key rotation",
            rotated(
                StoreKeys::new("orders", key(2))
                    .opens(key(1))
                    .names_with(key(1)),
            ),
            rotated(StoreKeys::new("orders", key(2)).names_with(key(1))),
            true,
        ),
        (
            "second key rotation",
            rotated(
                StoreKeys::new("orders", key(2))
                    .opens(key(3))
                    .names_with(key(1)),
            ),
            rotated(
                StoreKeys::new("orders", key(3))
                    .opens(key(2))
                    .names_with(key(1)),
            ),
            true,
        ),
    ] {
        let server = server(secs(100));
        let store = TestStore::new();
        let first = first_request(&server);
        let make = |change: &Change| {
            change(Instance {
                endpoint: endpoint(&server),
                request: first.clone(),
                keys: keys(),
                text: "",
            })
            .source(&store)
        };
        let (old, new) = (make(&before), make(&after));
        for _ in 0..4 {
            let mut tokens = HashSet::new();
            for source in [&old, &new, &make(&after)] {
                let token = source
                    .token()
                    .await
                    .unwrap_or_else(|error| panic!("{name}: {error:#}"));
                assert!(server.is_active(token.expose_secret()), "{name}");
                tokens.insert(token.expose_secret().to_owned());
            }
            assert_eq!(tokens.len() == 1, is_token_shared, "{name}");
            time::sleep(secs(150)).await;
        }
        let spent = spent(&server);
        let once: HashSet<_> = spent.iter().collect();
        assert_eq!(once.len(), spent.len(), "{name}");
    }
}

/// A type that this crate does not send.
#[tokio::test(start_paused = true)]
async fn refresh_token_reaches_the_others_although_its_access_token_cannot_be_sent() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = server.issue_refresh_token("client", "api1");
    let next = server.issue_refresh_token("client", "api1");
    let body = format!(r#"{{"access_token":"t","token_type":"N_A","refresh_token":"{next}"}}"#);
    server.respond_next(Response::new(body.into()));
    let request = TokenRequest::refresh_token(&*first).sign_in("session 7");
    let one = instance(&server, &store).source(request.clone());
    let _ = one.token().await;
    let other = instance(&server, &store).source(request);
    let token = other.token().await.unwrap();
    assert!(server.is_active(token.expose_secret()));
    assert_eq!(spent(&server), [first, next]);
}

/// The token may be bound to the old certificate or to the new one.
#[tokio::test(start_paused = true)]
async fn access_token_is_not_shared_if_the_certificate_changed_meanwhile() {
    let server = server(secs(100));
    let store = TestStore::new();
    let asked = Arc::<AtomicUsize>::default();
    let changing = |share: ShareTokens| {
        let asked = asked.clone();
        share.distinguished_by(move || match asked.fetch_add(1, Ordering::SeqCst) {
            0 => "old".into(),
            _ => "new".into(),
        })
    };
    let one = instance_with(&server, &store, changing, |builder| builder).source(request());
    one.token().await.unwrap();
    assert!(store.entries().is_empty());

    asked.store(0, Ordering::SeqCst);
    let first = first_request(&server);
    let one = instance_with(&server, &store, changing, |builder| builder).source(first.clone());
    let token = one.token().await.unwrap();
    for text in ["old", "new"] {
        let same = |share: ShareTokens| share.distinguished_by(move || text.into());
        let other = instance_with(&server, &store, same, |builder| builder).source(first.clone());
        assert_ne!(other.token().await.unwrap(), token, "{text}");
    }
    let spent = spent(&server);
    let once: HashSet<_> = spent.iter().collect();
    assert_eq!((spent.len(), once.len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn endpoint_with_certificate_bound_tokens_has_to_say_which_certificate_it_has() {
    let server = server(secs(100));
    let client = || ClientAuthentication::client_secret_basic("client", "secret");
    let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client());
    let bound = endpoint.clone().certificate_bound_tokens();
    let store = TestStore::new();
    let share = |endpoint| ShareTokens::new(store.clone(), keys(), endpoint);
    let plain = TokenCache::builder(endpoint.clone()).share(share(&endpoint));
    plain.build().source(request()).token().await.unwrap();
    let silent = TokenCache::builder(bound.clone()).share(share(&bound));
    let error = silent.build().source(request()).token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    assert!(error.to_string().contains("distinguished_by"), "{error}");
    for (text, requests) in [("", 2), ("a", 3), ("a", 3), ("b", 4)] {
        let share = share(&bound).distinguished_by(move || text.into());
        let cache = TokenCache::builder(bound.clone()).share(share).build();
        cache.source(request()).token().await.unwrap();
        assert_eq!(server.token_requests(), requests, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn refresh_token_reaches_the_store_although_the_fetch_took_too_long() {
    for fault in [Fault::Error, Fault::Hang, Fault::LoseAnswer] {
        let server = server(secs(100));
        server.fail_next(Failure::delay(Duration::from_millis(1_900)));
        let (one_store, other_store) = {
            let one = TestStore::new();
            (one.clone(), TestStore::over(one.inner.clone()))
        };
        let first = first_request(&server);
        one_store.fail(move |op| (op == Op::Put).then_some(fault));
        let short = |builder: TokenCacheBuilder| builder.fetch_timeout(secs(2));
        let one = instance_with(&server, &one_store, |share| share, short).source(first.clone());
        // The time of a fetch does not end what has arrived.
        let begun = time::Instant::now();
        let token = one.token().await.unwrap();
        assert!(begun.elapsed() <= secs(2), "{fault:?}");
        time::sleep(secs(30)).await;
        one_store.recover();
        let other = instance(&server, &other_store).source(first);
        for source in [&other, &one] {
            assert_eq!(source.token().await.unwrap(), token, "{fault:?}");
        }
        assert_eq!(server.token_requests(), 1, "{fault:?}");
    }
}

/// Its holder was cut off from the store for longer than the lease, and comes back just after another one took the lease.
#[tokio::test(start_paused = true)]
async fn next_holder_waits_for_a_refresh_token_that_the_last_one_is_storing() {
    let server = server(secs(100));
    let one_store = TestStore::new();
    let other_store = TestStore::over(one_store.inner.clone());
    let first = first_request(&server);
    let other = instance(&server, &other_store).source(first.clone());
    let one = instance(&server, &one_store).source(first);
    one_store.fail(|op| (op != Op::Look).then_some(Fault::Hang));
    let begun = time::Instant::now();
    one.token().await.unwrap();
    let waiting = tokio::spawn(async move { other.token().await });
    // The lease lasts for ten seconds.
    time::sleep_until(begun + Duration::from_millis(10_300)).await;
    one_store.recover();
    assert_eq!(waiting.await.unwrap().unwrap(), one.token().await.unwrap());
    assert_eq!(server.token_requests(), 1);
}

/// The server may still be at it.
#[tokio::test(start_paused = true)]
async fn refresh_token_is_not_sent_by_others_at_once_after_a_connection_was_lost() {
    let (_log, _guard) = Log::record();
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    server.fail_next(Failure::drop_connection());
    let one = instance(&server, &store).source(first.clone());
    let error = one.token().await.unwrap_err();
    assert!(error.may_have_been_processed() && error.is_transient());
    let begun = time::Instant::now();
    let other = instance(&server, &store).source(first);
    other.token().await.unwrap();
    assert!(begun.elapsed() >= secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn sign_in_that_is_removed_is_gone_for_those_who_come_later() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = first_request(&server);
    let cache = instance(&server, &store);
    cache.source(first).token().await.unwrap();
    let by_name = || TokenRequest::refresh_token("any").sign_in("session 7");
    let other = instance(&server, &store).source(by_name());
    other.token().await.unwrap();
    cache.remove_shared(&by_name()).await.unwrap();
    let late = instance(&server, &store).source(by_name());
    let error = late.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    // Another sign-in is not concerned, and nothing is left to remove.
    let again = TokenRequest::refresh_token(server.issue_refresh_token("client", "api1"));
    cache
        .source(again.sign_in("session 8"))
        .token()
        .await
        .unwrap();
    cache.remove_shared(&request()).await.unwrap();

    store.fail(|_| Some(Fault::Error));
    assert!(cache.remove_shared(&by_name()).await.is_err());
}

/// A test whose server is on a port cannot pause tokio's clock.
#[tokio::test]
async fn store_in_memory_follows_the_clock_of_a_test() {
    let server = server(secs(100));
    let clock = server.clock();
    let store = MemoryTokenStore::new().clock(&clock);
    let with_clock = |builder: TokenCacheBuilder| builder.clock(&clock);
    let start = || instance_with(&server, &store, |share| share, with_clock).source(request());
    let token = start().token().await.unwrap();
    assert_eq!(start().token().await.unwrap(), token);
    clock.advance(secs(100));
    assert_ne!(start().token().await.unwrap(), token);
}
