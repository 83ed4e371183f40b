//! A URI without what can be a secret.

use std::fmt;

use http::Uri;

/// A URI as it may be printed: without user name, password and query, any of which can be a secret.
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

/// What should be a URI, as [`Printable`]; nothing of it if it is none.
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
    fn what_can_be_a_secret_is_not_printed() {
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
}
