//! An authorization server and clocks for tests.
//!
//! ```rust,test_harness
//! use tower_oauth2_client::{
//!     BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
//!     test_util::AuthorizationServer,
//! };
//!
//! #[tokio::test]
//! async fn token_is_fetched_once() -> Result<(), BoxError> {
//!     let server = AuthorizationServer::new();
//!     let client = ClientAuthentication::client_secret_basic("client", "secret");
//!     let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
//!     let tokens = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
//!
//!     tokens.token().await?;
//!     tokens.token().await?;
//!     assert_eq!(server.token_requests(), 1);
//!     Ok(())
//! }
//! ```
//!
//! The guide [testing your service](crate::_documentation::testing) has a whole test for each situation: outages, expired tokens, a 401,
//! DPoP.
//!
//! [`AuthorizationServer`] is an OAuth 2.0 authorization server that follows the RFCs, checks what it receives, and
//! fails on request. It is a tower [`Service`](https://docs.rs/tower-service/0.3/tower_service/trait.Service.html) for tests in process, with or without paused time. It can also
//! listen on loopback for tests with a real HTTP client: [`AuthorizationServer::start`].
//!
//! Use it in tests only: it is not hardened, and it keeps every request it receives.
//!
//! # In process
//!
//! ```
//! use http::{Request, StatusCode, header::CONTENT_TYPE};
//! use tower::ServiceExt;
//! use tower_oauth2_client::test_util::AuthorizationServer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = AuthorizationServer::new(); // knows one client: `client` with the secret `secret`
//!
//! let request = Request::post(server.token_endpoint())
//!     .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
//!     .header("authorization", "Basic Y2xpZW50OnNlY3JldA==")
//!     .body("grant_type=client_credentials&scope=api1".to_owned())?;
//! let response = server.clone().oneshot(request).await?;
//!
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(server.token_requests(), 1);
//! assert_eq!(server.requests()[0].get("scope"), Some("api1"));
//! # Ok(())
//! # }
//! ```
//!
//! # On loopback
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::{BodyExt, Full};
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use tower_oauth2_client::test_util::AuthorizationServer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = AuthorizationServer::start().await?; // stops when dropped
//!
//! let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
//! let metadata = server.uri("/.well-known/oauth-authorization-server");
//! let response = http.get(metadata).await?.into_body().collect().await?.to_bytes();
//! let metadata: serde_json::Value = serde_json::from_slice(&response)?;
//! assert_eq!(metadata["issuer"], server.issuer());
//! assert_eq!(metadata["token_endpoint"], server.token_endpoint().to_string());
//! # Ok(())
//! # }
//! ```
//!
//! # Failures
//!
//! ```
//! use std::time::Duration;
//!
//! use tower_oauth2_client::test_util::{AuthorizationServer, Failure};
//!
//! let server = AuthorizationServer::new();
//! server.fail_next(Failure::status(503).retry_after(Duration::from_secs(1)));
//! server.fail_next_n(2, Failure::drop_connection());
//! server.fail_when(|request| {
//!     (request.get("scope") == Some("reports")).then(|| Failure::oauth("invalid_scope"))
//! });
//! server.fail_until_told(Failure::delay(Duration::from_secs(20)));
//! server.recover(); // forgets all requested failures
//! ```
//!
//! # An API that accepts its tokens
//!
//! [`check_bearer`](AuthorizationServer::check_bearer) lets the API in a test accept exactly the tokens that are valid
//! at that moment. [`revoke_all`](AuthorizationServer::revoke_all) revokes them:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode, header::AUTHORIZATION};
//! use http_body_util::Full;
//! use tower::{ServiceExt, service_fn};
//! use tower_oauth2_client::test_util::AuthorizationServer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = AuthorizationServer::new();
//! let checked = server.clone();
//! let api = service_fn(move |request: Request<Full<Bytes>>| {
//!     let response = match checked.check_bearer(request.headers()) {
//!         Ok(()) => Response::new(Full::from("hello")),
//!         Err(refusal) => refusal,
//!     };
//!     async move { Ok::<_, std::convert::Infallible>(response) }
//! });
//!
//! let token = server.issue_access_token("client", "api1");
//! let request = || Request::get("/").header(AUTHORIZATION, format!("Bearer {token}"));
//! let response = api.clone().oneshot(request().body(Full::default())?).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//!
//! server.revoke_all();
//! let response = api.oneshot(request().body(Full::default())?).await?;
//! assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
//! # Ok(())
//! # }
//! ```
//!
//! # DPoP
//!
//! With the feature `dpop`, the server checks the DPoP proofs of token requests and issues tokens that are bound to their keys (RFC 9449).
//! `check_dpop` checks both for an API. `demand_dpop_nonces` and `rotate_dpop_nonces` make clients use nonces.
//!
//! # Time
//!
//! Lifetimes and intervals are counted by the clock of the server, [`AuthorizationServer::clock`]. It follows tokio's clock: while that is
//! paused, a test advances it with `tokio::time::advance`, and tokens expire. A cache that is built while tokio's clock is paused does
//! the same. Without paused time, pass the clock to the cache and move it, so that tokens expire in both:
//!
//! ```
//! use std::time::Duration;
//!
//! use tower_oauth2_client::{TokenCache, TokenEndpoint, test_util::AuthorizationServer};
//!
//! # fn example(server: AuthorizationServer, endpoint: TokenEndpoint<AuthorizationServer>) {
//! let cache = TokenCache::builder(endpoint).clock(server.clock()).build();
//! server.clock().advance(Duration::from_secs(3600));
//! # }
//! ```
//!
//! Delays and other timers are counted by tokio's clock only. A [`ManualClock`] can also move the two clocks of a cache apart.

mod answer;
mod api;
mod authorization;
mod authorization_code;
mod body;
mod builder;
mod client;
#[cfg(feature = "jwt")]
mod client_assertion;
#[cfg(feature = "dpop")]
mod dpop;
mod endpoints;
mod failure;
mod form;
mod grants;
#[cfg(feature = "jwt")]
mod jws;
mod listen;
mod manual_clock;
mod openid;
mod polling;
mod recorded;
mod refresh_token;
mod script;
mod server;
mod service;
mod state;
mod token_exchange;
#[cfg(feature = "token-store")]
#[cfg_attr(docsrs, doc(cfg(feature = "token-store")))]
pub mod token_store;

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Uri, uri::PathAndQuery};

pub use self::{
    authorization_code::AuthorizationCode, body::ResponseBody, builder::AuthorizationServerBuilder,
    failure::Failure, listen::Listening, manual_clock::ManualClock, recorded::RecordedRequest,
    server::AuthorizationServer, service::ResponseFuture,
};
use self::{
    builder::Config,
    state::{IssuedCode, ServerState},
};

/// The base URI of a server that does not listen. Names under `.test` never resolve (RFC 6761 §6.2).
const IN_PROCESS: &str = "https://as.test";

/// The lock is never held across an await or while user code runs.
struct Core {
    config: Config,
    state: Mutex<ServerState>,
}

impl Core {
    fn issue_code(&self, code: AuthorizationCode) -> String {
        let mut state = self.lock();
        let name = state.new_credential("code");
        let issued = IssuedCode {
            family: state.new_family(),
            expires_at: state.after(code.lifetime),
            code,
            redeemed: false,
        };
        state.codes.insert(name.clone(), issued);
        name
    }

    fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_path(base: &Uri, path: &str) -> Uri {
    let mut parts = base.clone().into_parts();
    parts.path_and_query =
        Some(PathAndQuery::try_from(path).unwrap_or(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_else(|_| base.clone())
}
