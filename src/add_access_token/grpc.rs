//! The gRPC status of a request that is not sent. tonic's clients look for a `Status` in an error; without one they return `UNKNOWN`.

use http::Request;

use crate::error::BoxError;

/// Returns the error of a request that is not sent. For a gRPC request, with the feature `tonic`, it is a `Status`.
#[cfg(feature = "tonic")]
pub(super) fn not_sent<B>(request: &Request<B>, error: impl Into<BoxError>) -> BoxError {
    match super::refusal::is_grpc(request.headers()) {
        true => status::of(error.into()).into(),
        false => error.into(),
    }
}

/// Returns the error of a request that is not sent.
#[cfg(not(feature = "tonic"))]
pub(super) fn not_sent<B>(_: &Request<B>, error: impl Into<BoxError>) -> BoxError {
    error.into()
}

/// Returns the error of a request whose deadline passed before it was sent.
pub(super) fn deadline_exceeded() -> BoxError {
    #[cfg(feature = "tonic")]
    return tonic::Status::deadline_exceeded(EXCEEDED).into();
    #[cfg(not(feature = "tonic"))]
    return EXCEEDED.into();
}

const EXCEEDED: &str = "the call was not sent: its deadline passed while it waited for an access token, or for the service below";

#[cfg(feature = "tonic")]
mod status {
    use std::sync::Arc;

    use tonic::{Code, Status};

    use crate::error::{BoxError, TokenError, TokenErrorKind};

    /// gRPC's own libraries use these two codes for credentials that they cannot get or must not send.
    pub(super) fn of(error: BoxError) -> Status {
        let (code, message) = match error.downcast_ref::<TokenError>() {
            Some(error) => (
                code(error),
                format!("failed to fetch an access token: {error:#}"),
            ),
            None => (Code::Unauthenticated, error.to_string()),
        };
        let mut status = Status::new(code, message);
        status.set_source(Arc::from(error));
        status
    }

    fn code(error: &TokenError) -> Code {
        let has_stopped = matches!(
            error.kind(),
            TokenErrorKind::NoRuntime | TokenErrorKind::ShutDown
        );
        match error.is_transient() || has_stopped {
            true => Code::Unavailable,
            false => Code::Unauthenticated,
        }
    }

    /// Converts the error of a [`TokenSource`](crate::TokenSource) for code that adds the token to gRPC calls itself.
    ///
    /// The code is `UNAVAILABLE` if a later call may succeed, and `UNAUTHENTICATED` if something must change first (the secret, the
    /// registration, the user's sign-in). The error is the source of the status.
    ///
    /// A server should not pass this status on to its own callers: they would conclude that *their* token was refused.
    #[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
    impl From<TokenError> for Status {
        fn from(error: TokenError) -> Self {
            of(error.into())
        }
    }
}
