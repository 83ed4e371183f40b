use axum::body::Body;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tower_oauth2_client::{ClientAuthentication, TokenCache, TokenEndpoint};

pub fn tokens(http: Client<HttpConnector, Body>, client: ClientAuthentication) -> TokenCache {
    TokenCache::new(TokenEndpoint::discover(http, "https://as.example", client))
}
