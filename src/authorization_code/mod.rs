//! The sign-in of a user in a browser: authorization codes with PKCE (feature `authorization-code`).
//!
//! 1. [`TokenEndpoint::begin_authorization`](crate::TokenEndpoint::begin_authorization) turns an [`AuthorizationRequest`] into a URL and a
//!    [`PendingAuthorization`]. Send the browser of the user to the URL.
//! 2. The user signs in at the authorization server, and returns to the redirect URI with an [`AuthorizationResponse`].
//! 3. [`PendingAuthorization::accept`] checks the response and returns a [`TokenRequest`](crate::TokenRequest).
//! 4. A [`TokenCache`](crate::TokenCache) redeems the code, and from then on renews the tokens with the refresh token.
//!
//! This crate contains no HTTP server: the redirect URI is a route of your web application, or a listener on this machine
//! ([RFC 8252 §7.3](https://www.rfc-editor.org/rfc/rfc8252#section-7.3)). The example `login` is a command-line program with such a listener.
//!
//! ```
//! use tower_oauth2_client::{
//!     BoxError, ClientAuthentication, HttpsClient, TokenCache, TokenEndpoint, TokenSource,
//!     authorization_code::{AuthorizationRequest, AuthorizationResponse, PendingAuthorization},
//! };
//!
//! struct App {
//!     endpoint: TokenEndpoint<HttpsClient>,
//!     tokens: TokenCache,
//! }
//!
//! impl App {
//!     fn new(http: HttpsClient) -> Self {
//!         let client = ClientAuthentication::client_secret_basic("client", "secret");
//!         let endpoint = TokenEndpoint::discover(http, "https://as.example", client);
//!         Self { tokens: TokenCache::new(endpoint.clone()), endpoint }
//!     }
//!
//!     /// The route to which the user goes to sign in. Redirect to the URL, and keep the rest in the session of the browser.
//!     async fn sign_in(&self) -> Result<(String, PendingAuthorization), BoxError> {
//!         let request = AuthorizationRequest::new("https://app.example/callback")
//!             .scope("openid offline_access orders");
//!         Ok(self.endpoint.begin_authorization(request).await?)
//!     }
//!
//!     /// The route of the redirect URI. `pending` has been removed from the session of the browser.
//!     async fn callback(
//!         &self,
//!         mut pending: PendingAuthorization,
//!         query: &str,
//!     ) -> Result<TokenSource, BoxError> {
//!         let request = pending.accept(&AuthorizationResponse::from_query(query))?;
//!         let source = self.tokens.source(request);
//!         source.token().await?; // redeems the code
//!         Ok(source)
//!     }
//! }
//! ```
//!
//! # Who the user is
//!
//! With the scope `openid`, the response to the token request contains an ID token. It is checked before the response is returned: see
//! [`IdTokenChecks`](crate::IdTokenChecks). To read it, let the cache keep it:
//!
//! ```
//! use tower_oauth2_client::{
//!     BoxError, HttpsClient, IdTokenClaims, TokenCache, TokenEndpoint, TokenSource,
//! };
//!
//! fn tokens(endpoint: TokenEndpoint<HttpsClient>) -> TokenCache {
//!     TokenCache::builder(endpoint).keep_members(["id_token"]).build()
//! }
//!
//! async fn user(source: &TokenSource) -> Result<String, BoxError> {
//!     let token = source.token().await?;
//!     let claims = IdTokenClaims::unverified(token.id_token()?).ok_or("the ID token is malformed")?;
//!     Ok(claims.sub().ok_or("the ID token names nobody")?.to_owned())
//! }
//! ```
//!
//! Without a cache, send the token request to the [`TokenEndpoint`](crate::TokenEndpoint) and read
//! [`TokenResponse::id_token`](crate::TokenResponse::id_token). More about the user comes from
//! [`TokenEndpoint::userinfo`](crate::TokenEndpoint::userinfo).
//!
//! # After a restart
//!
//! A user stays signed in if you store the refresh token. This crate stores nothing: [`on_refresh_token`] passes you each new one. After a
//! restart, begin with the stored one, and with a sign-in only if the server no longer accepts it:
//!
//! ```
//! use std::path::{Path, PathBuf};
//! use tower_oauth2_client::{
//!     BoxError, Credential, HttpsClient, RefreshToken, TokenCache, TokenEndpoint, TokenErrorKind,
//!     TokenRequest, TokenSource,
//! };
//!
//! fn tokens(endpoint: TokenEndpoint<HttpsClient>, file: PathBuf) -> TokenCache {
//!     TokenCache::builder(endpoint)
//!         .on_refresh_token(move |_: TokenRequest, token| store(file.clone(), token))
//!         .build()
//! }
//!
//! /// Replaces the file, which only its owner may read. The example `device` shows how.
//! async fn store(file: PathBuf, token: RefreshToken) {
//!     # let _ = (file, token);
//! }
//!
//! /// Returns `None` if the user has to sign in.
//! async fn signed_in(tokens: &TokenCache, file: &Path) -> Result<Option<TokenSource>, BoxError> {
//!     if !file.exists() {
//!         return Ok(None);
//!     }
//!     let source = tokens.source(TokenRequest::refresh_token(Credential::file(file)));
//!     match source.warm_up().await {
//!         Ok(()) => Ok(Some(source)),
//!         Err(error) if error.kind() == TokenErrorKind::SignInRequired => Ok(None),
//!         Err(error) => Err(error.into()),
//!     }
//! }
//! ```
//!
//! [`on_refresh_token`]: crate::token_cache::TokenCacheBuilder::on_refresh_token
//!
//! # What is checked
//!
//! | threat | what prevents it |
//! |---|---|
//! | somebody signs the user in as somebody else (CSRF) | `state`, compared in constant time; a [`PendingAuthorization`] belongs to one browser |
//! | a stolen code | PKCE with `S256` (RFC 7636); with a DPoP key also `dpop_jkt` (RFC 9449 §10) |
//! | a code or ID token of another sign-in is injected | PKCE, `nonce` |
//! | a response of another server (mix-up) | `iss` (RFC 9207), for codes and for errors; the code is not sent to the endpoint of another issuer |
//! | a server that ignores PKCE | metadata that does not list `S256` is refused |
//! | a request that is changed on its way | it is pushed (RFC 9126) if the server supports it |
//! | a second response | it is refused; a [`TokenCache`](crate::TokenCache) does not redeem a code twice either |

mod begin;
mod endpoint;
mod error;
mod pending;
mod pkce;
mod response;
mod stored;
mod url;

pub use self::{
    endpoint::AuthorizationEndpoint,
    error::{AuthorizationError, AuthorizationErrorKind},
    pending::PendingAuthorization,
    response::AuthorizationResponse,
};
#[doc(inline)]
pub use crate::message::AuthorizationRequest;
