//! Why a fetch through the store fails before anything is sent.

use std::time::Duration;

use crate::{
    authorization_server::token_endpoint::refusal::sign_in_required,
    error::{BoxError, ErrorCode, TokenError, TokenErrorBuilder, TokenErrorKind},
};

/// An error before anything was sent. Trying again at once would not help.
fn transient(message: &'static str) -> TokenErrorBuilder {
    TokenError::builder(TokenErrorKind::Service)
        .message(message)
        .retry_after(Duration::from_secs(1))
        .before_sending()
}

pub(super) fn paused(rest: Duration) -> TokenError {
    let message = "the authorization server told another instance of this service to wait, or has failed there; all instances wait before one \
                   of them tries again";
    transient(message).retry_after(rest).build()
}

pub(super) fn store_needed(error: BoxError) -> TokenError {
    let message = "the token store is not available; it is required for refresh tokens, so that only one instance sends them";
    transient(message).source(error).build()
}

pub(super) fn held_for_long() -> TokenError {
    transient(
        "timed out waiting for another instance of this service that is using the refresh token",
    )
    .build()
}

pub(super) fn of_another_key() -> TokenError {
    let message = "the refresh token in the token store is encrypted with a key that this instance does not have, or by another version of \
                   this crate; give this instance the other key with `StoreKeys::opens`";
    transient(message).build()
}

pub(super) fn refused_elsewhere() -> TokenError {
    let message = "the authorization server refused the refresh token when another instance of this service sent it";
    let refused = TokenError::builder(TokenErrorKind::ErrorResponse)
        .message(message)
        .error_response(ErrorCode::INVALID_GRANT)
        .before_sending();
    sign_in_required(refused.build())
}

pub(super) fn damaged() -> TokenError {
    let message = "the refresh token in the token store is damaged; an instance that has it will replace it, and after an hour this instance \
                   sends its own";
    transient(message).build()
}
