//! Explains why a private key cannot be used.

use std::fmt;

use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, PqdsaKeyPair};
use x509_cert::{
    Certificate,
    der::{
        self, Decode, Reader, SliceReader,
        asn1::{AnyRef, ObjectIdentifier, OctetStringRef, UintRef},
    },
    spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef},
};

use super::{
    InvalidKey, PublicKey, SigningAlgorithm,
    jwk::{Curve, KeyType},
    key_pair::{key_type, signing},
    ml_dsa::MlDsa,
    pem,
};

/// The algorithm of a key that only signs with RSASSA-PSS (RFC 4055 §1.2).
const ID_RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

pub(super) const RSA_PSS: &str = "the private key is an RSA-PSS key (its algorithm is `id-RSASSA-PSS`), which is not supported; \
     pass a plain RSA key (`rsaEncryption`), which also signs with PS256, PS384 and PS512";

/// `an RSA key`
impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa => f.write_str("an RSA key"),
            Self::Ec(curve) => write!(f, "a key on the curve {curve}"),
            Self::Ed25519 => f.write_str("an Ed25519 key"),
            Self::MlDsa(parameters) => write!(f, "an {} key", parameters.algorithm()),
        }
    }
}

pub(super) fn wrong_algorithm(found: KeyType, algorithm: SigningAlgorithm) -> InvalidKey {
    match key_type(algorithm) {
        Ok(needed) => InvalidKey::new(format!(
            "the key is {found}, but {algorithm} needs {needed}; pass such a key, or the algorithm that fits this key"
        )),
        Err(error) => error,
    }
}

/// Explains why `der` is not a private key for the algorithm.
///
/// It may be another kind of key, or not a key at all.
pub(super) fn why_not(der: &[u8], algorithm: SigningAlgorithm) -> InvalidKey {
    if pkcs8(der).is_some_and(|(algorithm, _)| algorithm.oid == ID_RSASSA_PSS) {
        return InvalidKey::new(RSA_PSS);
    }
    let rsa_bits = rsa_bits(der);
    if key_type(algorithm).is_ok_and(|needed| needed == KeyType::Rsa) {
        match rsa_bits {
            Some(..2048) => return InvalidKey::too_small(),
            Some(..=8192) => {
                return InvalidKey::new(
                    "the RSA key is malformed: its parts do not match each other",
                );
            }
            Some(_) => {
                return InvalidKey::new("the RSA key has more than 8192 bits; use a shorter one");
            }
            None => {}
        }
    }
    let other = match rsa_bits {
        Some(_) => Some(KeyType::Rsa),
        None => other_key_type(der),
    };
    if let Some(other) = other {
        return wrong_algorithm(other, algorithm);
    }
    InvalidKey::new(if pem::is_pem(der) {
        "the key is PEM, not DER; use `from_pem`"
    } else if Certificate::from_der(der).is_ok() {
        "the DER is a certificate; pass the private key that belongs to it"
    } else if SubjectPublicKeyInfoRef::from_der(der).is_ok() || PublicKey::rsa_der(der).is_some() {
        "the DER is a public key; pass the private key that belongs to it"
    } else if is_encrypted(der) {
        "the private key is encrypted; decrypt it first, for example with `openssl pkey -in FILE -out FILE`"
    } else {
        "the private key is malformed or not supported; \
         pass an RSA key, an EC key on P-256, P-384 or P-521, an Ed25519 key or an ML-DSA key, as PKCS#8, PKCS#1 or SEC 1"
    })
}

/// Returns the type of a key that is not RSA.
fn other_key_type(der: &[u8]) -> Option<KeyType> {
    let is_on = |curve: &Curve| EcdsaKeyPair::from_private_key_der(signing(*curve), der).is_ok();
    let is_ml_dsa =
        |parameters: &MlDsa| PqdsaKeyPair::from_pkcs8(parameters.signing(), der).is_ok();
    if let Some(curve) = Curve::ALL.into_iter().find(is_on) {
        return Some(KeyType::Ec(curve));
    }
    if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
        return Some(KeyType::Ed25519);
    }
    MlDsa::ALL.into_iter().find(is_ml_dsa).map(KeyType::MlDsa)
}

/// Returns the size in bits of the modulus of an RSA private key in PKCS#8 or PKCS#1 (RFC 5958 §2, RFC 8017 A.1.2).
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let der = pkcs8(der).map_or(der, |(_, key)| key);
    let modulus = read_start(der, |reader| Ok(reader.decode::<UintRef<'_>>()?.as_bytes()))?;
    let zeros = modulus.first()?.leading_zeros();
    Some(modulus.len() * 8 - usize::try_from(zeros).ok()?)
}

/// Returns the algorithm and the inner key of a private key in PKCS#8 (RFC 5958 §2).
pub(super) fn pkcs8(der: &[u8]) -> Option<(AlgorithmIdentifierRef<'_>, &[u8])> {
    read_start(der, |reader| {
        let algorithm = reader.decode()?;
        Ok((algorithm, reader.decode::<&OctetStringRef>()?.as_bytes()))
    })
}

/// Whether something follows the first element of the DER. The library that reads the key ignores it.
pub(super) fn has_bytes_after(der: &[u8]) -> bool {
    let read = |der| {
        let mut reader = SliceReader::new(der)?;
        reader.decode::<AnyRef<'_>>()?;
        Ok::<_, der::Error>(!reader.is_finished())
    };
    read(der).unwrap_or(false)
}

/// Returns what `read` reads after the version of a private key. The rest of the key is not read.
fn read_start<'a, T>(
    der: &'a [u8],
    read: impl FnOnce(&mut SliceReader<'a>) -> der::Result<T>,
) -> Option<T> {
    let mut found = None;
    // The reader returns an error because the rest of the sequence is not read.
    let _ = SliceReader::new(der).ok()?.sequence(|reader| {
        reader.decode::<u8>()?;
        found = Some(read(reader)?);
        Ok::<_, der::Error>(())
    });
    found
}

/// Whether the DER is an `EncryptedPrivateKeyInfo` (RFC 5208 §6).
fn is_encrypted(der: &[u8]) -> bool {
    let read = |der| {
        SliceReader::new(der)?.sequence(|reader| {
            reader.decode::<AlgorithmIdentifierRef<'_>>()?;
            reader.decode::<&OctetStringRef>()?;
            Ok::<_, der::Error>(())
        })
    };
    read(der).is_ok()
}
