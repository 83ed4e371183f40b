//! Reads the host and the port of an authority (RFC 3986 §3.2) from its whole text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::uri::Authority;

/// The host and the port of an authority that is well-formed from end to end.
///
/// `Authority::host` and `Authority::port` are not enough: they skip text between the two, so for `[::1].evil.example` the host would be
/// `[::1]`, and for `as.example:x` there would be no port. Another program may read such an authority in another way.
#[derive(Clone, Copy)]
pub(crate) struct HostAndPort<'a> {
    /// A name or an IPv4 address, or an IPv6 address in brackets. It is never empty.
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

impl<'a> HostAndPort<'a> {
    /// Returns `None` if the host is missing, or if the host, the port or the user name is malformed.
    pub(crate) fn of(authority: &'a Authority) -> Option<Self> {
        let text = match authority.as_str().rsplit_once('@') {
            Some((user, _)) if user.contains('@') => return None,
            Some((_, text)) => text,
            None => authority.as_str(),
        };
        let end = match text.starts_with('[') {
            true => text.find(']')? + 1,
            false => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(end);
        let port = match rest.strip_prefix(':') {
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            None if rest.is_empty() => None,
            _ => return None,
        };
        let is_valid = match ipv6_literal(host) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.contains(['[', ']']),
        };
        is_valid.then_some(Self { host, port })
    }

    /// Whether the host is a loopback name or address: `localhost`, 127.0.0.0/8 or `[::1]`. Nothing is resolved.
    ///
    /// `localhost.` is not: it may be looked up elsewhere.
    pub(crate) fn is_loopback(self) -> bool {
        let address = match ipv6_literal(self.host) {
            Some(address) => address.parse().map(IpAddr::V6),
            None => self.host.parse::<Ipv4Addr>().map(IpAddr::V4),
        };
        match address {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

fn ipv6_literal(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

#[cfg(test)]
pub(super) mod tests {
    use http::Uri;
    use proptest::prelude::*;

    use super::*;

    /// Authorities that end in another way than they begin, or that parsers read in different ways.
    pub(in crate::base) const MALFORMED: [&str; 18] = [
        "[::1].evil.example",
        "[::1]evil.example",
        "[::1]:80.evil.example",
        "[::1]:80:80",
        "[::1]]",
        "[127.0.0.1]",
        "[localhost]",
        "[::1]x:80",
        "[]",
        "[x]:80",
        "127.0.0.1:80.evil.example",
        "localhost:evil.example",
        "localhost:+80",
        "localhost:65536",
        "localhost[x]",
        "evil.example@x@localhost",
        ":80",
        "x@:80",
    ];

    #[test]
    fn an_authority_is_read_to_its_end() {
        for (text, expected) in [
            ("as.example", Some(("as.example", None))),
            ("as.example:", Some(("as.example", None))),
            ("as.example:0443", Some(("as.example", Some(443)))),
            ("u:p@as.example:8443", Some(("as.example", Some(8443)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:65535", Some(("[::1]", Some(65535)))),
        ] {
            let authority: Authority = text.parse().unwrap();
            let read = HostAndPort::of(&authority).map(|read| (read.host, read.port));
            assert_eq!(read, expected, "{text}");
        }
        for text in MALFORMED {
            let authority = text.parse::<Authority>();
            let is_read = authority.is_ok_and(|authority| HostAndPort::of(&authority).is_some());
            assert!(!is_read, "{text}");
        }
    }

    #[test]
    fn only_loopback_names_and_addresses_are_loopback() {
        for (text, expected) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("user@localhost", true),
            ("127.0.0.1:9", true),
            ("127.8.9.1", true),
            ("[::1]:80", true),
            ("[0:0::0:1]:80", true),
            ("[::ffff:127.0.0.1]", true),
            ("localhost.", false),
            ("localhost.example", false),
            ("127.0.0.1.", false),
            ("127.0.0.1.example", false),
            ("127.1", false),
            ("0x7f.0.0.1", false),
            ("2130706433", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("[::2]", false),
            ("[::]", false),
            ("localhost@evil.example", false),
            ("127.0.0.1:80@evil.example", false),
            ("[::1]@evil.example", false),
        ] {
            let authority: Authority = text.parse().unwrap();
            let read = HostAndPort::of(&authority).unwrap();
            assert_eq!(read.is_loopback(), expected, "{text}");
        }
    }

    /// What attackers build authorities of.
    pub(in crate::base) fn authorities() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("localhost"),
            Just("LocalHost"),
            Just("127.0.0.1"),
            Just("127.1"),
            Just("[::1]"),
            Just("[::ffff:7f00:1]"),
            Just("[::2]"),
            Just("api.example"),
            Just("evil"),
            Just("%6c%6f"),
            Just("."),
            Just(":"),
            Just("@"),
            Just("["),
            Just("]"),
            Just("80"),
            Just("443"),
            Just("\\"),
            Just("-"),
            Just("+"),
        ];
        prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

        /// By the judgement of a parser that has nothing to do with ours: that of the WHATWG.
        #[test]
        fn whatever_is_called_loopback_is_this_machine_by_its_very_name(authority in authorities()) {
            let text = format!("http://{authority}/");
            let uri = text.parse::<Uri>().ok();
            if let Some(read) = uri.as_ref().and_then(Uri::authority).and_then(HostAndPort::of)
                && read.is_loopback()
            {
                let url = url::Url::parse(&text);
                let is_this_machine = url.is_ok_and(|url| match url.host() {
                    Some(url::Host::Domain(name)) => name == "localhost",
                    Some(url::Host::Ipv4(address)) => address.is_loopback(),
                    Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
                    None => false,
                });
                prop_assert!(is_this_machine, "{}", text);
            }
        }
    }
}
