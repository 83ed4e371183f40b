use tower_oauth2_client::{ClientAuthentication, TokenCache, TokenEndpoint};

pub fn tokens(http: reqwest::Client, client: ClientAuthentication) -> TokenCache {
    TokenCache::new(TokenEndpoint::discover(http, "https://as.example", client))
}
