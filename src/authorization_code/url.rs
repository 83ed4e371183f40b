//! The URL to which the browser is sent. Pure.

use form_urlencoded::{Serializer, parse};
use http::Uri;

/// Adds parameters to the URI of the authorization endpoint.
///
/// "The endpoint URI MAY include an "application/x-www-form-urlencoded" formatted query component, which MUST be retained when adding
/// additional query parameters" (RFC 6749 §3.1). But "request and response parameters MUST NOT be included more than once", so a parameter
/// that the request sets too gives way to it.
pub(super) fn url<N: AsRef<str>>(endpoint: &Uri, parameters: &[(N, String)]) -> String {
    let own = |pair: &str| {
        let name = parse(pair.as_bytes()).next().map(|(name, _)| name);
        name.is_some_and(|name| parameters.iter().any(|(own, _)| own.as_ref() == name))
    };
    let pairs = parameters
        .iter()
        .map(|(name, value)| (name.as_ref(), value));
    let added = Serializer::new(String::new()).extend_pairs(pairs).finish();
    let query = endpoint.query().unwrap_or_default();
    let retained = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !own(pair));
    let query: Vec<&str> = retained.chain([&*added]).collect();

    let text = endpoint.to_string();
    let base = text.split_once('?').map_or(&*text, |(base, _)| base);
    format!("{base}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_the_endpoint_is_retained_and_nothing_is_sent_twice() {
        for (endpoint, expected) in [
            (
                "https://as.example/a",
                "https://as.example/a?prompt=x+y&state=%26",
            ),
            (
                "https://as.example",
                "https://as.example/?prompt=x+y&state=%26",
            ),
            (
                "https://as.example/a?",
                "https://as.example/a?prompt=x+y&state=%26",
            ),
            (
                "https://as.example/a?p=b2c_1&t=%2F%3d+x&flag&e=",
                "https://as.example/a?p=b2c_1&t=%2F%3d+x&flag&e=&prompt=x+y&state=%26",
            ),
            (
                "https://as.example/a?prompt=select_account&p=1",
                "https://as.example/a?p=1&prompt=x+y&state=%26",
            ),
            (
                "https://as.example/a?pr%6Fmpt=1&state&state=2",
                "https://as.example/a?prompt=x+y&state=%26",
            ),
            (
                "https://as.example/a?&&p=a?b&",
                "https://as.example/a?p=a?b&prompt=x+y&state=%26",
            ),
        ] {
            let parameters = [("prompt", "x y".to_owned()), ("state", "&".to_owned())];
            let url = url(&endpoint.parse().unwrap(), &parameters);
            assert_eq!(url, expected, "{endpoint}");
        }
    }
}
