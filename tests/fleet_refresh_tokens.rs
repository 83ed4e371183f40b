//! The instances of a service share refresh tokens that the server rotates.
#![allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; tests measure tokio's clock"
)]

mod fleet_support;
mod support;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use tokio::time;
use tower_oauth2_client::{
    BoxError, Credential, TokenCache, TokenErrorKind, TokenRequest, TokenSource,
    test_util::{AuthorizationCode, AuthorizationServer, Failure},
    token_cache::TokenCacheBuilder,
    token_store::{MemoryTokenStore, ShareTokens, TokenStore},
};

use self::{
    fleet_support::{
        Fault, Op, TestStore, code, first_request, instance, instance_with, millis, secs, server,
        spent,
    },
    support::Log,
};

#[track_caller]
fn assert_each_is_spent_once(server: &AuthorizationServer) {
    let spent = spent(server);
    let once: HashSet<_> = spent.iter().collect();
    assert_eq!(once.len(), spent.len(), "{} requests", spent.len());
}

fn fleet(
    server: &AuthorizationServer,
    store: &(impl TokenStore + Clone),
    request: &TokenRequest,
    instances: usize,
) -> Vec<TokenSource> {
    let caches = (0..instances).map(|_| instance(server, store));
    caches.map(|cache| cache.source(request.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn refresh_token_shared_by_instances_is_rotated_once() {
    let server = server(secs(100));
    server.fail_until_told(Failure::delay(secs(2)));
    let store = TestStore::new();
    let request = first_request(&server);
    let sources = fleet(&server, &store, &request, 8);
    for lifetime in 0..30 {
        let calls = sources.iter().map(|source| source.token());
        let mut tokens = HashSet::new();
        for token in futures_util::future::join_all(calls).await {
            let token = token.unwrap();
            assert!(server.is_active(token.expose_secret()));
            tokens.insert(token.expose_secret().to_owned());
        }
        assert_eq!(tokens.len(), 1);
        assert_eq!(server.token_requests(), lifetime + 1);
        assert_each_is_spent_once(&server);
        time::sleep(secs(120)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fleet_that_is_kept_warm_and_whose_instances_come_and_go_stays_signed_in() {
    let server = server(secs(20));
    let store = TestStore::new();
    let request = first_request(&server);
    let mut sources = fleet(&server, &store, &request, 5);
    for step in 0..600 {
        if step % 7 == 0 {
            // A restarted instance knows only the first refresh token, which was replaced long ago.
            sources.remove(0);
            sources.extend(fleet(&server, &store, &request, 1));
        }
        for source in &sources {
            source.keep_warm().unwrap();
            let token = source.token().await.unwrap();
            assert!(server.is_active(token.expose_secret()));
        }
        time::sleep(secs(1)).await;
    }
    assert_each_is_spent_once(&server);
    assert!(
        (30..=50).contains(&server.token_requests()),
        "{}",
        server.token_requests()
    );
}

#[tokio::test(start_paused = true)]
async fn new_source_of_an_old_instance_goes_on_with_the_newest_refresh_token() {
    let server = server(secs(100));
    let store = TestStore::new();
    let request = first_request(&server);
    let cache = instance_with(
        &server,
        &store,
        |share| share,
        |builder| builder.max_entries(1),
    );
    for _ in 0..5 {
        let token = cache.source(request.clone()).token().await.unwrap();
        assert!(server.is_active(token.expose_secret()));
        // It takes the place in the cache.
        cache
            .source(TokenRequest::client_credentials())
            .token()
            .await
            .unwrap();
        time::sleep(secs(200)).await;
    }
    let spent = spent(&server);
    assert_eq!(spent.len(), 5);
    assert_each_is_spent_once(&server);
}

/// The lease is much shorter than the request.
#[tokio::test(start_paused = true)]
async fn refresh_token_is_not_spent_again_while_the_lease_is_renewed() {
    let server = server(secs(100));
    server.fail_next(Failure::delay(secs(14)));
    let store = MemoryTokenStore::new();
    let request = first_request(&server);
    let short = |share: ShareTokens| share.lease(secs(1));
    let sources: Vec<_> = (0..5)
        .map(|_| instance_with(&server, &store, short, |builder| builder).source(request.clone()))
        .collect();
    let calls = sources.iter().map(|source| source.token());
    for token in futures_util::future::join_all(calls).await {
        token.unwrap();
    }
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_a_refresh_token_is_not_spent_and_the_held_token_is_served() {
    for fault in [Fault::Error, Fault::Hang, Fault::LoseAnswer] {
        let server = server(secs(100));
        let store = TestStore::new();
        let request = first_request(&server);
        let [one, other]: [_; 2] = fleet(&server, &store, &request, 2).try_into().unwrap();
        let token = one.token().await.unwrap();
        let requests = server.token_requests();
        store.fail(move |_| Some(fault));
        // Its renewal is due, but cannot be.
        time::sleep(secs(92)).await;
        assert_eq!(one.token().await.unwrap(), token, "{fault:?}");
        time::sleep(secs(2)).await;
        assert_eq!(one.token().await.unwrap(), token, "{fault:?}");
        let error = other.token().await.unwrap_err();
        assert!(error.is_transient(), "{fault:?}: {error}");
        assert_eq!(error.kind(), TokenErrorKind::Service);
        assert!(!error.may_have_been_processed());
        assert!(error.to_string().contains("token store"), "{error}");
        time::sleep(secs(10)).await;
        assert!(one.token().await.unwrap_err().is_transient());
        assert_eq!(server.token_requests(), requests, "{fault:?}");
        store.recover();
        time::sleep(secs(100)).await;
        for source in [&one, &other] {
            let token = source.token().await.unwrap();
            assert!(server.is_active(token.expose_secret()));
        }
        assert_each_is_spent_once(&server);
    }
}

#[tokio::test(start_paused = true)]
async fn new_refresh_token_reaches_the_store_although_it_fails_for_a_while() {
    let (log, _guard) = Log::record();
    let server = server(secs(100));
    let one_store = TestStore::new();
    let other_store = TestStore::over(one_store.inner.clone());
    let request = first_request(&server);
    let one = instance(&server, &one_store).source(request.clone());
    let other = instance(&server, &other_store).source(request.clone());
    one_store.fail(|op| (op == Op::Put).then_some(Fault::Error));
    one.token().await.unwrap();
    assert!(log.text().contains("could not be put into the token store"));
    time::sleep(secs(5)).await;
    one_store.recover();
    let token = other.token().await.unwrap();
    assert_eq!(token, one.token().await.unwrap());
    assert_eq!(server.token_requests(), 1);
    time::sleep(secs(200)).await;
    other.token().await.unwrap();
    assert_each_is_spent_once(&server);
}

/// There is nothing else to send; see the rules of refresh tokens.
#[tokio::test(start_paused = true)]
async fn after_a_holder_that_was_lost_in_mid_spend_the_same_refresh_token_is_sent_again() {
    for is_processed in [false, true] {
        let server = server(secs(100));
        let store = TestStore::new();
        let killed = TestStore::over(store.inner.clone());
        let request = first_request(&server);
        let stalls = match is_processed {
            true => Failure::stall().after_processing(),
            false => Failure::stall(),
        };
        server.fail_next(stalls);
        let source = instance(&server, &killed).source(request.clone());
        let fetch = tokio::spawn(async move { source.token().await });
        time::sleep(secs(1)).await;
        killed.fail(|_| Some(Fault::Hang));
        fetch.abort();
        let next = instance(&server, &store).source(request.clone());
        let begun = time::Instant::now();
        let result = next.token().await;
        assert!(
            begun.elapsed() >= secs(10) && begun.elapsed() <= secs(13),
            "{:?}",
            begun.elapsed()
        );
        match is_processed {
            false => assert!(server.is_active(result.unwrap().expose_secret())),
            true => assert_eq!(result.unwrap_err().kind(), TokenErrorKind::SignInRequired),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refresh_token_that_the_server_does_not_rotate_stays_for_all() {
    let server = AuthorizationServer::builder()
        .access_token_lifetime(secs(100))
        .rotate_refresh_tokens(false)
        .build();
    let store = TestStore::new();
    let request = first_request(&server);
    for _ in 0..5 {
        for source in fleet(&server, &store, &request, 3) {
            assert!(server.is_active(source.token().await.unwrap().expose_secret()));
        }
        time::sleep(secs(200)).await;
    }
    assert_eq!(server.token_requests(), 5);
}

/// A server may rotate now and then. An instance that knows only an old refresh token must not go on with that.
#[tokio::test(start_paused = true)]
async fn response_without_a_refresh_token_leaves_the_one_that_was_sent() {
    for is_sent_by_the_same in [true, false] {
        let server = server(secs(100));
        let store = TestStore::new();
        let request = first_request(&server);
        let [one, other, third]: [_; 3] = fleet(&server, &store, &request, 3).try_into().unwrap();
        one.token().await.unwrap();
        time::sleep(secs(200)).await;
        let body = r#"{"access_token":"unrotated","token_type":"Bearer","expires_in":100}"#;
        server.respond_next(http::Response::new(body.into()));
        let sender = if is_sent_by_the_same { &one } else { &other };
        assert_eq!(sender.token().await.unwrap().expose_secret(), "unrotated");
        time::sleep(secs(200)).await;
        for source in [&third, &other, &one] {
            assert!(server.is_active(source.token().await.unwrap().expose_secret()));
        }
        let spent = spent(&server);
        assert_eq!(spent.len(), 3);
        assert_ne!(spent[1], spent[0]);
        assert_eq!(spent[1], spent[2]);
    }
}

#[tokio::test(start_paused = true)]
async fn provider_needs_a_name_and_instances_with_that_name_share() {
    let server = server(secs(100));
    let store = TestStore::new();
    let first = server.issue_refresh_token("client", "api1");
    let from_database = move || {
        let first = first.clone();
        Credential::from_fn(move || {
            let first = first.clone();
            async move { Ok::<_, BoxError>(first) }
        })
    };
    let unnamed = TokenRequest::refresh_token(from_database());
    let error = instance(&server, &store)
        .source(unnamed)
        .token()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    assert!(
        error.to_string().contains("TokenRequest::sign_in"),
        "{error}"
    );

    let named = || TokenRequest::refresh_token(from_database().named("session 7"));
    for _ in 0..5 {
        let sources = [(); 3].map(|()| instance(&server, &store).source(named()));
        for source in &sources {
            assert!(server.is_active(source.token().await.unwrap().expose_secret()));
        }
        time::sleep(secs(200)).await;
    }
    assert_eq!(server.token_requests(), 5);
    assert_each_is_spent_once(&server);
}

#[tokio::test(start_paused = true)]
async fn owner_is_told_once_by_the_instance_that_got_the_refresh_token() {
    let server = server(secs(100));
    let store = TestStore::new();
    let request = first_request(&server);
    let told = Arc::<Mutex<Vec<String>>>::default();
    let telling = |builder: TokenCacheBuilder| {
        let told = told.clone();
        builder.on_refresh_token(move |_, token| {
            told.lock().unwrap().push(token.expose_secret().to_owned());
            async {}
        })
    };
    let caches: Vec<TokenCache> = (0..4)
        .map(|_| instance_with(&server, &store, |share| share, telling))
        .collect();
    for _ in 0..3 {
        for cache in &caches {
            cache.source(request.clone()).token().await.unwrap();
        }
        time::sleep(secs(200)).await;
    }
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 3);
    assert_eq!(told[..2], spent(&server)[1..]);
}

#[tokio::test(start_paused = true)]
async fn result_of_a_code_is_shared() {
    let server = server(secs(100));
    let store = TestStore::new();
    let code = server.issue_code(AuthorizationCode::new("client", "https://app.test"));
    let named = |text: String| {
        Credential::from_fn(move || {
            let text = text.clone();
            async move { Ok::<_, BoxError>(text) }
        })
        .named("session 7")
    };
    let signed_in = TokenRequest::authorization_code(named(code), "https://app.test");
    let one = instance(&server, &store).source(signed_in);
    let token = one.token().await.unwrap();
    let elsewhere = TokenRequest::refresh_token(named("unknown".into()));
    let other = instance(&server, &store).source(elsewhere);
    assert_eq!(other.token().await.unwrap(), token);
    time::sleep(secs(200)).await;
    for source in [&other, &one] {
        assert!(server.is_active(source.token().await.unwrap().expose_secret()));
    }
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn end_of_a_sign_in_ends_it_for_each_instance() {
    let server = server(secs(100));
    let store = TestStore::new();
    let request = first_request(&server);
    let sources = fleet(&server, &store, &request, 3);
    for source in &sources {
        source.token().await.unwrap();
    }
    time::sleep(secs(200)).await;
    server.revoke_all();
    let before = server.requests().len();
    let calls = sources.iter().map(|source| source.token());
    for result in futures_util::future::join_all(calls).await {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    }
    // One of them asked for all.
    assert_eq!(server.requests().len(), before + 1);
    // An instance that starts knows only an older refresh token. It would be taken for a stolen one.
    let cold = instance(&server, &store).source(request);
    let error = cold.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(server.requests().len(), before + 1);

    // The name should be another one, but a code of a new sign-in heals it.
    let code = code(&server);
    let again = instance(&server, &store).source(code);
    let token = again.token().await.unwrap();
    let row = TokenRequest::refresh_token("from the row").sign_in("session 7");
    let cold = instance(&server, &store).source(row);
    assert_eq!(cold.token().await.unwrap(), token);
}

/// The refresh token may be bound to a key that this instance does not have.
#[tokio::test(start_paused = true)]
async fn refusal_of_one_kind_of_request_does_not_end_the_sign_in_of_another() {
    let server = server(secs(100));
    let store = TestStore::new();
    let request = first_request(&server);
    let [one] = fleet(&server, &store, &request, 1).try_into().unwrap();
    one.token().await.unwrap();
    time::sleep(secs(200)).await;
    server.fail_next(Failure::oauth("invalid_grant"));
    let wrong = instance(&server, &store).source(request.clone().header("x-key", "wrong"));
    let error = wrong.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    // Another one like it must not send an older refresh token instead.
    let wrong = instance(&server, &store).source(request.clone().header("x-key", "wrong"));
    let error = wrong.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    let cold = instance(&server, &store).source(request);
    for source in [&cold, &one] {
        assert!(server.is_active(source.token().await.unwrap().expose_secret()));
    }
    let spent = spent(&server);
    assert_eq!(spent.len(), 3);
    assert_eq!(spent[1], spent[2]);
}

/// The window that asynchronous replication leaves: the new primary does not know the lease.
#[tokio::test(start_paused = true)]
async fn failover_in_the_middle_of_a_request_can_end_a_sign_in() {
    let server = server(secs(100));
    server.fail_next(Failure::delay(millis(100)));
    let request = first_request(&server);
    let before = instance(&server, &MemoryTokenStore::new()).source(request.clone());
    let after = instance(&server, &MemoryTokenStore::new()).source(request.clone());
    let first = tokio::spawn(async move { before.token().await });
    time::sleep(millis(50)).await;
    let results = [after.token().await, first.await.unwrap()];
    let failed = results.iter().filter_map(|result| result.as_ref().err());
    assert!(failed.clone().count() == 1, "{results:?}");
    for error in failed {
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    }
}
