//! The headers that every request to an authorization server carries, unless the caller sets them.

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, ACCEPT_ENCODING, Entry, USER_AGENT},
};

/// How this crate names itself to servers, where nothing else is set. Firewalls drop requests without a `User-Agent`.
pub(crate) const CRATE_NAME: &str = concat!("tower-oauth2-client/", env!("CARGO_PKG_VERSION"));

/// How many headers [`add_default_headers`] adds at most.
pub(crate) const DEFAULT_HEADERS: usize = 3;

/// Adds `Accept`, `Accept-Encoding` and `User-Agent` where they are missing.
///
/// Without `Accept-Encoding`, a server may compress the response (RFC 9110 §12.5.3), which not every HTTP client undoes.
pub(crate) fn add_default_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (ACCEPT, "application/json"),
        (ACCEPT_ENCODING, "identity"),
        (USER_AGENT, CRATE_NAME),
    ] {
        if let Entry::Vacant(entry) = headers.entry(name) {
            entry.insert(HeaderValue::from_static(value));
        }
    }
}
