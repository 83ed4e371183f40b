//! Several processes share one token through Redis: how many token requests do they send, with and without?
//!
//! ```text
//! cargo run --example fleet                                   # starts a redis-server, if there is one
//! REDIS_URL=redis://localhost cargo run --example fleet       # uses yours
//! ```
//!
//! Without any Redis, the instances are tasks of this process and share a store in memory.

use std::{
    env,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time;
use tower_oauth2_client::{
    BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    test_util::AuthorizationServer,
    token_store::{
        MemoryTokenStore, RedisTokenStore, ShareTokens, StoreKey, StoreKeys, TokenStore,
    },
};

const INSTANCES: usize = 8;
const LIFETIME: Duration = Duration::from_secs(3);
const RUN: Duration = Duration::from_secs(15);
/// In production: `StoreKey::from_credential(&Credential::file("/run/secrets/token-store-key"))`.
const KEY: &str = "hnxzyZtHJN4e5ntXCbUoPk7H8lrPGlmYW+1IZ0yYtYk=";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [token_endpoint] => run_instance(token_endpoint, None::<RedisTokenStore>).await,
        [token_endpoint, redis] => {
            run_instance(token_endpoint, Some(RedisTokenStore::open(redis)?)).await
        }
        _ => compare().await,
    }
}

/// An instance of a service that needs a token all the time.
async fn run_instance(
    token_endpoint: &str,
    store: Option<impl TokenStore>,
) -> Result<(), BoxError> {
    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let endpoint = TokenEndpoint::new(http, token_endpoint, client);

    let mut tokens = TokenCache::builder(endpoint.clone());
    if let Some(store) = store {
        let keys = StoreKeys::new("orders", StoreKey::from_base64(KEY)?);
        tokens = tokens.share(ShareTokens::new(store, keys, &endpoint));
    }
    let source = tokens.build().source(TokenRequest::client_credentials());

    let calls = async {
        loop {
            source.token().await?;
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    match time::timeout(RUN, calls).await {
        Ok(result) => result,
        Err(_) => Ok(()),
    }
}

async fn compare() -> Result<(), BoxError> {
    let redis = Redis::find();
    match &redis {
        Some(redis) => println!("{INSTANCES} processes, and the Redis at {}", redis.url),
        None => println!("There is no Redis, so {INSTANCES} tasks share a store in memory."),
    }
    println!("Tokens live for {LIFETIME:?}; each run takes {RUN:?}.\n");
    let alone = count(None, None).await?;
    let memory = MemoryTokenStore::new();
    let shared = count(redis.as_ref(), Some(&memory)).await?;

    let lifetimes = RUN.as_secs_f64() / LIFETIME.as_secs_f64();
    println!(
        "{:<16} {:>14} {:>24}",
        "", "token requests", "per lifetime of a token"
    );
    for (name, requests) in [("each on its own", alone), ("shared", shared)] {
        println!(
            "{name:<16} {requests:>14} {:>24.1}",
            requests as f64 / lifetimes
        );
    }
    Ok(())
}

/// Runs all instances, and counts the token requests.
async fn count(
    redis: Option<&Redis>,
    memory: Option<&MemoryTokenStore>,
) -> Result<usize, BoxError> {
    let server = AuthorizationServer::builder().access_token_lifetime(LIFETIME);
    let server = server.start().await?;
    let token_endpoint = server.token_endpoint().to_string();
    let mut instances = tokio::task::JoinSet::new();
    for _ in 0..INSTANCES {
        if redis.is_none() && memory.is_some() {
            let (token_endpoint, store) = (token_endpoint.clone(), memory.cloned());
            instances.spawn(async move { run_instance(&token_endpoint, store).await });
            continue;
        }
        let mut process = tokio::process::Command::new(env::current_exe()?);
        process
            .arg(&token_endpoint)
            .args(redis.map(|redis| &redis.url));
        let mut process = process.kill_on_drop(true).spawn()?;
        instances.spawn(async move {
            match process.wait().await?.success() {
                true => Ok(()),
                false => Err("an instance failed".into()),
            }
        });
    }
    while let Some(ended) = instances.join_next().await {
        ended??;
    }
    Ok(server.token_requests())
}

struct Redis {
    url: String,
    process: Option<Child>,
}

impl Redis {
    fn find() -> Option<Self> {
        if let Ok(url) = env::var("REDIS_URL") {
            return Some(Self { url, process: None });
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        let process = server.args(["--save", ""]).stdout(Stdio::null()).spawn();
        let redis = Self {
            url: format!("redis://127.0.0.1:{port}"),
            process: Some(process.ok()?),
        };
        let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        let mut looks = (0..100).map(|_| std::thread::sleep(Duration::from_millis(50)));
        looks.any(|()| is_ready()).then_some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
