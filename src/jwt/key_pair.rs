//! `KeyPair`: reads a private key, and signs with it.

use aws_lc_rs::{
    error::{KeyRejected, Unspecified},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
        KeyPair as _, PqdsaKeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};

use super::{
    InvalidKey, PublicKey, SigningAlgorithm,
    jwk::{Curve, Jwk, KeyType},
    key_problem::{has_bytes_after, pkcs8, why_not, wrong_algorithm},
    ml_dsa::MlDsa,
};

/// A private key, with the parameters of its signatures.
pub(super) enum KeyPair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, Curve),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair, MlDsa),
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
            KeyType::MlDsa(parameters) => PqdsaKeyPair::from_pkcs8(parameters.signing(), der)
                .map(|pair| Self::MlDsa(pair, parameters)),
        };
        pair.map_err(|_| why_not(der, algorithm))
    }

    pub(super) fn from_jwk(jwk: &Jwk, algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        let found = jwk.key_type()?;
        jwk.check_private(found)?;
        check_fits(found, algorithm)?;
        let inconsistent = |_| inconsistent();
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
            KeyType::MlDsa(parameters) => {
                let seed = jwk.bytes_of_length("priv", MlDsa::SEED)?;
                let public = jwk.bytes_of_length("pub", parameters.public_key())?;
                let pair = PqdsaKeyPair::from_seed(parameters.signing(), &seed);
                match pair.map_err(inconsistent)? {
                    pair if pair.public_key().as_ref() == *public => {
                        Ok(Self::MlDsa(pair, parameters))
                    }
                    _ => Err(self::inconsistent()),
                }
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
            KeyType::MlDsa(parameters) => PqdsaKeyPair::generate(parameters.signing())
                .map(|pair| Self::MlDsa(pair, parameters)),
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
            Self::MlDsa(pair, _) => pair.public_key().as_ref(),
        }
    }

    pub(super) fn public_key(&self) -> Result<PublicKey, InvalidKey> {
        let public = self.subject_public_key();
        match self {
            Self::Rsa(..) => PublicKey::rsa_der(public),
            Self::Ec(_, curve) => PublicKey::ec_point(*curve, public),
            Self::Ed25519(_) => Some(PublicKey::ed25519(public)),
            Self::MlDsa(_, parameters) => Some(PublicKey::ml_dsa(*parameters, public)),
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
            Self::MlDsa(pair, parameters) => {
                let mut signature = vec![0; parameters.signature()];
                pair.sign(message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

fn inconsistent() -> InvalidKey {
    InvalidKey::new("the members of the JWK are not a valid key, or do not match each other")
}

/// Returns the type of key that the algorithm needs.
pub(super) fn key_type(algorithm: SigningAlgorithm) -> Result<KeyType, InvalidKey> {
    use SigningAlgorithm as A;
    match algorithm {
        A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Ok(KeyType::Rsa),
        A::ES256 => Ok(KeyType::Ec(Curve::P256)),
        A::ES384 => Ok(KeyType::Ec(Curve::P384)),
        A::ES512 => Ok(KeyType::Ec(Curve::P521)),
        A::EdDSA | A::Ed25519 => Ok(KeyType::Ed25519),
        A::MlDsa44 => Ok(KeyType::MlDsa(MlDsa::MlDsa44)),
        A::MlDsa65 => Ok(KeyType::MlDsa(MlDsa::MlDsa65)),
        A::MlDsa87 => Ok(KeyType::MlDsa(MlDsa::MlDsa87)),
        A::HS256 | A::HS384 | A::HS512 => Err(InvalidKey::new(format!(
            "{algorithm} signs with a shared secret, not with a private key; use `ClientAuthentication::client_secret_jwt`"
        ))),
    }
}

/// Returns an error if the algorithm needs another type of key than `found`.
pub(super) fn check_fits(found: KeyType, algorithm: SigningAlgorithm) -> Result<(), InvalidKey> {
    match key_type(algorithm)? == found {
        true => Ok(()),
        false => Err(wrong_algorithm(found, algorithm)),
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

pub(super) fn signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        Curve::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
    }
}

fn rsa_from_der(der: &[u8]) -> Result<RsaKeyPair, KeyRejected> {
    RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der))
}
