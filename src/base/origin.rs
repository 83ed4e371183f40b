//! Scheme, host and port of a URI (RFC 6454).

use std::fmt;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use super::authority::HostAndPort;

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
    /// Returns the origin of `uri`, or `None` if its scheme or its host is missing, or if its authority is malformed.
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
        let HostAndPort { host, port } = HostAndPort::of(authority)?;
        let host = host.to_ascii_lowercase();
        let authority = match without_default(port, scheme) {
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
        let Some(HostAndPort { host, port }) = HostAndPort::of(authority) else {
            return false;
        };
        let Some((own_host, own_port)) = self.authority.split_at_checked(host.len()) else {
            return false;
        };
        let has_same_port = match without_default(port, &self.scheme) {
            None => own_port.is_empty(),
            Some(port) => own_port.strip_prefix(':') == Some(&*port.to_string()),
        };
        has_same_port && own_host.eq_ignore_ascii_case(host)
    }
}

pub(super) fn without_default(port: Option<u16>, scheme: &Scheme) -> Option<u16> {
    port.filter(|port| default_port(scheme) != Some(*port))
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
    use proptest::prelude::*;

    use super::{
        super::authority::tests::{MALFORMED, authorities},
        *,
    };

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
            ("wss://as.example", "WSS://as.example:443", true),
            ("ws://as.example:80", "ws://as.example", true),
            ("wss://as.example:80", "wss://as.example", false),
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
    fn a_malformed_authority_has_no_origin_and_matches_none() {
        for authority in MALFORMED {
            let uri = format!("https://{authority}/");
            let Ok(uri) = uri.parse::<Uri>() else {
                continue;
            };
            assert_eq!(Origin::of(&uri), None, "{uri}");
            assert_eq!(Origin::over_http(&uri), None, "{uri}");
            for named in ["https://[::1]", "https://localhost", "https://127.0.0.1:80"] {
                let named = origin(named).unwrap();
                let matches = named.matches(&uri);
                assert!(!matches, "{uri}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

        /// By the judgement of a parser that has nothing to do with ours: that of the WHATWG.
        #[test]
        fn equal_origins_are_the_same_by_another_parser(authorities in pairs()) {
            let texts = authorities.map(|authority| format!("https://{authority}/"));
            let uris = texts.each_ref().map(|text| text.parse::<Uri>().ok());
            let origins = uris.each_ref().map(|uri| uri.as_ref().and_then(Origin::of));
            let others = texts.each_ref().map(|text| url::Url::parse(text).ok().map(|url| url.origin()));
            if let ([Some(a), Some(b)], [_, Some(uri)]) = (&origins, &uris) {
                let matches = a.matches(uri);
                prop_assert_eq!(matches, a == b, "{:?}", texts);
                if matches {
                    prop_assert_eq!(&others[0], &others[1], "{:?}", texts);
                }
            }
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

    /// Two authorities, of which the second often only adds to the first.
    fn pairs() -> impl Strategy<Value = [String; 2]> {
        let other = prop_oneof![authorities(), Just(String::new()), Just(":443".to_owned())];
        (authorities(), other, 0..3).prop_map(|(a, other, how)| {
            let b = match how {
                0 => other,
                1 => a.clone() + &other,
                _ => other + &a,
            };
            [a, b]
        })
    }
}
