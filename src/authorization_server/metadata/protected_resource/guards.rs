//! What a protected resource may say about itself, and where its metadata are. Pure.
//!
//! An API is not trusted. Each rule keeps it from speaking for another one, or from making this client call other machines:
//!
//! 1. [`check_url`]: the URL is `https` and public, and means the same to every program.
//! 2. [`metadata_uris`]: metadata come from the origin of the URL.
//! 3. [`check_resource`]: the resource of the metadata contains the URL.
//! 4. [`usable_issuers`]: the issuers are `https` and public.

use http::Uri;

use super::super::{
    fetch::Rules,
    well_known::{check_issuer, path_and_query_len},
};
use crate::base::{
    Quoted, origin::Origin, public_address::check_public, secure_uri::check_secure, uri,
};

/// Checks the URL of a resource.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that begins with the URL.
pub(super) fn check_url(url: &Uri, rules: Rules) -> Result<(), &'static str> {
    check_secure(url, rules.allow_http)?;
    if rules.public_only {
        check_public(url)?;
    }
    check_segments(url.path())
}

/// Returns where the metadata of a resource can be, in the order in which to look: at the address that a challenge named, or else at the
/// well-known addresses of the path and of the root (RFC 9728 §3.1 and §5.1).
///
/// # Errors
///
/// Why the named address must not be used, as a sentence.
pub(super) fn metadata_uris(url: &Uri, named: Option<&str>) -> Result<Vec<Uri>, String> {
    if let Some(named) = named {
        let refuse = |why| {
            Err(format!(
                "the challenge of the resource names an address of its metadata, `{}`, that {why}",
                Quoted(named)
            ))
        };
        return match uri::parse(named) {
            Err(why) => refuse(why),
            Ok(_) if has_user(named) => refuse("contains a user name or a password".to_owned()),
            Ok(uri) if !is_same_origin(url, &uri) => refuse(OTHER_ORIGIN.to_owned()),
            Ok(uri) => Ok(vec![uri]),
        };
    }
    let text = url.to_string();
    let origin = &text[..text.len() - path_and_query_len(&text)];
    let path = url.path().strip_suffix('/').unwrap_or(url.path());
    let paths = match path {
        "" => &[""][..],
        path => &[path, ""],
    };
    let texts = paths
        .iter()
        .map(|path| format!("{origin}/.well-known/oauth-protected-resource{path}"));
    texts
        .map(|text| uri::parse(text).map_err(|why| format!("the address of the metadata {why}")))
        .collect()
}

/// Checks that the resource in a document contains the URL: both have the same origin, and the path of the resource consists of the first
/// segments of that of the URL. RFC 9728 §3.3 demands equality, which few servers that have several URLs offer.
///
/// A slash at the end does not matter. A query matters: with one, the rest must be equal too.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that begins with the resource.
pub(super) fn check_resource(url: &Uri, resource: &str) -> Result<(), String> {
    if resource.contains('#') {
        return Err("has a fragment, which RFC 9728 section 1.2 forbids".into());
    }
    let named = uri::parse(resource)?;
    if has_user(resource) {
        return Err("contains a user name or a password".into());
    }
    if !is_same_origin(url, &named) {
        return Err(OTHER_ORIGIN.into());
    }
    check_segments(named.path())?;
    let is_equal = || url.path() == named.path() && url.query() == named.query();
    let contains = || {
        let path = named.path().strip_suffix('/').unwrap_or(named.path());
        let rest = url.path().strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match named.query() {
        Some(_) if !is_equal() => Err("has a query, and is not the URL of the request".into()),
        None if !contains() => Err("does not contain the URL of the request".into()),
        _ => Ok(()),
    }
}

/// Whether `resource` contains the URL, which every program must read in the same way.
pub(crate) fn contains(url: &Uri, resource: &str) -> bool {
    check_segments(url.path()).is_ok() && check_resource(url, resource).is_ok()
}

/// Returns the issuers that may be used, in their order.
///
/// # Errors
///
/// Why the first of them must not be used, if none may. The error is a sentence.
pub(super) fn usable_issuers(issuers: &[String], rules: Rules) -> Result<Vec<String>, String> {
    let mut refused = None;
    let mut usable = Vec::new();
    for issuer in issuers {
        match check_issuer(issuer, rules) {
            Ok(_) if !usable.contains(issuer) => usable.push(issuer.clone()),
            Ok(_) => {}
            Err(why) => {
                refused.get_or_insert_with(|| {
                    format!(
                        "it names an authorization server, `{}`, that {why}",
                        Quoted(issuer)
                    )
                });
            }
        }
    }
    match refused {
        Some(refused) if usable.is_empty() => Err(refused),
        _ => Ok(usable),
    }
}

const OTHER_ORIGIN: &str = "has another origin (scheme, host and port) than the URL of the request";

fn is_same_origin(url: &Uri, other: &Uri) -> bool {
    Origin::of(url).is_some_and(|origin| Some(origin) == Origin::of(other))
}

fn has_user(uri: &str) -> bool {
    let end = uri.len() - path_and_query_len(uri);
    uri[..end].contains('@')
}

/// Refuses `.` and `..`, since some programs would resolve them, and then see another path. Some decode more than once, and some take what
/// follows a semicolon off the segment first.
fn check_segments(path: &str) -> Result<(), &'static str> {
    let lower_case = path.to_ascii_lowercase();
    let parts = lower_case.split('%').enumerate();
    let parts = parts.map(|(number, part)| match number {
        0 => part,
        // An encoded percent sign, however often.
        _ => part.trim_start_matches("25"),
    });
    let mut decoded = parts.collect::<Vec<_>>().join("%");
    for (encoded, character) in [("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("%3b", ";")] {
        decoded = decoded.replace(encoded, character);
    }
    let mut segments = decoded.split(['/', '\\']);
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    match segments.any(is_dots) {
        true => Err("has a path with a segment `.` or `..`"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PUBLIC: Rules = Rules {
        allow_http: false,
        public_only: true,
        limit: 0,
    };

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_public_https_url_is_asked() {
        for (url, expected) in [
            ("https://api.example/a/b?c=d", Ok(())),
            ("https://api.example/a%20b/...", Ok(())),
            ("https://api.example:8443", Ok(())),
            ("http://api.example/", Err("is plain http")),
            ("http://localhost/", Err("is on this machine")),
            ("https://10.0.0.1/", Err("is an address that is not public")),
            ("https://u@api.example/", Err("contains a user name")),
            ("/a", Err("is not absolute")),
            (
                "https://api.example/a/../b",
                Err("has a path with a segment"),
            ),
            ("https://api.example/a/..", Err("has a path with a segment")),
            ("https://api.example/./a", Err("has a path with a segment")),
            (
                "https://api.example/a/%2E%2e/b",
                Err("has a path with a segment"),
            ),
            (
                "https://api.example/a/.%2e%2Fb",
                Err("has a path with a segment"),
            ),
            ("https://api.example/a/b;..", Ok(())),
            ("https://api.example/a/100%25/b", Ok(())),
            (
                "https://api.example/a/..;v=1/b",
                Err("has a path with a segment"),
            ),
            (
                "https://api.example/a/%25252e.%253B/b",
                Err("has a path with a segment"),
            ),
            (
                "https://api.example/a%5c..%5Cb",
                Err("has a path with a segment"),
            ),
        ] {
            let checked = check_url(&uri(url), PUBLIC);
            match (checked, expected) {
                (Err(why), Err(expected)) => assert!(why.starts_with(expected), "{url}: {why}"),
                _ => assert_eq!(checked, expected, "{url}"),
            }
        }
        let loose = Rules {
            allow_http: true,
            public_only: false,
            limit: 0,
        };
        for url in [
            "http://api.example/",
            "http://127.0.0.1:1/",
            "https://10.0.0.1/",
        ] {
            assert_eq!(check_url(&uri(url), loose), Ok(()), "{url}");
        }
    }

    #[test]
    fn well_known_addresses_are_those_of_the_path_and_of_the_root() {
        const ROOT: &str = "https://api.example/.well-known/oauth-protected-resource";
        for (url, expected) in [
            ("https://api.example", &[ROOT][..]),
            ("https://api.example/", &[ROOT]),
            ("https://api.example?a=/b", &[ROOT]),
            ("https://api.example/mcp", &[&format!("{ROOT}/mcp"), ROOT]),
            (
                "https://api.example/a/b/?c=/d",
                &[&format!("{ROOT}/a/b"), ROOT],
            ),
            (
                "http://[::1]:80/a%20b",
                &[
                    "http://[::1]:80/.well-known/oauth-protected-resource/a%20b",
                    "http://[::1]:80/.well-known/oauth-protected-resource",
                ],
            ),
        ] {
            let found = metadata_uris(&uri(url), None).unwrap();
            let found: Vec<_> = found.iter().map(Uri::to_string).collect();
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn a_named_address_has_the_origin_of_the_url() {
        for (named, expected) in [
            ("https://api.example/any/where?x=1", Ok(())),
            ("HTTPS://API.example:443/m", Ok(())),
            ("https://api.example", Ok(())),
            ("https://evil.example/m", Err("another origin")),
            ("https://api.example.evil.example/m", Err("another origin")),
            ("https://api.example:8443/m", Err("another origin")),
            ("http://api.example/m", Err("another origin")),
            ("https://sub.api.example/m", Err("another origin")),
            ("https://api.example./m", Err("another origin")),
            ("/m", Err("another origin")),
            ("//api.example/m", Err("another origin")),
            ("api.example", Err("another origin")),
            ("file:///etc/passwd", Err("is not valid")),
            (
                "https://evil.example@api.example/m",
                Err("contains a user name"),
            ),
            (
                "https://api.example@evil.example/m",
                Err("contains a user name"),
            ),
            ("https://api.example\\@evil.example/m", Err("")),
            ("", Err("is empty")),
            ("https://api.example/m n", Err("contains white space")),
        ] {
            let found = metadata_uris(&uri("https://api.example/a"), Some(named));
            match expected {
                Ok(()) => assert_eq!(found.unwrap(), [uri(named)]),
                Err(expected) => {
                    let why = found.unwrap_err();
                    assert!(why.contains(expected), "{named}: {why}");
                }
            }
        }
    }

    #[test]
    fn the_resource_contains_the_url_by_whole_segments() {
        for (url, resource, expected) in [
            ("https://api.example/mcp", "https://api.example/mcp", true),
            ("https://api.example/mcp", "https://api.example", true),
            ("https://api.example/mcp", "https://api.example/", true),
            ("https://api.example", "https://API.example:443/", true),
            ("https://api.example/mcp/a", "https://api.example/mcp", true),
            (
                "https://api.example/mcp/a",
                "https://api.example/mcp/",
                true,
            ),
            ("https://api.example/mcp", "https://api.example/mcp/", true),
            (
                "https://api.example/mcp?a=b",
                "https://api.example/mcp",
                true,
            ),
            (
                "https://api.example/mcp?a=b",
                "https://api.example/mcp?a=b",
                true,
            ),
            (
                "https://api.example/mcp/a?a=b",
                "https://api.example/mcp?a=b",
                false,
            ),
            (
                "https://api.example/mcp",
                "https://api.example/mcp?a=b",
                false,
            ),
            (
                "https://api.example/mcp?a=c",
                "https://api.example/mcp?a=b",
                false,
            ),
            ("https://api.example/mcp", "https://api.example/?", false),
            ("https://api.example/mcp", "https://api.example/mc", false),
            (
                "https://api.example/mcp",
                "https://api.example/mcp/a",
                false,
            ),
            ("https://api.example/mcp", "https://api.example/MCP", false),
            (
                "https://api.example/mcp",
                "https://api.example/%6dcp",
                false,
            ),
            ("https://api.example/mcp", "https://api.example//", false),
            ("https://api.example/mcp2", "https://api.example/mcp", false),
            ("https://api.example", "https://api.example/mcp", false),
            (
                "https://api.example/mcp",
                "https://api.example/mcp#a",
                false,
            ),
            (
                "https://api.example/mcp",
                "https://api.example/a/../mcp",
                false,
            ),
            (
                "https://api.example/mcp",
                "https://api.example/%2e/mcp",
                false,
            ),
            ("https://api.example/mcp", "http://api.example/mcp", false),
            ("https://api.example/mcp", "https://evil.example/mcp", false),
            (
                "https://api.example/mcp",
                "https://api.example:8443/mcp",
                false,
            ),
            (
                "https://api.example/mcp",
                "https://u@api.example/mcp",
                false,
            ),
            ("https://api.example/mcp", "api://mcp", false),
            ("https://api.example/mcp", "/mcp", false),
            ("https://api.example/mcp", "", false),
        ] {
            let checked = check_resource(&uri(url), resource);
            assert_eq!(checked.is_ok(), expected, "{url} {resource}: {checked:?}");
        }
    }

    #[test]
    fn only_public_https_issuers_are_used() {
        let owned = |issuers: &[&str]| {
            issuers
                .iter()
                .map(|it| (*it).to_owned())
                .collect::<Vec<_>>()
        };
        let good = owned(&["https://as.example/t", "https://as.example"]);
        assert_eq!(usable_issuers(&good, PUBLIC), Ok(good.clone()));
        assert_eq!(usable_issuers(&[], PUBLIC), Ok(Vec::new()));
        let mixed = owned(&[
            "https://10.0.0.1",
            "https://as.example",
            "x",
            "https://as.example",
        ]);
        let one = owned(&["https://as.example"]);
        assert_eq!(usable_issuers(&mixed, PUBLIC), Ok(one));

        for (issuer, why) in [
            ("http://as.example", "is plain http"),
            ("http://localhost:8080", "is on this machine"),
            ("https://localhost.", "is on this machine"),
            ("https://[::ffff:127.0.0.1]/t", "is on this machine"),
            (
                "https://0x7f000001",
                "has an address as its host that is not",
            ),
            (
                "https://169.254.169.254/latest",
                "is an address that is not public",
            ),
            (
                "https://keycloak.auth.svc/t",
                "has a host name that is not public",
            ),
            ("https://as.example?x", "has a query"),
            ("https://as.example#x", "has a fragment"),
            ("https://u:p@as.example", "contains a user name"),
            ("as.example", "is not absolute"),
            ("javascript:alert(1)", "is not absolute"),
            ("", "is empty"),
        ] {
            let error = usable_issuers(&owned(&[issuer]), PUBLIC).unwrap_err();
            let expected = format!("that {why}");
            assert!(error.contains(&expected), "{issuer}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2048, ..ProptestConfig::default() })]

        /// By the judgement of a parser that has nothing to do with ours: that of the WHATWG.
        #[test]
        fn a_resource_that_is_accepted_contains_the_url_by_another_parser(
            host in "https?://(api\\.example|API\\.example|evil\\.example|\\[::1\\])(:443|:8443|@evil\\.example|\\.evil\\.example)?",
            path in "(/(a|b|c|\\.|\\.\\.|%2e|%2E\\.|%2f|%5c|\\\\|))*",
            query in "(\\?|\\?a=b|#a)?",
            more in "(/(c|\\.\\.|%2e%2e|))*",
        ) {
            let url = format!("https://api.example{path}{more}").parse::<Uri>();
            let resource = format!("{host}{path}{query}");
            if let Ok(url) = url
                && check_url(&url, PUBLIC).is_ok()
                && check_resource(&url, &resource).is_ok()
            {
                let [url, resource] = [url.to_string(), resource.clone()]
                    .map(|text| url::Url::parse(&text).unwrap());
                prop_assert_eq!(url.origin(), resource.origin());
                let path = resource.path().strip_suffix('/').unwrap_or(resource.path());
                let rest = url.path().strip_prefix(path);
                prop_assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
            }
        }

        #[test]
        fn a_named_address_that_is_accepted_has_the_origin_by_another_parser(
            named in "(https?:)?(//|/|\\\\\\\\)?(api\\.example|evil\\.example|u@|:443|:80|@|\\\\|\\.|/|\\?|#|[a-z]){1,5}",
        ) {
            let url = Uri::from_static("https://api.example/a");
            if metadata_uris(&url, Some(&named)).is_ok() {
                let origin = url::Url::parse(&named).unwrap().origin();
                prop_assert_eq!(origin, url::Url::parse("https://api.example").unwrap().origin());
            }
        }
    }
}
