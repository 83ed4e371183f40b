//! The token callback of a Kafka client (SASL/OAUTHBEARER, RFC 7628): what to write with the crate `rdkafka`.
//!
//! `rdkafka` builds a C library, so it is no dependency of this example. `OAuthToken` and `ClientContext` below have the same fields and
//! methods as those of `rdkafka` 0.39; in your program, import them instead.
//!
//! The callback is synchronous, and a task of the runtime may run it. So it must neither wait for a token nor call `block_on`. The cache
//! keeps the token warm in the background, and the callback takes what is there.

use std::{
    error::Error,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tower_oauth2_client::{
    BoxError, ClientAuthentication, HttpsClient, TokenCache, TokenEndpoint, TokenRequest,
    TokenSource, test_util::AuthorizationServer,
};

/// The context of a consumer or a producer, which authenticates it.
struct TokenContext {
    source: TokenSource,
    principal: String,
}

impl ClientContext for TokenContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// An error makes librdkafka ask again later.
    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let token = self
            .source
            .peek()
            .ok_or("there is no usable access token")?;
        let expires_at = token.expires_at().ok_or("the access token has no expiry")?;
        let lifetime = expires_at.duration_since(UNIX_EPOCH)?;
        Ok(OAuthToken {
            token: token.expose_secret().to_owned(),
            principal_name: self.principal.clone(),
            lifetime_ms: lifetime.as_millis().try_into()?,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!(
        "kafka: a client that asks for a token when 80 % of the lifetime of the last one have passed"
    );
    let lifetime = Duration::from_secs(4);
    let server = AuthorizationServer::builder().access_token_lifetime(lifetime);
    let server = server.start().await?;

    // An application only needs this part.
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let endpoint = TokenEndpoint::new(HttpsClient::new()?, server.token_endpoint(), client);
    let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    source.token().await?; // so that a wrong secret ends the program here
    source.keep_warm()?;
    let context = TokenContext {
        source,
        principal: "client".to_owned(),
    };
    // `ClientConfig::new().set("sasl.mechanism", "OAUTHBEARER")….create_with_context(context)`

    let polling = move || poll(&context, 3).map_err(|error| error.to_string());
    let staged = tokio::task::spawn_blocking(polling).await??;
    for (index, token) in staged.iter().enumerate() {
        assert!(!staged[..index].contains(token), "it was staged before");
    }
    println!("{} token requests", server.token_requests());
    Ok(())
}

/// What librdkafka does: it stages a token, and asks for the next one in time. Returns the staged tokens.
#[allow(clippy::disallowed_methods, reason = "the rule is for the library")]
fn poll<C: ClientContext>(context: &C, times: usize) -> Result<Vec<OAuthToken>, Box<dyn Error>> {
    assert!(C::ENABLE_REFRESH_OAUTH_TOKEN);
    let mut staged = Vec::new();
    while staged.len() < times {
        let token = match context.generate_oauth_token(None) {
            Ok(token) => token,
            Err(error) => {
                println!("asks again in a second: {error}");
                thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let expires_in =
            u64::try_from(token.lifetime_ms)?.saturating_sub(now.as_millis().try_into()?);
        println!(
            "{} stages a token of {} characters, which expires in {expires_in} ms",
            token.principal_name,
            token.token.len()
        );
        thread::sleep(Duration::from_millis(expires_in * 4 / 5));
        if staged.last() != Some(&token) {
            staged.push(token);
        }
    }
    Ok(staged)
}

/// `rdkafka::client::OAuthToken`.
#[derive(PartialEq)]
struct OAuthToken {
    token: String,
    principal_name: String,
    /// When the token expires, in milliseconds since 1970.
    lifetime_ms: i64,
}

/// The part of `rdkafka::client::ClientContext` that matters here.
trait ClientContext: Send + Sync + 'static {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = false;

    fn generate_oauth_token(
        &self,
        oauthbearer_config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn Error>>;
}
