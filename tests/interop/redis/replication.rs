//! The window that asynchronous replication leaves. These tests print what they measure, and assert no time.
//!
//! `REPLICATION_SAMPLES=5000 REPLICATION_KILLS=200 cargo test --all-features --test interop redis::replication -- --nocapture
//! --test-threads 1` measures it. The defaults only check that nothing fails.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

use std::{
    env,
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use tokio::time::{self, Instant};
use tower_oauth2_client::{
    BoxError,
    token_store::{EntryName, Fence, Found, LeaseOwner, Put, TokenStore},
};

use super::{
    LONG,
    link::Link,
    new_name,
    replica::{primary, replica_of},
    server::Server,
    store,
};

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// `redis-benchmark`, which writes as fast as it can. It is killed when it is dropped.
struct Load(Child);

impl Load {
    async fn on(server: &Server) -> Self {
        let child = Command::new("redis-benchmark")
            .args(["-p", &server.address().port().to_string()])
            .args([
                "-t", "set", "-d", "1000", "-c", "50", "-n", "20000000", "-q",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        time::sleep(Duration::from_millis(300)).await;
        Self(child.unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(name: &EntryName) -> String {
    format!("tower-oauth2-client:{}", name.as_str())
}

fn blocking(server: &Server) -> redis::Connection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_connection().unwrap()
}

/// Returns how long it takes until a field is there.
fn appears(replica: &mut redis::Connection, key: &str, field: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let mut exists = redis::cmd("HEXISTS");
        if exists.arg(key).arg(field).query::<bool>(replica).unwrap() {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{field} of {key}"
        );
    }
}

fn print(what: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let at = |part: f64| samples[((samples.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {} samples, median {:?}, 99 % {:?}, 99.9 % {:?}, most {:?}",
        samples.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

#[tokio::test]
async fn what_the_primary_has_confirmed_reaches_the_replica() -> Result<(), BoxError> {
    let samples = number("REPLICATION_SAMPLES", 100);
    let primary = primary().await;
    let replica = replica_of(&primary, primary.address().port()).await;
    let store = store(&primary.url());
    let mut at_replica = blocking(&replica);
    let (mut looks, mut puts) = (Vec::new(), Vec::new());
    for is_loaded in [false, true] {
        let _load = match is_loaded {
            true => Some(Load::on(&primary).await),
            false => None,
        };
        for _ in 0..samples {
            let (name, owner) = (new_name(), LeaseOwner::random());
            let Found::Leased { fence, .. } = store.look(&name, None, &owner, LONG).await? else {
                panic!("nobody holds the lease");
            };
            looks.push(appears(&mut at_replica, &key(&name), "l"));
            let entry = vec![b'x'; 1500];
            let put = store.put(&name, &owner, fence, entry.into(), LONG).await?;
            assert_eq!(put, Put::Stored);
            puts.push(appears(&mut at_replica, &key(&name), "e"));
            time::sleep(Duration::from_millis(1)).await;
        }
        let load = if is_loaded { "under load" } else { "idle" };
        print(&format!("a lease, {load}"), std::mem::take(&mut looks));
        print(&format!("an entry, {load}"), std::mem::take(&mut puts));
        if samples > 100 {
            print(&format!("WAIT 1 100, {load}"), waits(&primary, samples));
        }
    }
    Ok(())
}

/// How long `WAIT 1 100` takes after a write.
fn waits(primary: &Server, samples: usize) -> Vec<Duration> {
    let mut connection = blocking(primary);
    let wait = |index| {
        let key = format!("waits-{index}");
        redis::cmd("SETEX")
            .arg(&[&key, "600", "entry"])
            .query::<()>(&mut connection)
            .unwrap();
        let begun = Instant::now();
        let mut wait = redis::cmd("WAIT");
        let replicas: u32 = wait.arg(1).arg(100).query(&mut connection).unwrap();
        assert_eq!(replicas, 1);
        begun.elapsed()
    };
    (0..samples).map(wait).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Setting {
    Idle,
    Loaded,
    /// The replica is five milliseconds away, and what is on its way is lost as well: the machine is gone.
    Far,
    /// The same, with `min-replicas-to-write 1`.
    MinReplicas,
    /// The same, with `WAIT 1 100` after the write.
    Wait,
}

/// The primary is killed as soon as it has confirmed an entry, and the replica takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_that_a_failover_loses_is_a_miss() -> Result<(), BoxError> {
    let kills = number("REPLICATION_KILLS", 3);
    for setting in [
        Setting::Idle,
        Setting::Loaded,
        Setting::Far,
        Setting::MinReplicas,
        Setting::Wait,
    ] {
        let mut lost = 0;
        for _ in 0..kills {
            let primary = primary().await;
            let link = Link::to(primary.address()).await;
            let port = match setting {
                Setting::Idle | Setting::Loaded => primary.address().port(),
                Setting::Far | Setting::MinReplicas | Setting::Wait => link.address.port(),
            };
            let replica = replica_of(&primary, port).await;
            link.delay.store(5, Ordering::SeqCst);
            if setting == Setting::MinReplicas {
                let words = ["CONFIG", "SET", "min-replicas-to-write", "1"];
                primary.command(&words).await;
            }
            let load = match setting {
                Setting::Loaded => Some(Load::on(&primary).await),
                _ => None,
            };
            let (name, fence) = put_and_kill(primary, link, setting).await?;
            drop(load);
            // What is on its way arrives.
            time::sleep(Duration::from_millis(50)).await;
            replica.command(&["REPLICAOF", "NO", "ONE"]).await;
            let store = store(&replica.url());
            let owner = LeaseOwner::random();
            let found = store
                .look(&name, Some(Fence::new(fence.get() - 1)), &owner, LONG)
                .await?;
            match found {
                Found::Entry { fence: found, .. } => assert_eq!(found, fence),
                Found::Leased { fence: next, .. } => {
                    lost += 1;
                    assert!(next > fence, "{next:?} follows {fence:?}");
                }
                // The lease was replicated, and its end was not.
                Found::Held { fence: held, .. } => {
                    lost += 1;
                    assert_eq!(held, fence);
                }
                found => panic!("{found:?}"),
            }
        }
        println!("{setting:?}: {lost} of {kills} entries are lost");
        assert!(setting != Setting::Wait || lost == 0, "WAIT has returned 1");
    }
    Ok(())
}

/// Kills the primary right after it has confirmed an entry. What is on its way through the link is lost.
async fn put_and_kill(
    primary: Server,
    link: Link,
    setting: Setting,
) -> Result<(EntryName, Fence), BoxError> {
    let store = store(&primary.url());
    let (name, owner) = (new_name(), LeaseOwner::random());
    let Found::Leased { fence, .. } = store.look(&name, None, &owner, LONG).await? else {
        panic!("nobody holds the lease");
    };
    // The lease has been replicated when the server has answered.
    time::sleep(Duration::from_millis(30)).await;
    let put = store
        .put(&name, &owner, fence, vec![b'x'; 1500].into(), LONG)
        .await?;
    assert_eq!(put, Put::Stored);
    if setting == Setting::Wait {
        // `WAIT` is about the writes of its own connection, so this one writes, too.
        let mut connection = blocking(&primary);
        redis::cmd("SETEX")
            .arg(&["wait", "600", ""])
            .query::<()>(&mut connection)?;
        let replicas: u32 = redis::cmd("WAIT").arg(1).arg(1000).query(&mut connection)?;
        assert_eq!(replicas, 1);
    }
    drop(link);
    drop(primary);
    Ok((name, fence))
}

/// The server is killed as soon as it has confirmed an entry, and starts again with its append-only file.
///
/// With `everysec`, a server that is syncing postpones what it writes to the file, and confirms it before.
#[tokio::test]
async fn append_only_file_that_is_always_synced_keeps_what_was_confirmed() -> Result<(), BoxError> {
    let kills = number("REPLICATION_KILLS", 3);
    for (sync, is_loaded) in [("everysec", false), ("everysec", true), ("always", true)] {
        let settings = ["--appendonly", "yes", "--appendfsync", sync];
        let mut server = Server::start_with(&settings).await;
        let mut lost = 0;
        for _ in 0..kills {
            let store = store(&server.url());
            let (name, owner) = (new_name(), LeaseOwner::random());
            let load = match is_loaded {
                true => Some(Load::on(&server).await),
                false => None,
            };
            let Found::Leased { fence, .. } = store.look(&name, None, &owner, LONG).await? else {
                panic!("nobody holds the lease");
            };
            store
                .put(&name, &owner, fence, "entry".into(), LONG)
                .await?;
            server = server.restart_with_data(&settings).await;
            drop(load);
            let found = loop {
                match store.look(&name, None, &LeaseOwner::random(), LONG).await {
                    Ok(found) => break found,
                    // It loads its data.
                    Err(_) => time::sleep(Duration::from_millis(50)).await,
                }
            };
            lost += usize::from(!matches!(found, Found::Entry { .. }));
        }
        let load = if is_loaded { "under load" } else { "idle" };
        println!("appendfsync {sync}, {load}: {lost} of {kills} entries are lost");
        assert!(sync != "always" || lost == 0, "{lost}");
    }
    Ok(())
}
