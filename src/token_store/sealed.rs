//! `StoreKeys`: gives entries names that say nothing, encrypts them and decrypts them.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    hmac, rand,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use zeroize::Zeroizing;

use super::{EntryName, Fence, StoreKey};
use crate::{
    base::Quoted,
    error::{BoxError, OwnError},
};

/// The version of what an entry contains and how it is encrypted.
///
/// It is part of the cache key of an access token, so versions do not replace each other's entries. It is not part of that of a sign-in:
/// otherwise, two versions would spend the same refresh token. So a later version has to read the sign-ins of this one.
pub(crate) const VERSION: u8 = 1;
const KEY_ID_LENGTH: usize = 8;
const SALT_LENGTH: usize = 32;
/// Version and key id. They are authenticated, but not encrypted.
const HEADER_LENGTH: usize = 1 + KEY_ID_LENGTH;

/// The keys that one application uses in a [`TokenStore`](super::TokenStore).
///
/// Each entry is encrypted with AES-256-GCM under a key of its own, which HKDF-SHA256
/// ([RFC 5869](https://www.rfc-editor.org/rfc/rfc5869)) derives from the [`StoreKey`], the application and a random salt. The entry is bound
/// to its token request and to its fence, so it can neither be moved to another name nor look newer than it is. The name is an HMAC of the
/// token request.
///
/// Applications with different names share nothing, even with the same key in the same store. There is no way to store tokens in plaintext.
///
/// # Rotating the key
///
/// An instance that does not have the key of an entry fetches a token and overwrites the entry. So a rotation needs some steps, of which none
/// costs a token request. Each one is a deploy:
///
/// | deploy | keys |
/// |---|---|
/// | now | `StoreKeys::new("orders", first)` |
/// | 1 | `StoreKeys::new("orders", first).opens(second)` |
/// | 2 | `StoreKeys::new("orders", second).opens(first).names_with(first)` |
/// | 3 | `StoreKeys::new("orders", second).names_with(first)` |
/// | the next rotation | |
/// | 1 | `StoreKeys::new("orders", second).opens(third).names_with(first)` |
/// | 2 | `StoreKeys::new("orders", third).opens(second).names_with(first)` |
/// | 3 | `StoreKeys::new("orders", third).names_with(first)` |
///
/// After the third step, the old key opens nothing. The very first key gives the names in every step of every rotation. Without it, all names
/// change: each token is fetched again, and refresh tokens are spent twice.
///
/// An entry is encrypted with the new key when its token is renewed. So wait for the longest lifetime of a token before the third step. While
/// refresh tokens are shared, wait for [`keep_refresh_tokens`](super::ShareTokens::keep_refresh_tokens), which is 30 days by default: a sign-in whose
/// entry only the old key opens fails transiently until its instances have that key again.
///
/// # Security
///
/// Whoever can read the store sees how many entries there are, how long they are, and when they are used. Whoever can write to it can remove
/// entries, which costs token requests. If refresh tokens are shared, it ends sign-ins. Whoever also has a key can make entries of their own.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::token_store::{StoreKey, StoreKeys};
///
/// # fn main() -> Result<(), tower_oauth2_client::BoxError> {
/// let key = StoreKey::from_base64("hnxzyZtHJN4e5ntXCbUoPk7H8lrPGlmYW+1IZ0yYtYk=")?;
/// let keys = StoreKeys::new("orders", key);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StoreKeys {
    application: Box<str>,
    /// The first one encrypts.
    keys: Vec<DerivedKey>,
    naming: hmac::Key,
}

/// A key from which the keys of entries are derived.
#[derive(Clone)]
struct DerivedKey {
    key: StoreKey,
    id: [u8; KEY_ID_LENGTH],
}

/// What opening an entry gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    Entry(Zeroizing<Vec<u8>>),
    /// Another version of this crate wrote the entry.
    OtherVersion,
    /// The key of the entry is not among ours.
    UnknownKey,
    /// The entry was damaged, moved from another name, or made up.
    Corrupt,
}

impl StoreKeys {
    /// Encrypts, decrypts and names the entries of `application` with `key`.
    ///
    /// The application is usually the name of the service. All its instances give the same one.
    pub fn new(application: impl AsRef<str>, key: StoreKey) -> Self {
        let application = application.as_ref();
        Self {
            application: application.into(),
            naming: naming_key(&key, application),
            keys: vec![DerivedKey::new(key, application)],
        }
    }

    /// Also decrypts entries that were encrypted with `key`. Default is only the key of [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_store::{StoreKey, StoreKeys};
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let (now, next) = (StoreKey::generate()?, StoreKey::generate()?);
    /// let keys = StoreKeys::new("orders", now).opens(next);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn opens(mut self, key: StoreKey) -> Self {
        self.keys.push(DerivedKey::new(key, &self.application));
        self
    }

    /// Names entries with `key`, which decrypts nothing. Default is the key of [`new`](Self::new). The order of the setters does not matter.
    ///
    /// So entries keep their names after the key was rotated. Whoever has this key can check a guess of a whole token request, but can
    /// read no entry.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_store::{StoreKey, StoreKeys};
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let (first, last, now) = (StoreKey::generate()?, StoreKey::generate()?, StoreKey::generate()?);
    /// // The second rotation is under way.
    /// let keys = StoreKeys::new("orders", now).opens(last).names_with(first);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn names_with(mut self, key: StoreKey) -> Self {
        self.naming = naming_key(&key, &self.application);
        self
    }

    /// Returns the name of the entry for a cache key.
    pub(crate) fn name(&self, cache_key: &[u8]) -> EntryName {
        let name = hmac::sign(&self.naming, cache_key);
        EntryName::new(BASE64_URL_SAFE_NO_PAD.encode(name))
    }

    /// Encrypts an entry, and binds it to its cache key and its fence.
    pub(crate) fn seal(
        &self,
        cache_key: &[u8],
        fence: Fence,
        entry: &[u8],
    ) -> Result<Bytes, BoxError> {
        let key = &self.keys[0];
        let mut salt = [0; SALT_LENGTH];
        rand::fill(&mut salt)
            .map_err(|_| OwnError::new("the system's random number generator failed"))?;
        let mut sealed = Vec::with_capacity(HEADER_LENGTH + SALT_LENGTH + entry.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        let aad = authenticated(&sealed, fence, cache_key);
        sealed.extend_from_slice(&salt);

        let mut text = Zeroizing::new(entry.to_vec());
        let tag = key
            .entry_key(&salt, &self.application)
            .and_then(|key| {
                key.seal_in_place_separate_tag(nonce(), Aad::from(aad), text.as_mut_slice())
                    .ok()
            })
            .ok_or_else(|| OwnError::new("failed to encrypt an entry of the token store"))?;
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed.into())
    }

    /// Decrypts an entry.
    pub(crate) fn open(&self, cache_key: &[u8], fence: Fence, sealed: &[u8]) -> Opened {
        match sealed.first() {
            Some(&VERSION) => {}
            Some(_) => return Opened::OtherVersion,
            None => return Opened::Corrupt,
        }
        let Some((header, rest)) = sealed.split_at_checked(HEADER_LENGTH) else {
            return Opened::Corrupt;
        };
        let Some(key) = self.keys.iter().find(|key| key.id == header[1..]) else {
            return Opened::UnknownKey;
        };
        let Some((salt, encrypted)) = rest.split_at_checked(SALT_LENGTH) else {
            return Opened::Corrupt;
        };
        let aad = Aad::from(authenticated(header, fence, cache_key));
        let mut text = Zeroizing::new(encrypted.to_vec());
        let length = key.entry_key(salt, &self.application).and_then(|key| {
            let opened = key.open_in_place(nonce(), aad, text.as_mut_slice());
            opened.ok().map(|opened| opened.len())
        });
        match length {
            Some(length) => {
                text.truncate(length);
                Opened::Entry(text)
            }
            None => Opened::Corrupt,
        }
    }
}

impl DerivedKey {
    fn new(key: StoreKey, application: &str) -> Self {
        let digest = hmac::sign(&hmac_key(key.expose()), &info("key id", application));
        let mut id = [0; KEY_ID_LENGTH];
        id.copy_from_slice(&digest.as_ref()[..KEY_ID_LENGTH]);
        Self { key, id }
    }

    /// Returns the key of the one entry with this salt.
    fn entry_key(&self, salt: &[u8], application: &str) -> Option<LessSafeKey> {
        let prk = Salt::new(HKDF_SHA256, salt).extract(self.key.expose());
        let info = info(&format!("entry of version {VERSION}"), application);
        let info = [&*info];
        let okm = prk.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

fn naming_key(key: &StoreKey, application: &str) -> hmac::Key {
    let digest = hmac::sign(&hmac_key(key.expose()), &info("name", application));
    hmac_key(digest.as_ref())
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// Keeps keys of different purposes and applications apart.
fn info(purpose: &str, application: &str) -> Vec<u8> {
    format!("tower-oauth2-client token store\0{purpose}\0{application}").into_bytes()
}

fn authenticated(header: &[u8], fence: Fence, cache_key: &[u8]) -> Vec<u8> {
    [header, &fence.get().to_be_bytes(), cache_key].concat()
}

/// Each key encrypts one entry only, so its nonce need not be random.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl fmt::Debug for StoreKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreKeys")
            .field(
                "application",
                &format_args!("{:?}", Quoted(&self.application)),
            )
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Shows no entry.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entry(_) => "Entry([redacted])",
            Self::OtherVersion => "OtherVersion",
            Self::UnknownKey => "UnknownKey",
            Self::Corrupt => "Corrupt",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = b"client a";
    const B: &[u8] = b"client b";
    const ENTRY: &[u8] = b"an access token";
    const FENCE: Fence = Fence::new(7);

    fn key(first: u8) -> StoreKey {
        let bytes: Vec<u8> = (first..).take(32).collect();
        StoreKey::from_bytes(bytes).unwrap()
    }

    fn keys(first: u8) -> StoreKeys {
        StoreKeys::new("orders", key(first))
    }

    fn opened(entry: &[u8]) -> Opened {
        Opened::Entry(Zeroizing::new(entry.to_vec()))
    }

    #[test]
    fn sealed_entry_opens_only_with_its_key_application_and_cache_key() {
        let sealed = keys(1).seal(A, FENCE, ENTRY).unwrap();
        for (keys, cache_key, expected) in [
            (keys(1), A, opened(ENTRY)),
            (keys(1), B, Opened::Corrupt),
            (keys(2), A, Opened::UnknownKey),
            (keys(2).opens(key(1)), A, opened(ENTRY)),
            (keys(2).opens(key(1)).names_with(key(1)), A, opened(ENTRY)),
            (keys(2).names_with(key(1)), A, Opened::UnknownKey),
            (keys(2).opens(key(3)), A, Opened::UnknownKey),
            (StoreKeys::new("orders2", key(1)), A, Opened::UnknownKey),
            (StoreKeys::new("", key(1)), A, Opened::UnknownKey),
        ] {
            assert_eq!(
                keys.open(cache_key, FENCE, &sealed),
                expected,
                "{keys:?} {cache_key:?}"
            );
        }
    }

    #[test]
    fn sealed_entry_opens_only_with_its_fence() {
        let sealed = keys(1).seal(A, FENCE, ENTRY).unwrap();
        for fence in [0, 6, 8, u64::MAX] {
            assert_eq!(keys(1).open(A, Fence::new(fence), &sealed), Opened::Corrupt);
        }
    }

    #[test]
    fn each_flipped_bit_is_a_miss() {
        let sealed = keys(1).seal(A, FENCE, ENTRY).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0 => Opened::OtherVersion,
                1..HEADER_LENGTH => Opened::UnknownKey,
                _ => Opened::Corrupt,
            };
            assert_eq!(keys(1).open(A, FENCE, &flipped), expected, "bit {bit}");
        }
    }

    #[test]
    fn truncated_extended_and_foreign_bytes_are_misses() {
        let sealed = keys(1).seal(A, FENCE, ENTRY).unwrap();
        for length in 0..sealed.len() {
            assert_eq!(
                keys(1).open(A, FENCE, &sealed[..length]),
                Opened::Corrupt,
                "{length}"
            );
        }
        assert_eq!(
            keys(1).open(A, FENCE, &[&sealed[..], b"\0"].concat()),
            Opened::Corrupt
        );
        for (bytes, expected) in [
            (&b""[..], Opened::Corrupt),
            (b"\x01", Opened::Corrupt),
            (&[VERSION; 1000], Opened::UnknownKey),
            (b"<!DOCTYPE html><html></html>", Opened::OtherVersion),
            (b"{\"access_token\":\"t\"}", Opened::OtherVersion),
        ] {
            assert_eq!(keys(1).open(A, FENCE, bytes), expected);
        }
    }

    #[test]
    fn part_of_another_entry_does_not_open() {
        let (one, two) = (
            keys(1).seal(A, FENCE, ENTRY).unwrap(),
            keys(1).seal(A, FENCE, ENTRY).unwrap(),
        );
        assert_ne!(one, two, "the salt is random");
        let salt = HEADER_LENGTH + SALT_LENGTH;
        let mixed = [&one[..salt], &two[salt..]].concat();
        assert_eq!(keys(1).open(A, FENCE, &mixed), Opened::Corrupt);
    }

    #[test]
    fn sealed_entry_shows_nothing_of_entry_cache_key_and_application() {
        let sealed = keys(1).seal(A, FENCE, ENTRY).unwrap();
        for text in [ENTRY, A, b"orders", key(1).expose()] {
            for part in text.windows(4) {
                assert!(!sealed.windows(4).any(|found| found == part), "{part:?}");
            }
        }
        assert_eq!(sealed.len(), ENTRY.len() + HEADER_LENGTH + SALT_LENGTH + 16);
    }

    #[test]
    fn empty_and_long_entries_are_sealed() {
        for length in [0, 1, 16, 100_000] {
            let entry = vec![7; length];
            let sealed = keys(1).seal(b"", FENCE, &entry).unwrap();
            assert_eq!(keys(1).open(b"", FENCE, &sealed), opened(&entry));
        }
    }

    #[test]
    fn name_depends_on_key_application_and_cache_key() {
        let name = |keys: StoreKeys, cache_key: &[u8]| keys.name(cache_key);
        let own = name(keys(1), A);
        assert_eq!(own, name(keys(1), A));
        for other in [
            name(keys(1), B),
            name(keys(1), b""),
            name(keys(2), A),
            name(StoreKeys::new("orders2", key(1)), A),
        ] {
            assert_ne!(own, other);
        }
        assert_eq!(own.as_str().len(), 43);
        assert!(
            own.as_str()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
    }

    #[test]
    fn rotations_keep_names_and_each_step_reads_the_entries_of_the_last_one() {
        let steps = [
            keys(1),
            keys(1).opens(key(2)),
            keys(2).names_with(key(1)).opens(key(1)),
            keys(2).names_with(key(1)),
            keys(2).opens(key(3)).names_with(key(1)),
            keys(3).opens(key(2)).names_with(key(1)),
            keys(3).names_with(key(1)),
        ];
        for keys in &steps {
            assert_eq!(keys.name(A), steps[0].name(A), "{keys:?}");
        }
        assert_ne!(keys(2).name(A), keys(1).name(A));
        let old = keys(1).seal(A, FENCE, ENTRY).unwrap();
        assert_eq!(steps[3].open(A, FENCE, &old), Opened::UnknownKey);
        // While a step is deployed, the instances before and after it read each other's entries.
        for pair in steps.windows(2) {
            for (writer, reader) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let sealed = writer.seal(A, FENCE, ENTRY).unwrap();
                assert_eq!(
                    reader.open(A, FENCE, &sealed),
                    opened(ENTRY),
                    "{writer:?} {reader:?}"
                );
            }
        }
    }

    #[test]
    fn debug_shows_no_key_and_no_entry() {
        let shown = format!("{:?} {:?} {:?}", keys(65), key(65), opened(ENTRY));
        assert_eq!(
            shown,
            r#"StoreKeys { application: "orders", keys: 1, .. } StoreKey([redacted]) Entry([redacted])"#
        );
    }
}
