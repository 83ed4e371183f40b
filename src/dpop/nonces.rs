//! The DPoP nonces that servers have sent.

use std::sync::Arc;

use http::HeaderMap;

use super::{Role, nonce};
use crate::base::{origin::Origin, per_server::PerServer};

/// The last nonce of each server (RFC 9449 §8 and §9). A server that was forgotten must demand its nonce again.
#[derive(Default)]
pub(super) struct Nonces(PerServer<(Role, Origin), Arc<str>>);

impl Nonces {
    /// Returns the nonce for the next proof.
    pub(super) fn get(&self, role: Role, origin: &Origin) -> Option<Arc<str>> {
        self.0.get(&(role, origin.clone()))
    }

    /// Stores the nonce of a response, if it contains one. The status does not matter.
    pub(super) fn note(&self, role: Role, origin: Origin, headers: &HeaderMap) {
        let Some(text) = nonce(headers) else {
            return;
        };
        let known = self.get(role, &origin);
        if known.is_none_or(|known| *known != *text) {
            self.0.set((role, origin), text.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::dpop::{DPOP_NONCE, MAX_NONCE_LENGTH};

    fn origin(n: usize) -> Origin {
        Origin::over_http(&format!("https://api{n}.example").parse().unwrap()).unwrap()
    }

    fn headers(nonce: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            DPOP_NONCE,
            HeaderValue::from_bytes(nonce.as_bytes()).unwrap(),
        )])
    }

    #[test]
    fn nonces_are_stored_per_origin_and_role() {
        let nonces = Nonces::default();
        nonces.note(Role::ResourceServer, origin(1), &headers("one"));
        nonces.note(Role::ResourceServer, origin(2), &headers("two"));
        nonces.note(Role::AuthorizationServer, origin(1), &headers("three"));
        nonces.note(Role::ResourceServer, origin(1), &headers("four"));
        nonces.note(Role::ResourceServer, origin(1), &HeaderMap::new());
        let get = |role, n| nonces.get(role, &origin(n));
        assert_eq!(get(Role::ResourceServer, 1).as_deref(), Some("four"));
        assert_eq!(get(Role::ResourceServer, 2).as_deref(), Some("two"));
        assert_eq!(get(Role::AuthorizationServer, 1).as_deref(), Some("three"));
        assert_eq!(get(Role::AuthorizationServer, 2), None);
    }

    #[test]
    fn invalid_nonces_are_not_stored() {
        let long = "x".repeat(MAX_NONCE_LENGTH + 1);
        for nonce in ["", "a b", "a\"b", "a\\b", "caf\u{e9}", &long] {
            let nonces = Nonces::default();
            nonces.note(Role::ResourceServer, origin(1), &headers(nonce));
            assert_eq!(
                nonces.get(Role::ResourceServer, &origin(1)),
                None,
                "{nonce:?}"
            );
        }
    }
}
