//! Which requests may bear the token.

use std::{error::Error, fmt};

use http::{Uri, uri::Scheme};

use crate::base::{origin::Origin, uri::is_loopback};

/// The rule by which a request may bear the token.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    origins: Vec<Origin>,
    allow_http: bool,
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    WithToken,
    WithoutToken,
    Refused,
}

impl Guard {
    pub(super) fn allow_origin(&mut self, origin: &Uri) -> Result<(), InvalidOrigin> {
        self.origins.push(Origin::of(origin).ok_or(InvalidOrigin)?);
        Ok(())
    }

    pub(super) fn danger_allow_http(&mut self) {
        self.allow_http = true;
    }

    /// Where a request goes whose own URI names no origin, if there is one that it can be.
    pub(super) fn target(&self, uri: &Uri) -> Option<Uri> {
        match &self.origins[..] {
            [origin] if uri.authority().is_none() => {
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                format!("{origin}{path}").parse().ok()
            }
            _ => None,
        }
    }

    /// Judges a request by where it goes.
    #[inline]
    pub(super) fn judge(&self, uri: &Uri) -> Verdict {
        if self.origins.is_empty() && uri.scheme() == Some(&Scheme::HTTPS) {
            return Verdict::WithToken;
        }
        self.judge_closely(uri)
    }

    fn judge_closely(&self, uri: &Uri) -> Verdict {
        let Some(authority) = uri.authority() else {
            return Verdict::WithToken;
        };
        let scheme = uri.scheme();
        let is_named = self.origins.is_empty()
            || self
                .origins
                .iter()
                .any(|origin| origin.matches(scheme, authority));
        let is_secure = scheme.is_some_and(|scheme| SECURE.contains(&scheme.as_str()));
        if !is_named {
            Verdict::WithoutToken
        } else if !is_secure && !self.allow_http && !is_loopback(uri) {
            Verdict::Refused
        } else {
            Verdict::WithToken
        }
    }
}

/// Whatever else a URI begins with is taken as in the clear.
const SECURE: [&str; 2] = ["https", "wss"];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_token_may_go() {
        use Verdict::{Refused, WithToken, WithoutToken};
        let none: &[&str] = &[];
        let named: &[&str] = &["https://api.example", "http://mesh.example:8080"];
        for (origins, allow_http, uri, expected) in [
            (none, false, "https://anywhere.example/", WithToken),
            (none, false, "http://anywhere.example/", Refused),
            (none, true, "http://anywhere.example/", WithToken),
            (none, false, "http://127.0.0.1:80/", WithToken),
            (none, false, "http://localhost/", WithToken),
            (none, false, "/package.Service/Method", WithToken),
            (none, false, "ws://anywhere.example/", Refused),
            (none, false, "wss://anywhere.example/", WithToken),
            (none, false, "h2c://anywhere.example/", Refused),
            (none, false, "anywhere.example:443", Refused),
            (named, false, "evil.example:443", WithoutToken),
            (named, true, "api.example:443", WithToken),
            (named, false, "https://api.example/v1?x", WithToken),
            (named, false, "https://API.example:443/", WithToken),
            (named, false, "https://api.example:8443/", WithoutToken),
            (named, false, "https://api.example.evil/", WithoutToken),
            (named, false, "http://api.example/", WithoutToken),
            (named, false, "http://evil.example/", WithoutToken),
            (named, false, "http://localhost/", WithoutToken),
            (named, false, "http://mesh.example:8080/", Refused),
            (named, true, "http://mesh.example:8080/", WithToken),
            (named, false, "/package.Service/Method", WithToken),
        ] {
            let mut guard = Guard::default();
            for origin in origins {
                guard.allow_origin(&origin.parse().unwrap()).unwrap();
            }
            if allow_http {
                guard.danger_allow_http();
            }
            assert_eq!(
                guard.judge(&uri.parse().unwrap()),
                expected,
                "{origins:?} {uri}"
            );
        }
    }

    #[test]
    fn an_origin_has_a_scheme_and_a_host() {
        for uri in ["/path", "api.example:443", "*"] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(
                Guard::default().allow_origin(&uri),
                Err(InvalidOrigin),
                "{uri}"
            );
        }
    }
}
