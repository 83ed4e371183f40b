//! Decides where a token may go. Pure.

use std::fmt;

use http::{Uri, uri::Scheme};

use super::error::{InvalidOrigin, Unnamed};
use crate::base::{
    origin::Origin,
    origin_id::OriginId,
    uri::{self, is_loopback},
};

/// The origins that may see the token, and whether it may cross the network in the clear.
#[derive(Clone, Debug, Default)]
pub(super) struct Destinations {
    named: Vec<NamedOrigin>,
    /// The origin of every request that carries the token, if there is only one.
    only: Option<OriginId>,
    any_https: bool,
    allow_http: bool,
}

#[derive(Clone, Debug)]
struct NamedOrigin {
    origin: Origin,
    id: Option<OriginId>,
    /// Whether a token on its way there cannot be seen by the network: over TLS, or on this machine.
    is_secure: bool,
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
    /// The request is not sent: no origin was named that its URI could be compared with.
    Unnamed(Unnamed),
}

impl Destinations {
    pub(super) fn name(&mut self, origin: impl fmt::Display) -> Result<(), InvalidOrigin> {
        let uri = uri::parse(origin).map_err(InvalidOrigin::invalid)?;
        let is_secure = is_encrypted(uri.scheme()) || is_loopback(&uri);
        let id = OriginId::of(&uri);
        let origin = Origin::of(&uri).ok_or_else(|| InvalidOrigin::incomplete(&uri))?;
        if self.named.iter().all(|named| named.origin != origin) {
            self.named.push(NamedOrigin {
                origin,
                id,
                is_secure,
            });
        }
        self.note_only_origin();
        Ok(())
    }

    pub(super) fn danger_any_https(&mut self) {
        self.any_https = true;
        self.note_only_origin();
    }

    pub(super) fn danger_allow_http(&mut self) {
        self.allow_http = true;
    }

    /// The named origins, for `Debug`.
    pub(super) fn named(&self) -> Vec<&Origin> {
        self.named.iter().map(|named| &named.origin).collect()
    }

    /// The numbers of the named origins.
    pub(super) fn named_ids(&self) -> impl Iterator<Item = OriginId> {
        self.named.iter().filter_map(|named| named.id)
    }

    /// The absolute URI of a request whose own URI has no authority. `None` unless exactly one origin is named.
    pub(super) fn target(&self, uri: &Uri) -> Option<Uri> {
        match &self.named[..] {
            [named] if uri.authority().is_none() => {
                let path = match uri.path_and_query() {
                    Some(path) if path.as_str() != "*" => path.as_str(),
                    _ => "/",
                };
                format!("{}{path}", named.origin).parse().ok()
            }
            _ => None,
        }
    }

    /// Returns the origin of a request that carries the token.
    ///
    /// A request without an authority goes to the one origin that is named.
    #[inline]
    pub(super) fn origin_id(&self, uri: &Uri) -> Option<OriginId> {
        match self.only {
            Some(only) => Some(only),
            None => self.origin_id_of(uri),
        }
    }

    fn note_only_origin(&mut self) {
        self.only = match &self.named[..] {
            [named] if !self.any_https => named.id,
            _ => None,
        };
    }

    fn origin_id_of(&self, uri: &Uri) -> Option<OriginId> {
        match &self.named[..] {
            [named] if uri.authority().is_none() => named.id,
            named => match named.iter().find(|named| named.origin.matches(uri)) {
                Some(named) => named.id,
                None => OriginId::of(uri),
            },
        }
    }

    #[inline]
    pub(super) fn classify(&self, uri: &Uri) -> Destination {
        match self.named.first() {
            // Most requests go to the first origin.
            Some(named) if named.is_secure && named.origin.matches(uri) => Destination::Trusted,
            _ => self.classify_closely(uri),
        }
    }

    fn classify_closely(&self, uri: &Uri) -> Destination {
        if uri.authority().is_none() {
            return self.classify_without_authority();
        }
        if let Some(named) = self.named.iter().find(|named| named.origin.matches(uri)) {
            return self.over(named.is_secure);
        }
        if !self.any_https {
            return match self.named.is_empty() {
                true => Destination::Unnamed(Unnamed::Nothing),
                false => Destination::Untrusted,
            };
        }
        match uri.scheme() {
            // The target of a `CONNECT`, whose headers are for the proxy.
            None => Destination::Untrusted,
            scheme => self.over(is_encrypted(scheme) || is_loopback(uri)),
        }
    }

    /// Where the inner service sends a request that does not say it. Only one named origin can tell.
    fn classify_without_authority(&self) -> Destination {
        match &self.named[..] {
            [named] => self.over(named.is_secure),
            [] => Destination::Unnamed(Unnamed::NoAuthority),
            _ => Destination::Unnamed(Unnamed::Ambiguous),
        }
    }

    fn over(&self, is_secure: bool) -> Destination {
        match is_secure || self.allow_http {
            true => Destination::Trusted,
            false => Destination::Insecure,
        }
    }
}

/// Every other scheme counts as in the clear.
fn is_encrypted(scheme: Option<&Scheme>) -> bool {
    scheme.is_some_and(|scheme| {
        let is = |name| scheme.as_str().eq_ignore_ascii_case(name);
        is("https") || is("wss")
    })
}

#[cfg(test)]
mod tests {
    use super::{Destination::*, *};

    const NONE: &[&str] = &[];
    const ONE: &[&str] = &["https://api.example"];
    const TWO: &[&str] = &["https://api.example", "http://mesh.example:8080"];
    const MESH: &[&str] = &["http://mesh.example:8080"];
    const LOCAL: &[&str] = &["http://127.0.0.1:8080"];

    fn destinations(origins: &[&str]) -> Destinations {
        let mut destinations = Destinations::default();
        for origin in origins {
            destinations.name(origin).unwrap();
        }
        destinations
    }

    #[track_caller]
    fn check(destinations: &Destinations, uri: &str, expected: Destination) {
        let found = destinations.classify(&uri.parse().unwrap());
        assert_eq!(found, expected, "{destinations:?} {uri}");
    }

    #[test]
    fn tokens_go_only_to_named_origins() {
        for (uri, expected) in [
            ("https://api.example", Trusted),
            ("https://api.example/v1?x", Trusted),
            ("HTTPS://API.Example:443/", Trusted),
            ("https://api.example:/", Trusted),
            ("https://user:password@api.example/", Trusted),
            ("https://evil.example@api.example/", Trusted),
            ("https://evil.example:443@api.example/", Trusted),
            ("https://evil.example/", Untrusted),
            ("https://api.example@evil.example/", Untrusted),
            ("https://api.example:443@evil.example/", Untrusted),
            ("https://evil.example/https://api.example/", Untrusted),
            ("https://api.example.evil.example/", Untrusted),
            ("https://evil-api.example/", Untrusted),
            ("https://example/", Untrusted),
            ("https://api.exampl/", Untrusted),
            ("https://api.example./", Untrusted),
            ("https://xn--pi-7ka.example/", Untrusted),
            ("https://api.example:8443/", Untrusted),
            ("https://api.example:80/", Untrusted),
            // 443 plus 2^16.
            ("https://api.example:65979/", Untrusted),
            ("https://api.example:https/", Untrusted),
            ("http://api.example/", Untrusted),
            ("http://api.example:443/", Untrusted),
            ("http://evil.example/", Untrusted),
            ("http://localhost/", Untrusted),
            ("wss://api.example/", Untrusted),
            ("ws://api.example/", Untrusted),
            ("h2c://api.example:443/", Untrusted),
            // The target of a `CONNECT`, whose headers are for the proxy.
            ("api.example:443", Untrusted),
            ("evil.example:443", Untrusted),
        ] {
            check(&destinations(ONE), uri, expected);
        }
    }

    #[test]
    fn plain_http_to_another_machine_must_be_named_and_allowed() {
        for (origins, allow_http, uri, expected) in [
            (TWO, false, "http://mesh.example:8080/", Insecure),
            (TWO, true, "http://mesh.example:8080/", Trusted),
            (TWO, true, "http://MESH.example:8080/", Trusted),
            (TWO, true, "http://mesh.example/", Untrusted),
            (TWO, true, "http://evil.example:8080/", Untrusted),
            (TWO, false, "https://api.example/", Trusted),
            (LOCAL, false, "http://127.0.0.1:8080/", Trusted),
            (LOCAL, false, "http://127.0.0.1:9090/", Untrusted),
            (LOCAL, false, "http://localhost:8080/", Untrusted),
            (&["ws://api.example"], false, "ws://api.example/", Insecure),
            (
                &["WSS://api.example"],
                false,
                "wss://API.example:443/",
                Trusted,
            ),
            (
                &["https://[2001:db8::1]"],
                false,
                "https://[2001:DB8::1]:443/",
                Trusted,
            ),
            (
                &["https://[2001:db8::1]"],
                false,
                "https://[2001:db8::1]:1/",
                Untrusted,
            ),
        ] {
            let mut destinations = destinations(origins);
            if allow_http {
                destinations.danger_allow_http();
            }
            check(&destinations, uri, expected);
        }
    }

    #[test]
    fn without_a_named_origin_nothing_is_sent() {
        for allow_http in [false, true] {
            let mut destinations = destinations(NONE);
            if allow_http {
                destinations.danger_allow_http();
            }
            for uri in [
                "https://anywhere.example/",
                "http://anywhere.example/",
                "http://localhost/",
                "wss://anywhere.example/",
                "anywhere.example:443",
            ] {
                check(&destinations, uri, Unnamed(super::Unnamed::Nothing));
            }
        }
    }

    #[test]
    fn a_uri_without_an_authority_goes_to_the_one_named_origin() {
        let several = Unnamed(super::Unnamed::Ambiguous);
        let none = Unnamed(super::Unnamed::NoAuthority);
        let twice: &[&str] = &["https://api.example", "https://API.example:443/v1"];
        for (origins, any_https, allow_http, expected) in [
            (ONE, false, false, Trusted),
            (ONE, true, false, Trusted),
            (twice, false, false, Trusted),
            (LOCAL, false, false, Trusted),
            (MESH, false, false, Insecure),
            (MESH, true, false, Insecure),
            (MESH, false, true, Trusted),
            (TWO, false, true, several),
            (TWO, true, true, several),
            (NONE, false, true, none),
            // Its URI does not say that it goes over https.
            (NONE, true, false, none),
            (NONE, true, true, none),
        ] {
            let mut destinations = destinations(origins);
            if any_https {
                destinations.danger_any_https();
            }
            if allow_http {
                destinations.danger_allow_http();
            }
            for uri in ["/package.Service/Method", "//evil.example/", "*"] {
                check(&destinations, uri, expected);
            }
        }
    }

    #[test]
    fn any_https_url_can_be_allowed() {
        for (origins, allow_http, uri, expected) in [
            (NONE, false, "https://anywhere.example/", Trusted),
            (NONE, false, "https://anywhere.example:8443/", Trusted),
            (NONE, false, "wss://anywhere.example/", Trusted),
            (NONE, false, "http://127.0.0.1:80/", Trusted),
            (NONE, false, "http://localhost/", Trusted),
            (NONE, false, "http://anywhere.example/", Insecure),
            (NONE, true, "http://anywhere.example/", Trusted),
            (NONE, false, "ws://anywhere.example/", Insecure),
            (NONE, false, "h2c://anywhere.example/", Insecure),
            (NONE, true, "anywhere.example:443", Untrusted),
            (NONE, true, "localhost:443", Untrusted),
            (MESH, false, "https://anywhere.example/", Trusted),
            (MESH, false, "http://anywhere.example/", Insecure),
            (MESH, false, "http://mesh.example:8080/", Insecure),
            (MESH, true, "http://mesh.example:8080/", Trusted),
        ] {
            let mut destinations = destinations(origins);
            destinations.danger_any_https();
            if allow_http {
                destinations.danger_allow_http();
            }
            check(&destinations, uri, expected);
        }
    }

    #[test]
    fn the_target_of_a_request_without_an_authority_is_at_the_one_named_origin() {
        for (origins, uri, expected) in [
            (ONE, "/v1?x", Some("https://api.example/v1?x")),
            (
                ONE,
                "//evil.example/",
                Some("https://api.example//evil.example/"),
            ),
            (ONE, "*", Some("https://api.example/")),
            (ONE, "https://api.example/v1", None),
            (TWO, "/v1", None),
            (NONE, "/v1", None),
        ] {
            let target = destinations(origins).target(&uri.parse().unwrap());
            assert_eq!(target, expected.map(Uri::from_static), "{origins:?} {uri}");
        }
    }

    /// What an origin says about a token counts for that origin only.
    #[test]
    fn the_origin_of_a_request_is_that_of_its_uri_or_the_one_named_origin() {
        for (origins, any_https, uri, expected) in [
            (
                ONE,
                false,
                "https://api.example/v1",
                Some("https://api.example"),
            ),
            (
                ONE,
                false,
                "HTTPS://API.example:443/",
                Some("https://api.example"),
            ),
            (ONE, false, "/v1", Some("https://api.example")),
            (ONE, true, "/v1", Some("https://api.example")),
            (
                ONE,
                true,
                "https://api.example/v1",
                Some("https://api.example"),
            ),
            (
                ONE,
                true,
                "https://other.example/",
                Some("https://other.example"),
            ),
            (
                TWO,
                false,
                "https://api.example/v1",
                Some("https://api.example"),
            ),
            (
                TWO,
                false,
                "http://mesh.example:8080/v1",
                Some("http://mesh.example:8080"),
            ),
            (TWO, false, "/v1", None),
            (
                TWO,
                true,
                "https://other.example/",
                Some("https://other.example"),
            ),
            (
                NONE,
                true,
                "https://other.example/",
                Some("https://other.example"),
            ),
            (NONE, true, "/v1", None),
        ] {
            let expected = expected.map(|origin| OriginId::of(&origin.parse().unwrap()).unwrap());
            let mut destinations = destinations(origins);
            if any_https {
                destinations.danger_any_https();
            }
            let found = destinations.origin_id(&uri.parse().unwrap());
            assert_eq!(found, expected, "{origins:?} {any_https} {uri}");
        }
    }

    #[test]
    fn uris_without_a_scheme_or_a_host_are_not_origins() {
        for uri in ["/path", "api.example:443", "*", "https://:443/"] {
            let error = Destinations::default().name(uri).unwrap_err();
            let expected = format!("`{uri}` is not an origin");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
