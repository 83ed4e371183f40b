//! What an engine is given: the name of an entry, the owner of a lease, and fences.

use std::{fmt, sync::Arc};

use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// The name of an entry: letters, digits, `-` and `_`, which say nothing about the token.
///
/// It is a keyed digest of everything that determines the token, so it cannot be computed without the key.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::token_store::EntryName;
///
/// assert_eq!(EntryName::new("n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg").as_str().len(), 43);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(Arc<str>);

impl EntryName {
    /// Creates a name, to test an engine.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// Returns the text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryName({:?})", self.as_str())
    }
}

/// The owner of a lease: 22 random letters, digits, `-` and `_`, new for each fetch.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::token_store::LeaseOwner;
///
/// assert_ne!(LeaseOwner::random(), LeaseOwner::random());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseOwner(Box<str>);

impl LeaseOwner {
    /// Creates an owner that differs from all others, in all processes.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        if rand::fill(&mut bytes).is_err() {
            // An owner has to be unique. It need not be unpredictable.
            bytes = fastrand::u128(..).to_be_bytes();
        }
        Self(BASE64_URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// Returns the text of the owner.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A number that grows with each lease of a name. Fences of different names have nothing to do with each other.
///
/// A fence is less than 2⁵³, so that every engine can calculate with it.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::token_store::Fence;
///
/// assert!(Fence::new(8) > Fence::new(7));
/// assert_eq!(Fence::new(7).get(), 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(u64);

impl Fence {
    /// Creates a fence from its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
