//! Tower middleware that gets OAuth 2.0 access tokens and adds them to outgoing HTTP and gRPC requests.
//!
//! 1. [`TokenEndpoint`] is a [`Service`](tower_service::Service) for the token endpoint of an OAuth 2.0 or OpenID Connect server. It
//!    turns a [`TokenRequest`] into an HTTP request, sends it through any HTTP client that is a tower service, and turns the response
//!    into a [`TokenResponse`] or a [`TokenError`]. [`discover`](TokenEndpoint::discover) finds the token endpoint of an issuer.
//! 2. [`AddAccessTokenLayer`] wraps an outbound client and adds the token of a [`TokenSource`] to each request to the origins that you
//!    name. The source belongs to a [`TokenCache`], which fetches a token once, shares it, and renews it before it expires.
//!
//! [`RevocationEndpoint`] revokes an access token or a refresh token.
//!
//! You can use either without the other. Both run over any client: hyper-util's, tonic's `Channel`, reqwest through an adapter, or a
//! function.
//!
//! # Fetch one token
//!
//! ```
//! use tower::ServiceExt;
//! use tower_oauth2_client::{BoxError, ClientAuthentication, TokenEndpoint, TokenRequest};
//! # use tower_oauth2_client::HttpsClient;
//!
//! # async fn example() -> Result<(), BoxError> {
//! # let http = HttpsClient::new()?;
//! let endpoint = TokenEndpoint::new(
//!     http,
//!     "https://as.example/token".parse()?,
//!     ClientAuthentication::client_secret_basic("client", "secret"),
//! );
//! let response = endpoint.oneshot(TokenRequest::client_credentials().scope("api1")).await?;
//! let token = response.access_token();
//! # Ok(())
//! # }
//! ```
//!
//! # Add a token to every request
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_oauth2_client::{AddAccessTokenLayer, TokenCache, TokenRequest};
//! # use tower_oauth2_client::{HttpsClient, TokenEndpoint};
//!
//! # fn example(
//! #     http: HttpsClient,
//! #     endpoint: TokenEndpoint<HttpsClient>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = TokenCache::new(endpoint);
//! let source = tokens.source(TokenRequest::client_credentials().scope("api1"));
//! let api = ServiceBuilder::new()
//!     .layer(AddAccessTokenLayer::new(source).origin("https://api.example")?)
//!     .service(http);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! None is enabled by default. A feature only adds items; it never changes behavior, with two exceptions: `tower-http` adds a check, and
//! `tonic` gives the errors of gRPC requests a status.
//!
//! * `retry`: [`token_endpoint::RetryTransient`], a policy for tower's `Retry`
//! * `rustls`: [`HttpsClient`], a ready-made hyper-util client over rustls, and [`ClientCertificate`], mutual TLS with certificates
//!   that rotate
//! * `reqwest`: [`ReqwestService`], an adapter that makes `reqwest::Client` (0.13) a service for `http` requests, and
//!   [`BufferBody::reqwest`](add_access_token::BufferBody::reqwest)
//! * `reqwest-middleware`: [`AddAccessTokenLayer`] is a middleware of the crate `reqwest-middleware` (0.5)
//! * `tonic`: a [gRPC status](add_access_token#grpc) for requests without a token, for clients of tonic (0.14), and
//!   [`BufferBody::tonic`](add_access_token::BufferBody::tonic)
//! * `tower-http`: [`TokenEndpoint`] [notices](TokenEndpoint#security) that tower-http's `FollowRedirect` below it has followed a
//!   redirect
//! * `jwt`: [`jwt`], client authentication with a JWT that is signed by a local or a remote key:
//!   [`ClientAuthentication::private_key_jwt`] and [`ClientAuthentication::client_secret_jwt`]; also how to follow FAPI 2.0
//! * `dpop`: [`DpopKey`], tokens that are bound to a key, with a proof on each request
//! * `test-util`: [`test_util`], an authorization server and clocks for tests
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::dbg_macro
    )
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod add_access_token;
mod authorization_server;
mod base;
mod client_authentication;
mod dpop;
mod error;
mod http_client;
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub mod jwt;
mod message;
mod secret;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;
pub mod token_cache;

#[cfg(feature = "dpop")]
#[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
pub use self::dpop::DpopKey;
#[cfg(feature = "rustls")]
#[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
pub use self::http_client::{
    ClientCertificate, HttpsClient, HttpsClientBuilder, HttpsFuture, InvalidClientCertificate,
    RootCertificates,
};
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub use self::http_client::{ReqwestFuture, ReqwestService};
pub use self::{
    add_access_token::{layer::AddAccessTokenLayer, service::AddAccessToken},
    authorization_server::{
        metadata::ServerMetadata,
        revocation::{self, service::RevocationEndpoint},
        token_endpoint::{self, service::TokenEndpoint},
    },
    base::clock::Clock,
    client_authentication::ClientAuthentication,
    error::{BoxError, ErrorCode, ErrorResponse, NotSent, TokenError, TokenErrorKind},
    message::{
        AccessToken, InvalidAccessToken, InvalidScope, NoAccessToken, RevocationRequest, Scope,
        TokenRequest, TokenResponse, TokenResponseBuilder, TokenType,
    },
    secret::{ClientSecret, Credential, IdToken, RefreshToken},
    token_cache::{TokenCache, refresh_window::RefreshWindow, source::TokenSource},
};

/// Longer documents about the crate.
#[cfg(any(doc, doctest))]
pub mod _documentation {
    #[doc = include_str!("../docs/design.md")]
    pub mod design {}
}

#[cfg(all(doctest, feature = "dpop", feature = "retry", feature = "rustls"))]
#[doc = include_str!("../README.md")]
struct Readme;
