//! A store that points at a replica, such as the old primary after a failover.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

use std::time::Duration;

use tokio::time::{self, Instant};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    test_util::AuthorizationServer,
    token_store::{
        EntryName, Found, LeaseOwner, Put, RedisTokenStore, ShareTokens, StoreKey, StoreKeys,
        TokenStore,
    },
};

use super::{
    LONG, assert_found, link::Link, log::Log, new_name, put_entry, recovers, server::Server, store,
    take_lease,
};

/// Starts a replica, which connects to that port, and returns when the primary sends it each write.
pub(super) async fn replica_of(primary: &Server, port: u16) -> Server {
    let port = port.to_string();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    let client = redis::Client::open(primary.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await.unwrap();
    let synchronized = async {
        loop {
            // A replica that has just got the data is not sent the next writes before its first acknowledgment.
            let mut write = redis::pipe();
            write.hset("synchronized", "field", "value").ignore();
            write.cmd("WAIT").arg(&[1, 1000]);
            let (replicas,): (usize,) = write.query_async(&mut connection).await.unwrap();
            if replicas == 1 {
                break;
            }
        }
        let mut delete = redis::cmd("DEL");
        delete
            .arg("synchronized")
            .query_async::<()>(&mut connection)
            .await
            .unwrap();
    };
    let limit = time::timeout(Duration::from_secs(20), synchronized).await;
    assert!(limit.is_ok(), "the replica does not reach its primary");
    replica
}

pub(super) async fn primary() -> Server {
    // A replica need not wait for others.
    Server::start_with(&["--repl-diskless-sync-delay", "0"]).await
}

/// Waits until the replica has an entry.
async fn arrives(store: &RedisTokenStore, name: &EntryName) {
    let arrives = async {
        while !matches!(
            store.look(name, None, &LeaseOwner::random(), LONG).await,
            Ok(Found::Entry { .. })
        ) {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = time::timeout(Duration::from_secs(20), arrives).await;
    assert!(limit.is_ok(), "the entry is not replicated");
}

#[tokio::test]
async fn replica_gives_entries_and_refuses_leases_at_once() -> Result<(), BoxError> {
    let primary = primary().await;
    let replica = replica_of(&primary, primary.address().port()).await;
    let link = Link::to(replica.address()).await;
    let (at_primary, at_replica) = (store(&primary.url()), store(&link.url()));
    let (name, fence) = put_entry(&at_primary).await?;
    arrives(&at_replica, &name).await;
    let (leased, owner) = (new_name(), LeaseOwner::random());
    let found = at_primary.look(&leased, None, &owner, LONG).await?;
    let Found::Leased {
        fence: leased_by, ..
    } = found
    else {
        panic!("expected the lease, not {found:?}");
    };
    let held = async {
        while !matches!(
            at_replica
                .look(&leased, None, &LeaseOwner::random(), LONG)
                .await,
            Ok(Found::Held { .. })
        ) {}
    };
    time::timeout(Duration::from_secs(20), held).await?;

    let begun = Instant::now();
    for _ in 0..100 {
        assert_found(&at_replica, &name).await;
        let error = take_lease(&at_replica, &new_name()).await.unwrap_err();
        assert!(
            error.to_string().to_uppercase().contains("READONLY"),
            "{error}"
        );
        assert!(at_replica.renew(&leased, &owner, LONG).await.is_err());
        assert!(
            at_replica
                .release(&leased, &owner, Duration::ZERO)
                .await
                .is_err()
        );
        let put = at_replica.put(&name, &owner, fence, "other".into(), LONG);
        assert!(put.await.is_err());
        assert!(at_replica.remove(&name, fence).await.is_err());
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    // It asks for the new primary, but not with each operation.
    let most = 3 + took.as_secs() as usize;
    assert!(
        link.connections() <= most,
        "{} connections",
        link.connections()
    );
    // Messages reach a replica as well.
    let (begun, waits) = (Instant::now(), at_replica.wait(&leased, leased_by, LONG));
    let releases = async {
        time::sleep(Duration::from_millis(300)).await;
        at_primary.release(&leased, &owner, Duration::ZERO).await
    };
    let ((), released) = tokio::join!(waits, releases);
    released?;
    let waited = begun.elapsed();
    let expected = Duration::from_millis(290)..Duration::from_millis(1500);
    assert!(expected.contains(&waited), "{waited:?}");

    replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    recovers(&at_replica).await;
    let put = at_replica.put(&name, &owner, fence, "other".into(), LONG);
    assert_eq!(put.await?, Put::Stored);
    Ok(())
}

#[tokio::test]
async fn cache_over_a_replica_gets_tokens_and_spends_no_refresh_token() -> Result<(), BoxError> {
    let (log, _guard) = Log::record();
    let primary = primary().await;
    let replica = replica_of(&primary, primary.address().port()).await;
    let server = AuthorizationServer::new();
    let key = StoreKey::generate()?;
    let cache = |url: &str| {
        let client = ClientAuthentication::client_secret_basic("client", "secret");
        let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
        let keys = StoreKeys::new("orders", key.clone());
        let share = ShareTokens::new(store(url), keys, &endpoint);
        let share = share.limit(Duration::from_secs(5));
        TokenCache::builder(endpoint).share(share).build()
    };
    let request = |scope: &str| TokenRequest::client_credentials().scope(scope);
    let token = cache(&primary.url())
        .source(request("api1"))
        .token()
        .await?;
    assert_eq!(server.token_requests(), 1);
    let replicated = async {
        loop {
            let keys = replica.command(&["DBSIZE"]).await;
            let keys: usize = redis::from_redis_value(keys).unwrap();
            // Its lease was replicated before it.
            let contents = replica.contents().await;
            if keys == 1 && contents[0].1.len() > 200 {
                return;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    time::timeout(Duration::from_secs(20), replicated).await?;

    let at_replica = cache(&replica.url());
    for instance in [&at_replica, &cache(&replica.url())] {
        assert_eq!(instance.source(request("api1")).token().await?, token);
    }
    assert_eq!(server.token_requests(), 1, "the entry was found");
    let count = |text: &str| log.text().matches(text).count();
    assert_eq!(count(" WARN "), 0, "{}", log.text());

    let first = server.issue_refresh_token("client", "api1");
    let refreshed = at_replica.source(TokenRequest::refresh_token(first).sign_in("session 7"));
    for index in 0..5 {
        let fetched = at_replica.source(request(&format!("api1 {index}")));
        fetched.token().await?;
        let error = refreshed.token().await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        // The pause after its failure.
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.token_requests(), 6);
    let requests = server.requests();
    let is_sent = requests.iter().any(|it| it.get("refresh_token").is_some());
    assert!(!is_sent, "the refresh token was sent");
    assert_eq!(
        count("the token store failed; continuing without it"),
        1,
        "{}",
        log.text()
    );
    assert_eq!(count("the token store works again"), 0);

    replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    let works = async {
        while refreshed.token().await.is_err() {
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    time::timeout(Duration::from_secs(60), works).await?;
    assert_eq!(server.token_requests(), 7);
    assert_eq!(
        count("the token store failed; continuing without it"),
        1,
        "{}",
        log.text()
    );
    assert_eq!(count("the token store works again"), 1, "{}", log.text());
    Ok(())
}
