//! This crate.

use http::HeaderValue;
use tower::service_fn;
use tower_oauth2_client::{
    ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest, TokenSource,
};

use crate::{
    BoxError, Peer,
    endpoint::{CLIENT_ID, CLIENT_SECRET, Endpoint, SCOPE, URI},
};

#[derive(Clone)]
pub struct Ours(pub TokenSource);

impl Ours {
    pub fn new(endpoint: &Endpoint) -> Self {
        let endpoint = endpoint.clone();
        let http = service_fn(move |_| {
            let endpoint = endpoint.clone();
            async move { Ok::<_, BoxError>(endpoint.response().await) }
        });
        let client = ClientAuthentication::client_secret_basic(CLIENT_ID, CLIENT_SECRET);
        let tokens = TokenCache::new(TokenEndpoint::new(http, URI, client));
        Self(tokens.source(TokenRequest::client_credentials().scope(SCOPE)))
    }
}

impl Peer for Ours {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let token = self.0.token().await?;
        token
            .authorization()
            .cloned()
            .ok_or_else(|| "no header".into())
    }
}
