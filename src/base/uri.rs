//! Whether a URI points to this machine, and how to print a URI without secrets.

use std::fmt;

use http::Uri;

use super::{Quoted, authority::HostAndPort};

/// Whether the host of the URI is a loopback name or address; see [`HostAndPort::is_loopback`].
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    let read = uri.authority().and_then(HostAndPort::of);
    read.is_some_and(HostAndPort::is_loopback)
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
            write!(f, "{}", Quoted(host))?;
        }
        write!(f, "{}", Quoted(uri.path()))?;
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
    use super::{super::authority::tests::MALFORMED, *};

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
    fn a_malformed_or_missing_authority_is_not_loopback() {
        for authority in MALFORMED {
            let uri = format!("http://{authority}/").parse::<Uri>();
            assert!(!uri.is_ok_and(|uri| is_loopback(&uri)), "{authority}");
        }
        assert!(!is_loopback(&"/localhost".parse().unwrap()));
        assert!(is_loopback(&"http://localhost/token".parse().unwrap()));
    }
}
