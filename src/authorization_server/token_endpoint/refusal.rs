//! What a final refusal of a one-time credential means: whether its source ends, and whether it may be sent again. Pure.

use http::StatusCode;

use crate::{
    error::{ErrorCode, ErrorResponse, TokenError, TokenErrorKind},
    message::TokenRequest,
};

/// A credential that the server accepts only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OneTime {
    /// An authorization code.
    Code,
    /// A device code or an `auth_req_id`: the client polls until the user has decided.
    Polled,
    RefreshToken,
}

impl OneTime {
    /// Returns which one a request carries.
    pub(crate) fn of(request: &TokenRequest) -> Option<Self> {
        request.one_time_parameter().map(|name| match name {
            "code" => Self::Code,
            "device_code" | "auth_req_id" => Self::Polled,
            _ => Self::RefreshToken,
        })
    }

    /// Returns whether the source over this credential ends with this error.
    ///
    /// `is_declared` says what the user declares as the end of a refresh token. It is asked only about final refusals.
    pub(crate) fn ends_with(
        self,
        error: &TokenError,
        is_declared: impl FnOnce(&TokenError) -> bool,
    ) -> bool {
        match self {
            // "The client MUST NOT use the authorization code more than once" (RFC 6749 §4.1.2), and servers revoke its tokens then.
            Self::Code => error.may_have_been_processed() && !is_about_the_client(error),
            // "If the client receives an error response with any other error code, it MUST stop polling" (RFC 8628 §3.5).
            Self::Polled => {
                is_final_refusal(error) && code(error).is_some() && !is_about_the_client(error)
            }
            Self::RefreshToken => {
                is_final_refusal(error) && (is_invalid_grant(error) || is_declared(error))
            }
        }
    }

    /// Returns whether the same credential may be sent again at once, after a final refusal that does not end its source.
    pub(crate) fn may_be_sent_again_after(self, error: &TokenError) -> bool {
        match self {
            Self::Code | Self::Polled => is_about_the_client(error),
            Self::RefreshToken => true,
        }
    }
}

/// Returns whether the server answered that it does not accept the request, and will not accept it later either.
pub(crate) fn is_final_refusal(error: &TokenError) -> bool {
    let is_pending = matches!(
        code(error),
        Some(&(ErrorCode::AUTHORIZATION_PENDING | ErrorCode::SLOW_DOWN))
    );
    let is_refusal = match (error.kind(), error.status()) {
        (_, None) => false,
        // Whatever the body says, the same request may succeed later.
        (
            _,
            Some(
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS,
            ),
        ) => false,
        (TokenErrorKind::ErrorResponse, Some(status)) => !status.is_server_error(),
        (TokenErrorKind::UnexpectedStatus, Some(status)) => status.is_client_error(),
        _ => false,
    };
    is_refusal && !is_pending && !error.is_transient()
}

/// Returns whether a final refusal concerns the client and how it authenticates, and not the credential of the grant.
///
/// The server then has not looked at the grant: it authenticates the client first (RFC 6749 §3.2.1). Many servers have codes of their
/// own for a wrong secret, or none, so this goes by the word "client" in the code, and by the status 401, which RFC 6749 §5.2 knows
/// for nothing else.
pub(crate) fn is_about_the_client(error: &TokenError) -> bool {
    if !is_final_refusal(error) {
        return false;
    }
    let code = code(error).map(|code| code.as_str().to_ascii_lowercase());
    let code = code.as_deref().unwrap_or_default();
    code.contains("client")
        || (error.status() == Some(StatusCode::UNAUTHORIZED)
            && !NOT_THE_CLIENT.iter().any(|word| code.contains(word)))
}

/// Words in the codes of errors that concern something else, even with the status 401.
const NOT_THE_CLIENT: [&str; 7] = [
    "grant", "code", "token", "request", "scope", "target", "dpop",
];

/// RFC 6749 §5.2 has status 400 for it. A status outside of 4xx contradicts it.
fn is_invalid_grant(error: &TokenError) -> bool {
    code(error) == Some(&ErrorCode::INVALID_GRANT)
        && error
            .status()
            .is_some_and(|status| status.is_client_error())
}

/// Returns the error of a source, or of polling, that ends because the server no longer accepts its credential.
pub(crate) fn sign_in_required(error: TokenError) -> TokenError {
    TokenError::new(
        TokenErrorKind::SignInRequired,
        NOT_ACCEPTED,
        Some(error.into()),
    )
}

pub(crate) const NOT_ACCEPTED: &str =
    "the user has to sign in again: the server no longer accepts the code or the refresh token";

pub(crate) fn code(error: &TokenError) -> Option<&ErrorCode> {
    error.error_response().map(ErrorResponse::code)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A response with this status, and with this error code if there is one.
    pub(crate) fn error(status: u16, code: &str) -> TokenError {
        let status = StatusCode::from_u16(status).unwrap();
        match code {
            "" => TokenError::builder(TokenErrorKind::UnexpectedStatus).status(status),
            code => TokenError::builder(TokenErrorKind::ErrorResponse)
                .status(status)
                .error_response(ErrorCode::from(code)),
        }
        .build()
    }

    #[test]
    fn errors_that_end_a_source_over_each_credential() {
        use OneTime::{Code, Polled, RefreshToken};
        for (status, code, ending) in [
            (400, "invalid_grant", &[Code, Polled, RefreshToken][..]),
            (401, "invalid_grant", &[Code, Polled, RefreshToken]),
            (403, "invalid_grant", &[Code, Polled, RefreshToken]),
            (200, "invalid_grant", &[Code, Polled]),
            (400, "expired_token", &[Code, Polled]),
            (400, "access_denied", &[Code, Polled]),
            (403, "access_denied", &[Code, Polled]),
            (400, "invalid_request", &[Code, Polled]),
            (400, "invalid_code", &[Code, Polled]),
            (401, "invalid_code", &[Code, Polled]),
            (200, "bad_verification_code", &[Code, Polled]),
            (200, "incorrect_device_code", &[Code, Polled]),
            (400, "invalid_scope", &[Code, Polled]),
            (400, "", &[Code]),
            (404, "", &[Code]),
            (500, "", &[Code]),
            // The client
            (401, "invalid_client", &[]),
            (400, "invalid_client", &[]),
            (400, "unauthorized_client", &[]),
            (401, "access_denied", &[]),
            (200, "incorrect_client_credentials", &[]),
            (400, "bad_client_secret", &[]),
            (400, "invalidClient", &[]),
            (401, "", &[]),
            // Not processed, or not decided
            (503, "invalid_grant", &[]),
            (429, "invalid_grant", &[]),
            (503, "", &[]),
        ] {
            let error = error(status, code);
            for credential in [Code, Polled, RefreshToken] {
                assert_eq!(
                    credential.ends_with(&error, |_| false),
                    ending.contains(&credential),
                    "{status} {code} {credential:?}"
                );
            }
        }
    }

    #[test]
    fn codes_are_sent_again_only_after_a_refusal_of_the_client() {
        use OneTime::{Code, Polled, RefreshToken};
        for (status, code, may_be_sent_again) in [
            (401, "invalid_client", true),
            (400, "bad_client_secret", true),
            (401, "", true),
            (400, "invalid_grant", false),
            (400, "invalid_request", false),
            (400, "", false),
            // No final refusals
            (503, "invalid_client", false),
            (400, "authorization_pending", false),
        ] {
            let error = error(status, code);
            for credential in [Code, Polled] {
                let found = credential.may_be_sent_again_after(&error);
                assert_eq!(found, may_be_sent_again, "{status} {code} {credential:?}");
            }
            assert!(RefreshToken.may_be_sent_again_after(&error));
        }
    }

    #[test]
    fn a_server_error_never_ends_a_refresh_token_whatever_the_user_declares() {
        for status in [500, 501, 502, 503, 504, 520, 408, 425, 429] {
            for code in ["", "invalid_grant", "bad_refresh_token"] {
                let error = error(status, code);
                assert!(
                    !OneTime::RefreshToken.ends_with(&error, |_| true),
                    "{status} {code}"
                );
            }
        }
        for (status, code) in [
            (200, "bad_refresh_token"),
            (400, "invalid_refresh_token"),
            (403, ""),
        ] {
            let error = error(status, code);
            assert!(OneTime::RefreshToken.ends_with(&error, |_| true));
            assert!(!OneTime::RefreshToken.ends_with(&error, |_| false));
        }
    }

    #[test]
    fn only_answers_are_refusals() {
        for kind in [
            TokenErrorKind::Request,
            TokenErrorKind::Credential,
            TokenErrorKind::Service,
            TokenErrorKind::Timeout,
            TokenErrorKind::Body,
            TokenErrorKind::BodyTooLarge,
            TokenErrorKind::InvalidResponse,
            TokenErrorKind::UnsupportedTokenType,
            TokenErrorKind::NoRuntime,
            TokenErrorKind::ShutDown,
        ] {
            let error = TokenError::builder(kind).build();
            assert!(!is_final_refusal(&error), "{kind:?}");
        }
        for code in [
            "authorization_pending",
            "slow_down",
            "temporarily_unavailable",
        ] {
            assert!(!is_final_refusal(&error(400, code)), "{code}");
        }
        assert!(!is_final_refusal(&error(302, "")));
    }
}
