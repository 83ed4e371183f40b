//! Engines of a token store follow the rules of `TokenStore`, and the suite notices those that do not.

mod engine_support;

use std::time::Duration;

use tower_oauth2_client::{
    BoxError,
    test_util::token_store::suite,
    token_store::{EntryName, LeaseOwner, MemoryTokenStore, TokenStore},
};

use self::engine_support::{Fault, Faulty};

#[tokio::test]
async fn memory_follows_the_rules() -> Result<(), BoxError> {
    let store = MemoryTokenStore::new();
    suite(&store, &store.clone()).await
}

#[tokio::test(start_paused = true)]
async fn memory_follows_the_rules_on_a_paused_clock() -> Result<(), BoxError> {
    let store = MemoryTokenStore::new();
    suite(&store, &store.clone()).await
}

#[tokio::test(start_paused = true)]
async fn memory_forgets_what_has_ended() -> Result<(), BoxError> {
    let (store, second) = (MemoryTokenStore::new(), Duration::from_secs(1));
    for round in 0..20 {
        for index in 0..1000 {
            let (name, owner) = (
                EntryName::new(format!("{round}-{index}")),
                LeaseOwner::random(),
            );
            store.look(&name, None, &owner, second).await?;
        }
        tokio::time::advance(2 * Duration::from_secs(3600)).await;
    }
    let shown = format!("{store:?}");
    let mut numbers = shown
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok());
    let names: usize = numbers.next().unwrap();
    assert!(names < 5000, "{names}");
    Ok(())
}

async fn passes(fault: Fault) -> bool {
    let faulty = Faulty::new(fault);
    let task = tokio::spawn(async move { suite(&faulty, &faulty).await });
    match task.await {
        Ok(result) => result.is_ok(),
        Err(error) => !error.is_panic(),
    }
}

#[tokio::test(start_paused = true)]
async fn suite_notices_every_fault() {
    assert!(passes(Fault::None).await);
    for fault in Fault::ALL {
        assert!(!passes(*fault).await, "{fault:?} is not noticed");
    }
}
