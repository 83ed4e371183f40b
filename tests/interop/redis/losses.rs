//! Keys that vanish in the middle of a lease, or that contain values of others.

use std::time::Duration;

use tower_oauth2_client::{
    BoxError,
    token_store::{Fence, Found, LeaseOwner, Put, TokenStore},
};

use super::{LONG, assert_found, new_name, refusals::Admin, server::Server, store, take_lease};

/// Whatever takes the lease and the entry away, fences grow, and a late holder does not replace anything newer.
#[tokio::test]
async fn lease_that_is_lost_in_the_middle_is_taken_over() -> Result<(), BoxError> {
    for loss in [
        "FLUSHALL",
        "FLUSHDB ASYNC",
        "UNLINK",
        "SWAPDB 0 1",
        "SET",
        "eviction",
    ] {
        let server = Server::start().await;
        let mut admin = Admin::of(&server).await;
        let (one, other) = (store(&server.url()), store(&server.url()));
        let (name, owner) = (new_name(), LeaseOwner::random());
        let mut late = Fence::new(0);
        // The second time, there is an entry as well.
        for _ in 0..2 {
            let found = one.look(&name, Some(late), &owner, LONG).await?;
            let Found::Leased { fence, .. } = found else {
                panic!("expected the lease, not {found:?}");
            };
            if late == Fence::new(0) {
                one.put(&name, &owner, fence, "entry".into(), LONG).await?;
            }
            late = fence;
        }
        let key = format!("tower-oauth2-client:{}", name.as_str());
        match loss {
            "eviction" => evict(&mut admin, &key).await,
            "UNLINK" => admin.run_all(&[&format!("UNLINK {key}")]).await,
            "SET" => admin.run_all(&[&format!("SET {key} other")]).await,
            loss => admin.run_all(&[loss]).await,
        }

        assert!(!one.renew(&name, &owner, LONG).await?, "{loss}");
        let next = LeaseOwner::random();
        let found = other.look(&name, None, &next, LONG).await?;
        let Found::Leased {
            fence,
            after_lost_holder,
        } = found
        else {
            panic!("{loss}: expected the lease, not {found:?}");
        };
        assert!(fence > late && !after_lost_holder, "{loss}");
        one.release(&name, &owner, Duration::ZERO).await?;
        assert!(other.renew(&name, &next, LONG).await?, "{loss}");
        let put = other.put(&name, &next, fence, "next".into(), LONG);
        assert_eq!(put.await?, Put::Stored, "{loss}");
        let put = one.put(&name, &owner, late, "late".into(), LONG);
        assert_eq!(put.await?, Put::Superseded, "{loss}");
    }
    Ok(())
}

/// Fills the server until it has evicted the key. The keys that fill it expire as well, and are used more often.
async fn evict(admin: &mut Admin, key: &str) {
    admin
        .run_all(&[
            "CONFIG SET maxmemory-policy volatile-lru",
            "CONFIG SET maxmemory 4mb",
        ])
        .await;
    let filling = "x".repeat(10_000);
    for index in 0..5_000 {
        admin
            .run_all(&[&format!("SETEX filling-{index} 600 {filling}")])
            .await;
        let exists = admin.run(&format!("EXISTS {key}")).await.unwrap();
        if exists == redis::Value::Int(0) {
            admin.run_all(&["CONFIG SET maxmemory 0"]).await;
            return;
        }
    }
    panic!("the key is not evicted");
}

#[tokio::test]
async fn foreign_values_under_our_keys_are_replaced() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    let fields = [
        &["f", "e", "p", "x"][..],
        &["l", "o", "d", "u", "n"],
        &["f", "e", "p", "x", "l", "o", "d", "u", "n"],
        &["e"],
        &["o"],
        &["f"],
    ];
    // Lua reads some of these as numbers.
    let garbage = [
        "\u{0}<html>\r\n-1e999",
        "",
        "inf",
        "-inf",
        "nan",
        "1e308",
        "-5",
        "0xffffffffffffffff",
        "18446744073709551615",
    ];
    let cases = fields
        .iter()
        .flat_map(|fields| garbage.iter().map(move |garbage| (fields, garbage)));
    for (fields, garbage) in cases {
        let name = new_name();
        let key = format!("tower-oauth2-client:{}", name.as_str());
        let mut words = vec!["HSET", &key];
        words.extend(fields.iter().flat_map(|field| [*field, garbage]));
        server.command(&words).await;
        assert!(!store.remove(&name, Fence::new(1)).await?);
        store.release(&name, &LeaseOwner::random(), LONG).await?;
        assert!(!store.renew(&name, &LeaseOwner::random(), LONG).await?);
        let owner = LeaseOwner::random();
        let found = store.look(&name, None, &owner, LONG).await?;
        let Found::Leased { fence, .. } = found else {
            panic!("expected the lease, not {found:?}");
        };
        store
            .put(&name, &owner, fence, "entry".into(), LONG)
            .await?;
        assert_found(&store, &name).await;
    }
    for words in [["SET", "string"], ["LPUSH", "list"], ["SADD", "set"]] {
        let name = new_name();
        let key = format!("tower-oauth2-client:{}", name.as_str());
        server.command(&[words[0], &key, words[1]]).await;
        store.wait(&name, Fence::new(1), LONG).await;
        take_lease(&store, &name).await?;
    }
    Ok(())
}
