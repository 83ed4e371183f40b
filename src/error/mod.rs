//! The error types of the crate.

mod about;
mod answer;
mod builder;
mod chain;
mod compression;
mod error_code;
mod error_response;
mod followed_redirect;
mod new;
mod pause;
mod retry_after;
mod token_error;

use std::{error::Error, fmt, io};

#[cfg(feature = "reqwest")]
pub(crate) use self::followed_redirect::FollowedRedirect;
pub(crate) use self::token_error::{Presented, Rotates};
pub(crate) use self::{
    about::{About, CalledEndpoint},
    answer::Answer,
    chain::{OwnError, PrintableChain, chain},
    compression::compression,
    followed_redirect::{SentTo, is_followed_redirect},
    new::redirects,
    pause::{MAX_PAUSE, obeying_retry_after, pause_after},
    retry_after::retry_after,
};
pub use self::{
    builder::TokenErrorBuilder,
    error_code::ErrorCode,
    error_response::{ErrorResponse, ErrorResponseBuilder},
    token_error::{TokenError, TokenErrorKind},
};

/// A boxed error, as used by tower.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Proof that a request never left this process.
///
/// An HTTP service can wrap its error in `NotSent` when it knows that no byte of the request was sent, because it could not
/// connect. Then [`TokenError::may_have_been_processed`](crate::TokenError::may_have_been_processed) returns `false`, and even a
/// one-time credential (an authorization code, a refresh token) may be sent again. Nothing else counts as proof: the operating
/// system can report a refused connection or an unreachable host for a connection that was already in use.
///
/// The proof covers only the last attempt. A layer below the endpoint that retries requests must not pass the proof on if an
/// earlier attempt was sent.
///
/// `HttpsClient` and `ReqwestService` return `NotSent` where it applies; you need not wrap their errors.
///
/// # Examples
///
/// A function for `map_err` around a hyper-util client:
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
    /// Wraps the error that prevented the request from being sent.
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

/// Whether any error in the chain is a timeout.
pub(crate) fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| {
        error.is::<tower::timeout::error::Elapsed>()
            || error.is::<tokio::time::error::Elapsed>()
            || error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    })
}

/// Whether any error in the chain proves that the request never left this process.
///
/// No kind of `io::Error` is such a proof, not even a refused connection or an unreachable host: Linux also reports them for
/// connections that were in use. Only the code that made the connection knows.
pub(crate) fn is_not_sent(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.is::<NotSent>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_includes_the_error_inside_an_io_error() {
        let error = io::Error::other(NotSent::new("no route"));
        assert!(is_not_sent(&error));
        assert_eq!(chain(&error).count(), 3);
    }

    #[test]
    fn no_kind_of_io_error_proves_that_nothing_was_sent() {
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
