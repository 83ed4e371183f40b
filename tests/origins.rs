//! Properties of where tokens go, for any URI. The `url` crate parses each URI, too, because a client below may use it.
#![cfg(feature = "test-util")]

mod cache_support;

use http::{Request, Uri};
use proptest::prelude::*;
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{AddAccessTokenLayer, TokenSource};
use url::Url;

use self::cache_support::{Api, Body, at_once, bearer};

const ORIGIN: &str = "https://api.test";

/// Pieces that are put together to URIs, many of which look like [`ORIGIN`].
const PIECES: [&str; 40] = [
    "https",
    "HTTPS",
    "http",
    "wss",
    ":",
    ":",
    "://",
    "//",
    "///",
    "/",
    "\\",
    "@",
    ".",
    "..",
    "?",
    "#",
    "%2f",
    "%40",
    "%2e",
    "[",
    "]",
    "[::1]",
    "api.test",
    "API.Test",
    "api.test",
    "api",
    "test",
    "evil.test",
    "evil",
    ":443",
    ":0443",
    ":8443",
    ":80",
    ":65979",
    "443",
    "user",
    "user:pass@",
    "xn--pi-7ka",
    "*",
    "https://api.test",
];

/// URIs that begin as [`ORIGIN`] does or otherwise, with anything after that.
fn uris() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec!["", "https://", "https://api.test", "http://api.test"]);
    let pieces = prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..6);
    (start, pieces).prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

/// Whether a request carries a token. `None` if it is an error or goes nowhere.
fn carries_token(layer: AddAccessTokenLayer, uri: &Uri) -> Option<bool> {
    let api = Api::content();
    let mut request = Request::new(Body::default());
    *request.uri_mut() = uri.clone();
    at_once(layer.layer(api.clone()).oneshot(request)).ok()?;
    Some(api.last().authorization().is_some())
}

fn layer() -> AddAccessTokenLayer {
    AddAccessTokenLayer::new(TokenSource::fixed(bearer("fixed")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_token_goes_only_where_another_parser_sees_the_named_origin(uri in uris()) {
        let Ok(parsed) = uri.parse::<Uri>() else { return Ok(()) };
        let named = layer().origin(ORIGIN).unwrap();
        if carries_token(named, &parsed) == Some(true) && parsed.authority().is_some() {
            // Where the parsers disagree, the other one must not see another origin.
            if let Ok(url) = Url::parse(&parsed.to_string()) {
                prop_assert_eq!(url.origin().ascii_serialization(), ORIGIN);
            }
        }
    }

    #[test]
    fn a_token_goes_wherever_another_parser_sees_the_named_origin(uri in uris()) {
        let (Ok(parsed), Ok(url)) = (uri.parse::<Uri>(), Url::parse(&uri)) else { return Ok(()) };
        // `url` repairs what is not a URI, such as `https:api.test` or a backslash.
        let is_repaired = parsed.host().map(str::to_ascii_lowercase).as_deref() != url.host_str();
        // RFC 3986 forbids a second `@`, and parsers differ on which of them ends the user name.
        let is_ambiguous = parsed.authority().is_some_and(|a| a.as_str().matches('@').count() > 1);
        if url.origin().ascii_serialization() == ORIGIN && !is_repaired && !is_ambiguous {
            let named = layer().origin(ORIGIN).unwrap();
            prop_assert_eq!(carries_token(named, &parsed), Some(true));
        }
    }

    #[test]
    fn a_request_to_the_uri_that_was_named_carries_the_token(uri in uris()) {
        let Ok(parsed) = uri.parse::<Uri>() else { return Ok(()) };
        if let Ok(named) = layer().danger_allow_http().origin(&parsed) {
            prop_assert_eq!(carries_token(named, &parsed), Some(true));
        }
    }

    #[test]
    fn without_a_named_origin_no_uri_gets_a_token(uri in uris()) {
        if let Ok(parsed) = uri.parse::<Uri>() {
            prop_assert_eq!(carries_token(layer().danger_allow_http(), &parsed), None);
        }
    }

    #[test]
    fn with_any_https_origin_allowed_a_token_leaves_this_machine_only_over_tls(uri in uris()) {
        let Ok(parsed) = uri.parse::<Uri>() else { return Ok(()) };
        if carries_token(layer().danger_any_https_origin(), &parsed) == Some(true) {
            let is_encrypted = matches!(parsed.scheme_str(), Some("https" | "wss"));
            prop_assert!(is_encrypted || parsed.host() == Some("[::1]"));
        }
    }
}
