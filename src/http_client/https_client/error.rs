//! Errors that name the host.

use std::{error::Error, fmt, io, time::Duration};

use http::{
    Uri,
    uri::{Authority, Scheme},
};
use hyper_util::client::legacy;

use crate::error::{BoxError, NotSent, chain};

/// The host and the port that a request is for.
#[derive(Clone)]
pub(super) struct Target(Option<(Scheme, Authority)>);

impl Target {
    pub(super) fn of(uri: &Uri) -> Self {
        Self(uri.scheme().cloned().zip(uri.authority().cloned()))
    }

    /// Converts an error of hyper-util, so that [`crate::error`] recognizes a timeout or a failure to connect.
    pub(super) fn failed(&self, error: legacy::Error) -> BoxError {
        if error.is_connect() {
            let message = format!("failed to connect to {self}");
            return NotSent::new(Context::new(message, error)).into();
        }
        let is_timeout = chain(&error)
            .filter_map(|error| error.downcast_ref::<hyper::Error>())
            .any(hyper::Error::is_timeout);
        match is_timeout {
            true => timed_out(Context::new(
                format!("the connection to {self} is dead: it did not answer a ping"),
                error,
            )),
            false => error.into(),
        }
    }

    /// Returns the error for a response that did not start in time.
    pub(super) fn no_response_head(&self, limit: Duration) -> BoxError {
        timed_out(format!(
            "{self} did not start its response within {limit:?}"
        ))
    }
}

/// `host:port`, without a user name.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((scheme, authority)) => {
                let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
                let port = authority.port_u16().unwrap_or(default_port);
                write!(f, "{}:{port}", authority.host())
            }
            None => f.write_str("an unknown host"),
        }
    }
}

pub(super) fn timed_out(error: impl Into<BoxError>) -> BoxError {
    io::Error::new(io::ErrorKind::TimedOut, error).into()
}

/// A sentence about an error, with that error as its source.
#[derive(Debug)]
pub(super) struct Context {
    message: String,
    source: BoxError,
}

impl Context {
    pub(super) fn new(message: String, source: impl Into<BoxError>) -> Self {
        Self {
            message,
            source: source.into(),
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Context {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_host_and_port_without_a_user() {
        for (uri, expected) in [
            ("https://as.example/token?q", "as.example:443"),
            ("http://u:p@as.example/", "as.example:80"),
            ("https://[::1]:8443/", "[::1]:8443"),
            ("/token", "an unknown host"),
        ] {
            assert_eq!(Target::of(&uri.parse().unwrap()).to_string(), expected);
        }
    }
}
