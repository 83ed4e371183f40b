//! Tokens that are bound to a key: proofs of possession (DPoP, RFC 9449).
//!
//! Without the feature `dpop` there are no keys: `DpopKey` is a type without values, and what is done with one compiles to nothing.

#[cfg(feature = "dpop")]
mod key;
#[cfg(feature = "dpop")]
mod nonces;
#[cfg(not(feature = "dpop"))]
mod none;
#[cfg(feature = "dpop")]
mod proof;

use http::{HeaderMap, HeaderName, StatusCode};

#[cfg(feature = "dpop")]
pub use self::key::DpopKey;
#[cfg(not(feature = "dpop"))]
pub(crate) use self::none::DpopKey;
use crate::error::ErrorCode;

/// The header that bears a proof (RFC 9449 §4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header by which a server hands out a nonce (RFC 9449 §8).
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The error by which a server demands a proof with its nonce (RFC 9449 §8 and §9).
pub(crate) const USE_DPOP_NONCE: &str = "use_dpop_nonce";

/// A nonce that is longer is none: the server has something else in mind.
const MAX_NONCE_LENGTH: usize = 1024;

/// The nonce that a response hands out, if it is one by RFC 9449 §8.1.
pub(crate) fn nonce(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(DPOP_NONCE)?.to_str().ok()?;
    let is_allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let is_usable = (1..=MAX_NONCE_LENGTH).contains(&text.len()) && text.bytes().all(is_allowed);
    is_usable.then_some(text)
}

/// Whether the authorization server wants a proof with the nonce that came along, and did not look at the rest (RFC 9449 §8).
///
/// Any answer may carry a nonce: it decides only where the server does not say what is wrong.
pub(crate) fn demands_nonce(
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<&ErrorCode>,
) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
        && nonce(headers).is_some()
        && code.is_none_or(|code| *code == ErrorCode::UseDpopNonce)
}

/// In which role a server gets a proof. The nonces of the one are none of the other's, even at one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    AuthorizationServer,
    ResourceServer,
}
