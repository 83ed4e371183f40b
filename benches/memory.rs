//! How much memory 100,000 distinct keys take, in addition to the tokens themselves.
//!
//! Run it with `cargo bench --bench memory` or `cargo bench --bench memory -- KEYS`. It fails if a key takes 1.5 KiB or more.

use std::{
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::runtime;
use tower::Service;
use tower_oauth2_client::{
    BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest, TokenResponse,
};

const KEYS: u64 = 100_000;
const TOKEN: usize = 800;
const TARGET: f64 = 1536.0;

fn main() -> ExitCode {
    let keys = env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(KEYS);
    // Warm up, so that one-time allocations (thread-locals, tables) are not counted.
    run(1000);
    let (requests, entries, tokens) = run(keys);

    let per_key = |info: &AllocationInfo| info.bytes_current as f64 / keys as f64;
    let count = |info: &AllocationInfo| info.count_current as f64 / keys as f64;
    let rows = [
        (
            "the caller's `TokenRequest`, shared with the cache",
            &requests,
        ),
        ("its cache entry, before the first fetch", &entries),
        (
            "added by a fetch, including the token of 800 bytes",
            &tokens,
        ),
    ];
    println!("{keys} keys, bytes allocated and not freed:");
    println!("{:>10} {:>12}", "bytes/key", "blocks/key");
    for (what, info) in rows {
        println!("{:>10.1} {:>12.2}  {what}", per_key(info), count(info));
    }
    let all: f64 = rows.iter().map(|(_, info)| per_key(info)).sum();
    let beside = all - TOKEN as f64;
    println!("{all:>10.1} {:>12}  total", "");
    println!(
        "{beside:>10.1} {:>12}  total, without one copy of the token's text (target: below {TARGET})",
        ""
    );
    if beside < TARGET {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Measures the memory held by the requests, and what their entries and then their tokens add to it.
///
/// Everything runs on the thread of the runtime, because allocations are counted per thread. The sources are dropped, like those
/// of a layer that picks a token by the request; a source that is kept adds two words. The responses are dropped as well.
fn run(keys: u64) -> (AllocationInfo, AllocationInfo, AllocationInfo) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    // Twice the number of keys, so that no shard fills up and evicts an entry.
    let max = usize::try_from(2 * keys).expect("a number of keys");
    let cache = TokenCache::builder(endpoint()).max_entries(max).build();

    let mut requests = Vec::with_capacity(max);
    let made =
        measure(|| {
            requests.extend((0..keys).map(|key| {
                TokenRequest::client_credentials().scope(format!("tenant-{key:08}.read"))
            }));
        });
    let entries = measure(|| {
        for request in &requests {
            drop(cache.source(request.clone()));
        }
    });
    let tokens = measure(|| {
        runtime.block_on(async {
            for request in &requests {
                let token = cache.source(request.clone()).token().await;
                assert_eq!(token.expect("a token").expose_secret().len(), TOKEN);
                // Lets the task of the fetch end and free its memory.
                tokio::task::yield_now().await;
            }
        });
    });
    assert_eq!(cache.status().len() as u64, keys, "entries were evicted");
    (made, entries, tokens)
}

/// A token endpoint with typical responses: the raw response must not dominate the memory.
fn endpoint()
-> impl Service<TokenRequest, Response = TokenResponse, Error: Into<BoxError>, Future: Send>
+ Clone
+ Send
+ 'static {
    let numbers = Arc::new(AtomicU64::new(0));
    let http = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let answer = serde_json::json!({
            "access_token": format!("{number:0TOKEN$}"),
            "token_type": "Bearer",
            "expires_in": 3600,
            "scope": "api1",
        });
        let answer = Response::new(Full::<Bytes>::from(answer.to_string()));
        async { Ok::<_, BoxError>(answer) }
    });
    TokenEndpoint::new(
        http,
        "https://as.example/token",
        ClientAuthentication::client_secret_basic("client", "secret"),
    )
}
