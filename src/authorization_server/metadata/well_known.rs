//! Which issuers are valid, and the URIs of their metadata.

use http::Uri;

use crate::base::{secure_uri::check_secure, uri};

/// The URIs where the metadata of an issuer can be, in the order in which to try them.
///
/// RFC 8414 §3.1 puts its well-known name between host and path, OpenID Connect Discovery 1.0 §4 puts its own after the path. RFC 8414
/// comes first: it is the standard of OAuth, and its URI belongs to the owner of the host, not to a tenant with a path.
///
/// # Errors
///
/// What is wrong with the issuer, as the rest of a sentence that begins with it.
pub(super) fn well_known_uris(issuer: &str, allow_http: bool) -> Result<[Uri; 2], String> {
    let uri = check_issuer(issuer, allow_http)?;
    // "any terminating "/" MUST be removed", in both.
    let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
    let origin = &issuer[..issuer.len() - path_and_query_len(issuer)];
    let parse = |text: String| text.parse().map_err(|_| "is not a URI".to_owned());
    Ok([
        parse(format!(
            "{origin}/.well-known/oauth-authorization-server{path}"
        ))?,
        parse(format!("{origin}{path}/.well-known/openid-configuration"))?,
    ])
}

/// "a URL that uses the "https" scheme and has no query or fragment components" (RFC 8414 §2).
fn check_issuer(issuer: &str, allow_http: bool) -> Result<Uri, String> {
    // The parser drops a fragment.
    if issuer.contains('#') {
        return Err("has a fragment, which RFC 8414 section 2 forbids".into());
    }
    let uri = uri::parse(issuer)?;
    check_secure(&uri, allow_http)?;
    if issuer.contains('?') {
        return Err("has a query, which RFC 8414 section 2 forbids".into());
    }
    Ok(uri)
}

/// The length of the path and query of an absolute URI.
fn path_and_query_len(uri: &str) -> usize {
    let authority = uri.find("://").map_or(0, |at| at + 3);
    let rest = &uri[authority..];
    rest.find('/').map_or(0, |at| rest.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_uris_keep_the_path_of_the_issuer() {
        for (issuer, oauth, openid) in [
            (
                "https://as.example",
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ),
            (
                "https://as.example/",
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ),
            (
                "https://as.example/tenant/1",
                "https://as.example/.well-known/oauth-authorization-server/tenant/1",
                "https://as.example/tenant/1/.well-known/openid-configuration",
            ),
            (
                "https://as.example:8443/tenant/",
                "https://as.example:8443/.well-known/oauth-authorization-server/tenant",
                "https://as.example:8443/tenant/.well-known/openid-configuration",
            ),
            (
                "http://[::1]:80/a%20b",
                "http://[::1]:80/.well-known/oauth-authorization-server/a%20b",
                "http://[::1]:80/a%20b/.well-known/openid-configuration",
            ),
        ] {
            let uris = well_known_uris(issuer, false).unwrap();
            assert_eq!(uris.map(|uri| uri.to_string()), [oauth, openid], "{issuer}");
        }
    }

    #[test]
    fn invalid_issuers_are_refused() {
        for (issuer, why) in [
            ("", "is empty"),
            ("not a uri", "contains white space"),
            ("https://", "is not valid"),
            ("/tenant", "is not absolute"),
            ("as.example", "is not absolute"),
            ("https://as.example?tenant=1", "has a query"),
            ("https://as.example/?", "has a query"),
            ("https://as.example/#", "has a fragment"),
            ("https://u:p@as.example/", "contains a user name"),
            ("ftp://as.example/", "is neither https nor http"),
            ("http://as.example/", "is plain http"),
        ] {
            let error = well_known_uris(issuer, false).unwrap_err();
            assert!(error.starts_with(why), "{issuer}: {error}");
        }
        assert!(well_known_uris("http://as.example/", true).is_ok());
        assert!(well_known_uris("http://localhost:1/", false).is_ok());
    }
}
