//! Signed JWTs: who signs, with what, and the public half of a key.

mod certificate;
mod client_assertion;
mod invalid_key;
mod jwk;
pub(crate) mod jws;
mod key_pair;
mod pem;
mod public_key;
mod signer;
mod signing_key;

pub use self::{
    client_assertion::ClientAssertion,
    invalid_key::InvalidKey,
    public_key::PublicKey,
    signer::{SignFuture, Signer, SigningAlgorithm},
    signing_key::SigningKey,
};
