//! `PublicKey`: the public half of a key, as a JWK.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use x509_cert::der::{Reader, SliceReader, asn1::UintRef};

use super::{
    InvalidKey, SigningAlgorithm,
    jwk::{Curve, Jwk, KeyType},
    key_pair,
    ml_dsa::MlDsa,
};

/// The public half of a key as a JSON Web Key ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)).
///
/// It has only the members that [RFC 7638 §3.2](https://www.rfc-editor.org/rfc/rfc7638#section-3.2) requires, and
/// [RFC 9964](https://www.rfc-editor.org/rfc/rfc9964) for ML-DSA.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    key_type: KeyType,
    json: String,
    thumbprint: String,
}

impl PublicKey {
    /// Reads a JWK.
    ///
    /// The key is an RSA key of at least 2048 bits, an EC key on P-256, P-384 or P-521, an Ed25519 key, or an ML-DSA key
    /// (`"kty":"AKP"`). Members that are not required are dropped, including those of a private key.
    ///
    /// Use this to implement [`Signer`](super::Signer) for a remote key. A `SigningKey` knows its public key.
    ///
    /// # Errors
    ///
    /// Returns an error that says what is wrong with the JWK. A key that is not for signatures (`use`, `key_ops`) is refused.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::jwt::PublicKey;
    ///
    /// let key = PublicKey::from_jwk(
    ///     r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"1"}"#,
    /// )?;
    /// // RFC 8037, A.3
    /// assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    pub fn from_jwk(json: &str) -> Result<Self, InvalidKey> {
        let jwk = Jwk::parse(json)?;
        jwk.check_purpose(&["sign", "verify"])?;
        jwk.public_key()
    }

    /// Returns the key as JSON, with its members in lexicographic order and without white space.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// Returns the SHA-256 thumbprint, base64url without padding ([RFC 7638 §3](https://www.rfc-editor.org/rfc/rfc7638#section-3)).
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Returns the key with the members for its registration at an authorization server.
    pub(super) fn to_jwk(&self, algorithm: SigningAlgorithm, key_id: Option<&str>) -> Value {
        // It is always valid JSON, because this crate has written it.
        let mut members: Map<String, Value> = serde_json::from_str(&self.json).unwrap_or_default();
        members.insert("alg".into(), algorithm.as_str().into());
        members.insert("use".into(), "sig".into());
        if let Some(key_id) = key_id {
            members.insert("kid".into(), key_id.into());
        }
        Value::Object(members)
    }

    /// Returns an error if the algorithm needs another type of key.
    pub(crate) fn check_fits(&self, algorithm: SigningAlgorithm) -> Result<(), InvalidKey> {
        key_pair::check_fits(self.key_type, algorithm)
    }

    /// Creates an RSA key from its modulus and exponent, big-endian and without leading zeros.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Self {
        let [n, e] = [n, e].map(base64url);
        Self::new(
            KeyType::Rsa,
            format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        )
    }

    /// Reads an RSA key in DER (`RSAPublicKey`, RFC 8017 A.1.1).
    pub(super) fn rsa_der(der: &[u8]) -> Option<Self> {
        let read = |der| {
            SliceReader::new(der)?.sequence(|reader| {
                let (n, e): (UintRef<'_>, UintRef<'_>) = (reader.decode()?, reader.decode()?);
                Ok::<_, x509_cert::der::Error>(Self::rsa(n.as_bytes(), e.as_bytes()))
            })
        };
        read(der).ok()
    }

    /// Creates an EC key from the coordinates of its point, each padded to the length of the curve.
    pub(super) fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Self {
        let [x, y] = [x, y].map(base64url);
        Self::new(
            KeyType::Ec(curve),
            format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#),
        )
    }

    /// Reads an EC key from its uncompressed point (SEC 1, 2.3.3).
    pub(super) fn ec_point(curve: Curve, point: &[u8]) -> Option<Self> {
        let coordinates = point.strip_prefix(&[4])?;
        let (x, y) = coordinates.split_at_checked(curve.bytes())?;
        (y.len() == curve.bytes()).then(|| Self::ec(curve, x, y))
    }

    pub(super) fn ed25519(x: &[u8]) -> Self {
        let x = base64url(x);
        Self::new(
            KeyType::Ed25519,
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
        )
    }

    pub(super) fn ml_dsa(parameters: MlDsa, public: &[u8]) -> Self {
        let (alg, public) = (parameters.algorithm(), base64url(public));
        Self::new(
            KeyType::MlDsa(parameters),
            format!(r#"{{"alg":"{alg}","kty":"AKP","pub":"{public}"}}"#),
        )
    }

    fn new(key_type: KeyType, json: String) -> Self {
        let thumbprint = base64url(digest(&SHA256, json.as_bytes()).as_ref());
        Self {
            key_type,
            json,
            thumbprint,
        }
    }
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.thumbprint).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7638 §3.1.
    const RSA: &str = r#"{
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"
    }"#;

    #[test]
    fn thumbprint_matches_the_example_of_the_rfc() {
        let key = PublicKey::from_jwk(RSA).unwrap();
        let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(key.thumbprint(), thumbprint);
        assert!(
            key.as_json()
                .starts_with(r#"{"e":"AQAB","kty":"RSA","n":"0vx7"#)
        );
        assert!(key.as_json().ends_with(r#"nqDKgw"}"#));
        assert_eq!(format!("{key:?}"), format!("PublicKey({thumbprint:?})"));
    }

    #[test]
    fn member_order_and_leading_zeros_do_not_change_the_thumbprint() {
        let reordered = RSA
            .replace(r#""e": "AQAB", "#, "")
            .replace('{', r#"{"e":"AQAB","#);
        let key = PublicKey::from_jwk(RSA).unwrap();
        assert_eq!(PublicKey::from_jwk(&reordered).unwrap(), key);

        // RFC 7518 §2 forbids leading zeros in a number, but some libraries write them.
        let mut jwk: serde_json::Value = serde_json::from_str(RSA).unwrap();
        let n = BASE64_URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap());
        let with_zero = [vec![0], n.unwrap()].concat();
        jwk["n"] = base64url(&with_zero).into();
        assert_eq!(PublicKey::from_jwk(&jwk.to_string()).unwrap(), key);
    }

    #[test]
    fn der_of_a_key_gives_the_same_key_as_its_jwk() {
        let der = [0x30, 0x09, 2, 2, 0, 0xd3, 2, 3, 1, 0, 1];
        let json = r#"{"e":"AQAB","kty":"RSA","n":"0w"}"#;
        assert_eq!(PublicKey::rsa_der(&der).unwrap().as_json(), json);
        assert!(PublicKey::rsa_der(&der[..9]).is_none());

        let point = [&[4][..], &[1; 32], &[2; 32]].concat();
        let key = PublicKey::ec_point(Curve::P256, &point).unwrap();
        assert_eq!(key, PublicKey::ec(Curve::P256, &[1; 32], &[2; 32]));
        assert!(PublicKey::ec_point(Curve::P256, &point[..64]).is_none());
        assert!(PublicKey::ec_point(Curve::P384, &point).is_none());
    }
}
