//! `Signer`: signs JWTs with a local or a remote key.

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::Value;

use super::{PublicKey, SigningAlgorithm};
use crate::error::BoxError;

/// The future that [`Signer::sign`] returns.
pub type SignFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, BoxError>> + Send + 'a>>;

/// Signs JWTs: client assertions and DPoP proofs.
///
/// [`SigningKey`](super::SigningKey) implements it with a key in this process. Implement it yourself for a key elsewhere: in a KMS, an
/// HSM or an agent.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{
///     BoxError, ClientAuthentication,
///     jwt::{SignFuture, Signer, SigningAlgorithm},
/// };
///
/// struct Vault {
///     key: String,
/// }
///
/// impl Vault {
///     async fn ask(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
/// #       let _ = (&self.key, message);
///         Err("the vault is sealed".into())
///     }
/// }
///
/// impl Signer for Vault {
///     fn algorithm(&self) -> SigningAlgorithm {
///         SigningAlgorithm::ES256
///     }
///
///     fn key_id(&self) -> Option<&str> {
///         Some(&self.key)
///     }
///
///     fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
///         Box::pin(self.ask(message))
///     }
/// }
///
/// let vault = Vault { key: "orders/2026-11".into() };
/// let client = ClientAuthentication::private_key_jwt("client", vault);
/// ```
pub trait Signer: Send + Sync {
    /// Returns the algorithm, which is sent as `alg` in the header.
    fn algorithm(&self) -> SigningAlgorithm;

    /// Returns the name under which the server knows the key. Default is none.
    ///
    /// It is sent as `kid` in the header.
    fn key_id(&self) -> Option<&str> {
        None
    }

    /// Returns the SHA-256 digest of the key's certificate (DER), base64url without padding.
    ///
    /// It is sent as `x5t#S256` in the header of client assertions. Default is none.
    fn certificate_thumbprint(&self) -> Option<&str> {
        None
    }

    /// Returns the certificate of the key and the certificates that certify it, each as DER in base64 with padding. Default is none.
    ///
    /// It is sent as `x5c` in the header of client assertions
    /// ([RFC 7515 §4.1.6](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.6)).
    fn certificate_chain(&self) -> Option<&[String]> {
        None
    }

    /// Returns the public half of the key. Default is none.
    ///
    /// DPoP requires it, because every proof contains it. Client assertions do not contain it. But two values of
    /// [`ClientAuthentication`](crate::ClientAuthentication) are compared by it: without a public key, they are equal only if one is a
    /// clone of the other.
    fn public_key(&self) -> Option<&PublicKey> {
        None
    }

    /// Returns the public JWK under which to register the key at an authorization server. `None` if there is no
    /// [public key](Self::public_key), as for a shared secret.
    ///
    /// It contains the members of the public key, `alg` and `kid` as this signer sends them in headers, and `use`, which is `sig`. Do not
    /// implement this method: what you register would differ from what is sent.
    fn public_jwk(&self) -> Option<Value> {
        let public_key = self.public_key()?;
        Some(public_key.to_jwk(self.algorithm(), self.key_id()))
    }

    /// Signs `message`, the encoded header and claims of a JWT
    /// ([RFC 7515 §5.1](https://www.rfc-editor.org/rfc/rfc7515#section-5.1)).
    ///
    /// The signature must have the format that [RFC 7518 §3](https://www.rfc-editor.org/rfc/rfc7518#section-3) defines. For ECDSA, that
    /// is `r` followed by `s`, not DER; for ES512, each of the two has 66 bytes. For ML-DSA, the context is empty
    /// ([RFC 9964](https://www.rfc-editor.org/rfc/rfc9964)).
    ///
    /// # Errors
    ///
    /// Return the reason why there is no signature. It becomes part of the chain of sources of the `TokenError`. This crate does not
    /// print it, but a program that prints the whole chain does, so it must not contain a secret.
    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a>;
}

macro_rules! signs_through {
    ($pointer:ident) => {
        impl<T: Signer + ?Sized> Signer for $pointer<T> {
            fn algorithm(&self) -> SigningAlgorithm {
                (**self).algorithm()
            }

            fn key_id(&self) -> Option<&str> {
                (**self).key_id()
            }

            fn certificate_thumbprint(&self) -> Option<&str> {
                (**self).certificate_thumbprint()
            }

            fn certificate_chain(&self) -> Option<&[String]> {
                (**self).certificate_chain()
            }

            fn public_key(&self) -> Option<&PublicKey> {
                (**self).public_key()
            }

            fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
                (**self).sign(message)
            }
        }
    };
}

signs_through!(Arc);
signs_through!(Box);
