//! `ErrorCode`: the `error` code of a response.

use std::{
    convert::Infallible,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use crate::base::Quoted;

/// The `error` code of an [`ErrorResponse`](super::ErrorResponse).
///
/// The constants are the codes of the RFCs that this crate implements; a server may send any other. Codes are compared by their text,
/// and cloning is cheap.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::ErrorCode;
///
/// assert_eq!(ErrorCode::from("invalid_grant"), ErrorCode::INVALID_GRANT);
/// assert_eq!(ErrorCode::INVALID_GRANT.as_str(), "invalid_grant");
///
/// fn must_sign_in_again(code: &ErrorCode) -> bool {
///     match *code {
///         ErrorCode::INVALID_GRANT | ErrorCode::EXPIRED_TOKEN => true,
///         _ => *code == "token_expired",
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorCode(Code);

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        #[allow(non_camel_case_types, reason = "named as the constants of `ErrorCode`")]
        #[derive(Clone, PartialEq, Eq)]
        enum Code {
            $($name,)*
            /// A code that is none of the others.
            Other(Arc<str>),
        }

        impl ErrorCode {
            $($(#[$doc])* pub const $name: Self = Self(Code::$name);)*

            /// Returns the code as the server sent it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match &self.0 {
                    $(Code::$name => $text,)*
                    Code::Other(code) => code,
                }
            }

            /// Whether it is one of the constants.
            pub(crate) fn is_standard(&self) -> bool {
                !matches!(self.0, Code::Other(_))
            }
        }

        impl From<&str> for ErrorCode {
            fn from(code: &str) -> Self {
                match code {
                    $($text => Self::$name,)*
                    other => Self(Code::Other(other.into())),
                }
            }
        }
    };
}

error_codes! {
    /// `invalid_request` (RFC 6749 §5.2): a parameter is missing, repeated or malformed.
    INVALID_REQUEST = "invalid_request",
    /// `invalid_client` (RFC 6749 §5.2): the client authentication failed.
    INVALID_CLIENT = "invalid_client",
    /// `invalid_grant` (RFC 6749 §5.2): the code, refresh token, password or assertion is wrong, expired or used up.
    INVALID_GRANT = "invalid_grant",
    /// `unauthorized_client` (RFC 6749 §5.2): this client may not use this grant.
    UNAUTHORIZED_CLIENT = "unauthorized_client",
    /// `unsupported_grant_type` (RFC 6749 §5.2): the server does not know this grant.
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type",
    /// `invalid_scope` (RFC 6749 §5.2): the scope is unknown, malformed or too wide.
    INVALID_SCOPE = "invalid_scope",
    /// `invalid_target` (RFC 8707 §2, RFC 8693 §2.2.2): the resource or audience is unknown or refused.
    INVALID_TARGET = "invalid_target",
    /// `invalid_authorization_details` (RFC 9396 §5): the authorization details are unknown, malformed or refused.
    INVALID_AUTHORIZATION_DETAILS = "invalid_authorization_details",
    /// `unsupported_response_type` (RFC 6749 §4.1.2.1): the server issues no codes to this client.
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type",
    /// `login_required` (OpenID Connect Core §3.1.2.6): the user must sign in, but `prompt=none` forbids to ask.
    LOGIN_REQUIRED = "login_required",
    /// `interaction_required` (OpenID Connect Core §3.1.2.6): the user must be asked, but `prompt=none` forbids it.
    INTERACTION_REQUIRED = "interaction_required",
    /// `consent_required` (OpenID Connect Core §3.1.2.6): the user must agree, but `prompt=none` forbids to ask.
    CONSENT_REQUIRED = "consent_required",
    /// `account_selection_required` (OpenID Connect Core §3.1.2.6): the user must choose an account, but `prompt=none` forbids to ask.
    ACCOUNT_SELECTION_REQUIRED = "account_selection_required",
    /// `unsupported_token_type` (RFC 7009 §2.2.1): the server does not revoke tokens of this type.
    UNSUPPORTED_TOKEN_TYPE = "unsupported_token_type",
    /// `access_denied` (RFC 6749 §4.1.2.1, RFC 8628 §3.5, CIBA §11): the user refused.
    ACCESS_DENIED = "access_denied",
    /// `authorization_pending` (RFC 8628 §3.5, CIBA §11): the user has not decided yet; try again later.
    AUTHORIZATION_PENDING = "authorization_pending",
    /// `slow_down` (RFC 8628 §3.5, CIBA §11): the user has not decided yet; from now on, wait five seconds longer.
    SLOW_DOWN = "slow_down",
    /// `expired_token` (RFC 8628 §3.5, CIBA §11): the user did not decide in time.
    EXPIRED_TOKEN = "expired_token",
    /// `unknown_user_id` (CIBA §13): the hint does not identify a user.
    UNKNOWN_USER_ID = "unknown_user_id",
    /// `expired_login_hint_token` (CIBA §13): the token that identifies the user has expired.
    EXPIRED_LOGIN_HINT_TOKEN = "expired_login_hint_token",
    /// `missing_user_code` (CIBA §13): the server requires the user code of the user.
    MISSING_USER_CODE = "missing_user_code",
    /// `invalid_user_code` (CIBA §13): the user code is wrong.
    INVALID_USER_CODE = "invalid_user_code",
    /// `invalid_binding_message` (CIBA §13): the server does not show such a message; shorten or simplify it.
    INVALID_BINDING_MESSAGE = "invalid_binding_message",
    /// `invalid_dpop_proof` (RFC 9449 §5): the DPoP proof is wrong.
    INVALID_DPOP_PROOF = "invalid_dpop_proof",
    /// `use_dpop_nonce` (RFC 9449 §8): the DPoP proof must contain the nonce that the server sent.
    USE_DPOP_NONCE = "use_dpop_nonce",
    /// `invalid_token` (RFC 6750 §3.1): the access token is wrong, expired or revoked.
    INVALID_TOKEN = "invalid_token",
    /// `insufficient_scope` (RFC 6750 §3.1): the access token has too little scope.
    INSUFFICIENT_SCOPE = "insufficient_scope",
    /// `invalid_redirect_uri` (RFC 7591 §3.2.2): a redirect URI of the client cannot be registered.
    INVALID_REDIRECT_URI = "invalid_redirect_uri",
    /// `invalid_client_metadata` (RFC 7591 §3.2.2): a member of the client's metadata cannot be registered.
    INVALID_CLIENT_METADATA = "invalid_client_metadata",
    /// `invalid_software_statement` (RFC 7591 §3.2.2): the software statement is wrong.
    INVALID_SOFTWARE_STATEMENT = "invalid_software_statement",
    /// `unapproved_software_statement` (RFC 7591 §3.2.2): the server does not trust the software statement.
    UNAPPROVED_SOFTWARE_STATEMENT = "unapproved_software_statement",
    /// `temporarily_unavailable` (RFC 6749 §4.1.2.1, but token endpoints send it too): try again later.
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable",
    /// `server_error` (RFC 6749 §4.1.2.1, but token endpoints send it too): the server has failed.
    SERVER_ERROR = "server_error",
}

impl FromStr for ErrorCode {
    type Err = Infallible;

    fn from_str(code: &str) -> Result<Self, Infallible> {
        Ok(code.into())
    }
}

impl PartialEq<str> for ErrorCode {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ErrorCode {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Hash for ErrorCode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// Escaped and truncated, because the text comes from a server.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(self.as_str()))
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn codes_are_compared_by_their_text() {
        let keys = RandomState::new();
        let texts = ["invalid_grant", "invalid_client", "Invalid_Grant", "", "x"];
        for a in texts {
            let code = ErrorCode::from(a);
            assert_eq!(code.as_str(), a);
            assert_eq!(keys.hash_one(&code), keys.hash_one(a));
            for b in texts {
                assert_eq!(Ok(&code) == b.parse().as_ref(), a == b, "{a} {b}");
                assert_eq!(code == b, a == b, "{a} {b}");
            }
        }
        assert_eq!(ErrorCode::from("invalid_grant"), ErrorCode::INVALID_GRANT);
        assert!(ErrorCode::INVALID_GRANT.is_standard());
        assert!(!ErrorCode::from("x").is_standard());
    }
}
