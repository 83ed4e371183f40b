//! Where a proof goes: the origin, and the `htu` that names the target. Pure.

use http::Uri;

/// Scheme, host and port: the scheme and the host in lower case, the port only where it is not that of the scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(String);

impl Origin {
    /// `None` for a URI without a scheme or a host.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        // The parser takes a port or a user name without a host.
        if authority.host().is_empty() {
            return None;
        }
        // The target of a WebSocket is that of its handshake (RFC 6455 §3).
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

    /// The target of a request as `htu` names it: without query and fragment (RFC 9449 §4.2).
    ///
    /// It is normalized as far as no server can see the difference: what goes over the wire of the path stands in it as it is.
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
    fn the_target_has_no_query_no_default_port_and_no_upper_case_host() {
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
            let origin = Origin::of(&uri).unwrap();
            assert_eq!(origin.target(&uri), expected, "{uri}");
        }
        for uri in [
            "/path",
            "as.example:443",
            "*",
            "https://:443/",
            "https://u@:/",
        ] {
            assert_eq!(Origin::of(&uri.parse().unwrap()), None, "{uri}");
        }
    }
}
