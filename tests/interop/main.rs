//! Tests against real servers. `tests/run` starts them and names them in the environment.

mod browser;
mod glewlwyd;
mod grpcio;
mod nginx;
mod oidc_provider;
mod support;

/// What `tests/run` says about a running server.
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: `tests/run` starts the servers and runs these tests")
    })
}
