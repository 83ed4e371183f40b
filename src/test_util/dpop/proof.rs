//! Checks one proof as a strict server does (RFC 9449 §4.3). Pure functions.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    base::origin::Origin,
    dpop::DPOP,
    jwt::PublicKey,
    test_util::jws::{self, object, text},
};

/// How old a proof may be, in seconds.
const MAX_AGE: u64 = 60;

/// How far the clock of a client may be ahead, in seconds.
const MAX_AHEAD: u64 = 5;

/// The length of 96 random bits in base64url, the least that RFC 9449 §4.2 asks for.
const MIN_JTI_LENGTH: usize = 16;

const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// What a proof must be for.
pub(super) struct Expected<'a> {
    pub(super) method: &'a Method,
    /// The URIs that the request may be meant for.
    pub(super) targets: &'a [Uri],
    /// The access token of the request, if it is one to an API.
    pub(super) token: Option<&'a str>,
}

/// The contents of a valid proof.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) thumbprint: String,
    pub(super) jti: String,
    pub(super) nonce: Option<String>,
}

#[derive(Debug)]
pub(super) enum Refusal {
    Invalid(&'static str),
    NonceDemanded,
}

impl Refusal {
    /// Returns the error code, which is the same at the token endpoint and at APIs (RFC 9449 §5, §7.1, §8).
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_dpop_proof",
            Self::NonceDemanded => "use_dpop_nonce",
        }
    }

    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Invalid(why) => why,
            Self::NonceDemanded => "the proof needs the nonce of this response",
        }
    }
}

/// Returns the proof of a request, if it has one.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(DPOP).iter();
    let first = values.next();
    require(values.next().is_none(), "there is more than one proof")?;
    let text = first.map(|value| value.to_str());
    text.transpose()
        .map_err(|_| Refusal::Invalid("the proof is not visible ASCII"))
}

/// Checks everything except the nonce, the key, and whether the proof was used before.
pub(super) fn check(proof: &str, expected: &Expected<'_>, now: u64) -> Result<Proof, Refusal> {
    let invalid = Refusal::Invalid;
    let parts: Vec<&str> = proof.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        return Err(invalid("the proof is not a JWT of three parts"));
    };
    let signed = proof.rsplit_once('.').map_or(proof, |(signed, _)| signed);
    let header = object(header).ok_or(invalid("the header is not a JSON object in base64url"))?;
    let claims = object(claims).ok_or(invalid("the claims are no JSON object in base64url"))?;
    let signature = BASE64_URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| invalid("the signature is not base64url"))?;

    require(
        text(&header, "typ") == Some("dpop+jwt"),
        "`typ` is not `dpop+jwt`",
    )?;
    require(
        !header.contains_key("crit"),
        "`crit` names an unknown extension",
    )?;
    let algorithm = text(&header, "alg")
        .and_then(jws::named)
        .ok_or(invalid("`alg` is not a supported asymmetric algorithm"))?;
    let jwk = header.get("jwk").filter(|jwk| jwk.is_object());
    let jwk = jwk.ok_or(invalid("`jwk` is missing"))?;
    let is_public = PRIVATE_MEMBERS.iter().all(|name| jwk.get(name).is_none());
    require(is_public, "`jwk` contains a private key")?;
    let key = PublicKey::from_jwk(&jwk.to_string())
        .map_err(|_| invalid("`jwk` is not a supported public key"))?;
    require(
        jws::verifies(algorithm, &key, signed.as_bytes(), &signature),
        "the signature is not valid",
    )?;

    let jti = text(&claims, "jti").ok_or(invalid("`jti` is missing"))?;
    require(
        jti.len() >= MIN_JTI_LENGTH,
        "`jti` is too short to be unique",
    )?;
    require(
        text(&claims, "htm") == Some(expected.method.as_str()),
        "`htm` is not the method of the request",
    )?;
    let htu = text(&claims, "htu").ok_or(invalid("`htu` is missing"))?;
    let is_for_target = expected.targets.iter().any(|target| is_htu_of(htu, target));
    require(is_for_target, "`htu` is not the URI of the request")?;
    let iat = claims.get("iat").and_then(Value::as_f64);
    let iat = iat.ok_or(invalid("`iat` is missing"))?;
    let times = now.saturating_sub(MAX_AGE) as f64..=now.saturating_add(MAX_AHEAD) as f64;
    require(times.contains(&iat), "`iat` is too old or in the future")?;
    check_token(&claims, expected.token)?;
    let nonce = match claims.get("nonce") {
        None => None,
        Some(Value::String(nonce)) => Some(nonce.clone()),
        Some(_) => return Err(invalid("`nonce` is not a string")),
    };
    Ok(Proof {
        thumbprint: key.thumbprint().to_owned(),
        jti: jti.to_owned(),
        nonce,
    })
}

/// A proof for a token request contains no token, and one for an API contains that of the request.
fn check_token(claims: &Map<String, Value>, token: Option<&str>) -> Result<(), Refusal> {
    let Some(token) = token else {
        return require(
            !claims.contains_key("ath"),
            "`ath` is not for a token request",
        );
    };
    let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(token));
    require(
        text(claims, "ath") == Some(&hash),
        "`ath` is not the hash of the access token",
    )
}

fn require(is_true: bool, otherwise: &'static str) -> Result<(), Refusal> {
    is_true.then_some(()).ok_or(Refusal::Invalid(otherwise))
}

/// Compares as RFC 9449 §4.3 recommends: scheme, host and port are normalized. The claim has no query and no fragment (§4.2).
fn is_htu_of(htu: &str, target: &Uri) -> bool {
    let Some(htu) = Some(htu)
        .filter(|htu| !htu.contains(['?', '#']))
        .and_then(|htu| htu.parse::<Uri>().ok())
    else {
        return false;
    };
    let same_path = htu.path() == target.path();
    match (Origin::over_http(&htu), Origin::over_http(target)) {
        (Some(htu), Some(target)) => htu == target && same_path,
        _ => false,
    }
}
