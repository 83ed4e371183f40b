//! Checks the client assertion of `private_key_jwt` as a strict server does (RFC 7523 §3). Pure functions.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::jws::{self, object, text};
use crate::jwt::{PublicKey, SigningAlgorithm};

/// How far the clock of a client may be ahead, in seconds.
const MAX_AHEAD: u64 = 5;

/// The public key with which a client is registered.
pub(super) struct RegisteredKey {
    key: PublicKey,
    algorithm: Option<SigningAlgorithm>,
    key_id: Option<String>,
}

/// What an assertion must be for.
pub(super) struct Expected<'a> {
    pub(super) client: &'a str,
    /// The names of the server (RFC 7523 §3 (3)): its issuer, and the URIs of its endpoints.
    pub(super) audiences: &'a [String],
    pub(super) now: u64,
}

impl RegisteredKey {
    /// Reads a public JWK, whose `alg` and `kid` bind the client if they are there.
    pub(super) fn from_jwk(jwk: &str) -> Result<Self, String> {
        let key = PublicKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        let members: Map<String, Value> =
            serde_json::from_str(jwk).map_err(|error| error.to_string())?;
        let algorithm = text(&members, "alg").map(|name| {
            jws::named(name).ok_or_else(|| format!("the algorithm `{name}` is not supported"))
        });
        Ok(Self {
            key,
            algorithm: algorithm.transpose()?,
            key_id: text(&members, "kid").map(Into::into),
        })
    }

    /// Checks everything except whether the assertion was used before. Returns its `jti`.
    pub(super) fn check(
        &self,
        assertion: &str,
        expected: &Expected<'_>,
    ) -> Result<String, &'static str> {
        let parts: Vec<&str> = assertion.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err("the client assertion is not a JWT of three parts");
        };
        let signed = assertion
            .rsplit_once('.')
            .map_or(assertion, |(signed, _)| signed);
        let header = object(header).ok_or("the header is not a JSON object in base64url")?;
        let claims = object(claims).ok_or("the claims are not a JSON object in base64url")?;
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| "the signature is not base64url")?;
        self.check_signature(&header, signed, &signature)?;
        check_claims(&claims, expected)?;
        let jti = text(&claims, "jti").filter(|jti| !jti.is_empty());
        Ok(jti.ok_or("`jti` is missing")?.to_owned())
    }

    fn check_signature(
        &self,
        header: &Map<String, Value>,
        signed: &str,
        signature: &[u8],
    ) -> Result<(), &'static str> {
        require(
            !header.contains_key("crit"),
            "`crit` names an unknown extension",
        )?;
        let algorithm = text(header, "alg").and_then(jws::named);
        let algorithm = algorithm.ok_or("`alg` is not a supported asymmetric algorithm")?;
        let is_registered = self
            .algorithm
            .is_none_or(|registered| registered == algorithm);
        require(is_registered, "`alg` is not that of the registered key")?;
        if let (Some(registered), Some(sent)) = (&self.key_id, text(header, "kid")) {
            require(
                registered == sent,
                "`kid` is not that of the registered key",
            )?;
        }
        require(
            jws::verifies(algorithm, &self.key, signed.as_bytes(), signature),
            "the signature is not that of the registered key",
        )
    }
}

fn check_claims(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), &'static str> {
    for (name, otherwise) in [
        ("iss", "`iss` is not the client id"),
        ("sub", "`sub` is not the client id"),
    ] {
        require(text(claims, name) == Some(expected.client), otherwise)?;
    }
    let is_expected = |audience: &Value| {
        let audience = audience.as_str();
        expected.audiences.iter().any(|it| audience == Some(it))
    };
    let is_for_server = match claims.get("aud") {
        Some(Value::Array(audiences)) => audiences.iter().any(is_expected),
        Some(audience) => is_expected(audience),
        None => false,
    };
    require(is_for_server, "`aud` does not name this server")?;
    let time = |name| claims.get(name).and_then(Value::as_f64);
    let exp = time("exp").ok_or("`exp` is missing")?;
    require(
        exp > expected.now as f64,
        "the client assertion has expired",
    )?;
    let latest = expected.now.saturating_add(MAX_AHEAD) as f64;
    let is_valid_yet = ["iat", "nbf"]
        .into_iter()
        .all(|name| time(name).is_none_or(|time| time <= latest));
    require(is_valid_yet, "`iat` or `nbf` is in the future")
}

fn require(is_true: bool, otherwise: &'static str) -> Result<(), &'static str> {
    is_true.then_some(()).ok_or(otherwise)
}

/// Returns `iss`, without checking anything.
pub(super) fn claimed_issuer(assertion: &str) -> Option<String> {
    let claims = object(assertion.split('.').nth(1)?)?;
    text(&claims, "iss").map(Into::into)
}
