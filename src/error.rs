//! What errors share: the boxed error of the ecosystem, and a walk along a chain of sources.

use std::{error::Error, fmt, io, iter};

/// A boxed error, as tower uses it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Proof that a request never left this process.
///
/// An HTTP service may wrap its own error in it when it knows that no byte of the request was sent, for example because
/// no connection could be made. [`TokenError::may_have_been_processed`](crate::TokenError::may_have_been_processed) is
/// `false` then, and even a one-time credential (an authorization code, a refresh token) may be sent again.
///
/// # Examples
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
            || has_io_kind(error, &[io::ErrorKind::TimedOut])
    })
}

/// Whether something in the chain proves that the request never left this process.
///
/// An unreachable host or network is no such proof: Linux reports it on connections that were in use, too.
pub(crate) fn is_not_sent(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| {
        error.is::<NotSent>()
            || has_io_kind(
                error,
                &[
                    io::ErrorKind::ConnectionRefused,
                    io::ErrorKind::AddrNotAvailable,
                ],
            )
    })
}

fn has_io_kind(error: &(dyn Error + 'static), kinds: &[io::ErrorKind]) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| kinds.contains(&error.kind()))
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
    fn a_reset_is_no_proof_that_nothing_was_sent() {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(!is_not_sent(&error));
        assert!(!is_timeout(&error));
    }
}
