//! The errors of this module.

use std::{error::Error, fmt};

/// The error of a request that was not sent, because plain `http` would have shown its token to the network.
///
/// Use https, or [`danger_allow_http`](crate::AddAccessTokenLayer::danger_allow_http) if something else protects the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsecureTransport;

impl fmt::Display for InsecureTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the request was not sent: plain http would show its access token to the network; use https, or \
             `danger_allow_http` if something else protects the connection",
        )
    }
}

impl Error for InsecureTransport {}

/// The error of a URI that is not an origin, because its scheme or its host is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOrigin;

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an origin: give a scheme and a host, such as https://api.example")
    }
}

impl Error for InvalidOrigin {}
