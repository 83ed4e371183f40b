//! `StoreKey`: a key that encrypts entries.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use aws_lc_rs::rand;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use crate::{
    error::{BoxError, OwnError},
    secret::Credential,
};

/// A key that encrypts the entries of a [`TokenStore`](super::TokenStore): at least 32 random bytes.
///
/// All instances of a service need the same key. `openssl rand -base64 32` makes one.
///
/// Cloning is cheap: clones share the bytes, which are wiped from memory when the last clone is dropped.
///
/// # Security
///
/// Whoever has the key and can read the store can read all tokens. `Debug` prints `[redacted]`.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::token_store::StoreKey;
///
/// let key = StoreKey::from_base64("hnxzyZtHJN4e5ntXCbUoPk7H8lrPGlmYW+1IZ0yYtYk=")?;
/// assert_eq!(format!("{key:?}"), "StoreKey([redacted])");
/// # Ok::<_, tower_oauth2_client::token_store::InvalidStoreKey>(())
/// ```
#[derive(Clone)]
pub struct StoreKey(Arc<Zeroizing<Vec<u8>>>);

impl StoreKey {
    const LEAST_BYTES: usize = 32;

    /// Creates a key from its bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if there are fewer than 32 bytes, or if all are the same. The bytes must be random: a passphrase is no key.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_store::StoreKey;
    ///
    /// assert!(StoreKey::from_bytes(b"a password").is_err());
    /// ```
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self, InvalidStoreKey> {
        Self::new(Zeroizing::new(bytes.as_ref().to_vec()))
    }

    /// Creates a key from base64: the standard or the URL alphabet, with or without padding. White space around it is ignored.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not base64, or not of such a [key](Self::from_bytes).
    pub fn from_base64(text: impl AsRef<str>) -> Result<Self, InvalidStoreKey> {
        let text = text.as_ref().trim().trim_end_matches('=');
        let engine = match text.contains(['-', '_']) {
            true => BASE64_URL_SAFE_NO_PAD,
            false => BASE64_STANDARD_NO_PAD,
        };
        // Decoding into a vector that grows would leave copies of the key in memory.
        let mut bytes = Zeroizing::new(vec![0; text.len()]);
        let length = engine
            .decode_slice(text, &mut bytes)
            .map_err(|_| InvalidStoreKey("the key of the token store is not base64".into()))?;
        bytes.truncate(length);
        Self::new(bytes)
    }

    /// Reads a key in base64 from a file, an environment variable or a function.
    ///
    /// It is read once. To rotate the key, see [`StoreKeys`](super::StoreKeys).
    ///
    /// # Errors
    ///
    /// Returns the error of the credential, or an [`InvalidStoreKey`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tower_oauth2_client::{BoxError, Credential, token_store::StoreKey};
    ///
    /// # async fn example() -> Result<(), BoxError> {
    /// let key = StoreKey::from_credential(&Credential::env("TOKEN_STORE_KEY")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_credential(credential: &Credential) -> Result<Self, BoxError> {
        Ok(Self::from_base64(credential.obtain().await?.expose())?)
    }

    /// Generates a key, for a store that only this process uses.
    ///
    /// # Errors
    ///
    /// Returns an error if the random number generator of the system fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::token_store::StoreKey;
    ///
    /// assert!(StoreKey::generate().is_ok());
    /// ```
    pub fn generate() -> Result<Self, BoxError> {
        let mut bytes = Zeroizing::new(vec![0; Self::LEAST_BYTES]);
        rand::fill(&mut bytes)
            .map_err(|_| OwnError::new("the system's random number generator failed"))?;
        Ok(Self::new(bytes)?)
    }

    fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, InvalidStoreKey> {
        let length = bytes.len();
        if length < Self::LEAST_BYTES {
            return Err(InvalidStoreKey(
                format!("the key of the token store has {length} bytes; it needs at least 32 random ones")
                    .into(),
            ));
        }
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(InvalidStoreKey(
                "all bytes of the key of the token store are the same; it needs 32 random ones"
                    .into(),
            ));
        }
        Ok(Self(Arc::new(bytes)))
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey([redacted])")
    }
}

/// The error for bytes that cannot be the key of a token store.
///
/// Neither `Display` nor `Debug` shows the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidStoreKey(Cow<'static, str>);

impl fmt::Display for InvalidStoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidStoreKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_uniform_keys_are_refused() {
        for (bytes, expected) in [
            (&b""[..], "has 0 bytes"),
            (b"hunter2", "has 7 bytes"),
            (&[7; 31], "has 31 bytes"),
            (&[0; 32], "are the same"),
            (&[b'x'; 64], "are the same"),
        ] {
            let error = StoreKey::from_bytes(bytes).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{error:?}{error}").contains("hunter2"));
        }
    }

    #[test]
    fn base64_is_read_in_both_alphabets_with_and_without_padding() {
        let bytes: Vec<u8> = (0..32).map(|byte| 0xff - byte).collect();
        let own = StoreKey::from_bytes(&bytes).unwrap();
        let standard = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
        let url = standard.replace('/', "_").replace('+', "-");
        for text in [
            standard,
            &url,
            &format!(" {url}\n"),
            standard.trim_end_matches('='),
        ] {
            let key = StoreKey::from_base64(text).unwrap();
            assert_eq!(key.expose(), own.expose());
        }
    }

    #[test]
    fn other_text_is_refused_without_showing_it() {
        for text in [
            "",
            "hunter2hunter2hunter2hunter2hunter2hunter2h!",
            "-----BEGIN PRIVATE KEY-----",
            "hnxzyZtHJN4e5ntXCbUoPk7H8lrPGlmYW+1IZ0yYtY_=",
            "hnxzyZtHJN4e5ntX CbUoPk7H8lrPGlmYW+1IZ0yYtYk=",
        ] {
            let error = StoreKey::from_base64(text).unwrap_err();
            assert!(!format!("{error:?}{error}").contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn credential_gives_the_key_or_its_error() {
        let text = "hnxzyZtHJN4e5ntXCbUoPk7H8lrPGlmYW+1IZ0yYtYk=";
        let key = StoreKey::from_credential(&Credential::fixed(text))
            .await
            .unwrap();
        assert_eq!(key.expose(), StoreKey::from_base64(text).unwrap().expose());
        let missing = Credential::env("NO_SUCH_TOKEN_STORE_KEY");
        let error = StoreKey::from_credential(&missing).await.unwrap_err();
        assert!(
            error.to_string().contains("NO_SUCH_TOKEN_STORE_KEY"),
            "{error}"
        );
    }
}
