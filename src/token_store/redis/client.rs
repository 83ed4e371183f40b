//! `RedisClient`: how to connect to one server, a cluster, or the primary that sentinels name.

use std::{fmt, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, ProtocolVersion, PushInfo,
    RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
    sentinel::SentinelClient,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio::{sync::Mutex, time::Instant};

use crate::base::clock::tokio_now;

/// How long connecting may take. It goes on in the background, so no token request waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is silent before the system sends a packet on it. Gateways forget idle connections after some minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long a connection to a replica is kept, at least. Its primary may not have been chosen yet.
const KEPT_TO_REPLICA: Duration = Duration::from_secs(1);

/// A client of the crate `redis`, for [`RedisTokenStore::new`](super::RedisTokenStore::new).
pub struct RedisClient(Kind);

enum Kind {
    Server(Client),
    Cluster(ClusterClient),
    // To ask the sentinels, it must be exclusive.
    Sentinel(Mutex<SentinelClient>),
}

/// A connection that many operations use at the same time.
#[derive(Clone)]
pub(super) enum Connection {
    /// With the time at which it was opened.
    Server(MultiplexedConnection, Instant),
    Cluster(ClusterConnection),
}

impl From<Client> for RedisClient {
    fn from(client: Client) -> Self {
        Self(Kind::Server(client))
    }
}

impl From<ClusterClient> for RedisClient {
    fn from(client: ClusterClient) -> Self {
        Self(Kind::Cluster(client))
    }
}

impl From<SentinelClient> for RedisClient {
    fn from(client: SentinelClient) -> Self {
        Self(Kind::Sentinel(Mutex::new(client)))
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Server(_) => "RedisClient(server)",
            Kind::Cluster(_) => "RedisClient(cluster)",
            Kind::Sentinel(_) => "RedisClient(sentinel)",
        })
    }
}

impl RedisClient {
    /// Connects. `on_push` is called with each message.
    pub(super) async fn connect(
        &self,
        on_push: impl Fn(PushInfo) + Clone + Send + Sync + 'static,
    ) -> RedisResult<Connection> {
        let on_push = move |push| {
            on_push(push);
            Ok::<_, RedisError>(())
        };
        match &self.0 {
            Kind::Server(client) => connect_to_server(client, on_push).await,
            Kind::Sentinel(client) => {
                choose_crypto_provider();
                let client = client.lock().await.async_get_client().await?;
                connect_to_server(&client, on_push).await
            }
            Kind::Cluster(client) => {
                choose_crypto_provider();
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECT_TIMEOUT)
                    .set_push_sender(on_push);
                let connection = client.get_async_connection_with_config(config).await?;
                Ok(Connection::Cluster(connection))
            }
        }
    }
}

async fn connect_to_server<E: 'static>(
    client: &Client,
    on_push: impl Fn(PushInfo) -> Result<(), E> + Send + Sync + 'static,
) -> RedisResult<Connection> {
    let info = client.get_connection_info().clone();
    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        choose_crypto_provider();
    }
    // Messages arrive on the same connection only with the third version of the protocol.
    let settings = info.redis_settings().clone();
    let tcp_settings = tcp_settings(info.tcp_settings());
    let info = info
        .set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3))
        .set_tcp_settings(tcp_settings);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None)
        .set_push_sender(on_push);
    let client = Client::open(info)?;
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    Ok(Connection::Server(connection.await?, tokio_now()))
}

/// Many small operations share the connection, so none may wait until the one before is acknowledged.
pub(super) fn tcp_settings(given: &TcpSettings) -> TcpSettings {
    let settings = given.clone().set_nodelay(true);
    match settings.keepalive() {
        Some(_) => settings,
        None => settings.set_keepalive(TcpKeepalive::new().with_time(KEEP_ALIVE)),
    }
}

/// The crate `redis` takes the provider of the process, and panics if there is none and rustls has several to choose from.
fn choose_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        let _: Result<(), Arc<CryptoProvider>> = aws_lc_rs::default_provider().install_default();
    }
}

impl Connection {
    pub(super) async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection, _) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Server(connection, _) => connection.subscribe(channel).await,
            Self::Cluster(connection) => connection.subscribe(channel).await,
        }
    }

    pub(super) async fn unsubscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Server(connection, _) => connection.unsubscribe(channel).await,
            Self::Cluster(connection) => connection.unsubscribe(channel).await,
        }
    }

    /// Whether the connection has to be replaced after this error. A cluster connection repairs those to its nodes itself.
    pub(super) fn is_lost(&self, error: &RedisError) -> bool {
        match self {
            Self::Server(_, opened) => {
                let is_replica = is_of_a_replica(error) && tokio_now() - *opened > KEPT_TO_REPLICA;
                is_replica || error.is_unrecoverable_error() || error.is_io_error()
            }
            Self::Cluster(_) => {
                error.is_connection_dropped()
                    || error.kind() == ErrorKind::ClusterConnectionNotFound
            }
        }
    }
}

/// After a failover, the old primary is a replica. Redis 6 names the error of a script only in its text.
fn is_of_a_replica(error: &RedisError) -> bool {
    let is_named = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    );
    is_named
        || error
            .detail()
            .is_some_and(|text| text.contains("-READONLY "))
}
