//! The errors of this module.

use std::{error::Error, fmt};

use http::Uri;

use crate::base::{origin::Origin, uri::Printable};

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

/// The error of a request that was not sent, because no origin was named that its URI could be compared with.
///
/// The layer sends tokens only to the origins that are named with [`origin`](crate::AddAccessTokenLayer::origin). This error is
/// returned if none is named, and if a request without an authority in its URI could go to none or to several of them. The message
/// says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoOriginNamed {
    unnamed: Unnamed,
    /// Where the request goes, if its URI says so.
    origin: Option<Origin>,
}

/// Why the destination of a request cannot be compared with the named origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// No origin is named.
    Nothing,
    /// No origin is named, and the URI has no authority.
    NoAuthority,
    /// Several origins are named, and the URI has no authority.
    Ambiguous,
}

impl NoOriginNamed {
    pub(super) fn new(unnamed: Unnamed, uri: &Uri) -> Self {
        let origin = Origin::of(uri);
        Self { unnamed, origin }
    }
}

impl fmt::Display for NoOriginNamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not sent: ")?;
        match (self.unnamed, &self.origin) {
            (Unnamed::Nothing, origin) => {
                f.write_str(
                    "no origin is named that may receive its access token; name the origin of the API with `.origin(",
                )?;
                match origin {
                    Some(origin) => write!(f, "\"{origin}\"")?,
                    None => f.write_str("..")?,
                }
                f.write_str(")`, or allow every https URL with `.danger_any_https_origin()`")
            }
            (Unnamed::NoAuthority, _) => f.write_str(
                "its URI has no host, and no origin is named that may receive its access token; name the origin that the inner \
                 service sends it to with `.origin(..)`",
            ),
            (Unnamed::Ambiguous, _) => f.write_str(
                "its URI has no host, and several origins are named that may receive its access token; name only the one that the \
                 inner service sends it to with `.origin(..)`, or use absolute URIs",
            ),
        }
    }
}

impl Error for NoOriginNamed {}

/// The error of a request that was not sent, because nothing says which token it gets.
///
/// Its layer was made with [`per_request`](crate::AddAccessTokenLayer::per_request), so it has no default token. The message says what to
/// do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTokenNamed;

impl fmt::Display for NoTokenNamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the request was not sent: it names no access token, and its layer has no default one; insert a `TokenRequest` or a \
             `TokenSource` into the extensions of the request, or return one from `token_request_for` or \
             `token_source_for`; a request that needs no token has `NoAccessToken` in its extensions",
        )
    }
}

impl Error for NoTokenNamed {}

/// The error of a value that is not an origin: it is not a URI, or its scheme or its host is missing or malformed.
///
/// The message says what is wrong, and shows no user name, password or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrigin(Box<str>);

impl InvalidOrigin {
    /// The error of a text that is not a URI, for this reason.
    pub(super) fn invalid(why: String) -> Self {
        Self(format!("the origin {why}").into())
    }

    /// The error of a URI without the parts of an origin.
    pub(super) fn incomplete(uri: &Uri) -> Self {
        let uri = Printable(uri);
        Self(
            format!("`{uri:?}` is not an origin: its scheme or its host is missing or malformed")
                .into(),
        )
    }
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; give a scheme and a host, such as https://api.example",
            self.0
        )
    }
}

impl Error for InvalidOrigin {}

/// The error of a text that is not an authentication scheme, because it is empty or not a token of RFC 9110 §5.6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidScheme;

impl fmt::Display for InvalidScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an authentication scheme: give one word without spaces, such as Token")
    }
}

impl Error for InvalidScheme {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_ways_out() {
        let message =
            |unnamed, uri: &str| NoOriginNamed::new(unnamed, &uri.parse().unwrap()).to_string();
        let uri = "https://user:password@API.example:443/path?key";
        for (message, ways_out) in [
            (
                message(Unnamed::Nothing, uri),
                &[
                    "`.origin(\"https://api.example\")`",
                    "`.danger_any_https_origin()`",
                ][..],
            ),
            (
                message(Unnamed::Nothing, "api.example:443"),
                &["`.origin(..)`", "`.danger_any_https_origin()`"],
            ),
            (message(Unnamed::NoAuthority, "/"), &["`.origin(..)`"]),
            (
                message(Unnamed::Ambiguous, "/"),
                &["`.origin(..)`", "absolute URIs"],
            ),
        ] {
            for way_out in ways_out {
                assert!(message.contains(way_out), "{message}");
            }
            let has_secrets = ["password", "key"].iter().any(|it| message.contains(it));
            assert!(!has_secrets, "{message}");
        }
    }
}
