//! `RedisTokenStore`: shares tokens through Redis or Valkey.

mod client;
mod connecting;
mod scripts;
mod shared_connection;
mod wakeups;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Client, ProtocolVersion, Value, cluster::ClusterClient, io::tcp::TcpSettings};
use tokio::time;

pub use self::client::RedisClient;
use self::{
    scripts::{Call, Scripts},
    shared_connection::SharedConnection,
    wakeups::Wakeups,
};
use super::{EntryName, Fence, Found, LeaseOwner, Put, StoreFuture, TokenStore};
use crate::error::BoxError;

/// How long a waiter relies on messages before it looks again. They can be lost together with a connection.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a waiter without messages sleeps before it looks again. With jitter, it is up to twice as long.
const POLL: Duration = Duration::from_millis(150);

/// A [`TokenStore`] in Redis or Valkey: one server, a cluster, or what sentinels watch.
///
/// It needs Redis 6 or Valkey, and works with replication, persistence and eviction, or without them. All instances of a service use the
/// same database and the same [prefix](Self::prefix).
///
/// * Each operation is one script on one key, so it is atomic, costs one round trip, and needs no hash tags in a cluster.
/// * Each key expires: an hour after the last lease, or when its entry ends, whichever is later.
/// * All operations share one connection, which is opened by the first one and replaced when it is lost. An operation that finds it lost runs
///   again on the new one. An operation that takes longer than the [limit](Self::limit) fails.
/// * Waiters are woken by messages on the same connection. Without them (no permission, RESP2), they poll about five times a second.
///
/// # Permissions
///
/// An ACL user needs these commands, and the keys and channels under the prefix:
///
/// ```text
/// ACL SETUSER orders on >password resetkeys resetchannels ~tower-oauth2-client:* &tower-oauth2-client:* -@all
///     +evalsha +eval +hmget +hset +hdel +hexists +del +pttl +pexpire +time +publish +subscribe +unsubscribe +hello
/// ```
///
/// A cluster also needs `+cluster|slots +cluster|shards +ping +readonly`, sentinels need `+role`, and a database other than 0 `+select`.
///
/// # What remains
///
/// Replication is asynchronous. A failover can lose the last leases and entries. Two instances can then hold the lease of one name at the same
/// time, until the first of them notices that it has lost it. The loss of a server without persistence does the same.
///
/// # TLS
///
/// A URL with `rediss://` uses rustls and the root certificates of the system. If the process has no default
/// [`CryptoProvider`](rustls::crypto::CryptoProvider) yet, aws-lc-rs becomes it with the first connection, because the crate `redis` uses that.
/// To use another one, install it before the first token is fetched. For other
/// certificates, build a client of that crate with them, and pass it to [`new`](Self::new).
///
/// # Examples
///
/// ```no_run
/// use tower_oauth2_client::{BoxError, token_store::RedisTokenStore};
///
/// # fn main() -> Result<(), BoxError> {
/// let store = RedisTokenStore::open("rediss://orders:password@redis.example/")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisTokenStore {
    connection: Arc<SharedConnection>,
    wakeups: Arc<Wakeups>,
    scripts: Arc<Scripts>,
    prefix: Arc<str>,
    limit: Duration,
}

impl RedisTokenStore {
    /// Creates a store over a client of the crate `redis` 1.x: its `Client`, `ClusterClient` or `SentinelClient`.
    ///
    /// Use this for sentinels, client certificates or a private CA (`redis::Client::build_with_tls`, with the feature `tokio-rustls-comp` of the crate
    /// `redis`), or if the password comes from a file (`redis::ConnectionInfo`). Messages need RESP3: set it for a `ClusterClient`; the others use it anyway.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use redis::sentinel::{SentinelClient, SentinelServerType};
    /// use tower_oauth2_client::token_store::RedisTokenStore;
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let sentinels = vec!["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"];
    /// let client = SentinelClient::build(sentinels, "mymaster", None, SentinelServerType::Master)?;
    /// let store = RedisTokenStore::new(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(client: impl Into<RedisClient>) -> Self {
        let wakeups = Arc::<Wakeups>::default();
        Self {
            connection: Arc::new(SharedConnection::new(client.into(), wakeups.clone())),
            wakeups,
            scripts: Arc::new(Scripts::new()),
            prefix: "tower-oauth2-client:".into(),
            limit: Duration::from_millis(500),
        }
    }

    /// Creates a store on one server, such as `redis://user:password@host:6379/0` or `rediss://host`. Nothing connects yet.
    ///
    /// In a URL, the password must be percent-encoded: `/` is `%2F`, and `+` is `%2B`.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is invalid. The error does not show it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_store::RedisTokenStore;
    ///
    /// assert!(RedisTokenStore::open("redis://localhost").is_ok());
    /// assert!(RedisTokenStore::open("https://localhost").is_err());
    /// ```
    pub fn open(url: impl AsRef<str>) -> Result<Self, BoxError> {
        Ok(Self::new(Client::open(url.as_ref())?))
    }

    /// Creates a store on a cluster, of which these are some nodes. Nothing connects yet.
    ///
    /// # Errors
    ///
    /// Returns an error if a URL is invalid, or if the user, the password or the use of TLS differ.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_store::RedisTokenStore;
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let store = RedisTokenStore::open_cluster(["redis://10.0.0.1", "redis://10.0.0.2"])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_cluster<I>(urls: I) -> Result<Self, BoxError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let urls = urls.into_iter().map(|url| url.as_ref().to_owned());
        let builder = ClusterClient::builder(urls)
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(client::tcp_settings(&TcpSettings::default()));
        Ok(Self::new(builder.build()?))
    }

    /// Sets the prefix of all keys and channels. Default is `tower-oauth2-client:`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_store::RedisTokenStore;
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let store = RedisTokenStore::open("redis://localhost")?.prefix("tokens:");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = prefix.as_ref().into();
        self
    }

    /// Sets how long one operation may take. Default is half a second.
    ///
    /// If tokens are shared, the [limit](super::ShareTokens::limit) of `ShareTokens` counts if it is shorter. So set both.
    ///
    /// A slow Redis delays a token request by at most this much. While a connection is opened, operations fail after this time, and the
    /// connection is there for later ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_oauth2_client::token_store::RedisTokenStore;
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let far_away = RedisTokenStore::open("redis://localhost")?.limit(Duration::from_secs(1));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The key of an entry, which is also the channel of its messages. In a cluster, one key is in one slot.
    fn key(&self, name: &EntryName) -> String {
        format!("{}{}", self.prefix, name.as_str())
    }

    async fn is_held(&self, key: &str, lease: Fence) -> Result<bool, BoxError> {
        let call = self.scripts.held.on(key).fence(lease);
        scripts::choose(self.run(call).await?, "held", "ended")
    }

    async fn run(&self, call: Call<'_>) -> Result<Value, BoxError> {
        self.connection.run(self.limit, call).await
    }
}

impl TokenStore for RedisTokenStore {
    fn look<'a>(
        &'a self,
        name: &'a EntryName,
        newer_than: Option<Fence>,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, Found> {
        Box::pin(async move {
            let key = self.key(name);
            let call = self.scripts.look.on(&key);
            let call = match newer_than {
                Some(fence) => call.fence(fence),
                None => call.text(""),
            };
            let call = call.text(owner.as_str()).time(lease_for).remembered();
            scripts::found(self.run(call).await?)
        })
    }

    fn renew<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        lease_for: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let key = self.key(name);
            let call = self.scripts.renew.on(&key);
            let call = call.text(owner.as_str()).time(lease_for).remembered();
            scripts::choose(self.run(call).await?, "renewed", "lost")
        })
    }

    fn release<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        pause: Duration,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let key = self.key(name);
            let call = self.scripts.release.on(&key);
            let call = call.text(owner.as_str()).time(pause).text(&key);
            scripts::choose(self.run(call).await?, "released", "lost").map(drop)
        })
    }

    fn put<'a>(
        &'a self,
        name: &'a EntryName,
        owner: &'a LeaseOwner,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let key = self.key(name);
            let call = self.scripts.put.on(&key).text(owner.as_str());
            let call = call.fence(fence).bytes(&entry).time(ttl).text(&key);
            scripts::put(self.run(call).await?)
        })
    }

    fn remove<'a>(&'a self, name: &'a EntryName, fence: Fence) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let key = self.key(name);
            let call = self.scripts.remove.on(&key).fence(fence);
            scripts::choose(self.run(call).await?, "removed", "absent")
        })
    }

    fn wait<'a>(
        &'a self,
        name: &'a EntryName,
        lease: Fence,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let wait = async move {
            let key = self.key(name);
            let waiter = self.wakeups.join(&self.connection, &key, self.limit);
            // Before the lease is checked, so that no message is missed.
            let woken = waiter.woken();
            // Others who wait for the same name may be subscribing.
            let is_subscribed = time::timeout(self.limit, waiter.subscribe()).await;
            let is_subscribed = is_subscribed.unwrap_or(false);
            let limit = match self.is_held(&key, lease).await {
                Ok(false) => return,
                Ok(true) if is_subscribed => LOOK_AGAIN,
                _ => POLL,
            };
            let _ = time::timeout(limit.mul_f64(1.0 + fastrand::f64()), woken).await;
        };
        Box::pin(async move {
            let _ = time::timeout(at_most, wait).await;
        })
    }
}

impl fmt::Debug for RedisTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTokenStore")
            .field("prefix", &self.prefix)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
