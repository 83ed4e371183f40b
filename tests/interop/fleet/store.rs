//! How a replica reaches Redis, as a setting: one server, TLS, a cluster, or sentinels.

use std::fs;

use redis::{
    Client, TlsCertificates,
    sentinel::{SentinelClient, SentinelServerType},
};
use serde_json::{Value, json};
use tower_oauth2_client::token_store::RedisTokenStore;

use crate::setting;

/// The user has the documented permissions and no others.
pub(super) fn tls() -> Value {
    let url = format!("rediss://orders:password@{}", setting("REDIS_TLS"));
    json!({ "url": url, "ca": setting("REDIS_CA") })
}

pub(super) fn cluster() -> Value {
    let nodes = setting("REDIS_CLUSTER");
    json!({ "cluster": nodes.split_whitespace().collect::<Vec<_>>() })
}

/// What the sentinel at this URL watches under the name `tokens`.
pub(super) fn sentinel(url: &str) -> Value {
    json!({ "sentinel": url })
}

/// Opens a store. A text is the URL of one server.
pub(super) fn open(redis: &Value) -> RedisTokenStore {
    if let Some(url) = redis.as_str() {
        RedisTokenStore::open(url).unwrap()
    } else if let Some(nodes) = redis["cluster"].as_array() {
        RedisTokenStore::open_cluster(nodes.iter().map(|node| node.as_str().unwrap())).unwrap()
    } else if let Some(url) = redis["sentinel"].as_str() {
        let client =
            SentinelClient::build(vec![url], "tokens", None, SentinelServerType::Master).unwrap();
        RedisTokenStore::new(client)
    } else {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(fs::read(redis["ca"].as_str().unwrap()).unwrap()),
        };
        let url = redis["url"].as_str().unwrap();
        RedisTokenStore::new(Client::build_with_tls(url, certificates).unwrap())
    }
}
