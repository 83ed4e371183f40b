//! Fetches, caches and attaches OAuth 2.0 tokens for outbound HTTP and gRPC.
//!
//! 1. [`TokenEndpoint`] is a tower [`Service`] for the token endpoint of an OAuth 2.0 or OpenID Connect server. It turns a
//!    [`TokenRequest`] into an HTTP request, sends it through any HTTP client that is a tower service, and turns the response into a
//!    [`TokenResponse`] or a [`TokenError`]. [`discover`](TokenEndpoint::discover) finds the token endpoint of an issuer.
//! 2. [`AddAccessTokenLayer`] wraps an outbound client and adds the token of a [`TokenSource`] to each request to the origins that you
//!    name. The source belongs to a [`TokenCache`], which fetches a token once, shares it, and renews it before it expires.
//!
//! You can use either without the other. Both run over any client: [`HttpsClient`], hyper-util's, tonic's `Channel`, reqwest through
//! [`ReqwestService`], or a function. [`RevocationEndpoint`] revokes an access token or a refresh token, [`IntrospectionEndpoint`] asks whether one
//! is active, [`UserinfoEndpoint`] returns claims about its user, and [`RegistrationEndpoint`] registers a client. A program without a browser
//! signs its user in with [`DeviceAuthorizationEndpoint`], and a service asks a user on their telephone with
//! [`BackchannelAuthenticationEndpoint`]. [`authorization_code`] signs a user in with the browser.
//! [`authorize_anywhere`] gets in wherever an API says how.
//!
//! # Add a token to every request
//!
//! This program needs the feature `rustls`, and the crates `http`, `http-body-util`, `tokio` and `tower` (feature `util`).
//!
//! ```no_run
//! use http::Request;
//! use http_body_util::Full;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_oauth2_client::{
//!     AddAccessTokenLayer, BoxError, ClientAuthentication, Credential, HttpsClient, TokenCache,
//!     TokenEndpoint, TokenRequest, add_access_token::CloneBody,
//! };
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let http = HttpsClient::new()?;
//!     let endpoint = TokenEndpoint::new(
//!         http.clone(),
//!         "https://as.example/token",
//!         ClientAuthentication::client_secret_basic("client", Credential::env("CLIENT_SECRET")),
//!     );
//!     let tokens = TokenCache::new(endpoint);
//!     let source = tokens.source(TokenRequest::client_credentials().scope("orders"));
//!     let layer = AddAccessTokenLayer::new(source)
//!         .origin("https://api.example")? // only this origin gets the token
//!         .resend(CloneBody); // after a refusal, send the request again with a new token
//!     let mut api = ServiceBuilder::new().layer(layer).service(http);
//!
//!     // The first call fetches a token. The second call sends the same token and fetches none.
//!     for uri in ["https://api.example/orders/1", "https://api.example/orders/2"] {
//!         let request = Request::get(uri).body(Full::default())?;
//!         println!("{}", api.ready().await?.call(request).await?.status());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Fetch one token
//!
//! ```no_run
//! use tower::ServiceExt;
//! use tower_oauth2_client::{
//!     BoxError, ClientAuthentication, Credential, HttpsClient, TokenEndpoint, TokenRequest,
//! };
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let endpoint = TokenEndpoint::new(
//!         HttpsClient::new()?,
//!         "https://as.example/token",
//!         ClientAuthentication::client_secret_basic("client", Credential::env("CLIENT_SECRET")),
//!     );
//!     let response = endpoint.oneshot(TokenRequest::client_credentials().scope("orders")).await?;
//!     println!("expires in {:?}", response.expires_in());
//!     let token = response.access_token().expose_secret();
//!     println!("{} characters", token.len());
//!     Ok(())
//! }
//! ```
//!
//! # Guides
//!
//! * [Choosing a client, and the order of layers](_documentation::clients): programs for hyper-util, reqwest, tonic, axum, and for clients
//!   that take the text of a token, such as Kafka
//! * [Layers below the cache](_documentation::layers_below_the_cache): route each tenant to its own server, count, keep responses in a store
//! * [Testing your service](_documentation::testing)
//! * [What happens when things fail](_documentation::failures)
//! * [The sign-in of a user in a browser](authorization_code) (feature `authorization-code`)
//! * [An API that you do not know yet](_documentation::anywhere): agents, and clients of the Model Context Protocol
//! * [Without a shared secret](_documentation::without_a_shared_secret): signed assertions, DPoP, mutual TLS
//! * [FAPI 2.0](_documentation::fapi): a recipe, and each requirement with its tests
//! * [One token for a fleet](_documentation::fleet): instances that share their tokens through Redis
//! * [Coming from `oauth2`](_documentation::from_oauth2), with programs for the sign-in of a user and for a device login
//! * [What is supported, and how it compares](_documentation::compare)
//! * [Design](_documentation::design): the rules and their reasons
//!
//! # Features
//!
//! None is enabled by default. A feature only adds items; it never changes behavior, with two exceptions: `tower-http` adds a check, and
//! `tonic` gives the errors of gRPC requests a status, and lets no request wait beyond its deadline.
//!
//! | feature | adds |
//! |---|---|
//! | `retry` | [`token_endpoint::RetryTransient`], a policy for tower's `Retry` |
//! | `rustls` | [`HttpsClient`], a ready-made hyper-util client over rustls; [`ClientCertificate`], mutual TLS with certificates that rotate; [`RootCertificates`], a private CA that rotates |
//! | `reqwest` | [`ReqwestService`], an adapter that makes `reqwest::Client` (0.13) a service for `http` requests, and [`BufferBody::reqwest`](add_access_token::BufferBody::reqwest) |
//! | `reqwest-middleware` | [`AddAccessTokenLayer`] is a middleware of the crate `reqwest-middleware` (0.5); includes the feature `reqwest` |
//! | `tonic` | a [gRPC status](add_access_token#grpc) for requests without a token, and deadlines, for clients of tonic (0.14), and [`BufferBody::tonic`](add_access_token::BufferBody::tonic) |
//! | `tower-http` | [`TokenEndpoint`] [notices](TokenEndpoint#security) that tower-http's `FollowRedirect` below it has followed a redirect |
//! | `authorization-code` | [`authorization_code`], the sign-in of a user in a browser: PKCE, the URL, the response; [`PushedAuthorizationEndpoint`] |
//! | `jwt` | [`jwt`], client authentication with a JWT that is signed by a local or a remote key: [`ClientAuthentication::private_key_jwt`] and [`ClientAuthentication::client_secret_jwt`] |
//! | `dpop` | [`DpopKey`], tokens that are bound to a key, with a proof on each request |
//! | `token-store` | [`token_store`], tokens that the instances of a service share |
//! | `redis` | [`token_store::RedisTokenStore`], which shares them through Redis or Valkey; includes the feature `token-store` |
//! | `test-util` | [`test_util`], an authorization server and clocks for tests |
//!
//! [`Service`]: https://docs.rs/tower-service/latest/tower_service/trait.Service.html
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
#[cfg(feature = "authorization-code")]
#[cfg_attr(docsrs, doc(cfg(feature = "authorization-code")))]
pub mod authorization_code;
mod authorization_server;
pub mod authorize_anywhere;
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
#[cfg(feature = "token-store")]
#[cfg_attr(docsrs, doc(cfg(feature = "token-store")))]
pub mod token_store;

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
        backchannel_authentication::{self, service::BackchannelAuthenticationEndpoint},
        device_authorization::{self, service::DeviceAuthorizationEndpoint},
        http_service::HttpService,
        introspection::{self, service::IntrospectionEndpoint},
        issuer::Issuer,
        metadata::{DiscoverProtectedResource, ProtectedResource, ServerMetadata},
        polling::TokenPolling,
        registration::{self, service::RegistrationEndpoint},
        revocation::{self, service::RevocationEndpoint},
        token_endpoint::{self, service::TokenEndpoint},
        userinfo::{self, service::UserinfoEndpoint},
    },
    base::{clock::Clock, clone_service::CloneService},
    client_authentication::ClientAuthentication,
    error::{
        BoxError, ErrorCode, ErrorResponse, ErrorResponseBuilder, NotSent, TokenError,
        TokenErrorBuilder, TokenErrorKind,
    },
    message::{
        AccessToken, AuthorizationDetail, BackchannelAuthenticationRequest,
        BackchannelAuthenticationResponse, Challenge, ClientIdMetadataDocument, ClientMetadata,
        DeviceAuthorizationRequest, DeviceAuthorizationResponse, IdTokenChecks, IdTokenClaims,
        IntrospectionRequest, IntrospectionResponse, InvalidAccessToken, InvalidClientMetadata,
        InvalidScope, NoAccessToken, RegistrationRequest, RegistrationResponse, RevocationRequest,
        Scope, TokenRequest, TokenResponse, TokenResponseBuilder, TokenType, UserinfoRequest,
        UserinfoResponse,
    },
    secret::{AuthReqId, ClientSecret, Credential, DeviceCode, IdToken, RefreshToken},
    token_cache::{IssuedToken, TokenSources, refresh_window::RefreshWindow, source::TokenSource},
};
#[cfg(feature = "authorization-code")]
#[cfg_attr(docsrs, doc(cfg(feature = "authorization-code")))]
pub use self::{
    authorization_server::pushed_authorization::{self, service::PushedAuthorizationEndpoint},
    message::{PushedAuthorizationRequest, PushedAuthorizationResponse},
};
// `token_cache` is public, so rustdoc would only list a re-export.
#[doc(inline)]
pub use self::token_cache::TokenCache;

/// Guides, and longer documents about the crate.
#[cfg(any(doc, doctest))]
pub mod _documentation {
    #[cfg(any(doc, all(doctest, feature = "authorization-code", feature = "rustls")))]
    #[doc = include_str!("../docs/anywhere.md")]
    pub mod anywhere {}

    #[doc = include_str!("../docs/clients.md")]
    pub mod clients {}

    #[doc = include_str!("../docs/compare.md")]
    pub mod compare {}

    #[doc = include_str!("../docs/design.md")]
    pub mod design {}

    #[doc = include_str!("../docs/failures.md")]
    pub mod failures {}

    #[doc = include_str!("../docs/fapi.md")]
    pub mod fapi {}

    #[cfg(any(doc, all(doctest, feature = "redis", feature = "rustls")))]
    #[doc = include_str!("../docs/fleet.md")]
    pub mod fleet {}

    #[doc = include_str!("../docs/from-oauth2.md")]
    pub mod from_oauth2 {}

    #[doc = include_str!("../docs/layers-below-the-cache.md")]
    pub mod layers_below_the_cache {}

    #[doc = include_str!("../docs/without-a-shared-secret.md")]
    pub mod without_a_shared_secret {}

    #[cfg(any(doc, all(doctest, feature = "dpop", feature = "test-util")))]
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
