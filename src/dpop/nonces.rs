//! The DPoP nonces that servers have sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::HeaderMap;

use super::{Role, nonce};
use crate::base::origin::Origin;

/// The maximum number of servers.
///
/// If there are more, the server with the oldest nonce is forgotten, and must demand its nonce again.
const MAX: usize = 1024;

/// The last nonce of each server (RFC 9449 §8 and §9).
#[derive(Default)]
pub(super) struct Nonces(Mutex<Known>);

#[derive(Default)]
struct Known {
    nonces: HashMap<(Role, Origin), Nonce>,
    noted: u64,
}

struct Nonce {
    text: Arc<str>,
    noted: u64,
}

impl Nonces {
    /// Returns the nonce for the next proof.
    pub(super) fn get(&self, role: Role, origin: &Origin) -> Option<Arc<str>> {
        let known = self.lock();
        let nonce = known.nonces.get(&(role, origin.clone()))?;
        Some(nonce.text.clone())
    }

    /// Stores the nonce of a response, if it contains one. The status does not matter.
    pub(super) fn note(&self, role: Role, origin: Origin, headers: &HeaderMap) {
        let Some(text) = nonce(headers) else {
            return;
        };
        let mut known = self.lock();
        let key = (role, origin);
        if known
            .nonces
            .get(&key)
            .is_some_and(|nonce| *nonce.text == *text)
        {
            return;
        }
        known.noted += 1;
        let nonce = Nonce {
            text: text.into(),
            noted: known.noted,
        };
        known.nonces.insert(key, nonce);
        if known.nonces.len() > MAX {
            let oldest = known.nonces.iter().min_by_key(|(_, nonce)| nonce.noted);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                known.nonces.remove(&oldest);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn oldest_nonce_is_dropped_at_the_limit() {
        let nonces = Nonces::default();
        for n in 0..=MAX {
            nonces.note(Role::ResourceServer, origin(n), &headers("x"));
        }
        assert_eq!(nonces.lock().nonces.len(), MAX);
        assert_eq!(nonces.get(Role::ResourceServer, &origin(0)), None);
        assert!(nonces.get(Role::ResourceServer, &origin(1)).is_some());
        assert!(nonces.get(Role::ResourceServer, &origin(MAX)).is_some());
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
