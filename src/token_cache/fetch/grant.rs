//! What a fetch sends, and that it does not send a one-time credential twice.
//!
//! A code, a device code, an `auth_req_id` and a refresh token are one-time credentials. A source over one of them continues with the
//! refresh token of the last response, and ends for good when the server no longer accepts that.
//!
//! 1. A credential that the server exchanged for a token is not sent again: not by a source over an equal request, and not after the
//!    entry was evicted. [`SpentCredentials`] remembers it. A refresh token is exchanged if the server returned another one for it.
//! 2. A code is noted *before* it is sent, because its fetch may be lost. The note is taken back with proof that the server did not
//!    process the request.
//! 3. A refresh token whose fetch was lost is sent again, because there is nothing else to send. A device code is meant to be sent again.
//!
//! [`SpentCredentials`]: crate::token_cache::fetch::spent::SpentCredentials

use crate::token_cache::{builder::Settings, fetch::spent::Spent};
use crate::{
    error::{
        ErrorCode, ErrorResponse, TokenError,
        TokenErrorKind::{Request, SignInRequired},
    },
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
};

/// What the next fetch of an entry sends: the request itself, or the refresh token that replaced its credential. Pure.
pub(crate) struct GrantState {
    request: TokenRequest,
    is_one_time: bool,
    /// Set once the credential of the request has been exchanged for a token, and cannot be sent again.
    is_spent: bool,
    refresh_token: Option<RefreshToken>,
    /// Why no fetch can succeed any longer.
    end: Option<TokenError>,
}

impl GrantState {
    pub(crate) fn new(request: TokenRequest) -> Self {
        let is_comparable = request.extensions().is_empty();
        Self {
            is_one_time: request.carries_one_time_credential(),
            request,
            is_spent: false,
            refresh_token: None,
            end: (!is_comparable).then(uncacheable),
        }
    }

    /// Returns whether the request carries a credential that can be sent once, so that each response to it is the only one.
    pub(crate) fn is_one_time(&self) -> bool {
        self.is_one_time
    }

    /// Returns the request of the next fetch.
    pub(crate) fn next_request(&self) -> Result<TokenRequest, TokenError> {
        match (&self.end, &self.refresh_token) {
            (Some(end), _) => Err(end.clone()),
            (None, Some(refresh_token)) => Ok(self.request.continued_by(refresh_token.clone())),
            (None, None) if self.is_spent => Err(no_refresh_token()),
            (None, None) => Ok(self.request.clone()),
        }
    }

    /// Takes in the refresh token of a response. Without one, the old one stays in use (RFC 6749 §6).
    pub(crate) fn succeeded(&mut self, response: &TokenResponse) {
        if self.is_one_time {
            // A fetch that was thought to be lost may still land.
            self.end = None;
            self.is_spent = self.request.grant_type() != REFRESH_TOKEN;
            if let Some(refresh_token) = response.refresh_token() {
                self.refresh_token = Some(refresh_token.clone());
            }
        }
    }

    /// Remembers an error after which no attempt can succeed, and returns it as `SignInRequired`. Returns any other error unchanged.
    pub(crate) fn failed(&mut self, error: TokenError) -> TokenError {
        let end = if !self.is_one_time {
            return error;
        } else if error.kind() == SignInRequired {
            // The credential was spent before. A provider may return another one later.
            if self.refresh_token.is_none() && !self.request.has_known_one_time_credential() {
                return error;
            }
            error
        } else if is_refused(&error)
            || (self.refresh_token.is_none() && may_have_spent_a_code(&self.request, &error))
        {
            sign_in_required(error)
        } else {
            return error;
        };
        self.end = Some(end.clone());
        end
    }
}

/// Sends a request with a one-time credential, unless the credential must not be sent again.
///
/// A credential from a provider is obtained first, because providers are not compared by what they return.
pub(crate) async fn send_once(
    settings: &Settings,
    request: &TokenRequest,
) -> Result<TokenResponse, TokenError> {
    let request = request.with_known_one_time_credential().await;
    let request = request.map_err(TokenError::credential)?;
    let (spent, clock) = (&settings.spent, &settings.clock);
    let digest = spent.digest(&request);
    let is_code = request.grant_type() == AUTHORIZATION_CODE;
    let before = if is_code {
        spent.claim(digest, clock.now())
    } else {
        spent.find(digest, clock.now())
    };
    if let Some(before) = before {
        return Err(spent_before(&request, before));
    }
    let result = settings.endpoint.call(request.clone()).await;
    let now = clock.now();
    match &result {
        Ok(response) if is_exchanged(&request, response) => {
            spent.note(digest, Spent::Used, now);
            if let Some(next) = response.refresh_token() {
                // A server may issue a refresh token that it had replaced before.
                spent.forget(spent.digest(&request.continued_by(next.clone())));
            }
        }
        Err(error) if is_refused(error) => spent.note(digest, Spent::Refused, now),
        Err(error) if is_code && !may_have_spent_a_code(&request, error) => spent.forget(digest),
        _ => {}
    }
    result
}

/// Returns whether the credential of a request is no longer of use after this response.
fn is_exchanged(request: &TokenRequest, response: &TokenResponse) -> bool {
    request.grant_type() != REFRESH_TOKEN
        || response
            .refresh_token()
            .is_some_and(|next| request.known(REFRESH_TOKEN) != Some(next.expose_secret()))
}

/// Returns whether the server says that the credential itself is not valid.
fn is_refused(error: &TokenError) -> bool {
    !error.is_transient()
        && matches!(
            error.error_response().map(ErrorResponse::code),
            Some(&(ErrorCode::INVALID_GRANT | ErrorCode::EXPIRED_TOKEN | ErrorCode::ACCESS_DENIED))
        )
}

/// Returns whether the server may have accepted a code although no response says so.
///
/// Sending the code again would revoke the tokens of the first time (RFC 6749 §4.1.2).
fn may_have_spent_a_code(request: &TokenRequest, error: &TokenError) -> bool {
    request.grant_type() == AUTHORIZATION_CODE
        && error.is_transient()
        && error.may_have_been_processed()
}

const AUTHORIZATION_CODE: &str = "authorization_code";
const REFRESH_TOKEN: &str = "refresh_token";

fn sign_in_required(error: TokenError) -> TokenError {
    TokenError::new(SignInRequired, NOT_ACCEPTED, Some(error.into()))
}

const NOT_ACCEPTED: &str =
    "the user has to sign in again: the server no longer accepts the code or the refresh token";

fn no_refresh_token() -> TokenError {
    let message = "the user has to sign in again: the access token is no longer usable, and the server issued no refresh token; \
                   request one (often with the scope `offline_access`)";
    TokenError::new(SignInRequired, message, None)
}

fn spent_before(request: &TokenRequest, spent: Spent) -> TokenError {
    let message = match spent {
        Spent::Refused => NOT_ACCEPTED,
        Spent::Used if request.grant_type() == REFRESH_TOKEN => {
            "the server has replaced this refresh token with a newer one: make the source from the newest refresh token, with which \
             `TokenCacheBuilder::on_refresh_token` was called; if it was not stored, the user has to sign in again"
        }
        Spent::Used => {
            "this code was used before and cannot be used again: make the source from the newest refresh token, with which \
             `TokenCacheBuilder::on_refresh_token` was called; if there is none, the user has to sign in again"
        }
    };
    TokenError::new(SignInRequired, message, None)
}

fn uncacheable() -> TokenError {
    let message = "a token request with extensions cannot be cached, because extensions cannot be compared; send it to the \
                   token endpoint directly";
    TokenError::new(Request, message, None)
}
