//! A fleet over sentinels, whose primary is lost.
#![allow(clippy::disallowed_methods, reason = "the outage is measured")]

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, time};

use super::{
    REPLICAS, assert_all_calls_are_good, assert_each_is_spent_once, assert_no_errors,
    authority::Authority, replica::Replica, replicas, run, settings, store, with,
};
use crate::redis::server::Server;

/// A primary and its replica, watched by a sentinel. They belong to one test, because a lost primary does not come back.
struct Watched {
    primary: Option<Server>,
    replica: Server,
    sentinel: Child,
    url: String,
    folder: PathBuf,
}

impl Watched {
    async fn start() -> Self {
        let (primary, replica) = (Server::start().await, Server::start().await);
        // Otherwise, it waits for more replicas.
        let at_once = ["CONFIG", "SET", "repl-diskless-sync-delay", "0"];
        primary.command(&at_once).await;
        let url = primary.url();
        replica
            .command(&["REPLICAOF", "127.0.0.1", port(&url)])
            .await;
        until(&replica.url(), &["INFO", "replication"], |said| {
            said.contains("master_link_status:up")
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sentinel = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = env::temp_dir().join(format!("interop-sentinel-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let settings = folder.join("sentinel.conf");
        let text = format!(
            "port {sentinel}\nbind 127.0.0.1\ndir {}\nsentinel monitor tokens 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds tokens 500\nsentinel failover-timeout tokens 3000\n",
            folder.display(),
            port(&primary.url()),
        );
        fs::write(&settings, text).unwrap();
        let process = Command::new("redis-sentinel")
            .arg(settings)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let watched = Self {
            primary: Some(primary),
            replica,
            sentinel: process,
            url: format!("redis://127.0.0.1:{sentinel}"),
            folder,
        };
        until(&watched.url, &["INFO", "sentinel"], |said| {
            said.contains("slaves=1")
        })
        .await;
        watched
    }

    /// Kills the primary, but loses nothing that was written to it before. Returns when the replica has taken its place.
    async fn lose_the_primary(&mut self) {
        let primary = self.primary.take().unwrap();
        // `WAIT` looks at what was written on the same connection.
        let written = [&["SET", "x", "x", "PX", "1"][..], &["WAIT", "1", "5000"]];
        let replicas = command_at(&primary.url(), &written).await.unwrap();
        assert_eq!(replicas, "int(1)");
        drop(primary);
        let replica = self.replica.url();
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "tokens"];
        until(&self.url, &words, |said| said.contains(port(&replica))).await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.sentinel.kill();
        let _ = self.sentinel.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn port(url: &str) -> &str {
    url.rsplit_once(':').unwrap().1
}

/// Waits until a server answers so.
async fn until(url: &str, words: &[&str], is_so: impl Fn(&str) -> bool) {
    let answers = async {
        while !command_at(url, &[words])
            .await
            .is_ok_and(|said| is_so(&said))
        {
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answers = time::timeout(Duration::from_secs(20), answers).await;
    assert!(answers.is_ok(), "{words:?} at {url}");
}

/// Sends commands on one connection. Returns the last reply as text.
async fn command_at(url: &str, commands: &[&[&str]]) -> redis::RedisResult<String> {
    let client = redis::Client::open(url)?;
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await?;
    let mut last = redis::Value::Nil;
    for words in commands {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        last = command.query_async(&mut connection).await?;
    }
    Ok(format!("{last:?}"))
}

/// Two fleets: one whose tokens live for two seconds, and one whose refresh token is due while there is no primary.
#[tokio::test]
async fn fleet_over_sentinels_goes_on_when_the_primary_is_lost() {
    let mut redis = Watched::start().await;
    let short = Authority::start(Duration::from_secs(2)).await;
    let signed_in = Authority::start(Duration::from_secs(12)).await;
    let first = signed_in.server.issue_refresh_token("client", "api1");
    let more = json!({ "run_ms": 21_000, "callers": 100, "pace_ms": 50 });
    let sentinel = store::sentinel(&redis.url);
    let short_settings = with(settings(&short, sentinel.clone()), &more);
    let settings = with(settings(&signed_in, sentinel), &more);
    // Due after 4.8 seconds, and again 9 to 10 seconds after the new primary is there.
    let refreshes = json!({ "refresh_token": first, "first_renewal": 0.4 });
    let settings = with(settings, &refreshes);

    let mut all = replicas(&short_settings).await;
    all.extend(replicas(&settings).await);
    let running = tokio::spawn(run(all));
    time::sleep(Duration::from_millis(4_300)).await;
    assert_eq!(signed_in.requests(), 1);
    let lost = time::Instant::now();
    redis.lose_the_primary().await;
    println!("the replica is the primary after {:?}", lost.elapsed());

    let results: Vec<Value> = running.await.unwrap();
    let (of_short, of_signed_in) = results.split_at(REPLICAS);
    assert_all_calls_are_good(&short, of_short);
    assert_all_calls_are_good(&signed_in, of_signed_in);
    for result in &results {
        assert_eq!(result["tokens"].as_array().unwrap().len(), 1, "{result}");
    }
    for (name, results) in [("short", of_short), ("signed in", of_signed_in)] {
        for result in results {
            assert_eq!(result["tokens"], results[0]["tokens"], "{name}");
        }
    }
    println!(
        "{} short tokens, {} refresh tokens",
        short.requests(),
        signed_in.requests()
    );
    assert!((3..=4).contains(&signed_in.requests()));

    // What is in the new primary is enough for a process that knows only the first refresh token.
    let late = with(settings, &json!({ "run_ms": 0 }));
    assert_no_errors(&run(vec![Replica::start(&late).await]).await);
    assert_each_is_spent_once(&signed_in.spent());
}
