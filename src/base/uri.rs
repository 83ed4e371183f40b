//! Whether a URI points to this machine, and how to print a URI without secrets.

use std::fmt;

use http::Uri;

/// Whether the host of the URI is a loopback name or address: `localhost`, 127.0.0.0/8 or `[::1]`. Nothing is resolved.
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    let Some(host) = uri.host() else {
        return false;
    };
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match literal.unwrap_or(host).parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Prints a URI without its user name, password and query, because each of them may be a secret.
pub(crate) struct Printable<'a>(pub(crate) &'a Uri);

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.0;
        if let Some(scheme) = uri.scheme_str() {
            write!(f, "{scheme}://")?;
        }
        if let Some(authority) = uri.authority().map(|authority| authority.as_str()) {
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            f.write_str(host)?;
        }
        f.write_str(uri.path())?;
        match uri.query() {
            Some(_) => f.write_str("?.."),
            None => Ok(()),
        }
    }
}

/// Prints a string as [`Printable`] if it is a URI, and otherwise shows nothing of it.
pub(crate) struct PrintableText<'a>(pub(crate) &'a str);

impl fmt::Debug for PrintableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse() {
            Ok(uri) => Printable(&uri).fmt(f),
            Err(_) => f.write_str("not a URI"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_and_query_are_not_printed() {
        for (uri, printed) in [
            ("https://as.example/token", "https://as.example/token"),
            ("http://u:p@[::1]:80/t?key=k", "http://[::1]:80/t?.."),
            ("https://u@as.example", "https://as.example/"),
            ("/token?key=k", "/token?.."),
            ("u:p@as.example:443", "as.example:443"),
        ] {
            let uri = uri.parse().unwrap();
            assert_eq!(format!("{:?}", Printable(&uri)), printed);
        }
    }

    #[test]
    fn only_loopback_names_and_addresses_are_loopback() {
        for (uri, expected) in [
            ("http://localhost/token", true),
            ("http://LOCALHOST:8080/", true),
            ("http://127.0.0.1:9/", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]:80/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://localhost.example/", false),
            ("http://127.0.0.1.example/", false),
            ("http://10.0.0.1/", false),
            ("http://0.0.0.0/", false),
            ("http://[::2]/", false),
            ("/token", false),
        ] {
            assert_eq!(is_loopback(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
