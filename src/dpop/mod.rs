//! Tokens that are bound to a key, and the proofs of possession for them (DPoP, RFC 9449).
//!
//! Without the feature `dpop`, `DpopKey` is a type that has no values, so code that uses a key compiles to nothing.

#[cfg(feature = "dpop")]
mod key;
#[cfg(feature = "dpop")]
mod nonces;
#[cfg(not(feature = "dpop"))]
mod none;
#[cfg(feature = "dpop")]
mod proof;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

#[cfg(feature = "dpop")]
pub use self::key::DpopKey;
#[cfg(not(feature = "dpop"))]
pub(crate) use self::none::DpopKey;
use crate::error::ErrorCode;

/// The header that carries a proof (RFC 9449 §4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header in which a server sends a nonce (RFC 9449 §8).
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The error code with which a server demands a proof with its nonce (RFC 9449 §8 and §9).
pub(crate) const USE_DPOP_NONCE: &str = "use_dpop_nonce";

/// A proof for one request.
pub(crate) struct Proof {
    pub(crate) header: HeaderValue,
    /// The nonce in the proof, if it has one.
    pub(crate) nonce: Option<Arc<str>>,
}

/// The maximum length of a nonce. A longer one is ignored.
const MAX_NONCE_LENGTH: usize = 1024;

/// Returns the nonce in a response, if it is valid by RFC 9449 §8.1.
pub(crate) fn nonce(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(DPOP_NONCE)?.to_str().ok()?;
    let is_allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let is_usable = (1..=MAX_NONCE_LENGTH).contains(&text.len()) && text.bytes().all(is_allowed);
    is_usable.then_some(text)
}

/// Whether the authorization server demands a proof with the nonce in its response.
///
/// If so, it did not process the request (RFC 9449 §8). Any response may contain a nonce, so a nonce alone counts as a demand only if the
/// response has no error code.
pub(crate) fn demands_nonce(
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<&ErrorCode>,
) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
        && nonce(headers).is_some()
        && code.is_none_or(|code| *code == ErrorCode::USE_DPOP_NONCE)
}

/// The role of the server that receives a proof.
///
/// Each role has its own nonces, even at the same origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    AuthorizationServer,
    ResourceServer,
}
