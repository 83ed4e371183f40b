//! What errors share: the boxed error of the ecosystem, and a walk along a chain of sources.

mod answer;
mod error_response;
mod new;
mod retry_after;
mod token_error;

use std::{error::Error, fmt, io, iter};

pub(crate) use self::token_error::Rotates;
pub(crate) use self::{answer::Answer, new::redirects, retry_after::retry_after};
pub use self::{
    error_response::{ErrorCode, ErrorResponse},
    token_error::{TokenError, TokenErrorKind},
};

/// A boxed error, as tower uses it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Proof that a request never left this process.
///
/// An HTTP service may wrap its own error in it when it knows that no byte of the request was sent, because no connection
/// could be made. [`TokenError::may_have_been_processed`](crate::TokenError::may_have_been_processed) is
/// `false` then, and even a one-time credential (an authorization code, a refresh token) may be sent again. Nothing else is
/// taken for proof: a refused connection or an unreachable host can also be reported of a connection that was in use.
///
/// It speaks of the last attempt only: a layer below the endpoint that sends a request again must not
/// let the proof through when an earlier attempt did leave.
///
/// `HttpsClient` and `ReqwestService` give the proof by themselves.
///
/// # Examples
///
/// What to give to `map_err` over a client of hyper-util:
///
/// ```
/// use tower_oauth2_client::{BoxError, NotSent};
///
/// fn classify(error: hyper_util::client::legacy::Error) -> BoxError {
///     if error.is_connect() { NotSent::new(error).into() } else { error.into() }
/// }
/// ```
#[derive(Debug)]
pub struct NotSent(BoxError);

impl NotSent {
    /// Wraps the error that kept the request from being sent.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not sent")
    }
}

impl Error for NotSent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// The HTTP client below has followed a redirect, so that the answer is not that of the token endpoint.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "reqwest"),
    allow(dead_code, reason = "only `ReqwestService` can tell")
)]
pub(crate) struct FollowedRedirect;

impl fmt::Display for FollowedRedirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the HTTP client followed the redirect")
    }
}

impl Error for FollowedRedirect {}

/// The error itself and everything below it.
///
/// `io::Error` hides the error it was made from (its `source` is that error's source), so it is opened here.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| {
        match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// Whether something in the chain says that time ran out.
pub(crate) fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| {
        error.is::<tower::timeout::error::Elapsed>()
            || error.is::<tokio::time::error::Elapsed>()
            || error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    })
}

/// Whether something in the chain proves that the request never left this process.
///
/// No kind of `io::Error` is such proof, not even a refused connection or an unreachable host: Linux reports them on
/// connections that were in use, too. Only who made the connection knows.
pub(crate) fn is_not_sent(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.is::<NotSent>())
}

/// Whether something in the chain says that a redirect was followed.
pub(crate) fn is_followed_redirect(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.is::<FollowedRedirect>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_an_io_error_is_seen() {
        let error = io::Error::other(NotSent::new("no route"));
        assert!(is_not_sent(&error));
        assert_eq!(chain(&error).count(), 3);
    }

    #[test]
    fn no_kind_of_io_error_is_proof_that_nothing_was_sent() {
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::HostUnreachable,
        ] {
            let error = io::Error::from(kind);
            assert!(!is_not_sent(&error));
            assert!(!is_timeout(&error));
        }
    }
}
