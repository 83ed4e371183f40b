//! The limit of fetches under way: who waits, in which order, and that nobody is forgotten.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    time::Duration,
};

use allocation_counter::measure;
use http_body_util::BodyExt;
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinSet,
    time::{Instant, advance, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, Credential, IssuedToken, RefreshWindow, TokenCache, TokenError,
    TokenErrorKind, TokenRequest, TokenResponse, TokenSource,
    test_util::{AuthorizationServer, Failure, ManualClock},
    token_cache::{TokenCacheBuilder, TokenState},
};

use self::cache_support::{
    Api, at_once, bearer, call, client, current_thread, millis, now, request, secs, settle,
    token_response,
};

/// Longer than any test takes on paused time without a deadlock.
const DEADLOCK: Duration = secs(3600);

fn tenant(tenant: impl std::fmt::Display) -> TokenRequest {
    request().parameter("tenant", tenant.to_string())
}

/// A token endpoint that takes a second, and counts the requests that are under way.
#[derive(Clone, Default)]
struct Endpoint {
    under_way: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    begun: Arc<Mutex<Vec<Instant>>>,
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Endpoint {
    fn begin(&self) -> UnderWay {
        let under_way = self.under_way.fetch_add(1, SeqCst) + 1;
        self.peak.fetch_max(under_way, SeqCst);
        self.begun.lock().unwrap().push(now());
        UnderWay(self.under_way.clone())
    }

    fn requests(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    fn peak(&self) -> usize {
        self.peak.load(SeqCst)
    }

    /// Returns a builder of a cache whose fetches take a second.
    fn cache(&self) -> TokenCacheBuilder {
        self.cache_with(|number| async move {
            sleep(secs(1)).await;
            Ok(token_response(format!("token-{number}")))
        })
    }

    fn cache_with<F>(
        &self,
        answer: impl Fn(usize) -> F + Clone + Send + 'static,
    ) -> TokenCacheBuilder
    where
        F: Future<Output = Result<TokenResponse, BoxError>> + Send + 'static,
    {
        let endpoint = self.clone();
        let builder = TokenCache::builder(service_fn(move |_: TokenRequest| {
            let under_way = endpoint.begin();
            let answer = answer(endpoint.requests());
            async move {
                let _under_way = under_way;
                answer.await
            }
        }));
        let window = RefreshWindow::new().first(0.5..=0.5).later(0.5..=0.5);
        builder.refresh_window(window)
    }

    /// Returns a cache whose fetches hang.
    fn stalled(&self, limit: usize) -> TokenCache {
        let builder = self.cache_with(|_| pending());
        builder.max_concurrent_fetches(limit).build()
    }
}

type Caller = Pin<Box<dyn Future<Output = Result<IssuedToken, TokenError>> + Send>>;

/// Starts to wait for a token, and returns the caller.
fn waiting(source: TokenSource) -> task::Spawn<Caller> {
    let caller: Caller = Box::pin(async move { source.token().await });
    let mut caller = task::spawn(caller);
    assert_pending!(caller.poll());
    caller
}

mod queue {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_fetches_are_under_way_than_the_limit_and_everybody_is_served() {
        for (limit, expected) in [(0, 1), (1, 1), (3, 3), (100, 50)] {
            let endpoint = Endpoint::default();
            let cache = endpoint.cache().max_concurrent_fetches(limit).build();
            let mut callers = JoinSet::new();
            for n in 0..50 {
                let source = cache.source(tenant(n));
                callers.spawn(async move { source.token().await.unwrap() });
            }
            let tokens = timeout(DEADLOCK, callers.join_all()).await.unwrap();
            assert_eq!(tokens.len(), 50);
            assert_eq!(endpoint.requests(), 50);
            assert_eq!(endpoint.peak(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_default_limit_is_256() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache().build();
        let callers: Vec<_> = (0..300).map(|n| waiting(cache.source(tenant(n)))).collect();
        settle().await;
        assert_eq!(endpoint.requests(), 256);
        for caller in callers {
            timeout(DEADLOCK, caller).await.unwrap().unwrap();
        }
        assert_eq!(endpoint.peak(), 256);
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_are_started_in_the_order_of_their_first_callers() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = order.clone();
        let record = move |request: TokenRequest| {
            let scope = format!("{request:?}");
            seen.lock().unwrap().push(scope);
            async {
                sleep(millis(100)).await;
                Ok::<_, BoxError>(token_response("t"))
            }
        };
        let cache = TokenCache::builder(service_fn(record))
            .max_concurrent_fetches(1)
            .build();
        // The order is visible in the override of the client, which `Debug` shows.
        let of = |n: usize| {
            let client = tower_oauth2_client::ClientAuthentication::none(format!("client-{n:02}"));
            request().client_authentication(client)
        };
        let mut callers: Vec<_> = (0..20).map(|n| waiting(cache.source(of(n)))).collect();
        // Later callers of the same entries change nothing.
        callers.extend((0..20).rev().map(|n| waiting(cache.source(of(n)))));
        for caller in callers {
            caller.await.unwrap();
        }
        let order = order.lock().unwrap().clone();
        assert_eq!(order.len(), 20);
        assert!(order.is_sorted(), "{order:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_of_one_token_have_one_place_together() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache().max_concurrent_fetches(1).build();
        let first = waiting(cache.source(tenant("first")));
        let many: Vec<_> = (0..1000)
            .map(|_| waiting(cache.source(tenant("many"))))
            .collect();
        let last = waiting(cache.source(tenant("last")));
        let started = now();
        first.await.unwrap();
        for caller in many {
            caller.await.unwrap();
        }
        last.await.unwrap();
        assert_eq!(endpoint.requests(), 3);
        assert!(now() - started < millis(3_100), "{:?}", now() - started);
    }

    /// Made-up tenants against a stalled server.
    #[test]
    fn a_fetch_in_the_queue_takes_no_task_and_little_memory() {
        const TENANTS: usize = 20_000;
        let runtime = current_thread();
        runtime.block_on(async {
            let endpoint = Endpoint::default();
            let cache = endpoint.stalled(4);
            let sources: Vec<_> = (0..TENANTS).map(|n| cache.source(tenant(n))).collect();
            let mut callers: Vec<_> = sources
                .iter()
                .map(|source| Box::pin(source.token()))
                .collect();
            let used = measure(|| {
                let mut cx = Context::from_waker(Waker::noop());
                for caller in &mut callers {
                    assert!(caller.as_mut().poll(&mut cx).is_pending());
                }
            });
            let bytes = used.bytes_current / i64::try_from(TENANTS).unwrap();
            assert!(bytes < 600, "{bytes} bytes for each caller");
            settle().await;
            assert_eq!(endpoint.requests(), 4);
            let tasks = Handle::current().metrics().num_alive_tasks();
            assert!(tasks <= 4, "{tasks} tasks");

            let freed = measure(|| drop(callers));
            let bytes = -freed.bytes_current / i64::try_from(TENANTS).unwrap();
            assert!(
                bytes > 200,
                "only {bytes} bytes for each dropped caller were freed"
            );
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_caller_leaves_the_queue() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache().max_concurrent_fetches(1).build();
        let first = waiting(cache.source(tenant("first")));
        let mut dropped: Vec<_> = (0..100).map(|n| waiting(cache.source(tenant(n)))).collect();
        let last = waiting(cache.source(tenant("last")));
        let kept = dropped.pop().unwrap();
        drop(dropped);
        first.await.unwrap();
        kept.await.unwrap();
        last.await.unwrap();
        assert_eq!(endpoint.requests(), 3);
        // Its entry starts again, with a new place.
        cache.source(tenant(0)).token().await.unwrap();
        assert_eq!(endpoint.requests(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_stays_until_its_last_caller_is_dropped() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache().max_concurrent_fetches(1).build();
        let first = waiting(cache.source(tenant("first")));
        let of_place: Vec<_> = (0..3)
            .map(|_| waiting(cache.source(tenant("place"))))
            .collect();
        let behind = waiting(cache.source(tenant("behind")));
        let mut of_place = of_place.into_iter();
        drop(of_place.next());
        drop(of_place.next_back());
        let started = now();
        first.await.unwrap();
        of_place.next().unwrap().await.unwrap();
        assert!(now() - started < millis(2_100));
        behind.await.unwrap();
    }

    /// A future in a `select!` or a `FuturesUnordered` may be alive, and not polled for long.
    #[tokio::test(start_paused = true)]
    async fn a_caller_that_is_no_longer_polled_does_not_hold_up_the_others() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache().max_concurrent_fetches(1).build();
        let _under_way = waiting(cache.source(tenant("under way")));
        let _frozen: Vec<_> = (0..5).map(|n| waiting(cache.source(tenant(n)))).collect();
        let token = timeout(secs(8), cache.source(tenant("last")).token()).await;
        token.expect("it was held up").unwrap();
        // The frozen callers were served, too.
        for n in 0..5 {
            assert!(cache.source(tenant(n)).peek().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_the_queue_does_not_count_towards_the_fetch_timeout() {
        let endpoint = Endpoint::default();
        let cache = endpoint
            .cache()
            .fetch_timeout(millis(1_500))
            .max_concurrent_fetches(1);
        let cache = cache.clock(ManualClock::new().clock()).build();
        let callers: Vec<_> = (0..100).map(|n| waiting(cache.source(tenant(n)))).collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_behind_a_stalled_server_get_its_error_in_turn() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache_with(|_| pending()).fetch_timeout(secs(10));
        let cache = cache.max_concurrent_fetches(2).build();
        let started = now();
        let callers: Vec<_> = (0..10).map(|n| waiting(cache.source(tenant(n)))).collect();
        for caller in callers {
            let error = caller.await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Timeout);
        }
        assert!(now() - started < secs(52), "{:?}", now() - started);
        assert_eq!(endpoint.peak(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_cannot_be_cached_still_goes_to_those_who_waited_in_the_queue() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache_with(|number| async move {
            let response = TokenResponse::builder(bearer(format!("token-{number}")));
            Ok(response.expires_in(Duration::ZERO).build())
        });
        let cache = cache.max_concurrent_fetches(1).build();
        let callers: Vec<_> = (0..10)
            .map(|n| waiting(cache.source(tenant(n / 2))))
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(endpoint.requests(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_has_ended_does_not_wait() {
        let server = AuthorizationServer::new();
        let token_endpoint = cache_support::endpoint(&server);
        let cache = TokenCache::builder(token_endpoint)
            .max_concurrent_fetches(1)
            .build();
        let ended = cache.source(TokenRequest::refresh_token("unknown"));
        ended.token().await.unwrap_err();
        advance(secs(3600)).await;
        server.fail_until_told(Failure::stall());
        let _under_way = waiting(cache.source(tenant("stalled")));
        let error = at_once(ended.token()).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_the_endpoint_frees_its_slot() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache_with(|number| async move {
            assert!(number > 3, "intended by the test");
            Ok(token_response("t"))
        });
        let cache = cache.max_concurrent_fetches(1).build();
        let callers: Vec<_> = (0..6).map(|n| waiting(cache.source(tenant(n)))).collect();
        let mut results = Vec::new();
        for caller in callers {
            results.push(caller.await.is_ok());
        }
        assert_eq!(results, [false, false, false, true, true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn invalidate_all_frees_the_slots_of_the_fetches_that_it_cancels() {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache_with(|number| async move {
            if number <= 2 {
                pending::<()>().await;
            }
            Ok(token_response("t"))
        });
        let cache = cache.max_concurrent_fetches(2).build();
        let callers: Vec<_> = (0..5).map(|n| waiting(cache.source(tenant(n)))).collect();
        settle().await;
        assert_eq!(endpoint.requests(), 2);
        cache.invalidate_all();
        let started = now();
        for caller in callers {
            caller.await.unwrap();
        }
        assert!(now() - started < secs(2), "{:?}", now() - started);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_ends_with_the_cache() {
        let endpoint = Endpoint::default();
        let alive = Arc::downgrade(&endpoint.peak);
        let cache = endpoint.stalled(1);
        drop(endpoint);
        let callers: Vec<_> = (0..10).map(|n| waiting(cache.source(tenant(n)))).collect();
        drop(cache);
        drop(callers);
        settle().await;
        assert!(alive.upgrade().is_none());
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_the_queue() {
        let endpoint = Endpoint::default();
        let clock = ManualClock::new();
        let cache = endpoint.cache().max_concurrent_fetches(1);
        let cache = cache.clock(clock.clock()).build();
        cache.source(tenant("stale")).token().await.unwrap();
        clock.advance(secs(1_800));
        let callers: Vec<_> = (0..10).map(|n| waiting(cache.source(tenant(n)))).collect();
        at_once(cache.source(tenant("stale")).token()).unwrap();
        settle().await;
        let started = now();
        cache.shutdown().await;
        for caller in callers {
            let error = caller.await.unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::ShutDown);
        }
        assert_eq!(now(), started);
        sleep(secs(10)).await;
        assert_eq!(endpoint.requests(), 2);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    /// On many threads, with callers that are dropped at any time.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_is_forgotten_on_many_threads() {
        for limit in [1, 2, 7] {
            let endpoint = Endpoint::default();
            let cache = endpoint.cache_with(|_| async {
                sleep(Duration::from_micros(fastrand::u64(..300))).await;
                if fastrand::u8(..10) == 0 {
                    return Err("unlucky".into());
                }
                Ok(token_response("t"))
            });
            let cache = cache.max_concurrent_fetches(limit).build();
            let mut callers = JoinSet::new();
            for n in 0..2_000 {
                let source = cache.source(tenant(n % 500));
                callers.spawn(async move {
                    let patience = Duration::from_micros(fastrand::u64(..20_000));
                    match n % 3 {
                        0 => drop(timeout(patience, source.token()).await),
                        1 => drop(source.renew().await),
                        _ => drop(source.token().await),
                    }
                });
            }
            timeout(secs(60), callers.join_all())
                .await
                .expect("deadlock");
            assert!(endpoint.peak() <= limit, "{} of {limit}", endpoint.peak());
            assert_eq!(endpoint.under_way.load(SeqCst), 0);
        }
    }
}

mod renewals {
    use super::*;

    async fn with_stale_tokens(endpoint: &Endpoint, n: usize) -> (TokenCache, ManualClock) {
        let clock = ManualClock::new();
        let cache = endpoint
            .cache()
            .max_concurrent_fetches(1)
            .clock(clock.clock())
            .build();
        for tenant_number in 0..n {
            cache.source(tenant(tenant_number)).token().await.unwrap();
        }
        // Tokens live for an hour.
        clock.advance(secs(1_800));
        (cache, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_token_is_served_while_its_renewal_waits_in_the_queue() {
        let endpoint = Endpoint::default();
        let (cache, _clock) = with_stale_tokens(&endpoint, 3).await;
        let old = [0, 1, 2].map(|n| cache.source(tenant(n)).peek().unwrap());
        let _under_way = waiting(cache.source(tenant("cold")));
        for _ in 0..100 {
            for (n, old) in old.iter().enumerate() {
                let token = at_once(cache.source(tenant(n)).token()).unwrap();
                assert_eq!(token, *old);
            }
        }
        settle().await;
        assert_eq!(endpoint.requests(), 4);
        sleep(millis(4_100)).await;
        assert_eq!(endpoint.requests(), 7);
        for (n, old) in old.iter().enumerate() {
            assert_ne!(cache.source(tenant(n)).peek().unwrap(), *old);
        }
        assert_eq!(endpoint.peak(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_and_callers_who_wait_take_turns() {
        let endpoint = Endpoint::default();
        let (cache, _clock) = with_stale_tokens(&endpoint, 10).await;
        let before: Vec<_> = (0..10)
            .map(|n| cache.source(tenant(n)).peek().unwrap())
            .collect();
        let started = now();
        let under_way = waiting(cache.source(tenant("under way")));
        let _cold: Vec<_> = (0..10)
            .map(|n| waiting(cache.source(tenant(format!("cold-{n}")))))
            .collect();
        for n in 0..10 {
            at_once(cache.source(tenant(n)).token()).unwrap();
        }
        under_way.await.unwrap();
        sleep(millis(6_100) - (now() - started) + secs(1)).await;
        let renewed = (0..10).filter(|n| cache.source(tenant(n)).peek().unwrap() != before[*n]);
        let renewed = renewed.count();
        let served = |n: &usize| cache.source(tenant(format!("cold-{n}"))).peek().is_some();
        let served = (0..10).filter(served).count();
        assert!(
            (2..=4).contains(&renewed) && (2..=4).contains(&served),
            "{renewed} {served}"
        );
    }

    /// However many callers without a token there are.
    #[tokio::test(start_paused = true)]
    async fn cold_callers_do_not_starve_renewals() {
        let endpoint = Endpoint::default();
        let (cache, _clock) = with_stale_tokens(&endpoint, 1).await;
        let old = cache.source(tenant(0)).peek().unwrap();
        let _flood: Vec<_> = (0..1000)
            .map(|n| waiting(cache.source(tenant(format!("cold-{n}")))))
            .collect();
        at_once(cache.source(tenant(0)).token()).unwrap();
        sleep(secs(5)).await;
        assert_ne!(cache.source(tenant(0)).peek().unwrap(), old);
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_do_not_starve_cold_callers() {
        let endpoint = Endpoint::default();
        let (cache, _clock) = with_stale_tokens(&endpoint, 300).await;
        for n in 0..300 {
            at_once(cache.source(tenant(n)).token()).unwrap();
        }
        let cold = timeout(secs(5), cache.source(tenant("cold")).token()).await;
        cold.expect("it starved").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_whose_token_has_expired_takes_over_the_place_of_its_renewal() {
        let endpoint = Endpoint::default();
        let (cache, clock) = with_stale_tokens(&endpoint, 1).await;
        let under_way = waiting(cache.source(tenant("under way")));
        at_once(cache.source(tenant(0)).token()).unwrap();
        let flood: Vec<_> = (0..10)
            .map(|n| waiting(cache.source(tenant(format!("cold-{n}")))))
            .collect();
        clock.suspend(secs(1_800));
        let started = now();
        let token = waiting(cache.source(tenant(0)));
        under_way.await.unwrap();
        token.await.unwrap();
        assert!(now() - started <= millis(2_100), "{:?}", now() - started);
        drop(flood);
    }

    #[tokio::test(start_paused = true)]
    async fn renew_waits_for_its_turn_while_the_old_token_is_served() {
        let endpoint = Endpoint::default();
        let (cache, _clock) = with_stale_tokens(&endpoint, 1).await;
        let source = cache.source(tenant(0));
        let old = source.peek().unwrap();
        let _under_way = waiting(cache.source(tenant("under way")));
        let mut renewing = task::spawn(source.renew());
        assert_pending!(renewing.poll());
        assert_eq!(at_once(source.token()).unwrap(), old);
        let new = renewing.await.unwrap();
        assert_ne!(new, old);
        assert_eq!(at_once(source.token()).unwrap(), new);
    }

    #[tokio::test(start_paused = true)]
    async fn an_evicted_entry_leaves_the_queue() {
        let endpoint = Endpoint::default();
        let clock = ManualClock::new();
        let cache = endpoint.cache().max_concurrent_fetches(1).max_entries(4);
        let cache = cache.clock(clock.clock()).build();
        cache.source(tenant(0)).token().await.unwrap();
        clock.advance(secs(1_800));
        let _under_way = waiting(cache.source(tenant("under way")));
        at_once(cache.source(tenant(0)).token()).unwrap();
        for n in 0..20 {
            drop(cache.source(tenant(format!("other-{n}"))));
        }
        assert!(cache.status().len() <= 5);
        sleep(secs(10)).await;
        assert_eq!(endpoint.requests(), 2);
    }

    /// Whoever keeps a token warm waits like everybody else.
    #[tokio::test(start_paused = true)]
    async fn keep_warm_obeys_the_limit() {
        let endpoint = Endpoint::default();
        let clock = ManualClock::new();
        let cache = endpoint
            .cache()
            .max_concurrent_fetches(2)
            .clock(clock.clock())
            .build();
        let sources: Vec<_> = (0..20).map(|n| cache.source(tenant(n))).collect();
        for source in &sources {
            source.keep_warm().unwrap();
        }
        sleep(secs(11)).await;
        assert!(sources.iter().all(|source| source.peek().is_some()));
        sleep(secs(1_900)).await;
        assert!(
            cache
                .status()
                .iter()
                .all(|status| status.state() == TokenState::Fresh)
        );
        assert_eq!(endpoint.requests(), 40);
        assert_eq!(endpoint.peak(), 2);
    }

    /// All tokens are due after an outage of a minute. They are renewed at a rate that the server can bear.
    #[tokio::test(start_paused = true)]
    async fn after_an_outage_many_due_tokens_do_not_stampede_the_server() {
        const TENANTS: usize = 10_000;
        const LIMIT: usize = 64;
        let endpoint = Endpoint::default();
        let is_down = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let down = is_down.clone();
        let cache = endpoint.cache_with(move |number| {
            let is_down = down.load(SeqCst);
            async move {
                sleep(millis(100)).await;
                if is_down {
                    return Err("down".into());
                }
                Ok(token_response(format!("token-{number}")))
            }
        });
        let clock = ManualClock::new();
        let cache = cache
            .max_concurrent_fetches(LIMIT)
            .clock(clock.clock())
            .build();
        let sources: Vec<_> = (0..TENANTS).map(|n| cache.source(tenant(n))).collect();
        let ask_all = || {
            for source in &sources {
                at_once(source.token()).unwrap();
            }
        };
        let mut warm_up = JoinSet::new();
        for source in &sources {
            let source = source.clone();
            warm_up.spawn(async move { source.warm_up().await.unwrap() });
        }
        timeout(DEADLOCK, warm_up.join_all()).await.unwrap();

        clock.advance(secs(1_800));
        is_down.store(true, SeqCst);
        for _ in 0..60 {
            ask_all();
            sleep(secs(1)).await;
        }
        is_down.store(false, SeqCst);
        let (recovered, before) = (now(), endpoint.requests());
        while cache
            .status()
            .iter()
            .any(|status| status.state() != TokenState::Fresh)
        {
            ask_all();
            sleep(secs(1)).await;
            assert!(
                now() - recovered < secs(200),
                "some tokens were not renewed"
            );
        }
        assert!(endpoint.peak() <= LIMIT, "{}", endpoint.peak());
        let begun = endpoint.begun.lock().unwrap()[before..].to_vec();
        assert_eq!(begun.len(), TENANTS);
        // The server takes 100 milliseconds, so the limit allows 640 requests a second.
        for (first, last) in begun.iter().zip(&begun[700..]) {
            assert!(
                *last - *first >= secs(1),
                "more than 700 requests in a second"
            );
        }
    }
}

mod nested {
    use super::*;

    type Late = Arc<OnceLock<TokenCache>>;

    /// Returns a cache whose fetches need other tokens of the same cache: those of `level-1` need `level-2`, and so on up to `depth`.
    fn nesting(limit: usize, depth: usize) -> (TokenCache, Endpoint) {
        let endpoint = Endpoint::default();
        let late = Late::default();
        let (cache, counted) = (late.clone(), endpoint.clone());
        let stack = service_fn(move |request: TokenRequest| {
            let (cache, under_way) = (cache.clone(), counted.begin());
            async move {
                let _under_way = under_way;
                sleep(millis(100)).await;
                let level = level(&request);
                if (1..depth).contains(&level) {
                    let cache = cache.get().unwrap();
                    cache.source(of_level(level + 1)).token().await?;
                }
                Ok::<_, BoxError>(token_response("t"))
            }
        });
        let cache = TokenCache::builder(stack)
            .max_concurrent_fetches(limit)
            .build();
        let cache = late.get_or_init(|| cache).clone();
        (cache, endpoint)
    }

    /// The level is visible in the override of the client, which `Debug` shows.
    fn of_level(level: usize) -> TokenRequest {
        let client = tower_oauth2_client::ClientAuthentication::none(format!("level-{level}-"));
        TokenRequest::client_credentials().client_authentication(client)
    }

    fn level(request: &TokenRequest) -> usize {
        let text = format!("{request:?}");
        let Some((_, rest)) = text.split_once("level-") else {
            return 0;
        };
        rest.split('-').next().unwrap().parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_needs_another_token_of_the_cache_does_not_wait_for_itself() {
        for limit in [1, 2] {
            let (cache, endpoint) = nesting(limit, 4);
            let started = now();
            cache.source(of_level(1)).token().await.unwrap();
            assert!(now() - started < secs(1), "{:?}", now() - started);
            assert_eq!(endpoint.requests(), 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_waits_in_the_queue_is_started_when_another_fetch_needs_it() {
        let (cache, endpoint) = nesting(1, 2);
        let outer = waiting(cache.source(of_level(1)));
        let before: Vec<_> = (0..5).map(|n| waiting(cache.source(tenant(n)))).collect();
        let queued = waiting(cache.source(of_level(2)));
        let started = now();
        outer.await.unwrap();
        assert!(now() - started < secs(1), "{:?}", now() - started);
        queued.await.unwrap();
        for caller in before {
            caller.await.unwrap();
        }
        assert_eq!(endpoint.requests(), 7);
    }

    /// The queue goes on at its pace.
    #[tokio::test(start_paused = true)]
    async fn others_wait_while_nested_fetches_exceed_the_limit() {
        let (cache, endpoint) = nesting(2, 3);
        let outer: Vec<_> = (0..2)
            .map(|n| {
                let request = of_level(1).parameter("n", n.to_string());
                waiting(cache.source(request))
            })
            .collect();
        let others: Vec<_> = (0..50).map(|n| waiting(cache.source(tenant(n)))).collect();
        for caller in outer.into_iter().chain(others) {
            timeout(DEADLOCK, caller).await.unwrap().unwrap();
        }
        assert!(endpoint.peak() <= 2 + 2, "{}", endpoint.peak());
    }

    #[tokio::test(start_paused = true)]
    async fn two_caches_that_need_each_other_do_not_deadlock() {
        let lates = [Late::default(), Late::default()];
        let caches = [0, 1].map(|this: usize| {
            let lates = lates.clone();
            let stack = service_fn(move |request: TokenRequest| {
                let lates = lates.clone();
                async move {
                    let level = level(&request);
                    if level < 5 {
                        let other = lates[1 - this].get().unwrap();
                        other.source(of_level(level + 1)).token().await?;
                    }
                    Ok::<_, BoxError>(token_response("t"))
                }
            });
            TokenCache::builder(stack).max_concurrent_fetches(1).build()
        });
        for (late, cache) in lates.iter().zip(&caches) {
            late.set(cache.clone()).unwrap();
        }
        let token = timeout(secs(1), async {
            caches[0].source(of_level(1)).token().await
        });
        token.await.expect("deadlock").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn on_refresh_token_and_providers_may_need_a_token_of_the_cache() {
        let server = AuthorizationServer::builder().user("ann", "secret").build();
        let late = Late::default();
        let (in_callback, in_provider) = (late.clone(), late.clone());
        let provider = Credential::from_fn(move || {
            let cache = in_provider.get().unwrap().clone();
            async move {
                cache.source(tenant("vault")).token().await?;
                Ok::<_, BoxError>("secret")
            }
        });
        let stored = Arc::new(AtomicUsize::new(0));
        let storing = stored.clone();
        let cache = TokenCache::builder(cache_support::endpoint(&server))
            .max_concurrent_fetches(1)
            .on_refresh_token(move |_, _| {
                let (cache, stored) = (in_callback.get().unwrap().clone(), storing.clone());
                async move {
                    cache.source(tenant("database")).token().await.unwrap();
                    stored.fetch_add(1, SeqCst);
                }
            })
            .build();
        let cache = late.get_or_init(|| cache).clone();
        let with_provider = TokenRequest::password("ann", provider);
        let started = now();
        cache.source(with_provider).token().await.unwrap();
        let refresh_token = Credential::from_fn(|| async { Ok::<_, BoxError>("unknown") });
        let _ = cache
            .source(TokenRequest::refresh_token(refresh_token))
            .token()
            .await;
        assert!(now() - started < secs(2), "{:?}", now() - started);
        drop(stored);
    }

    /// The token endpoint is reached through a gateway that wants a token of the same cache.
    #[tokio::test(start_paused = true)]
    async fn a_token_client_below_the_layer_of_the_same_cache_does_not_wait_for_itself() {
        let server = AuthorizationServer::new();
        let late = Late::default();
        let (cache, http) = (late.clone(), server.clone());
        let client = client();
        let stack = service_fn(move |request: TokenRequest| {
            let (cache, http, client) = (cache.clone(), http.clone(), client.clone());
            async move {
                let is_gateway = format!("{request:?}").contains("gateway");
                if !is_gateway {
                    let gateway = cache
                        .get()
                        .unwrap()
                        .source(tenant("x").parameter("gateway", "1"));
                    let layer = AddAccessTokenLayer::new(gateway).danger_any_https_origin();
                    let api = layer.layer(Api::content());
                    let response = api.oneshot(call()).await?;
                    response.into_body().collect().await?;
                }
                let uri = http.token_endpoint();
                let endpoint = tower_oauth2_client::TokenEndpoint::new(http, uri, client);
                endpoint.oneshot(request).await.map_err(BoxError::from)
            }
        });
        let cache = TokenCache::builder(BoxCloneSyncService::new(stack)).max_concurrent_fetches(1);
        let cache = late.get_or_init(|| cache.build()).clone();
        let token = timeout(secs(2), cache.source(tenant("blue")).token()).await;
        token.expect("deadlock").unwrap();
    }
}

mod runtimes {
    use super::*;

    /// Returns a cache with a limit of one whose first request hangs.
    fn hangs_once() -> (TokenCache, Endpoint) {
        let endpoint = Endpoint::default();
        let cache = endpoint.cache_with(|number| async move {
            if number == 1 {
                pending::<()>().await;
            }
            Ok(token_response(format!("token-{number}")))
        });
        (cache.max_concurrent_fetches(1).build(), endpoint)
    }

    fn start_on(runtime: &Runtime, cache: &TokenCache, request: TokenRequest) {
        runtime.block_on(async {
            drop(waiting(cache.source(request)));
            settle().await;
        });
    }

    fn token_within(limit: Duration, source: TokenSource) -> IssuedToken {
        let token = current_thread().block_on(async { timeout(limit, source.token()).await });
        token.expect("it waits for a lost fetch").unwrap()
    }

    #[test]
    fn a_fetch_whose_runtime_has_ended_does_not_count() {
        let (cache, _endpoint) = hangs_once();
        let runtime = current_thread();
        start_on(&runtime, &cache, tenant("lost"));
        drop(runtime);
        token_within(secs(2), cache.source(tenant("next")));
    }

    #[test]
    fn a_fetch_that_nobody_drives_does_not_count() {
        for request in [tenant("undriven"), TokenRequest::refresh_token("undriven")] {
            let (cache, _endpoint) = hangs_once();
            let runtime = current_thread();
            start_on(&runtime, &cache, request);
            // The runtime lives, but nobody calls `block_on`.
            token_within(secs(10), cache.source(tenant("next")));
            drop(runtime);
        }
    }

    #[test]
    fn callers_in_the_queue_go_on_when_the_runtime_of_the_first_has_ended() {
        let (cache, endpoint) = hangs_once();
        let [first, second] = [current_thread(), current_thread()];
        start_on(&first, &cache, tenant("hangs"));
        // The first caller takes the place, and is no longer polled.
        let entered = first.enter();
        let frozen = waiting(cache.source(tenant("queued")));
        drop(entered);
        let callers = second.block_on(async {
            ["queued", "other"].map(|name| waiting(cache.source(tenant(name))))
        });
        drop(first);
        second.block_on(async {
            for caller in callers {
                let token = timeout(secs(10), caller).await;
                token.expect("it is forgotten").unwrap();
            }
        });
        assert_eq!(endpoint.requests(), 3);
        drop(frozen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_gets_its_token_as_soon_as_its_fetch_lands() {
    let endpoint = Endpoint::default();
    let cache = endpoint.cache().max_concurrent_fetches(1).build();
    let mut first = waiting(cache.source(tenant("first")));
    let mut second = waiting(cache.source(tenant("second")));
    settle().await;
    advance(secs(1)).await;
    settle().await;
    assert_ready!(first.poll()).unwrap();
    assert_pending!(second.poll());
    assert_eq!(endpoint.requests(), 2);
    advance(secs(1)).await;
    settle().await;
    assert_ready!(second.poll()).unwrap();
}
