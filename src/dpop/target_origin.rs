//! The origin of a request's target, and its `htu` claim. Pure functions.

use http::Uri;

/// The scheme, host and port of a request's target.
///
/// The scheme and the host are in lower case. The port is left out if it is the default port of the scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TargetOrigin(String);

impl TargetOrigin {
    /// Returns `None` for a URI without a scheme or a host.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        // The parser accepts a port or a user name without a host.
        if authority.host().is_empty() {
            return None;
        }
        // The target of a WebSocket request is the `http` or `https` URI of its handshake (RFC 6455 §3).
        let scheme = match scheme.to_ascii_lowercase() {
            scheme if scheme == "ws" => "http".to_owned(),
            scheme if scheme == "wss" => "https".to_owned(),
            scheme => scheme,
        };
        let host = authority.host().to_ascii_lowercase();
        let default = match &*scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(Self(match authority.port_u16() {
            port if port.is_none() || port == default => format!("{scheme}://{host}"),
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }

    /// Returns the `htu` claim for a request: its target without query and fragment (RFC 9449 §4.2).
    ///
    /// Scheme, host and port are normalized. The path stays exactly as it is sent, except that an empty path or `*` becomes `/`.
    pub(super) fn target(&self, uri: &Uri) -> String {
        let path = match uri.path() {
            // The target of `OPTIONS *` has no path (RFC 9110 §7.1).
            "" | "*" => "/",
            path => path,
        };
        format!("{}{path}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn htu_has_no_query_no_default_port_and_a_lower_case_host() {
        for (uri, expected) in [
            ("https://as.example/token", "https://as.example/token"),
            (
                "HTTPS://As.Example:443/Token?a=b",
                "https://as.example/Token",
            ),
            ("http://as.example:80", "http://as.example/"),
            ("http://as.example:443/", "http://as.example:443/"),
            ("https://as.example?x", "https://as.example/"),
            ("WSS://as.example:443/chat", "https://as.example/chat"),
            ("ws://as.example:443/chat", "http://as.example:443/chat"),
            ("https://as.example:/a", "https://as.example/a"),
            ("https://user:pass@as.example/a", "https://as.example/a"),
            (
                "https://[::1]:8443/a/../b//c",
                "https://[::1]:8443/a/../b//c",
            ),
            (
                "https://as.example/%7e%2F;p=1",
                "https://as.example/%7e%2F;p=1",
            ),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let origin = TargetOrigin::of(&uri).unwrap();
            assert_eq!(origin.target(&uri), expected, "{uri}");
        }
        for uri in [
            "/path",
            "as.example:443",
            "*",
            "https://:443/",
            "https://u@:/",
        ] {
            assert_eq!(TargetOrigin::of(&uri.parse().unwrap()), None, "{uri}");
        }
    }
}
