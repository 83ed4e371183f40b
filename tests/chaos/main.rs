//! Many tenants, aborted callers, and servers that fail in every way. Each request carries a valid token of its own tenant.
//!
//! `CHAOS_CALLS=N` sets the number of calls. `CHAOS_SEED=N` repeats the choices of a run; on one thread, also those of the cache.
#![cfg(feature = "test-util")]

#[path = "../cache_support/mod.rs"]
mod cache_support;
mod servers;

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use http::{Request, Response};
use tokio::{
    runtime,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};
use tower_oauth2_client::{
    BoxError, TokenCache, TokenEndpoint, TokenError, TokenRequest, TokenSource,
    add_access_token::CloneBody, token_cache::TokenStatus,
};

use self::{
    cache_support::{Body, Http, api_layer, call, client, millis, now, request, secs},
    servers::{CALL, FETCH_TIMEOUT, TENANT, Tenant, World},
};

/// How many calls both runtimes make together.
const CALLS: usize = 5_000;
/// From here on, everything that is random happens often enough to be asserted.
const MANY_CALLS: usize = 50_000;
const TENANTS: Tenant = 64;
/// The others make few calls. So they are evicted, while the tokens of these get old enough to expire in the cache.
const BUSY_TENANTS: Tenant = 48;
/// Fewer than there are tenants, so that entries are evicted.
const MAX_ENTRIES: usize = 56;
const MAX_FETCHES: usize = 24;
const CALLS_IN_FLIGHT: usize = 800;
/// How long callers pause at most. If they called more often, tokens would be refused or dropped long before they expire.
const THINKING: Duration = secs(1);
const HELD_SOURCES: usize = 8;
/// A call that takes longer is stuck.
const STUCK: Duration = secs(30);
/// How soon each tenant is served after the faults have stopped.
const RECOVERY: Duration = secs(5);
/// `invalidate_all` does not end a pause that the server asked for; none is longer than a minute.
const RECOVERY_AFTER_RETRY_AFTER: Duration = secs(65);

#[test]
fn every_request_carries_a_valid_token_of_its_tenant_on_one_thread() {
    watched(runtime::Builder::new_current_thread(), seed());
}

#[test]
fn every_request_carries_a_valid_token_of_its_tenant_on_many_threads() {
    watched(runtime::Builder::new_multi_thread(), seed());
}

fn seed() -> u64 {
    number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000))
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

/// Runs the chaos on another thread, so that a runtime that hangs is noticed, too.
fn watched(mut runtime: runtime::Builder, seed: u64) {
    let name = thread::current().name().unwrap_or_default().to_owned();
    println!("{name}: CHAOS_SEED={seed}");
    let calls = number("CHAOS_CALLS").map_or(CALLS, |calls| calls.try_into().unwrap()) / 2;
    let chaos = Arc::new(Chaos::new(seed));
    let (done, is_done) = sync_channel(1);
    let running = thread::spawn({
        let chaos = chaos.clone();
        move || {
            // The cache draws its random numbers on this thread, if it is the only one.
            fastrand::seed(seed);
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(chaos.clone().run(calls));
            let _ = done.send(());
        }
    });
    let mut ended = 0;
    while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(STUCK * 3) {
        let ended_before = ended;
        ended = chaos.counts.ended.load(Relaxed);
        assert!(ended > ended_before, "stuck after {ended} calls");
    }
    if running.join().is_err() {
        panic!("the chaos failed with CHAOS_SEED={seed}");
    }
    println!("{name}: {calls} calls, {}", chaos.report());
    chaos.check(calls);
}

#[derive(Default)]
struct Counts {
    /// Includes the calls of the recovery.
    ended: AtomicUsize,
    responses: AtomicUsize,
    errors: AtomicUsize,
    aborted: AtomicUsize,
}

struct Chaos {
    seed: u64,
    world: World,
    cache: TokenCache,
    http: Http,
    held: Mutex<Vec<TokenSource>>,
    counts: Counts,
}

/// How one call ended.
enum Outcome {
    Status(u16),
    TokenError,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let cache = TokenCache::builder(TokenEndpoint::new(
            world.authorization_server(),
            "https://as.test/token",
            client(),
        ))
        .max_entries(MAX_ENTRIES)
        .max_concurrent_fetches(MAX_FETCHES)
        .fetch_timeout(FETCH_TIMEOUT)
        .build();
        let layer = api_layer(cache.source(request()))
            .token_request_for(|parts| {
                let tenant = parts.headers[TENANT].to_str().unwrap();
                token_request(tenant.parse().unwrap())
            })
            .resend(CloneBody);
        Self {
            seed,
            http: BoxCloneSyncService::new(layer.layer(world.api())),
            world,
            cache,
            held: Mutex::default(),
            counts: Counts::default(),
        }
    }

    async fn run(self: Arc<Self>, calls: usize) {
        let permits = Arc::new(Semaphore::new(CALLS_IN_FLIGHT));
        let mut tasks = JoinSet::new();
        for id in 0..calls {
            let permit = permits.clone().acquire_owned().await.unwrap();
            let chaos = self.clone();
            tasks.spawn(async move {
                chaos.perhaps_aborted(id).await;
                drop(permit);
            });
            while let Some(ended) = tasks.try_join_next() {
                ended.unwrap();
            }
        }
        tasks.join_all().await;
        self.recover(calls).await;
    }

    /// Makes a call on a task of its own, and aborts some of them at a random moment.
    async fn perhaps_aborted(self: Arc<Self>, id: usize) {
        let mut rng = Rng::with_seed(self.seed.wrapping_add(id as u64));
        let abort_after = (rng.u8(..100) < 15).then(|| millis(rng.u64(..1_500)));
        let chaos = self.clone();
        let mut calling = tokio::spawn(async move { chaos.caller(id, rng).await });
        let mut is_aborted = false;
        if let Some(after) = abort_after {
            if let Ok(ended) = timeout(after, &mut calling).await {
                return self.note(id, ended.unwrap());
            }
            calling.abort();
            is_aborted = true;
        }
        match timeout(STUCK, calling).await {
            Ok(Ok(outcome)) => self.note(id, outcome),
            Ok(Err(error)) if is_aborted && error.is_cancelled() => {
                self.counts.aborted.fetch_add(1, Relaxed);
                self.counts.ended.fetch_add(1, Relaxed);
            }
            Ok(Err(error)) => panic!("call {id} is lost: {error}"),
            Err(_) => panic!("call {id} is stuck"),
        }
    }

    fn note(&self, id: usize, outcome: Outcome) {
        let count = match outcome {
            Outcome::Status(200 | 401) => &self.counts.responses,
            Outcome::Status(status) => panic!("call {id} ended with status {status}"),
            Outcome::TokenError => &self.counts.errors,
        };
        count.fetch_add(1, Relaxed);
        self.counts.ended.fetch_add(1, Relaxed);
    }

    async fn caller(&self, id: usize, mut rng: Rng) -> Outcome {
        sleep(THINKING.mul_f64(rng.f64())).await;
        let tenant = match rng.u8(..100) {
            0..5 => rng.u16(BUSY_TENANTS..TENANTS),
            _ => rng.u16(..BUSY_TENANTS),
        };
        self.disturb(tenant, &mut rng);
        let mut request = self.request(id, tenant);
        match rng.u8(..100) {
            0..40 => {}
            40..65 => drop(request.extensions_mut().insert(token_request(tenant))),
            65..85 => drop(request.extensions_mut().insert(self.source(tenant))),
            85..95 => return self.call_by_hand(request, tenant, false).await,
            _ => return self.call_by_hand(request, tenant, true).await,
        }
        self.call(request).await
    }

    fn request(&self, id: usize, tenant: Tenant) -> Request<Body> {
        let mut request = call();
        let headers = request.headers_mut();
        headers.insert(TENANT, tenant.into());
        headers.insert(CALL, id.into());
        request
    }

    async fn call(&self, request: Request<Body>) -> Outcome {
        outcome(self.http.clone().oneshot(request).await)
    }

    /// Asks the source for the token, as everybody does who does not use the layer.
    async fn call_by_hand(
        &self,
        mut request: Request<Body>,
        tenant: Tenant,
        renews: bool,
    ) -> Outcome {
        let source = self.source(tenant);
        let token = match renews {
            true => source.renew().await,
            false => source.token().await,
        };
        let token = match token {
            Ok(token) => token,
            Err(_) => return Outcome::TokenError,
        };
        let value = format!("Bearer {}", token.expose_secret());
        let headers = request.headers_mut();
        headers.insert(http::header::AUTHORIZATION, value.try_into().unwrap());
        let outcome = outcome(self.world.api().oneshot(request).await);
        if matches!(outcome, Outcome::Status(401)) {
            source.invalidate(&token);
        }
        outcome
    }

    /// Drops, revokes, holds and releases at random.
    fn disturb(&self, tenant: Tenant, rng: &mut Rng) {
        match rng.u32(..10_000) {
            0 => self.cache.clone().invalidate_all(),
            1..50 => self.source(tenant).discard(),
            50..100 => {
                let source = self.source(tenant);
                if let Some(token) = source.peek() {
                    source.invalidate(&token);
                }
            }
            100..150 => {
                if let Some(token) = self.source(tenant).peek() {
                    self.world.revoke(token.expose_secret());
                }
            }
            200..700 => {
                let mut held = self.held.lock().unwrap();
                if held.len() == HELD_SOURCES {
                    held.swap_remove(rng.usize(..HELD_SOURCES));
                }
                held.push(self.source(tenant));
            }
            _ => {}
        }
    }

    fn source(&self, tenant: Tenant) -> TokenSource {
        self.cache.source(token_request(tenant))
    }

    /// Ends all faults. Each tenant must be served soon.
    async fn recover(&self, calls: usize) {
        self.world.recover();
        self.held.lock().unwrap().clear();
        self.cache.invalidate_all();
        let statuses = &self.cache.status();
        let recoveries = (0..TENANTS).map(|tenant| async move {
            let request_id = calls + usize::from(tenant);
            let status = statuses
                .iter()
                .find(|status| *status.request() == token_request(tenant));
            let last_error = status.and_then(TokenStatus::last_error);
            let is_told_to_wait = last_error.is_some_and(|error| error.retry_after().is_some());
            let limit = match is_told_to_wait {
                true => RECOVERY_AFTER_RETRY_AFTER,
                false => RECOVERY,
            };
            let served = timeout(limit, async {
                while !matches!(
                    self.call(self.request(request_id, tenant)).await,
                    Outcome::Status(200)
                ) {
                    sleep(millis(50)).await;
                }
            });
            assert!(
                served.await.is_ok(),
                "tenant {tenant} is not served: {status:?}"
            );
            self.counts.ended.fetch_add(1, Relaxed);
        });
        let begun = now();
        futures_util::future::join_all(recoveries).await;
        println!(
            "all {TENANTS} tenants were served {:?} after the faults",
            now() - begun
        );
    }

    fn report(&self) -> String {
        let Counts {
            responses,
            errors,
            aborted,
            ..
        } = &self.counts;
        format!(
            "{responses:?} responses, {errors:?} token errors, {aborted:?} aborted; {}",
            self.world.report()
        )
    }

    fn check(&self, calls: usize) {
        let Counts {
            ended,
            responses,
            errors,
            aborted,
        } = &self.counts;
        let [ended, responses, errors, aborted] =
            [ended, responses, errors, aborted].map(|count| count.load(Relaxed));
        assert_eq!(responses + errors + aborted, calls, "lost calls");
        assert_eq!(ended, calls + usize::from(TENANTS));
        self.world.check();
        // Otherwise the run shows little.
        assert!(responses > calls / 4 && errors > 0 && aborted > 0);
        if calls >= MANY_CALLS {
            self.world.check_faults();
        }
    }
}

fn token_request(tenant: Tenant) -> TokenRequest {
    request().parameter("tenant", tenant.to_string())
}

/// Every error must be a [`TokenError`].
fn outcome(result: Result<Response<Body>, BoxError>) -> Outcome {
    match result {
        Ok(response) => Outcome::Status(response.status().as_u16()),
        Err(error) => match TokenError::find_in_chain(&*error) {
            Some(_) => Outcome::TokenError,
            None => panic!("not a token error: {error:?}"),
        },
    }
}
