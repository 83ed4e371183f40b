//! What the next fetch sends: the request itself, or the refresh token that came of it. Pure.
//!
//! A code, a device code, an `auth_req_id` and a refresh token can be sent once. A source over one of them goes on with the refresh
//! token of the last answer, and ends for good when the server takes it no more.

use super::error;
use crate::{
    error::{ErrorCode, ErrorResponse, TokenError},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
};

pub(super) struct Grant {
    request: TokenRequest,
    is_one_time: bool,
    was_sent: bool,
    is_spent: bool,
    refresh_token: Option<RefreshToken>,
    end: Option<TokenError>,
}

impl Grant {
    pub(super) fn new(request: TokenRequest) -> Self {
        let is_comparable = request.extensions().is_empty();
        Self {
            is_one_time: request.carries_one_time_credential(),
            request,
            was_sent: false,
            is_spent: false,
            refresh_token: None,
            end: (!is_comparable).then(error::uncacheable),
        }
    }

    /// Whether what this knows must not be forgotten: else a credential would be sent twice that can be sent once.
    pub(super) fn is_precious(&self) -> bool {
        self.is_one_time && self.was_sent
    }

    /// Whether an answer that nobody takes in is lost for good.
    pub(super) fn is_one_time(&self) -> bool {
        self.is_one_time
    }

    /// What to send next.
    pub(super) fn next(&mut self) -> Result<TokenRequest, TokenError> {
        self.was_sent = true;
        match (&self.end, &self.refresh_token) {
            (Some(end), _) => Err(end.clone()),
            (None, Some(refresh_token)) => Ok(self.request.continued_by(refresh_token.clone())),
            (None, None) if self.is_spent => Err(error::no_refresh_token()),
            (None, None) => Ok(self.request.clone()),
        }
    }

    /// Takes in the refresh token of an answer; one without leaves the old one in use (RFC 6749 §6).
    pub(super) fn succeeded(&mut self, response: &TokenResponse) {
        if self.is_one_time {
            let is_refresh = self.request.grant_type() == REFRESH_TOKEN;
            self.is_spent = !is_refresh;
            if let Some(refresh_token) = response.refresh_token() {
                self.refresh_token = Some(refresh_token.clone());
            }
        }
    }

    /// Notes an error that no later attempt can heal, and says so in the error.
    pub(super) fn failed(&mut self, error: TokenError) -> TokenError {
        let is_refused = !error.is_transient()
            && matches!(
                error.error_response().map(ErrorResponse::code),
                Some(ErrorCode::InvalidGrant | ErrorCode::ExpiredToken | ErrorCode::AccessDenied)
            );
        if !self.is_one_time || !(is_refused || self.may_be_spent(&error)) {
            return error;
        }
        let end = error::sign_in_required(error);
        self.end = Some(end.clone());
        end
    }
}

impl Grant {
    /// Whether the code was sent and may have been taken, though no answer says so. A second use would revoke what the first one
    /// brought (RFC 6749 §4.1.2). A refresh token is all there is, so it is sent again; a device code is made to be.
    fn may_be_spent(&self, error: &TokenError) -> bool {
        self.request.grant_type() == AUTHORIZATION_CODE
            && self.refresh_token.is_none()
            && error.is_transient()
            && error.may_have_been_processed()
    }
}

const AUTHORIZATION_CODE: &str = "authorization_code";
const REFRESH_TOKEN: &str = "refresh_token";
