//! Signed JWTs: signers, keys, and the claims of client assertions.
//!
//! # FAPI 2.0
//!
//! See the guide [FAPI 2.0](crate::_documentation::fapi): a recipe, and each requirement of the profile with its tests.
//!
//! # What servers want
//!
//! | the server | the setting |
//! |---|---|
//! | Entra ID with certificates by subject name and issuer | [`SigningKey::certificate_chain`], which sends `x5t#S256` and `x5c` |
//! | rejects an assertion or a proof that was "issued in the future" | [`ClientAssertion::iat_before_now`], `DpopKey::iat_before_now` |
//! | requires `nbf` | [`ClientAssertion::nbf_before_now`] |
//! | requires other claims or header members | [`ClientAssertion::claim`], [`ClientAssertion::header`], `DpopKey::claim` |
//! | requires the URI of its token endpoint as `aud`, or an array | [`ClientAssertion::audience`], [`ClientAssertion::audiences`] |
//! | knows Ed25519 only as `Ed25519` | [`SigningAlgorithm::Ed25519`] |
//! | accepts SPIFFE JWT-SVIDs | [`client_assertion_type`](crate::ClientAuthentication::client_assertion_type), [`without_client_id`](crate::ClientAuthentication::without_client_id) |
//! | issues secrets that are too short for `client_secret_jwt` | [`danger_allow_short_secret`](crate::ClientAuthentication::danger_allow_short_secret) |
//!
//! If the clock of this machine is wrong, see [`ClientAssertion::follow_server_clock`].
//!
//! # FIPS 140-3
//!
//! This crate has no feature for FIPS. All of its cryptography comes from `aws-lc-rs`, for signatures and, with the feature `rustls`, for
//! TLS. A feature of `aws-lc-rs` replaces the implementation for all crates of a program. Add this to the `Cargo.toml` of the program:
//!
//! ```toml
//! [dependencies]
//! tower-oauth2-client = { version = "0.1", features = ["dpop", "rustls"] }
//! # These two are not used in the code. Cargo enables their features for every crate of the program.
//! aws-lc-rs = { version = "1.18", default-features = false, features = ["fips"] }
//! rustls = { version = "0.23", default-features = false, features = ["fips"] }
//! ```
//!
//! The build then needs CMake and Go. At the start of the program, call `aws_lc_rs::try_fips_mode()`, which fails if another
//! implementation is in use. Which algorithms and which version of the module are validated is up to its certificate.

mod client_assertion;
mod invalid_key;
mod jwk;
pub(crate) mod jws;
mod key_pair;
mod key_problem;
mod members;
mod ml_dsa;
mod pem;
mod public_key;
mod signer;
mod signing_algorithm;
mod signing_key;

pub(crate) use self::client_assertion::Recipient;
pub use self::{
    client_assertion::ClientAssertion,
    invalid_key::InvalidKey,
    public_key::PublicKey,
    signer::{SignFuture, Signer},
    signing_algorithm::{SigningAlgorithm, UnsupportedAlgorithm},
    signing_key::SigningKey,
};
#[cfg(feature = "dpop")]
pub(crate) use self::{
    client_assertion::whole_seconds,
    members::{JsonObject, Members},
};
