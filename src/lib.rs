//! Tower middleware for OAuth 2.0 clients.
//!
//! [`TokenEndpoint`] is a [`Service`](tower_service::Service) that turns a [`TokenRequest`] into an HTTP request to an
//! OAuth 2.0 or OpenID Connect token endpoint, sends it through any HTTP client that is a tower service, and turns the
//! answer into a [`TokenResponse`] or a [`TokenError`].
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

mod access_token;
pub mod add_access_token;
mod answer;
mod client_authentication;
mod clock;
mod credential;
mod error;
mod error_response;
#[cfg(feature = "tonic")]
mod grpc_status;
mod guard;
#[cfg(feature = "rustls")]
mod https_client;
mod printable;
#[cfg(feature = "reqwest")]
mod reqwest_service;
mod scope;
mod secret;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;
pub mod token_cache;
pub mod token_endpoint;
mod token_request;
mod token_response;

#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
pub use self::grpc_status::grpc_status;
#[cfg(feature = "rustls")]
#[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
pub use self::https_client::{HttpsClient, HttpsFuture};
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub use self::reqwest_service::{ReqwestFuture, ReqwestService};
pub use self::{
    access_token::{AccessToken, InvalidAccessToken, NoAccessToken, TokenType},
    add_access_token::{layer::AddAccessTokenLayer, service::AddAccessToken},
    client_authentication::ClientAuthentication,
    clock::Clock,
    credential::Credential,
    error::{BoxError, NotSent},
    error_response::{ErrorCode, ErrorResponse},
    scope::{InvalidScope, Scope},
    secret::{ClientSecret, IdToken, RefreshToken},
    token_cache::{TokenCache, refresh_window::RefreshWindow, source::TokenSource},
    token_endpoint::{
        error::{TokenError, TokenErrorKind},
        service::TokenEndpoint,
    },
    token_request::TokenRequest,
    token_response::{TokenResponse, TokenResponseBuilder},
};

#[cfg(all(doctest, feature = "retry", feature = "rustls"))]
#[doc = include_str!("../README.md")]
struct Readme;
