//! Reads a URI from what callers have, tells whether it points to this machine, and prints it without secrets.

use std::fmt;

use http::Uri;

use super::{Quoted, authority::HostAndPort};

/// Reads a URI from its text: a `&str`, a `Uri`, the `Url` of another crate, or anything else that prints one.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that begins with what the URI is. It contains nothing of the text, which may be a secret.
pub(crate) fn parse(uri: impl fmt::Display) -> Result<Uri, String> {
    let text = uri.to_string();
    text.parse().map_err(|error| match &*text {
        "" => "is empty".to_owned(),
        text if text.trim() != text => "begins or ends with white space".to_owned(),
        text if text.contains(char::is_whitespace) => "contains white space".to_owned(),
        text if !text.contains("://") => {
            format!("is not valid: {error}; give scheme, host and path")
        }
        _ => format!("is not valid: {error}"),
    })
}

/// Whether the host of the URI is a loopback name or address; see [`HostAndPort::is_loopback`].
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    let read = uri.authority().and_then(HostAndPort::of);
    read.is_some_and(HostAndPort::is_loopback)
}

/// Returns the host of a URI, and its port if the URI names one. It never contains a user name or a password.
pub(crate) fn host(uri: &Uri) -> Option<&str> {
    let authority = uri.authority()?.as_str();
    Some(match authority.rsplit_once('@') {
        Some((_, host)) => host,
        None => authority,
    })
}

/// Returns a URI without its user name, password and query, because each of them may be a secret.
pub(crate) fn without_secrets(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    if let Some(host) = host(uri) {
        parts.authority = host.parse().ok();
    }
    if uri.query().is_some() {
        parts.path_and_query = uri.path().parse().ok();
    }
    Uri::from_parts(parts).unwrap_or_default()
}

/// Prints a URI without its user name, password and query, because each of them may be a secret.
pub(crate) struct Printable<'a>(pub(crate) &'a Uri);

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.0;
        if let Some(scheme) = uri.scheme_str() {
            write!(f, "{scheme}://")?;
        }
        if let Some(host) = host(uri) {
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
    fn anything_that_prints_a_uri_is_read() {
        const TEXT: &str = "https://as.example/token?tenant=1";
        let (uri, url): (Uri, url::Url) = (TEXT.parse().unwrap(), TEXT.parse().unwrap());
        let owned = TEXT.to_owned();
        for read in [
            parse(TEXT),
            parse(&owned),
            parse(owned),
            parse(&uri),
            parse(uri.clone()),
            parse(&url),
            parse(url),
            parse(format_args!("https://{}/token?tenant=1", "as.example")),
        ] {
            assert_eq!(read, Ok(uri.clone()));
        }
    }

    #[test]
    fn every_uri_survives_being_printed() {
        for text in [
            "/",
            "*",
            "/token?",
            "as.example:443",
            "u:p@as.example",
            "https://as.example",
            "HTTPS://AS.example:443/Token?x#fragment",
            "http://[::1]:80//a%20b/../?a?b/",
        ] {
            let uri: Uri = text.parse().unwrap();
            assert_eq!(parse(&uri), Ok(uri), "{text}");
        }
    }

    #[test]
    fn the_error_of_an_invalid_uri_names_the_problem_and_shows_no_secret() {
        for (text, why) in [
            ("", "is empty"),
            (
                "https://as.example/SECRET\n",
                "begins or ends with white space",
            ),
            ("https://as.example/?key=SEC RET", "contains white space"),
            (
                "as.example/SECRET",
                "is not valid: invalid format; give scheme",
            ),
            (
                "SECRET^",
                "is not valid: invalid uri character; give scheme",
            ),
            ("https://u:SECRET@", "is not valid: invalid authority"),
            (
                "https://as.example:SECRET:1/",
                "is not valid: invalid authority",
            ),
            (
                "https://${SECRET}/token",
                "is not valid: invalid uri character",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
            assert!(!error.contains("SEC"), "{text:?}: {error}");
        }
    }

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
            let without_secrets = without_secrets(&uri).to_string();
            assert_eq!(without_secrets, printed.trim_end_matches("?.."));
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
