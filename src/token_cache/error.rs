//! What can go wrong around a fetch.

use std::time::Duration;

use crate::{
    error::{
        BoxError, TokenError,
        TokenErrorKind::{
            NoRuntime, Request, Service, SignInRequired, Timeout, UnsupportedTokenType,
        },
    },
    message::TokenType,
};

/// What a stack around the endpoint failed with: our own error somewhere below, or that of one of its layers.
pub(super) fn of_stack(source: BoxError) -> TokenError {
    match TokenError::find_in_chain(&*source) {
        Some(error) => error.clone(),
        None => TokenError::service("token endpoint", source),
    }
}

/// What a source lives on has ended, as the server said with `error`.
pub(super) fn sign_in_required(error: TokenError) -> TokenError {
    let message =
        "the user has to sign in again: the server takes the code or the refresh token no more";
    TokenError::new(SignInRequired, message, Some(error.into()))
}

/// What a source lives on has ended, since it was used and nothing came to go on with.
pub(super) fn no_refresh_token() -> TokenError {
    let message = "the user has to sign in again: the token is over, and the server gave no refresh token; \
                   ask for one (often by the scope `offline_access`)";
    TokenError::new(SignInRequired, message, None)
}

pub(super) fn uncacheable() -> TokenError {
    let message = "a token request with extensions cannot be cached, since they cannot be compared; send it to the \
                   token endpoint itself";
    TokenError::new(Request, message, None)
}

pub(super) fn timeout(limit: Duration) -> TokenError {
    TokenError::new(Timeout, format!("no token within {limit:?}"), None)
}

pub(super) fn arrived_over() -> TokenError {
    let message =
        "the token was over before it arrived; the token endpoint is too slow for its lifetime";
    TokenError::new(Timeout, message, None)
}

pub(super) fn panicked() -> TokenError {
    TokenError::new(Service, "the token client panicked", None)
}

pub(super) fn no_runtime() -> TokenError {
    let message = "there is no tokio runtime here to fetch a token on, or it is shutting down";
    TokenError::new(NoRuntime, message, None)
}

pub(super) fn unsupported_token_type(token_type: &TokenType) -> TokenError {
    let message = if *token_type == TokenType::DPOP {
        "a DPoP token cannot be sent without its key; set it by `TokenEndpoint::dpop` (feature `dpop`)".into()
    } else {
        format!(
            "a token of the type {token_type:?} cannot be sent; this crate sends Bearer and DPoP"
        )
    };
    TokenError::new(UnsupportedTokenType, message, None)
}
