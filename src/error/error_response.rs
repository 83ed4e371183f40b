//! The OAuth error in a response of the token endpoint (RFC 6749 §5.2).

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use crate::base::Quoted;

/// The OAuth error that the server returned
/// ([RFC 6749 §5.2](https://www.rfc-editor.org/rfc/rfc6749#section-5.2)).
///
/// # Security
///
/// The strings come from the server: they may contain anything, even a secret that was sent to the server and that it
/// repeats. `Display` and `Debug` escape and truncate them.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    pub(crate) code: ErrorCode,
    pub(crate) description: Option<Box<str>>,
    pub(crate) uri: Option<Box<str>>,
}

impl ErrorResponse {
    /// Returns the error code, `error`.
    #[must_use]
    pub fn code(&self) -> &ErrorCode {
        &self.code
    }

    /// Returns `error_description`, a message for developers, as the server sent it.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Returns `error_uri`, the address of a page about the error, as the server sent it.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        self.uri.as_deref()
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(self.code.as_str()))?;
        match &self.description {
            Some(description) => write!(f, " ({})", Quoted(description)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorResponse({self})")
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The `error` code of an [`ErrorResponse`].
        ///
        /// Codes are compared by their text, so `Other("invalid_grant")` equals `InvalidGrant`.
        ///
        /// # Examples
        ///
        /// ```
        /// use tower_oauth2_client::ErrorCode;
        ///
        /// assert_eq!(ErrorCode::from("invalid_grant"), ErrorCode::InvalidGrant);
        /// assert_eq!(ErrorCode::InvalidGrant.as_str(), "invalid_grant");
        /// ```
        #[derive(Clone)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code that none of the RFCs above defines.
            Other(Box<str>),
        }

        impl ErrorCode {
            /// Returns the code as the server sent it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(code) => code,
                }
            }
        }

        impl From<&str> for ErrorCode {
            fn from(code: &str) -> Self {
                match code {
                    $($text => Self::$name,)*
                    other => Self::Other(other.into()),
                }
            }
        }
    };
}

error_codes! {
    /// `invalid_request` (RFC 6749 §5.2): a parameter is missing, repeated or malformed.
    InvalidRequest = "invalid_request",
    /// `invalid_client` (RFC 6749 §5.2): the client authentication failed.
    InvalidClient = "invalid_client",
    /// `invalid_grant` (RFC 6749 §5.2): the code, refresh token, password or assertion is wrong, expired or used up.
    InvalidGrant = "invalid_grant",
    /// `unauthorized_client` (RFC 6749 §5.2): this client may not use this grant.
    UnauthorizedClient = "unauthorized_client",
    /// `unsupported_grant_type` (RFC 6749 §5.2): the server does not know this grant.
    UnsupportedGrantType = "unsupported_grant_type",
    /// `invalid_scope` (RFC 6749 §5.2): the scope is unknown, malformed or too wide.
    InvalidScope = "invalid_scope",
    /// `invalid_target` (RFC 8707 §2, RFC 8693 §2.2.2): the resource or audience is unknown or refused.
    InvalidTarget = "invalid_target",
    /// `unsupported_token_type` (RFC 7009 §2.2.1): the server does not revoke tokens of this type.
    UnsupportedTokenType = "unsupported_token_type",
    /// `access_denied` (RFC 8628 §3.5, CIBA §11): the user refused.
    AccessDenied = "access_denied",
    /// `authorization_pending` (RFC 8628 §3.5, CIBA §11): the user has not decided yet; try again later.
    AuthorizationPending = "authorization_pending",
    /// `slow_down` (RFC 8628 §3.5, CIBA §11): the user has not decided yet; from now on, wait five seconds longer.
    SlowDown = "slow_down",
    /// `expired_token` (RFC 8628 §3.5, CIBA §11): the user did not decide in time.
    ExpiredToken = "expired_token",
    /// `invalid_dpop_proof` (RFC 9449 §5): the DPoP proof is wrong.
    InvalidDpopProof = "invalid_dpop_proof",
    /// `use_dpop_nonce` (RFC 9449 §8): the DPoP proof must contain the nonce that the server sent.
    UseDpopNonce = "use_dpop_nonce",
    /// `temporarily_unavailable` (RFC 6749 §4.1.2.1, but token endpoints send it too): try again later.
    TemporarilyUnavailable = "temporarily_unavailable",
    /// `server_error` (RFC 6749 §4.1.2.1, but token endpoints send it too): the server has failed.
    ServerError = "server_error",
}

impl PartialEq for ErrorCode {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ErrorCode {}

impl Hash for ErrorCode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

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
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn codes_with_the_same_text_are_equal() {
        let hash = |code: &ErrorCode| {
            std::hash::BuildHasherDefault::<std::collections::hash_map::DefaultHasher>::default()
                .hash_one(code)
        };
        let other = ErrorCode::Other("invalid_grant".into());
        assert_eq!(other, ErrorCode::InvalidGrant);
        assert_eq!(hash(&other), hash(&ErrorCode::InvalidGrant));
        assert_ne!(other, ErrorCode::InvalidClient);
    }

    #[test]
    fn server_text_is_escaped_and_truncated() {
        let error = ErrorResponse {
            code: ErrorCode::from("bad\r\nlog: line"),
            description: Some("\u{1b}[31m\u{202e}x".repeat(100).into()),
            uri: None,
        };
        let shown = format!("{error} {error:?} {:?}", error.code());
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'));
        assert!(shown.contains(r"bad\r\nlog: line"));
        assert!(error.to_string().contains("..."));
    }
}
