//! Scheme, host and port of a URI (RFC 6454).

use std::fmt;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// The scheme, the host and the port of a URI.
///
/// Two origins are equal if only the case of their scheme or host differs, or if only one of them names the default port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    scheme: Scheme,
    /// The host, and the port unless it is the default one of the scheme. In lower case.
    authority: Box<str>,
}

impl Origin {
    /// Returns the origin of `uri`, or `None` if its scheme or its host is missing.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        Self::new(uri.scheme()?, uri.authority()?)
    }

    /// Returns the origin as [`of`](Self::of), with `ws` and `wss` replaced by `http` and `https`, which they use (RFC 6455 §3).
    #[cfg(any(feature = "dpop", test))]
    pub(crate) fn over_http(uri: &Uri) -> Option<Self> {
        let scheme = match uri.scheme_str()? {
            scheme if scheme.eq_ignore_ascii_case("ws") => &Scheme::HTTP,
            scheme if scheme.eq_ignore_ascii_case("wss") => &Scheme::HTTPS,
            _ => uri.scheme()?,
        };
        Self::new(scheme, uri.authority()?)
    }

    fn new(scheme: &Scheme, authority: &Authority) -> Option<Self> {
        let host = authority.host().to_ascii_lowercase();
        // The parser accepts a port or a user name without a host.
        if host.is_empty() {
            return None;
        }
        let authority = match explicit_port(scheme, authority)? {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        Some(Self {
            scheme: scheme.clone(),
            authority: authority.into(),
        })
    }

    /// Whether a request with this URI goes to this origin.
    #[inline]
    pub(crate) fn matches(&self, uri: &Uri) -> bool {
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => {
                self.scheme == *scheme
                    && (*self.authority == *authority.as_str() || self.matches_closely(authority))
            }
            _ => false,
        }
    }

    /// Compares an authority that may be in upper case, name the default port, or contain a user name.
    fn matches_closely(&self, authority: &Authority) -> bool {
        let Some(port) = explicit_port(&self.scheme, authority) else {
            return false;
        };
        let host = authority.host();
        let Some((own_host, own_port)) = self.authority.split_at_checked(host.len()) else {
            return false;
        };
        let has_same_port = match port {
            None => own_port.is_empty(),
            Some(port) => port_after_colon(own_port) == Some(port),
        };
        has_same_port && own_host.eq_ignore_ascii_case(host)
    }
}

/// The port of an authority, unless it is the default one of the scheme. `None` if what follows the host is not a port.
fn explicit_port(scheme: &Scheme, authority: &Authority) -> Option<Option<u16>> {
    let text = authority.as_str();
    let text = text.rsplit_once('@').map_or(text, |(_, text)| text);
    match text.get(authority.host().len()..)? {
        "" | ":" => Some(None),
        port => {
            let port = port_after_colon(port)?;
            Some((default_port(scheme) != Some(port)).then_some(port))
        }
    }
}

fn port_after_colon(text: &str) -> Option<u16> {
    text.strip_prefix(':')?.parse().ok()
}

fn default_port(scheme: &Scheme) -> Option<u16> {
    match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        scheme if scheme.eq_ignore_ascii_case("wss") => Some(443),
        scheme if scheme.eq_ignore_ascii_case("ws") => Some(80),
        _ => None,
    }
}

/// `scheme://host`, with the port unless it is the default one.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str().to_ascii_lowercase();
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(uri: &str) -> Option<Origin> {
        Origin::of(&uri.parse().unwrap())
    }

    #[test]
    fn case_and_default_port_make_no_difference() {
        for (a, b, are_equal) in [
            ("https://as.example", "HTTPS://As.Example:443/path?q", true),
            ("http://as.example:80/", "http://as.example", true),
            ("http://[::1]:80/", "http://[::1]", true),
            ("https://u:p@as.example", "https://as.example:", true),
            (
                "https://as.example:8443",
                "https://u:p@AS.example:08443",
                true,
            ),
            ("https://[::1]:8443", "https://[::1]:8443", true),
            ("https://[::1]:8443", "https://[::1]", false),
            ("https://as.example", "https://as", false),
            ("https://as.example:8443", "https://as.example:844", false),
            ("https://as.example", "https://as.example.", false),
            (
                "https://as.example",
                "https://as.example:443@as.evil",
                false,
            ),
            ("https://as.example", "https://as.evil@as.example", true),
            ("https://as.example:80", "https://as.example", false),
            ("https://as.example", "http://as.example", false),
            ("https://as.example", "https://as.example.evil", false),
            ("wss://as.example", "https://as.example", false),
        ] {
            let [first, second] = [a, b].map(|uri| origin(uri).unwrap());
            assert_eq!(first == second, are_equal, "{a} {b}");
            for (origin, uri) in [(first, b), (second, a)] {
                assert_eq!(
                    origin.matches(&uri.parse().unwrap()),
                    are_equal,
                    "{origin} {uri}"
                );
            }
        }
    }

    #[test]
    fn an_origin_has_a_scheme_a_host_and_a_valid_port() {
        let as_example = origin("https://as.example").unwrap();
        for uri in [
            "/path",
            "as.example:443",
            "*",
            "https://:443/",
            "https://u@:/",
            "https://as.example:65979/",
            "https://as.example:https/",
        ] {
            assert_eq!(origin(uri), None, "{uri}");
            assert!(!as_example.matches(&uri.parse().unwrap()), "{uri}");
        }
    }

    #[test]
    fn websockets_use_the_origin_of_http() {
        for (uri, expected) in [
            ("WSS://As.example:443/chat", "https://as.example"),
            ("ws://as.example:443/chat", "http://as.example:443"),
            ("HTTPS://as.example:8443/", "https://as.example:8443"),
        ] {
            let origin = Origin::over_http(&uri.parse().unwrap()).unwrap();
            assert_eq!(origin.to_string(), expected, "{uri}");
        }
    }
}
