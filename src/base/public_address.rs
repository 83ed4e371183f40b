//! Which hosts are public, as far as their text says. Pure: nothing is resolved.
//!
//! A server that a client does not trust yet must not make it call a machine that only the client can reach. A public name can still
//! resolve to a private address, which only the HTTP client can notice.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;

use super::authority::HostAndPort;

/// Checks that the host of `uri` is public: neither this machine nor in a private network.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that begins with what the URI is.
pub(crate) fn check_public(uri: &Uri) -> Result<(), &'static str> {
    let host = uri.authority().and_then(HostAndPort::of);
    let host = host.ok_or(MALFORMED)?.host;
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => check_v6(address.parse().map_err(|_| MALFORMED)?),
        None => check_name(&host.to_ascii_lowercase()),
    }
}

const MALFORMED: &str = "has no host, or a malformed one";
const LOOPBACK: &str = "is on this machine";
const PRIVATE: &str = "is an address that is not public";
const PRIVATE_NAME: &str = "has a host name that is not public";
const ODD: &str = "has an address as its host that is not written as four decimal numbers, which other programs may read as a private address";

/// Names that belong to this machine or to a private network, in lower case, and so do all names below them.
///
/// RFC 6761, RFC 6762, RFC 8375, the name that ICANN has reserved, and what clusters and routers use.
const PRIVATE_NAMES: [&str; 11] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "home.arpa",
    "lan",
    "home",
    "corp",
    "private",
    "intranet",
    "svc",
];

fn check_name(host: &str) -> Result<(), &'static str> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut labels = name.split('.');
    if labels.clone().any(str::is_empty) || name.contains(['%', '\\']) {
        return Err(MALFORMED);
    }
    // By the URL standard of WHATWG, a host whose last label is a number is an IPv4 address, in one to four numbers of base 8, 10 or 16.
    if labels.next_back().is_some_and(is_number) {
        return match host.parse() {
            Ok(address) => check_v4(address),
            Err(_) => Err(ODD),
        };
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(LOOPBACK);
    }
    let is_below = |parent: &str| {
        let above = name.strip_suffix(parent);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    // A name of one label is completed by the resolver, so it is in the own network.
    match !name.contains('.') || PRIVATE_NAMES.into_iter().any(is_below) {
        true => Err(PRIVATE_NAME),
        false => Ok(()),
    }
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// By the registry of IANA, "IPv4 Special-Purpose Address Space" (RFC 6890), and multicast.
fn check_v4(address: Ipv4Addr) -> Result<(), &'static str> {
    let is_private = match address.octets() {
        [127, ..] => return Err(LOOPBACK),
        [0 | 10 | 224.., ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => true,
        _ => false,
    };
    if is_private { Err(PRIVATE) } else { Ok(()) }
}

/// Only global unicast is public. An address that contains an IPv4 address of another network is not, whatever it contains.
fn check_v6(address: Ipv6Addr) -> Result<(), &'static str> {
    if address.is_loopback() {
        return Err(LOOPBACK);
    }
    if let Some(address) = address.to_ipv4_mapped() {
        return check_v4(address);
    }
    let is_public = match address.segments() {
        // IETF protocols such as Teredo, 6to4, and examples.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    };
    if is_public { Ok(()) } else { Err(PRIVATE) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::authority::tests::{MALFORMED as MALFORMED_AUTHORITIES, authorities},
        *,
    };

    fn check(authority: &str) -> Result<(), &'static str> {
        let uri = format!("https://{authority}/").parse::<Uri>();
        uri.map_or(Err("is not a URI"), |uri| check_public(&uri))
    }

    #[test]
    fn public_names_and_addresses_are_public() {
        for authority in [
            "as.example",
            "AS.example:8443",
            "as.example.",
            "xn--bcher-kva.example",
            "localhost.example",
            "notlocalhost.example",
            "my-internal.example",
            "internal.example",
            "0x7f.example",
            "10.example",
            "example.0xg",
            "1.1.1.1",
            "8.8.8.8:443",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "223.255.255.255",
            "[2606:4700:4700::1111]",
            "[2a00:1450:4001::1]:443",
            "[::ffff:8.8.8.8]",
        ] {
            assert_eq!(check(authority), Ok(()), "{authority}");
        }
    }

    #[test]
    fn internal_names_and_addresses_are_refused_in_every_form() {
        for (authority, why) in [
            ("localhost", LOOPBACK),
            ("LocalHost:8080", LOOPBACK),
            ("localhost.", LOOPBACK),
            ("a.b.localhost", LOOPBACK),
            ("a.LOCALHOST.", LOOPBACK),
            ("127.0.0.1", LOOPBACK),
            ("127.255.255.254", LOOPBACK),
            ("[::1]", LOOPBACK),
            ("[0:0:0:0:0:0:0:1]:80", LOOPBACK),
            ("[::ffff:127.0.0.1]", LOOPBACK),
            ("[::ffff:7f00:1]", LOOPBACK),
            ("0.0.0.0", PRIVATE),
            ("10.0.0.1", PRIVATE),
            ("100.64.0.1", PRIVATE),
            ("169.254.169.254", PRIVATE),
            ("172.16.0.1", PRIVATE),
            ("172.31.255.255", PRIVATE),
            ("192.0.0.192", PRIVATE),
            ("192.168.1.1", PRIVATE),
            ("198.18.0.1", PRIVATE),
            ("224.0.0.1", PRIVATE),
            ("255.255.255.255", PRIVATE),
            ("[::]", PRIVATE),
            ("[::7f00:1]", PRIVATE),
            ("[::127.0.0.1]", PRIVATE),
            ("[::ffff:169.254.169.254]", PRIVATE),
            ("[::ffff:0:127.0.0.1]", PRIVATE),
            ("[64:ff9b::7f00:1]", PRIVATE),
            ("[64:ff9b:1::a00:1]", PRIVATE),
            ("[2002:7f00:1::]", PRIVATE),
            ("[2001::1]", PRIVATE),
            ("[2001:db8::1]", PRIVATE),
            ("[fc00::1]", PRIVATE),
            ("[fd00:ec2::254]", PRIVATE),
            ("[fe80::1]", PRIVATE),
            ("[fec0::1]", PRIVATE),
            ("[ff02::1]", PRIVATE),
            ("127.1", ODD),
            ("2130706433", ODD),
            ("017700000001", ODD),
            ("0x7f000001", ODD),
            ("0X7F.0.0.1", ODD),
            ("0x7f.1", ODD),
            ("0177.0.0.1", ODD),
            ("127.0.0.01", ODD),
            ("127.0.0.0x1", ODD),
            ("127.0.0.0x", ODD),
            ("127.0.0.1.", ODD),
            ("169.254.43518", ODD),
            ("8.8.8.8.", ODD),
            ("1.2.3.4.5", ODD),
            ("256.0.0.1", ODD),
            ("a.1", ODD),
            ("metadata", PRIVATE_NAME),
            ("kubernetes.default.svc", PRIVATE_NAME),
            ("as.default.svc.cluster.local", PRIVATE_NAME),
            ("metadata.google.internal", PRIVATE_NAME),
            ("Printer.Local.", PRIVATE_NAME),
            ("router.home.arpa", PRIVATE_NAME),
            ("localhost.localdomain", PRIVATE_NAME),
            ("ip6-localhost", PRIVATE_NAME),
            ("%6cocalhost.example", MALFORMED),
            ("as..example", MALFORMED),
            (".as.example", MALFORMED),
            ("as.example..", MALFORMED),
            (".", MALFORMED),
        ] {
            let checked = check(authority);
            assert!(
                checked == Err(why) || checked == Err("is not a URI"),
                "{authority}: {checked:?}"
            );
        }
        for authority in MALFORMED_AUTHORITIES {
            assert!(check(authority).is_err(), "{authority}");
        }
        assert_eq!(check_public(&"/path".parse().unwrap()), Err(MALFORMED));
    }

    fn is_internal(host: url::Host<&str>) -> bool {
        match host {
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "localhost" || name.ends_with(".localhost")
            }
            url::Host::Ipv4(address) => {
                address.is_loopback()
                    || address.is_private()
                    || address.is_link_local()
                    || address.is_unspecified()
            }
            url::Host::Ipv6(address) => {
                let link_local = address.segments()[0] & 0xffc0 == 0xfe80;
                let unique_local = address.segments()[0] & 0xfe00 == 0xfc00;
                let v4 = address.to_ipv4();
                address.is_loopback()
                    || address.is_unspecified()
                    || link_local
                    || unique_local
                    || v4.is_some_and(|v4| is_internal(url::Host::Ipv4(v4)))
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2048, ..ProptestConfig::default() })]

        /// By the judgement of a parser that has nothing to do with ours: that of the WHATWG, which reads numbers of every base.
        #[test]
        fn nothing_that_another_parser_reads_as_internal_is_public(
            authority in prop_oneof![
                authorities(),
                "(0x7f|127|0177|10|0xa|192|169|0|2130706433|0x7f000001)(\\.(0|1|0x1|254|168|0376)){0,4}\\.?",
                "\\[(::|::ffff:|64:ff9b::|fe80::|fd00::|2002:)(7f00:1|127\\.0\\.0\\.1|a00:1|1)\\]",
            ],
        ) {
            if check(&authority).is_ok() {
                let url = url::Url::parse(&format!("https://{authority}/"));
                let host = url.as_ref().ok().and_then(url::Url::host);
                prop_assert!(host.is_none_or(|host| !is_internal(host)), "{}", authority);
            }
        }
    }
}
