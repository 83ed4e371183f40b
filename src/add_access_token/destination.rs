//! Decides where a token may go. Pure.

use http::{Uri, uri::Scheme};

use super::error::InvalidOrigin;
use crate::base::{origin::Origin, uri::is_loopback};

/// The origins that may see the token, and whether it may cross the network in the clear.
#[derive(Clone, Debug, Default)]
pub(super) struct Destinations {
    /// Any origin, if there are none.
    origins: Vec<Origin>,
    allow_http: bool,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// The request carries the token.
    Trusted,
    /// The request is sent without a token.
    Untrusted,
    /// The request is not sent: plain `http` would show the token to the network.
    Insecure,
}

impl Destinations {
    pub(super) fn allow_origin(&mut self, origin: &Uri) -> Result<(), InvalidOrigin> {
        self.origins.push(Origin::of(origin).ok_or(InvalidOrigin)?);
        Ok(())
    }

    pub(super) fn danger_allow_http(&mut self) {
        self.allow_http = true;
    }

    /// The absolute URI of a request whose own URI has no authority. `None` unless exactly one origin is named.
    pub(super) fn target(&self, uri: &Uri) -> Option<Uri> {
        match &self.origins[..] {
            [origin] if uri.authority().is_none() => {
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                format!("{origin}{path}").parse().ok()
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn classify(&self, uri: &Uri) -> Destination {
        if self.origins.is_empty() && uri.scheme() == Some(&Scheme::HTTPS) {
            return Destination::Trusted;
        }
        self.classify_closely(uri)
    }

    fn classify_closely(&self, uri: &Uri) -> Destination {
        let Some(authority) = uri.authority() else {
            return Destination::Trusted;
        };
        let scheme = uri.scheme();
        let is_named = self.origins.is_empty()
            || self
                .origins
                .iter()
                .any(|origin| origin.matches(scheme, authority));
        let is_secure = scheme.is_some_and(|scheme| SECURE.contains(&scheme.as_str()));
        if !is_named {
            Destination::Untrusted
        } else if !is_secure && !self.allow_http && !is_loopback(uri) {
            Destination::Insecure
        } else {
            Destination::Trusted
        }
    }
}

/// Every other scheme counts as in the clear.
const SECURE: [&str; 2] = ["https", "wss"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_only_to_named_origins_and_secure_transports() {
        use Destination::{Insecure, Trusted, Untrusted};
        let none: &[&str] = &[];
        let named: &[&str] = &["https://api.example", "http://mesh.example:8080"];
        for (origins, allow_http, uri, expected) in [
            (none, false, "https://anywhere.example/", Trusted),
            (none, false, "http://anywhere.example/", Insecure),
            (none, true, "http://anywhere.example/", Trusted),
            (none, false, "http://127.0.0.1:80/", Trusted),
            (none, false, "http://localhost/", Trusted),
            (none, false, "/package.Service/Method", Trusted),
            (none, false, "ws://anywhere.example/", Insecure),
            (none, false, "wss://anywhere.example/", Trusted),
            (none, false, "h2c://anywhere.example/", Insecure),
            (none, false, "anywhere.example:443", Insecure),
            (named, false, "evil.example:443", Untrusted),
            (named, true, "api.example:443", Trusted),
            (named, false, "https://api.example/v1?x", Trusted),
            (named, false, "https://API.example:443/", Trusted),
            (named, false, "https://api.example:8443/", Untrusted),
            (named, false, "https://api.example.evil/", Untrusted),
            (named, false, "http://api.example/", Untrusted),
            (named, false, "http://evil.example/", Untrusted),
            (named, false, "http://localhost/", Untrusted),
            (named, false, "http://mesh.example:8080/", Insecure),
            (named, true, "http://mesh.example:8080/", Trusted),
            (named, false, "/package.Service/Method", Trusted),
        ] {
            let mut destinations = Destinations::default();
            for origin in origins {
                destinations.allow_origin(&origin.parse().unwrap()).unwrap();
            }
            if allow_http {
                destinations.danger_allow_http();
            }
            assert_eq!(
                destinations.classify(&uri.parse().unwrap()),
                expected,
                "{origins:?} {uri}"
            );
        }
    }

    #[test]
    fn uris_without_a_scheme_or_a_host_are_not_origins() {
        for uri in ["/path", "api.example:443", "*"] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(
                Destinations::default().allow_origin(&uri),
                Err(InvalidOrigin),
                "{uri}"
            );
        }
    }
}
