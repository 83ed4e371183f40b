//! Model checks: the crate as it is, compiled with the primitives of shuttle and its tokio.
//!
//! shuttle runs each model under many random schedules of its tasks. A model fails on a failed assertion, and when all tasks wait and
//! nobody wakes them. Weak memory orders are the business of `../loom`.
//!
//! `cargo test --release` here takes seconds. `SHUTTLE_ITERATIONS=N` sets how many schedules of each kind a model runs under. Time does
//! not pass by itself: a model moves the clock, and lets timeouts expire.

#[allow(dead_code, unused_imports)]
#[path = "../../../src/add_access_token/mod.rs"]
pub mod add_access_token;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/authorization_server/mod.rs"]
mod authorization_server;
#[allow(dead_code, unused_imports)]
mod base;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/client_authentication/mod.rs"]
mod client_authentication;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/dpop/mod.rs"]
mod dpop;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/error/mod.rs"]
mod error;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/message/mod.rs"]
mod message;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/secret/mod.rs"]
mod secret;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/token_cache/mod.rs"]
pub mod token_cache;

pub use self::{
    add_access_token::{layer::AddAccessTokenLayer, service::AddAccessToken},
    authorization_server::{
        http_service::HttpService,
        metadata::ServerMetadata,
        token_endpoint::{self, service::TokenEndpoint},
    },
    base::clock::Clock,
    client_authentication::ClientAuthentication,
    error::{BoxError, ErrorCode, ErrorResponse, NotSent, TokenError, TokenErrorKind},
    message::*,
    secret::{ClientSecret, Credential, IdToken, RefreshToken},
    token_cache::{TokenCache, refresh_window::RefreshWindow, source::TokenSource},
};

mod cache_models;
mod discovery_models;
mod limit_models;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use shuttle::{
    Config, MaxSteps, Runner,
    rand::{Rng, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
};

pub use self::{cache_models::*, discovery_models::*, limit_models::*};

/// Runs a model under random schedules, and under schedules that have few but well-placed preemptions.
fn model<F: Future<Output = ()>>(model: impl Fn() -> F + Clone + Send + Sync + 'static) {
    let iterations = std::env::var("SHUTTLE_ITERATIONS").map_or(ITERATIONS, |iterations| {
        iterations.parse().expect("a number")
    });
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(20_000);
    let run = move || {
        base::clock::reset();
        tokio::time::clear_triggers();
        // The jitter must not differ when a schedule is replayed.
        fastrand::seed(7);
        shuttle::future::block_on(model());
    };
    Runner::new(RandomScheduler::new(iterations), config.clone()).run(run.clone());
    Runner::new(PctScheduler::new(3, iterations), config).run(run);
}

const ITERATIONS: usize = 10_000;

/// Polls a future a random number of times at most, then drops it.
async fn polled_at_random<F: Future>(future: F) -> Option<F::Output> {
    let mut left = thread_rng().gen_range(0..5);
    let mut future = pin!(future);
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Lets other tasks run a random number of times.
async fn pause() {
    for _ in 0..thread_rng().gen_range(0..4) {
        tokio::task::yield_now().await;
    }
}
