//! Errors of a layer and of the requests that it does not send.

use std::{error::Error, fmt};

/// A request would have carried its token over plain `http` beyond this machine. It was not sent.
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

/// A URI that names no origin: its scheme or its host is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOrigin;

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an origin: give a scheme and a host, such as https://api.example")
    }
}

impl Error for InvalidOrigin {}
