//! `RedisTokenStore` against Redis: one server, TLS and an ACL, a cluster, and a failover by a sentinel.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

mod connection;
mod faults;
mod link;
#[path = "../support/log.rs"]
mod log;
mod losses;
mod refusals;
mod replica;
mod replication;
pub(crate) mod server;

use std::{fs, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, TlsCertificates,
    cluster::ClusterClient,
    sentinel::{SentinelClient, SentinelServerType},
};
use tokio::{
    net::TcpListener,
    time::{self, Instant},
};
use tower_oauth2_client::{
    BoxError,
    test_util::token_store::suite,
    token_store::{EntryName, Fence, Found, LeaseOwner, Put, RedisTokenStore, TokenStore},
};

use crate::setting;

const LONG: Duration = Duration::from_secs(600);

/// The machine of the tests may be slow.
fn store(url: &str) -> RedisTokenStore {
    let store = RedisTokenStore::open(url).unwrap();
    store.limit(Duration::from_secs(5))
}

fn new_name() -> EntryName {
    EntryName::new(LeaseOwner::random().as_str())
}

async fn take_lease(store: &RedisTokenStore, name: &EntryName) -> Result<Fence, BoxError> {
    let found = store.look(name, None, &LeaseOwner::random(), LONG).await?;
    match found {
        Found::Leased { fence, .. } => Ok(fence),
        found => panic!("expected the lease, not {found:?}"),
    }
}

async fn put_entry(store: &RedisTokenStore) -> Result<(EntryName, Fence), BoxError> {
    let (name, owner) = (new_name(), LeaseOwner::random());
    let fence = take_lease(store, &name).await?;
    let put = store
        .put(&name, &owner, fence, "entry".into(), LONG)
        .await?;
    assert_eq!(put, Put::Stored);
    Ok((name, fence))
}

async fn assert_found(store: &RedisTokenStore, name: &EntryName) {
    let found = store.look(name, None, &LeaseOwner::random(), LONG).await;
    assert!(matches!(found, Ok(Found::Entry { .. })), "{found:?}");
}

/// Repeats an operation until it succeeds.
async fn recovers(store: &RedisTokenStore) {
    let recovers = async {
        while take_lease(store, &new_name()).await.is_err() {
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    let recovered = time::timeout(Duration::from_secs(20), recovers).await;
    assert!(recovered.is_ok(), "the store does not recover");
}

async fn command_at(url: &str, words: &[&str]) -> redis::Value {
    let client = Client::open(url).unwrap();
    // Some commands block for seconds.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn one_server_follows_the_rules() -> Result<(), BoxError> {
    let url = setting("REDIS");
    let (one, other) = (store(&url), store(&url));
    suite(&one, &other).await?;
    suite(&one, &one.clone()).await
}

#[tokio::test]
async fn user_with_the_documented_permissions_follows_the_rules_over_tls() -> Result<(), BoxError> {
    let (one, other) = (tls_store("orders:password"), tls_store("orders:password"));
    suite(&one, &other).await
}

#[tokio::test]
async fn user_with_the_documented_permissions_follows_the_rules_in_another_database()
-> Result<(), BoxError> {
    let server = server::Server::start().await;
    let commands = "+evalsha +eval +hmget +hset +hdel +hexists +del +pttl +pexpire +time +publish +subscribe +unsubscribe +hello +select";
    let words = "ACL SETUSER orders on >password resetkeys resetchannels ~tower-oauth2-client:* &tower-oauth2-client:* -@all";
    let words: Vec<_> = words.split(' ').chain(commands.split(' ')).collect();
    server.command(&words).await;
    let url = server.url().replace("redis://", "redis://orders:password@");
    let url = format!("{url}/3");
    suite(&store(&url), &store(&url)).await
}

#[tokio::test]
async fn user_without_messages_follows_the_rules() -> Result<(), BoxError> {
    let (one, other) = (tls_store("silent:password"), tls_store("silent:password"));
    suite(&one, &other).await
}

#[tokio::test]
async fn wrong_password_is_an_error_that_does_not_show_it() {
    let store = tls_store("orders:hunter2");
    let found = store
        .look(&new_name(), None, &LeaseOwner::random(), LONG)
        .await;
    let error = found.unwrap_err();
    let shown = format!("{error} {error:?} {store:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("WRONGPASS"), "{shown}");
}

#[tokio::test]
async fn untrusted_certificate_is_an_error() {
    let store = store(&format!(
        "rediss://orders:password@{}",
        setting("REDIS_TLS")
    ));
    let found = store
        .look(&new_name(), None, &LeaseOwner::random(), LONG)
        .await;
    let error = found.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

fn tls_store(user: &str) -> RedisTokenStore {
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(fs::read(setting("REDIS_CA")).unwrap()),
    };
    let url = format!("rediss://{user}@{}", setting("REDIS_TLS"));
    let client = Client::build_with_tls(url, certificates).unwrap();
    RedisTokenStore::new(client).limit(Duration::from_secs(5))
}

#[tokio::test]
async fn cluster_follows_the_rules() -> Result<(), BoxError> {
    let nodes = setting("REDIS_CLUSTER");
    let nodes: Vec<_> = nodes.split_whitespace().collect();
    // Each handle knows one node, and finds the others.
    let open = |node: &str| RedisTokenStore::open_cluster([node]).unwrap();
    let limit = Duration::from_secs(5);
    let (one, other) = (open(nodes[0]).limit(limit), open(nodes[2]).limit(limit));
    suite(&one, &other).await?;
    for node in nodes {
        let redis::Value::Int(keys) = command_at(node, &["DBSIZE"]).await else {
            panic!("DBSIZE is a number");
        };
        assert!(keys > 0, "{node} has entries");
    }
    Ok(())
}

#[tokio::test]
async fn cluster_client_without_messages_follows_the_rules() -> Result<(), BoxError> {
    let nodes = setting("REDIS_CLUSTER");
    // The protocol is RESP2, in which no message arrives on the same connection.
    let client = ClusterClient::new(nodes.split_whitespace().collect::<Vec<_>>())?;
    let store = RedisTokenStore::new(client).limit(Duration::from_secs(5));
    suite(&store, &store.clone()).await
}

/// Each of them gets a second, and the store asks the next one.
#[tokio::test]
async fn sentinels_that_are_silent_or_gone_are_passed_over() -> Result<(), BoxError> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let urls = vec![
        format!("redis://{}", silent.local_addr()?),
        format!("redis://{gone}"),
        setting("REDIS_SENTINEL"),
    ];
    let client = SentinelClient::build(urls, "tokens", None, SentinelServerType::Master)?;
    // With the default limit, operations fail while the sentinels are asked.
    let store = RedisTokenStore::new(client);
    let begun = Instant::now();
    recovers(&store).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    Ok(())
}

#[tokio::test]
async fn store_follows_a_failover_by_sentinels() -> Result<(), BoxError> {
    let sentinel = setting("REDIS_SENTINEL");
    let client = || {
        let urls = vec![sentinel.as_str()];
        SentinelClient::build(urls, "tokens", None, SentinelServerType::Master).unwrap()
    };
    let (one, other) = (
        RedisTokenStore::new(client()),
        RedisTokenStore::new(client()),
    );
    let (one, other) = (
        one.limit(Duration::from_secs(5)),
        other.limit(Duration::from_secs(5)),
    );
    suite(&one, &other).await?;

    let (name, owner) = (new_name(), LeaseOwner::random());
    let Found::Leased { fence, .. } = one.look(&name, None, &owner, LONG).await? else {
        panic!("nobody holds the lease");
    };
    one.put(&name, &owner, fence, "entry".into(), LONG).await?;
    time::sleep(Duration::from_millis(200)).await; // until the entry is replicated

    let before = primary(&sentinel).await;
    command_at(&sentinel, &["SENTINEL", "FAILOVER", "tokens"]).await;
    let follow = async |store: &RedisTokenStore| {
        loop {
            time::sleep(Duration::from_millis(100)).await;
            // Only the primary grants a lease.
            let found = store.look(&new_name(), None, &owner, LONG).await;
            if primary(&sentinel).await != before && found.is_ok() {
                return;
            }
        }
    };
    for store in [&one, &other] {
        let limit = time::timeout(Duration::from_secs(30), follow(store)).await;
        assert!(limit.is_ok(), "the store does not find the new primary");
        let found = store.look(&name, None, &LeaseOwner::random(), LONG).await?;
        assert!(
            matches!(found, Found::Entry { .. }),
            "the entry was replicated: {found:?}"
        );
    }
    suite(&one, &other).await
}

/// Returns the URL of the primary.
async fn primary(sentinel: &str) -> String {
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "tokens"];
    let (host, port): (String, u16) =
        redis::from_redis_value(command_at(sentinel, &words).await).unwrap();
    format!("redis://{host}:{port}")
}
