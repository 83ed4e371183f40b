//! Reads the members of a JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037 §2, RFC 9964 §3).

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use x509_cert::der::{Encode, Length, SliceWriter, asn1::UintRef};
use zeroize::{Zeroize, Zeroizing};

use super::{InvalidKey, PublicKey, SigningAlgorithm, ml_dsa::MlDsa};

/// A JWK. Its members are wiped from memory when it is dropped.
pub(super) struct Jwk(Map<String, Value>);

/// The curves of [`SigningAlgorithm::ES256`], [`SigningAlgorithm::ES384`] and [`SigningAlgorithm::ES512`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// The type and curve of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum KeyType {
    Rsa,
    Ec(Curve),
    Ed25519,
    MlDsa(MlDsa),
}

impl Curve {
    pub(super) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// Returns the length in bytes of a coordinate and of a private key.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        })
    }
}

impl Jwk {
    /// Parses a JWK. The error contains nothing of the text, so it does not include the JSON parser's error.
    pub(super) fn parse(json: &str) -> Result<Self, InvalidKey> {
        let jwk = match serde_json::from_str(json.trim_start_matches('\u{feff}')) {
            Ok(Value::Object(members)) => Self(members),
            Ok(_) => return Err(InvalidKey::new("the JWK is not a JSON object")),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                return Err(InvalidKey::new(format!(
                    "the JWK is not JSON (line {line}, column {column})"
                )));
            }
        };
        if jwk.0.contains_key("keys") {
            return Err(InvalidKey::new(
                "the JSON is a set of keys; pass only the key to use",
            ));
        }
        Ok(jwk)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Returns an error if `use` or `key_ops` says that the key is for none of these operations (RFC 7517 §4.2, §4.3).
    pub(super) fn check_purpose(&self, operations: &[&str]) -> Result<(), InvalidKey> {
        let member = |name| self.0.get(name).filter(|value| !value.is_null());
        if member("use").is_some_and(|usage| usage != "sig") {
            return Err(InvalidKey::new(
                "the JWK is not for signatures (its `use` is not `sig`); pass one that is",
            ));
        }
        let allows = |allowed: &Value| operations.iter().any(|operation| allowed == operation);
        match member("key_ops") {
            None => Ok(()),
            Some(Value::Array(allowed)) if allowed.iter().any(allows) => Ok(()),
            Some(_) => Err(InvalidKey::new(format!(
                "the JWK is not for signatures (its `key_ops` is not a list with `{}`); pass one that is",
                operations.join("` or `")
            ))),
        }
    }

    /// Returns an error if the member with the private key is missing.
    pub(super) fn check_private(&self, key_type: KeyType) -> Result<(), InvalidKey> {
        let name = match key_type {
            KeyType::MlDsa(_) => "priv",
            KeyType::Rsa | KeyType::Ec(_) | KeyType::Ed25519 => "d",
        };
        match self.0.contains_key(name) {
            true => Ok(()),
            false => Err(InvalidKey::new(format!(
                "the JWK is a public key (it has no `{name}`); pass the private key that belongs to it"
            ))),
        }
    }

    /// Returns `alg`, if the JWK has it.
    pub(super) fn algorithm(&self) -> Result<Option<SigningAlgorithm>, InvalidKey> {
        let Some(value) = self.0.get("alg") else {
            return Ok(None);
        };
        let Some(name) = value.as_str() else {
            return Err(InvalidKey::new("the `alg` of the JWK is not a string"));
        };
        let algorithm: Result<SigningAlgorithm, _> = name.parse();
        algorithm.map(Some).map_err(|error| {
            InvalidKey::new(format!("the `alg` of the JWK cannot be used: {error}"))
        })
    }

    pub(super) fn key_type(&self) -> Result<KeyType, InvalidKey> {
        match (self.text("kty"), self.text("crv")) {
            (Some("RSA"), _) => Ok(KeyType::Rsa),
            (Some("EC"), Some("P-256")) => Ok(KeyType::Ec(Curve::P256)),
            (Some("EC"), Some("P-384")) => Ok(KeyType::Ec(Curve::P384)),
            (Some("EC"), Some("P-521")) => Ok(KeyType::Ec(Curve::P521)),
            (Some("EC"), _) => Err(InvalidKey::new(
                "the `crv` of the JWK is not P-256, P-384 or P-521",
            )),
            (Some("OKP"), Some("Ed25519")) => Ok(KeyType::Ed25519),
            (Some("OKP"), _) => Err(InvalidKey::new("the `crv` of the JWK is not Ed25519")),
            // The type of such a key is its algorithm (RFC 9964 §3).
            (Some("AKP"), _) => match self.algorithm()?.map(MlDsa::of) {
                Some(Some(parameters)) => Ok(KeyType::MlDsa(parameters)),
                _ => Err(InvalidKey::new(
                    "the `alg` of the JWK is not ML-DSA-44, ML-DSA-65 or ML-DSA-87, which its `kty` requires",
                )),
            },
            (Some("oct"), _) => Err(InvalidKey::new(
                "the JWK is a shared secret; use `ClientAuthentication::client_secret_jwt`",
            )),
            (Some(_), _) => Err(InvalidKey::new(
                "the `kty` of the JWK is not RSA, EC, OKP or AKP",
            )),
            (None, _) => Err(InvalidKey::new("the JWK has no `kty`")),
        }
    }

    pub(super) fn public_key(&self) -> Result<PublicKey, InvalidKey> {
        Ok(match self.key_type()? {
            KeyType::Rsa => {
                let (n, e) = (self.integer("n")?, self.integer("e")?);
                let zeros = n.first().map_or(0, |first| first.leading_zeros());
                if n.len() * 8 < 2048 + zeros as usize {
                    return Err(InvalidKey::too_small());
                }
                PublicKey::rsa(&n, &e)
            }
            KeyType::Ec(curve) => {
                let [x, y] = ["x", "y"].map(|name| self.bytes_of_length(name, curve.bytes()));
                PublicKey::ec(curve, &x?, &y?)
            }
            KeyType::Ed25519 => PublicKey::ed25519(&self.bytes_of_length("x", 32)?),
            KeyType::MlDsa(parameters) => {
                let public = self.bytes_of_length("pub", parameters.public_key())?;
                PublicKey::ml_dsa(parameters, &public)
            }
        })
    }

    /// Returns the private key of an RSA JWK as DER (`RSAPrivateKey`, RFC 8017 A.1.2).
    pub(super) fn rsa_der(&self) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
        if self.0.contains_key("oth") {
            return Err(InvalidKey::new(
                "the JWK is an RSA key with more than two primes (`oth`), which is not supported",
            ));
        }
        let mut integers = vec![Zeroizing::new(vec![0])];
        for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
            integers.push(self.integer(name)?);
        }
        encode_sequence(&integers)
            .map_err(|_| InvalidKey::new("the RSA key of the JWK is too large"))
    }

    /// Reads a `Base64urlUInt` (RFC 7518 §2) and removes leading zeros.
    fn integer(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
        let mut bytes = self.bytes(name)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros == bytes.len() {
            return Err(InvalidKey::new(format!("the `{name}` of the JWK is zero")));
        }
        bytes.drain(..zeros);
        Ok(bytes)
    }

    pub(super) fn bytes_of_length(
        &self,
        name: &str,
        length: usize,
    ) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
        let bytes = self.bytes(name)?;
        match bytes.len() == length {
            true => Ok(bytes),
            false => Err(InvalidKey::new(format!(
                "the `{name}` of the JWK is not {length} bytes long"
            ))),
        }
    }

    fn bytes(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
        let text = self.text(name).ok_or_else(|| {
            InvalidKey::new(format!("the JWK has no `{name}`, or it is not a string"))
        })?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        BASE64_URL_SAFE_NO_PAD
            .decode_vec(text, &mut bytes)
            .map_err(|_| {
                InvalidKey::new(format!(
                    "the `{name}` of the JWK is not base64url without padding (RFC 7515 section 2)"
                ))
            })?;
        Ok(bytes)
    }
}

impl Drop for Jwk {
    fn drop(&mut self) {
        for member in self.0.values_mut() {
            if let Value::String(text) = member {
                text.zeroize();
            }
        }
    }
}

/// Encodes integers as a DER sequence.
///
/// The buffer has the final length from the start, because a growing one would leave copies of the key in memory.
fn encode_sequence(
    integers: &[Zeroizing<Vec<u8>>],
) -> Result<Zeroizing<Vec<u8>>, x509_cert::der::Error> {
    let integers: Vec<_> = integers
        .iter()
        .map(|bytes| UintRef::new(bytes))
        .collect::<Result<_, _>>()?;
    let content = integers.iter().try_fold(Length::ZERO, |length, integer| {
        length + integer.encoded_len()?
    })?;
    let length = usize::try_from(content)?;
    let mut der = Zeroizing::new(vec![0; length + 8]);
    let mut writer = SliceWriter::new(&mut der);
    writer.sequence(content, |writer| {
        integers
            .iter()
            .try_for_each(|integer| integer.encode(writer))
    })?;
    let written = writer.finish()?.len();
    der.truncate(written);
    Ok(der)
}
