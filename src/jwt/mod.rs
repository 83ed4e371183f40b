//! Signed JWTs: who signs, with what, and the public half of a key.

mod public_key;
mod signer;

pub use self::{
    public_key::PublicKey,
    signer::{SignFuture, Signer, SigningAlgorithm},
};
