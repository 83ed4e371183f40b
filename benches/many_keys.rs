//! One cache with 1 to 1,000,000 tenants in random order, compared with a bare map of the same size in the same order.
//!
//! `MAX_TENANTS=1000` leaves out the larger numbers, for example to count instructions with `--once`.
//!
//! `README.md` in this folder explains how to run it and how to read the results.
#![allow(
    clippy::mutable_key_type,
    reason = "the hash of a DPoP key does not include its nonces"
)]

mod support;

use std::{
    cell::RefCell,
    collections::HashMap,
    env,
    hint::black_box,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, header::AUTHORIZATION, request::Parts};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, TokenCache, TokenRequest, TokenResponse, TokenType,
};

use self::support::{
    Case, Result, bench,
    calls::{self, answer, now},
    thread_time, time,
};

const TOKEN_LENGTH: usize = 800;
const CALLS_PER_ROUND: u32 = 2_000;
const TENANTS: [usize; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
/// How many tenants are added for [`print_growth`].
const GROWN: usize = 100_000;
const GROWTHS: usize = 9;

/// Arguments of the processes that [`print_growth`] starts.
const CACHE: &str = "--grow-cache";
const INDEX: &str = "--grow-index";
const MAP: &str = "--grow-map";

fn main() -> Result<()> {
    if let Some(what) = env::args().find(|argument| [CACHE, INDEX, MAP].contains(&&**argument)) {
        println!("{}", longest_call(&what));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut cases = Vec::new();
    let max = env::var("MAX_TENANTS").map_or(Ok(usize::MAX), |max| max.parse())?;
    for tenants in TENANTS.into_iter().filter(|it| *it <= max) {
        add_cases(&mut cases, tenants, &runtime)?;
    }
    bench(&cases)?;
    drop(cases);
    match env::args().any(|it| ["--launch", "--list", "--once"].contains(&&*it)) {
        true => Ok(()),
        false => print_growth(),
    }
}

/// Adds the same tenants: in a map by name, in a map by request, and in a cache, by request and by name.
fn add_cases(cases: &mut Vec<Case>, tenants: usize, runtime: &Runtime) -> Result<()> {
    let names: Vec<String> = (0..tenants).map(name).collect();
    let requests: Vec<TokenRequest> = names.iter().map(|name| request(name)).collect();
    let (cache, tokens) = filled(&requests, runtime)?;
    let by_name: HashMap<String, HeaderValue> =
        names.iter().cloned().zip(tokens.iter().cloned()).collect();
    let by_request: HashMap<TokenRequest, HeaderValue> = requests
        .iter()
        .cloned()
        .zip(tokens.iter().cloned())
        .collect();
    let by_name = Arc::new(by_name);
    let sources = cache.sources_by(|name: &String| request(name));
    let known: Vec<_> = names.iter().map(|name| sources.get(name)).collect();
    drop(known);
    let names = Arc::new(in_random_order(&names));
    let requests = Arc::new(in_random_order(&requests));

    let of = |what: &str| format!("{what}, {tenants} tenants");
    let map = of("map by name");
    let map_then_call = of("map by name, then a call");

    let (keys, values) = (Turns::new(&names), by_name.clone());
    cases.push(case(&map, &map, move || values[keys.next()].clone()));
    let keys = Turns::new(&requests);
    cases.push(case(&of("map by request"), &map, move || {
        by_request[keys.next()].clone()
    }));
    let (keys, of_cache) = (Turns::new(&requests), cache.clone());
    cases.push(case(&of("cache"), &map, move || {
        let source = of_cache.source(keys.next().clone());
        let token = now(source.token()).expect("a token");
        token.authorization().expect("a header").clone()
    }));

    let (keys, of_cache) = (Turns::new(&names), sources.clone());
    cases.push(case(&of("cache by a key"), &map, move || {
        let token = now(of_cache.get(keys.next()).token()).expect("a token");
        token.authorization().expect("a header").clone()
    }));

    let (keys, values) = (Turns::new(&names), by_name);
    cases.push(case(&map_then_call, &map_then_call, move || {
        let mut request = calls::request();
        let value = values[keys.next()].clone();
        request.headers_mut().insert(AUTHORIZATION, value);
        now(answer(request)).expect("an answer")
    }));
    let (keys, fallback) = (Turns::new(&requests), cache.source(request(&name(0))));
    let layer = AddAccessTokenLayer::new(fallback).origin(calls::API)?;
    let service = RefCell::new(layer.layer(service_fn(answer)));
    cases.push(case(
        &of("layer, by the request"),
        &map_then_call,
        move || {
            let mut request = calls::request();
            request.extensions_mut().insert(keys.next().clone());
            now(service.borrow_mut().call(request)).expect("an answer")
        },
    ));
    let keys = Turns::new(&names);
    let layer = AddAccessTokenLayer::per_request(cache)
        .origin(calls::API)?
        .token_source_for(move |_: &Parts| sources.get(keys.next()));
    let service = RefCell::new(layer.layer(service_fn(answer)));
    cases.push(case(&of("layer, by a key"), &map_then_call, move || {
        now(service.borrow_mut().call(calls::request())).expect("an answer")
    }));
    Ok(())
}

fn case<T>(name: &str, floor: &str, call: impl Fn() -> T + 'static) -> Case {
    let run = move |calls| time(calls, || drop(black_box(call())));
    Case::new(name, CALLS_PER_ROUND, run).relative_to(floor)
}

/// Cycles through all keys.
struct Turns<K> {
    keys: Arc<Vec<K>>,
    next: AtomicUsize,
}

impl<K> Turns<K> {
    fn new(keys: &Arc<Vec<K>>) -> Self {
        Self {
            keys: keys.clone(),
            next: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> &K {
        let next = self.next.load(Ordering::Relaxed);
        let after = (next + 1) % self.keys.len();
        self.next.store(after, Ordering::Relaxed);
        &self.keys[next]
    }
}

/// Shuffles the keys, in the same way in every run.
fn in_random_order<K: Clone>(keys: &[K]) -> Vec<K> {
    let mut keys = keys.to_vec();
    fastrand::Rng::with_seed(7).shuffle(&mut keys);
    keys
}

fn name(tenant: usize) -> String {
    format!("tenant-{tenant:08}.read")
}

fn request(name: &str) -> TokenRequest {
    TokenRequest::client_credentials().scope(name)
}

/// Returns a cache with a token for each request, and the headers that contain these tokens.
fn filled(requests: &[TokenRequest], runtime: &Runtime) -> Result<(TokenCache, Vec<HeaderValue>)> {
    let cache = empty(requests.len());
    let tokens = runtime.block_on(async {
        let mut tokens = Vec::with_capacity(requests.len());
        for request in requests {
            let token = cache.source(request.clone()).token().await?;
            let mut header = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))?;
            header.set_sensitive(true);
            tokens.push(header);
        }
        Result::Ok(tokens)
    })?;
    assert_eq!(cache.status().len(), requests.len(), "entries were evicted");
    Ok((cache, tokens))
}

fn empty(tenants: usize) -> TokenCache {
    let numbers = Arc::new(AtomicU64::new(0));
    let endpoint = service_fn(move |_: TokenRequest| {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        async move {
            let token = AccessToken::new(format!("{number:0TOKEN_LENGTH$}"), TokenType::BEARER)?;
            let response = TokenResponse::builder(token).expires_in(Duration::from_secs(3600));
            Ok::<_, BoxError>(response.build())
        }
    });
    // Twice the number of tenants, so that no entry is evicted.
    TokenCache::builder(endpoint)
        .max_entries(2 * tenants)
        .build()
}

/// Prints the longest single call while 100,000 tenants are added, in CPU time of the thread.
///
/// Interrupts count as CPU time of the thread that they interrupt, so the minimum over several processes is the best estimate: the cost
/// of the calls themselves is part of each of them.
fn print_growth() -> Result<()> {
    println!("\nthe longest call while {GROWN} tenants are added");
    for (what, name) in [
        (CACHE, "cache, one source per tenant"),
        (INDEX, "cache by a key"),
        (MAP, "map by request"),
    ] {
        let growths = (0..GROWTHS).map(|_| {
            let output = Command::new(env::current_exe()?).arg(what).output()?;
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        });
        let growths = growths.collect::<Result<Vec<f64>>>()?;
        println!(
            "{name:<44} {:>9.1} us",
            growths.into_iter().fold(f64::MAX, f64::min)
        );
    }
    Ok(())
}

fn longest_call(what: &str) -> f64 {
    let requests: Vec<TokenRequest> = (0..GROWN).map(|tenant| request(&name(tenant))).collect();
    if what == CACHE {
        let cache = empty(requests.len());
        longest(&requests, |request| drop(cache.source(request.clone())))
    } else if what == INDEX {
        let names: Vec<String> = (0..GROWN).map(name).collect();
        let sources = empty(names.len()).sources_by(|name: &String| request(name));
        longest(&names, |name| drop(sources.get(name)))
    } else {
        let mut map = HashMap::new();
        longest(&requests, |request| {
            map.insert(request.clone(), HeaderValue::from_static("Bearer"));
        })
    }
}

fn longest<K>(keys: &[K], mut call: impl FnMut(&K)) -> f64 {
    let mut longest = Duration::ZERO;
    for key in keys {
        let start = thread_time();
        call(key);
        longest = longest.max(thread_time() - start);
    }
    longest.as_secs_f64() * 1e6
}
