//! Which forms are equal, and their hash.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::{HeaderMap, Uri};

use super::Form;

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.extras(), other.extras());
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.parameters == other.0.parameters
                && self.is_refused_like(other)
                && self.headers() == other.headers()
                && a.endpoint.as_deref().map(parts) == b.endpoint.as_deref().map(parts)
                && a.client_authentication == b.client_authentication
                && a.dpop == b.dpop
                && a.partition == b.partition
                && a.sign_in == b.sign_in
                && a.invalid == b.invalid)
    }
}

impl Form {
    /// Whether two forms with the same parameters are both refused or both not: because of a parameter that may not be repeated, or of
    /// a value that only one setter checks.
    ///
    /// Whether a parameter may be repeated is not sent, so it matters only where one is. What an endpoint allows only once depends on
    /// the names alone.
    fn is_refused_like(&self, other: &Self) -> bool {
        let pairs = || self.0.parameters.iter().zip(&other.0.parameters);
        let repeats = |form: &Self| form.repeated_name(|_| false).is_some();
        pairs().all(|(a, b)| a.is_checked_like(b))
            && (pairs().all(|(a, b)| a.repeatable == b.repeatable)
                || repeats(self) == repeats(other))
    }
}

/// The parts of a URI as they are sent. `Uri` itself ignores the case of the host.
fn parts(uri: &Uri) -> (Option<&str>, Option<&str>, &str, Option<&str>) {
    let authority = uri.authority().map(|authority| authority.as_str());
    (uri.scheme_str(), authority, uri.path(), uri.query())
}

impl Eq for Form {}

/// Hashes what is compared, except for whether parameters may be repeated.
impl Hash for Form {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let extras = self.extras();
        self.0.parameters.hash(state);
        hash_headers(self.headers(), state);
        extras.endpoint.as_deref().map(parts).hash(state);
        extras.client_authentication.hash(state);
        extras.dpop.hash(state);
        extras.partition.hash(state);
        extras.sign_in.hash(state);
        extras.invalid.hash(state);
    }
}

/// Hashes the headers in the order of their names, because their own order is not compared.
fn hash_headers<H: Hasher>(headers: &HeaderMap, state: &mut H) {
    headers.len().hash(state);
    let mut names: Vec<_> = headers.keys().collect();
    names.sort_unstable_by_key(|name| name.as_str());
    for name in names {
        for value in headers.get_all(name) {
            (name.as_str(), value.as_bytes()).hash(state);
        }
    }
}
