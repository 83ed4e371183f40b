//! `AuthorizationError`: why an authorization response is not accepted.

use std::{borrow::Cow, error::Error, fmt};

use crate::error::ErrorResponse;

/// Why an authorization response, or a stored [`PendingAuthorization`](super::PendingAuthorization), is not accepted.
///
/// # Security
///
/// `Display` and `Debug` show no code, state, nonce or verifier. They show the error of the server, escaped and truncated: that text came
/// through the browser of the user.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{
///     ErrorCode,
///     authorization_code::{AuthorizationError, AuthorizationErrorKind},
/// };
///
/// fn page(error: &AuthorizationError) -> &'static str {
///     match error.kind() {
///         AuthorizationErrorKind::Refused => match error.error_response().map(|error| error.code()) {
///             Some(&ErrorCode::ACCESS_DENIED) => "You have cancelled the sign-in.",
///             _ => "The sign-in failed.",
///         },
///         _ => "This sign-in has expired. Please start again.",
///     }
/// }
/// ```
pub struct AuthorizationError {
    kind: AuthorizationErrorKind,
    message: Cow<'static, str>,
    error_response: Option<ErrorResponse>,
}

/// The kind of an [`AuthorizationError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthorizationErrorKind {
    /// The server, or the user, refused the request: see [`AuthorizationError::error_response`].
    Refused,
    /// The response belongs to another request: its `state` is missing, or is a different one.
    ///
    /// The pending authorization can still be used.
    StateMismatch,
    /// The response is from another server: its `iss` is a different one, or is missing although the server promises it.
    IssuerMismatch,
    /// A response with the right `state` has been looked at before.
    AlreadyUsed,
    /// The response contains a parameter twice, or no code.
    InvalidResponse,
    /// The stored text is no pending authorization.
    InvalidPending,
}

impl AuthorizationError {
    pub(super) fn new(kind: AuthorizationErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            error_response: None,
        }
    }

    pub(super) fn refused(error_response: ErrorResponse) -> Self {
        Self {
            error_response: Some(error_response),
            ..Self::new(
                AuthorizationErrorKind::Refused,
                "the authorization server refused the request",
            )
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> AuthorizationErrorKind {
        self.kind
    }

    /// Returns the error that the server returned
    /// ([RFC 6749 §4.1.2.1](https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1)).
    ///
    /// Only for a response whose `state` and `iss` were right, so it is not the text of somebody else.
    #[must_use]
    pub fn error_response(&self) -> Option<&ErrorResponse> {
        self.error_response.as_ref()
    }
}

impl fmt::Display for AuthorizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.error_response {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for AuthorizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationError")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("error_response", &self.error_response)
            .finish()
    }
}

impl Error for AuthorizationError {}
