//! Rotation of a client secret while a cache uses it.
#![allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; tests measure tokio's clock"
)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, ErrorCode, TokenCache, TokenEndpoint, TokenRequest,
    TokenSource, test_util::AuthorizationServer,
};

/// Returns a provider that returns the secrets in order and then repeats the last one.
fn provider(secrets: &'static [&'static str]) -> (Credential, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = reads.clone();
    let credential = Credential::from_fn(move || {
        let index = count.fetch_add(1, Ordering::Relaxed);
        let secret = secrets[index.min(secrets.len() - 1)];
        async move { Ok::<_, BoxError>(secret.to_owned()) }
    });
    (credential, reads)
}

fn source(server: &AuthorizationServer, client: ClientAuthentication) -> TokenSource {
    let endpoint: TokenEndpoint<_> =
        TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    TokenCache::new(endpoint).source(TokenRequest::client_credentials())
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_is_read_again_and_the_fetch_succeeds_at_once() {
    for method in [
        ClientAuthentication::client_secret_basic,
        ClientAuthentication::client_secret_basic_raw,
        ClientAuthentication::client_secret_post,
    ] {
        let server = AuthorizationServer::builder()
            .client("client", "new")
            .build();
        // Read for the first request, after the refusal, and for the second request.
        let (secret, reads) = provider(&["old", "new"]);
        let before = tokio::time::Instant::now();
        source(&server, method("client", secret))
            .token()
            .await
            .unwrap();
        assert_eq!(server.token_requests(), 2);
        assert_eq!(reads.load(Ordering::Relaxed), 3);
        assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_that_was_not_rotated_is_sent_once() {
    let server = AuthorizationServer::new();
    let (secret, reads) = provider(&["wrong"]);
    let client = ClientAuthentication::client_secret_basic("client", secret);
    let error = source(&server, client).token().await.unwrap_err();
    assert_eq!(
        *error.error_response().unwrap().code(),
        ErrorCode::INVALID_CLIENT
    );
    assert_eq!(server.token_requests(), 1);
    assert_eq!(reads.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_retried_only_once_if_the_rotated_secret_is_wrong_too() {
    let server = AuthorizationServer::new();
    let (secret, _) = provider(&["wrong", "wrong too", "and this", "and this too"]);
    let client = ClientAuthentication::client_secret_basic("client", secret);
    source(&server, client).token().await.unwrap_err();
    assert_eq!(server.token_requests(), 2);
}
