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
mod origin;
#[cfg(feature = "dpop")]
mod proof;

use http::HeaderName;

#[cfg(feature = "dpop")]
pub use self::key::DpopKey;
#[cfg(not(feature = "dpop"))]
pub(crate) use self::none::DpopKey;

/// The header that bears a proof (RFC 9449 §4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header by which a server hands out a nonce (RFC 9449 §8).
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The error by which a server demands a proof with its nonce (RFC 9449 §8 and §9).
pub(crate) const USE_DPOP_NONCE: &str = "use_dpop_nonce";

/// In which role a server gets a proof. The nonces of the one are none of the other's, even at one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    AuthorizationServer,
    ResourceServer,
}
