//! `KeyPair`: reads a private key, signs with it, and explains why a key cannot be used.

use aws_lc_rs::{
    error::{KeyRejected, Unspecified},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
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
    jwk::{Curve, Jwk, KeyType},
    pem,
};

/// The algorithm of a key that only signs with RSASSA-PSS (RFC 4055 §1.2).
const ID_RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

pub(super) const RSA_PSS: &str = "the private key is an RSA-PSS key (its algorithm is `id-RSASSA-PSS`), which is not supported; \
     pass a plain RSA key (`rsaEncryption`), which also signs with PS256, PS384 and PS512";

/// A private key, with the parameters of its signatures.
pub(super) enum KeyPair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, Curve),
    Ed25519(Ed25519KeyPair),
}

impl KeyPair {
    /// Reads PKCS#8, PKCS#1 (RSA) and SEC 1 (EC).
    pub(super) fn from_der(der: &[u8], algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        if has_bytes_after(der) || pkcs8(der).is_some_and(|(_, key)| has_bytes_after(key)) {
            return Err(InvalidKey::new(
                "the DER contains more bytes after the key; pass only the key",
            ));
        }
        let pair = match key_type(algorithm)? {
            KeyType::Rsa => rsa_from_der(der).map(|pair| Self::Rsa(pair, rsa_encoding(algorithm))),
            KeyType::Ec(curve) => EcdsaKeyPair::from_private_key_der(signing(curve), der)
                .map(|pair| Self::Ec(pair, curve)),
            KeyType::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Ed25519),
        };
        pair.map_err(|_| why_not(der, algorithm))
    }

    pub(super) fn from_jwk(jwk: &Jwk, algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        let found = jwk.key_type()?;
        if !jwk.is_private() {
            return Err(InvalidKey::new(
                "the JWK is a public key (it has no `d`); pass the private key that belongs to it",
            ));
        }
        check_fits(found, algorithm)?;
        let inconsistent = |_| {
            InvalidKey::new(
                "the members of the JWK are not a valid key, or do not match each other",
            )
        };
        match found {
            KeyType::Rsa => {
                jwk.public_key()?;
                RsaKeyPair::from_der(&jwk.rsa_der()?)
                    .map(|pair| Self::Rsa(pair, rsa_encoding(algorithm)))
                    .map_err(inconsistent)
            }
            KeyType::Ec(curve) => {
                let member = |name| jwk.bytes_of_length(name, curve.bytes());
                let (d, x, y) = (member("d")?, member("x")?, member("y")?);
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                EcdsaKeyPair::from_private_key_and_public_key(signing(curve), &d, &point)
                    .map(|pair| Self::Ec(pair, curve))
                    .map_err(inconsistent)
            }
            KeyType::Ed25519 => {
                let (d, x) = (jwk.bytes_of_length("d", 32)?, jwk.bytes_of_length("x", 32)?);
                Ed25519KeyPair::from_seed_and_public_key(&d, &x)
                    .map(Self::Ed25519)
                    .map_err(inconsistent)
            }
        }
    }

    pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        let pair = match key_type(algorithm)? {
            KeyType::Rsa => RsaKeyPair::generate(KeySize::Rsa2048)
                .map(|pair| Self::Rsa(pair, rsa_encoding(algorithm))),
            KeyType::Ec(curve) => {
                EcdsaKeyPair::generate(signing(curve)).map(|pair| Self::Ec(pair, curve))
            }
            KeyType::Ed25519 => Ed25519KeyPair::generate().map(Self::Ed25519),
        };
        pair.map_err(|_| {
            InvalidKey::new("failed to generate a key; check the system's random number generator")
        })
    }

    /// Returns the content of `subjectPublicKey` in a certificate of this key.
    pub(super) fn subject_public_key(&self) -> &[u8] {
        match self {
            Self::Rsa(pair, _) => pair.public_key().as_ref(),
            Self::Ec(pair, _) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    pub(super) fn public_key(&self) -> Result<PublicKey, InvalidKey> {
        let public = self.subject_public_key();
        match self {
            Self::Rsa(..) => PublicKey::rsa_der(public),
            Self::Ec(_, curve) => PublicKey::ec_point(*curve, public),
            Self::Ed25519(_) => Some(PublicKey::ed25519(public)),
        }
        .ok_or_else(|| InvalidKey::new("the public half of the key has an unknown format"))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Ec(pair, _) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// Returns the type of key that the algorithm needs.
fn key_type(algorithm: SigningAlgorithm) -> Result<KeyType, InvalidKey> {
    use SigningAlgorithm as A;
    match algorithm {
        A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Ok(KeyType::Rsa),
        A::ES256 => Ok(KeyType::Ec(Curve::P256)),
        A::ES384 => Ok(KeyType::Ec(Curve::P384)),
        A::EdDSA => Ok(KeyType::Ed25519),
        A::HS256 | A::HS384 | A::HS512 => Err(InvalidKey::new(format!(
            "{algorithm} signs with a shared secret, not with a private key; use `ClientAuthentication::client_secret_jwt`"
        ))),
    }
}

/// Returns an error if the algorithm needs another type of key than `found`.
pub(super) fn check_fits(found: KeyType, algorithm: SigningAlgorithm) -> Result<(), InvalidKey> {
    match key_type(algorithm)? == found {
        true => Ok(()),
        false => Err(wrong_algorithm(name(found), algorithm)),
    }
}

fn rsa_encoding(algorithm: SigningAlgorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        SigningAlgorithm::RS384 => &RSA_PKCS1_SHA384,
        SigningAlgorithm::RS512 => &RSA_PKCS1_SHA512,
        SigningAlgorithm::PS256 => &RSA_PSS_SHA256,
        SigningAlgorithm::PS384 => &RSA_PSS_SHA384,
        SigningAlgorithm::PS512 => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

fn signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
    }
}

fn rsa_from_der(der: &[u8]) -> Result<RsaKeyPair, KeyRejected> {
    RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der))
}

fn name(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::Rsa => "an RSA key",
        KeyType::Ec(Curve::P256) => "a key on the curve P-256",
        KeyType::Ec(Curve::P384) => "a key on the curve P-384",
        KeyType::Ed25519 => "an Ed25519 key",
    }
}

fn wrong_algorithm(found: &str, algorithm: SigningAlgorithm) -> InvalidKey {
    let needed = key_type(algorithm).map_or("", name);
    InvalidKey::new(format!(
        "the key is {found}, but {algorithm} needs {needed}; pass such a key, or the algorithm that fits this key"
    ))
}

/// Explains why `der` is not a private key for the algorithm.
///
/// It may be another kind of key, or not a key at all.
fn why_not(der: &[u8], algorithm: SigningAlgorithm) -> InvalidKey {
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
    let is_on = |curve| EcdsaKeyPair::from_private_key_der(curve, der).is_ok();
    let other = if rsa_bits.is_some() {
        Some(name(KeyType::Rsa))
    } else if is_on(signing(Curve::P256)) {
        Some(name(KeyType::Ec(Curve::P256)))
    } else if is_on(signing(Curve::P384)) {
        Some(name(KeyType::Ec(Curve::P384)))
    } else if is_on(&ECDSA_P521_SHA512_FIXED_SIGNING) {
        Some("a key on the curve P-521")
    } else if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
        Some(name(KeyType::Ed25519))
    } else {
        None
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
         pass an RSA key, an EC key on P-256 or P-384, or an Ed25519 key, as PKCS#8, PKCS#1 or SEC 1"
    })
}

/// Returns the size in bits of the modulus of an RSA private key in PKCS#8 or PKCS#1 (RFC 5958 §2, RFC 8017 A.1.2).
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let der = pkcs8(der).map_or(der, |(_, key)| key);
    let modulus = read_start(der, |reader| Ok(reader.decode::<UintRef<'_>>()?.as_bytes()))?;
    let zeros = modulus.first()?.leading_zeros();
    Some(modulus.len() * 8 - usize::try_from(zeros).ok()?)
}

/// Returns the algorithm and the inner key of a private key in PKCS#8 (RFC 5958 §2).
fn pkcs8(der: &[u8]) -> Option<(AlgorithmIdentifierRef<'_>, &[u8])> {
    read_start(der, |reader| {
        let algorithm = reader.decode()?;
        Ok((algorithm, reader.decode::<&OctetStringRef>()?.as_bytes()))
    })
}

/// Whether something follows the first element of the DER. The library that reads the key ignores it.
fn has_bytes_after(der: &[u8]) -> bool {
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
