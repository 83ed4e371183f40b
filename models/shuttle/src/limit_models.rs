//! The limit of fetches under way: callers that queue, are dropped and need each other's tokens.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{spawn, task::yield_now};
use tower::service_fn;

use crate::{
    AccessToken, BoxError, TokenCache, TokenError, TokenRequest, TokenResponse, TokenSource,
    TokenType, base::clock, model, pause, polled_at_random,
};

/// Counts the requests that are under way.
#[derive(Clone, Default)]
struct Endpoint {
    under_way: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Endpoint {
    /// Waits until every task of a cache has ended, which was dropped before.
    async fn ended(&self) {
        while Arc::strong_count(&self.requests) > 1 {
            yield_now().await;
        }
    }

    fn cache(&self) -> TokenCache {
        let this = self.clone();
        let builder = TokenCache::builder(service_fn(move |_: TokenRequest| {
            let this = this.clone();
            async move {
                this.requests.fetch_add(1, SeqCst);
                let under_way = this.under_way.fetch_add(1, SeqCst) + 1;
                this.peak.fetch_max(under_way, SeqCst);
                pause().await;
                this.under_way.fetch_sub(1, SeqCst);
                response()
            }
        }));
        builder.max_concurrent_fetches(1).build()
    }
}

fn response() -> Result<TokenResponse, BoxError> {
    let token = AccessToken::new("token", TokenType::BEARER)?;
    let response = TokenResponse::builder(token).expires_in(Duration::from_secs(3600));
    Ok(response.build())
}

fn source(tokens: &TokenCache, tenant: usize) -> TokenSource {
    let request = TokenRequest::client_credentials();
    tokens.source(request.parameter("tenant", tenant.to_string()))
}

async fn token(source: TokenSource) -> Result<(), TokenError> {
    source.token().await.map(drop)
}

/// No timer fires, so each of them is started by the end of the fetch before it, or by itself.
pub fn every_caller_in_the_queue_is_served_whoever_of_them_is_dropped() {
    model(|| async {
        let endpoint = Endpoint::default();
        let tokens = endpoint.cache();
        let mut dropped = Vec::new();
        let mut callers = Vec::new();
        for tenant in 0..3 {
            dropped.push(spawn(polled_at_random(token(source(&tokens, tenant)))));
            callers.push(spawn(token(source(&tokens, tenant))));
        }
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        for dropped in dropped {
            let _ = dropped.await;
        }
        drop(tokens);
        endpoint.ended().await;
        assert_eq!(endpoint.requests.load(SeqCst), 3);
        assert_eq!(endpoint.peak.load(SeqCst), 1);
    });
}

pub fn renewals_and_callers_in_the_queue_are_served() {
    model(|| async {
        let endpoint = Endpoint::default();
        let tokens = endpoint.cache();
        let stale = source(&tokens, 0);
        token(stale.clone()).await.unwrap();
        clock::advance(Duration::from_secs(3400));
        let callers = [1, 2].map(|tenant| spawn(token(source(&tokens, tenant))));
        let dropped = spawn(polled_at_random(token(source(&tokens, 3))));
        token(stale.clone()).await.unwrap();
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        let _ = dropped.await;
        // Joins the renewal, if that has not ended yet.
        stale.renew().await.unwrap();
        drop((stale, tokens));
        endpoint.ended().await;
        assert_eq!(endpoint.peak.load(SeqCst), 1);
    });
}

pub fn a_fetch_that_needs_another_token_of_the_cache_is_not_stuck() {
    model(|| async {
        let alive = Arc::new(());
        let late = Arc::<OnceLock<TokenCache>>::default();
        let (cache, held) = (Arc::downgrade(&late), alive.clone());
        let builder = TokenCache::builder(service_fn(move |request: TokenRequest| {
            let (cache, held) = (cache.clone(), held.clone());
            async move {
                let _held = held;
                pause().await;
                if request.grant_type() == "outer" {
                    let tokens = cache.upgrade().expect("a cache");
                    token(source(tokens.get().expect("a cache"), 0)).await?;
                }
                response()
            }
        }));
        let tokens = late.get_or_init(|| builder.max_concurrent_fetches(1).build());
        let outer = spawn(token(tokens.source(TokenRequest::extension("outer"))));
        let others = [0, 1].map(|tenant| spawn(token(source(tokens, tenant))));
        let dropped = spawn(polled_at_random(token(source(tokens, 0))));
        outer.await.unwrap().unwrap();
        for caller in others {
            caller.await.unwrap().unwrap();
        }
        let _ = dropped.await;
        drop(late);
        while Arc::strong_count(&alive) > 1 {
            yield_now().await;
        }
    });
}
