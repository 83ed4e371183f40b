//! Tests against real servers. `tests/run` starts the servers and passes their settings in environment variables.

mod browser;
mod doorkeeper;
mod fleet;
mod glewlwyd;
mod grpcio;
mod nginx;
mod oidc_provider;
mod redis;
mod support;

/// Returns a setting of a running server, which `tests/run` puts into the environment.
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: `tests/run` starts the servers and runs these tests")
    })
}
