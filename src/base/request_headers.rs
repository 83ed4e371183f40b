//! The headers that every request to an authorization server carries, unless the caller sets them.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT},
};

/// How this crate names itself to servers, where nothing else is set. Firewalls drop requests without a `User-Agent`.
pub(crate) const CRATE_NAME: &str = concat!("tower-oauth2-client/", env!("CARGO_PKG_VERSION"));

/// The names and values.
///
/// Without `Accept-Encoding`, a server may compress the response (RFC 9110 §12.5.3), which not every HTTP client undoes.
const DEFAULTS: [(HeaderName, HeaderValue); 3] = [
    (ACCEPT, HeaderValue::from_static("application/json")),
    (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    (USER_AGENT, HeaderValue::from_static(CRATE_NAME)),
];

/// Returns a map with the default headers that are not `set` by the caller, and with room for `more` headers.
pub(crate) fn default_headers(set: &HeaderMap, more: usize) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(DEFAULTS.len() + more);
    for (name, value) in DEFAULTS {
        if !set.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    headers
}
