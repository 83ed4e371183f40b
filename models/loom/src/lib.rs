//! Model checks: the files under `src/` as they are, compiled with loom's primitives.
//!
//! loom runs each model under every interleaving of its threads, and lets each load return every value that the memory orders allow.
//! A model fails on a failed assertion, or if all threads wait forever. [`base::sync`] lists what it assumes of the
//! real primitives.
//!
//! `cargo test --release` here takes seconds. `LOOM_MAX_PREEMPTIONS=N` sets how often a model may preempt its threads instead of the
//! number that stands in the model; `LOOM_MAX_PREEMPTIONS=none` sets no bound.

mod base;
mod driven;
mod single_flight;
mod token_cache;

pub use self::{driven::*, single_flight::*, token_cache::*};

/// Runs a model whose threads may be preempted at most `preemptions` times in total.
fn model(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = std::env::var("LOOM_MAX_PREEMPTIONS");
    builder.preemption_bound = match bound.as_deref() {
        Ok("none") => None,
        Ok(bound) => Some(bound.parse().expect("a number or none")),
        Err(_) => Some(preemptions),
    };
    builder.check(model);
}
