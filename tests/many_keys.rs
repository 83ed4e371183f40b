//! Many tenants with one cache: which token a request carries, how many entries are kept, and what `status` reports.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{HeaderValue, Request, StatusCode, header::AUTHORIZATION, request::Parts};
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, IssuedToken, NoAccessToken, TokenCache, TokenError, TokenErrorKind,
    TokenRequest, TokenSource,
    test_util::{AuthorizationServer, Failure},
    token_cache::TokenState,
};

use self::cache_support::{
    Api, Body, Endpoint, Fixture, api_layer, at_once, bearer, call, call_to, request, secs, settle,
    token_response,
};

/// Returns the token request of a tenant.
fn request_for(tenant: impl std::fmt::Display) -> TokenRequest {
    request().parameter("tenant", tenant.to_string())
}

/// Fetches the token of a tenant.
async fn fetch(fixture: &Fixture, tenant: impl std::fmt::Display) -> IssuedToken {
    let source = fixture.cache.source(request_for(tenant));
    source.token().await.unwrap()
}

fn by_header(parts: &Parts) -> TokenRequest {
    match parts.headers.get("x-tenant") {
        Some(tenant) => request_for(tenant.to_str().unwrap()),
        None => request(),
    }
}

/// Returns an API request on behalf of a tenant.
fn call_for(tenant: impl std::fmt::Display) -> Request<Body> {
    let mut request = call();
    let tenant = HeaderValue::try_from(tenant.to_string()).unwrap();
    request.headers_mut().insert("x-tenant", tenant);
    request
}

/// Returns the number of token requests for each tenant.
fn fetches(server: &AuthorizationServer) -> HashMap<String, usize> {
    let mut fetches = HashMap::new();
    for request in server.requests() {
        let tenant = request.get("tenant").unwrap_or_default().to_owned();
        *fetches.entry(tenant).or_default() += 1;
    }
    fetches
}

fn with_max_entries(max_entries: usize) -> Fixture {
    let server = AuthorizationServer::new();
    Fixture::with(server, |builder| builder.max_entries(max_entries))
}

mod token_request_for {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_tenant_can_come_from_a_header() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(api.clone());
        let tenants = ["blue", "red", "green"];
        for _ in 0..4 {
            for tenant in tenants {
                let response = service.clone().oneshot(call_for(tenant)).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
            }
            service.clone().oneshot(call()).await.unwrap();
        }
        let expected = [("blue", 1), ("red", 1), ("green", 1), ("", 1)];
        let expected = expected.map(|(tenant, fetches)| (tenant.to_owned(), fetches));
        assert_eq!(fetches(&fixture.server), HashMap::from(expected));
        for seen in api.seen() {
            let source = fixture.cache.source(match seen.headers.get("x-tenant") {
                Some(tenant) => request_for(tenant.to_str().unwrap()),
                None => request(),
            });
            let token = source.peek().unwrap();
            assert_eq!(seen.authorization(), token.authorization());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_tenant_can_come_from_the_host() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let layer = AddAccessTokenLayer::new(fixture.source());
        let layer = layer.origins(["https://blue.test", "https://red.test"]);
        let service = layer
            .unwrap()
            .token_request_for(|parts: &Parts| request_for(parts.uri.host().unwrap()))
            .layer(api.clone());
        for _ in 0..3 {
            for tenant in ["blue.test", "red.test"] {
                let request = call_to(&format!("https://{tenant}/orders"));
                let response = service.clone().oneshot(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                let token = fixture.cache.source(request_for(tenant)).peek().unwrap();
                assert_eq!(api.last().authorization(), token.authorization());
            }
        }
        assert_eq!(fixture.requests(), 2);
    }

    /// The function sees the whole head and changes neither head nor body.
    #[tokio::test(start_paused = true)]
    async fn the_function_sees_the_outgoing_request() {
        #[derive(Clone, Debug, PartialEq)]
        struct Mark(u8);

        let fixture = Fixture::new();
        let api = Api::content();
        let layer = api_layer(fixture.source());
        let service = layer
            .token_request_for(|parts: &Parts| {
                assert_eq!(parts.method, "POST");
                assert_eq!(parts.uri, cache_support::API);
                assert_eq!(parts.headers["x-tenant"], "blue");
                assert!(parts.headers.get(AUTHORIZATION).is_none());
                request_for(parts.extensions.get::<Mark>().unwrap().0)
            })
            .layer(api.clone());
        for _ in 0..2 {
            let mut request = call_for("blue");
            request.extensions_mut().insert(Mark(7));
            service.clone().oneshot(request).await.unwrap();
            let seen = api.last();
            assert_eq!(seen.method, "POST");
            assert_eq!(seen.uri, cache_support::API);
            assert_eq!(seen.headers["x-tenant"], "blue");
            assert_eq!(seen.headers["x-request"], "1");
            assert_eq!(seen.extensions.get(), Some(&Mark(7)));
            assert_eq!(seen.body, "the body");
        }
        assert_eq!(fetches(&fixture.server), HashMap::from([("7".into(), 1)]));
    }

    const MESH: &str = "http://mesh.test/";

    /// Returns a layer whose function counts its calls.
    fn counting_layer(source: TokenSource) -> (AddAccessTokenLayer, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let layer = api_layer(source).token_request_for(move |_: &Parts| {
            count.fetch_add(1, Ordering::Relaxed);
            request_for("function")
        });
        (layer, calls)
    }

    #[tokio::test(start_paused = true)]
    async fn extensions_of_the_request_take_precedence_over_the_function() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let (layer, calls) = counting_layer(fixture.source());
        let service = layer.layer(api.clone());

        let mut named = call();
        named.extensions_mut().insert(request_for("blue"));
        service.clone().oneshot(named).await.unwrap();
        let token = fixture.cache.source(request_for("blue")).peek().unwrap();
        assert_eq!(api.last().authorization(), token.authorization());

        let mut sourced = call();
        sourced
            .extensions_mut()
            .insert(TokenSource::fixed(bearer("own")));
        service.clone().oneshot(sourced).await.unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Bearer own");

        assert_eq!(calls.load(Ordering::Relaxed), 0);
        service.oneshot(call()).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_function_is_not_called_for_a_request_without_a_token() {
        let fixture = Fixture::new();
        let api = Api::content();
        let (layer, calls) = counting_layer(fixture.source());
        let service = layer.layer(api.clone());

        let mut marked = call();
        marked.extensions_mut().insert(NoAccessToken);
        service.clone().oneshot(marked).await.unwrap();
        assert_eq!(api.last().authorization(), None);

        let mut own = call();
        let value = HeaderValue::from_static("Basic YTpi");
        own.headers_mut().insert(AUTHORIZATION, value);
        service.clone().oneshot(own).await.unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Basic YTpi");

        let foreign = call_to("https://elsewhere.test/orders");
        service.clone().oneshot(foreign).await.unwrap();
        assert_eq!(api.last().authorization(), None);

        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert_eq!(fixture.requests(), 0);
        // None of them has created a cache entry either.
        assert_eq!(fixture.cache.status().len(), 1);
        service.oneshot(call()).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_function_is_not_called_for_a_request_that_is_not_sent() {
        let fixture = Fixture::new();
        let api = Api::content();
        let (layer, calls) = counting_layer(fixture.source());
        let service = layer.origin(MESH).unwrap().layer(api.clone());
        service.oneshot(call_to(MESH)).await.unwrap_err();
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert_eq!(api.requests() + fixture.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_fixed_token_the_error_says_what_to_do() {
        let api = Api::content();
        let fixed = TokenSource::fixed(bearer("the-secret"));
        let layer = api_layer(fixed).token_request_for(by_header);
        let error = layer.layer(api.clone()).oneshot(call()).await.unwrap_err();
        let error = TokenError::find_in_chain(&*error).unwrap();
        assert_eq!(error.kind(), TokenErrorKind::Request);
        let text = error.to_string();
        assert!(
            text.contains("create the layer with a source of a `TokenCache`"),
            "{text}"
        );
        assert!(!text.contains("the-secret"));
        assert_eq!(api.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_drops_only_the_token_of_its_tenant() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(api.clone());
        for tenant in ["blue", "red"] {
            service.clone().oneshot(call_for(tenant)).await.unwrap();
        }
        let [blue, red] = ["blue", "red"].map(|tenant| fixture.cache.source(request_for(tenant)));
        assert!(fixture.server.revoke(blue.peek().unwrap().expose_secret()));
        let unaffected = red.peek().unwrap();
        let response = service.clone().oneshot(call_for("blue")).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(blue.peek(), None);
        assert_eq!(red.peek(), Some(unaffected));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resent_request_carries_a_new_token_of_the_same_tenant() {
        let fixture = Fixture::new();
        let api = Api::checking(&fixture.server);
        let service = api_layer(fixture.source())
            .token_request_for(by_header)
            .resend(tower_oauth2_client::add_access_token::CloneBody)
            .layer(api.clone());
        service.clone().oneshot(call_for("blue")).await.unwrap();
        fixture.server.revoke_all();
        let response = service.oneshot(call_for("blue")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let blue = fixture.cache.source(request_for("blue")).peek().unwrap();
        assert_eq!(api.last().authorization(), blue.authorization());
        assert_eq!(
            fetches(&fixture.server),
            HashMap::from([("blue".into(), 2)])
        );
    }
}

mod tenants {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn concurrent_callers_cause_one_fetch_per_tenant() {
        let fixture = Fixture::new();
        fixture.server.fail_next_n(50, Failure::delay(secs(1)));
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(Api::checking(&fixture.server));
        let callers: Vec<_> = (0..1000)
            .map(|n| tokio::spawn(service.clone().oneshot(call_for(n % 50))))
            .collect();
        for caller in callers {
            let response = caller.await.unwrap().unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        let fetches = fetches(&fixture.server);
        assert_eq!(fetches.len(), 50);
        assert!(fetches.values().all(|fetches| *fetches == 1));
    }

    /// All of them fall into one shard.
    #[tokio::test(start_paused = true)]
    async fn a_miss_of_one_tenant_does_not_delay_a_hit_of_another() {
        let fixture = with_max_entries(16);
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(Api::checking(&fixture.server));
        service.clone().oneshot(call_for("warm")).await.unwrap();
        fixture.server.fail_until_told(Failure::stall());
        let mut waiting: Vec<_> = (0..100)
            .map(|n| task::spawn(service.clone().oneshot(call_for(n))))
            .collect();
        for waiting in &mut waiting {
            assert_pending!(waiting.poll());
            let response = at_once(service.clone().oneshot(call_for("warm"))).unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        settle().await;
        assert_eq!(fixture.requests(), 101);
        let response = at_once(service.clone().oneshot(call_for("warm"))).unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_of_one_tenant_does_not_pause_another() {
        let fixture = Fixture::new();
        fixture.server.fail_when(|request| {
            (request.get("tenant") == Some("blue")).then(|| Failure::oauth("unauthorized_client"))
        });
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(Api::checking(&fixture.server));
        service.clone().oneshot(call_for("blue")).await.unwrap_err();
        service.clone().oneshot(call_for("red")).await.unwrap();
        service.oneshot(call_for("blue")).await.unwrap_err();
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_concurrent_tenants_each_get_their_own_token() {
        const TENANTS: usize = 10_000;
        let fixture = Fixture::new();
        let api = Api::content();
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(api.clone());
        for _ in 0..2 {
            let callers: Vec<_> = (0..TENANTS)
                .map(|n| tokio::spawn(service.clone().oneshot(call_for(n))))
                .collect();
            for caller in callers {
                caller.await.unwrap().unwrap();
            }
        }
        assert_eq!(fixture.requests(), TENANTS);
        // One entry belongs to the layer's own request, which was not used.
        assert_eq!(fixture.cache.status().len(), TENANTS + 1);
        let mut pairs = HashSet::new();
        let mut tokens = HashSet::new();
        for seen in api.seen() {
            let token = seen.authorization().unwrap().clone();
            tokens.insert(token.as_bytes().to_owned());
            pairs.insert((seen.headers["x-tenant"].clone(), token));
        }
        assert_eq!((pairs.len(), tokens.len()), (TENANTS, TENANTS));
    }
}

mod bound {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_number_of_entries_never_exceeds_the_bound() {
        for bound in [1, 2, 16, 100, 1000] {
            let fixture = with_max_entries(bound);
            for tenant in 0..2 * bound + 100 {
                drop(fixture.cache.source(request_for(tenant)));
                let len = fixture.cache.status().len();
                assert!(len <= bound, "{len} of {bound} after {tenant}");
            }
            assert_eq!(fixture.cache.status().len(), bound);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_entries_exceeds_the_bound_only_by_those_in_use() {
        for pinned in [1, 8, 10, 15, 16, 20, 100] {
            let fixture = with_max_entries(16);
            let sources: Vec<_> = (0..pinned)
                .map(|n| fixture.cache.source(request_for(format!("pinned-{n}"))))
                .collect();
            for tenant in 0..1000 {
                drop(fixture.cache.source(request_for(tenant)));
                let len = fixture.cache.status().len();
                assert!(len <= 16 + pinned, "{len} with {pinned} after {tenant}");
            }
            drop(sources);
        }
    }

    /// Using an entry delays its eviction, but not forever.
    #[tokio::test(start_paused = true)]
    async fn frequently_used_entries_do_not_make_the_cache_grow() {
        let fixture = with_max_entries(16);
        for tenant in 0..1000 {
            drop(fixture.cache.source(request_for(tenant)));
            for used in 0..12 {
                drop(fixture.cache.source(request_for(format!("used-{used}"))));
            }
            let len = fixture.cache.status().len();
            assert!(len <= 16 + 12, "{len} after {tenant}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_shrinks_after_sources_are_dropped() {
        let fixture = with_max_entries(16);
        let sources: Vec<_> = (0..200)
            .map(|n| fixture.cache.source(request_for(format!("pinned-{n}"))))
            .collect();
        assert_eq!(fixture.cache.status().len(), 200);
        drop(sources);
        for tenant in 0..200 {
            drop(fixture.cache.source(request_for(tenant)));
        }
        assert_eq!(fixture.cache.status().len(), 16);
    }

    /// This holds for any distribution of the keys over the shards.
    #[tokio::test(start_paused = true)]
    async fn as_many_tenants_as_the_bound_allows_keep_their_tokens() {
        for bound in [16, 100, 1000] {
            let fixture = with_max_entries(bound);
            for _ in 0..3 {
                for tenant in 0..bound {
                    fetch(&fixture, tenant).await;
                }
            }
            assert_eq!(fixture.requests(), bound);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_source_pins_its_entry() {
        let fixture = with_max_entries(16);
        let pinned = fixture.cache.source(request_for("pinned"));
        let token = pinned.token().await.unwrap();
        for tenant in 0..1000 {
            fetch(&fixture, tenant).await;
        }
        assert_eq!(
            fixture.cache.source(request_for("pinned")).peek(),
            Some(token)
        );
        assert_eq!(fetches(&fixture.server)["pinned"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_pins_its_entry_until_it_is_dropped() {
        let fixture = with_max_entries(16);
        let mut changes = fixture.cache.source(request_for("watched")).subscribe();
        let token = changes.changed().await.unwrap();
        for tenant in 0..1000 {
            drop(fixture.cache.source(request_for(tenant)));
        }
        let watched = || fixture.cache.source(request_for("watched"));
        assert_eq!(watched().peek(), token);
        assert!(token.is_some());
        drop(changes);
        for tenant in 0..1000 {
            drop(fixture.cache.source(request_for(tenant)));
        }
        assert_eq!(watched().peek(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_request_pins_its_entry() {
        let fixture = with_max_entries(16);
        fixture.server.fail_next(Failure::delay(secs(5)));
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(api.clone());
        let waiting = tokio::spawn(service.clone().oneshot(call_for("slow")));
        settle().await;
        for tenant in 0..1000 {
            service.clone().oneshot(call_for(tenant)).await.unwrap();
        }
        advance(secs(5)).await;
        let response = waiting.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(fetches(&fixture.server)["slow"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn recently_used_entries_are_evicted_after_idle_ones() {
        let fixture = with_max_entries(16);
        for tenant in 0..16 {
            fetch(&fixture, tenant).await;
        }
        // Use the oldest entry and one in the middle.
        for used in [0, 9] {
            fetch(&fixture, used).await;
        }
        for tenant in 100..114 {
            fetch(&fixture, tenant).await;
        }
        for used in [0, 9] {
            fetch(&fixture, used).await;
        }
        let fetches = fetches(&fixture.server);
        assert_eq!((fetches["0"], fetches["9"]), (1, 1));
        let statuses = fixture.cache.status();
        let requests: HashSet<_> = statuses.iter().map(|status| status.request()).collect();
        for idle in (1..16).filter(|tenant| *tenant != 9) {
            assert!(!requests.contains(&request_for(idle)), "{idle}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_evicted_token_is_fetched_again_once() {
        let fixture = with_max_entries(16);
        let layer = api_layer(fixture.source()).token_request_for(by_header);
        let service = layer.layer(Api::checking(&fixture.server));
        service.clone().oneshot(call_for("blue")).await.unwrap();
        for tenant in 0..100 {
            service.clone().oneshot(call_for(tenant)).await.unwrap();
        }
        for _ in 0..3 {
            let response = service.clone().oneshot(call_for("blue")).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        assert_eq!(fetches(&fixture.server)["blue"], 2);
    }

    /// Counts the values that are alive.
    struct Alive(Arc<AtomicUsize>);

    impl Alive {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, Ordering::SeqCst);
            Self(count.clone())
        }
    }

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Its response may be the only one there will ever be, and its callers may return.
    #[tokio::test(start_paused = true)]
    async fn a_running_fetch_pins_its_entry_and_ends_with_the_cache() {
        let alive = Arc::new(AtomicUsize::new(0));
        let count = alive.clone();
        let hanging = Endpoint::new(move |_| {
            let alive = Alive::new(&count);
            async move {
                pending::<()>().await;
                drop(alive);
                Ok(token_response("never"))
            }
        });
        let cache = TokenCache::builder(hanging.clone()).max_entries(16).build();
        let metrics = tokio::runtime::Handle::current().metrics();
        for tenant in 0..50 {
            let source = cache.source(request_for(tenant));
            assert_pending!(task::spawn(source.token()).poll());
        }
        settle().await;
        assert_eq!(hanging.calls(), 50);
        assert_eq!(alive.load(Ordering::SeqCst), 50);
        drop(cache);
        settle().await;
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        assert_eq!(metrics.num_alive_tasks(), 0);
    }

    /// The table, the queue and the entry share one copy of the key.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_an_evicted_entry() {
        let shared = Arc::new(());
        let cache = with_max_entries(16).cache;
        for tenant in 0..100 {
            let reference = shared.clone();
            let secret = tower_oauth2_client::Credential::from_fn(move || {
                let _reference = &reference;
                async { Ok::<_, tower_oauth2_client::BoxError>("secret".to_owned()) }
            });
            let client = tower_oauth2_client::ClientAuthentication::client_secret_basic(
                tenant.to_string(),
                secret,
            );
            drop(cache.source(request().client_authentication(client)));
        }
        assert_eq!(Arc::strong_count(&shared), 1 + 16);
        drop(cache);
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}

mod invalidate_all {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_tenant_gets_a_new_token() {
        let fixture = Fixture::new();
        let tenants = || (0..100).map(|tenant| fixture.cache.source(request_for(tenant)));
        let mut before = Vec::new();
        for source in tenants() {
            before.push(source.token().await.unwrap());
        }
        fixture.cache.invalidate_all();
        assert!(tenants().all(|source| source.peek().is_none()));
        let statuses = fixture.cache.status();
        assert!(
            statuses
                .iter()
                .all(|status| status.state() == TokenState::Empty)
        );
        for (source, before) in tenants().zip(before) {
            assert_ne!(source.token().await.unwrap(), before);
        }
        assert_eq!(fixture.requests(), 200);
    }

    /// Even frequent calls cause no pause.
    #[tokio::test(start_paused = true)]
    async fn dropping_all_tokens_does_not_count_as_a_refusal() {
        let fixture = Fixture::new();
        let source = fixture.source();
        for fetches in 1..=10 {
            source.token().await.unwrap();
            assert_eq!(fixture.requests(), fetches);
            fixture.cache.invalidate_all();
        }
        let token = source.token().await.unwrap();
        source.invalidate(&token);
        assert_eq!(source.peek(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_with_a_local_copy_of_the_token_gets_a_new_one() {
        let fixture = Fixture::new();
        let api = Api::content();
        let mut service = api_layer(fixture.source()).layer(api.clone());
        for _ in 0..3 {
            service.ready().await.unwrap();
            tower::Service::call(&mut service, call()).await.unwrap();
        }
        let before = api.last();
        fixture.cache.invalidate_all();
        tower::Service::call(&mut service, call()).await.unwrap();
        assert_ne!(api.last().authorization(), before.authorization());
    }
}

mod status {
    use super::*;

    #[track_caller]
    fn only_status(fixture: &Fixture) -> tower_oauth2_client::token_cache::TokenStatus {
        let mut all = fixture.cache.status();
        assert_eq!(all.len(), 1);
        all.pop().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_of_a_token_is_reported_throughout_its_life() {
        let fixture = Fixture::with_lifetime(secs(100));
        assert!(fixture.cache.status().is_empty());
        let source = fixture.source();

        let status = only_status(&fixture);
        assert_eq!(status.request(), &request());
        assert_eq!(status.state(), TokenState::Empty);
        assert_eq!(status.expires_in(), None);
        assert!(status.last_error().is_none());

        let token = source.token().await.unwrap();
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Fresh);
        // The leeway is a twentieth of the lifetime.
        assert_eq!(status.expires_in(), Some(secs(95)));

        advance(secs(49)).await;
        assert_eq!(only_status(&fixture).state(), TokenState::Fresh);
        advance(secs(1)).await;
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Stale);
        assert_eq!(status.expires_in(), Some(secs(45)));

        advance(secs(45)).await;
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Expired);
        assert_eq!(status.expires_in(), Some(secs(0)));
        assert!(status.last_error().is_none());

        // `status` does not cause a fetch.
        settle().await;
        assert_eq!(fixture.requests(), 1);

        let next = source.token().await.unwrap();
        assert_ne!(next, token);
        assert_eq!(only_status(&fixture).state(), TokenState::Fresh);
        source.invalidate(&next);
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Empty);
        assert_eq!(status.expires_in(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_reported_until_a_token_arrives() {
        let fixture = Fixture::new();
        let source = fixture.source();
        fixture
            .server
            .fail_until_told(Failure::oauth("invalid_scope"));
        let error = source.token().await.unwrap_err();
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Failed);
        assert_eq!(status.expires_in(), None);
        assert_eq!(status.last_error().unwrap().to_string(), error.to_string());
        assert_eq!(
            status
                .last_error()
                .unwrap()
                .error_response()
                .unwrap()
                .code(),
            error.error_response().unwrap().code(),
        );

        // After the pause, the next caller will fetch again.
        advance(secs(5)).await;
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Empty);
        assert!(status.last_error().is_some());

        fixture.server.recover();
        source.token().await.unwrap();
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Fresh);
        assert!(status.last_error().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_cannot_be_renewed_is_stale_with_an_error_and_failed_after_its_expiry() {
        let fixture = Fixture::with_lifetime(secs(100));
        let source = fixture.source();
        source.token().await.unwrap();
        fixture
            .server
            .fail_until_told(Failure::oauth("invalid_client"));
        advance(secs(50)).await;
        at_once(source.token()).unwrap();
        settle().await;
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Stale);
        assert_eq!(status.expires_in(), Some(secs(45)));
        assert!(status.last_error().is_some());

        advance(secs(45)).await;
        source.token().await.unwrap_err();
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Failed);
        assert_eq!(status.expires_in(), Some(secs(0)));
        assert!(status.last_error().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_depends_on_both_clocks() {
        let fixture = Fixture::with_lifetime(secs(100));
        fixture.source().token().await.unwrap();
        fixture.clock.suspend(secs(60));
        let status = only_status(&fixture);
        assert_eq!(status.state(), TokenState::Stale);
        assert_eq!(status.expires_in(), Some(secs(35)));
        fixture.clock.suspend(secs(60));
        assert_eq!(only_status(&fixture).state(), TokenState::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_shows_no_secret() {
        let server = AuthorizationServer::builder()
            .client("client", "secret-of-the-client")
            .user("ann", "secret-of-the-user");
        let fixture = Fixture::over(server.build());
        let client = tower_oauth2_client::ClientAuthentication::client_secret_post(
            "client",
            "secret-of-the-client",
        );
        let good = TokenRequest::password("ann", "secret-of-the-user")
            .client_authentication(client.clone());
        let token = fixture.cache.source(good).token().await.unwrap();
        let bad = TokenRequest::password("ann", "secret-of-nobody").client_authentication(client);
        fixture.cache.source(bad).token().await.unwrap_err();

        let status = fixture.cache.status();
        assert_eq!(status.len(), 2);
        let mut texts = vec![format!("{status:?}"), format!("{status:#?}")];
        for status in &status {
            texts.push(format!("{:?} {:#?}", status.request(), status.last_error()));
            texts.extend(status.last_error().map(ToString::to_string));
        }
        for text in texts {
            assert!(!text.contains("secret-of"), "{text}");
            assert!(!text.contains(token.expose_secret()), "{text}");
        }
        // It still shows which entry is which.
        let text = format!("{status:?}");
        assert!(text.contains("Fresh") && text.contains("Failed"), "{text}");
        assert!(
            text.contains("password") && text.contains("invalid_grant"),
            "{text}"
        );
    }
}
