//! What tells the tokens of a cache apart: the whole request, compared by structure.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use crate::message::TokenRequest;

/// A request with its hash, which is made once and serves to choose the shard and the place in it.
#[derive(Clone)]
pub(super) struct Key {
    hash: u64,
    request: TokenRequest,
}

/// Keyed by chance, so that nobody who chooses requests can make them collide.
pub(super) type Keyed = RandomState;

impl Key {
    pub(super) fn new(keyed: &Keyed, request: TokenRequest) -> Self {
        Self {
            hash: keyed.hash_one(&request),
            request,
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn into_request(self) -> TokenRequest {
        self.request
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.request == other.request
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes the hash that a [`Key`] has already.
#[derive(Default)]
pub(super) struct AsIs(u64);

pub(super) type HashAsIs = BuildHasherDefault<AsIs>;

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
