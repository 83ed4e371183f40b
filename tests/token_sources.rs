//! Sources by a key of the user's: one request for each key, and the same tokens as by the request.
#![cfg(feature = "test-util")]

mod cache_support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures_util::FutureExt;
use http::{HeaderValue, Request, StatusCode, request::Parts};
use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, NoAccessToken, TokenCache, TokenErrorKind, TokenRequest, TokenSource,
    TokenSources,
    add_access_token::{CloneBody, NoTokenNamed},
    test_util::{AuthorizationServer, Failure},
    token_cache::TokenState,
};

use self::cache_support::{
    Api, Body, Endpoint, Fixture, api_layer, bearer, call, request, secs, settle,
};

fn request_for(tenant: &str) -> TokenRequest {
    request().parameter("tenant", tenant)
}

/// Returns the sources of a cache by a tenant, and how many requests they have made.
fn counted(cache: &TokenCache) -> (TokenSources<String>, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let sources = cache.sources_by(move |tenant: &String| {
        count.fetch_add(1, Ordering::Relaxed);
        request_for(tenant)
    });
    (sources, made)
}

/// A function over a key has borrowed strings only.
#[tokio::test(start_paused = true)]
async fn a_request_takes_borrowed_strings_and_names_the_key() {
    let fixture = Fixture::new();
    let sources = fixture.cache.sources_by(|tenant: &String| {
        let request = request().parameter("tenant", tenant).scope(tenant);
        request.label(tenant)
    });
    sources.get("blue").token().await.unwrap();
    let status = fixture.cache.status();
    assert_eq!(status[0].label(), Some("blue"));
    assert_eq!(status[0].request().get_parameter("tenant"), Some("blue"));
}

fn with_max_entries(max_entries: usize) -> Fixture {
    Fixture::with(AuthorizationServer::new(), |builder| {
        builder.max_entries(max_entries)
    })
}

#[tokio::test(start_paused = true)]
async fn the_request_of_a_key_is_made_once_and_its_token_is_that_of_the_request() {
    let fixture = Fixture::new();
    let (sources, made) = counted(&fixture.cache);
    for _ in 0..3 {
        for tenant in ["blue", "red"] {
            let token = sources.get(tenant).token().await.unwrap();
            let by_request = fixture.cache.source(request_for(tenant));
            assert_eq!(by_request.peek(), Some(token));
        }
    }
    assert_eq!(
        sources.clone().get("blue").peek(),
        sources.get("blue").peek()
    );
    assert_eq!(made.load(Ordering::Relaxed), 2);
    assert_eq!(fixture.requests(), 2);
    assert_ne!(sources.get("blue").peek(), sources.get("red").peek());
}

#[tokio::test(start_paused = true)]
async fn keys_with_equal_requests_share_a_token() {
    let fixture = Fixture::new();
    let sources = fixture
        .cache
        .sources_by(|user: &(u32, u32)| request_for(&user.0.to_string()));
    let token = sources.get(&(1, 1)).token().await.unwrap();
    assert_eq!(sources.get(&(1, 2)).peek(), Some(token));
    assert_eq!(sources.get(&(2, 1)).peek(), None);
    assert_eq!(fixture.cache.status().len(), 2);
}

#[test]
fn any_key_that_can_be_hashed_and_cloned_will_do() {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct TenantId(u64);

    let cache = TokenCache::new(Endpoint::counting());
    let by_id = cache.sources_by(|tenant: &TenantId| request_for(&tenant.0.to_string()));
    drop(by_id.get(&TenantId(1)));
    let by_name = cache.sources_by(|tenant: &String| request_for(tenant));
    drop((by_name.get("1"), by_name.get(&"1".to_owned())));
    let by_shared = cache.sources_by(|tenant: &Arc<str>| request_for(tenant));
    drop(by_shared.get(&Arc::<str>::from("1")));
    assert_eq!(cache.status().len(), 1);
}

/// Callers can make up tenants, so keys must not hold tokens.
#[tokio::test(start_paused = true)]
async fn keys_do_not_keep_tokens_that_the_cache_evicts() {
    let fixture = with_max_entries(10);
    let (sources, made) = counted(&fixture.cache);
    for tenant in 0..1000 {
        sources.get(&tenant.to_string()).warm_up().await.unwrap();
        let len = fixture.cache.status().len();
        assert!(len <= 11, "{len}");
    }
    assert_eq!(made.load(Ordering::Relaxed), 1000);
    let fetched = fixture.requests();
    // It was evicted, so it is made and fetched again.
    let token = sources.get("0").token().await.unwrap();
    assert_eq!(made.load(Ordering::Relaxed), 1001);
    assert_eq!(fixture.requests(), fetched + 1);
    assert_eq!(fixture.cache.source(request_for("0")).peek(), Some(token));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_used_stays_and_so_does_one_whose_source_is_held() {
    let fixture = with_max_entries(100);
    let (sources, made) = counted(&fixture.cache);
    let held = sources.get("held");
    held.warm_up().await.unwrap();
    for tenant in 0..2000 {
        sources.get("used").warm_up().await.unwrap();
        sources.get(&tenant.to_string()).warm_up().await.unwrap();
    }
    assert_eq!(sources.get("held").peek(), held.peek());
    assert!(held.peek().is_some());
    let of_used = fixture.server.requests();
    let of_used = of_used
        .iter()
        .filter(|request| request.get("tenant") == Some("used"));
    assert_eq!(of_used.count(), 1, "its token was not evicted");
    assert!(made.load(Ordering::Relaxed) < 2000 + 500);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_key_gets_a_new_request_and_held_sources_keep_the_old_one() {
    let fixture = Fixture::new();
    let region = Arc::new(Mutex::new("eu"));
    let configured = region.clone();
    let sources = fixture.cache.sources_by(move |tenant: &String| {
        request_for(tenant).parameter("region", *configured.lock().unwrap())
    });
    let old = sources.get("blue");
    let (blue, red) = (
        old.token().await.unwrap(),
        sources.get("red").token().await.unwrap(),
    );

    *region.lock().unwrap() = "us";
    assert_eq!(
        sources.get("blue").peek(),
        Some(blue.clone()),
        "nobody said that it changed"
    );
    assert!(sources.forget("blue"));
    assert!(!sources.forget("blue") && !sources.forget("unknown"));
    let new = sources.get("blue");
    assert_eq!(new.peek(), None);
    assert_ne!(new.token().await.unwrap(), blue);
    let sent = fixture.server.requests();
    assert_eq!(sent.last().unwrap().get("region"), Some("us"));
    assert_eq!(old.peek(), Some(blue));
    assert_eq!(sources.get("red").peek(), Some(red.clone()));

    sources.forget_all();
    assert_ne!(sources.get("red").token().await.unwrap(), red);
    assert_eq!(fixture.requests(), 4);
}

/// A tenant that changes while its request is made must not keep the old one.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_made_before_its_key_was_forgotten_is_not_used_later() {
    type Forget = fn(&TokenSources<String>) -> bool;
    let forgets: [Forget; 3] = [
        |sources| sources.forget("blue"),
        |sources| sources.remove("blue"),
        |sources| {
            sources.forget_all();
            true
        },
    ];
    for forget in forgets {
        let fixture = Fixture::new();
        let region = Arc::new(Mutex::new("eu"));
        let own = Arc::new(Mutex::new(None::<TokenSources<String>>));
        let (configured, sources) = (region.clone(), own.clone());
        let sources = {
            let forgotten = sources;
            fixture.cache.sources_by(move |tenant: &String| {
                let region = *configured.lock().unwrap();
                // Another thread changes the tenant, and says so.
                *configured.lock().unwrap() = "us";
                if let Some(sources) = forgotten.lock().unwrap().take() {
                    forget(&sources);
                }
                request_for(tenant).parameter("region", region)
            })
        };
        *own.lock().unwrap() = Some(sources.clone());
        sources.get("blue").token().await.unwrap();
        sources.get("blue").token().await.unwrap();
        sources.get("blue").token().await.unwrap();
        let sent = fixture.server.requests();
        let regions: Vec<_> = sent.iter().map(|sent| sent.get("region")).collect();
        assert_eq!(regions, [Some("eu"), Some("us")]);
    }
}

mod unknown_keys {
    use std::collections::HashMap;

    use super::*;

    type Tenants = Arc<Mutex<HashMap<&'static str, &'static str>>>;

    fn tenants() -> Tenants {
        Arc::new(Mutex::new(HashMap::from([("blue", "s1"), ("red", "s2")])))
    }

    fn request_of(tenants: &Tenants, id: &String) -> Option<TokenRequest> {
        let tenants = tenants.lock().unwrap();
        Some(request().scope(*tenants.get(&**id)?))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_without_a_request_has_no_source_and_is_asked_for_again() {
        let fixture = Fixture::new();
        let (tenants, asked) = (tenants(), Arc::new(AtomicUsize::new(0)));
        let (table, count) = (tenants.clone(), asked.clone());
        let sources = fixture.cache.sources_by(move |id: &String| {
            count.fetch_add(1, Ordering::Relaxed);
            request_of(&table, id)
        });
        assert!(sources.get("green").is_none());
        assert!(sources.get("green").is_none());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(fixture.cache.status().is_empty());

        tenants.lock().unwrap().insert("green", "s3");
        let token = sources.get("green").unwrap().token().await.unwrap();
        assert_eq!(sources.get("green").unwrap().peek(), Some(token));
        assert_eq!(asked.load(Ordering::Relaxed), 3);

        // A tenant that is deleted is known until somebody says so.
        tenants.lock().unwrap().remove("green");
        assert!(sources.get("green").is_some());
        assert!(sources.remove("green") && !sources.remove("green"));
        assert!(sources.get("green").is_none());
        assert!(fixture.cache.status().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_for_a_key_is_returned_as_it_is() {
        let fixture = Fixture::new();
        let tenants = tenants();
        let sources = fixture.cache.sources_by(move |id: &String| {
            request_of(&tenants, id).ok_or_else(|| format!("no tenant {id}"))
        });
        assert_eq!(sources.get("green").unwrap_err(), "no tenant green");
        sources.get("blue").unwrap().token().await.unwrap();
        assert_eq!(sources.clone().get("green").unwrap_err(), "no tenant green");
    }

    /// The layer then uses its own token, or refuses the request if it has none.
    #[tokio::test]
    async fn a_layer_takes_an_unknown_key_for_none() {
        let server = AuthorizationServer::new();
        let cache = TokenCache::new(cache_support::endpoint(&server));
        let tenants = tenants();
        let sources = cache.sources_by(move |id: &String| request_of(&tenants, id));
        let api = Api::content();
        let layer = AddAccessTokenLayer::per_request(cache)
            .origin(cache_support::API)
            .unwrap()
            .token_source_for(move |parts: &Parts| {
                sources.get(parts.headers.get("x-tenant")?.to_str().ok()?)
            });
        let service = layer.layer(api.clone());
        for (tenant, is_sent) in [("blue", true), ("green", false)] {
            let mut request = call();
            let tenant = HeaderValue::from_static(tenant);
            request.headers_mut().insert("x-tenant", tenant);
            let result = service.clone().oneshot(request).await;
            assert_eq!(result.is_ok(), is_sent);
        }
        assert_eq!(api.requests(), 1);
    }
}

mod removed {
    use super::*;

    /// Nobody holds the source of a deleted tenant, but the cache keeps its token warm.
    #[tokio::test(start_paused = true)]
    async fn a_removed_key_is_kept_warm_no_longer_and_leaves_no_trace() {
        let fixture = Fixture::new();
        let (sources, _) = counted(&fixture.cache);
        sources.get("blue").keep_warm().unwrap();
        sources.get("red").keep_warm().unwrap();
        settle().await;
        assert_eq!(fixture.requests(), 2);
        advance(secs(60)).await;
        settle().await;
        assert_eq!(fixture.requests(), 4, "both are renewed");

        assert!(sources.remove("blue"));
        assert_eq!(fixture.cache.status().len(), 1);
        for _ in 0..5 {
            advance(secs(60)).await;
            settle().await;
        }
        let of_blue = fixture.server.requests();
        let of_blue = of_blue.iter().filter(|it| it.get("tenant") == Some("blue"));
        assert_eq!(of_blue.count(), 2);
        assert_eq!(fixture.requests(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_tenant_that_is_removed_no_longer_shows_in_the_health() {
        let fixture = Fixture::new();
        let (sources, _) = counted(&fixture.cache);
        fixture.server.fail_next(Failure::oauth("invalid_client"));
        sources.get("blue").token().await.unwrap_err();
        assert_eq!(fixture.cache.health().failing(), 1);
        sources.remove("blue");
        let health = fixture.cache.health();
        assert_eq!((health.failing(), health.entries()), (0, 0));
        assert!(health.last_error().is_none());
        sources.get("blue").token().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_fetch_of_a_removed_key_is_cancelled_and_its_callers_get_an_answer() {
        let fixture = Fixture::new();
        let (sources, _) = counted(&fixture.cache);
        fixture.server.fail_next(Failure::delay(secs(20)));
        let source = sources.get("blue");
        let caller = tokio::spawn(async move { source.token().await });
        settle().await;
        assert!(sources.remove("blue"));
        // It still waits, so it holds the source and fetches again.
        caller.await.unwrap().unwrap();
        assert_eq!(fixture.requests(), 2);
    }

    /// The server has already replaced the refresh token, so the response must arrive.
    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_is_not_lost_because_its_key_is_removed() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = told.clone();
        let server = AuthorizationServer::builder().issue_refresh_tokens(true);
        let server = server.rotate_refresh_tokens(true).build();
        let fixture = Fixture::with(server, |builder| {
            builder.on_refresh_token(move |_, token| {
                notes.lock().unwrap().push(token.expose_secret().to_owned());
                async {}
            })
        });
        let refresh_token = fixture.server.issue_refresh_token("client", "");
        let sources = fixture
            .cache
            .sources_by(move |_: &String| TokenRequest::refresh_token(refresh_token.clone()));
        fixture
            .server
            .fail_next(Failure::delay(secs(5)).after_processing());
        assert!(sources.get("user").clone().token().now_or_never().is_none());
        settle().await;
        assert!(sources.remove("user"));
        advance(secs(6)).await;
        settle().await;
        assert_eq!(told.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_can_be_removed_without_a_key_and_unknown_ones_are_not_made() {
        let fixture = Fixture::new();
        let source = fixture.cache.source(request());
        source.token().await.unwrap();
        assert!(!fixture.cache.remove(&request_for("unknown")));
        // Somebody holds it, so the entry stays, without a token.
        assert!(fixture.cache.remove(&request()));
        assert_eq!(source.peek(), None);
        assert_eq!(fixture.cache.status().len(), 1);
        drop(source);
        assert!(fixture.cache.remove(&request()));
        assert!(!fixture.cache.remove(&request()));
        assert!(fixture.cache.status().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_held_is_kept_warm_no_longer_but_can_fetch() {
        let fixture = Fixture::new();
        let (sources, _) = counted(&fixture.cache);
        let source = sources.get("blue");
        source.keep_warm().unwrap();
        settle().await;
        assert!(sources.remove("blue"));
        for _ in 0..5 {
            advance(secs(60)).await;
            settle().await;
        }
        assert_eq!(fixture.requests(), 1);
        source.token().await.unwrap();
        assert_eq!(fixture.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_shares_its_request_fetches_again() {
        let fixture = Fixture::new();
        let sources = fixture.cache.sources_by(|_: &u8| request());
        let old = sources.get(&1).token().await.unwrap();
        assert_eq!(sources.get(&2).peek(), Some(old.clone()));
        sources.remove(&1);
        assert_ne!(sources.get(&2).token().await.unwrap(), old);
    }
}

mod one_time_credentials {
    use super::*;

    /// The program stores the newest refresh token, and the function reads it.
    #[tokio::test(start_paused = true)]
    async fn after_an_eviction_the_request_is_made_with_the_newest_refresh_token() {
        let server = AuthorizationServer::builder().issue_refresh_tokens(true);
        let server = server.rotate_refresh_tokens(true).build();
        let stored = Arc::new(Mutex::new(server.issue_refresh_token("client", "")));
        let newest = stored.clone();
        let fixture = Fixture::with(server, |builder| {
            builder.max_entries(1).on_refresh_token(move |_, token| {
                *newest.lock().unwrap() = token.expose_secret().to_owned();
                async {}
            })
        });
        let (read, made) = (stored.clone(), Arc::new(AtomicUsize::new(0)));
        let count = made.clone();
        let sources = fixture.cache.sources_by(move |_: &String| {
            count.fetch_add(1, Ordering::Relaxed);
            TokenRequest::refresh_token(read.lock().unwrap().clone())
        });
        for round in 1..5 {
            sources.get("user").token().await.unwrap();
            assert_eq!(made.load(Ordering::Relaxed), round);
            for other in ["a", "b"] {
                let other = fixture.cache.source(request_for(other));
                other.token().await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_who_signs_in_again_has_a_new_source_after_a_removal() {
        let server = AuthorizationServer::builder().issue_refresh_tokens(true);
        let fixture = Fixture::over(server.build());
        let stored = Arc::new(Mutex::new("revoked".to_owned()));
        let read = stored.clone();
        let sources = fixture.cache.sources_by(move |_: &String| {
            TokenRequest::refresh_token(read.lock().unwrap().clone())
        });
        let error = sources.get("user").token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
        *stored.lock().unwrap() = fixture.server.issue_refresh_token("client", "");
        sources.get("user").token().await.unwrap_err();
        assert!(sources.remove("user"));
        sources.get("user").token().await.unwrap();
        assert_eq!(fixture.cache.health().signed_out(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_keys_find_usable_tokens_and_new_keys_get_the_error() {
    let fixture = Fixture::new();
    let (sources, _) = counted(&fixture.cache);
    let token = sources.get("blue").token().await.unwrap();
    fixture.cache.shutdown().await;
    assert_eq!(sources.get("blue").token().await.unwrap(), token);
    for tenant in ["red", "green"] {
        let error = sources.get(tenant).token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ShutDown);
    }
    assert!(sources.remove("blue"));
    let error = sources.get("blue").token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ShutDown);
}

/// The label and the context belong to the entry, and so to whoever came first.
#[tokio::test(start_paused = true)]
async fn after_an_eviction_the_context_and_the_label_are_those_of_the_next_caller() {
    let server = AuthorizationServer::new();
    let seen = Arc::new(Mutex::new(Vec::<u8>::new()));
    let (notes, endpoint) = (seen.clone(), cache_support::endpoint(&server));
    let endpoint = endpoint.map_request(move |request: TokenRequest| {
        notes.lock().unwrap().extend(request.get_context::<u8>());
        request
    });
    let cache = TokenCache::builder(endpoint).max_entries(1).build();
    let of = |number: u8| request().context(number).label(number.to_string());
    cache.source(of(1)).token().await.unwrap();
    cache.source(of(2)).discard();
    cache.source(of(2)).token().await.unwrap();
    for other in ["a", "b"] {
        cache.source(request_for(other)).token().await.unwrap();
    }
    let source = cache.source(of(3));
    source.token().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 1, 3]);
    let status = cache.status();
    assert!(status.iter().any(|status| status.label() == Some("3")));
}

#[test]
fn all_threads_get_the_same_source() {
    let cache = TokenCache::new(Endpoint::counting());
    let (sources, made) = counted(&cache);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for key in 0..200 {
                    drop(sources.get(&format!("{key}")));
                }
            });
        }
    });
    assert_eq!(cache.status().len(), 200);
    assert!((200..=1600).contains(&made.load(Ordering::Relaxed)));
    let made_before = made.load(Ordering::Relaxed);
    drop(sources.get("0"));
    assert_eq!(made.load(Ordering::Relaxed), made_before);
}

#[test]
fn function_that_panics_or_asks_again_leaves_the_sources_usable() {
    let cache = TokenCache::new(Endpoint::counting());
    let is_bad = Arc::new(AtomicUsize::new(1));
    let (bad, inner) = (is_bad.clone(), cache.sources_by(|_: &u8| request()));
    let nested = inner.clone();
    let sources = cache.sources_by(move |key: &u8| {
        drop(nested.get(key));
        assert_eq!(bad.load(Ordering::Relaxed), 0, "the function of the user");
        request_for("blue")
    });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sources.get(&1)));
    assert!(panicked.is_err());
    is_bad.store(0, Ordering::Relaxed);
    drop(sources.get(&1));
    assert_eq!(cache.status().len(), 2);
}

#[test]
fn debug_shows_no_key() {
    let sources = TokenCache::new(Endpoint::counting()).sources_by(|it: &String| request_for(it));
    drop(sources.get("SECRET"));
    let shown = format!("{sources:?} {sources:#?} {:?}", sources.cache());
    assert!(!shown.contains("SECRET"), "{shown}");
}

mod token_source_for {
    use super::*;

    fn call_for(tenant: &'static str) -> Request<Body> {
        let mut request = call();
        let tenant = HeaderValue::from_static(tenant);
        request.headers_mut().insert("x-tenant", tenant);
        request
    }

    fn by_header(sources: TokenSources<String>) -> impl Fn(&Parts) -> Option<TokenSource> {
        move |parts: &Parts| {
            let tenant = parts.headers.get("x-tenant")?;
            Some(sources.get(tenant.to_str().ok()?))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_tenant_gets_its_token_and_others_the_default() {
        let fixture = Fixture::new();
        let (sources, made) = counted(&fixture.cache);
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixture.source()).token_source_for(by_header(sources.clone()));
        let service = layer.layer(api.clone());
        for _ in 0..3 {
            for tenant in ["blue", "red"] {
                let response = service.clone().oneshot(call_for(tenant)).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                let token = sources.get(tenant).peek().unwrap();
                assert_eq!(api.last().authorization(), token.authorization());
                assert_eq!(api.last().headers["x-tenant"], tenant);
            }
            service.clone().oneshot(call()).await.unwrap();
            let token = fixture.source().peek().unwrap();
            assert_eq!(api.last().authorization(), token.authorization());
        }
        assert_eq!(fixture.requests(), 3);
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_without_a_default_token_refuses_a_request_that_names_none() {
        let fixture = Fixture::new();
        let (sources, _) = counted(&fixture.cache);
        let api = Api::content();
        let layer = AddAccessTokenLayer::per_request(fixture.cache.clone())
            .origin(cache_support::API)
            .unwrap()
            .token_source_for(by_header(sources));
        let service = layer.layer(api.clone());
        service.clone().oneshot(call_for("blue")).await.unwrap();
        let error = service.clone().oneshot(call()).await.unwrap_err();
        assert!(error.is::<NoTokenNamed>(), "{error}");
        assert!(error.to_string().contains("`token_source_for`"), "{error}");
        assert_eq!(api.seen().len(), 1);
    }

    /// The source may be one that knows nothing of the cache of the layer.
    #[tokio::test(start_paused = true)]
    async fn extensions_and_own_headers_take_precedence_and_any_source_will_do() {
        let fixture = Fixture::new();
        let api = Api::content();
        let layer = api_layer(TokenSource::fixed(bearer("of-layer")))
            .token_source_for(|_: &Parts| TokenSource::fixed(bearer("of-function")));
        let service = layer.layer(api.clone());
        let sent = async |request: Request<Body>| {
            service.clone().oneshot(request).await.unwrap();
            let value = api.last().authorization().cloned();
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(sent(call()).await.unwrap(), "Bearer of-function");

        let mut named = call();
        named
            .extensions_mut()
            .insert(TokenSource::fixed(bearer("of-request")));
        assert_eq!(sent(named).await.unwrap(), "Bearer of-request");

        let mut own = call();
        let value = HeaderValue::from_static("Basic own");
        own.headers_mut().insert("authorization", value);
        assert_eq!(sent(own).await.unwrap(), "Basic own");

        let mut none = call();
        none.extensions_mut().insert(NoAccessToken);
        assert_eq!(sent(none).await, None);
        assert_eq!(fixture.requests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn of_both_functions_the_last_one_counts() {
        let fixture = Fixture::new();
        let api = Api::content();
        let source = |_: &Parts| TokenSource::fixed(bearer("by-source"));
        let request = |_: &Parts| request_for("by-request");
        let layer = api_layer(fixture.source());
        let last_source = layer
            .clone()
            .token_request_for(request)
            .token_source_for(source);
        last_source
            .layer(api.clone())
            .oneshot(call())
            .await
            .unwrap();
        assert_eq!(api.last().authorization().unwrap(), "Bearer by-source");
        let last_request = layer.token_source_for(source).token_request_for(request);
        last_request
            .layer(api.clone())
            .oneshot(call())
            .await
            .unwrap();
        let token = fixture
            .cache
            .source(request_for("by-request"))
            .peek()
            .unwrap();
        assert_eq!(api.last().authorization(), token.authorization());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_replaces_the_token_of_that_tenant_only() {
        let fixture = Fixture::with_lifetime(secs(3600));
        let (sources, _) = counted(&fixture.cache);
        let api = Api::checking(&fixture.server);
        let layer = api_layer(fixture.source())
            .resend(CloneBody)
            .token_source_for(by_header(sources.clone()));
        let service = layer.layer(api.clone());
        for tenant in ["blue", "red"] {
            service.clone().oneshot(call_for(tenant)).await.unwrap();
        }
        let (blue, red) = (sources.get("blue").peek(), sources.get("red").peek());
        assert!(
            fixture
                .server
                .revoke(blue.as_ref().unwrap().expose_secret())
        );
        let response = service.clone().oneshot(call_for("blue")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_ne!(sources.get("blue").peek(), blue);
        assert_eq!(sources.get("red").peek(), red);
        assert_eq!(fixture.requests(), 3);
        let states = fixture.cache.status();
        let fresh = states
            .iter()
            .filter(|status| status.state() == TokenState::Fresh);
        assert_eq!(fresh.count(), 2);
    }
}
