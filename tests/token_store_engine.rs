//! Engines of a token store follow the rules of `TokenStore`.

use tower_oauth2_client::{BoxError, test_util, token_store::MemoryTokenStore};

#[tokio::test]
async fn memory_follows_the_rules() -> Result<(), BoxError> {
    let store = MemoryTokenStore::new();
    test_util::token_store::suite(&store, &store.clone()).await
}

#[tokio::test(start_paused = true)]
async fn memory_follows_a_paused_clock() -> Result<(), BoxError> {
    let store = MemoryTokenStore::new();
    test_util::token_store::suite(&store, &store.clone()).await
}
