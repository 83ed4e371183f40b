//! Which issuers are valid and equal, and the URIs of their metadata.

use http::Uri;

use super::fetch::Rules;
use crate::base::{public_address::check_public, secure_uri::check_secure, uri};

/// The URIs where the metadata of an issuer can be, in the order in which to try them.
///
/// 1. RFC 8414 §3.1 puts its well-known name between host and path. It comes first: it is the standard of OAuth, and its URI belongs to
///    the owner of the host, not to a tenant with a path.
/// 2. OpenID Connect Discovery 1.0 §4 puts its own name after the path.
/// 3. Some servers put the name of OpenID between host and path, as RFC 8414 §5 allows. Without a path, this is the second URI.
///
/// # Errors
///
/// What is wrong with the issuer, as the rest of a sentence that begins with it.
pub(super) fn well_known_uris(issuer: &str, rules: Rules) -> Result<Vec<Uri>, String> {
    let uri = check_issuer(issuer, rules)?;
    // "any terminating "/" MUST be removed", in both.
    let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
    let origin = &issuer[..issuer.len() - path_and_query_len(issuer)];
    let mut texts = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ];
    if !path.is_empty() {
        texts.push(format!("{origin}/.well-known/openid-configuration{path}"));
    }
    let parse = |text: String| text.parse().map_err(|_| "is not a URI".to_owned());
    texts.into_iter().map(parse).collect()
}

/// Whether the issuer in a document is the issuer that the user gave.
///
/// "The "issuer" value returned MUST be identical to the authorization server's issuer identifier value" (RFC 8414 §3.3): otherwise one
/// server could pass for another. The only exception is an empty path, which equals `/` (RFC 3986 §6.2.3): a `Uri` and a `Url` print a
/// slash that the server may not write, and both texts have the same well-known URIs.
pub(crate) fn is_same_issuer(given: &str, named: &str) -> bool {
    given == named || without_path(given).is_some_and(|given| without_path(named) == Some(given))
}

/// Returns the issuer without its slash, if its path is empty or a slash.
fn without_path(issuer: &str) -> Option<&str> {
    let origin = issuer.strip_suffix('/').unwrap_or(issuer);
    let (_, authority) = origin.split_once("://")?;
    let has_more = authority.is_empty() || authority.contains(['/', '?', '#']);
    (!has_more).then_some(origin)
}

/// "a URL that uses the "https" scheme and has no query or fragment components" (RFC 8414 §2).
pub(super) fn check_issuer(issuer: &str, rules: Rules) -> Result<Uri, String> {
    // The parser drops a fragment.
    if issuer.contains('#') {
        return Err("has a fragment, which RFC 8414 section 2 forbids".into());
    }
    let uri = uri::parse(issuer)?;
    check_secure(&uri, rules.allow_http)?;
    if rules.public_only {
        check_public(&uri)?;
    }
    if issuer.contains('?') {
        return Err("has a query, which RFC 8414 section 2 forbids".into());
    }
    Ok(uri)
}

/// The length of the path and query of an absolute URI.
pub(super) fn path_and_query_len(uri: &str) -> usize {
    let authority = uri.find("://").map_or(0, |at| at + 3);
    let rest = &uri[authority..];
    rest.find('/').map_or(0, |at| rest.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_uris_keep_the_path_of_the_issuer() {
        for (issuer, expected) in [
            (
                "https://as.example",
                &[
                    "https://as.example/.well-known/oauth-authorization-server",
                    "https://as.example/.well-known/openid-configuration",
                ] as &[&str],
            ),
            (
                "https://as.example/",
                &[
                    "https://as.example/.well-known/oauth-authorization-server",
                    "https://as.example/.well-known/openid-configuration",
                ],
            ),
            (
                "https://as.example/tenant/1",
                &[
                    "https://as.example/.well-known/oauth-authorization-server/tenant/1",
                    "https://as.example/tenant/1/.well-known/openid-configuration",
                    "https://as.example/.well-known/openid-configuration/tenant/1",
                ],
            ),
            (
                "https://as.example:8443/tenant/",
                &[
                    "https://as.example:8443/.well-known/oauth-authorization-server/tenant",
                    "https://as.example:8443/tenant/.well-known/openid-configuration",
                    "https://as.example:8443/.well-known/openid-configuration/tenant",
                ],
            ),
            (
                "http://[::1]:80/a%20b",
                &[
                    "http://[::1]:80/.well-known/oauth-authorization-server/a%20b",
                    "http://[::1]:80/a%20b/.well-known/openid-configuration",
                    "http://[::1]:80/.well-known/openid-configuration/a%20b",
                ],
            ),
        ] {
            let uris = well_known_uris(issuer, Rules::default()).unwrap();
            let uris: Vec<_> = uris.iter().map(Uri::to_string).collect();
            assert_eq!(uris, expected, "{issuer}");
        }
    }

    #[test]
    fn only_an_empty_path_equals_a_slash() {
        for (given, named, expected) in [
            ("https://as.example", "https://as.example/", true),
            ("https://as.example/", "https://as.example", true),
            ("https://as.example:1", "https://as.example:1/", true),
            ("https://as.example/t", "https://as.example/t", true),
            ("https://as.example/t", "https://as.example/t/", false),
            ("https://as.example", "https://as.example//", false),
            ("https://as.example//", "https://as.example/", false),
            ("https://as.example", "https://AS.example/", false),
            ("https://as.example", "https://as.example:443/", false),
            ("https://as.example", "https://as.example?/", false),
            ("https://as.example/", "as.example", false),
            ("https://", "https:///", false),
        ] {
            assert_eq!(is_same_issuer(given, named), expected, "{given} {named}");
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
            let error = well_known_uris(issuer, Rules::default()).unwrap_err();
            assert!(error.starts_with(why), "{issuer}: {error}");
        }
        let allow_http = Rules {
            allow_http: true,
            ..Rules::default()
        };
        assert!(well_known_uris("http://as.example/", allow_http).is_ok());
        assert!(well_known_uris("http://localhost:1/", Rules::default()).is_ok());
    }

    #[test]
    fn an_internal_issuer_is_refused_if_only_public_ones_may_be_used() {
        let rules = Rules {
            public_only: true,
            allow_http: true,
            ..Rules::default()
        };
        assert!(well_known_uris("https://as.example/t", rules).is_ok());
        for issuer in [
            "http://localhost:1/",
            "https://localhost./",
            "https://10.0.0.1/t",
            "https://[::ffff:127.0.0.1]",
            "https://2130706433",
        ] {
            assert!(well_known_uris(issuer, rules).is_err(), "{issuer}");
        }
    }
}
